"""Small networks of the kinds that no library has without its detectors' code: YOLO, audio, volumes, ..."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 PyTorch's own name for it


def conv(
    c: int, k: int, size: int = 3, stride: int = 1, *, norm: type = nn.BatchNorm2d, act: type = nn.ReLU
) -> nn.Module:
    """Return convolution, normalisation, activation."""
    return nn.Sequential(nn.Conv2d(c, k, size, stride, size // 2, bias=False), norm(k), act())


class Csp(nn.Module):
    """YOLOv8's C2f: split, a chain of residual bottlenecks, everything concatenated."""

    def __init__(self, c: int, k: int, blocks: int = 1) -> None:
        super().__init__()
        self.first, half = conv(c, k, 1, act=nn.SiLU), k // 2
        self.chain = nn.ModuleList(
            nn.Sequential(conv(half, half, act=nn.SiLU), conv(half, half, act=nn.SiLU)) for _ in range(blocks)
        )
        self.last = conv(k + blocks * half, k, 1, act=nn.SiLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the joined features."""
        parts = [*self.first(x).chunk(2, 1)]
        for block in self.chain:
            parts.append(parts[-1] + block(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """A detector like YOLOv8: CSP backbone, SPPF, top-down path, decoded boxes and class scores."""

    def __init__(self, classes: int = 4, c: int = 16) -> None:
        super().__init__()
        silu = nn.SiLU
        self.stem = nn.Sequential(
            conv(3, c, 3, 2, act=silu), conv(c, 2 * c, 3, 2, act=silu), Csp(2 * c, 2 * c)
        )
        self.mid = nn.Sequential(conv(2 * c, 4 * c, 3, 2, act=silu), Csp(4 * c, 4 * c, 2))
        self.deep = nn.Sequential(conv(4 * c, 8 * c, 3, 2, act=silu), Csp(8 * c, 8 * c))
        self.sppf, self.pool = conv(32 * c, 8 * c, 1, act=silu), nn.MaxPool2d(5, 1, 2)
        self.up = Csp(12 * c, 4 * c)
        self.heads = nn.ModuleList(nn.Conv2d(k * c, 4 + classes, 1) for k in (4, 8))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes (N, anchors, 4) in pixels and scores (N, anchors, classes)."""
        mid = self.mid(self.stem(image))
        deep = [self.deep(mid)]
        for _ in range(3):
            deep.append(self.pool(deep[-1]))
        deep = self.sppf(torch.cat(deep, 1))
        mid = self.up(torch.cat([F.interpolate(deep, scale_factor=2.0, mode="nearest"), mid], 1))
        found = [head(x).flatten(2).transpose(1, 2) for head, x in zip(self.heads, (mid, deep), strict=True)]
        boxes, scores = torch.cat(found, 1).split([4, found[0].shape[2] - 4], 2)
        return torch.cat(
            [boxes[..., :2].sigmoid() * 2 - 0.5, boxes[..., 2:].sigmoid() ** 2 * 4], 2
        ), scores.sigmoid()


class Ssd(nn.Module):
    """A detector like SSD: heads on several maps, the first of them L2-normalised."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            [
                nn.Sequential(
                    conv(3, 16), nn.MaxPool2d(2), conv(16, 32), nn.MaxPool2d(2, ceil_mode=True), conv(32, 32)
                ),
                nn.Sequential(nn.MaxPool2d(3, 2, 1), conv(32, 48)),
                conv(48, 48, 3, 2),
            ]
        )
        self.heads = nn.ModuleList(nn.Conv2d(c, 3 * (4 + classes), 3, padding=1) for c in (32, 48, 48))
        self.gain = nn.Parameter(torch.full((1, 32, 1, 1), 5.0))
        self.width = 4 + classes

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return box offsets and class probabilities of every anchor."""
        found = []
        for stage, head in zip(self.maps, self.heads, strict=True):
            x = stage(x)
            read = F.normalize(x) * self.gain if not found else x
            found.append(head(read).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.width))
        boxes, scores = torch.cat(found, 1).split([4, self.width - 4], 2)
        return boxes, scores.softmax(2)


