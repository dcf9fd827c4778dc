"""How the names of axes pass operators: the functions that entries name as their ``axes``.

An axis is named for what runs along it: the images of the batch, the channels that a filter made, the axes
of the input that positions come from; one that several were joined to has all their names. Each function
takes a node and the names of the axes of those inputs that depend on the model's, by the input's number,
and returns those of its results; ``None`` where that cannot be told.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.value_type import Shape

BATCH, CHANNEL = "batch", "channel"
Names = tuple[frozenset[str], ...]
"""For each axis what runs along it."""

Given = Mapping[int, Names]

NOTHING: frozenset[str] = frozenset()
_IMAGES, _CHANNELS = frozenset({BATCH}), frozenset({CHANNEL})
_PRIMES = (1000003, 1000033, 1000037, 1000039, 1000081, 1000099, 1000117, 1000121, 1000133, 1000151)
"""They stand for sizes that are only known at run time: products of them are equal where the sizes are."""


def passed(at: ForwardNode, given: Given) -> Names | None:
    """Axes keep their place where the result has as many."""
    rank = len(at.shape_of_output())
    first = next(iter(given.values()))
    return first if len(first) == rank else None


def pointwise(at: ForwardNode, given: Given) -> Names:
    """Operands are aligned at their last axes; along an axis of size 1 an operand says nothing."""
    rank = len(at.shape_of_output())
    found = [NOTHING] * rank
    for i, names in given.items():
        for k, (axis, size) in enumerate(zip(names[::-1], at.shape_of(i)[::-1], strict=True), 1):
            found[rank - k] |= axis if size != 1 else axis & {BATCH}
    return tuple(found)


def window(_: ForwardNode, given: Given) -> Names | None:
    """A filter's channels take the place of the input's; all other axes keep theirs."""
    if 0 not in given or len(given[0]) < 2:  # noqa: PLR2004
        return None
    return (given[0][0], _CHANNELS, *given[0][2:])


def gemm(at: ForwardNode, given: Given) -> Names:
    """The weights' other axis is one of channels."""
    rows = given[0][1 if at.attr("transA", 0) else 0] if 0 in given else _CHANNELS
    columns = given[1][0 if at.attr("transB", 0) else 1] if 1 in given else _CHANNELS
    return rows, columns


def product(at: ForwardNode, given: Given) -> Names:
    """The weights' other axis is one of channels; the axes before the last two are aligned."""
    ranks, rank = [len(at.shape_of(i)) for i in (0, 1)], len(at.shape_of_output())
    rows = () if ranks[0] == 1 else (given[0][-2] if 0 in given else _CHANNELS,)
    columns = () if ranks[1] == 1 else (given[1][-1] if 1 in given else _CHANNELS,)
    lead = [NOTHING] * (rank - len(rows) - len(columns))
    for names in given.values():
        for k, axis in enumerate(names[:-2][::-1], 1):
            lead[-k] |= axis
    return (*lead, *rows, *columns)


def summation(at: ForwardNode, given: Given) -> Names | None:
    """An axis is known by its letter; one of the weights' alone is one of channels."""
    terms, arrow, result = at.attr("equation").replace(" ", "").partition("->")
    if not arrow or "." in terms:
        return None
    letters: dict[str, frozenset[str]] = {}
    for i, term in enumerate(terms.split(",")):
        for letter, axis in zip(term, given.get(i, ()), strict=False):
            letters[letter] = letters.get(letter, NOTHING) | axis
    return tuple(letters.get(letter, _CHANNELS) for letter in result)


def permutation(at: ForwardNode, given: Given) -> Names:
    """Axes change places."""
    rank = len(given[0])
    return tuple(given[0][k] for k in at.attr("perm") or range(rank)[::-1])


def reduction(at: ForwardNode, given: Given) -> Names:
    """Nothing runs along the axes that are reduced."""
    return _reduced(at, given, at.numbers("axes", 1) or range(len(given[0])))


def arg_reduction(at: ForwardNode, given: Given) -> Names:
    """Nothing runs along the axis that is reduced."""
    return _reduced(at, given, [at.attr("axis", 0)])


def _reduced(at: ForwardNode, given: Given, axes: Sequence[int]) -> Names:
    names = given[0]
    gone = {int(axis) % len(names) for axis in axes}
    if at.attr("keepdims", 1):
        return tuple(NOTHING if k in gone else axis for k, axis in enumerate(names))
    return tuple(axis for k, axis in enumerate(names) if k not in gone)


