"""What several figures draw."""

from onnx_deconv.experiments.hiding import MID_GREY
from onnx_deconv.imaging import BLACK, Canvas, Picture
from onnx_deconv.model import Array


def hide_box(view: Picture, box: Array) -> Picture:
    """Hide a box of a picture, (top, left, bottom, right) in its pixels, in grey with a black outline."""
    canvas = Canvas(view)
    canvas.box(box.tolist(), BLACK, 2, fill=(MID_GREY, MID_GREY, MID_GREY))
    return canvas.picture()
