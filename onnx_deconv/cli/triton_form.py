"""``onnx-deconv convert --form triton``: a model repository for NVIDIA's Triton Inference Server."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.cli.conversion import Conversion, check_lines
from onnx_deconv.cli.explain_form import GraphOptions, written
from onnx_deconv.compiler.triton import CONFIG, FILE, save_repository
from onnx_deconv.imaging import Preprocess


def write(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> dict[str, Any]:
    """Write the repository and check the explain graph in it; return its record."""
    name = Path(conversion.model.name).stem
    _, files, record = written(
        conversion,
        options,
        preprocess,
        FILE,
        lambda graph, look: save_repository(conversion.model, graph, conversion.output, name, check=look),
    )
    record["bytes"] = {str(file.relative_to(conversion.output)): file.stat().st_size for file in files}
    return record


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Describe what was written."""
    if not record["passed"]:
        yield from check_lines(record)
        return
    models = [name for name in record["bytes"] if name.endswith(CONFIG)]
    yield f"{record['folder']}: " + " and ".join(str(Path(name).parent) for name in models)
    yield f"  tritonserver --model-repository {record['folder']}"
    yield from check_lines(record)
