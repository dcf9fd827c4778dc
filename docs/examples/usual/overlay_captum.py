import numpy as np
import torch
from captum.attr import GuidedGradCam, visualization
from PIL import Image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
view = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(
    Image.open("photo.jpg").convert("RGB")
)
to_input = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
x = transforms.Compose(to_input)(view)[None]
target = int(net(x).argmax())
found = GuidedGradCam(net, net.features[-1]).attribute(x, target)
figure, _ = visualization.visualize_image_attr(
    found[0].detach().permute(1, 2, 0).numpy(),
    np.asarray(view),
    "blended_heat_map",
    "absolute_value",
    use_pyplot=False,
)
figure.savefig("overlay.png")
print(target, float(net(x).softmax(1)[0, target]))
