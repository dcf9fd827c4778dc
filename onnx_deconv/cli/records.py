"""Results as JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_deconv import __version__
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli.console import plain_data
from onnx_deconv.files import replacing
from onnx_deconv.imaging import CustomPreprocess, Preprocess


def made_by(
    explainer: Explainer, preprocess: Preprocess | CustomPreprocess | None, layer: str | None = None
) -> dict[str, Any]:
    """Return what a result depends on: the model, this package, the semantics, the preprocessing.

    The semantics are those of the given layer, which ``auto`` chooses for each, else those of classes.
    """
    semantics = explainer.semantics if layer is None else explainer.method(layer)
    return {
        "model": explainer.model.name,
        "onnx_deconv": __version__,
        "semantics": semantics.as_dict(),
        "rules": semantics.rules_record,
        "preprocess": None if preprocess is None else vars(preprocess),
    }


def save_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all; arrays become lists."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain_data(record), indent=2) + "\n", encoding="utf-8")
