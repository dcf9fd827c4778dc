"""Real topologies and real models: the companion against two answers that share no code with it.

The topologies are those that the onnx package ships (their weights are constants, so that every
pool's window is a tie: random ones are put in); the models are found through ONNX_DECONV_ZOO, or in
../shared/zoo beside the checkout. The answers are the slow deconvnet in NumPy, and for the gradient
table PyTorch's automatic differentiation too. Both get the very forward values that the companion
reads: two runtimes that round differently send signals to different switches.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from differences import distance
from onnx import helper, numpy_helper
from PIL import Image
from zoo_files import ZOO

from onnx_deconv import Model, Semantics, compile_pair, load
from onnx_deconv.compiler.backward import Walk
from onnx_deconv.model.heads import head_of
from onnx_deconv.runtime import PairSession, numpy_of
from onnx_deconv.verification.reference import ReferenceOptions, reference

pytestmark = pytest.mark.slow
TABLES = ["deconvnet", "guided", "gradient"]
ROOT = Path(__file__).parents[1]

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
TOPOLOGIES = {
    "bvlc_alexnet": (128, 2304),
    "zfnet512": (128, 4608),
    "vgg19": (64, 2048),
    "inception_v1": (224, None),
    "inception_v2": (224, None),
    "resnet50": (224, None),
    "densenet121": (128, None),
    "shufflenet": (224, None),
    "squeezenet": (224, None),
}
"""Height and width, and how many numbers the first fully connected layer reads where that is not 224."""

MODELS = {
    "squeezenet1.1-caffe2-fp32": (-120, 130),
    "cifar10-pytorch1.7": (-1, 1),
    "mnist-cntk": (0, 255),
    "textline-orientation-paddle": (-1, 1, 48, 192),
    "style-candy-coreml": (0, 255, 64, 64),
    "superresolution-pytorch": (0, 1),
}
"""The range of the input's numbers; height and width where the file leaves them open or makes them large."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, and an image for it."""

    name: str
    proto: onnx.ModelProto
    model: Model
    x: np.ndarray

    @classmethod
    def of(cls, name, proto, low, high):
        model = load(proto)
        info = next(i for i in proto.graph.input if i.name == model.inputs[0])
        shape = [d.dim_value if d.dim_value > 0 else 1 for d in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        return cls(name, proto, model, photo(shape, low, high).astype(dtype))


def photo(shape, low, high):
    """The photograph in models/, of the given shape, its numbers within a range."""
    _, channels, height, width = shape
    picture = Image.open(ROOT / "models" / "chelsea.png").convert("RGB" if channels == 3 else "L")
    pixels = np.asarray(picture.resize((width, height)), np.float32).reshape(height, width, channels)
    return low + (high - low) / 255 * pixels.transpose(2, 0, 1)[None]


@pytest.fixture(scope="module", params=[*TOPOLOGIES, *MODELS])
def network(request):
    """A topology with random weights, or a model."""
    return network_of(request.param)


def network_of(name):
    if name in TOPOLOGIES:
        return Network.of(name, topology(name, *TOPOLOGIES[name]), -2, 2)
    low, high, *sizes = MODELS[name]
    proto = zoo_model(name)
    if sizes:
        resize(proto, sizes)
    return Network.of(name, proto, low, high)


def zoo_model(name):
    path = ZOO / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent; set ONNX_DECONV_ZOO")
    return onnx.load(path)


def resize(proto, sizes):
    """Change the declared size of the image, and the sizes that style-candy has written into its nodes."""
    was = proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    for value in (proto.graph.input[0], proto.graph.output[0]):
        for dim, size in zip(value.type.tensor_type.shape.dim[2:], sizes, strict=False):
            dim.dim_value = size
    for attribute in (a for n in proto.graph.node for a in n.attribute if a.name == "output_shape"):
        attribute.ints[:] = [(k - 2) * size // was + 2 for k, size in zip(attribute.ints, sizes, strict=True)]


def topology(name, size, flat):
    """A topology of the onnx package whose constant weights are replaced by random ones."""
    proto, rng = onnx.load(LIGHT / f"light_{name}.onnx"), np.random.default_rng(0)
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    blanks = {n.output[0]: held[n.input[0]] for n in proto.graph.node if n.op_type == "ConstantOfShape"}
    nodes = [n for n in proto.graph.node if n.op_type != "ConstantOfShape"]
    (data,) = [i for i in proto.graph.input if i.name not in held]
    data.type.tensor_type.shape.dim[2].dim_value = data.type.tensor_type.shape.dim[3].dim_value = size
    for target in [n.input[1] for n in nodes if n.op_type == "Reshape" and flat]:
        # The first fully connected layer reads what the last pool gives.
        blanks |= {v: [s[0], flat] for v, s in blanks.items() if [*s[1:]] == [held[target][1]]}
        held[target] = np.array([1, flat])
    held |= {v: drawn(rng, nodes, v, tuple(shape)) for v, shape in blanks.items()}
    used = {v for n in nodes for v in n.input}
    weights = [numpy_helper.from_array(array, v) for v, array in held.items() if v in used]
    graph = helper.make_graph(nodes, name, [data], proto.graph.output, weights)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)


def drawn(rng, nodes, name, shape):
    """Random numbers for a weight such that activations stay near 1: He's for filters."""
    reader = next(n for n in nodes if name in n.input)
    while reader.op_type == "Unsqueeze":
        reader = next(n for n in nodes if reader.output[0] in n.input)
    if len(shape) > 1:
        spread = math.sqrt((2 if rectified(nodes, reader.input[0]) else 1) / math.prod(shape[1:]))
        return np.float32(spread) * rng.standard_normal(shape, np.float32)
    if reader.op_type == "Mul" or (reader.op_type == "BatchNormalization" and name in reader.input[1::3]):
        # What a residual sum adds is smaller than what it adds to: the sums of many blocks grow else.
        summed = any(n.op_type == "Sum" and reader.output[0] in n.input for n in nodes)
        share = 0.5 if summed and name == reader.input[1] else 1.0
        return np.float32(share * rng.uniform(0.8, 1.2, shape))
    return np.float32(0.1) * rng.standard_normal(shape, np.float32)


def rectified(nodes, value):
    """Whether a value is what a Relu let pass, however moved about or pooled."""
    node = next((n for n in nodes if value in n.output), None)
    if node is None or node.op_type in ("Conv", "Gemm", "BatchNormalization", "Sum", "Add"):
        return False
    return node.op_type == "Relu" or rectified(nodes, node.input[0])


class Run:
    """An image that went forward through a pair; by default its forward model shows every value."""

    def __init__(self, network, rules, *, as_served=False):
        pair = compile_pair(network.model, semantics=Semantics.of(rules))
        if not as_served:
            pair = dataclasses.replace(pair, forward=showing_all(pair.forward))
        self.session, self.name = PairSession(pair, "cpu"), network.model.inputs[0]
        self.passed = self.session.run_forward({self.name: network.x})
        self.values = {v: numpy_of(value) for v, value in self.passed.items()} | {self.name: network.x}
        self.explained = pair.manifest["explained"]["value"]

    def seeds(self):
        """One at the strongest unit; random numbers everywhere."""
        scores = self.values[self.explained]
        top = np.zeros(scores.shape, np.float32)
        top.flat[scores.argmax()] = 1
        return {"top-1": top, "dense": np.random.default_rng(0).standard_normal(scores.shape, np.float32)}

    def back(self, seed):
        return self.session.run_deconv(self.passed, seed)["reconstruction"]


def showing_all(proto):
    """A model that outputs every value."""
    full = onnx.ModelProto()
    full.CopyFrom(proto)
    shown = {o.name for o in full.graph.output} | {""}
    names = [v for node in full.graph.node for v in node.output if v not in shown]
    full.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in names)
    return full


