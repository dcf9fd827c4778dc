"""Class activation maps: where in feature maps the class was seen."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from onnx import ModelProto
from onnx.helper import make_tensor_value_info

from onnx_deconv.imaging import Layout
from onnx_deconv.model import Model
from onnx_deconv.operators.builder import Emitter, Operand, Signal
from onnx_deconv.operators.forward_values import ForwardValues

Dims = list[int | str | None]


def class_activation_map(op: Emitter, kind: str, gradient: Signal, activations: Signal) -> Signal | None:
    """Make a map of one channel, shape (N, 1, ...), of what is positive for the class.

    Parameters
    ----------
    op
        Writes nodes of the companion.
    kind
        ``grad-cam``: channels weighted by their mean gradient (Selvaraju et al. 2017, equations 1 and 2).
        ``layer-cam``: each position by its own positive gradient (Jiang et al. 2021, equation 5). ``cam``:
        each position by its own gradient (Draelos & Carin 2020, equation 5). ``none``: no map.
        The power in ``grad-cam^3`` is for :func:`on_image`.
    gradient, activations
        Of the feature maps, shape (N, C, ...).
    """
    if kind == "none":
        return None
    kind, weights = kind.partition("^")[0], gradient
    if kind == "grad-cam":
        weights = op.GlobalAveragePool(gradient)
    elif kind == "layer-cam":
        weights = op.Relu(gradient)
    return op.Relu(op.ReduceSum(op.Mul(weights, activations), [1], keepdims=1))


def on_image(
    values: ForwardValues,
    cam: Signal,
    kind: str,
    reconstruction: Signal | None,
    image: str,
    dims: Dims | None,
    layout: Layout,
) -> tuple[Signal, Dims | None]:
    """Enlarge a map to an image, and multiply the image's reconstruction by it if there is one.

    Parameters
    ----------
    values
        Gives the image's size where it is only known at run time.
    cam
        Shape (N, 1, ...).
    kind
        As for :func:`class_activation_map`; ``grad-cam^3`` takes the third power of the enlarged map.
    reconstruction
        Of the image, in its layout.
    image
        The model's input.
    dims
        Its shape.
    layout
        Where its channels are.

    Returns
    -------
    tuple
        The product, or the map with one channel in the image's layout; and its shape.
    """
    op, shape = values.op, list(values.model.type_of(image).shape or ())
    rank = len(shape)
    channels_last = layout == "NHWC"
    first = 1 if channels_last else 2
    spatial = list(range(first, first + rank - 2))
    # Of all axes: onnxruntime (1.32) moves a Transpose past a Resize, as in networks from Keras, without
    # turning the attribute `axes`, and then refuses the graph.
    sizes = op.Concat(op.Shape(cam, end=2), _sizes(values, image, shape, spatial), axis=0)
    large = op.Resize(cam, None, None, sizes, mode="linear")
    if power := kind.partition("^")[2]:
        large = reduce(op.Mul, [large] * int(power))
    if channels_last:
        large = op.Transpose(large, perm=[0, *range(2, rank), 1])
    if reconstruction is not None:
        return op.Mul(reconstruction, large), dims
    channel = rank - 1 if channels_last else 1
    return large, None if dims is None else [1 if k == channel else d for k, d in enumerate(dims)]


def map_model(kind: str, image: str, model: Model, layout: Layout, *, multiplied: bool) -> ModelProto:
    """Write the map of feature maps that lie elsewhere, enlarged to an image, as a model of its own.

    Parameters
    ----------
    kind, image, layout
        As above.
    model
        The user's model, at known sizes.
    multiplied
        Whether a reconstruction is to be multiplied by the map; else the map itself is wanted.

    Returns
    -------
    ModelProto
        Of the inputs ``gradient`` and ``activations``, shape (N, C, ...), and ``arrived``, as the image.
    """
    op, shape = Emitter(np.dtype(np.float32)), model.type_of(image).shape or ()
    gradient, activations = (op.input(name, [None] * len(shape)) for name in ("gradient", "activations"))
    cam = class_activation_map(op, kind, gradient, activations)
    arrived = op.input("arrived", shape) if multiplied else None
    assert cam is not None  # noqa: S101  (there is a kind)
    found, dims = on_image(ForwardValues(model, op), cam, kind, arrived, image, list(shape), layout)
    return op.export([("map", found, make_tensor_value_info("map", op.elem_type, dims))], [], "a map")


def _sizes(values: ForwardValues, image: str, shape: Sequence[int | None], axes: Sequence[int]) -> Operand:
    known = [shape[k] for k in axes]
    if None not in known:
        return [d for d in known if d is not None]
    return values.op.Slice(values.shape(image, len(shape)), [axes[0]], [axes[-1] + 1], [0])
