"""From photographs to pictures of what excited a unit: what ``explain`` does, without the command line."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from onnx_deconv.attribution.explainer import Explainer, Explanation
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    Channels,
    Geometry,
    Layout,
    PathLike,
    Picture,
    Preprocess,
    Size,
    at_height,
    montage,
    preprocess_from_metadata,
    preset,
    read_image,
    render,
)
from onnx_deconv.model import Array, Model
from onnx_deconv.operators import Shape

VIEWS = ("projection", "heat", "overlay", "side-by-side")
"""``projection``: the reconstruction in the model's own pixels, zero mid-grey. ``heat``, ``overlay``: its
saliency, alone and laid over the photograph, both of the photograph's size. ``side-by-side``: all on one
sheet, cropped to what the model sees."""

PERCENTILE = 99.5
"""Of a projection's magnitudes: what is shown at full brightness."""

_DEFAULT_SIZE = 224
_SHEET_HEIGHT, _SHEET_WIDTH, _TALLEST = 320, 640, 720
"""Of one picture on the sheet, in pixels: at least, at most, and what a larger input is reduced to."""
_WIDE, _VERY_WIDE = 1.5, 3
_MOST_PIXELS = 1 << 26
_LETTERS: Mapping[int, Channels] = {1: "L", 3: "RGB", 4: "RGBA"}
_CHANNEL = "DATA_CHANNEL"


# What the model takes


@dataclass(frozen=True)
class ImageInput:
    """The model's only input, which takes pictures.

    Attributes
    ----------
    name
        Its name.
    layout
        Where its channels are.
    batch, channels, size
        How many images at once, how many channels, (height, width); ``None`` where any number will do.
    dtype
        NumPy's name of its element type.
    """

    name: str
    layout: Layout
    batch: int | None
    channels: int | None
    size: tuple[int | None, int | None]
    dtype: str

    @classmethod
    def of(cls, model: Model, layout: Layout | None = None) -> "ImageInput":
        """Find out what pictures a model takes.

        The layout is the one given, else the one that the input's denotations tell
        (``DATA_CHANNEL``), else channels last where that axis has 1, 3 or 4 of them and the second
        has not, else channels first.

        Raises
        ------
        InputError
            If it takes anything but one batch of pictures.
        """
        if len(model.inputs) != 1:
            names = ", ".join(model.inputs)
            raise InputError(f"the model has inputs {names}: from Python, Explainer takes a dict of arrays")
        (name,) = model.inputs
        types = model.type_of(name)
        if types.shape is None:
            raise InputError(
                f"the shape of input {name!r} is unknown; give it, as in --input-shape {name}:1,3,224,224"
            )
        if len(types.shape) != len("NCHW"):
            raise InputError(
                f"input {name!r} has shape {types}, which is no batch of pictures: "
                "from Python, Explainer takes any array"
            )
        layout = layout or _layout(types.shape, _denotations(model, name))
        batch, *rest = types.shape
        channels, *size = rest if layout == "NCHW" else (rest[2], rest[0], rest[1])
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(types.dtype)).name
        return cls(name, layout, batch, channels, (size[0], size[1]), dtype)

    def letters(self, colours: Channels) -> Channels:
        """Name the input's channels, given what three of them would be."""
        if self.channels is None or self.channels == len(colours):
            return colours
        if self.channels not in _LETTERS:
            raise InputError(f"input {self.name!r} has {self.channels} channels: no picture has")
        if colours == "BGR" and self.channels == len("BGRA"):
            return "BGRA"
        return _LETTERS[self.channels]


def _layout(shape: Shape, denotations: Sequence[str]) -> Layout:
    if _CHANNEL in denotations:
        return "NCHW" if denotations.index(_CHANNEL) == 1 else "NHWC"
    return "NHWC" if shape[3] in _LETTERS and shape[1] not in _LETTERS else "NCHW"


def _denotations(model: Model, name: str) -> list[str]:
    (info,) = (i for i in model.proto.graph.input if i.name == name)
    return [d.denotation for d in info.type.tensor_type.shape.dim]


