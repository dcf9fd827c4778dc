"""Preprocessing: from a photograph to the numbers that a model expects."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.channels import Channels, Layout, channel_of, channels_first, reordered
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.picture import Interpolation, Picture, Size, check_picture, check_size, written

Fit = Literal["crop", "stretch", "pad", "none"]
Dtype = Literal["float32", "float16", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64"]


@dataclass(frozen=True)
class Preprocess:
    """Everything that turns an RGB photograph into one input of a model.

    The photograph is resized and cropped or padded to `size`, its channels are ordered, and each pixel
    value p becomes ``(p * scale - mean) / std``. Integer inputs are rounded and clipped to their range.

    Attributes
    ----------
    size
        (h, w) of the input; ``None`` for each photograph's own size.
    fit
        How the photograph gets that size. ``"crop"``: its shorter side is resized to `resize`, then
        the centre is cropped, as torchvision does. ``"stretch"``: it is resized without keeping its
        proportions. ``"pad"``: it is resized to fit inside, and the rest is filled with `fill`
        (letterbox). ``"none"``: it must have that size already.
    resize
        Length of the shorter side before the centre is cropped, at least the longer side of `size`;
        by default 256/224 of what the crop needs: 256 for 224×224, 342 for 299×299.
    interpolation
        How pixels are interpolated, always with antialiasing as in Pillow.
    fill
        Grey value of the padding, 0..255.
    channels
        The channels of the input, in order: red, green, blue, alpha (a picture's fourth band; 255
        where it has none), or L, the luma
        (ITU-R 601).
    scale
        Factor for pixel values 0..255, applied before `mean` and `std`.
    mean, std
        One value for all channels, or one per channel in the order of `channels`.
    layout
        ``"NCHW"`` or ``"NHWC"``.
    dtype
        NumPy's name of the input's element type: ``"float32"``, ``"uint8"``, ...

    Raises
    ------
    InputError
        If a value is out of its range, or the values contradict each other.
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

        Where `channels` changes and `mean` and `std` are not given, they are adapted to the channels:
        reversed from RGB to BGR, averaged for one channel, 0 and 1 for an alpha channel.

        Parameters
        ----------
        **changes
            Attributes of this class.

        Raises
        ------
        InputError
            If the result is invalid.
        """
        channels = changes.get("channels", self.channels)
        if channels != self.channels:
            changes.setdefault("mean", reordered(self.mean, self.channels, channels, alpha=0.0))
            changes.setdefault("std", reordered(self.std, self.channels, channels, alpha=1.0))
        return dataclasses.replace(self, **changes)

    def apply(self, photo: Picture) -> tuple[npt.NDArray[Any], Geometry]:
        """Turn a photograph into an input of the model.

        Parameters
        ----------
        photo
            H×W×3, uint8, RGB; or H×W×4, with a fourth band, which the channel A is made of.

        Returns
        -------
        tensor : numpy.ndarray
            C×h×w or h×w×C by `layout`, of `dtype`; one image, no batch axis.
        geometry : Geometry
            How the photograph is placed in the input.

        Raises
        ------
        InputError
            If the array is no picture, or its size does not fit.
        """
        check_picture(photo, fourth="A" in self.channels)
        geometry = self.geometry((photo.shape[0], photo.shape[1]))
        return self.normalise(geometry.view(photo)), geometry

    def normalise(self, view: Picture) -> npt.NDArray[Any]:
        """Turn the pixels of a picture of the input's size into the numbers that the model expects.

        Parameters
        ----------
        view
            h×w×3 or h×w×4, uint8, RGB: what :meth:`Geometry.view` returns.

        Returns
        -------
        numpy.ndarray
            C×h×w or h×w×C by `layout`, of `dtype`.

        Raises
        ------
        InputError
            If the array is no picture.
        """
        check_picture(view, fourth="A" in self.channels)
        dtype = np.dtype(self.dtype)
        wide = np.result_type(dtype, np.float32)
        first = self.layout == "NCHW"
        planes = [channel_of(view, letter) for letter in self.channels]
        tensor = np.stack(planes, axis=0 if first else -1, dtype=wide)
        mean, std = (np.array(each, wide).reshape(-1, *(1, 1) * first) for each in (self.mean, self.std))
        tensor *= wide.type(self.scale)  # in place, as atlases and services do this for every image
        tensor -= mean
        tensor /= std
        if dtype.kind != "f":
            tensor = np.clip(np.rint(tensor), np.iinfo(dtype).min, np.iinfo(dtype).max)
        return np.ascontiguousarray(tensor, dtype)

    def undone(self, tensor: npt.NDArray[Any]) -> Picture:
        """Show the picture that an input of the model was made from, as far as it has its colours.

        Parameters
        ----------
        tensor
            C×h×w or h×w×C by `layout`: what :meth:`normalise` returns.

        Returns
        -------
        numpy.ndarray
            h×w×3, uint8, RGB; numbers that no pixel has are clipped.
        """
        pixels = channels_first(np.asarray(tensor, np.float64), self.layout).transpose(1, 2, 0)
        pixels = (pixels * np.array(self.std) + np.array(self.mean)) / self.scale
        kept = [0] * 3 if self.channels == "L" else [self.channels.index(colour) for colour in "RGB"]
        return np.clip(np.rint(np.nan_to_num(pixels[..., kept])), 0, 255).astype(np.uint8)

    def geometry(self, photo: Size) -> Geometry:
        """Compute how a photograph of a given size is placed in the input.

        Parameters
        ----------
        photo
            (H, W) of the photograph.

        Raises
        ------
        InputError
            If `fit` is ``"none"`` and the sizes differ, or the photograph is so long that resizing its
            shorter side exceeds Pillow's limit of pixels.
        """
        size = self.size or photo
        if self.fit == "none":
            check_size("photograph", photo, size, "give one of that size, or fit crop, stretch or pad")
        resized = self._resized(photo, size)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and math.prod(resized) > limit:
            raise InputError(
                f"a photograph of {written(photo)} would be resized to {written(resized)}, "
                f"more than {limit:,} pixels: try fit pad or stretch, or a smaller size"
            )
        place = round if self.fit == "crop" else math.floor  # as torchvision, as letterboxes
        top, left = (place((outer - inner) / 2) for outer, inner in zip(size, resized, strict=True))
        return Geometry(photo, size, resized, (top, left), self.interpolation, self.fill)

    def _resized(self, photo: Size, size: Size) -> Size:
        """Compute the size of the whole photograph in pixels of the input."""
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
