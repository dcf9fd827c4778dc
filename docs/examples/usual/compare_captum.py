import numpy as np
import torch
from captum.attr import GuidedGradCam
from matplotlib import pyplot as plt
from PIL import Image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
view = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(
    Image.open("photo.jpg").convert("RGB")
)
to_input = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
x = transforms.Compose(to_input)(view)[None]
method = GuidedGradCam(net, net.features[-1])
found = {target: method.attribute(x, target)[0].detach().abs().sum(0).numpy() for target in (281, 207)}
scale = max(np.percentile(each, 99) for each in found.values())
scores = net(x).softmax(1)[0]
figure, axes = plt.subplots(1, len(found))
for axis, (target, each) in zip(axes, found.items(), strict=True):
    axis.imshow(view.convert("L"), cmap="gray")
    axis.imshow(each, cmap="inferno", vmax=scale, alpha=0.6)
    axis.set_title(f"class {target}: {float(scores[target]):.2g}")
    axis.axis("off")
figure.savefig("compare.png")
