"""Where numbers lie: shapes, slices, gathering and scattering; and what computes shapes."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_oracle.operators import Call, operator, tensor_of, torch_type


@operator("Constant")
def constant(at: Call) -> Tensor | None:
    """Return the constant, whichever attribute holds it."""
    if "sparse_value" in at.attributes:
        sparse = at.attributes["sparse_value"]
        dense = torch.zeros(math.prod(sparse.dims), dtype=torch.float64)
        return dense.scatter(0, tensor_of(sparse.indices), tensor_of(sparse.values)).reshape(*sparse.dims)
    (value,) = at.attributes.values()
    if isinstance(value, float | int):
        value = np.asarray(value)
    return (
        tensor_of(np.asarray(value) if isinstance(value, list) else value)
        if not isinstance(value, bytes)
        else None
    )


@operator("ConstantOfShape")
def constant_of_shape(at: Call, shape: Tensor) -> Tensor:
    """Fill a shape."""
    value = tensor_of(at.get("value")) if "value" in at.attributes else torch.zeros(1, dtype=torch.float64)
    return value.reshape(()).expand(shape.tolist()).clone()


@operator("Shape")
def shape(at: Call, x: Tensor) -> Tensor:
    """Return the sizes of the axes."""
    return torch.tensor(x.shape[at.get("start", 0) : at.get("end", x.ndim)], dtype=torch.int64)


@operator("Size")
def size(_: Call, x: Tensor) -> Tensor:
    """Return how many numbers there are."""
    return torch.tensor(x.numel())


@operator("Range")
def range_(_: Call, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    """Count."""
    count = max(math.ceil((limit.item() - start.item()) / step.item()), 0)
    return start + torch.arange(count, dtype=start.dtype) * step


@operator("NonZero")
def non_zero(_: Call, x: Tensor) -> Tensor:
    """Return the places of what is not zero."""
    return x.detach().nonzero().T


@operator("OneHot")
def one_hot(at: Call, places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """Return one value at the places, the other elsewhere."""
    count, axis = int(depth), at.get("axis", -1)
    hot = (places.long() % count)[..., None] == torch.arange(count)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


@operator("EyeLike")
def eye_like(at: Call, x: Tensor) -> Tensor:
    """Return ones on a diagonal."""
    rows, columns = torch.arange(x.shape[0])[:, None], torch.arange(x.shape[1])
    return (columns - rows == at.get("k", 0)).to(torch_type(at.get("dtype", 1)))


@operator("Trilu")
def triangle(at: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    """Return the upper or the lower triangle."""
    return (torch.triu if at.get("upper", 1) else torch.tril)(x, 0 if k is None else int(k))


@operator("Cast", "CastLike")
def cast(at: Call, x: Tensor, like: Tensor | None = None) -> Tensor:
    """Change the type; all real numbers stay in double precision."""
    to = like.dtype if like is not None else torch_type(at.get("to"))
    if x.is_floating_point() and not to.is_floating_point:
        return x.detach() != 0 if to == torch.bool else x.detach().trunc().to(torch.int64).to(to)
    return x.to(to)


@operator("Dropout")
def dropout(_: Call, x: Tensor, *__: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pass, as in inference."""
    return x, torch.ones_like(x, dtype=torch.bool)


@operator("Reshape")
def reshape(at: Call, x: Tensor, given: Tensor | None = None) -> Tensor:
    """Reshape; 0 copies a size unless told otherwise."""
    sizes = at.ints("shape", given)
    keep = not at.get("allowzero", 0)
    return x.reshape(tuple(x.shape[k] if s == 0 and keep else s for k, s in enumerate(sizes)))


@operator("Flatten")
def flatten(at: Call, x: Tensor) -> Tensor:
    """Make a matrix of the axes before and after one."""
    axis = at.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1) if x.numel() else x.reshape(math.prod(x.shape[:axis]), 0)


@operator("Squeeze")
def squeeze(at: Call, x: Tensor, given: Tensor | None = None) -> Tensor:
    """Drop axes of size 1."""
    axes = at.ints("axes", given)
    dropped = [k for k, s in enumerate(x.shape) if s == 1] if axes is None else [a % x.ndim for a in axes]
    return x.reshape(tuple(s for k, s in enumerate(x.shape) if k not in dropped))