def difference(a, b):
    """The largest difference as a share of the largest expected number."""
    assert a.shape == b.shape
    assert b.any()
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("rules", TABLES)
def test_the_companion_is_the_slow_deconvnet(network, rules):
    run, options = Run(network, rules), ReferenceOptions(rules=rules)
    for kind, seed in run.seeds().items():
        slow = reference(network.proto, run.values, run.explained, seed, options=options)[run.name]
        assert difference(run.back(seed), slow) < 1e-5, kind


def test_the_gradient_table_is_automatic_differentiation(network):
    torch = pytest.importorskip("torch")
    from torch_oracle import Oracle  # noqa: PLC0415  (it needs torch)

    torch.set_num_threads(1)  # threads of several workers would wait for each other
    run = Run(network, "gradient")
    oracle = Oracle(network.proto, values=run.values)
    oracle.forward({run.name: run.values[run.name]}, [run.explained])
    assert oracle.deviation[0] < 1e-4
    for kind, seed in run.seeds().items():
        exact = oracle.back(run.explained, seed, "gradient")[run.name]
        assert difference(run.back(seed), exact) < 1e-5, kind


@pytest.mark.parametrize("choice", [{"lrn": "gradient"}, {"unpool": "overwrite"}])
def test_each_choice_is_that_of_the_slow_deconvnet(choice):
    net = network_of("zfnet512")  # it has response normalisation, and pools that overlap
    run, by_default = Run(net, Semantics(**choice)), Run(net, "deconvnet")
    seed = run.seeds()["top-1"]
    options = ReferenceOptions(**choice)
    slow = reference(net.proto, run.values, run.explained, seed, options=options)[run.name]
    assert difference(run.back(seed), slow) < 1e-5
    assert distance(by_default.back(seed), slow) > 0.01