class Unet(nn.Module):
    """Ronneberger's U-Net with transposed convolutions."""

    def __init__(self, up: str = "transposed") -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(conv(3, 16), conv(16, 16)),
            nn.Sequential(conv(16, 32), conv(32, 32)),
        )
        self.deep, self.up = conv(32, 64), up
        self.raise1, self.raise2 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.join1, self.join2, self.last = conv(64, 32), conv(32, 16), nn.Conv2d(16, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a score per class and pixel."""
        one = self.one(x)
        two = self.two(F.max_pool2d(one, 2))
        x = self.raise1(self.deep(F.max_pool2d(two, 2)))
        x = self.join1(torch.cat([x, two], 1))
        return self.last(self.join2(torch.cat([self.raise2(x), one], 1)))


class Segnet(nn.Module):
    """Badrinarayanan's SegNet: the decoder unpools by the encoder's switches."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.ModuleList([conv(3, 16), conv(16, 32)]), conv(32, 32)
        self.rise = nn.ModuleList([conv(32, 16), conv(16, 8)])
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a score per class and pixel."""
        switches = []
        for stage in self.down:
            x, where = F.max_pool2d(stage(x), 2, return_indices=True)
            switches.append(where)
        x = self.deep(x)
        for stage in self.rise:
            x = stage(F.max_unpool2d(x, switches.pop(), 2))
        return self.last(x)


class Residual(nn.Module):
    """x + f(x), with a scale where one is given."""

    def __init__(self, *layers: nn.Module, gain: float = 1.0) -> None:
        super().__init__()
        self.layers, self.gain = nn.Sequential(*layers), gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return x + self.layers(x) * self.gain


class WaveBlock(nn.Module):
    """WaveNet's gate: tanh times sigmoid of a dilated convolution, residual and skip."""

    def __init__(self, c: int, dilation: int) -> None:
        super().__init__()
        self.gate, self.mix, self.pad = (
            nn.Conv1d(c, 2 * c, 2, dilation=dilation),
            nn.Conv1d(c, c, 1),
            dilation,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the residual sum; the past alone is read."""
        a, b = self.gate(F.pad(x, (self.pad, 0))).chunk(2, 1)
        return x + self.mix(a.tanh() * b.sigmoid())


class Aligned(nn.Module):
    """A spatial transformer: a small net finds an affine map, the image is sampled by it."""

    def __init__(self) -> None:
        super().__init__()
        self.find = nn.Sequential(
            conv(3, 8, 5, 2), conv(8, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
        )
        self.rest = nn.Sequential(
            conv(3, 16), nn.MaxPool2d(3, 2, 1), conv(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of the aligned image."""
        turn = self.find(x).view(-1, 2, 3) * 0.1 + torch.tensor([[1.0, 0, 0], [0, 1, 0]])
        grid = F.affine_grid(turn, [x.shape[0], x.shape[1], x.shape[2], x.shape[3]], align_corners=False)
        return self.head(self.rest(F.grid_sample(x, grid, align_corners=False)))


class Upscaler(nn.Module):
    """Super-resolution over a resized image."""

    def __init__(self, mode: str, *, align: bool | None = None) -> None:
        super().__init__()
        self.mode, self.align, c = mode, align, 16
        self.body = nn.Sequential(
            conv(3, c, 5, norm=nn.Identity), conv(c, c, norm=nn.Identity), nn.Conv2d(c, 3, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image at twice the size."""
        x = F.interpolate(x, scale_factor=2.0, mode=self.mode, align_corners=self.align)
        return x + self.body(x)


def pixels(*layers: nn.Module, size: int = 1) -> nn.Module:
    """Return a classifier: the layers, then a global mean and a linear layer over 32 channels."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(32 * size * size, 10))


def activated(act: Any) -> nn.Module:
    """Return a small classifier whose activation is the given one."""
    return pixels(
        conv(3, 16, act=act), nn.MaxPool2d(3, 2, 1), conv(16, 32, act=act), conv(32, 32, 3, 2, act=act)
    )


def normed(norm: Any) -> nn.Module:
    """Return a small classifier whose normalisation is the given one."""
    return pixels(
        conv(3, 16, norm=norm), nn.MaxPool2d(2), conv(16, 32, norm=norm), conv(32, 32, 3, 2, norm=norm)
    )


def pooled(pool: nn.Module) -> nn.Module:
    """Return a small classifier whose pools are the given one."""
    return pixels(conv(3, 16), pool, conv(16, 32), pool, conv(32, 32))


class Shuffled(nn.Module):
    """Channel shuffle, as ShuffleNet has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the channels of both halves in turns."""
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Last(nn.Module):
    """LayerNorm over the channels, of an image with channels second."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised image."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def wave(c: int = 32) -> nn.Module:
    """Return WaveNet's stack with a class score."""
    blocks = [WaveBlock(c, 2**k) for k in range(5)]
    return nn.Sequential(
        nn.Conv1d(1, c, 1), *blocks, nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(c, 10)
    )


def m5(c: int = 32) -> nn.Module:
    """Return the raw-waveform classifier M5 (Dai et al., 2017)."""

    def stage(a: int, b: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv1d(a, b, size, stride), nn.BatchNorm1d(b), nn.ReLU(), nn.MaxPool1d(4)]

    last = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2 * c, 10), nn.LogSoftmax(1)]
    return nn.Sequential(*stage(1, c, 80, 16), *stage(c, c), *stage(c, 2 * c), *last)


def separator(c: int = 24) -> nn.Module:
    """Return a separator of sources like Conv-TasNet (Luo & Mesgarani, 2019)."""
    block = [
        Residual(nn.Conv1d(c, 2 * c, 1), nn.PReLU(), nn.GroupNorm(1, 2 * c),
                 nn.Conv1d(2 * c, 2 * c, 3, padding=2**k, dilation=2**k, groups=2 * c), nn.PReLU(2 * c),
                 nn.GroupNorm(1, 2 * c), nn.Conv1d(2 * c, c, 1))
        for k in range(3)
    ]  # fmt: skip
    return nn.Sequential(
        nn.Conv1d(1, c, 16, 8), nn.ReLU(), *block, nn.Sigmoid(), nn.ConvTranspose1d(c, 1, 16, 8)
    )


def spectrum() -> nn.Module:
    """Return a classifier of spectrograms with pools along one axis."""
    return nn.Sequential(
        nn.Conv2d(1, 16, (7, 3), padding=(3, 1)), nn.BatchNorm2d(16), nn.ELU(), nn.MaxPool2d((4, 1)),
        nn.Conv2d(16, 32, (5, 5), padding=2, dilation=1), nn.BatchNorm2d(32), nn.ELU(), nn.MaxPool2d((2, 3)),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def cubes() -> nn.Module:
    """Return C3D in small (Tran et al., 2015)."""

    def stage(a: int, b: int, pool: Any) -> list[nn.Module]:
        return [nn.Conv3d(a, b, 3, padding=1), nn.BatchNorm3d(b), nn.ReLU(), nn.MaxPool3d(pool)]

    return nn.Sequential(
        *stage(3, 8, (1, 2, 2)), *stage(8, 16, 2), *stage(16, 32, 2), nn.Flatten(), nn.Linear(32 * 32, 10)
    )


def enhancer(c: int = 16) -> nn.Module:
    """Return EDSR in small: residual blocks scaled by 0.1, pixel shuffle."""
    block = [
        Residual(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), gain=0.1)
        for _ in range(3)
    ]
    up = [nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(c, 3, 3, padding=1)]
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1), Residual(*block, nn.Conv2d(c, c, 3, padding=1)), *up)


