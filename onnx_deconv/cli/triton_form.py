"""``onnx-deconv convert --form triton``: a model repository for NVIDIA's Triton Inference Server."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.cli.conversion import Conversion, check_lines
from onnx_deconv.cli.explain_form import GraphOptions, checks_of, graph_of
from onnx_deconv.compiler.triton import CONFIG, save_repository
from onnx_deconv.imaging import Preprocess


def write(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> dict[str, Any]:
    """Write the repository and check the explain graph in it; return its record."""
    graph = graph_of(conversion, options, preprocess)
    original = conversion.original()
    name = Path(conversion.model.name).stem
    with conversion.timed("save"):
        files = save_repository(conversion.model, graph, conversion.output, name)
    explain = next(f for f in files if f.suffix == ".onnx" and f.parent.parent.name == f"{name}_explain")
    checks = checks_of(conversion, options, preprocess, graph, explain, original)
    keys = ("explained", "semantics", "image_dependence", "inputs", "target", "outputs")
    record = conversion.record(files, checks, **{key: graph.manifest[key] for key in keys})
    record["bytes"] = {str(file.relative_to(conversion.output)): file.stat().st_size for file in files}
    return record


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Describe what was written."""
    models = [name for name in record["bytes"] if name.endswith(CONFIG)]
    yield f"{record['folder']}: " + " and ".join(str(Path(name).parent) for name in models)
    yield f"  tritonserver --model-repository {record['folder']}"
    yield from check_lines(record)
