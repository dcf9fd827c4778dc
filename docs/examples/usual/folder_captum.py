import csv
from pathlib import Path

import numpy as np
import torch
from captum.attr import GuidedGradCam, visualization
from PIL import Image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
to_input = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
)
method = GuidedGradCam(net, net.features[-1])
paths = sorted(Path("photos").iterdir())
with Path("summary.csv").open("w", newline="") as file:
    for first in range(0, len(paths), 8):
        some = paths[first : first + 8]
        views = [crop(Image.open(path).convert("RGB")) for path in some]
        x = torch.stack([to_input(view) for view in views])
        scores = net(x).softmax(1)
        targets = scores.argmax(1)
        found = method.attribute(x, targets).detach().permute(0, 2, 3, 1).numpy()
        for path, view, target, score, each in zip(some, views, targets, scores, found, strict=True):
            figure, _ = visualization.visualize_image_attr(
                each, np.asarray(view), "blended_heat_map", "absolute_value", use_pyplot=False
            )
            figure.savefig(f"{path.stem}-overlay.png")
            csv.writer(file).writerow([path, int(target), float(score[target])])
