"""Results of the experiments as files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv import __version__
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli.console import plain_data
from onnx_deconv.cli.preparation import as_dict
from onnx_deconv.files import replacing
from onnx_deconv.imaging import Preprocess


def made_by(explainer: Explainer, preprocess: Preprocess) -> dict[str, Any]:
    """Say what made a result."""
    return {
        "model": explainer.model.name,
        "onnx_deconv": __version__,
        "semantics": explainer.semantics.as_dict(),
        "preprocess": as_dict(preprocess),
    }


def save_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all; arrays become lists."""
    with replacing(path) as temporary:
        text = json.dumps(plain_data(_listed(record)), indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
