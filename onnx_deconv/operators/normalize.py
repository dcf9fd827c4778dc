"""Normalisations: their true derivative; local response normalisation can be left out."""

from onnx_deconv.operators import fields
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.reduce import divided, over
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.training import refuse_training
from onnx_deconv.operators.traits import (
    AFFINE,
    GLOBAL,
    KEEPS_SIGN,
    LOGARITHM,
    NONNEGATIVE,
    NORMALISATION,
    POINTWISE,
    PROBABILITY,
)
from onnx_deconv.operators.window import channels_of


@operator("BatchNormalization", traits={POINTWISE, AFFINE})
def batch_normalization(at: Site) -> Signals:
    """Scaled per channel: the same normalisation with neither mean nor shift."""
    refuse_training(at)
    if at.attr("spatial", 1) == 0:
        spread = at.op.Sqrt(at.op.Add(at.input(4), float(at.attr("epsilon", 1e-5))))
        return [at.op.Mul(at.signal, at.op.Div(at.input(1), spread)), None, None, None, None]
    zeros = at.op.filled([channels_of(at)], 0.0)
    epsilon = at.attr("epsilon", 1e-5)
    scaled = at.op.BatchNormalization(at.signal, at.input(1), zeros, zeros, at.input(4), epsilon=epsilon)
    return [scaled, None, None, None, None]


@operator("InstanceNormalization", traits={NORMALISATION, GLOBAL})
def instance_normalization(at: Site) -> Signals:
    """The signal's part along the mean and along the normalised value is taken out."""
    axes = at.spatial_axes()
    scale = at.op.Reshape(at.input(1), [channels_of(at)] + [1] * len(axes))
    scaled = at.op.Mul(at.signal, scale)
    return [standardized(at, scaled, axes, at.attr("epsilon", 1e-5)), None, None]


@operator("LayerNormalization", traits={NORMALISATION}, field=fields.trailing_axes)
def layer_normalization(at: Site) -> Signals:
    """The signal's part along the mean and along the normalised value is taken out.

    The mean, where it is read too, is that of ReduceMean; 1/√(variance + ε) gets -(x - mean)·itself³/n.
    """
    op, epsilon = at.op, float(at.attr("epsilon", 1e-5))
    axes = list(range(at.axis(-1), len(at.shape_of(0))))
    output, mean, inverse = (*at.signals, None, None)[:3]
    parts = []
    if output is not None:
        parts.append(standardized(at, op.Mul(output, at.input(1)), axes, epsilon))
    if mean is not None:
        parts.append(op.Expand(divided(at, mean, axes), at.shape(0)))
    if inverse is not None:
        centred, spread = _centred(at, at.input(0), axes, epsilon)
        cube = op.Mul(op.Mul(spread, spread), spread)
        parts.append(op.Neg(op.Mul(centred, op.Div(divided(at, inverse, axes), cube))))
    return [op.sum(parts), None, None]


