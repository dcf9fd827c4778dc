import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
paths = sorted(Path("photos").iterdir())
with (
    Path("summary.csv").open("w", newline="") as file,
    GradCAM(model=net, target_layers=[net.features[-1]]) as cam,
):
    for first in range(0, len(paths), 8):
        some = paths[first : first + 8]
        pictures = [np.float32(crop(Image.open(path).convert("RGB"))) / 255 for path in some]
        x = torch.cat(
            [preprocess_image(each, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) for each in pictures]
        )
        found = cam(input_tensor=x, targets=None)
        for path, picture, each, score in zip(some, pictures, found, cam.outputs.softmax(1), strict=True):
            Image.fromarray(show_cam_on_image(picture, each, use_rgb=True)).save(f"{path.stem}-overlay.png")
            csv.writer(file).writerow([path, int(score.argmax()), float(score.max())])
