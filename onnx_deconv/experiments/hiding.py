"""Hide boxes of an image from a model: which boxes, and what they are filled with."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Layout, Preprocess
from onnx_deconv.model import Array

Fill = Literal["grey"] | float | Sequence[float]
"""``grey``: mid-grey, 128 of 255, preprocessed as the model's images are; or a number of the model's
input itself, one for all channels or one for each."""

MID_GREY = 128


def fill_values(fill: Fill, preprocess: Preprocess, image: Array) -> Array:
    """Return what a box is filled with: one number per channel, shaped to be broadcast over the box.

    Parameters
    ----------
    fill
        See :data:`Fill`.
    preprocess
        How pictures become the model's input.
    image
        An image as the model takes it; its channels and type are taken.

    Returns
    -------
    numpy.ndarray
        Shape (C, 1, 1) or (1, 1, C), of the image's type.

    Raises
    ------
    InputError
        If the fill is not a finite number, or not one per channel.
    """
    shape = (-1, 1, 1) if preprocess.layout == "NCHW" else (1, 1, -1)
    channels = image.shape[0 if preprocess.layout == "NCHW" else -1]
    if isinstance(fill, str):
        if fill != "grey":
            raise InputError(f"fill is {fill!r}: write grey, or a number, or one for each channel")
        numbers = preprocess.normalise(np.full((1, 1, 3), MID_GREY, np.uint8)).ravel()
    else:
        numbers = np.atleast_1d(np.asarray(fill, np.float64))
    if numbers.shape not in ((1,), (channels,)) or not np.isfinite(numbers).all():
        raise InputError(f"fill {fill!r} has {numbers.size} numbers: give one, or {channels} finite ones")
    return np.broadcast_to(numbers, channels).astype(image.dtype).reshape(shape)


def with_boxes_hidden(image: Array, boxes: Array, fill: Array, layout: Layout) -> Array:
    """Copy an image once per box and fill that box.

    Parameters
    ----------
    image
        One image as the model takes it.
    boxes
        Shape (N, 4): top, left, bottom, right in pixels.
    fill
        What :func:`fill_values` returns.
    layout
        The layout of the image's axes.

    Returns
    -------
    numpy.ndarray
        Shape (N, ...), of the image's type.
    """
    copies = np.repeat(image[None], len(boxes), axis=0)
    for copy, (top, left, bottom, right) in zip(copies, boxes, strict=True):
        box = (slice(top, bottom), slice(left, right))
        copy[(slice(None), *box) if layout == "NCHW" else box] = fill
    return copies


def square_grid(size: tuple[int, int], square: int, stride: int) -> npt.NDArray[np.int64]:
    """Place squares so that each stride×stride piece of an image has one centred on it.

    Parameters
    ----------
    size
        (height, width) of the image.
    square, stride
        Side of the squares, and the distance between neighbours, in pixels. Where the two differ by an
        odd number the squares are centred half a pixel up and left.

    Returns
    -------
    numpy.ndarray
        Shape (R, C, 4): top, left, bottom, right, cut at the image's borders; R = ⌈height / stride⌉.

    Raises
    ------
    InputError
        If square or stride is not positive, or the square hides the whole image.
    """
    if square < 1 or stride < 1:
        raise InputError(f"a square of {square} pixels in steps of {stride}: give numbers of at least 1")
    if square >= 2 * max(size):
        raise InputError(f"a square of {square} pixels hides all of an image of {size[0]}×{size[1]}")
    (tops, bottoms), (lefts, rights) = (_spans(length, square, stride) for length in size)
    grid = np.empty((len(tops), len(lefts), 4), np.int64)
    grid[..., 0], grid[..., 2] = tops[:, None], bottoms[:, None]
    grid[..., 1], grid[..., 3] = lefts, rights
    return grid


def _spans(length: int, square: int, stride: int) -> tuple[Array, Array]:
    starts = np.arange(0, length, stride) + (stride - square) // 2
    return np.clip(starts, 0, length), np.clip(starts + square, 0, length)


def image_size(image: Array, layout: Layout) -> tuple[int, int]:
    """Return (height, width) of one image as the model takes it.

    Raises
    ------
    InputError
        If the array has not three axes.
    """
    if image.ndim != len("CHW"):
        raise InputError(f"an array of shape {image.shape} is no image: give one, without a batch axis")
    height, width = image.shape[1:] if layout == "NCHW" else image.shape[:2]
    return height, width
