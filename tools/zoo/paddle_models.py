"""PaddlePaddle's vision models through paddle2onnx.

python tools/zoo/paddle_models.py -o FOLDER [--list]
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import paddle
from common import Build, Facts, main, versions
from paddle import nn

MODELS = {
    64: """resnet18 resnet50 resnext50_32x4d mobilenet_v1 mobilenet_v2
        mobilenet_v3_small mobilenet_v3_large squeezenet1_0 squeezenet1_1 densenet121 shufflenet_v2_x0_25
        shufflenet_v2_swish""",
    128: "inception_v3",
    224: "googlenet",
}
OPSETS = {"paddle": 13, "paddle9": 9, "paddle16": 16}
EVERY = "resnet18 mobilenet_v3_small shufflenet_v2_x0_25 yolo"
"""What is exported in every opset."""


def block(c: int, k: int, act: Callable[[], nn.Layer] = nn.ReLU, stride: int = 1) -> nn.Layer:
    """Return convolution, normalisation, activation."""
    return nn.Sequential(nn.Conv2D(c, k, 3, stride, 1, bias_attr=False), nn.BatchNorm2D(k), act())


class Yolo(nn.Layer):
    """A detector of two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.mid = nn.Sequential(
            block(3, 16, nn.Swish, 2), nn.MaxPool2D(3, 2, 1), block(16, 32, nn.LeakyReLU)
        )
        self.deep, self.up = block(32, 64, nn.Mish, 2), nn.Upsample([16, 16], mode="nearest")
        self.heads = nn.LayerList([nn.Conv2D(96, 27, 1), nn.Conv2D(64, 27, 1)])

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Return the scores of every anchor."""
        mid = self.mid(image)
        deep = self.deep(mid)
        # Paddle's tracer knows zip, but not its options.
        maps = paddle.concat([self.up(deep), mid], 1), deep
        found = [head(x).flatten(2).transpose([0, 2, 1]) for head, x in zip(self.heads, maps)]  # noqa: B905
        return nn.functional.sigmoid(paddle.concat(found, 1))


class Unet(nn.Layer):
    """A U-Net with one bilinear and one transposed step."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.deep = block(3, 16), block(16, 32, nn.PReLU), block(32, 32, nn.GELU)
        self.pool, self.rise = nn.MaxPool2D(2), nn.Conv2DTranspose(32, 32, 2, 2)
        self.up = nn.Upsample([64, 64], mode="bilinear")
        self.join, self.last = block(64, 32, nn.Hardswish), nn.Conv2D(48, 3, 1)

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Return a score per class and pixel."""
        one = self.one(image)
        two = self.two(self.pool(one))
        x = self.join(paddle.concat([self.rise(self.deep(self.pool(two))), two], 1))
        return self.last(paddle.concat([self.up(x), one], 1))


def vision(name: str) -> nn.Layer:
    """Return a network of paddle.vision.models with random weights."""
    return getattr(paddle.vision.models, name)(num_classes=10)


NETS = {
    **{n: (partial(vision, n), p, "classifier") for p, names in MODELS.items() for n in names.split()},
    "yolo": (Yolo, 64, "detector"),
    "unet": (Unet, 64, "segmenter"),
}


def settle(model: nn.Layer, batch: paddle.Tensor) -> None:
    """Give filters He's spread, batch normalisation random scales and the statistics of what it reads."""
    rng = np.random.default_rng(0)
    model.eval()
    for layer in model.sublayers():
        if isinstance(layer, nn.layer.norm._BatchNormBase):  # noqa: SLF001 the one base of all
            layer.train()
            layer._momentum = 0.0  # noqa: SLF001
            layer.weight.set_value(rng.uniform(0.5, 1.5, layer.weight.shape).astype("float32"))
            layer.bias.set_value(rng.normal(0, 0.1, layer.bias.shape).astype("float32"))
        elif isinstance(layer, nn.layer.conv._ConvNd):  # noqa: SLF001 likewise
            shape = layer.weight.shape
            layer.weight.set_value(rng.normal(0, (1.6 / np.prod(shape[1:])) ** 0.5, shape).astype("float32"))
    with paddle.no_grad():
        model(batch)
    model.eval()


def build(path: Path, *, name: str, opset: int) -> Facts:
    """Make the network, settle its weights, export it."""
    paddle.seed(0)
    make, pixels, family = NETS[name]
    model = make()
    settle(model, paddle.randn([4, 3, pixels, pixels]))
    image = paddle.static.InputSpec([None, 3, pixels, pixels], "float32", "image")
    paddle.onnx.export(model, str(path.with_suffix("")), input_spec=[image], opset_version=opset)
    facts = {"framework": versions("paddlepaddle"), "exporter": versions("paddle2onnx"), "family": family}
    sizes = [{"image": [2, 3, pixels, pixels]}]
    return facts | {"inputs": {"image": [1, 3, pixels, pixels]}, "sizes": sizes, "architecture": name}


def recipes() -> dict[str, Build]:
    """Return every architecture, some in every opset."""
    return {
        f"{prefix}_{name}": partial(build, name=name, opset=opset)
        for name in NETS
        for prefix, opset in OPSETS.items()
        if prefix == "paddle" or name in EVERY.split()
    }


if __name__ == "__main__":
    main(recipes())
