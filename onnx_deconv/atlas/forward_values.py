"""What a forward pass over an image gave for the companions: switches and other values."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.model import Array


class ForwardValues:
    """What one forward pass over an image gave for the companions.

    Parameters
    ----------
    values
        Switches and taps by name; of a batch only the first image counts.
    """

    def __init__(self, values: Mapping[str, Array]) -> None:
        self.values = values
        self._maxima: dict[str, tuple[Array, Array]] = {}

    def maxima(self, switches: str, pooled: Sequence[int]) -> tuple[Array, Array]:
        """Return the rows and columns of a pool's maxima, int32, in its input, which has this shape."""
        if switches not in self._maxima:
            _, channels, height, width = pooled
            planes = np.arange(channels)[:, None, None] * (height * width)
            flat = (self.values[switches][:1] - planes).astype(np.int32)
            rows = flat // np.int32(width)  # NumPy divides 32-bit numbers by one scalar many at a time
            self._maxima[switches] = rows, flat - rows * np.int32(width)
        return self._maxima[switches]


def switches_in_crop(rows: Array, columns: Array, start: Sequence[int], shape: Sequence[int]) -> Array:
    """Number a pool's maxima within a crop of its input.

    Parameters
    ----------
    rows, columns
        Where the maxima are in the whole input, shape (1, channels, height, width).
    start, shape
        The first position of the crop in the input, and the crop's shape.

    Returns
    -------
    numpy.ndarray
        Switches as the companion reads them for a batch of one.
    """
    (top, left), (channels, height, width) = start[2:], shape[1:]
    # Only windows that no unit of this crop sees can have their maximum outside.
    rows, columns = np.clip(rows - top, 0, height - 1), np.clip(columns - left, 0, width - 1)
    return (np.arange(channels, dtype=np.int32)[:, None, None] * height + rows) * width + columns
