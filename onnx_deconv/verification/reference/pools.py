"""Pools: a maximum is unpooled by its switches (section 2.1, unpooling), a mean or a norm is spread."""

import math
from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference.graph import Array, Positions
from onnx_deconv.verification.reference.signals import return_to
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit
from onnx_deconv.verification.reference.windows import Windows


@of_first_input("MaxPool")
def max_pool(at: Visit) -> Array:
    """Unpool: the signal of a window goes to its switch, the first maximum."""
    switches = switches_of(at)
    if at.options.unpool == "add":
        return return_to(switches, at.signal, at.shape())
    unpooled = np.zeros(math.prod(at.shape()))
    for place, signal in zip(switches.reshape(-1), at.signal.reshape(-1), strict=True):
        if place >= 0:
            unpooled[place] = signal
    return unpooled.reshape(at.shape())


def switches_of(at: Visit) -> Positions:
    """Return where each window has its first maximum, as a flat position; -1 for one of padding alone."""
    windows = Windows.of(at, at.ints("kernel_shape") or [])
    values = windows.framed(at.x(), -np.inf)
    places = windows.framed(np.arange(math.prod(windows.size)).reshape(windows.size), -1)
    best, switches = np.full(at.signal.shape, -np.inf), np.full(at.signal.shape, -1)
    for offset in np.ndindex(*windows.kernel):
        higher = values[windows.seen(offset)] > best
        best = np.where(higher, values[windows.seen(offset)], best)
        switches = np.where(higher, places[windows.seen(offset)], switches)
    planes = at.shape()[:2]
    first = np.arange(math.prod(planes)).reshape(*planes, *[1] * len(windows.size))
    return np.where(switches < 0, -1, first * math.prod(windows.size) + switches)


@of_first_input("GlobalMaxPool")
def global_max_pool(at: Visit) -> Array:
    """Unpool one window over the whole plane."""
    planes = at.x().reshape(*at.shape()[:2], -1)
    places = np.arange(planes.size).reshape(planes.shape)
    switches = np.take_along_axis(places, planes.argmax(-1, keepdims=True), -1)
    return return_to(switches, at.signal.reshape(switches.shape), at.shape())


@of_first_input("MaxUnpool")
def max_unpool(at: Visit) -> Array:
    """Y is x put where the second input says: x receives the signal from there, the last one put there."""
    places = at.raw(1).reshape(-1)
    last = dict(zip(places.tolist(), range(places.size), strict=True))
    stays = np.array([last[place] == k for k, place in enumerate(places.tolist())], bool)
    back: Array = np.where(stays, at.signal.reshape(-1)[places], 0.0).reshape(at.shape())
    return back


@of_first_input("AveragePool")
def average_pool(at: Visit) -> Array:
    """Y = Σ x / count over a window: each x in it receives signal / count.

    The padding counts where `count_include_pad` says so; what a window of `ceil_mode` has beyond
    the padding never does.
    """
    windows = Windows.of(at, at.ints("kernel_shape") or [])
    counted = windows.framed(np.ones(windows.size), 0.0)
    if at.attr("count_include_pad", 0):
        extents = zip(windows.begin, windows.size, windows.end, strict=True)
        counted[tuple(slice(sum(extent)) for extent in extents)] = 1.0
    return spread(at, windows, at.signal / summed(windows, counted))


@of_first_input("GlobalAveragePool")
def global_average_pool(at: Visit) -> Array:
    """Y = mean of x over the plane: each x receives signal / count."""
    return np.broadcast_to(at.signal / math.prod(at.shape()[2:]), at.shape())


@of_first_input("LpPool")
def lp_pool(at: Visit) -> Array:
    """Y = (Σ |x|ᵖ)^(1/p) over a window: each x in it receives signal·sign(x)·(|x|/Y)^(p-1)."""
    windows = Windows.of(at, at.ints("kernel_shape") or [])

    def of_window(powers: Array) -> Array:
        return summed(windows, windows.framed(powers, 0.0))

    return lp_signal(at, of_window, lambda share: spread(at, windows, share))


@of_first_input("GlobalLpPool")
def global_lp_pool(at: Visit) -> Array:
    """As LpPool, with one window over the whole plane."""
    plane = tuple(range(2, len(at.shape())))
    return lp_signal(at, lambda powers: powers.sum(plane, keepdims=True), lambda share: share)


def lp_signal(at: Visit, total: Callable[[Array], Array], back: Callable[[Array], Array]) -> Array:
    """Send a norm's signal to what `total` sums up, `back` being its transpose; 0 where the norm is."""
    p, x = float(at.attr("p", 2)), at.x()
    powers = total(np.abs(x) ** p)
    share = np.where(powers > 0, at.signal * powers ** ((1 - p) / p), 0.0)
    return back(share) * np.sign(x) * np.abs(x) ** (p - 1)


def summed(windows: Windows, frame: Array) -> Array:
    """Sum up a frame's numbers over each window."""
    return np.sum([frame[windows.seen(offset)] for offset in np.ndindex(*windows.kernel)], axis=0)


def spread(at: Visit, windows: Windows, share: Array) -> Array:
    """Hand each window's share to all its positions."""
    frame = np.zeros((*at.shape()[:2], *windows.frame))
    for offset in np.ndindex(*windows.kernel):
        frame[windows.seen(offset)] += share
    return frame[windows.inside]
