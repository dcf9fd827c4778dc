# ruff: noqa: SIM905 a table of names reads best as one string
"""Keras' applications, channels last, through Keras' own exporter and through tf2onnx.

    python tools/zoo/keras_models.py -o FOLDER [--only 'keras_*'] [--list]

Keras' exporter writes opset 15 and above, tf2onnx any; the batch is free, some networks' pixels too.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}

import keras
import numpy as np
import tf2onnx
from common import Build, Facts, main, versions
from keras import layers

# application: pixels, options
APPLICATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "VGG16": (64, {"include_top": False, "pooling": "avg"}),
    "VGG19": (64, {"include_top": False, "pooling": "max"}),
    "ResNet50": (64, {}),
    "ResNet50V2": (64, {}),
    "InceptionV3": (96, {}),
    "InceptionResNetV2": (96, {}),
    "Xception": (96, {}),
    "MobileNet": (64, {"alpha": 0.5}),
    "MobileNetV2": (64, {}),
    "MobileNetV3Small": (64, {}),
    "MobileNetV3Large": (64, {}),
    "DenseNet121": (64, {}),
    "NASNetMobile": (96, {}),
    "EfficientNetB0": (64, {}),
    "EfficientNetV2B0": (64, {}),
    "ConvNeXtTiny": (64, {}),
}
HEAVY = ("inceptionresnetv2", "resnet50v2", "xception")  # through one exporter only
FREE = ("MobileNetV2", "ResNet50V2")  # reading images of any size


def application(name: str) -> keras.Model:
    """Return a network of keras.applications with random weights."""
    pixels, options = APPLICATIONS[name]
    if name in FREE:
        options = {"include_top": False, "pooling": "avg"}
    if options.get("include_top", True):
        options = options | {"classes": 10}
    shape = (None, None, 3) if name in FREE else (pixels, pixels, 3)
    return getattr(keras.applications, name)(weights=None, input_shape=shape, **options)


def block(x: Any, k: int, act: Callable[[Any], Any] = keras.ops.relu, *, stride: int = 1) -> Any:
    """Return convolution, normalisation, activation."""
    x = layers.Conv2D(k, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.Activation(act)(layers.BatchNormalization()(x))


def unet() -> keras.Model:
    """Return a U-Net."""
    image = keras.Input((64, 64, 3))
    one = block(image, 16)
    two = block(layers.MaxPooling2D()(one), 32)
    x = layers.Conv2DTranspose(32, 3, 2, padding="same")(block(layers.MaxPooling2D()(two), 64))
    x = block(layers.Concatenate()([x, two]), 32)
    x = block(layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(x), one]), 16)
    return keras.Model(image, layers.Conv2D(3, 1)(x))


def yolo() -> keras.Model:
    """Return a detector of two scales with anchors."""
    image = keras.Input((64, 64, 3))
    mid = block(
        block(block(image, 16, keras.ops.silu, stride=2), 32, keras.ops.silu, stride=2), 48, keras.ops.silu
    )
    deep = block(mid, 64, keras.ops.silu, stride=2)
    up = layers.Concatenate()([layers.UpSampling2D()(deep), mid])
    found = [layers.Reshape((-1, 9))(layers.Conv2D(27, 1)(x)) for x in (up, deep)]
    return keras.Model(image, layers.Activation("sigmoid")(layers.Concatenate(1)(found)))


def audio() -> keras.Model:
    """Return a classifier of waveforms."""
    x = wave = keras.Input((4000, 1))
    for k in (16, 32, 32):
        x = layers.LeakyReLU()(layers.BatchNormalization()(layers.Conv1D(k, 9, strides=2, padding="same")(x)))
        x = layers.MaxPooling1D(3, padding="same")(x)
    return keras.Model(wave, layers.Dense(10)(layers.GlobalMaxPooling1D()(x)))


def volume() -> keras.Model:
    """Return a classifier of volumes."""
    x = cube = keras.Input((16, 24, 24, 1))
    for k in (8, 16):
        x = layers.MaxPooling3D()(layers.PReLU(shared_axes=[1, 2, 3])(layers.Conv3D(k, 3, padding="same")(x)))
    return keras.Model(cube, layers.Dense(10)(layers.GlobalAveragePooling3D()(x)))


def activated(act: str) -> keras.Model:
    """Return a small classifier with the given activation."""
    image = keras.Input((64, 64, 3))
    x = layers.MaxPooling2D(3, 2, padding="same")(block(image, 16, act))
    x = layers.AveragePooling2D(3, 2, padding="same")(block(x, 32, act))
    return keras.Model(image, layers.Dense(10)(layers.Flatten()(block(x, 16, act, stride=2))))


def normed(norm: Callable[[], layers.Layer]) -> keras.Model:
    """Return a small classifier with the given normalisation."""
    x = image = keras.Input((64, 64, 3))
    for k in (16, 32):
        x = layers.MaxPooling2D()(layers.ReLU()(norm()(layers.Conv2D(k, 3, dilation_rate=2)(x))))
    x = layers.ReLU()(norm()(layers.SeparableConv2D(32, 3)(x)))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


ACTIVATIONS = """elu selu gelu silu mish hard_silu hard_sigmoid relu6 softplus softsign celu
    leaky_relu log_sigmoid""".split()
NORMS = {
    "layer": layers.LayerNormalization,
    "group": partial(layers.GroupNormalization, 4),
    "unit": layers.UnitNormalization,
}
# architecture: how to make it, what to feed, its family
NETS: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...], str]] = {
    **{
        n.lower(): (partial(application, n), (1, p, p, 3), "classifier") for n, (p, _) in APPLICATIONS.items()
    },
    "unet": (unet, (1, 64, 64, 3), "segmenter"),
    "yolo": (yolo, (1, 64, 64, 3), "detector"),
    "audio": (audio, (1, 4000, 1), "audio"),
    "volume": (volume, (1, 16, 24, 24, 1), "volume"),
    **{f"act_{a}": (partial(activated, a), (1, 64, 64, 3), "classifier") for a in ACTIVATIONS},
    **{f"norm_{n}": (partial(normed, norm), (1, 64, 64, 3), "classifier") for n, norm in NORMS.items()},
}


def settle(model: keras.Model, batch: np.ndarray) -> None:
    """Give filters He's spread, normalisation random scales, shifts and the statistics of what it reads."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False):  # noqa: SLF001 nested blocks too
        for weight in layer.weights:
            value = np.asarray(weight)
            if weight.name in {"gamma", "alpha"} and value.ndim == 1:
                weight.assign(rng.uniform(0.5, 1.5, value.shape))
            elif weight.name in {"beta", "bias"}:
                weight.assign(rng.normal(0, 0.1, value.shape))
            elif value.ndim > 1 and "kernel" in weight.name:
                fan = np.prod(value.shape[:-1] if "depthwise" not in weight.name else value.shape[:2])
                weight.assign(rng.normal(0, (1.6 / fan) ** 0.5, value.shape))
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(batch, training=True)


