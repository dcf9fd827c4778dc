"""``onnx-deconv convert --form triton``: a model repository for NVIDIA's Triton Inference Server."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.cli.conversion import Conversion, check_lines
from onnx_deconv.cli.explain_form import GraphOptions, written
from onnx_deconv.compiler.triton import CONFIG, FILE, MOST, save_repository
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model.axis_names import has_batches
from onnx_deconv.verification import heeds_neighbours


def write(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> dict[str, Any]:
    """Write the repository and check the explain graph in it; return its record."""
    name, mixes = Path(conversion.model.name).stem, _mixes_images(conversion)
    _, files, record = written(
        conversion,
        options,
        preprocess,
        FILE,
        lambda graph, look: save_repository(
            conversion.model, graph, conversion.output, name, 0 if mixes else MOST, check=look
        ),
    )
    record["mixes_images"] = mixes
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
    if record["mixes_images"]:
        yield "  the answer for an image depends on the images beside it: requests are not put together"
    yield from check_lines(record)


def _mixes_images(conversion: Conversion) -> bool:
    """Tell whether the model's answer for an image depends on those beside it; false without checks."""
    model, original = conversion.model, conversion.original()
    if original is None or not has_batches(model):
        return False
    return heeds_neighbours(model, original[0].run_plainly, None)
