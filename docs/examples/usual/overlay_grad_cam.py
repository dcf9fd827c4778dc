import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
view = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(
    Image.open("photo.jpg").convert("RGB")
)
picture = np.float32(view) / 255
x = preprocess_image(picture, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
with GradCAM(model=net, target_layers=[net.features[-1]]) as cam:
    found = cam(input_tensor=x, targets=None)[0]
    scores = cam.outputs.softmax(1)[0]
Image.fromarray(show_cam_on_image(picture, found, use_rgb=True)).save("overlay.png")
print(int(scores.argmax()), float(scores.max()))
