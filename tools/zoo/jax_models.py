# ruff: noqa: SIM905 a table of names reads best as one string
"""JAX networks (flax nnx, channels last; equinox, channels second) through jax2onnx.

python tools/zoo/jax_models.py -o FOLDER [--list]
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Compiled operations are kept between models, as each is built in a process of its own.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": f"{tempfile.gettempdir()}/zoo-jax-cache",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import equinox as eqx
import jax
import jax.numpy as jnp
import jax2onnx
from common import Build, Facts, main, versions
from flax import nnx

Act = Callable[[jax.Array], jax.Array]


def settled(model: nnx.Module, batch: jax.Array) -> nnx.Module:
    """Give batch normalisation random scales and shifts and the statistics of what it reads."""
    rngs = nnx.Rngs(1)
    norms = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.BatchNorm)]
    for norm in norms:
        norm.scale[...] = jax.random.uniform(rngs(), norm.scale.shape, minval=0.5, maxval=1.5)
        norm.bias[...] = 0.1 * jax.random.normal(rngs(), norm.bias.shape)
        norm.momentum = 0.0
    model.train()
    nnx.jit(lambda net, x: net(x))(model, batch)
    model.eval()
    return model


class Block(nnx.Module):
    """Convolution, normalisation, activation."""

    def __init__(
        self,
        c: int,
        k: int,
        rngs: nnx.Rngs,
        act: Act = nnx.relu,
        size: int = 3,
        stride: int = 1,
        *,
        deep: bool = False,
    ) -> None:
        groups = c if deep else 1
        self.conv = nnx.Conv(
            c, k, (size, size), stride, feature_group_count=groups, use_bias=False, rngs=rngs
        )
        self.norm, self.act = nnx.BatchNorm(k, rngs=rngs), act

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activated features."""
        return self.act(self.norm(self.conv(x)))


def same(x: jax.Array) -> jax.Array:
    """Return x."""
    return x


class Basic(nnx.Module):
    """ResNet's basic block."""

    def __init__(self, c: int, k: int, stride: int, rngs: nnx.Rngs) -> None:
        self.one, self.two = Block(c, k, rngs, stride=stride), Block(k, k, rngs, same)
        self.skip = Block(c, k, rngs, same, 1, stride) if stride > 1 or c != k else same

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the rectified sum."""
        return nnx.relu(self.two(self.one(x)) + self.skip(x))


class Chain(nnx.Module):
    """Layers one after the other, then the mean over the positions and a linear layer."""

    def __init__(self, *layers: Any, width: int, rngs: nnx.Rngs) -> None:
        self.layers, self.head = nnx.List(layers), nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the scores."""
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(tuple(range(1, x.ndim - 1))))


def pool(
    size: int, stride: int, padding: str = "SAME", kind: Callable[..., Any] = nnx.max_pool, dims: int = 2
) -> Act:
    """Return a pool."""
    window, strides = (size,) * dims, (stride,) * dims
    return lambda x: kind(x, window_shape=window, strides=strides, padding=padding)


def resnet18(rngs: nnx.Rngs, w: int = 32) -> nnx.Module:
    """Return ResNet-18, at half its width."""
    stages = ((w, w, 1), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 4 * w, 2), (4 * w, 4 * w, 1),
              (4 * w, 8 * w, 2), (8 * w, 8 * w, 1))  # fmt: skip
    blocks = [Basic(*stage, rngs) for stage in stages]
    return Chain(Block(3, w, rngs, size=7, stride=2), pool(3, 2), *blocks, width=8 * w, rngs=rngs)


def vgg(rngs: nnx.Rngs) -> nnx.Module:
    """Return a narrow VGG-11."""
    widths, found, c = (16, 0, 32, 0, 64, 64, 0, 64, 64, 0), [], 3
    for k in widths:
        found.append(Block(c, k, rngs) if k else pool(2, 2, "VALID"))
        c = k or c
    return Chain(*found, width=c, rngs=rngs)


