import io
from threading import Lock

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request, Response
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
app, cam, lock = FastAPI(), GradCAM(model=net, target_layers=[net.features[-1]]), Lock()


@app.post("/explain")
async def explain(request: Request, target: int | None = None) -> Response:
    try:
        picture = np.float32(crop(Image.open(io.BytesIO(await request.body())).convert("RGB"))) / 255
    except (OSError, Image.DecompressionBombError) as error:
        raise HTTPException(400, str(error)) from error
    x = preprocess_image(picture, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    if target is not None and not 0 <= target < net(x).shape[1]:
        raise HTTPException(400, f"there is no class {target}")
    with lock:
        found = cam(input_tensor=x, targets=None if target is None else [ClassifierOutputTarget(target)])[0]
        wanted = int(cam.outputs.argmax()) if target is None else target
    file = io.BytesIO()
    Image.fromarray(show_cam_on_image(picture, found, use_rgb=True)).save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png", headers={"X-Class": str(wanted)})
