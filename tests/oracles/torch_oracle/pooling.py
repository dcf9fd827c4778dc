"""Pools: every window is read, whatever its form."""

import math

import numpy as np
import torch
from torch import Tensor

from torch_oracle.operators import MICROSOFT, Call, operator
from torch_oracle.windows import Windows


def _read(at: Call, x: Tensor) -> tuple[Windows, list[int], Tensor, Tensor]:
    sizes = x.shape[2:]
    windows = Windows.of(at, sizes, at.get("kernel_shape"))
    counts = windows.counts(sizes, ceil=bool(at.get("ceil_mode", 0)))
    return windows, counts, *windows.places(sizes, counts)


def _seen(x: Tensor, places: Tensor, inside: Tensor, fill: float) -> Tensor:
    """Return what each window sees, shape (N, C, windows, numbers)."""
    return torch.where(inside, x.flatten(2)[:, :, places], fill)


def at_first_maximum(x: Tensor) -> Tensor:
    """Return where each row of the last axis has its maximum, the first of equals."""
    return torch.from_numpy(np.asarray(x.detach().numpy().argmax(-1)))


@operator("MaxPool")
def max_pool(at: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Take each window's maximum; its signal goes to the first of equals in row-major order."""
    _, counts, places, inside = _read(at, x)
    given = at.runner.switches.get(at.node.output[0]) if at.node.output else None
    if given is not None and not at.get("storage_order", 0):
        flat = torch.from_numpy(given).flatten(2) % math.prod(x.shape[2:])
    else:
        seen = _seen(x.detach(), places, inside, -math.inf)
        flat = places.expand(*seen.shape).gather(-1, at_first_maximum(seen)[..., None])[..., 0]
    y = x.flatten(2).gather(2, flat).reshape(*x.shape[:2], *counts)
    if at.get("storage_order", 0):  # of the indices, not of the search
        return y, _by_columns(flat, x).reshape(y.shape)
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1) * math.prod(x.shape[2:])
    return y, (flat + planes).reshape(y.shape)


def _by_columns(flat: Tensor, x: Tensor) -> Tensor:
    """Return flat positions over the whole input, each map counted column by column."""
    rows, columns = math.prod(x.shape[2:-1]), x.shape[-1]
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1) * rows * columns
    return flat % columns * rows + flat // columns + planes


@operator("NhwcMaxPool", domain=MICROSOFT)
def nhwc_max_pool(at: Call, x: Tensor) -> Tensor:
    """Take maxima, the channels last."""
    return max_pool(at, x.movedim(-1, 1))[0].movedim(1, -1)


@operator("AveragePool")
def average_pool(at: Call, x: Tensor) -> Tensor:
    """Average what each window sees; with the padding if told, but nothing beyond it."""
    windows, counts, places, inside = _read(at, x)
    number = inside.sum(-1)
    if at.get("count_include_pad", 0):
        number = torch.ones(1, dtype=torch.int64)
        for axis, (size, count) in enumerate(zip(x.shape[2:], counts, strict=True)):
            covered = (windows.along(axis, count) < size + windows.ends[axis]).sum(-1)
            number = (number[:, None] * covered).flatten()
    return (_seen(x, places, inside, 0.0).sum(-1) / number).reshape(*x.shape[:2], *counts)


@operator("LpPool")
def lp_pool(at: Call, x: Tensor) -> Tensor:
    """Take the p-norm of each window."""
    _, counts, places, inside = _read(at, x)
    return norm(_seen(x, places, inside, 0.0), at.get("p", 2), [-1]).reshape(*x.shape[:2], *counts)


def norm(x: Tensor, p: float, axes: list[int], *, keep: bool = False) -> Tensor:
    """Return (Σ|x|ᵖ)^(1/p); where it is zero no signal passes."""
    total = (x.abs() ** p).sum(axes, keepdim=keep)
    return torch.where(total > 0, torch.where(total > 0, total, 1.0) ** (1 / p), 0.0)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(_: Call, x: Tensor) -> Tensor:
    """Average each map."""
    return x.mean(_spatial(x), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(at: Call, x: Tensor) -> Tensor:
    """Take each map's p-norm."""
    return norm(x, at.get("p", 2), _spatial(x), keep=True)


@operator("GlobalMaxPool")
def global_max_pool(_: Call, x: Tensor) -> Tensor:
    """Take each map's maximum, the first of equals."""
    rows = x.flatten(2)
    return rows.gather(-1, at_first_maximum(rows)[..., None]).reshape(*x.shape[:2], *[1] * (x.ndim - 2))


@operator("MaxUnpool")
def max_unpool(at: Call, x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
    """Put each number where its index says; of several at one place the last stays.

    PyTorch's own scatter sends the place's gradient to all of them.
    """
    n = x.ndim - 2
    rows = zip(
        x.shape[2:],
        at.get("strides") or [1] * n,
        at.get("kernel_shape"),
        at.get("pads") or [0] * 2 * n,
        (at.get("pads") or [0] * 2 * n)[n:],
        strict=False,
    )
    inferred = [*x.shape[:2], *((size - 1) * s + k - a - b for size, s, k, a, b in rows)]
    sizes = inferred if shape is None else shape.tolist()
    flat, values = places.flatten(), x.flatten()
    order = torch.arange(len(flat))
    last = torch.full((math.prod(sizes),), -1).scatter_reduce(0, flat, order, "amax")
    stays = (last[flat] == order).to(x.dtype)
    return torch.zeros(math.prod(sizes), dtype=x.dtype).scatter_add(0, flat, values * stays).reshape(sizes)
