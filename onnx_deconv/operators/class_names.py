"""The names of classes that nodes hold, as converters from scikit-learn and from Core ML write them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_deconv.operators.axes import is_table
from onnx_deconv.operators.node import ForwardNode

Names = Mapping[int, str]
"""Names by what they are looked up by: the number of a class."""


def class_names(at: ForwardNode) -> Names | None:
    """Return the names that a node gives to numbers of classes; ``None`` where it gives none."""
    read = _READERS.get(at.node.op)
    return None if read is None else read(at)


def _of_columns(at: ForwardNode) -> Names | None:
    """A ZipMap names the numbers of each row."""
    found = at.attr("classlabels_strings") or at.attr("classlabels_int64s")
    return None if not found else dict(enumerate(map(_spelled, found)))


def _of_keys(at: ForwardNode) -> Names | None:
    """A LabelEncoder translates whole numbers; its first version has all names in their order."""
    if listed := at.attr("classes_strings"):
        return dict(enumerate(map(_spelled, listed)))
    keys, values = _listed(at, "keys", "int64s"), _listed(at, "values", "strings", "int64s", "floats")
    if keys is None or values is None or keys.dtype.kind not in "iu":
        return None
    return {int(k): _spelled(v) for k, v in zip(keys, values, strict=False)}


def _listed(at: ForwardNode, what: str, *types: str) -> Any:
    """Return one of the attributes that hold keys or values, by their types, or the tensor of them."""
    found = next((each for t in types if (each := at.attr(f"{what}_{t}"))), None)
    if found is None and (tensor := at.attr(f"{what}_tensor")) is not None:
        found = tensor.values
    return None if found is None else np.asarray(found).ravel()


def _of_table(at: ForwardNode) -> Names | None:
    """Names, or numbers, that are picked from a table by the number of the class."""
    table = at.constant(0) if is_table(at) else None
    return None if table is None else dict(enumerate(map(_spelled, table.ravel())))


def _spelled(name: Any) -> str:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    return f"{name:g}" if isinstance(name, float | np.floating) else str(name)


_READERS: Mapping[str, Callable[[ForwardNode], Names | None]] = {
    "ZipMap": _of_columns,
    "LabelEncoder": _of_keys,
    "ArrayFeatureExtractor": _of_table,
    "Gather": _of_table,
    "GatherElements": _of_table,
    "GatherND": _of_table,
}
