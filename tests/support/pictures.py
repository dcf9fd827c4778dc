"""Pictures of random pixels, and what a call that is refused says."""

import io

import numpy as np
import pytest
from PIL import Image

from onnx_deconv.errors import InputError


def noise(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def as_png(picture):
    """Encode a picture."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def refused(call, *args, match, **kwargs):
    """Assert that a call is refused with one line that matches."""
    with pytest.raises(InputError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