def gathering(at: ForwardNode, given: Given) -> Names | None:
    """The axis that is picked from has the indices' axes in its place; of one axis it keeps its name.

    The columns of a table of weights are channels.
    """
    if set(given) == {1}:
        return (*given[1], *[_CHANNELS] * (len(at.shape_of(0)) - 1)) if at.axis(0) == 0 else None
    if set(given) != {0}:
        return None
    names, axis, picked = given[0], at.attr("axis", 0) % len(given[0]), len(at.shape_of(1))
    middle = (names[axis],) if picked == 1 else (NOTHING,) * picked
    return (*names[:axis], *middle, *names[axis + 1 :])


def joining(at: ForwardNode, given: Given) -> Names:
    """Parts of the same axes; batches that are joined are no batch any more."""
    axis = at.attr("axis") % len(at.shape_of_output())
    found = [NOTHING] * len(at.shape_of_output())
    for names in given.values():
        found = [a | b for a, b in zip(found, names, strict=True)]
    found[axis] -= {BATCH} if len(at.node.inputs) > 1 else NOTHING
    return tuple(found)


def recurrence(at: ForwardNode, given: Given) -> Names | None:
    """Time and batch change no place; a direction's axis stands between them, and its state last."""
    if 0 not in given:
        return None
    time, batch, _ = given[0]
    return (batch, time, NOTHING, _CHANNELS) if at.attr("layout", 0) else (time, NOTHING, batch, _CHANNELS)


def inserted(at: ForwardNode, given: Given) -> Names | None:
    """Nothing runs along axes that are new."""
    axes = at.numbers("axes", 1)
    if 0 not in given or axes is None:
        return regrouped(at, given)
    rank, old = len(given[0]) + len(axes), iter(given[0])
    new = {int(axis) % rank for axis in axes}
    return tuple(NOTHING if k in new else next(old) for k in range(rank))


def removed(at: ForwardNode, given: Given) -> Names | None:
    """The axes that are left keep their names."""
    axes = at.numbers("axes", 1)
    if 0 not in given or axes is None:
        return regrouped(at, given)
    gone = {int(axis) % len(given[0]) for axis in axes}
    return tuple(axis for k, axis in enumerate(given[0]) if k not in gone)


