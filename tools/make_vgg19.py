"""Write a VGG-19 (Simonyan & Zisserman 2014, table 1, column E) with random weights: 575 MB.

    python tools/make_vgg19.py vgg19.onnx

For measuring what converting a large model costs; see ``tools/bench_convert.py``.
"""

from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCKS = (2, 64), (2, 128), (4, 256), (4, 512), (4, 512)
WIDTHS = (512 * 7 * 7, 4096, 4096, 1000)


def vgg19(seed: int = 0) -> onnx.ModelProto:
    """Make the model: input ``image`` (N, 3, 224, 224), output ``probabilities`` (N, 1000)."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(operator: str, name: str, *parameters: np.ndarray, **attributes: object) -> None:
        inputs = [nodes[-1].output[0] if nodes else "image"]
        for k, array in enumerate(parameters):
            inputs.append(f"{name}.{'weight' if k == 0 else 'bias'}")
            weights.append(numpy_helper.from_array(array, inputs[-1]))
        nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))

    def normal(*shape: int) -> np.ndarray:
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        return rng.standard_normal(shape, np.float32) * scale

    channels = 3
    for block, (convs, width) in enumerate(BLOCKS, start=1):
        for k in range(1, convs + 1):
            kernel = normal(width, channels, 3, 3)
            add("Conv", f"conv{block}_{k}", kernel, np.zeros(width, np.float32), pads=[1, 1, 1, 1])
            add("Relu", f"relu{block}_{k}")
            channels = width
        add("MaxPool", f"pool{block}", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten", "flat")
    for k, (wide, narrow) in enumerate(pairwise(WIDTHS), start=6):
        add("Gemm", f"fc{k}", normal(narrow, wide), np.zeros(narrow, np.float32), transB=1)
        if narrow != WIDTHS[-1]:
            add("Relu", f"relu{k}")
    add("Softmax", "probabilities", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 1000])
    graph = helper.make_graph(nodes, "vgg19", [image], [result], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Write the model."""
    onnx.save(vgg19(), path)


if __name__ == "__main__":
    main()
