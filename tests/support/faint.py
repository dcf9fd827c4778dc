"""A network whose pictures are of what little of the signal is left."""

import numpy as np
import onnx


def leftovers(least):
    """Make a network of whose classes' signals a rectifier lets `least` squared in three through."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 2] scores) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu (c)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv (m, v, b)
            pooled = GlobalAveragePool (d)
            scores = Flatten (pooled)
        }
    """
    model = onnx.parser.parse_model(text)
    filters = np.tile([[-1, -1, -1, least]], (2, 1)).reshape(2, 4, 1, 1)
    for name, array in {"w": np.ones((4, 3, 3, 3)), "v": filters, "b": np.full(2, 1000.0)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return model