class Gate(nnx.Module):
    """Squeeze and excitation."""

    def __init__(self, c: int, rngs: nnx.Rngs) -> None:
        self.down, self.up = nnx.Conv(c, c // 4, (1, 1), rngs=rngs), nnx.Conv(c // 4, c, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the gated features."""
        return x * nnx.sigmoid(self.up(nnx.silu(self.down(x.mean((1, 2), keepdims=True)))))


class Inverted(nnx.Module):
    """MobileNet's inverted residual, with or without a gate."""

    def __init__(self, c: int, k: int, stride: int, rngs: nnx.Rngs, act: Act, *, gate: bool = False) -> None:
        wide = [Block(c, 4 * c, rngs, act, 1), Block(4 * c, 4 * c, rngs, act, 3, stride, deep=True)]
        self.layers = nnx.List(
            [*wide, *([Gate(4 * c, rngs)] if gate else []), Block(4 * c, k, rngs, same, 1)]
        )
        self.add = stride == 1 and c == k

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features, or the sum."""
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.add else y


def mobile(rngs: nnx.Rngs, act: Act = nnx.relu6, *, gate: bool = False) -> nnx.Module:
    """Return a small MobileNetV2, EfficientNet or MobileNetV3, by activation and gate."""
    stages = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1))
    blocks = [Inverted(*stage, rngs, act, gate=gate) for stage in stages]
    return Chain(Block(3, 16, rngs, act, stride=2), *blocks, Block(40, 96, rngs, act, 1), width=96, rngs=rngs)


class Next(nnx.Module):
    """ConvNeXt's block."""

    def __init__(self, c: int, rngs: nnx.Rngs) -> None:
        self.deep = nnx.Conv(c, c, (7, 7), feature_group_count=c, rngs=rngs)
        self.norm, self.up, self.down = (
            nnx.LayerNorm(c, rngs=rngs),
            nnx.Linear(c, 4 * c, rngs=rngs),
            nnx.Linear(4 * c, c, rngs=rngs),
        )
        self.gain = nnx.Param(jax.random.uniform(rngs(), (c,), minval=0.3, maxval=0.7))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the residual sum."""
        return x + self.gain[...] * self.down(nnx.gelu(self.up(self.norm(self.deep(x)))))


def convnext(rngs: nnx.Rngs) -> nnx.Module:
    """Return a small ConvNeXt."""
    stem = nnx.Conv(3, 24, (4, 4), 4, padding="VALID", rngs=rngs)
    down = nnx.Conv(24, 48, (2, 2), 2, padding="VALID", rngs=rngs)
    return Chain(
        stem, nnx.LayerNorm(24, rngs=rngs), Next(24, rngs), down, Next(48, rngs), width=48, rngs=rngs
    )


class Dense(nnx.Module):
    """DenseNet's layer: what it finds is added to what it read."""

    def __init__(self, c: int, rngs: nnx.Rngs) -> None:
        self.norm, self.conv = nnx.BatchNorm(c, rngs=rngs), nnx.Conv(c, 12, (3, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the longer features."""
        return jnp.concatenate([x, self.conv(nnx.relu(self.norm(x)))], -1)


def densenet(rngs: nnx.Rngs) -> nnx.Module:
    """Return a small DenseNet."""
    one, two = [Dense(16 + 12 * k, rngs) for k in range(4)], [Dense(32 + 12 * k, rngs) for k in range(4)]
    join = [Block(64, 32, rngs, size=1), pool(2, 2, "VALID", nnx.avg_pool)]
    return Chain(nnx.Conv(3, 16, (3, 3), 2, rngs=rngs), *one, *join, *two, width=80, rngs=rngs)


class Unet(nnx.Module):
    """A U-Net with one transposed and one resized step."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.one, self.two, self.deep = Block(3, 16, rngs), Block(16, 32, rngs), Block(32, 32, rngs)
        self.rise = nnx.ConvTranspose(32, 32, (2, 2), 2, rngs=rngs)
        self.join, self.last = Block(64, 32, rngs), nnx.Conv(48, 3, (1, 1), rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Return a score per class and pixel."""
        one = self.one(image)
        two = self.two(pool(2, 2)(one))
        x = self.join(jnp.concatenate([self.rise(self.deep(pool(2, 2)(two))), two], -1))
        x = jax.image.resize(x, (*one.shape[:3], x.shape[3]), "bilinear", antialias=False)
        return self.last(jnp.concatenate([x, one], -1))


class Detector(nnx.Module):
    """A detector of two scales."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.mid = nnx.List([Block(3, 16, rngs, nnx.silu, stride=2), Block(16, 32, rngs, nnx.silu, stride=2)])
        self.deep = Block(32, 64, rngs, nnx.silu, stride=2)
        self.heads = nnx.List([nnx.Conv(96, 9, (1, 1), rngs=rngs), nnx.Conv(64, 9, (1, 1), rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the scores of every anchor."""
        for layer in self.mid:
            x = layer(x)
        deep = self.deep(x)
        up = jnp.repeat(jnp.repeat(deep, 2, 1), 2, 2)
        maps = jnp.concatenate([up, x], -1), deep
        found = [h(m).reshape(x.shape[0], -1, 9) for h, m in zip(self.heads, maps, strict=True)]
        return nnx.sigmoid(jnp.concatenate(found, 1))


def activated(rngs: nnx.Rngs, act: Act) -> nnx.Module:
    """Return a small classifier with the given activation."""
    blocks = [
        Block(3, 16, rngs, act),
        pool(3, 2),
        Block(16, 32, rngs, act),
        pool(2, 2, "VALID", nnx.avg_pool),
    ]
    return Chain(*blocks, Block(32, 32, rngs, act, stride=2), width=32, rngs=rngs)


def normed(rngs: nnx.Rngs, norm: Callable[..., nnx.Module]) -> nnx.Module:
    """Return a small classifier with the given normalisation."""
    conv = [nnx.Conv(3, 16, (3, 3), rngs=rngs), nnx.Conv(16, 32, (3, 3), rngs=rngs)]
    return Chain(
        conv[0],
        norm(16, rngs=rngs),
        nnx.relu,
        pool(2, 2),
        conv[1],
        norm(32, rngs=rngs),
        nnx.relu,
        width=32,
        rngs=rngs,
    )


def audio(rngs: nnx.Rngs) -> nnx.Module:
    """Return a classifier of waveforms."""
    conv = [nnx.Conv(a, b, (9,), 2, rngs=rngs) for a, b in ((1, 16), (16, 32))]
    return Chain(conv[0], nnx.relu, pool(3, 2, dims=1), conv[1], nnx.relu, width=32, rngs=rngs)


class Equinox(eqx.Module):
    """A classifier in equinox: one image, channels first; the batch by vmap."""

    layers: list[Any]

    def __init__(self) -> None:
        one, two, three = jax.random.split(jax.random.key(0), 3)
        self.layers = [
            eqx.nn.Conv2d(3, 16, 3, padding=1, key=one), jax.nn.relu, eqx.nn.MaxPool2d(3, 2, 1),
            eqx.nn.Conv2d(16, 32, 3, padding=1, key=two), jax.nn.elu, eqx.nn.AvgPool2d(2, 2),
            jnp.ravel, eqx.nn.Linear(32 * 64, 10, key=three),
        ]  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the scores of one image."""
        for layer in self.layers:
            x = layer(x)
        return x


ACTIVATIONS = """elu selu gelu silu celu leaky_relu hard_swish hard_sigmoid softplus soft_sign
    log_sigmoid tanh relu6 mish""".split()
NORMS = {
    "layer": nnx.LayerNorm,
    "group": partial(nnx.GroupNorm, num_groups=4),
    "rms": nnx.RMSNorm,
    "instance": nnx.InstanceNorm,
}
IMAGE = (1, 32, 32, 3)
# architecture: how to make it, what to feed, its family
NETS: dict[str, tuple[Callable[[nnx.Rngs], Any], tuple[int, ...], str]] = {
    "resnet18": (resnet18, (1, 64, 64, 3), "classifier"),
    "vgg": (vgg, (1, 64, 64, 3), "classifier"),
    "mobilenetv2": (mobile, (1, 64, 64, 3), "classifier"),
    "mobilenetv3": (partial(mobile, act=nnx.hard_swish, gate=True), (1, 64, 64, 3), "classifier"),
    "efficientnet": (partial(mobile, act=nnx.silu, gate=True), (1, 64, 64, 3), "classifier"),
    "convnext": (convnext, (1, 64, 64, 3), "classifier"),
    "densenet": (densenet, (1, 64, 64, 3), "classifier"),
    "unet": (Unet, (1, 64, 64, 3), "segmenter"),
    "yolo": (Detector, (1, 64, 64, 3), "detector"),
    "audio": (audio, (1, 2000, 1), "audio"),
    **{f"act_{a}": (partial(activated, act=getattr(jax.nn, a)), IMAGE, "classifier") for a in ACTIVATIONS},
    **{f"norm_{n}": (partial(normed, norm=norm), IMAGE, "classifier") for n, norm in NORMS.items()},
}
FREE = ("resnet18", "mobilenetv2", "act_gelu")
OPSETS = {"jax2onnx": 23, "jax2onnx21": 21}


def build(path: Path, *, name: str, opset: int) -> Facts:
    """Make the network, settle its weights, export it."""
    make, shape, family = NETS[name]
    model = settled(make(nnx.Rngs(0)), jax.random.normal(jax.random.key(2), (4, *shape[1:])))
    declared = ["B", *shape[1:]] if name in FREE else list(shape)
    return facts(path, model, declared, shape, opset) | {"architecture": name, "family": family}


def equinox(path: Path) -> Facts:
    """Export the network in equinox."""
    shape = (1, 3, 32, 32)
    model = jax.vmap(Equinox())
    found = facts(path, model, ["B", *shape[1:]], shape, 23)
    return found | {"framework": versions("jax", "equinox"), "family": "classifier"}


def facts(path: Path, model: Any, declared: list[Any], shape: tuple[int, ...], opset: int) -> Facts:
    """Export, and return what the record needs."""
    jax2onnx.to_onnx(
        model, [declared], opset=opset, input_names=["image"], return_mode="file", output_path=str(path)
    )
    sizes = [{"image": [2, *shape[1:]]}] if declared[0] == "B" else []
    made = {"framework": versions("jax", "flax"), "exporter": versions("jax2onnx")}
    return made | {"inputs": {"image": list(shape)}, "sizes": sizes}


def recipes() -> dict[str, Build]:
    """Return every architecture, some in an older opset too."""
    found: dict[str, Build] = {
        f"{prefix}_{name}": partial(build, name=name, opset=opset)
        for prefix, opset in OPSETS.items()
        for name in NETS
        if prefix == "jax2onnx" or name in FREE
    }
    return found | {"jax2onnx_equinox": equinox}


if __name__ == "__main__":
    main(recipes())
