"""Small networks written as ONNX text, with random weights; what several tests share."""

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHTS_SEED = 0
LABELS = "ant\nbee\ncat, house cat\ndog\nemu"
BODY = """
    c1 = Conv<pads=[1,1,1,1]>({image}, w1, b1) r1 = Relu(c1)
    p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
    c2 = Conv(p1, w2) r2 = Relu(c2) maps = Conv(r2, w3) g = GlobalAveragePool(maps)
    scores = Flatten(g) y = Softmax(scores)
"""


ROWS = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 3] scores, float[M, 1] rows) {
        r = Relu (x)
        g = GlobalAveragePool (r)
        scores = Flatten (g)
        all = Constant <value_ints = [-1, 1]> ()
        rows = Reshape (scores, all)
    }
"""
"""A model, one of whose outputs has several rows to an image, which no axis tells apart."""


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def model(body, weights, shape, outputs="y"):
    """A model of one input x from text and weights by name."""
    results = ", ".join(f"float[] {name}" for name in outputs.split())
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[{shape}] x) => ({results}) {{ {body} }}'
    )
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def network(batch="N", layout="NCHW", seed=WEIGHTS_SEED, size="H,W"):
    """Conv, Relu, MaxPool, Conv, Relu, a map for each of five classes, their mean, Softmax."""
    weights = {
        "w1": random(4, 3, 3, 3, seed=seed),
        "b1": random(4, seed=seed),
        "w2": random(6, 4, 3, 3, seed=seed) / 2,
        "w3": random(5, 6, 1, 1, seed=seed),
    }
    if layout == "NCHW":
        return model(BODY.format(image="x"), weights, f"{batch},3,{size}")
    body = "t = Transpose<perm=[0,3,1,2]>(x)" + BODY.format(image="t")
    return model(body, weights, f"{batch},{size},3")


def labelled(proto):
    """Give a model of five classes names, and say how pixels become numbers."""
    proto.metadata_props.add(key="labels", value=LABELS)
    proto.metadata_props.add(key="preset", value="imagenet")
    return proto
