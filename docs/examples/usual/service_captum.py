import io

import numpy as np
import torch
from captum.attr import GuidedGradCam, visualization
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
to_input = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
)
method = GuidedGradCam(net, net.features[-1])


async def explain(request):
    target = request.query_params.get("target")
    try:
        view = crop(Image.open(io.BytesIO(await request.body())).convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise HTTPException(400, str(error)) from error
    x = to_input(view)[None]
    scores = net(x)[0]
    if target is not None and not (target.isdecimal() and int(target) < len(scores)):
        raise HTTPException(400, f"there is no class {target}")
    wanted = int(scores.argmax()) if target is None else int(target)
    found = method.attribute(x, wanted)[0].detach().permute(1, 2, 0).numpy()
    figure, _ = visualization.visualize_image_attr(
        found, np.asarray(view), "blended_heat_map", "absolute_value", use_pyplot=False
    )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Response(file.getvalue(), media_type="image/png", headers={"X-Class": str(wanted)})


app = Starlette(routes=[Route("/explain", explain, methods=["POST"])])