@operator("GroupNormalization", traits={NORMALISATION, GLOBAL})
def group_normalization(at: Site) -> Signals:
    """The signal's part along the mean and along the normalised value of its group is taken out."""
    op, groups, channels = at.op, at.attr("num_groups"), channels_of(at)
    scale = at.input(1)
    if at.shape_of(1)[0] != channels:  # opset 18: one scale for all channels of a group
        scale = op.Expand(op.Reshape(scale, [groups, 1]), [groups, channels // groups])
    scale = op.Reshape(scale, [channels] + [1] * len(at.spatial_axes()))
    signal, x = (op.Reshape(v, [0, groups, -1]) for v in (op.Mul(at.signal, scale), at.input(0)))
    return [at.reshape(_standardized(at, signal, x, [2], at.attr("epsilon", 1e-5)), 0), None, None]


@operator("MeanVarianceNormalization", traits={NORMALISATION, GLOBAL})
def mean_variance_normalization(at: Site) -> Signals:
    """The signal's part along the mean and along the normalised value is taken out."""
    rank = len(at.shape_of(0))
    axes = sorted(axis % rank for axis in at.attr("axes", [0, 2, 3]))
    return [standardized(at, at.signal, axes, 1e-18)]


@operator("RMSNormalization", traits={NORMALISATION}, field=fields.trailing_axes)
def rms_normalization(at: Site) -> Signals:
    """The signal's part along the normalised value is taken out."""
    op, x = at.op, at.input(0)
    axes = list(range(at.axis(-1), len(at.shape_of(0))))
    scaled = op.Mul(at.signal, at.input(1))
    spread = op.Sqrt(op.Add(op.ReduceMean(op.Mul(x, x), axes), float(at.attr("epsilon", 1e-5))))
    normal = op.Div(x, spread)
    along = op.Mul(normal, op.ReduceMean(op.Mul(scaled, normal), axes))
    return [op.Div(op.Sub(scaled, along), spread), None]


@operator("LpNormalization", traits={NORMALISATION}, field=fields.one_axis)
def lp_normalization(at: Site) -> Signals:
    """(s - slope·Σ s·y)/norm, where slope is the norm's own derivative."""
    op, axes, first = at.op, [at.axis(-1)], at.attr("p", 2) == 1
    x, y = at.input(0), at.output()
    norm, slope = (op.ReduceL1(x, axes), op.Sign(x)) if first else (op.ReduceL2(x, axes), y)
    along = op.Mul(slope, op.ReduceSum(op.Mul(at.signal, y), axes))
    return [over(at, op.Sub(at.signal, along), norm)]


def standardized(at: Site, signal: Signal, axes: list[int], epsilon: float) -> Signal:
    """Send a signal back through x̂ = (x - mean)/√(variance + ε), x being the node's input."""
    return _standardized(at, signal, at.input(0), axes, epsilon)


def _standardized(at: Site, signal: Signal, x: Signal, axes: list[int], epsilon: float) -> Signal:
    """Return (s - mean(s) - x̂·mean(s·x̂))/√(variance + ε)."""
    op = at.op
    centred, spread = _centred(at, x, axes, epsilon)
    normal = op.Div(centred, spread)
    along = op.Mul(normal, op.ReduceMean(op.Mul(signal, normal), axes))
    rest = op.Sub(signal, along)
    # The mean of x̂ is zero, so the rest has the signal's mean.
    return op.Div(op.Sub(rest, op.ReduceMean(rest, axes)), spread)


def _centred(at: Site, x: Signal, axes: list[int], epsilon: float) -> tuple[Signal, Signal]:
    """Return x - mean and √(variance + ε)."""
    op = at.op
    centred = op.Sub(x, op.ReduceMean(x, axes))
    return centred, op.Sqrt(op.Add(op.ReduceMean(op.Mul(centred, centred), axes), float(epsilon)))


@operator("Softmax", traits={PROBABILITY, NONNEGATIVE}, field=fields.softmax_axes)
def softmax(at: Site) -> Signals:
    """y·(s - Σ s·y), inside the network; at its end it is cut off instead."""
    op, y = at.op, at.output()
    total = op.ReduceSum(op.Mul(at.signal, y), _softmax_axes(at))
    return [op.Mul(y, op.Sub(at.signal, total))]


@operator("LogSoftmax", traits={PROBABILITY, LOGARITHM}, field=fields.softmax_axes)
def log_softmax(at: Site) -> Signals:
    """s - softmax·Σ s, inside the network; at its end it is cut off instead."""
    op = at.op
    total = op.ReduceSum(at.signal, _softmax_axes(at))
    return [op.Sub(at.signal, op.Mul(op.Exp(at.output()), total))]


def _softmax_axes(at: Site) -> list[int]:
    """Opsets below 13 normalise over all axes from ``axis`` on, later ones over that one."""
    if at.model.opset >= 13:  # noqa: PLR2004
        return [at.axis(-1)]
    return list(range(at.axis(1), len(at.shape_of(0))))


@operator("LRN", traits={POINTWISE, KEEPS_SIGN})
def lrn(at: Site) -> Signals:
    """y = x·D^-β with D = bias + α/n·Σ x² over n neighbouring channels; its derivative."""
    op, x = at.op, at.input(0)
    size, alpha = at.attr("size"), at.attr("alpha", 1e-4)
    beta, bias = at.attr("beta", 0.75), at.attr("bias", 1.0)
    before, after = (size - 1) // 2, size // 2
    total = _channel_sum(at, op.Mul(x, x), before, after)
    base = op.Add(op.Mul(total, alpha / size), float(bias))
    direct = op.Mul(at.signal, op.Pow(base, float(-beta)))
    # Each channel also takes part in its neighbours' D: the transposed window swaps its two sides.
    shared = _channel_sum(at, op.Mul(op.Div(direct, base), x), after, before)
    return [op.Sub(direct, op.Mul(op.Mul(x, shared), 2 * alpha * beta / size))]


@lrn.row("deconvnet")
def lrn_identity(at: Site) -> Signals:
    """Passes unchanged: the paper does not undo contrast normalisation on the way down."""
    return [at.signal]


def _channel_sum(at: Site, value: Signal, before: int, after: int) -> Signal:
    """Sum over a window of channels: Σ value[c-before : c+after+1]."""
    size = before + after + 1
    planes: Operand = [0, 1, channels_of(at), -1]
    window = at.op.AveragePool(
        at.op.Reshape(value, planes),
        kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1,
    )  # fmt: skip
    return at.reshape(at.op.Mul(window, float(size)), 0)
