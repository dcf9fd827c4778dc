"""Regions cut out of maps, one bin at a time."""

from collections.abc import Iterator

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.sampling import Neighbours, Samples, border
from onnx_deconv.verification.reference.table import of_each_input
from onnx_deconv.verification.reference.visit import Visit


@of_each_input("RoiAlign")
def roi_align(at: Visit, i: int) -> Array:
    """Y[r, c, bin] = the mean of X[image of r, c] at places between pixels, evenly spread over the bin.

    Regions receive nothing: what they show is explained, not where they lie.
    """
    if i:
        return np.zeros(at.shape(i))
    if at.attr("mode", "avg") != "avg":
        raise at.unsupported(f"mode {at.attr('mode')}")
    given = np.zeros(at.shape())
    for region, (corners, image) in enumerate(zip(at.x(1), at.x(2).astype(int), strict=True)):
        for row, column, places in bins(at, corners):
            located = [
                Neighbours.of(along[None], "linear", border(size))
                for along, size in zip(places.T, at.shape()[2:], strict=True)
            ]
            share = at.signal[None, region, :, row, column, None] / max(len(places), 1)
            inside = ((places >= -1) & (places <= at.shape()[2:])).all(1)
            given[[image]] += Samples(at.shape()[2:], located).spread(share * inside)
    return given


def bins(at: Visit, corners: Array) -> Iterator[tuple[int, int, Array]]:
    """Yield each bin of a region, and the rows and columns that are looked at in it: shape (samples, 2)."""
    usual = "half_pixel" if at.graph.opset >= 16 else "output_half_pixel"  # noqa: PLR2004
    half = at.attr("coordinate_transformation_mode", usual) == "half_pixel"
    first, last = (corners * at.attr("spatial_scale", 1.0) - half / 2).reshape(2, 2)[:, ::-1]
    length = last - first if half else np.maximum(last - first, 1)
    parts = at.attr("output_height", 1), at.attr("output_width", 1)
    size, ratio = length / parts, at.attr("sampling_ratio", 0)
    counts = [ratio or max(int(np.ceil(each)), 0) for each in size]
    for row, column in np.ndindex(*parts):
        offsets = np.indices(counts).reshape(2, -1).T + 0.5
        yield row, column, first + ((row, column) + offsets / np.maximum(counts, 1)) * size