def regrouped(at: ForwardNode, given: Given) -> Names | None:
    """Axes are found again by their sizes: those of the same product belong together."""
    if 0 not in given:
        return None
    names, frames = given[0], _frames(at, given[0])
    before = _numbers(at, names, frames)
    after = _matched(at, before, frames)
    if after is None:
        return None
    found: list[frozenset[str]] = []
    for old, new in _groups(before, after):
        shared = _shared([(names[k], before[k]) for k in old], [after[k] for k in new])
        if frames > 1 and 0 in old:  # the images are one axis again
            images = [after[k] == before[0] // frames for k in new]
            apart = (_IMAGES if each else axis - _IMAGES for each, axis in zip(images, shared, strict=True))
            shared = list(apart) if any(images) else shared
        found += shared
    return tuple(found)


def _frames(at: ForwardNode, names: Names) -> int:
    """Return how many frames, or rows, of each image share the first axis, if a Reshape parts them; else 1.

    Of a video, N × T × C × H × W, the frames are N·T images, of which N × T rows are made again. A number
    that is only known at run time is a prime. Attention has as rows its heads, or its queries.
    """
    after, shared = at.model.type_of(at.node.outputs[0].name), names[0] if names else NOTHING
    sizes, symbols = after.shape or (), after.symbols or ("", "")
    if at.shape_of(0)[0] is not None or len(shared) != 2 or BATCH not in shared:  # noqa: PLR2004
        return 1
    if CHANNEL in shared:
        return _rows(at.shape_of(0)[1:], sizes)
    if sizes[:1] != (None,):
        return 1
    value, bracket, place = next(iter(shared - {BATCH})).rpartition("[")
    given = at.model.type_of(value) if bracket and value in at.model.inputs else None
    if given is None or given.shape is None or len(sizes) < 2:  # noqa: PLR2004
        return 1
    axis = int(place[:-1])
    called = given.symbols[axis] if given.symbols else ""
    same = sizes[1] is not None or (called and called == symbols[1])
    return (sizes[1] or _PRIMES[-1]) if same and sizes[1] == given.shape[axis] else 1


def _rows(rest: Shape, after: Shape) -> int:
    """Return how many rows of each image a Reshape parts, given the sizes behind theirs and its result's."""
    if None in rest or after.count(None) != 1:
        return 1
    rows, left = divmod(math.prod(size or 1 for size in after), math.prod(size or 1 for size in rest) or 1)
    return 1 if left or not rows else rows


def _shared(old: Sequence[tuple[frozenset[str], int]], new: Sequence[int]) -> list[frozenset[str]]:
    """Share the names of axes among those that they are regrouped to, in row-major order.

    From the first axis on, each takes the factors that it needs of those before: H × W × 32 becomes
    (H·W·2) × 16. Where factors do not come out even, all get all names.
    """
    long = [(name, size) for name, size in old if size != 1] or list(old)
    everything = frozenset[str]().union(*(name for name, _ in long))
    if len(new) == 1 or len(long) == 1:
        return [everything] * len(new)
    left, found = list(long), list[frozenset[str]]()
    for size in new:
        names, open_ = NOTHING, size
        while open_ != 1 and left:
            name, rest = left[0]
            taken = math.gcd(open_, rest)
            if taken not in (open_, rest) or not taken:
                return [everything] * len(new)
            names, open_ = names | name, open_ // taken
            left = [(name, rest // taken), *left[1:]] if taken != rest else left[1:]
        found.append(names)
    return found


def _numbers(at: ForwardNode, names: Names, frames: int) -> list[int]:
    """Return a Reshape's sizes, with a prime in the place of each that is not known."""
    spare = iter(_PRIMES)
    found = [next(spare) if size is None else size for size in at.shape_of(0)][: len(names)]
    return [found[0] * frames, *found[1:]] if found else found


def _matched(at: ForwardNode, before: Sequence[int], frames: int) -> list[int] | None:
    """Return the sizes of the result in the same numbers; ``None`` where they are not all told."""
    types = [at.model.type_of(v.name) for v in (at.node.inputs[0], at.node.outputs[0])]
    if types[1].shape is None:
        return None
    known = {s: n for s, n in zip(types[0].symbols, before, strict=False) if s}
    symbols = types[1].symbols or ("",) * len(types[1].shape)
    after = [known.get(s) if d is None else d for d, s in zip(types[1].shape, symbols, strict=True)]
    total, open_ = math.prod(before), [k for k, size in enumerate(after) if size is None]
    loose = [
        n for n, size in zip(before, types[0].shape or (), strict=True) if size is None and n not in after
    ]
    for guess in _guesses(before, open_, loose, frames):
        tried = [guess.get(k, size) for k, size in enumerate(after)]
        rest, left = divmod(total, math.prod(size for size in tried if size is not None) or 1)
        whole = [rest if size is None else size for size in tried]
        if not left and math.prod(whole) == total and tried.count(None) <= 1:
            return whole
    return None


def _guesses(
    before: Sequence[int], open_: Sequence[int], loose: Sequence[int], frames: int
) -> Iterator[dict[int, int]]:
    """Yield what sizes may be that are not known.

    They are what follows; images and their frames, apart; the input's own; a batch that is kept.
    """
    yield {}
    if frames > 1:
        yield {0: before[0] // frames} | ({1: frames} if 1 in open_ else {})
    if len(open_) == len(loose):
        yield dict(zip(open_, loose, strict=True))
    if open_[:1] == [0] and before:
        yield {0: before[0]}


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the axes that belong together: the shortest runs of the same product."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(old), j + len(new)
        while (
            old
            and new
            and (a := math.prod(before[k] for k in old)) != (b := math.prod(after[k] for k in new))
        ):
            if (a < b and i < len(before)) or j == len(after):
                old, i = [*old, i], i + 1
            else:
                new, j = [*new, j], j + 1
        yield old, new


def compared(at: ForwardNode) -> int | None:
    """Return the axis along which a softmax, an ArgMax, a TopK or a maximum compares; ``None`` of others."""
    if at.node.op in _EXTREMA:
        axes = at.numbers("axes", 1)
        return None if axes is None or len(axes) != 1 else int(axes[0]) % len(at.shape_of(0))
    default = _COMPARED.get(at.node.op)
    if default is None:
        return None
    last = at.model.opset >= 13 or at.node.op == "TopK"  # noqa: PLR2004
    return at.axis(default if default == 0 or not last else -1)


_COMPARED = {"Softmax": 1, "LogSoftmax": 1, "Hardmax": 1, "TopK": 1, "ArgMax": 0, "ArgMin": 0}
_EXTREMA = {"ReduceMax", "ReduceMin"}


def takes_lowest(at: ForwardNode) -> bool:
    """Tell whether an operator picks the lowest of what it compares."""
    return at.node.op in {"ArgMin", "ReduceMin"} or (at.node.op == "TopK" and not at.attr("largest", 1))


def picked_from(at: ForwardNode) -> int:
    """Return the number of the input that an operator picks from.

    Boxes are picked by their scores, and what stands in a table of constants by the number of its class. What
    is lower at the class than elsewhere is picked from nothing that could be explained.
    """
    if at.node.op == "OneHot" and len(at.node.inputs) > 2:  # noqa: PLR2004
        off_on = at.constant(2)
        return 0 if off_on is not None and off_on[0] < off_on[1] else 1
    return 1 if at.node.op == "NonMaxSuppression" or is_table(at) or is_palette(at) else 0


def picked_along(at: ForwardNode) -> int | None:
    """Return the axis along which an operator picks by numbers of places; ``None`` of others, or several."""
    if at.node.op in _BY_PLACE:
        return at.axis()
    axes = at.numbers("axes", 3) if at.node.op == "Slice" else None
    return None if axes is None or len(axes) != 1 else int(axes[0]) % len(at.shape_of(0))


_BY_PLACE = {"Gather", "GatherElements"}


def is_table(at: ForwardNode) -> bool:
    """Tell whether a node looks one of several constants up, such as a name, by a number that is computed."""
    if at.node.op not in _LOOKS_UP:
        return False
    table, index = (each.name for each in at.node.inputs[:2])
    if table not in at.model.constants or index in at.model.constants:
        return False
    sizes = at.model.type_of(table).shape
    return sizes is not None and sum(size != 1 for size in sizes) <= 1


def is_palette(at: ForwardNode) -> bool:
    """Tell whether a node looks up the colour of each class: three or four numbers."""
    if at.node.op not in _LOOKS_UP - {"GatherElements"} or at.node.inputs[1].name in at.model.constants:
        return False
    table = at.node.inputs[0].name
    sizes = at.model.type_of(table).shape if table in at.model.constants else None
    first = at.node.op != "Gather" or at.axis() == 0
    return first and sizes is not None and len(sizes) == 2 and sizes[1] in _COLOURS  # noqa: PLR2004


_COLOURS = (3, 4)
_LOOKS_UP = {"Gather", "GatherElements", "GatherND", "ArrayFeatureExtractor"}


def placed_from(at: ForwardNode) -> int | None:
    """Return the number of the input that an operator places among other numbers; ``None`` of others."""
    return _PLACED.get(at.node.op)


_PLACED = {"Pad": 0, "ScatterElements": 2, "ScatterND": 2}


def written_over(at: ForwardNode) -> tuple[int, list[int]] | None:
    """Return the axis along which an operator writes over some places alone, and these places.

    ``None`` of operators that write over none, and where the graph does not tell. Places that only the run
    tells, as those of all images, are taken for all along their axis.
    """
    if at.node.op == "ScatterElements":
        found = {at.axis(): at.constant(1)}
    else:
        found = _written_by_axis(at) if at.node.op == "ScatterND" else {}
    shape = at.shape_of(0)
    told = {axis: np.unique(places) for axis, places in found.items() if places is not None}
    some = [axis for axis, places in told.items() if len(places) != shape[axis]]
    size = shape[some[0]] if len(some) == 1 else None
    return None if size is None else (some[0], sorted({int(k) % size for k in told[some[0]]}))


def _written_by_axis(at: ForwardNode) -> dict[int, NDArray[Any] | None]:
    """Return the places that an operator writes to along each axis; ``None`` where only the run tells."""
    indices, node = at.constant(1), at.model.producers.get(at.node.inputs[1].name)
    if indices is not None:
        return {axis: indices[..., axis] for axis in range(indices.shape[-1])}
    if node is None or node.op != "Concat":
        return {}
    joined = [v.name for v in node.inputs]
    shapes = [at.model.type_of(name).shape or (None,) for name in joined]
    last = ForwardNode(node, at.model).axis() == len(shapes[0]) - 1
    alone = last and all(shape[-1] == 1 for shape in shapes)
    return {axis: _repeated(at, name) for axis, name in enumerate(joined)} if alone else {}


def _repeated(at: ForwardNode, value: str) -> NDArray[Any] | None:
    """Return numbers that a value repeats, in another shape; ``None`` where only the run tells them."""
    while (found := at.model.constant(value)) is None:
        node = at.model.producers.get(value)
        if node is None or node.op not in _REPEATING:
            return None
        value = node.inputs[0].name
    return found


_REPEATING = {"Expand", "Identity", "Reshape", "Unsqueeze"}


def cut_out(at: ForwardNode, value: str) -> tuple[int, int, int] | None:
    """Return the axis, the first place and the one after the last of what a Split gives as a value.

    ``None`` for other operators.

    Raises
    ------
    ValueError
        If a size is only known at run time.
    """
    if at.node.op != "Split":
        return None
    axis, names = at.axis(), [v.name for v in at.node.outputs]
    sizes = [at.shape_of_output(k)[axis] for k in range(len(names))]
    whole = [size for size in sizes[: names.index(value) + 1] if size is not None]
    if len(whole) <= names.index(value):
        raise ValueError(value)
    return axis, sum(whole[:-1]), sum(whole)


def without_singles(names: Names, shape: Shape | None) -> Names:
    """Nothing but a batch runs along an axis of size 1."""
    sizes = shape or (None,) * len(names)
    return tuple(axis & {BATCH} if size == 1 else axis for axis, size in zip(names, sizes, strict=True))