def test_a_pair_as_it_is_served_explains_alike(network):
    # Where no one reads a value the runtime fuses operators and rounds differently: on one of these
    # models 20 of half a million switches move, and the reconstruction changes by 1 %; on most, none.
    shown, served = Run(network, "deconvnet"), Run(network, "deconvnet", as_served=True)
    seed = shown.seeds()["top-1"]
    assert distance(served.back(seed), shown.back(seed)) < 0.02


def test_the_companion_is_not_much_larger_than_the_network(network):
    model, semantics = network.model, Semantics()
    path = Walk(model, head_of(model).start, semantics).path
    # Each of the 15 InstanceNormalizations of style-candy takes ten nodes to send a signal back.
    most = 5.0 if network.name == "style-candy-coreml" else 2.2
    assert len(compile_pair(model).deconv.graph.node) <= most * len(path)


@pytest.mark.parametrize(
    "name", ["zfnet512", "squeezenet", "shufflenet", "cifar10-pytorch1.7", "superresolution-pytorch"]
)
def test_the_gradient_table_is_that_of_onnx_ad(name):
    # It refuses SAME padding and the paths to a withdrawn operator; the others take longer.
    onnx_ad, ort = pytest.importorskip("onnx_ad"), pytest.importorskip("onnxruntime")
    net = network_of(name)
    run = Run(net, "gradient")
    proto = onnx.version_converter.convert_version(up_to(net, run.explained), 18)
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    exact = onnx_ad.reverse(proto, layout="onnx", inputs=[run.name])
    seed = run.seeds()["dense"]
    feeds = {run.name: net.x, exact.graph.input[-1].name: seed[..., None]} | told(exact, run.values)
    session = ort.InferenceSession(exact.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run([f"adj_{run.name}"], feeds)
    assert difference(run.back(seed), expected[..., 0]) < 1e-5


def told(proto, values):
    """Let a graph take the real numbers that it would compute as inputs, where they are known; return them.

    A runtime that computes them twice may round them differently, and one number on the other side of
    zero sends a signal another way.
    """
    known = {v for v, array in values.items() if array.dtype == np.float32}
    taken = [v for n in proto.graph.node for v in n.output if v in known]
    for node in proto.graph.node:
        node.output[:] = [f"{v}/computed" if v in known else v for v in node.output]
    proto.graph.input.extend(helper.make_tensor_value_info(v, 1, values[v].shape) for v in taken)
    outputs = [o for o in proto.graph.output if o.name not in known]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    return {v: values[v] for v in taken}


def up_to(network, value):
    """The model up to one of its values, of one image."""
    proto, wanted, kept = network.proto, {value}, []
    for node in reversed(proto.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    x = helper.make_tensor_value_info(network.model.inputs[0], 1, network.x.shape)
    y = helper.make_tensor_value_info(value, 1, [d or 1 for d in network.model.type_of(value).shape])
    graph = helper.make_graph(kept[::-1], "g", [x], [y], proto.graph.initializer)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)


# --- half precision: two files whose weights are the same numbers ---------------------------------

# Between the fp16 values that it shows the runtime computes in float32, so that the slow deconvnet
# cannot know which switches it took. The single precision file's switches are given to both instead.


@pytest.fixture(scope="module")
def twins():
    full, half = network_of("squeezenet1.1-caffe2-fp32"), zoo_model("squeezenet1.1-caffe2-fp16")
    return full, Network("half", half, load(half), full.x.astype(np.float16))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float16", 0.01)])
def test_a_half_precision_model_has_the_companion_of_its_twin(twins, precision, tolerance):
    full, half = Run(twins[0], "deconvnet"), Run(twins[1], Semantics(precision=precision), as_served=True)
    assert half.session.seed_dtype == np.dtype(precision)
    half.passed = full.passed
    for kind, seed in full.seeds().items():
        # Rounding to half precision can move a signal across the threshold of any of 26 Relus.
        back = half.back(seed.astype(precision))
        assert distance(back, full.back(seed)) < tolerance, kind


@pytest.mark.parametrize("rules", TABLES)
def test_a_half_precision_model_is_explained_like_its_twin(twins, rules):
    full, half = (Run(network, rules, as_served=True) for network in twins)
    seed = full.seeds()["top-1"]
    assert distance(half.back(seed), full.back(seed)) < 0.1
