"""Pictures of 4×4 cells of 4×4 pixels, some of them bright, and what is made of single cells."""

import numpy as np


def scene(*squares):
    """A picture with bright squares: cells by row and column, each with its brightness."""
    found = np.full((1, 1, 16, 16), 0.2, np.float32)
    for row, column, brightness in squares:
        found[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = brightness
    return found


def cell(row, column, value=1 / 16):
    """An array that is zero outside one cell."""
    found = np.zeros((1, 1, 16, 16), np.float32)
    found[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = value
    return found


SCENE = np.concatenate([scene((1, 2, 0.9), (3, 0, 0.7)), scene((0, 3, 0.8), (2, 2, 0.1))])
