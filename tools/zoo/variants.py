"""What tools make of a model: quantised, halved, simplified, optimised, converted to another opset.

    python tools/zoo/variants.py -o FOLDER [--only 'qdq_*'] [--list]

The bases are read from FOLDER itself: the records that the other builders left there.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from common import Build, Facts, NotYetError, feed, main, versions
from onnx import version_converter
from onnxruntime import quantization as q
from onnxruntime.quantization import shape_inference

BASES = {
    "mobilenetv2": "torch-ts_mobilenetv2_100",
    "seresnet18": "torch-ts_seresnet18",
    "squeezenet": "torch-ts_squeezenet1_1",
    "yolo": "torch-ts_yolo",
    "unet": "torch-ts_unet",
    "gelu": "torch-ts_act_gelu",
    "efficientnet": "torch-dynamo_efficientnet_b0",
    "convnext": "torch-dynamo_convnext_atto",
    "keras_mobilenetv2": "keras_mobilenetv2",
    "keras_unet": "keras_unet",
    "shufflenet": "torch-ts_shufflenet_v2_x0_5",
    "ts9_mobilenetv2": "torch-ts9_mobilenetv2_100",
    "ts9_squeezenet": "torch-ts9_squeezenet1_1",
    "ts9_yolo": "torch-ts9_yolo",
    "ts9_unet": "torch-ts9_unet",
    "paddle_mobilenetv3": "paddle_mobilenet_v3_small",
}


class Drawn(q.CalibrationDataReader):
    """Standard normal inputs to calibrate with."""

    def __init__(self, model: Path, sizes: dict[str, list[int]]) -> None:
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.rest = [feed(session, sizes) for _ in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input."""
        return self.rest.pop() if self.rest else None


def static(base: Path, path: Path, sizes: Any, *, form: q.QuantFormat, **options: Any) -> None:
    """Quantise with calibrated ranges."""
    ready = path.with_name("ready.onnx")
    shape_inference.quant_pre_process(base, ready, skip_symbolic_shape=True)
    q.quantize_static(ready, path, Drawn(base, sizes), quant_format=form, **options)
    ready.unlink()


def dynamic(base: Path, path: Path, _sizes: Any, **options: Any) -> None:
    """Quantise the weights; the ranges of activations are found at run time."""
    q.quantize_dynamic(base, path, **options)


def halved(base: Path, path: Path, _sizes: Any, **options: Any) -> None:
    """Convert to 16-bit floats by onnxruntime's converter."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 needs sympy

    onnx.save(convert_float_to_float16(onnx.load(base), **options), path)


def common_halved(base: Path, path: Path, _sizes: Any) -> None:
    """Convert to 16-bit floats by onnxconverter-common."""
    from onnxconverter_common.float16 import convert_float_to_float16  # noqa: PLC0415 not always there

    onnx.save(convert_float_to_float16(onnx.load(base), keep_io_types=True), path)


def slimmed(base: Path, path: Path, _sizes: Any) -> None:
    """Simplify by onnxslim."""
    import onnxslim  # noqa: PLC0415 not always there

    onnx.save(onnxslim.slim(onnx.load(base)), path)


def simplified(base: Path, path: Path, _sizes: Any) -> None:
    """Simplify by onnxsim."""
    import onnxsim  # noqa: PLC0415 not always there

    onnx.save(onnxsim.simplify(onnx.load(base))[0], path)


def optimised(base: Path, path: Path, _sizes: Any, *, level: str) -> None:
    """Save the graph that onnxruntime runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(base, options, providers=["CPUExecutionProvider"])


def converted(base: Path, path: Path, _sizes: Any, *, opset: int) -> None:
    """Convert to another opset by onnx's version converter."""
    onnx.save(version_converter.convert_version(onnx.load(base), opset), path)


