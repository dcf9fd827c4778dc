"""The older protocol (V1) of KServe and TensorFlow Serving: one row of JSON for each image.

A request has a list of ``instances``. One is the model's input as nested lists of numbers, a file as
``{"b64": "..."}``, or an object of several inputs by their names. An answer has one row for each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.serving.batching import Results
from onnx_deconv.serving.protocol import Request, as_json, datatype, numbers_of, objects
from onnx_deconv.serving.served import Served

_INSTANCES, _OUTPUTS, _FILE = "instances", "outputs", "b64"


def request_of(model: Served, payload: Any, outputs: Sequence[str]) -> Request:
    """Read a request.

    Parameters
    ----------
    model
        What is asked.
    payload
        The request; beside ``instances`` it may name a ``target`` (one for all, or one for each) and
        ``outputs``.
    outputs
        The outputs that are wanted where it names none; empty for all.

    Raises
    ------
    InputError
        If it is no such request.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get(_INSTANCES), list):
        raise InputError(f"the request is no JSON object with a list of {_INSTANCES}")
    known = {_INSTANCES, _OUTPUTS, model.target}
    if unknown := [name for name in payload if name not in known]:
        raise InputError(f"the request has {unknown[0]!r}; it may have {', '.join(sorted(known))}")
    inputs = _columns([_by_name(model, row) for row in payload[_INSTANCES]])
    if model.target in payload:
        if model.target in inputs:
            raise InputError(f"{model.target!r} is given twice: for all {_INSTANCES}, and in them")
        given = payload[model.target]
        inputs[model.target] = given if isinstance(given, list) else [given]
    arrays = {name: _array(model, name, column) for name, column in inputs.items()}
    return Request(arrays, dict.fromkeys(_names(payload.get(_OUTPUTS)) or outputs, False))


def rows_of(results: Results, images: int) -> list[Any]:
    """Write results as one row for each image: its numbers, or by name those of several outputs.

    Raises
    ------
    InputError
        If a result has no row for each image, or numbers that JSON has no word for.
    """
    for name, array in results.items():
        if array.ndim == 0 or len(array) != images:
            raise InputError(f"output {name!r} has no row for each instance: ask for it by the protocol V2")
    rows = {name: as_json(name, array) for name, array in results.items()}
    if len(rows) == 1:
        return next(iter(rows.values()))
    return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]


def _by_name(model: Served, row: Any) -> Mapping[str, Any]:
    """Return the inputs of one instance by their names."""
    if isinstance(row, dict) and set(row) != {_FILE}:
        return row
    only = [model.photo] if isinstance(row, dict) else model.model.inputs
    if len(only) != 1 or only[0] is None:
        raise InputError(f"name the inputs of an instance: {', '.join(each.name for each in model.inputs)}")
    return {only[0]: row}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows that name the same inputs into columns."""
    if not rows or any(set(row) != set(rows[0]) for row in rows):
        raise InputError(f"give at least one of the {_INSTANCES}, and the same inputs in all")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _array(model: Served, name: str, column: Sequence[Any]) -> Array:
    """Return an input of all instances; one that the model does not have is named as such later."""
    if name == model.photo:
        return objects(
            [file[_FILE] if isinstance(file, dict) and set(file) == {_FILE} else file for file in column]
        )
    if name == model.target:
        if any(isinstance(each, bool) or not isinstance(each, int | str) for each in column):
            raise InputError(f"input {name!r}: a class is a whole number or a label")
        return objects(column)
    if name not in model.model.inputs:
        return np.zeros(0)
    return numbers_of(name, datatype(model.model.input_dtype(name)), list(column))


def _names(given: Any) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{_OUTPUTS} is a list of names")
    return given
