"""Preprocessing by a function of the caller's: where it puts pixels is measured, not guessed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.channels import Channels, Layout, channels_first
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.picture import Picture, Size
from onnx_deconv.imaging.write import Image, as_image

_MOST_CHANNELS = 4
"""An axis of more is none of a picture's colours, where another has at most so many."""
_FILL_DIFFERENCE = 0.5
"""Where white and black differ by less than this share of the most, the input shows padding."""
_TOLERANCE = 0.02
"""How far the ramps may be from straight lines, as a share of the photograph's sides."""
_REPEATS = 8
"""How often one picture is prepared to see chance: what happens half of the time escapes once in 256."""


class CustomPreprocess:
    """A function that makes a photograph one input of a model.

    Parameters
    ----------
    function
        Takes an image of Pillow's, RGB, and returns one image as the model takes it, with or without
        a batch axis: a transform of torchvision's, for instance.
    layout
        ``"NCHW"`` or ``"NHWC"``, the model's.
    dtype
        NumPy's name of the input's element type.

    Attributes
    ----------
    channels
        ``"RGB"`` until :meth:`apply` has found another order.
    size
        ``None``: each photograph may get its own.
    """

    size: Size | None = None

    def __init__(self, function: Callable[[Image], Any], layout: Layout, dtype: str) -> None:
        self._function, self.layout, self.dtype = function, layout, dtype
        self.channels: Channels = "RGB"
        self._known: dict[Size, Geometry] = {}

    def __repr__(self) -> str:
        return f"CustomPreprocess({self._function!r})"

    def apply(self, photo: Picture) -> tuple[npt.NDArray[Any], Geometry]:
        """Turn a photograph into an input of the model.

        Where the function puts the photograph is measured for each new size: it is applied to black, white
        and two ramps, and what comes out tells which place of the photograph each pixel shows.

        Raises
        ------
        InputError
            If the function does anything but resize, crop and pad, or is random.
        """
        size = (photo.shape[0], photo.shape[1])
        if size not in self._known:
            if not self._known:
                self._refuse_chance(photo)
            self._known[size] = self._measured(size)
        return self._call(photo).astype(self.dtype), self._known[size]

    def _refuse_chance(self, photo: Picture) -> None:
        """See that the same picture is prepared in the same way again: what is measured must hold later."""
        first = self._call(photo)
        for _ in range(_REPEATS):
            if not np.array_equal(self._call(photo), first, equal_nan=first.dtype.kind == "f"):
                raise InputError(
                    "preprocess is random: one photograph gave different inputs; leave out what crops, flips "
                    "or colours by chance, as for training, or give arrays as the model takes them"
                )

    def _call(self, photo: Picture) -> npt.NDArray[Any]:
        result = self._function(as_image(photo))
        array = np.asarray(result.detach().cpu() if hasattr(result, "detach") else result)
        array = array[0] if array.ndim == len("NCHW") and len(array) == 1 else array
        if array.ndim != len("CHW"):
            raise InputError(f"preprocess returned shape {array.shape}: one image C×H×W or H×W×C is needed")
        channels, other = (array.shape[0], array.shape[2])[:: 1 if self.layout == "NCHW" else -1]
        if channels > _MOST_CHANNELS >= other:
            wanted = "C×H×W" if self.layout == "NCHW" else "H×W×C"
            raise InputError(f"preprocess returned shape {array.shape}: the model takes {wanted}, as floats")
        return array

    def _measured(self, size: Size) -> Geometry:
        height, width = size
        ramps = [np.arange(side) * 255 / max(side - 1, 1) for side in size]
        down = np.repeat(ramps[0][:, None], width, axis=1)
        right = np.repeat(ramps[1][None], height, axis=0)
        black, white = (self._shown(np.full(size, value)) for value in (0, 255))
        shown = abs(white - black) > _FILL_DIFFERENCE * abs(white - black).max()
        if not shown.any():
            raise _cannot_tell()
        self._find_channels(size)
        with np.errstate(divide="ignore", invalid="ignore"):
            places = [(self._shown(ramp) - black) / (white - black) for ramp in (down, right)]
        fits = [
            _line(place, shown, axis, side)
            for axis, (place, side) in enumerate(zip(places, size, strict=True))
        ]
        (rows, top), (columns, left) = fits
        return Geometry(size, (shown.shape[0], shown.shape[1]), (rows, columns), (top, left))

    def _shown(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        picture = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=-1)
        values: npt.NDArray[np.float64] = channels_first(self._call(picture), self.layout).mean(
            axis=0, dtype=np.float64
        )
        return values

    def _find_channels(self, size: Size) -> None:
        """Tell RGB from BGR: by which channel of a red picture differs from a blue one."""
        red, blue = (np.zeros((*size, 3), np.uint8) for _ in range(2))
        red[..., 0] = blue[..., 2] = 255
        first, second = (channels_first(self._call(p), self.layout).astype(np.float64) for p in (red, blue))
        if len(first) == 1:
            self.channels = "L"
        elif len(first) == len("RGB"):
            difference = (first - second).mean(axis=(1, 2))
            self.channels = "RGB" if difference[0] > difference[2] else "BGR"


def _line(place: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_], axis: int, side: int) -> Size:
    """Fit which place along a side of the photograph each row or column of the input shows.

    Returns the whole side's length on the input's grid, and where it begins.
    """
    where = np.nonzero(shown)
    steps, values = where[axis] + 0.5, place[shown] * (side - 1) / side + 0.5 / side
    if np.ptp(steps) == 0:
        raise _cannot_tell()
    inner = (values > values.min() + 1 / side) & (values < values.max() - 1 / side)
    inner = inner if inner.any() and np.ptp(steps[inner]) else np.ones_like(inner)
    slope, start = np.polyfit(steps[inner], values[inner], 1)
    straight = np.isfinite(slope) and abs(slope * steps + start - values).max() < _TOLERANCE + 1 / side
    if not straight or slope <= 0:
        raise _cannot_tell()
    return round(1 / slope), round(-start / slope)


def _cannot_tell() -> InputError:
    return InputError(
        "preprocess does more than resize, crop and pad, so no picture can be put back on the photograph: "
        "leave out what turns or flips, or give arrays as the model takes them"
    )
