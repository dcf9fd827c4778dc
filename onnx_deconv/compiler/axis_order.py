"""Bring a value of the model into the order of axes that explanations count in, and back, in a graph."""

from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators.builder import Emitter, Signal


def canonical(op: Emitter, value: Signal, axes: Axes) -> Signal:
    """Bring a value into the order (N, K, ...)."""
    if axes.usual:
        return value
    if axes.batch is None:
        return canonical(op, op.Unsqueeze(value, [0]), axes.led)
    turned = op.Transpose(value, perm=axes.order)
    return turned if axes.classes is not None else op.Unsqueeze(turned, [1])


def restored(op: Emitter, seed: Signal, axes: Axes) -> Signal:
    """Bring a seed from the order (N, K, ...) into the value's own."""
    if axes.usual:
        return seed
    if axes.batch is None:
        return op.Squeeze(restored(op, seed, axes.led), [0])
    plain = seed if axes.classes is not None else op.Squeeze(seed, [1])
    return op.Transpose(plain, perm=[axes.order.index(k) for k in range(len(axes.order))])
