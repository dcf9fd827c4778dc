"""Networks in PyTorch with random weights, and what PyTorch itself makes of a signal sent back.

The topologies are written after the published ones, small, and named for what they resemble: nothing
here has trained weights. What matters to an explanation is how a network calls its ReLUs (as modules,
which hooks see, or as functions, which they do not) and what its pools look like.
"""

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

torch.set_num_threads(1)  # small tensors: threads would wait for each other

# --- networks whose every ReLU is a module --------------------------------------------------------


def conv(a: int, b: int, kernel: int = 3, **more: Any) -> nn.Sequential:
    """A convolution that keeps the size, and its ReLU."""
    return nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2, **more), nn.ReLU())


def vgg_style() -> nn.Module:
    """Pairs of 3×3 convolutions, pools that do not overlap, fully connected layers."""
    return nn.Sequential(
        conv(3, 8), conv(8, 8), nn.MaxPool2d(2),
        conv(8, 16), conv(16, 16), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 8 * 8, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10),
    )  # fmt: skip


def alexnet_style(size: int = 227) -> nn.Module:
    """An 11×11 filter in steps of 4, local response normalisation, pools of 3×3 in steps of 2.

    Of 223 and of 227 pixels the first layer's filters see all; of 224 the last one is left over.
    """
    side = ((size - 11) // 4 + 1 - 3) // 2 + 1
    return nn.Sequential(
        nn.Conv2d(3, 6, 11, 4), nn.ReLU(), nn.LocalResponseNorm(5, alpha=0.5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 12, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(12 * ((side - 3) // 2 + 1) ** 2, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions with batch normalisation around which the input is carried."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip
        down = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        self.carried = down if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.carried(x))


def resnet_style() -> nn.Module:
    """A 7×7 stem, an overlapping pool, residual blocks, two of them in steps of 2."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 24, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class Fire(nn.Module):
    """A narrow 1×1 convolution that a 1×1 and a 3×3 one read."""

    def __init__(self, a: int, narrow: int, b: int) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = conv(a, narrow, 1), conv(narrow, b, 1), conv(narrow, b)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


def squeezenet_style() -> nn.Module:
    """Fire modules; the last windows of its overlapping pools hang over the edge (ceil_mode)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(8, 4, 8), Fire(16, 4, 8), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(16, 6, 12), nn.Dropout(), conv(24, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def mobilenet_style() -> nn.Module:
    """Depthwise convolutions, ReLU6, which Captum leaves at its derivative, and a ReLU at the end."""

    def block(a: int, b: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(a, a, 3, stride, 1, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU6(),
            nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b),
        ]  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        *block(8, 12, 1), *block(12, 16, 2), nn.ReLU(), *block(16, 24, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


# --- networks that call the ReLU as a function ----------------------------------------------------


class BasicConv(nn.Module):
    """Convolution, batch normalisation and the *function* relu, as GoogLeNet and Inception v3 have it."""

    def __init__(self, a: int, b: int, kernel: int | tuple[int, int], **more: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, kernel, bias=False, **more)
        self.bn = nn.BatchNorm2d(b, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side: 1×1, 3×3, 5×5 and a pool in steps of 1."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.one = BasicConv(a, b, 1)
        self.three = nn.Sequential(BasicConv(a, b, 1), BasicConv(b, b, 3, padding=1))
        self.five = nn.Sequential(BasicConv(a, b // 2, 1), BasicConv(b // 2, b, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def googlenet_style() -> nn.Module:
    """Inception blocks between overlapping pools; not one ReLU is a module."""
    return nn.Sequential(
        BasicConv(3, 8, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, ceil_mode=True),
        BasicConv(8, 12, 3, padding=1), Inception(12, 6), Inception(24, 6),
        nn.MaxPool2d(3, 2, ceil_mode=True), Inception(24, 8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(32, 10),
    )  # fmt: skip


class InceptionA(nn.Module):
    """1×1, 5×5, two 3×3, and an average pool, after Inception v3."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.one = BasicConv(a, b, 1)
        self.five = nn.Sequential(BasicConv(a, b, 1), BasicConv(b, b, 5, padding=2))
        self.threes = nn.Sequential(
            BasicConv(a, b, 1), BasicConv(b, b, 3, padding=1), BasicConv(b, b, 3, padding=1)
        )
        self.pool = BasicConv(a, b, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        return torch.cat([self.one(x), self.five(x), self.threes(x), self.pool(pooled)], 1)


class InceptionB(nn.Module):
    """A smaller map: a 3×3 convolution and a maximum in steps of 2, and a 1×7 after a 7×1."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.three = BasicConv(a, b, 3, stride=2)
        self.long = nn.Sequential(
            BasicConv(a, b, (1, 7), padding=(0, 3)), BasicConv(b, b, (7, 1), padding=(3, 0)),
            BasicConv(b, b, 3, stride=2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.three(x), self.long(x), functional.max_pool2d(x, 3, stride=2)], 1)


def inception_v3_style() -> nn.Module:
    """An Inception v3 in small; not one ReLU is a module."""
    return nn.Sequential(
        BasicConv(3, 6, 3, stride=2), BasicConv(6, 8, 3, padding=1), nn.MaxPool2d(3, 2),
        InceptionA(8, 4), InceptionB(16, 6), InceptionA(28, 6),
        nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class DenseLayer(nn.Module):
    """Normalise, rectify, convolve, twice; the result is put beside the input."""

    def __init__(self, a: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class DenseNetStyle(nn.Module):
    """Dense blocks whose ReLUs are modules; the last one is called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            DenseLayer(8, 4), DenseLayer(12, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1),
            nn.AvgPool2d(2), DenseLayer(8, 4), DenseLayer(12, 4), nn.BatchNorm2d(16),
        )  # fmt: skip
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.features(x), inplace=True)
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1))


MODULES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "VGG-style": (vgg_style, 32),
    "AlexNet-style, 223 pixels": (partial(alexnet_style, 223), 223),
    "AlexNet-style, 224 pixels": (partial(alexnet_style, 224), 224),
    "AlexNet-style, 227 pixels": (partial(alexnet_style, 227), 227),
    "ResNet-style": (resnet_style, 64),
    "SqueezeNet-style": (squeezenet_style, 64),
    "MobileNet-style": (mobilenet_style, 48),
}
"""Networks whose ReLUs are modules, with the size of their input."""

FUNCTIONS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "GoogLeNet-style": (googlenet_style, 64),
    "Inception-v3-style": (inception_v3_style, 75),
    "DenseNet-style": (DenseNetStyle, 64),
}
"""Networks that call the ReLU, or the last one, as a function."""


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Give a network weights that keep activations near 1; ready for inference in float64.

    The numbers are those of single precision, so that nothing is rounded when it is exported.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.6, 1.4)
    return network.eval().double()


def picture(size: int, seed: int) -> Tensor:
    """Draw a picture of blobs and noise, float64, its numbers those of single precision."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randn(1, 3, 8, 8, generator=generator)
    smooth = functional.interpolate(blobs, size=(size, size), mode="bilinear")
    return (smooth + 0.3 * torch.randn(1, 3, size, size, generator=generator)).double()


def clear_picture(network: nn.Module, size: int, margin: float = 5e-6) -> Tensor:
    """Draw pictures until there is one on which float32 and float64 decide alike everywhere."""
    for seed in range(100):
        x = picture(size, seed)
        with Margins() as margins, torch.no_grad():
            network(x)
        if margins.smallest > margin:
            return x
    raise ValueError("the network decides too much to be clear on any picture")


def exported(network: nn.Module, size: int, *, dynamo: bool) -> onnx.ModelProto:
    """Export a network in float32 with either of PyTorch's exporters."""
    single, x = copy.deepcopy(network).float(), torch.zeros(1, 3, size, size)
    with warnings.catch_warnings():
        for words, category in EXPORTERS_OWN:
            warnings.filterwarnings("ignore", words, category)
        if dynamo:
            return torch.onnx.export(single, (x,), dynamo=True, verbose=False).model_proto
        file = io.BytesIO()
        torch.onnx.export(single, (x,), file, dynamo=False)
        return onnx.load_from_string(file.getvalue())


EXPORTERS_OWN = [
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("The feature will be removed. Please remove usage of this function", DeprecationWarning),
    ("Converting a tensor to a Python boolean might cause the trace", torch.jit.TracerWarning),
    ("Constant folding - Only steps=1 can be constant folded", UserWarning),
]
"""What PyTorch 2.13 warns of while it exports; all of it about itself."""


# --- what Captum and PyTorch make of a network ----------------------------------------------------


def by_captum(network: nn.Module, x: Tensor, unit: int, rules: str) -> np.ndarray:
    """Ask Captum for its deconvolution (or guided backpropagation) of a unit of the scores."""
    from captum.attr import Deconvolution, GuidedBackprop  # noqa: PLC0415  (where it is installed)

    method = {"deconvnet": Deconvolution, "guided": GuidedBackprop}[rules]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations", UserWarning)
        return method(network).attribute(x.clone().requires_grad_(), target=unit).detach().numpy()


def by_autograd(
    network: nn.Module, x: Tensor, unit: int, rules: str = "gradient", activations: str = "relu"
) -> np.ndarray:
    """Send 1 at a unit of the scores back; every ReLU has the rule of the table."""
    x = x.clone().requires_grad_()
    with nullcontext() if rules == "gradient" else EveryRelu(rules, activations):
        score = network(x)[0, unit]
    return torch.autograd.grad(score, x)[0].numpy()


class EveryRelu(TorchFunctionMode):
    """Within it every ReLU, module or function, has a deconvnet's rule; with ``all``, ReLU6 too."""

    def __init__(self, rules: str, activations: str) -> None:
        super().__init__()
        self.rules, self.activations = rules, activations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("relu", "relu_"):
            return _Rectify.apply(args[0], torch.inf, self.rules)
        if func.__name__ == "hardtanh" and self.activations == "all":
            return _Rectify.apply(args[0], 6.0, self.rules)
        return func(*args, **(kwargs or {}))


class _Rectify(torch.autograd.Function):
    """A relu, up to a limit, that rectifies the signal; guided, it also stops it where x is not positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float, rules: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rules = rules
        return x.clamp(0.0, limit)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        signal = signal.clamp(min=0)
        return (signal * (x > 0) if ctx.rules == "guided" else signal), None, None


class Margins(TorchFunctionMode):
    """Measures how far a network is from deciding otherwise, as a share of the values it decides on.

    The sign before a ReLU, and the maximum of a pool's window: two runtimes that round differently
    explain alike only where no decision is that close. Equal maxima do not count: they are zeros, or
    one number that an earlier pool copied, and everyone takes the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.smallest = float("inf")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("relu", "hardtanh"):
            self._saw(args[0].abs(), args[0])
        if func.__name__ == "hardtanh":
            self._saw((args[0] - 6).abs(), args[0])
        result = func(*args, **(kwargs or {}))
        if "max_pool2d" in func.__name__:
            self._saw(_leads(result.shape, *args, **(kwargs or {})), args[0])
        return result

    def _saw(self, gaps: Tensor, values: Tensor) -> None:
        gaps = gaps[gaps > 0]
        if gaps.numel():
            self.smallest = min(self.smallest, float(gaps.min() / values.abs().max()))


def _leads(shape: Sequence[int], x: Tensor, kernel: int, stride: int, padding: int = 0, **_: Any) -> Tensor:
    """Return by how much the maximum of each window of a pool exceeds the next largest number."""
    behind = [
        (n - 1) * stride + kernel - size - padding for n, size in zip(shape[2:], x.shape[2:], strict=True)
    ]
    frame = functional.pad(x, (padding, behind[1], padding, behind[0]), value=-torch.inf)
    seen = frame.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4)
    best, next_best = seen.topk(2)[0].unbind(-1)
    return best - next_best
