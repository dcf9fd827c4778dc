"""Models of other hands: the topologies of the onnx package with random weights, and the files of a folder.

    python tools/zoo/light_models.py -o FOLDER [--list]

The folder is ``$ONNX_DECONV_ZOO``, or the one given by ``--zoo``; its models/*.onnx are copied.
"""

import argparse
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from common import Build, Facts, main
from onnx import helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
NARROWED = {4096: 512}
"""Widths of fully connected layers that would fill hundreds of megabytes with random numbers."""
MODELS = {
    "squeezenet1.1-caffe2-fp16": ("Caffe2", "fp16"),
    "squeezenet1.1-caffe2-fp32": ("Caffe2", "classifier"),
    "cifar10-pytorch1.7": ("PyTorch 1.7", "classifier"),
    "mnist-cntk": ("CNTK 2.5.1", "classifier"),
    "style-candy-coreml": ("CoreML", "restorer"),
    "superresolution-pytorch": ("PyTorch", "restorer"),
    "textline-orientation-paddle": ("PaddlePaddle", "classifier"),
}


def topology(path: Path, name: str) -> Facts:
    """Put random weights where the topology has constants."""
    proto = onnx.load(LIGHT / f"light_{name}.onnx")
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    blanks = {n.output[0]: held[n.input[0]] for n in proto.graph.node if n.op_type == "ConstantOfShape"}
    nodes = [n for n in proto.graph.node if n.op_type != "ConstantOfShape"]
    blanks = {v: [NARROWED.get(k, k) for k in shape] for v, shape in blanks.items()}
    rng = np.random.default_rng(0)
    held |= {v: drawn(rng, nodes, v, tuple(shape)) for v, shape in blanks.items()}
    used = {v for n in nodes for v in n.input}
    weights = [numpy_helper.from_array(array, v) for v, array in held.items() if v in used]
    (image,) = [i for i in proto.graph.input if i.name not in held]
    graph = helper.make_graph(nodes, name, [image], proto.graph.output, weights)
    onnx.save(helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8), path)
    sizes = [d.dim_value for d in image.type.tensor_type.shape.dim]
    facts = {"framework": "Caffe2", "exporter": "onnx-caffe2"}
    return facts | {"family": "classifier", "inputs": {image.name: sizes}}


def drawn(
    rng: np.random.Generator, nodes: list[onnx.NodeProto], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Return random numbers for a weight such that activations stay near 1: He's for filters."""
    reader = next(n for n in nodes if name in n.input)
    while reader.op_type == "Unsqueeze":
        reader = next(n for n in nodes if reader.output[0] in n.input)
    if len(shape) > 1:
        return np.float32((1.6 / np.prod(shape[1:])) ** 0.5) * rng.standard_normal(shape, np.float32)
    if reader.op_type == "Mul" or (reader.op_type == "BatchNormalization" and name in reader.input[1::3]):
        # What a residual sum adds is smaller than what it adds to: the sums of many blocks grow else.
        summed = any(n.op_type == "Sum" and reader.output[0] in n.input for n in nodes)
        share = 0.5 if summed and name == reader.input[1] else 1.0
        return np.float32(share * rng.uniform(0.8, 1.2, shape))
    return np.float32(0.1) * rng.standard_normal(shape, np.float32)


def foreign(path: Path, source: Path, framework: str, family: str) -> Facts:
    """Copy a file that another exporter wrote; free sizes become those of a small image."""
    model = onnx.load(source)
    shutil.copyfile(source, path)
    held = {t.name for t in model.graph.initializer}
    sizes = {i.name: sizes_of(i) for i in model.graph.input if i.name not in held}
    exporter = f"{model.producer_name} {model.producer_version}".strip() or framework
    facts = {"framework": framework, "exporter": exporter, "family": family, "inputs": sizes}
    return facts | ({"span": [0, 255]} if family == "restorer" and framework == "CoreML" else {})


def sizes_of(value: onnx.ValueInfoProto) -> list[int]:
    """Return the declared sizes, with what is free filled in."""
    small = (1, 3, 48, 192)
    return [
        d.dim_value if d.dim_value > 0 else free
        for d, free in zip(value.type.tensor_type.shape.dim, small, strict=False)
    ]


def recipes(folder: Path | None) -> dict[str, Build]:
    """Return onnx's topologies, and what the folder has."""
    found: dict[str, Build] = {f"light_{name}": partial(topology, name=name) for name in names()}
    for name, (framework, family) in MODELS.items() if folder else ():
        source = folder / "models" / f"{name}.onnx"
        if source.exists():
            found[f"zoo_{name}"] = partial(foreign, source=source, framework=framework, family=family)
    return found


def names() -> list[str]:
    """Return the topologies that the onnx package brings."""
    return sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))


if __name__ == "__main__":
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--zoo", type=Path, default=os.environ.get("ONNX_DECONV_ZOO"))
    given, sys.argv[1:] = options.parse_known_args()
    main(recipes(given.zoo and Path(given.zoo)))
