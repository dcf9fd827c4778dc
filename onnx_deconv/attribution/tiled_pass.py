"""Explain photographs that do not fit into the memory: in tiles up to a value, and whole from there on.

A unit's value and its explanation depend on its receptive field alone. So a block of positions of a value can
be computed on the crop of the image that holds all they see, and what arrives at a tile of pixels can be
computed on the crop that holds all that is seen by the positions that see the tile. Crops begin and end where
the windows of all layers do (:mod:`onnx_deconv.receptive.crops`); each is a multiple smaller than the image,
and all together are larger than it, as they overlap.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, helper

from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.room import bytes_of
from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.class_activation import map_model
from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.imaging import ImageInput, Layout
from onnx_deconv.model import Array, Model, protos
from onnx_deconv.model.canonical import reads
from onnx_deconv.model.head import Head
from onnx_deconv.model.heads import axes_of
from onnx_deconv.receptive import Crop, CropError, CropGrid, ReceptiveField, rasters, receptive_field
from onnx_deconv.runtime import PairSession, Providers, Session, return_freed_memory
from onnx_deconv.semantics import GRADIENT, NO_RULES, Semantics

logger = logging.getLogger(__name__)

_RANK = 4
_SMALLEST = 64
"""Pixels along a tile: where smaller ones would be needed, nearly all is overlap."""

Box = tuple[slice, slice]


class Cut(NamedTuple):
    """A value through which the layer and the scores depend on the image, and where its positions are.

    Attributes
    ----------
    value
        The value.
    above
        The model from there on; the value is its input.
    field, grid
        What its positions see, and the crops that hold it.
    whole
        The model at the images' size.
    """

    value: str
    above: Model
    field: ReceptiveField
    grid: CropGrid
    whole: Model


class TiledPass(Pass):
    """A batch that ran forward in tiles up to a value, and from there on whole.

    Parameters
    ----------
    model
        The user's model.
    feeds
        The batch: images alone.
    layer, semantics, head
        What is explained, how, and the output that gives the scores.
    free
        Bytes that may be taken.
    providers
        What to run on.

    Raises
    ------
    CropError
        If the model cannot be run in tiles, or not in as little memory.
    """

    def __init__(
        self,
        model: Model,
        feeds: Mapping[str, Array],
        layer: str,
        semantics: Semantics,
        head: Head,
        free: int,
        providers: Providers,
    ) -> None:
        layout = _layout(model, semantics)
        ((self._input, self._images),) = feeds.items()
        maps = _feature_maps(model, layer, semantics)
        self._cut = _cut(model, self._images.shape, layout, layer, head, maps)
        self._space = (2, 3) if layout == "NCHW" else (1, 2)
        self._size = tuple(self._images.shape[axis] for axis in self._space)
        self._semantics, signals = semantics, _of_signals(semantics)

        def ready(part: Model, value: str, of: Semantics = signals) -> PairSession:
            pair = compile_pair(part, value, semantics=of, output=head.output)
            return PairSession(pair, providers, low_memory=True)

        self._below = ready(model, self._cut.value)
        self._tiles = self._enough_tiles(free * 3 // 4)
        above = ready(self._cut.above, layer)
        forward = {self._cut.value: self._forward()}
        if bytes_of(above, forward) > free:
            raise CropError("what is above the tiles does not fit either")
        super().__init__(above, layer, forward, axes_of(model, layer))
        self._maps = None if maps is None else _Maps(model, self._cut, maps, self, forward, ready)
        if maps is not None and semantics.cam != "none":
            multiplied = semantics.rules != NO_RULES
            enlarged = map_model(semantics.cam, self._input, self._cut.whole, layout, multiplied=multiplied)
            self._enlarge = Session(enlarged, model.folder, providers, low_memory=True)

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return math.prod(self._tiles)

    def send(self, seed: Array) -> dict[str, Array]:
        """Send a seed back, see :meth:`Pass.send`."""
        if self._maps is None:
            (signal,) = super().send(seed).values()
            return {self._input: self._arrived_everywhere(signal)}
        gradient = self._maps.gradient(seed)
        found = {"gradient": gradient, "activations": self._maps.activations}
        if self._semantics.rules != NO_RULES:
            if self._semantics.head == "class-map":
                signal = self._maps.passed_down(gradient * self._maps.activations)
            else:
                (signal,) = super().send(seed).values()
            found["arrived"] = self._arrived_everywhere(signal)
        if self._semantics.cam == "none":
            return {self._input: found["arrived"]}
        return {self._input: self._enlarge.run_plainly(found)["map"]}

    def _arrived_everywhere(self, signal: Array) -> Array:
        """Return what arrives at the images of what is sent back by the value at which they are cut."""
        found = np.zeros(self._images.shape, np.float32)
        for number, (pixels, seeing) in enumerate(self._boxes_of_pixels(), 1):
            logger.debug("back through tile %d of %d", number, self.tiles)
            found[self._at(pixels)] = self._arrived(signal, pixels, seeing)
            return_freed_memory()
        return found

    def _arrived(self, signal: Array, pixels: Box, seeing: Box) -> Array:
        """Return what arrives at a tile of what is sent back by the positions that see it."""
        crop = self._cut.grid.around(*_ends(seeing))
        run = self._run(crop)
        sent = np.zeros(run.explained.shape, np.float32)
        starts = self._cut.grid.start(self._cut.value, crop)[2:]
        sent[(..., *_moved(seeing, starts))] = signal[(..., *seeing)]
        (arrived,) = run.send(sent).values()
        return arrived[self._at(_moved(pixels, crop.origin))]

    def where_signals_died(self, seed: Array, images: Sequence[int]) -> list[str | None]:
        """Name the last node at which signals became zero: this is not looked for in tiles."""
        return ["some node below" if seed[image].any() else None for image in images]

    def why_not_finite(self, seed: Array) -> str:
        """Say what made values infinite or NaN: this is not looked for in tiles."""
        del seed
        return "in some tile"

    def _enough_tiles(self, most: int) -> tuple[int, int]:
        """Divide the image until a tile fits into so many bytes."""
        counts = [1, 1]
        while True:
            self._tiles = counts[0], counts[1]
            crops = [self._cut.grid.around(*_ends(seeing)) for _, seeing in self._boxes_of_pixels()]
            largest = max(crops, key=lambda crop: math.prod(crop.size))
            if bytes_of(self._below, {self._input: self._images[self._at(_box(largest))]}) <= most:
                return self._tiles
            lengths = [size / count for size, count in zip(self._size, counts, strict=True)]
            if max(lengths) / 2 < _SMALLEST:
                raise CropError("not even a small tile fits")
            counts[int(np.argmax(lengths))] *= 2

    def _forward(self) -> Array:
        """Return the value at which the image is cut, of the whole image."""
        whole: Array | None = None
        positions = [len(bounds) for bounds in self._cut.field.bounds]
        for number, block in enumerate(_boxes(positions, self._tiles), 1):
            logger.debug("forward through tile %d of %d", number, self.tiles)
            crop = self._cut.grid.around(*_ends(block))
            found = self._run(crop).explained
            if whole is None:
                whole = np.empty((*found.shape[:2], *positions), found.dtype)
            starts = self._cut.grid.start(self._cut.value, crop)[2:]
            whole[(..., *block)] = found[(..., *_moved(block, starts))]
            return_freed_memory()
        assert whole is not None  # noqa: S101  (there is at least one block)
        return whole

    def _run(self, crop: Crop) -> Pass:
        images = np.ascontiguousarray(self._images[self._at(_box(crop))])
        run = Pass(self._below, self._cut.value, {self._input: images})
        wanted = self._cut.grid.shape(self._cut.value, crop)[2:]
        if list(run.explained.shape[2:]) != wanted:
            raise CropError(f"{self._cut.value!r} has another size on a tile than follows from the tile's")
        return run

    def _boxes_of_pixels(self) -> Iterator[tuple[Box, Box]]:
        """Yield tiles of pixels, with the positions that see some of each."""
        for pixels in _boxes(self._size, self._tiles):
            seeing = [
                np.flatnonzero((bounds[:, 1] > part.start) & (bounds[:, 0] < part.stop))
                for part, bounds in zip(pixels, self._cut.field.bounds, strict=True)
            ]
            if all(map(len, seeing)):
                rows, columns = (slice(int(each[0]), int(each[-1]) + 1) for each in seeing)
                yield pixels, (rows, columns)

    def _at(self, box: Box) -> tuple[slice, ...]:
        """Index an array shaped as the images."""
        parts = [slice(None)] * _RANK
        for axis, part in zip(self._space, box, strict=True):
            parts[axis] = part
        return tuple(parts)


class _Maps:
    """The feature maps that class activation maps and class maps are made of, whole.

    Attributes
    ----------
    activations
        The feature maps, shape (N, C, ...).
    """

    def __init__(
        self,
        model: Model,
        cut: Cut,
        maps: str,
        above: Pass,
        forward: Mapping[str, Array],
        ready: Callable[..., PairSession],
    ) -> None:
        self._between = None if maps == cut.value else Pass(ready(cut.above, maps), maps, forward)
        self.activations = forward[maps] if self._between is None else self._between.explained
        wanted = list(dict.fromkeys([above.layer, *cut.above.outputs]))
        top = cut.above if self._between is None else _above(model, maps, wanted)
        semantics = replace(GRADIENT, unpool=above.pair.pair.manifest["semantics"]["unpool"])
        self._top = Pass(
            ready(top, above.layer, semantics), above.layer, {maps: self.activations}, above.axes
        )

    def gradient(self, seed: Array) -> Array:
        """Return the gradient of what a seed stands for at the feature maps."""
        (found,) = self._top.send(seed).values()
        return found

    def passed_down(self, signal: Array) -> Array:
        """Send a signal from the feature maps to where the images are cut."""
        if self._between is None:
            return signal
        (found,) = self._between.send(signal).values()
        return found


def _of_signals(semantics: Semantics) -> Semantics:
    """Leave out what feature maps as they are add: signals pass through all layers by the same rules."""
    rules = semantics.table.name
    return replace(semantics, rules=rules, cam="none", head="signal", cam_layer=None)


def _feature_maps(model: Model, layer: str, semantics: Semantics) -> str | None:
    """Name the feature maps that take part as they are, if any do.

    Raises
    ------
    CropError
        If there are two, or their axes are in another order than channels first.
    """
    if not semantics.reads_feature_maps:
        return None
    walk = Walk(model, layer, semantics)
    found = [maps for maps in (walk.cam_maps, walk.last_maps) if maps is not None]
    if len(set(found)) > 1 or not axes_of(model, found[0]).usual:
        raise CropError("class activation maps of these feature maps are not computed in tiles")
    return found[0]


def _layout(model: Model, semantics: Semantics) -> Layout:
    """Return the layout of the images.

    Raises
    ------
    CropError
        If the model takes something else, or the method is of the whole image.
    """
    if semantics.table.conserves:
        raise CropError(f"{semantics.method} is not computed in tiles; deconvnet, guided and gradient are")
    if len(model.inputs) > 1:
        raise CropError("a model of several inputs is not run in tiles")
    try:
        return ImageInput.of(model).layout
    except CropError:
        raise
    except InputError as why:
        raise CropError("it takes no images, which alone are divided into tiles") from why


def _boxes(sizes: Sequence[int], counts: Sequence[int]) -> Iterator[Box]:
    """Divide a plane, along each of its axes into a number of parts."""
    edges = [
        sorted({round(size * k / count) for k in range(count + 1)})
        for size, count in zip(sizes, counts, strict=True)
    ]
    for (top, bottom), (left, right) in product(*map(pairwise, edges)):
        yield slice(top, bottom), slice(left, right)


def _box(crop: Crop) -> Box:
    (top, left), (height, width) = crop
    return slice(top, top + height), slice(left, left + width)


def _moved(box: Box, by: Sequence[int]) -> Box:
    rows, columns = (slice(p.start - n, p.stop - n) for p, n in zip(box, by, strict=True))
    return rows, columns


def _ends(box: Box) -> tuple[list[int], list[int]]:
    """Return a box's first position and its last."""
    return [part.start for part in box], [part.stop - 1 for part in box]