def functions(base: Path, path: Path, _sizes: Any) -> None:
    """Put every activation into a local function of the model."""
    model = onnx.load(base)
    model.functions.append(
        onnx.helper.make_function(
            "local",
            "Rectified",
            ["x"],
            ["y"],
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            model.opset_import,
        )
    )
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    model.ir_version = max(model.ir_version, 8)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Rectified", "local"
    onnx.save(model, path)


CNNS = "mobilenetv2 seresnet18 squeezenet yolo unet keras_mobilenetv2"
QDQ, QOPERATOR, UNSIGNED = q.QuantFormat.QDQ, q.QuantFormat.QOperator, {"weight_type": q.QuantType.QUInt8}
OLD = " ".join(base for base in BASES if base.startswith("ts9"))
ALL = " ".join(base for base in BASES if base not in OLD.split())
# variant: how, of which bases, by what, family
VARIANTS: dict[str, tuple[Callable[..., None], str, str, str]] = {
    "qdq": (partial(static, form=QDQ, per_channel=True), f"{CNNS} efficientnet", "onnxruntime", "quantised"),
    "qdq-tensor": (
        partial(static, form=QDQ, activation_type=q.QuantType.QInt8),
        CNNS,
        "onnxruntime",
        "quantised",
    ),
    "qoperator": (partial(static, form=QOPERATOR), f"{CNNS} efficientnet", "onnxruntime", "quantised"),
    "qoperator-channel": (
        partial(static, form=QOPERATOR, per_channel=True),
        CNNS,
        "onnxruntime",
        "quantised",
    ),
    "dynamic": (partial(dynamic, **UNSIGNED), f"{CNNS} efficientnet", "onnxruntime", "quantised"),
    "fp16": (partial(halved, keep_io_types=True), f"{CNNS} gelu convnext", "onnxruntime", "fp16"),
    "fp16-io": (halved, CNNS, "onnxruntime", "fp16"),
    "fp16-common": (common_halved, "mobilenetv2 seresnet18 unet", "onnxconverter-common", "fp16"),
    "onnxslim": (slimmed, ALL, "onnxslim", "optimised"),
    "onnxsim": (simplified, ALL, "onnxsim", "optimised"),
    "ort-basic": (partial(optimised, level="BASIC"), ALL, "onnxruntime", "optimised"),
    "ort-extended": (partial(optimised, level="EXTENDED"), ALL, "onnxruntime", "optimised"),
    "ort-all": (partial(optimised, level="ALL"), ALL, "onnxruntime", "optimised"),
    "opset13": (partial(converted, opset=13), OLD, "onnx", "classifier"),
    "opset17": (partial(converted, opset=17), OLD, "onnx", "classifier"),
    "opset21": (partial(converted, opset=21), CNNS, "onnx", "classifier"),
    "opset25": (partial(converted, opset=25), CNNS, "onnx", "classifier"),
    "functions": (functions, "seresnet18 squeezenet unet", "onnx", "classifier"),
}


def build(path: Path, *, variant: str, base: str) -> Facts:
    """Make one variant of one base."""
    make, _, by, family = VARIANTS[variant]
    folder = path.parent.parent
    source = folder / f"{BASES[base]}.json"
    if not source.exists():
        raise NotYetError(f"waits for {BASES[base]}")
    facts = json.loads(source.read_text())
    if "failed" in facts:
        raise ValueError(f"its base {BASES[base]} could not be built")
    make(folder / f"{BASES[base]}.onnx", path, facts["inputs"])
    kept = {k: facts[k] for k in ("architecture", "framework", "inputs", "sizes") if k in facts}
    family = facts["family"] if family == "classifier" else family
    return kept | {"exporter": f"{facts['exporter']}; {variant} by {versions(by)}", "family": family}


def recipes() -> dict[str, Build]:
    """Return every variant of its bases."""
    return {
        f"{variant}_{base}": partial(build, variant=variant, base=base)
        for variant, (_, bases, _, _) in VARIANTS.items()
        for base in bases.split()
    }


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main(recipes())
