"""Where parts of objects are in photographs: read from a table."""

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Box, PathLike, read_boxes

OBJECT = "object"
"""The name in a table for the whole object, which bounds the random boxes."""


def read_parts(path: PathLike) -> dict[str, dict[str, Box]]:
    """Read where parts are in photographs, in pixels of the photographs.

    Parameters
    ----------
    path
        A CSV file with a header and the columns image, part, x0, y0, x1, y1. The part ``object`` is the
        whole object: it is not hidden but bounds the random boxes.

    Returns
    -------
    dict
        By part and image: the box.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, an edge is not a number, or a part is given twice.
    """
    found: dict[str, dict[str, Box]] = {}
    for row in read_boxes(path, "part"):
        boxes = found.setdefault(row.what, {})
        if row.image in boxes:
            raise InputError(f"{path}, line {row.number}: {row.what} of {row.image} is given twice")
        boxes[row.image] = row.box
    return found