def _cut(model: Model, shape: Sequence[int], layout: Layout, layer: str, head: Head, maps: str | None) -> Cut:
    """Find the last value that all that is asked for depends on the image through, and that tiles give.

    It is not above the feature maps that take part as they are.

    Raises
    ------
    CropError
        If there is none.
    """
    (name,) = model.inputs
    size = shape[2:] if layout == "NCHW" else shape[1:3]
    whole = Model(model.proto, model.files, model.name, {name: shape})
    spread = rasters(whole, layout=layout)
    wanted = list(dict.fromkeys([layer, head.output]))
    for value in reversed([v for v in _upstream(whole, maps or layer) if v != layer]):
        if value not in spread or len(whole.type_of(value).shape or ()) != _RANK:
            continue
        try:
            below = {v: spread[v] for v in [*_upstream(whole, value), name] if v in spread}
            field = receptive_field(whole, value, layout=layout)
            if field.axes != (0, 1):
                continue
            shapes = {v: [d or 1 for d in whole.type_of(v).shape or ()] for v in below}
            grid = CropGrid(field, below, shapes, (size[0], size[1]))
            return Cut(value, _above(model, value, wanted), field, grid, whole)
        except DeconvError:
            continue
    raise CropError("no layer below it sees only a part of the image, or the size of the image is fixed")


