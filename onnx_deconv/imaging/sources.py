"""Images as Python programs hold them: paths, Pillow's images, arrays, tensors, rows of data sets.

They are told apart by their type and shape, never by their numbers:

1. a path, the bytes of a file, or an open file is a picture file; so is an image of Pillow's a picture. A
   path of a file of numbers (``.npy``, ``.npz``, a sound) stands for its array;
2. an array of uint8 is a picture, RGB: H×W, H×W×C or N×H×W×C with 1, 3 or 4 channels. A tensor of
   PyTorch's has its channels first, as torchvision has them: C×H×W or N×C×H×W;
3. any other array is what the model takes, preprocessed: one image, or a batch of them;
4. a mapping is the row of a data set: exactly one of its values is an image by these rules.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.arrays import holds_numbers, read_numbers
from onnx_deconv.imaging.picture import Picture, written
from onnx_deconv.imaging.read import Bands, as_picture, read_image

_CHANNELS = (1, 3, 4)
_HINT = "give paths, PIL images, uint8 arrays H×W×3, or float arrays as the model takes them"


@dataclass(frozen=True)
class Source:
    """What one object holds: pictures, or numbers as the model takes them.

    Attributes
    ----------
    pictures
        Each H×W×3, uint8, RGB, or H×W×4 with a fourth band; empty where there are numbers.
    numbers
        One image, or a batch, as the model takes it; ``None`` where there are pictures.
    several
        Whether the object is a batch rather than one image.
    name
        Of its file, if it has one.
    """

    pictures: Sequence[Picture] = ()
    numbers: npt.NDArray[Any] | None = None
    several: bool = False
    name: str = ""


def read_source(given: Any, *, bands: Bands = 3, page: int = 0) -> Source:
    """Read an image, however a program holds it; see :mod:`onnx_deconv.imaging.sources`.

    Parameters
    ----------
    given
        The image.
    bands
        With 4, a fourth band is kept.
    page
        Which page or frame of a file, from 0.

    Raises
    ------
    InputError
        If it is none, or cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        if holds_numbers(given):
            return replace(read_source(read_numbers(given).array, bands=bands), name=Path(given).name)
        return Source([read_image(given, bands=bands, page=page)], name=Path(given).name)
    if isinstance(given, bytes | bytearray):
        return Source([read_image(io.BytesIO(given), bands=bands, page=page)])
    if _is_open_file(given):
        return Source([read_image(given, bands=bands, page=page)])
    if isinstance(given, Image.Image):
        return Source([as_picture(given, bands=bands)])
    if isinstance(given, Mapping):
        return _of_row(given, bands)
    if not is_array(given):
        raise InputError(f"{type(given).__name__} is no image: {_way_out(given)}")
    array, is_tensor = _array(given)
    if array.dtype != np.uint8:
        return Source(numbers=array)
    array = _channels_last(array) if is_tensor else array
    several = array.ndim == len("NHWC")
    pictures = [_picture(each, bands) for each in (array if several else [array])]
    return Source(pictures, several=several)


def _way_out(given: Any) -> str:
    """Say what to give instead: loaders and data sets of PyTorch's give pairs of images and classes."""
    pair = isinstance(given, list | tuple) and len(given) > 1 and _looks_like_an_image(given[0])
    return "of rows (image, class), give the images: (row[0] for row in rows)" if pair else _HINT


def is_array(given: Any) -> bool:
    """Tell whether an object is an array of any library's."""
    return any(hasattr(given, name) for name in ("__array__", "__array_interface__", "__dlpack__"))


def holds_several(given: Any) -> bool:
    """Tell whether an object is iterated over for its images: a list, a data set, a generator."""
    one = isinstance(given, str | bytes | bytearray | os.PathLike | Mapping | Image.Image)
    return not one and not is_array(given) and not _is_open_file(given) and hasattr(given, "__iter__")


def _is_open_file(given: Any) -> bool:
    """Tell whether an object is an open file; iterated over, it would give lines, and no pictures."""
    return isinstance(given, io.IOBase) or (hasattr(given, "read") and hasattr(given, "seek"))


def _array(given: Any) -> tuple[npt.NDArray[Any], bool]:
    """Return a NumPy array, and whether it was a tensor of PyTorch's."""
    is_tensor = hasattr(given, "detach")
    try:
        return np.asarray(given.detach().cpu() if is_tensor else given), is_tensor
    except TypeError as error:  # a type that NumPy lacks, such as bfloat16
        remedy = "give it as floats, tensor.float()" if is_tensor else _HINT
        raise InputError(f"no array can be made of {type(given).__name__} ({error}): {remedy}") from error


def _channels_last(tensor: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if tensor.ndim not in (len("CHW"), len("NCHW")):
        return tensor
    first = tensor.shape[-3] in _CHANNELS
    if not first:
        raise InputError(
            f"a uint8 tensor of shape {written(tensor.shape)} has no 1, 3 or 4 channels first, as "
            "torchvision's have: give a NumPy array H×W×3"
        )
    return np.moveaxis(tensor, -3, -1)


def _picture(array: npt.NDArray[np.uint8], bands: Bands) -> Picture:
    fits = array.ndim == len("HW") or (array.ndim == len("HWC") and array.shape[2] in _CHANNELS)
    if not fits or not array.size:
        raise InputError(
            f"a uint8 array of shape {written(array.shape)} is no picture H×W×3: move its axes, or give "
            "float numbers as the model takes them"
        )
    flat = array[..., 0] if array.shape[2:] == (1,) else array
    return as_picture(Image.fromarray(np.ascontiguousarray(flat)), bands=bands)


def _of_row(row: Mapping[Any, Any], bands: Bands) -> Source:
    """Find the one image in a row of a data set."""
    if "bytes" in row and "path" in row:  # an image of Hugging Face's datasets that is not decoded
        return read_source(row["bytes"] if row["bytes"] is not None else row["path"], bands=bands)
    found = [key for key, value in row.items() if _looks_like_an_image(value)]
    if len(found) != 1:
        keys = ", ".join(map(str, row)) or "nothing in it"
        what = f"several images ({', '.join(map(str, found))})" if found else "no image"
        raise InputError(f"a row with {keys} holds {what}: give the images alone, [row[KEY] for row in rows]")
    return read_source(row[found[0]], bands=bands)


def _looks_like_an_image(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "bytes" in value and "path" in value
    if isinstance(value, Image.Image | bytes | bytearray):
        return True
    return is_array(value) and len(np.shape(value)) >= len("HW")