def preprocess_for(
    model: Model, chosen: str | None = None, layout: Layout | None = None, **changes: Any
) -> tuple[Preprocess, str | None]:
    """Decide how a photograph becomes the model's input.

    What is given here comes first, then what the model's metadata say, then the preset ``imagenet``
    (for an input of integers ``raw``). The input's own sizes and number of channels hold in any case.

    Parameters
    ----------
    model
        The model.
    chosen
        One of :data:`onnx_deconv.imaging.PRESETS`, which then replaces what the metadata say.
    layout
        The input's, where it cannot be seen from its shape.
    **changes
        Attributes of :class:`~onnx_deconv.imaging.Preprocess`.

    Returns
    -------
    preprocess : Preprocess
    assumed : str or None
        The preset that was taken because nothing tells how pixels become numbers; else ``None``.

    Raises
    ------
    InputError
        If the model takes no pictures, or the values contradict each other.
    """
    takes = ImageInput.of(model, layout)
    fallback = "imagenet" if np.dtype(takes.dtype).kind == "f" else "raw"
    base = preset(chosen or fallback)
    size = _filled(takes.size, base.size)
    base = base.replace(size=size, layout=takes.layout, dtype=takes.dtype)
    base = base.replace(channels=takes.letters(base.channels))
    if chosen is None:
        base = preprocess_from_metadata(model.metadata, base)
        base = base.replace(channels=takes.letters(base.channels), size=_filled(takes.size, base.size))
    told = {"preset", "Image.NominalPixelRange"} & set(model.metadata) or {"mean", "std", "scale"} & set(
        changes
    )
    assumed = None if chosen or told else fallback
    return base.replace(**changes), assumed


def _filled(size: tuple[int | None, int | None], otherwise: Size | None) -> Size:
    height, width = otherwise or (_DEFAULT_SIZE, _DEFAULT_SIZE)
    return size[0] or height, size[1] or width


def random_feeds(
    model: Model, rng: np.random.Generator, preprocess: Preprocess | None = None
) -> dict[str, Array]:
    """Make up one batch of inputs: coarse coloured noise for pictures, normal numbers for the rest.

    Parameters
    ----------
    model
        The model.
    rng
        Where the numbers come from.
    preprocess
        How pictures become numbers; by default as :func:`preprocess_for` decides.

    Returns
    -------
    dict
        One array per input.

    Raises
    ------
    InputError
        If a shape is not known well enough.
    """
    try:
        takes = ImageInput.of(model)
        preprocess = preprocess or preprocess_for(model)[0]
    except InputError:
        return {name: _random(model, name, rng) for name in model.inputs}
    height, width = preprocess.size or _filled(takes.size, None)
    blocks = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    coarse = blocks.repeat(4, 0).repeat(4, 1)[:height, :width] // 2
    # Flat blocks alone would make ties in every pool, where no derivative exists.
    noise = coarse + rng.integers(0, 128, coarse.shape, np.uint8)
    return {takes.name: np.repeat(preprocess.normalise(noise)[None], takes.batch or 1, 0)}


def _random(model: Model, name: str, rng: np.random.Generator) -> Array:
    types = model.type_of(name)
    if types.shape is None or None in types.shape[1:]:
        raise InputError(f"input {name!r} has shape {types}: give its sizes with --input-shape")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(types.dtype))
    numbers = rng.standard_normal([d or 1 for d in types.shape])
    return (numbers if dtype.kind == "f" else np.zeros_like(numbers)).astype(dtype)


# Explaining


@dataclass(frozen=True)
class Target:
    """What to explain in each photograph.

    Attributes
    ----------
    targets
        Classes or channels, by index or label; empty for the ``top`` strongest.
    layer, position, top, seed
        As for :meth:`onnx_deconv.attribution.explainer.Explainer.__call__`.
    """

    targets: Sequence[int | str] = ()
    layer: str | None = None
    position: Sequence[int] | None = None
    top: int = 1
    seed: SeedKind = "auto"


@dataclass(frozen=True)
class Photo:
    """A photograph, and what the model gets to see of it.

    Attributes
    ----------
    picture
        H×W×3, uint8, RGB.
    tensor
        One image as the model takes it.
    geometry
        Where the photograph lies in it.
    """

    picture: Picture
    tensor: Array
    geometry: Geometry

    @classmethod
    def read(cls, path: PathLike, preprocess: Preprocess) -> "Photo":
        """Read and prepare a photograph.

        Raises
        ------
        InputError
            If it cannot be read, or does not fit.
        """
        picture = read_image(path)
        return cls(picture, *preprocess.apply(picture))