def _upstream(model: Model, value: str) -> list[str]:
    """List the values that one is made of, in the graph's order, itself the last."""
    needed = {value}
    for node in reversed(model.nodes):
        if needed.intersection(v.name for v in node.outputs):
            needed.update(v.name for v in node.inputs)
    return [v.name for node in model.nodes for v in node.outputs if v.name in needed]


def _above(model: Model, value: str, wanted: Sequence[str]) -> Model:
    """Return what makes the wanted values of one, as a model that takes it.

    Raises
    ------
    InputError
        If they depend on the image in other ways too.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    graph, needed, kept = proto.graph, set[str](), set[int]()
    producers = {output: k for k, node in enumerate(graph.node) for output in node.output}
    waiting = list(wanted)
    while waiting:  # some files list their nodes in any order
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name != value and name in producers:
                kept.add(producers[name])
                waiting += reads(graph.node[producers[name]])
    if needed.intersection(model.inputs) or value not in needed:
        raise InputError(f"{value!r} is not all that is read of the image")
    protos.replace(graph.node, [graph.node[k] for k in sorted(kept)])
    protos.replace(graph.initializer, [t for t in graph.initializer if t.name in needed])
    del graph.value_info[:]
    batch, channels, *_ = model.type_of(value).shape or ()
    dtype = model.type_of(value).dtype or onnx.TensorProto.FLOAT
    shape = [batch or "N", channels, "H", "W"]
    protos.replace(graph.input, [helper.make_tensor_value_info(value, dtype, shape)])
    protos.replace(
        graph.output, [helper.make_tensor_value_info(v, model.type_of(v).dtype or 1, None) for v in wanted]
    )
    return Model(proto, model.files, model.name)
