import torch
from captum.attr import NeuronDeconvolution
from PIL import Image
from torchvision import transforms

net = torch.load("model.pt", weights_only=False).eval()
view = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(
    Image.open("photo.jpg").convert("RGB")
)
to_input = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
x = transforms.Compose(to_input)(view)[None]
layer = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)][3]
found = NeuronDeconvolution(net, layer).attribute(x, (17, 6, 6))[0].detach()
# The receptive field is not told: what is not zero stands for it; of a unit that is not active, nothing.
rows, columns = (found.abs().sum(axis).sum(0).nonzero() for axis in (2, 1))
box = [int(each) for each in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
shown = (128 + 127 * (found / found.abs().max())).byte().permute(1, 2, 0).numpy()
projection = Image.fromarray(shown)
sheet = Image.new("RGB", (4 * 224, 224))
for k, picture in enumerate((view, projection, view.crop(box), projection.crop(box))):
    sheet.paste(picture.resize((224, 224), Image.Resampling.NEAREST), (224 * k, 0))
sheet.save("unit.png")