@operator("Unsqueeze")
def unsqueeze(at: Call, x: Tensor, given: Tensor | None = None) -> Tensor:
    """Insert axes of size 1."""
    axes = at.ints("axes", given)
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def transpose(at: Call, x: Tensor) -> Tensor:
    """Permute the axes; turn them round unless told."""
    return x.permute(at.get("perm") or list(range(x.ndim))[::-1])


@operator("Expand")
def expand(_: Call, x: Tensor, sizes: Tensor) -> Tensor:
    """Broadcast."""
    return x.expand(torch.broadcast_shapes(x.shape, sizes.tolist()))


@operator("Tile")
def tile(at: Call, x: Tensor, counts: Tensor, axis: Tensor | None = None) -> Tensor:
    """Repeat."""
    if at.opset < 6:
        return torch.cat([x] * int(counts), int(axis))
    return x.repeat(counts.tolist())


@operator("Concat")
def concat(at: Call, *parts: Tensor) -> Tensor:
    """Join."""
    return torch.cat(parts, at.get("axis", 1))


@operator("Split")
def split(at: Call, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
    """Cut into parts, equal ones unless told; the last may be smaller."""
    axis, sizes = at.get("axis", 0), at.ints("split", given)
    if sizes is None:
        count = at.get("num_outputs", len(at.node.output))
        return x.split(-(-x.shape[axis] // count), axis)
    return x.split(sizes, axis)


@operator("Slice")
def slice_(
    at: Call, x: Tensor, starts: Tensor | None = None, ends: Tensor | None = None, axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Take ranges, backwards too."""
    begins, stops = at.ints("starts", starts), at.ints("ends", ends)
    along = at.ints("axes", axes) or range(len(begins))
    strides = [1] * len(begins) if steps is None else steps.tolist()
    for axis, start, stop, step in zip(along, begins, stops, strides, strict=True):
        taken = range(*slice(start, stop, step).indices(x.shape[axis]))
        x = x.index_select(axis, torch.tensor(taken, dtype=torch.int64))
    return x


def _positive(places: Tensor, size: int) -> Tensor:
    places = places.long()
    return torch.where(places < 0, places + size, places)


@operator("Gather")
def gather(at: Call, x: Tensor, places: Tensor) -> Tensor:
    """Take slices along an axis."""
    axis = at.get("axis", 0) % x.ndim
    taken = x.index_select(axis, _positive(places, x.shape[axis]).flatten())
    return taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@operator("GatherElements")
def gather_elements(at: Call, x: Tensor, places: Tensor) -> Tensor:
    """Take single numbers along an axis."""
    axis = at.get("axis", 0)
    return x.gather(axis, _positive(places, x.shape[axis]))


@operator("GatherND")
def gather_nd(at: Call, x: Tensor, places: Tensor) -> Tensor:
    """Take what tuples of indices point at."""
    batch = at.get("batch_dims", 0)
    lead = math.prod(x.shape[:batch])
    rows, tuples = x.reshape(lead, *x.shape[batch:]), places.reshape(lead, -1, places.shape[-1])
    taken = torch.stack([row[_tuples(row, t)] for row, t in zip(rows, tuples, strict=True)])
    return taken.reshape(*places.shape[:-1], *taken.shape[2:])


def _tuples(x: Tensor, places: Tensor) -> tuple[Tensor, ...]:
    return tuple(_positive(p, s) for p, s in zip(places.unbind(-1), x.shape, strict=False))


_REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def scatter_elements(at: Call, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    """Put single numbers along an axis."""
    axis, how = at.get("axis", 0), at.get("reduction", "none")
    where = _positive(places, x.shape[axis])
    if how == "none":
        return x.scatter(axis, where, updates)
    return x.scatter_reduce(axis, where, updates, _REDUCED[how])


@operator("ScatterND")
def scatter_nd(at: Call, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    """Put slices where tuples of indices point."""
    how, where = at.get("reduction", "none"), _tuples(x, places)
    if how in ("none", "add"):
        return x.index_put(where, updates, accumulate=how == "add")
    depth = places.shape[-1]
    strides = [math.prod(x.shape[k + 1 : depth]) for k in range(depth)]
    rows = sum(w * s for w, s in zip(where, strides, strict=True)).flatten()
    flat = x.reshape(math.prod(x.shape[:depth]), -1)
    given = updates.reshape(-1, flat.shape[1])
    return flat.scatter_reduce(0, rows[:, None].expand_as(given), given, _REDUCED[how]).reshape(x.shape)


@operator("Pad")
def pad(
    at: Call, x: Tensor, given: Tensor | None = None, fill: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Pad each axis, or cut it where the padding is negative."""
    pads = at.ints("pads", given) or at.get("paddings")
    along = range(x.ndim) if axes is None else [a % x.ndim for a in axes.tolist()]
    value = float(fill) if fill is not None else at.get("value", 0.0)
    n = len(pads) // 2
    for axis, begin, end in zip(along, pads[:n], pads[n:], strict=True):
        x = _padded(x, axis, begin, end, at.get("mode", "constant"), value)
    return x


def _padded(x: Tensor, axis: int, begin: int, end: int, mode: str, value: float) -> Tensor:
    size = x.shape[axis]
    places = torch.arange(-begin, size + end)
    if mode == "constant":
        inside = x.index_select(axis, places[(places >= 0) & (places < size)])
        ends = [[*x.shape[:axis], max(k, 0), *x.shape[axis + 1 :]] for k in (begin, end)]
        before, after = (x.new_full(shape, value) for shape in ends)
        return torch.cat([before, inside, after], axis)
    if mode == "reflect":
        places = places.abs()
        places = torch.where(places >= size, 2 * (size - 1) - places, places)
    return x.index_select(axis, places % size if mode == "wrap" else places.clamp(0, size - 1))


@operator("DepthToSpace")
def depth_to_space(at: Call, x: Tensor) -> Tensor:
    """Move channels into blocks of space."""
    n, c, h, w = x.shape
    b = at.get("blocksize")
    if at.get("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(at: Call, x: Tensor) -> Tensor:
    """Move blocks of space into channels."""
    n, c, h, w = x.shape
    b = at.get("blocksize")
    order = (0, 3, 5, 1, 2, 4) if at.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = x.reshape(n, c, h // b, b, w // b, b).permute(order)
    return y.reshape(n, c * b**2, h // b, w // b)


@operator("If")
def if_(at: Call, condition: Tensor) -> list[Tensor]:
    """Run one branch."""
    return at.runner.branch(at.get("then_branch" if bool(condition) else "else_branch"), [])


@operator("Loop")
def loop(at: Call, most: Tensor | None, condition: Tensor | None, *state: Tensor) -> list[Tensor]:
    """Run the body as often as told."""
    body, carried, rows = at.get("body"), list(state), []
    k, go = 0, condition is None or bool(condition)
    while go and (most is None or k < int(most)):
        go, *results = at.runner.branch(body, [torch.tensor(k), torch.tensor(go), *carried])
        carried, row = results[: len(state)], results[len(state) :]
        rows.append(row)
        k, go = k + 1, bool(go)
    return carried + [torch.stack(column) for column in zip(*rows, strict=True)]


# Withdrawn operators that old converters wrote.


@operator("ImageScaler")
def image_scaler(at: Call, x: Tensor) -> Tensor:
    """Scale, and shift each channel."""
    return at.get("scale", 1.0) * x + torch.tensor(at.get("bias"), dtype=x.dtype).reshape(-1, 1, 1)


@operator("Affine")
def affine(at: Call, x: Tensor) -> Tensor:
    """Return αx + β."""
    return at.get("alpha", 1.0) * x + at.get("beta", 0.0)


@operator("Crop")
def crop(at: Call, x: Tensor) -> Tensor:
    """Cut the borders off."""
    left, top, right, bottom = at.get("border")
    scale: Any = at.get("scale")
    height, width = scale or (x.shape[2] - top - bottom, x.shape[3] - left - right)
    return x[:, :, top : top + height, left : left + width]
