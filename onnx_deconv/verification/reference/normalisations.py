"""Normalisations: their true derivatives; a deconvnet does not undo local response normalisation."""

import math

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit


@of_first_input("BatchNormalization")
def batch_normalization(at: Visit) -> Array:
    """scale·(x - mean)/√(var + ε) + B with constant statistics: linear in x."""
    if at.attr("training_mode", 0) or len([name for name in at.node.output if name]) > 1:
        raise at.unsupported("training mode")
    factor = at.x(1) / np.sqrt(at.x(4) + at.real("epsilon", 1e-5))
    return at.signal * factor.reshape(*factor.shape, *[1] * (len(at.shape()) - factor.ndim - 1))


def normalized(x: Array, signal: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Normalise, x̂ = (x - mean)/√(var + ε) over `axes`, backwards.

    x receives (g - mean(g) - x̂·mean(g·x̂))/√(var + ε), g being the signal for x̂.
    """
    deviation = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    unit = (x - x.mean(axes, keepdims=True)) / deviation
    centred = signal - signal.mean(axes, keepdims=True)
    back: Array = (centred - unit * (signal * unit).mean(axes, keepdims=True)) / deviation
    return back


@of_first_input("InstanceNormalization")
def instance_normalization(at: Visit) -> Array:
    """scale[c]·x̂ + B[c], each image's channel normalised by itself."""
    axes = tuple(range(2, len(at.shape())))
    scale = at.x(1).reshape(-1, *[1] * len(axes))
    return normalized(at.x(), at.signal * scale, axes, at.real("epsilon", 1e-5))


@of_first_input("GroupNormalization")
def group_normalization(at: Visit) -> Array:
    """scale·x̂ + bias, each image's group of channels normalised by itself."""
    batch, channels, *positions = at.shape()
    groups, scale = at.attr("num_groups"), at.x(1)
    scale = np.repeat(scale, channels // scale.size).reshape(-1, *[1] * len(positions))
    grouped = (batch, groups, -1)
    x, signal = at.x().reshape(grouped), (at.signal * scale).reshape(grouped)
    return normalized(x, signal, (2,), at.real("epsilon", 1e-5)).reshape(at.shape())


@of_first_input("LayerNormalization")
def layer_normalization(at: Visit) -> Array:
    """scale·x̂ + B, normalised over the axes from `axis` on; the mean and 1/√(var + ε) may be read too.

    The mean sends each of n numbers signal/n, D = 1/√(var + ε) sends -D³·(x - mean)·signal/n.
    """
    rank, x = len(at.shape()), at.x()
    axes = tuple(range(at.attr("axis", -1) % rank, rank))
    output, mean, inverse = (0.0 if s is None else s for s in (*at.arrived, None, None)[:3])
    back = normalized(x, np.broadcast_to(output * at.x(1), x.shape), axes, at.real("epsilon", 1e-5))
    count = math.prod(x.shape[axis] for axis in axes)
    factor = (x.var(axes, keepdims=True) + at.real("epsilon", 1e-5)) ** -1.5
    centred = x - x.mean(axes, keepdims=True)
    return back + (mean - factor * centred * inverse) / count


@of_first_input("MeanVarianceNormalization")
def mean_variance_normalization(at: Visit) -> Array:
    """(x - mean)/(√var + 1e-9) over `axes`: the 1e-9 counts where the variance is nothing alone."""
    axes = tuple(at.ints("axes") or (0, 2, 3))
    return normalized(at.x(), at.signal, axes, 1e-18)


@of_first_input("RMSNormalization")
def rms_normalization(at: Visit) -> Array:
    """scale·x̂, x̂ = x/√(mean x² + ε) over the axes from `axis` on.

    x receives (g - x̂·mean(g·x̂))/√(mean x² + ε), g being the signal for x̂.
    """
    x, rank = at.x(), len(at.shape())
    axes = tuple(range(at.attr("axis", -1) % rank, rank))
    length = np.sqrt((x**2).mean(axes, keepdims=True) + at.real("epsilon", 1e-5))
    unit, signal = x / length, at.signal * at.x(1)
    back: Array = (signal - unit * (signal * unit).mean(axes, keepdims=True)) / length
    return back


@of_first_input("LpNormalization")
def lp_normalization(at: Visit) -> Array:
    """Y = x/N, N = Σ|x| or √Σx² along one axis: (signal - dN/dx·Σ signal·Y)/N, 0 where N is."""
    x, axis = at.x(), at.attr("axis", -1)
    lengths = {1: np.abs(x).sum(axis, keepdims=True), 2: np.sqrt((x**2).sum(axis, keepdims=True))}
    p = at.attr("p", 2)
    length = lengths[p]
    slope = np.sign(x) if p == 1 else x / length
    along = (at.signal * x / length).sum(axis, keepdims=True)
    return np.where(length > 0, (at.signal - slope * along) / length, 0.0)


@of_first_input("LRN")
def lrn(at: Visit) -> Array:
    """Y[c] = x[c]·D[c]^-b, D = k + a/n·Σ x² over the n channels around c; or the identity.

    x[e] receives signal[e]·D[e]^-b - 2·a·b/n·x[e]·Σ signal[c]·x[c]·D[c]^(-b-1) over the c around
    which e lies. A deconvnet does not invert contrast normalisation.
    """
    chosen = at.options.lrn or ("identity" if at.options.rules == "deconvnet" else "gradient")
    if chosen == "identity":
        return at.signal
    x, signal, size = at.x(), at.signal, at.attr("size")
    alpha, beta = at.real("alpha", 1e-4), at.real("beta", 0.75)
    around = [slice(max(0, c - (size - 1) // 2), c + size // 2 + 1) for c in range(x.shape[1])]
    squares = np.stack([(x[:, near] ** 2).sum(1) for near in around], 1)
    power = at.real("bias", 1.0) + alpha / size * squares
    back: Array = signal * power**-beta
    for c, near in enumerate(around):
        pull = signal[:, c] * x[:, c] * power[:, c] ** (-beta - 1)
        back[:, near] -= 2 * alpha * beta / size * x[:, near] * pull[:, None]
    return back


@of_first_input("Softmax", "LogSoftmax")
def softmax(at: Visit) -> Array:
    """Y = eˣ/Σ eˣ: y·(signal - Σ y·signal); its logarithm: signal - y·Σ signal.

    Along one axis since opset 13, before over all axes from `axis` on.
    """
    recent = at.graph.opset >= 13  # noqa: PLR2004
    rank = len(at.shape())
    axis = at.attr("axis", -1 if recent else 1) % max(rank, 1)
    axes = (axis,) if recent else tuple(range(axis, rank))
    x, signal = at.x(), at.signal
    y = np.exp(x - x.max(axes, keepdims=True))
    y = y / y.sum(axes, keepdims=True)
    if at.operator == "LogSoftmax":
        back: Array = signal - y * signal.sum(axes, keepdims=True)
    else:
        back = y * (signal - (y * signal).sum(axes, keepdims=True))
    return back
