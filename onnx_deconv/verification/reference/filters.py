"""Convolutions: the signal goes back through the transposed filters (section 2.1, filtering)."""

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit
from onnx_deconv.verification.reference.windows import Windows, halves


def mix(filters: Array, signal: Array) -> Array:
    """Return Σ_o filters[g, c, o] · signal[n, (g, o), position], channels (g, c)."""
    groups, _, channels = filters.shape
    batch, _, *positions = signal.shape
    columns = signal.reshape(batch, groups, channels, -1)
    return (np.ascontiguousarray(filters) @ columns).reshape(batch, -1, *positions)


@of_first_input("Conv")
def conv(at: Visit) -> Array:
    """y[o, i] = Σ w[o, c, k]·x[c, i·s + k·d - p]: x there receives w[o, c, k]·signal[o, i]."""
    weight = at.x(1)
    groups, windows = at.attr("group", 1), Windows.of(at, weight.shape[2:])
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    frame = np.zeros((*at.shape()[:2], *windows.frame))
    for offset in np.ndindex(*windows.kernel):
        frame[windows.seen(offset)] += mix(grouped[(..., *offset)].swapaxes(1, 2), at.signal)
    return frame[windows.inside]


@of_first_input("ConvTranspose")
def conv_transpose(at: Visit) -> Array:
    """y[o, i·s + k·d - p] += w[c, o, k]·x[c, i]: x[c, i] receives Σ w[c, o, k]·signal[o, there]."""
    weight = at.x(1)
    windows, groups = transposed_windows(at, weight.shape[2:]), at.attr("group", 1)
    frame = windows.framed(at.signal, 0.0)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return sum(
        (mix(grouped[(..., *offset)], frame[windows.seen(offset)]) for offset in np.ndindex(*windows.kernel)),
        start=np.zeros(at.shape()),
    )


def transposed_windows(at: Visit, kernel: tuple[int, ...]) -> Windows:
    """Read the windows of a ConvTranspose: each input position has one in the output."""
    out, size, rank = at.signal.shape[2:], at.shape()[2:], len(kernel)
    strides, dilations = at.ints("strides") or [1] * rank, at.ints("dilations") or [1] * rank
    extra = at.ints("output_padding") or [0] * rank
    begin = (at.ints("pads") or [0] * rank)[:rank]
    automatic = at.attr("auto_pad", "NOTSET")
    if automatic == "VALID":
        begin = [0] * rank
    if at.ints("output_shape") or automatic.startswith("SAME"):
        full = [
            (size[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 + extra[a] for a in range(rank)
        ]
        begin = [halves(max(0, full[a] - out[a]), at)[0] for a in range(rank)]
    return Windows(*map(tuple, (kernel, strides, dilations, begin, [0] * rank, out, size)))
