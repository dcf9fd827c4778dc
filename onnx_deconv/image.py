"""Photographs into arrays, arrays into files; the only module that imports Pillow.

The way in: :func:`read_image` makes any picture file an RGB array, :class:`Preprocess` makes that
array a model's input, and the :class:`Geometry` it returns knows where in the photograph the input
lies, so that a reconstruction can be put back on it. The way out: :func:`montage`,
:func:`save_png`, :func:`save_npy`.

Sizes are (height, width) everywhere; a *picture* is a uint8 array H×W×3, RGB, 0..255.
"""

import dataclasses
import difflib
import io
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing

Picture = npt.NDArray[np.uint8]
"""H×W×3, RGB, 0..255."""
PathLike = str | os.PathLike[str]
Size = tuple[int, int]
"""(height, width)"""

Fit = Literal["crop", "stretch", "pad", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Channels = Literal["RGB", "BGR", "L", "RGBA", "BGRA"]
Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["float32", "float16", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64"]

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
"""What counts as a picture in a folder; a file that is named may have any."""

_FILTERS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_SMALLEST, _LARGEST = 12, 20
_LINE_HEIGHT = 1.5
_CELL_TO_TEXT = 16
"""Text is this many times lower than the cell above it is wide, within the sizes above, in pixels."""


# Reading


def read_image(path: PathLike | BinaryIO) -> Picture:
    """Read a picture of any format, mode and bit depth that Pillow knows.

    EXIF orientation is applied; transparent pixels are laid over white; of an animation the first
    frame is taken. 16-bit greys span 0..65535. Floating point greys span 0..1, 0..255 or 0..65535,
    the first that holds them all, and otherwise 0 to their maximum. Colour profiles are not
    applied, as they are not in the pipelines that train models.

    Parameters
    ----------
    path
        The picture file, or a file that is open (its ``name`` is what messages call it).

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        The file is missing, a folder, not a picture, damaged, or has more pixels than Pillow's
        limit against decompression bombs (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block does no harm to the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return np.array(_rgb(ImageOps.exif_transpose(picture)))
    except Exception as error:
        # Pillow's plugins raise nearly anything on a damaged file: SyntaxError, struct.error, ...
        name = (
            os.fspath(path) if isinstance(path, str | os.PathLike) else str(getattr(path, "name", "a file"))
        )
        raise InputError(f"{name}: {_why_unreadable(name, error)}") from error


def _why_unreadable(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such file; check the path of the picture"
        case _ if Path(path).is_dir():
            return "is a folder; give one picture"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
            return f"has more than {limit}, the limit against decompression bombs; make it smaller"
        case UnidentifiedImageError():
            return "not a picture in a format that Pillow reads; convert it to PNG or JPEG"
        case PermissionError():
            return "permission to read it is denied; change its access rights"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded ({reason}); save it again as PNG or JPEG"


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        picture = Image.fromarray(_eight_bit(np.asarray(picture), whites=(65535,)))
    elif picture.mode == "F":
        picture = Image.fromarray(_eight_bit(np.asarray(picture), whites=(1, 255, 65535)))
    elif picture.mode == "La":  # premultiplied by alpha: Pillow converts it to LA alone
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _eight_bit(values: npt.NDArray[Any], whites: Sequence[float]) -> Picture:
    """Greys to 0..255: white is the first of `whites` that no value exceeds, or the maximum."""
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are infinite or not a number")
    peak = float(values.max())
    white = next((white for white in whites if peak <= white), peak)
    return np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8)


# Pictures and sizes


def _follow(values: tuple[float, ...], old: str, new: str, *, alpha: float) -> tuple[float, ...]:
    """Reorder one value per channel of `old` for the channels of `new`."""
    if len(values) == 1:
        return values
    by_letter = dict(zip(old, values, strict=True))
    by_letter["L"] = sum(by_letter[letter] for letter in "RGB") / 3
    return tuple(by_letter.get(letter, alpha) for letter in new)


def _plane(view: Picture, letter: str) -> Picture:
    """One channel of a picture: R, G, B, L (its luma) or A (opaque)."""
    if letter == "A":
        return np.full(view.shape[:2], 255, np.uint8)
    if letter == "L":
        return np.asarray(Image.fromarray(view).convert("L"))
    return view[..., "RGB".index(letter)]


def _resized(picture: Image.Image, size: Size, interpolation: Interpolation) -> Image.Image:
    return picture.resize((size[1], size[0]), _FILTERS[interpolation])


def _by(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _check_size(what: str, size: Sequence[int], wanted: Size, way_out: str = "give one of that size") -> None:
    if tuple(size) != tuple(wanted):
        raise InputError(f"the {what} is {_by(size)} but {_by(wanted)} is expected: {way_out}")


def check_picture(picture: npt.NDArray[Any], *, grey: bool = False) -> None:
    """Make sure that an array is a picture.

    Parameters
    ----------
    picture
        What should be H×W×3, uint8, with at least one pixel.
    grey
        Whether H×W will do too.

    Raises
    ------
    InputError
        It is not.
    """
    axes = ((3,), ()) if grey else ((3,),)
    if picture.dtype != np.uint8 or picture.ndim < len("HW") or picture.shape[2:] not in axes:
        raise InputError(
            f"a picture is a uint8 array H×W×3, this is {picture.dtype} {_by(picture.shape)}: "
            "read it with read_image"
        )
    if not picture.size:
        raise InputError("the picture has no pixels: give another")


# From a photograph to a model's input, and back


@dataclass(frozen=True)
class Geometry:
    """Where a photograph lies in a model's input.

    The photograph is resized to ``resized`` and laid so that its top left corner is at ``offset``
    of an input of ``size``: what sticks out is cropped, what stays bare is padding.

    Attributes
    ----------
    photo
        (H, W) of the photograph.
    size
        (h, w) of the model's input.
    resized
        (height, width) of the whole photograph on the input's grid.
    offset
        (top, left) in pixels of the input; negative where the photograph is cropped.
    interpolation
        How the photograph is resized.
    fill
        Grey value, 0..255, of the padding.
    """

    photo: Size
    size: Size
    resized: Size
    offset: Size
    interpolation: Interpolation = "bilinear"
    fill: int = 114

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) of what the input shows, in pixels of the photograph."""
        (top, bottom), (left, right) = self._in_photo(0), self._in_photo(1)
        return top, left, bottom, right

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right): rows and columns of the input that show no photograph."""
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        return top, left, self.size[0] - bottom, self.size[1] - right

    def view(self, photo: Picture) -> Picture:
        """Show the part of the photograph that the model sees, before normalisation.

        Parameters
        ----------
        photo
            H×W×3, uint8, of the size this geometry was made for.

        Returns
        -------
        numpy.ndarray
            h×w×3, uint8, RGB, padding included. In colour, also where the model sees greys.

        Raises
        ------
        InputError
            The array is no picture or has another size.
        """
        check_picture(photo)
        _check_size("photograph", photo.shape[:2], self.photo)
        resized = np.asarray(_resized(Image.fromarray(photo), self.resized, self.interpolation))
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        y, x = self.offset
        view = np.full((*self.size, 3), self.fill, np.uint8)
        view[top:bottom, left:right] = resized[top - y : bottom - y, left - x : right - x]
        return view

    def to_photo(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Put a map from the model's input back on the photograph.

        Values are interpolated linearly (and averaged where the photograph is the coarser of the
        two); those that lie in the padding take no part.

        Parameters
        ----------
        values
            h×w: one number per pixel of the model's input.

        Returns
        -------
        numpy.ndarray
            H×W, float32; 0 at each pixel of the photograph whose centre the input does not show.

        Raises
        ------
        InputError
            The map has another size than the model's input.
        """
        _check_size("map", values.shape, self.size)
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        y, x = self.offset
        shown = values[top:bottom, left:right].astype(np.float32)
        margins = (
            (top - y, self.resized[0] - (bottom - y)),
            (left - x, self.resized[1] - (right - x)),
        )
        whole = Image.fromarray(np.pad(shown, margins, mode="edge"))
        photo = np.array(_resized(whole, self.photo, "bilinear"))
        seen = self._seen(0)[:, None] & self._seen(1)
        return np.where(seen, photo, np.float32(0))

    def _in_input(self, axis: int) -> tuple[int, int]:
        """(start, stop) of the rows (0) or columns (1) of the input that show the photograph."""
        offset = self.offset[axis]
        return max(0, offset), min(self.size[axis], offset + self.resized[axis])

    def _in_photo(self, axis: int) -> tuple[float, float]:
        """(start, stop) of what the input shows, in pixels of the photograph."""
        photo, resized, offset = self.photo[axis], self.resized[axis], self.offset[axis]
        start, stop = ((edge - offset) * photo / resized for edge in self._in_input(axis))
        return start, stop

    def _seen(self, axis: int) -> npt.NDArray[np.bool_]:
        """Which rows (0) or columns (1) of the photograph have a centre that the input shows."""
        start, stop = self._in_photo(axis)
        centres = np.arange(self.photo[axis]) + 0.5
        return (centres >= start) & (centres < stop)


@dataclass(frozen=True)
class Preprocess:
    """Everything that turns an RGB photograph into one input of a model.

    The photograph is brought to `size`, its channels are ordered, and each pixel p becomes
    ``(p * scale - mean) / std``. Integer inputs are rounded and kept within their range.

    Attributes
    ----------
    size
        (h, w) of the input; ``None`` takes each photograph in its own size.
    fit
        How the photograph is brought to `size`. ``"crop"``: the shorter side is resized to
        `resize`, then the centre is cropped, as torchvision does; ``"stretch"``: resized, without
        regard to proportions; ``"pad"``: resized to fit inside, the rest filled with `fill`
        (letterbox); ``"none"``: as it is, which must be `size`.
    resize
        Length of the shorter side before the centre is cropped, at least the longer of `size`.
        ``None`` stands for 256/224 of what the crop needs: 256 for 224×224, 342 for 299×299.
    interpolation
        How pixels are interpolated, always with antialiasing as in Pillow.
    fill
        Grey value of the padding, 0..255.
    channels
        The planes of the input, in order: red, green, blue, alpha (opaque), or L, the luma
        (ITU-R 601).
    scale
        Factor that pixels 0..255 are multiplied with, before `mean` and `std`.
    mean, std
        One value for all channels, or one per channel in the order of `channels`.
    layout
        ``"NCHW"`` or ``"NHWC"``.
    dtype
        NumPy's name of the input's element type: ``"float32"``, ``"uint8"``, ...

    Raises
    ------
    InputError
        A value is out of its range, or the values contradict each other.
    """

    size: Size | None = (224, 224)
    fit: Fit = "crop"
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    fill: int = 114
    channels: Channels = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_sizes()
        self._check_numbers()

    def replace(self, **changes: Any) -> "Preprocess":
        """Return a copy with some attributes changed.

        Where `channels` changes and the statistics do not, they follow the colours: reversed from
        RGB to BGR, averaged for one channel, 0 and 1 for an alpha channel.

        Parameters
        ----------
        **changes
            Attributes of this class.

        Raises
        ------
        InputError
            The result is invalid.
        """
        channels = changes.get("channels", self.channels)
        if channels != self.channels:
            changes.setdefault("mean", _follow(self.mean, self.channels, channels, alpha=0.0))
            changes.setdefault("std", _follow(self.std, self.channels, channels, alpha=1.0))
        return dataclasses.replace(self, **changes)

    def apply(self, photo: Picture) -> tuple[npt.NDArray[Any], Geometry]:
        """Make the photograph an input of the model.

        Parameters
        ----------
        photo
            H×W×3, uint8, RGB.

        Returns
        -------
        tensor : numpy.ndarray
            C×h×w or h×w×C by `layout`, of `dtype`; one image, no batch axis.
        geometry : Geometry
            Where the photograph lies in the input.

        Raises
        ------
        InputError
            The array is no picture, or its size does not fit.
        """
        check_picture(photo)
        geometry = self.geometry((photo.shape[0], photo.shape[1]))
        return self.normalise(geometry.view(photo)), geometry

    def normalise(self, view: Picture) -> npt.NDArray[Any]:
        """Turn pixels that have the input's size already into the numbers that the model expects.

        Parameters
        ----------
        view
            h×w×3, uint8, RGB: what :meth:`Geometry.view` returns.

        Returns
        -------
        numpy.ndarray
            C×h×w or h×w×C by `layout`, of `dtype`.

        Raises
        ------
        InputError
            The array is no picture.
        """
        check_picture(view)
        dtype = np.dtype(self.dtype)
        wide = np.result_type(dtype, np.float32)
        pixels = np.stack([_plane(view, letter) for letter in self.channels], axis=-1, dtype=wide)
        mean, std = np.array(self.mean, wide), np.array(self.std, wide)
        tensor = (pixels * wide.type(self.scale) - mean) / std
        if dtype.kind != "f":
            tensor = np.clip(np.rint(tensor), np.iinfo(dtype).min, np.iinfo(dtype).max)
        if self.layout == "NCHW":
            tensor = tensor.transpose(2, 0, 1)
        return np.ascontiguousarray(tensor, dtype)

    def geometry(self, photo: Size) -> Geometry:
        """Say where a photograph of a given size lies in the input.

        Parameters
        ----------
        photo
            (H, W) of the photograph.

        Raises
        ------
        InputError
            `fit` is ``"none"`` and the sizes differ, or the photograph is so long that resizing its
            shorter side takes it past Pillow's limit of pixels.
        """
        size = self.size or photo
        if self.fit == "none":
            _check_size("photograph", photo, size, "give one of that size, or fit crop, stretch or pad")
        resized = self._resized(photo, size)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and math.prod(resized) > limit:
            raise InputError(
                f"a photograph of {_by(photo)} would be resized to {_by(resized)}, "
                f"more than {limit:,} pixels: try fit pad or stretch, or a smaller size"
            )
        place = round if self.fit == "crop" else math.floor  # as torchvision, as letterboxes
        top, left = (place((outer - inner) / 2) for outer, inner in zip(size, resized, strict=True))
        return Geometry(photo, size, resized, (top, left), self.interpolation, self.fill)

    def _resized(self, photo: Size, size: Size) -> Size:
        """Size of the whole photograph on the input's grid."""
        if self.size is None or self.fit in ("stretch", "none"):
            return size
        ratios = [inner / outer for inner, outer in zip(size, photo, strict=True)]
        if self.fit == "pad":
            height, width = (max(1, round(side * min(ratios))) for side in photo)
            return height, width
        short = min(photo)
        to = self.resize or round(short * max(ratios) * 256 / 224)
        # torchvision rounds the longer side down; a crop that is not square may lack a pixel then.
        height, width = (max(to * side // short, need) for side, need in zip(photo, size, strict=True))
        return height, width

    def _check_choices(self) -> None:
        choices = {
            "fit": Fit,
            "interpolation": Interpolation,
            "channels": Channels,
            "layout": Layout,
            "dtype": Dtype,
        }
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                known = ", ".join(get_args(choice))
                raise InputError(f"{name} is {getattr(self, name)!r}: choose one of {known}")

    def _check_sizes(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"size is {self.size}: give a height and a width of at least 1")
        least = max(self.size) if self.size is not None and self.fit == "crop" else 1
        if self.resize is not None and self.resize < least:
            raise InputError(f"resize is {self.resize}: the shorter side needs at least {least}")
        if not 0 <= self.fill <= 255:  # noqa: PLR2004 - the range of a byte
            raise InputError(f"fill is {self.fill}: give a grey value from 0 to 255")

    def _check_numbers(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, len(self.channels)):
                counts = " or ".join(map(str, sorted({1, len(self.channels)})))
                raise InputError(f"{name} has {len(values)} values: channels {self.channels} need {counts}")
        if not np.isfinite([*self.mean, *self.std, self.scale]).all():
            raise InputError("scale, mean and std must be finite numbers")
        if 0 in (*self.std, self.scale):
            raise InputError("std and scale divide and multiply the pixels: they cannot be 0")


PRESETS: Mapping[str, Preprocess] = MappingProxyType(
    {
        "imagenet": Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        "imagenet-caffe": Preprocess(channels="BGR", mean=(103.939, 116.779, 123.68)),
        "imagenet-tf": Preprocess(scale=1 / 127.5, mean=(1.0,)),
        "unit": Preprocess(scale=1 / 255),
        "raw": Preprocess(),
    }
)
"""The common conventions, all bilinear with a centre crop of 224×224 from a short side of 256:
``imagenet`` (PyTorch), ``imagenet-caffe`` (BGR, 0..255 less the mean), ``imagenet-tf`` (-1..1),
``unit`` (0..1) and ``raw`` (0..255)."""

_RANGES: Mapping[str, Mapping[str, Any]] = {
    "NominalRange_0_255": {"scale": 1.0, "mean": (0.0,), "std": (1.0,)},
    "Normalized_0_1": {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)},
    "Normalized_1_1": {"scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)},
    "NominalRange_16_235": {"scale": 219 / 255, "mean": (-16.0,), "std": (1.0,)},
}
_PIXEL_FORMATS: Mapping[str, Channels] = {
    "Gray8": "L",
    "Rgb8": "RGB",
    "Bgr8": "BGR",
    "Rgba8": "RGBA",
    "Bgra8": "BGRA",
}


def preset(name: str) -> Preprocess:
    """Look up one of :data:`PRESETS`.

    Parameters
    ----------
    name
        Its key.

    Raises
    ------
    InputError
        There is none of that name; the message lists them.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(PRESETS)}"
        raise InputError(f"no preprocessing preset is named {name!r}: {hint}")
    return PRESETS[name]


def preprocess_from_metadata(metadata: Mapping[str, str], base: Preprocess) -> Preprocess:
    """Follow what a model's metadata say about the pictures it takes.

    1. ``preset`` (this package's key): one of :data:`PRESETS` replaces everything but the size, the
       layout and the element type.
    2. ``Image.NominalPixelRange`` (ONNX): replaces `scale`, `mean` and `std`, unless there is a
       preset, which says more.
    3. ``Image.BitmapPixelFormat`` (ONNX): replaces `channels`; statistics follow their colours.
    4. ``size`` (this package's key): ``"224"`` or, height first, ``"224x320"``.

    A base of one channel stays of one channel. ``Image.ColorSpaceGamma`` is not needed: a
    photograph is sRGB. ONNX values that are unknown here change nothing.

    Parameters
    ----------
    metadata
        The model's ``metadata_props`` as a mapping.
    base
        What holds where the metadata are silent.

    Raises
    ------
    InputError
        ``preset`` or ``size`` is malformed.
    """
    result = base
    if "preset" in metadata:
        kept = {name: getattr(base, name) for name in ("size", "layout", "dtype")}
        result = preset(metadata["preset"]).replace(**kept)
    else:
        result = result.replace(**_RANGES.get(metadata.get("Image.NominalPixelRange", ""), {}))
    wanted = _PIXEL_FORMATS.get(metadata.get("Image.BitmapPixelFormat", ""), result.channels)
    result = result.replace(channels="L" if base.channels == "L" else wanted)
    if "size" in metadata:
        result = result.replace(size=_parse_size(metadata["size"]))
    return result


def _parse_size(text: str) -> Size:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:[x,]\s*(\d{1,6})\s*)?", text)
    if match is None:
        raise InputError(f"size is {text!r}: write one number, or height and width as in 224x320")
    return int(match[1]), int(match[2] or match[1])


# Writing


def save_png(path: PathLike, picture: Picture) -> None:
    """Write a picture as PNG, whole or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist.
    picture
        uint8, H×W×3 (RGB) or H×W (grey).

    Raises
    ------
    InputError
        The array is no picture, or the file cannot be written.
    """
    check_picture(picture, grey=True)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def webp(picture: Picture, quality: int) -> bytes:
    """Compress a picture as WebP, with loss.

    Parameters
    ----------
    picture
        uint8, H×W×3 (RGB).
    quality
        0 (small) to 100 (good).

    Returns
    -------
    bytes
        A WebP file.

    Raises
    ------
    InputError
        The array is no picture.
    """
    check_picture(picture)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def save_npy(path: PathLike, array: npt.NDArray[Any]) -> None:
    """Write an array in NumPy's format, whole or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist. The name is taken as it is, no suffix is added.
    array
        Any numbers, any shape.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


# Sheets


def at_height(picture: Picture, height: int) -> Picture:
    """Resize a picture to a height, keeping its proportions.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    height
        In pixels. Pixels are repeated to enlarge a picture (a few pixels of a reconstruction are
        to be seen as they are) and averaged to reduce it.

    Returns
    -------
    numpy.ndarray
        height×w×3, uint8.

    Raises
    ------
    InputError
        The array is no picture, or the height is not positive.
    """
    check_picture(picture)
    if height < 1:
        raise InputError(f"height is {height}: give at least 1")
    size = height, max(1, round(picture.shape[1] * height / picture.shape[0]))
    interpolation: Interpolation = "nearest" if height > picture.shape[0] else "bilinear"
    return np.array(_resized(Image.fromarray(picture), size, interpolation))


def map_at(values: npt.NDArray[Any], size: Size) -> npt.NDArray[np.float32]:
    """Resize a map of numbers, H×W, linearly to (height, width), float32."""
    return np.array(_resized(Image.fromarray(values.astype(np.float32)), size, "bilinear"))


def montage(
    pictures: Sequence[Picture],
    columns: int,
    captions: Sequence[str] | None = None,
    gap: int = 8,
    lines: int = 1,
) -> Picture:
    """Lay pictures out in rows on a white sheet.

    Parameters
    ----------
    pictures
        Each H×W×3 (RGB) or H×W (grey), uint8, of any size; each is at the top left of its cell, and
        all cells are as large as the largest picture.
    columns
        How many pictures stand side by side; fewer if there are fewer.
    captions
        Text under each picture, as large as the cell allows; what does not fit its lines is cut.
    gap
        White pixels around and between the cells.
    lines
        How many lines a caption may take at most.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        There are no pictures, a number of captions that differs, or an impossible column or gap.
    """
    _check_montage(pictures, columns, captions, gap)
    columns = min(columns, len(pictures))
    width = max(picture.shape[1] for picture in pictures) + gap
    text = text_size(width - gap)
    below = [_wrapped(caption, _font(text), width - gap, lines) for caption in captions or ()]
    line_height = round(_LINE_HEIGHT * text)
    caption_height = max(map(len, below), default=0) * line_height
    height = max(picture.shape[0] for picture in pictures) + caption_height + gap
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height + gap, columns * width + gap, 3), 255, np.uint8)
    corners = [
        (gap + row * height, gap + column * width)
        for row, column in (divmod(index, columns) for index in range(len(pictures)))
    ]
    for (top, left), picture in zip(corners, pictures, strict=True):
        colours = picture if picture.ndim == len("HWC") else picture[..., None]
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = colours
    canvas = Canvas(sheet)
    for (top, left), picture, caption in zip(corners, pictures, below, strict=False):
        for number, line in enumerate(caption):
            canvas.text((left, top + picture.shape[0] + number * line_height), line, text)
    return canvas.picture()


def text_size(width: int) -> int:
    """Choose the size of a text that is read beside a picture of some width, both in pixels."""
    return min(max(_SMALLEST, width // _CELL_TO_TEXT), _LARGEST)


def _check_montage(
    pictures: Sequence[Picture], columns: int, captions: Sequence[str] | None, gap: int
) -> None:
    if not pictures:
        raise InputError("a montage needs at least one picture")
    for picture in pictures:
        check_picture(picture, grey=True)
    if columns < 1 or gap < 0:
        raise InputError(f"a montage of {columns} columns, {gap} pixels apart, is impossible")
    if captions and len(captions) != len(pictures):
        raise InputError(f"{len(captions)} captions for {len(pictures)} pictures: give one for each")


def _wrapped(text: str, font: "_Font", width: int, most: int) -> list[str]:
    """Break a text into lines no wider than `width`; the last of the `most` lines is shortened."""
    lines, words = [""], text.split()
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            if len(lines) == most:
                lines[-1] = " ".join([lines[-1], *words[number:]])
                break
            lines.append(word)
        else:
            lines[-1] = longer
    return [_shortened(line, font, width) for line in lines]


def _shortened(line: str, font: "_Font", width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..." if line else ""


# Drawing

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""
BLACK: Colour = (0, 0, 0)


def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


class Canvas:
    """A copy of a picture to draw on. Places are (left, top) in pixels; lines are joined roundly.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    """

    def __init__(self, picture: Picture) -> None:
        self._image = Image.fromarray(picture)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour = BLACK, width: int = 1) -> None:
        """Join points."""
        self._draw.line(list(points), fill=colour, width=width, joint="curve")

    def box(
        self,
        box: Sequence[float],
        colour: Colour = BLACK,
        width: int = 1,
        fill: Colour | None = None,
    ) -> None:
        """Draw the outline of (top, left, bottom, right) inside it, and fill it."""
        top, left, bottom, right = box
        if bottom > top and right > left:
            self._draw.rectangle(((left, top), (right - 1, bottom - 1)), fill, colour, width)

    def text(self, place: tuple[float, float], text: str, size: int, anchor: str = "la") -> None:
        """Write one line; `anchor` says, as in Pillow, what of it is at `place`."""
        self._draw.text(place, text, fill=BLACK, font=_font(size), anchor=anchor)

    def picture(self) -> Picture:
        """Return what was drawn, H×W×3, uint8."""
        return np.array(self._image)


def text_length(text: str, size: int) -> float:
    """Measure a line of text, in pixels."""
    return _font(size).getlength(text)


def moved(
    picture: Picture, *, down: float = 0.0, scale: float = 1.0, angle: float = 0.0, fill: int = 128
) -> Picture:
    """Shift a picture down, scale it about its centre, and rotate it about its centre.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    down
        In pixels; negative shifts up.
    scale
        Above 1 enlarges.
    angle
        In degrees, anticlockwise.
    fill
        Grey value, 0..255, of what comes from outside the picture.

    Returns
    -------
    numpy.ndarray
        Of the same size, interpolated linearly.

    Raises
    ------
    InputError
        The array is no picture, or the scale is not positive.
    """
    check_picture(picture)
    if not scale > 0:
        raise InputError(f"scale is {scale}: give a number above 0")
    height, width = picture.shape[:2]
    # Pillow asks for each pixel of the result where it comes from: the way back.
    turn = math.radians(angle)
    # Rounded, lest a quarter turn fall short of a pixel by a rounding error.
    cosine, sine = (round(f(turn), 12) / scale for f in (math.cos, math.sin))
    x, y = width / 2, height / 2
    back = (
        cosine,
        -sine,
        x - cosine * x + sine * (y + down),
        sine,
        cosine,
        y - sine * x - cosine * (y + down),
    )
    image = Image.fromarray(picture).transform(
        (width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=(fill,) * 3
    )
    return np.array(image)
