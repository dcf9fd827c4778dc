"""Networks of random geometry, of positive weights and no biases."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import RefusedError, plain

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


ACTIVATIONS = ["Relu", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Clip"]
LAYERS = ["conv", "depthwise", "transpose", "normalised", "residual", "concat", "gate", "maximum", "average"]


class Signed(Net):
    """A network of signed weights and biases, of few channels, that ends in classes."""

    def __init__(self, state, shape=(2, 6, 5)):
        super().__init__(shape)
        self.rng, self.channels = np.random.default_rng(state), shape[0]

    def numbers(self, *shape):
        return self.const(self.rng.standard_normal(shape).astype(np.float32))

    def filtered(self, channels, kernel=(3, 3), group=1, **attributes):
        weight = self.numbers(channels, self.channels // group, *kernel)
        self.channels = channels
        return self.add("Conv", weight, self.numbers(channels), group=group, **attributes)

    def layer(self, kind, activation, how):
        if kind in ("conv", "normalised", "transpose"):
            self.convolution(kind, how)
        elif kind == "depthwise":
            self.filtered(self.channels, group=self.channels, pads=[1] * 4)
        elif kind in ("residual", "concat"):
            self.branches(kind)
        elif kind == "gate":
            self.gate()
        else:
            pool = {"maximum": "MaxPool", "average": "AveragePool"}[kind]
            self.add(pool, kernel_shape=[2, 2], strides=[how, 1], pads=[0, 0, 1, 1])
            return
        if activation == "Clip":
            self.add("Clip", self.const(np.float32(0)), self.const(np.float32(6)))
        elif activation is not None:
            self.add(activation)

    def convolution(self, kind, how):
        if kind == "transpose":
            weight = self.numbers(self.channels, 2, 2, 2)
            self.channels = 2
            self.add("ConvTranspose", weight, self.numbers(2), strides=[how, 1])
            return
        if how == 2:
            self.add("Pad", self.const(np.array([0, 0, 0, 1, 0, 0, 1, 1])))
            self.filtered(3, strides=[1, 2])
        else:
            self.filtered(3, pads=[1] * 4)
        if kind == "normalised":
            spread = self.const(np.abs(self.rng.standard_normal(3)).astype(np.float32) + 0.5)
            self.add("BatchNormalization", *(self.numbers(3) for _ in "sbm"), spread)

    def branches(self, kind):
        start, channels = self.last, self.channels
        branch = self.filtered(channels, pads=[1] * 4)
        if kind == "residual":
            self.add("Add", inputs=[start, branch])
            return
        self.channels *= 2
        self.add("Concat", inputs=[start, branch], axis=1)

    def gate(self):
        start = self.last
        self.add("GlobalAveragePool")
        self.filtered(self.channels, (1, 1))
        self.add("Mul", inputs=[start, self.add("Sigmoid")])

    def classes(self, count=3):
        self.add("GlobalAveragePool")
        self.add("Flatten")
        return self.add("Gemm", self.numbers(count, self.channels), self.numbers(count), transB=1)


@st.composite
def signed_nets(draw):
    net = Signed(draw(st.integers(0, 2**16)))
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.integers(1, 2))
        net.layer(draw(st.sampled_from(LAYERS)), draw(st.sampled_from([*ACTIVATIONS, None])), how)
    if draw(st.booleans()):
        net.classes()
    return net


def strongest_units(proto, net, x):
    """A seed of 1 at each image's strongest unit; not of networks that are refused, or see padding alone."""
    try:
        y = plain(proto, {"image": x})[net.last]
    except RefusedError:
        assume(False)
    assume(y.size and y.reshape(len(y), -1).max(1).all())
    seed = np.zeros_like(y)
    for image, values in zip(seed, y, strict=True):
        image.flat[values.argmax()] = 1
    return seed
