"""How much arrays differ, beside `oracle.assert_close`."""

import numpy as np


def close(found, expected):
    """Whether all is equal, but for the order in which runs of other sizes add."""
    return np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def distance(found, expected):
    """The length of the difference as a share of the expected length."""
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)