def own(model: keras.Model, path: Path) -> None:
    """Export through Keras."""
    model.export(path, format="onnx", verbose=False)


def tensorflow(model: keras.Model, path: Path, *, opset: int = 17) -> None:
    """Export through tf2onnx."""
    tf2onnx.convert.from_keras(model, opset=opset, output_path=str(path))


EXPORTERS: dict[str, tuple[Callable[..., None], str, str]] = {
    "keras": (own, "*", "keras tf2onnx"),
    "tf2onnx": (tensorflow, "*", "tf2onnx"),
    "tf2onnx9": (partial(tensorflow, opset=9), "mobilenetv2 yolo act_silu", "tf2onnx"),
    "tf2onnx18": (partial(tensorflow, opset=18), "mobilenetv2 unet act_gelu", "tf2onnx"),
}


def build(path: Path, *, name: str, export: Callable[..., None], exporter: str) -> Facts:
    """Make the network, settle its weights, export it."""
    keras.utils.set_random_seed(0)
    make, shape, family = NETS[name]
    model = make()
    settle(model, np.random.default_rng(1).standard_normal((4, *shape[1:]), np.float32))
    model.name = "net"
    export(model, path)
    (feed,) = model.inputs
    sizes = [(2, *shape[1:])]
    if feed.shape[1] is None:
        sizes += [(2, 61, 83, 3), (1, 97, 64, 3)]
    facts = {"architecture": name, "framework": versions("keras", "tensorflow-cpu"), "family": family}
    facts |= {"exporter": versions(*exporter.split()), "inputs": {feed.name: list(shape)}}
    return facts | {"sizes": [{feed.name: list(s)} for s in sizes]}


def recipes() -> dict[str, Build]:
    """Return every exporter's architectures."""
    return {
        f"{prefix}_{name}": partial(build, name=name, export=export, exporter=exporter)
        for name in NETS
        for prefix, (export, names, exporter) in EXPORTERS.items()
        if (names == "*" and (prefix == "keras" or name not in HEAVY)) or name in names.split()
    }


if __name__ == "__main__":
    main(recipes())