def explain_photos(explainer: Explainer, photos: Sequence[Photo], target: Target) -> list[list[Explanation]]:
    """Explain photographs of one size together.

    Parameters
    ----------
    explainer
        For the model.
    photos
        No more than the model takes at once; where that number is fixed, fewer will do.
    target
        What to explain.

    Returns
    -------
    list
        For each photograph its explanations, in the order asked for or strongest first.

    Raises
    ------
    InputError
        If the target or a photograph does not fit the model.
    """
    missing = max(0, (explainer.model.batch or 0) - len(photos))
    batch = np.stack([p.tensor for p in photos] + [photos[-1].tensor] * missing)
    found: list[list[Explanation]] = [[] for _ in range(len(photos) + missing)]
    asked: Sequence[int | str | None] = target.targets or [None]
    how: dict[str, Any] = {"layer": target.layer, "position": target.position, "seed": target.seed}
    for each in asked:
        for one in explainer(batch, each, top=1 if target.targets else target.top, **how):
            found[one.image].append(one)
    return found[: len(photos)]


# Pictures


def planes(reconstruction: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """Return a reconstruction with its channels first."""
    return reconstruction if layout == "NCHW" else reconstruction.transpose(2, 0, 1)


def draw(
    photo: Photo,
    reconstruction: npt.NDArray[Any],
    preprocess: Preprocess,
    wanted: Sequence[str] = VIEWS,
    captions: Sequence[str] = ("photograph", "projection", "saliency", "overlay"),
    box: Sequence[int] | None = None,
) -> dict[str, Picture]:
    """Draw the views of one reconstruction.

    Parameters
    ----------
    photo
        The photograph.
    reconstruction
        As the model takes images (``preprocess.layout``), finite.
    preprocess
        How the photograph became the model's input.
    wanted
        Some of :data:`VIEWS`.
    captions
        One for each picture of the sheet: photograph, projection, saliency, overlay.
    box
        What to outline in the sheet's photograph: (y0, x0, y1, x1) in pixels of the model's input, as
        a receptive field tells.

    Returns
    -------
    dict
        The pictures by view.

    Raises
    ------
    InputError
        If the reconstruction has numbers that are not finite.
    """
    values = planes(reconstruction, preprocess.layout)
    salient = render.saliency(values)
    projection = render.projection(values, percentile=PERCENTILE, channels=preprocess.channels)
    makers = {
        "projection": lambda: projection,
        "heat": lambda: render.heat_map(photo.geometry.to_photo(salient)),
        "overlay": lambda: render.overlay(photo.picture, photo.geometry.to_photo(salient)),
        "side-by-side": lambda: _sheet(photo, projection, salient, captions, box),
    }
    return {view: makers[view]() for view in wanted}


def _sheet(
    photo: Photo,
    projection: Picture,
    salient: render.Saliency,
    captions: Sequence[str],
    box: Sequence[int] | None,
) -> Picture:
    """Lay the four pictures out, enlarged by a whole number: pixels of the model stay square and equal."""
    height, width = photo.geometry.size
    view, times = closer_view(photo)
    grid = Geometry((height * times, width * times), (height, width), (height, width), (0, 0))
    shown = min(height * times, _TALLEST)
    pictures = [
        at_height(picture, shown)
        for picture in (
            view if box is None else render.outlined(view, [times * edge for edge in box]),
            at_height(projection, height * times),
            at_height(render.heat_map(salient), height * times),
            render.overlay(view, grid.to_photo(salient)),
        )
    ]
    ratio = width / height
    columns = 4 if ratio <= _WIDE else 2 if ratio <= _VERY_WIDE else 1
    return montage(pictures, columns, captions)


def closer_view(photo: Photo) -> tuple[Picture, int]:
    """Show what the model sees of a photograph, in more of the photograph's pixels.

    Returns
    -------
    view : numpy.ndarray
        H×W×3, uint8: the model's input, enlarged to be looked at.
    times : int
        How many of its pixels make one of the input's, along each axis.
    """
    height, width = photo.geometry.size
    times = max(1, min(math.ceil(_SHEET_HEIGHT / height), _SHEET_WIDTH // width))
    if math.prod(photo.geometry.resized) * times**2 > _MOST_PIXELS:  # of a very long photograph
        times = 1
    return _enlarged(photo.geometry, times).view(photo.picture), times


def _enlarged(geometry: Geometry, times: int) -> Geometry:
    """Return the same geometry on a finer grid: what the model sees, in more of the photograph's pixels."""

    def finer(pair: Size) -> Size:
        return times * pair[0], times * pair[1]

    size, resized, offset = map(finer, (geometry.size, geometry.resized, geometry.offset))
    return dataclasses.replace(geometry, size=size, resized=resized, offset=offset)
