"""``onnx-deconv convert --form triton``: a model repository for NVIDIA's Triton Inference Server."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.cli.conversion import Conversion, check_lines
from onnx_deconv.cli.explain_form import GraphOptions, checks_of, graph_of
from onnx_deconv.compiler.triton import CONFIG, FILE, save_repository
from onnx_deconv.imaging import Preprocess
from onnx_deconv.verification import Check


def write(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> dict[str, Any]:
    """Write the repository and check the explain graph in it; return its record."""
    graph = graph_of(conversion, options, preprocess)
    original, checks = conversion.original(), list[Check]()
    name = Path(conversion.model.name).stem

    def look(folder: Path) -> None:
        checks.extend(checks_of(conversion, options, preprocess, graph, folder / FILE, original))
        conversion.refuse_failures(checks)

    with conversion.timed("save"):
        files = conversion.written(
            lambda: save_repository(conversion.model, graph, conversion.output, name, check=look)
        )
    keys = ("explained", "semantics", "image_dependence", "inputs", "target", "outputs")
    record = conversion.record(files, checks, **{key: graph.manifest[key] for key in keys})
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
