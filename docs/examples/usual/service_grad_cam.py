import io
from threading import Lock

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
cam, lock = GradCAM(model=net, target_layers=[net.features[-1]]), Lock()


async def explain(request):
    target = request.query_params.get("target")
    try:
        picture = np.float32(crop(Image.open(io.BytesIO(await request.body())).convert("RGB"))) / 255
    except (OSError, Image.DecompressionBombError) as error:
        raise HTTPException(400, str(error)) from error
    x = preprocess_image(picture, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    if target is not None and not (target.isdecimal() and int(target) < net(x).shape[1]):
        raise HTTPException(400, f"there is no class {target}")
    with lock:
        found = cam(
            input_tensor=x, targets=None if target is None else [ClassifierOutputTarget(int(target))]
        )[0]
        wanted = int(cam.outputs.argmax()) if target is None else int(target)
    file = io.BytesIO()
    Image.fromarray(show_cam_on_image(picture, found, use_rgb=True)).save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png", headers={"X-Class": str(wanted)})


app = Starlette(routes=[Route("/explain", explain, methods=["POST"])])