def espcn() -> nn.Module:
    """Return ESPCN (Shi et al., 2016)."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh(),
        nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip


def style(c: int = 8) -> nn.Module:
    """Return a style-transfer net: reflected edges, instance normalisation, nearest upsampling."""

    def stage(a: int, b: int, size: int, stride: int = 1) -> list[nn.Module]:
        return [
            nn.ReflectionPad2d(size // 2),
            nn.Conv2d(a, b, size, stride),
            nn.InstanceNorm2d(b, affine=True),
        ]

    return nn.Sequential(
        *stage(3, c, 9), nn.ReLU(), *stage(c, 2 * c, 3, 2), nn.ReLU(),
        Residual(*stage(2 * c, 2 * c, 3), nn.ReLU(), *stage(2 * c, 2 * c, 3)),
        nn.Upsample(scale_factor=2), *stage(2 * c, c, 3), nn.ReLU(),
        nn.ReflectionPad2d(4), nn.Conv2d(c, 3, 9),
    )  # fmt: skip


def autoencoder(c: int = 16) -> nn.Module:
    """Return a DCGAN-like autoencoder."""
    return nn.Sequential(
        nn.Conv2d(3, c, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(c, 2 * c, 4, 2, 1), nn.BatchNorm2d(2 * c),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(2 * c * 256, 32), nn.Linear(32, 2 * c * 256),
        nn.Unflatten(1, (2 * c, 16, 16)), nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.BatchNorm2d(c), nn.ReLU(),
        nn.ConvTranspose2d(c, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


ACTIVATIONS = {
    "relu6": nn.ReLU6, "leaky": nn.LeakyReLU, "prelu": nn.PReLU, "elu": nn.ELU, "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU("tanh"), "silu": nn.SiLU, "mish": nn.Mish,
    "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "softplus": nn.Softplus, "softsign": nn.Softsign, "hardtanh": nn.Hardtanh, "rrelu": nn.RReLU,
    "threshold": lambda: nn.Threshold(0.1, 0.0), "logsigmoid": nn.LogSigmoid, "tanhshrink": nn.Tanhshrink,
    "hardshrink": nn.Hardshrink, "softshrink": nn.Softshrink,
    "glu": lambda: nn.Sequential(Doubled(), nn.GLU(1)),
}  # fmt: skip


class Doubled(nn.Module):
    """x beside its negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice the channels."""
        return torch.cat([x, -x], 1)


NORMS = {
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True), "instance_plain": nn.InstanceNorm2d,
    "group": lambda c: nn.GroupNorm(4, c), "layer": Last, "lrn": lambda _: nn.LocalResponseNorm(5, k=2.0),
    "l2": lambda _: Unit(),
}  # fmt: skip


class Unit(nn.Module):
    """Vectors of length one along the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x over its length."""
        return F.normalize(x)


POOLS = {
    "max_ceil": nn.MaxPool2d(3, 2, ceil_mode=True), "max_dilated": nn.MaxPool2d(2, 2, dilation=2),
    "max_overlapping": nn.MaxPool2d(5, 2, 2), "average": nn.AvgPool2d(3, 2, 1),
    "average_open": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average_ceil": nn.AvgPool2d(3, 2, ceil_mode=True),
    "lp": nn.LPPool2d(2, 2), "adaptive_max": nn.AdaptiveMaxPool2d(16),
    "unshuffle_half": nn.Sequential(nn.MaxPool2d(2), Shuffled()),
}  # fmt: skip


def all_nets(net: Any) -> dict[str, Any]:
    """Return name: network; ``net`` makes the entry."""
    image, wide = (1, 3, 64, 64), ((2, 3, 48, 80), (1, 3, 96, 64))
    odd = ((2, 3, 61, 83), (1, 3, 33, 47))
    found = {
        "unet": net(Unet, image, "segmenter", (), wide),
        "segnet": net(Segnet, image, "segmenter"),
        "yolo": net(Yolo, image, "detector"),
        "yolo_free": net(Yolo, image, "detector", (), wide),
        "ssd": net(Ssd, image, "detector"),
        "aligned": net(Aligned, image, "classifier"),
        "espcn": net(espcn, image, "restorer", (), odd),
        "edsr": net(enhancer, image, "restorer", (), odd),
        "style": net(style, image, "restorer"),
        "autoencoder": net(autoencoder, image, "restorer"),
        "bicubic": net(lambda: Upscaler("bicubic", align=False), image, "restorer"),
        "bilinear": net(lambda: Upscaler("bilinear", align=False), image, "restorer", (), odd),
        "bilinear_aligned": net(lambda: Upscaler("bilinear", align=True), image, "restorer"),
        "audio_m5": net(m5, (1, 1, 8000), "audio"),
        "audio_wavenet": net(wave, (1, 1, 1000), "audio", (), ((2, 1, 777), (1, 1, 1501))),
        "audio_separator": net(separator, (1, 1, 1600), "audio"),
        "audio_spectrogram": net(spectrum, (1, 1, 64, 100), "audio", (), ((2, 1, 64, 77),)),
        "volume_c3d": net(cubes, (1, 3, 8, 32, 32), "volume"),
    }
    for kind, make, table in (
        ("act", activated, ACTIVATIONS),
        ("norm", normed, NORMS),
        ("pool", pooled, POOLS),
    ):
        found |= {
            f"{kind}_{n}": net(lambda make=make, x=x: make(x), image, "classifier") for n, x in table.items()
        }
    return found
