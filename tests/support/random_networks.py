"""Networks of random geometry, of positive weights and no biases."""

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 13, 11


class Net:
    """A network of positive weights that grows by one operator at a time."""

    def __init__(self, shape=(1, HEIGHT, WIDTH), opset=18):
        self.nodes, self.weights, self.last, self.opset = [], [], "image", opset
        self.shape = shape

    def add(self, operator, *more, inputs=None, count=1, **attributes):
        name = f"v{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(count)] if count > 1 else [name]
        self.nodes.append(helper.make_node(operator, [*(inputs or [self.last]), *more], names, **attributes))
        self.last = names[0]
        return names[0] if count == 1 else names

    def const(self, array):
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, kernel, channels=(1, 1), operator="Conv", **attributes):
        weight = self.const(np.full((*channels, *kernel), 0.25, np.float32))
        return self.add(operator, weight, **attributes)

    def model(self):
        value = helper.make_tensor_value_info
        inputs = [value("image", TensorProto.FLOAT, ["N", *self.shape])]
        outputs = [value(self.last, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@st.composite
def windows(draw, most=3):
    kernel = [draw(st.integers(1, most)) for _ in "yx"]
    return {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in "yx"],
        "dilations": [draw(st.integers(1, 2)) for _ in "yx"],
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
    }


KINDS = ["conv", "same", "pool", "residual", "concat", "transpose", "pad", "up", "slice"]


@st.composite
def nets(draw, shape=(1, HEIGHT, WIDTH)):
    net = Net(shape)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS))
        how = draw(windows())
        if kind == "conv":
            net.conv(how["kernel_shape"], **how)
        elif kind == "same":
            auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
            net.conv(how["kernel_shape"], auto_pad=auto, strides=how["strides"])
        elif kind == "pool":
            net.add("MaxPool", **how, ceil_mode=draw(st.integers(0, 1)))
        elif kind == "residual":
            start = net.last
            branch = net.conv((3, 3), pads=[1] * 4, kernel_shape=[3, 3])
            net.add("Add", inputs=[start, branch])
        elif kind == "concat":
            start = net.last
            one, two = net.conv((1, 3), pads=[0, 1, 0, 1]), None
            net.last = start
            two = net.conv((3, 1), pads=[2, 0, 2, 0], dilations=[2, 1])
            net.add("Concat", inputs=[one, two], axis=1)
            net.conv((1, 1), (1, 2))
        elif kind == "transpose":
            spare = [draw(st.integers(0, s - 1)) for s in how["strides"]]
            more = {k: how[k] for k in ("strides", "dilations")}
            net.conv(how["kernel_shape"], operator="ConvTranspose", output_padding=spare, **more)
        elif kind == "pad":
            pads = [0, 0, draw(st.integers(0, 2)), draw(st.integers(0, 2)), 0, 0, 0, draw(st.integers(0, 2))]
            net.add("Pad", net.const(np.array(pads)))
        elif kind == "up":
            net.add("Resize", "", net.const(np.array([1, 1, 2, 3], np.float32)), mode="nearest")
        else:
            first = draw(st.integers(0, 2))
            cut = ([first], [np.iinfo(np.int64).max], [2], [2])
            net.add("Slice", *map(net.const, cut))
    return net
