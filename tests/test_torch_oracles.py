"""The companion in float32 against what PyTorch and Captum make of the same network in float64.

The networks have random weights (see support/networks.py). Each is explained on a picture on which no ReLU
and no pool is close to deciding otherwise: where one is, single and double precision go different
ways, and neither is wrong.
"""

import functools
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from differences import distance
from zoo_files import ZOO

from onnx_deconv import Semantics, compile_pair, load
from onnx_deconv.runtime import PairSession, numpy_of

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from networks import (  # noqa: E402  (it needs torch)
    FUNCTIONS,
    MODULES,
    by_autograd,
    by_captum,
    clear_picture,
    exported,
    randomised,
)

pytestmark = pytest.mark.slow
TABLES = ["deconvnet", "guided", "gradient"]


@dataclass(frozen=True)
class Case:
    """A network, a picture, the class it sees there, and the network's ONNX file."""

    network: torch.nn.Module
    x: torch.Tensor
    top: int
    proto: onnx.ModelProto

    @classmethod
    @functools.cache
    def of(cls, name):
        make, size = (MODULES | FUNCTIONS)[name]
        network = randomised(make(), seed=0)
        x = clear_picture(network, size)
        return cls(network, x, int(network(x).argmax()), exported(network, size, dynamo=True))

    def ours(self, rules, activations="relu", proto=None):
        semantics = Semantics(rules=rules, activations=activations, lrn="gradient")
        return reconstruction(proto or self.proto, self.x.float().numpy(), self.top, semantics)


def reconstruction(proto, x, unit, semantics):
    """Send 1 at a unit of the scores back through the pair."""
    pair = compile_pair(load(proto), semantics=semantics)
    session = PairSession(pair, "cpu")
    values = session.run_forward({pair.manifest["inputs"][0]["name"]: x})
    seed = np.zeros_like(numpy_of(values[pair.manifest["explained"]["value"]]))
    seed[0, unit] = 1
    return session.run_deconv(values, seed)["reconstruction"]


def assert_equal(found, expected, tolerance=1e-5):
    """Equal up to a share of the largest expected number."""
    assert found.shape == expected.shape
    assert expected.any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# --- networks whose ReLUs are modules -------------------------------------------------------------


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", MODULES)
def test_captum_agrees_where_relus_are_modules(name, rules):
    pytest.importorskip("captum")
    case = Case.of(name)
    assert_equal(case.ours(rules), by_captum(case.network, case.x, case.top, rules))


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_the_gradient_table_is_autograd(name):
    case = Case.of(name)
    assert_equal(case.ours("gradient"), by_autograd(case.network, case.x, case.top))


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
def test_relu6_is_a_rectifier_unless_told(rules):
    case = Case.of("MobileNet-style")
    every = by_autograd(case.network, case.x, case.top, rules, "all")
    assert_equal(case.ours(rules, "all"), every)
    assert distance(case.ours(rules, "relu"), every) > 0.5


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_both_exporters_files_explain_alike(name):
    case = Case.of(name)
    other = exported(case.network, case.x.shape[2], dynamo=False)
    assert [n.op_type for n in other.graph.node] != [n.op_type for n in case.proto.graph.node]
    for rules in TABLES:
        assert_equal(case.ours(rules, proto=other), case.ours(rules))


# --- networks that call the ReLU as a function ----------------------------------------------------


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_relus_are_rectified_too(name, rules):
    case = Case.of(name)
    assert_equal(case.ours(rules), by_autograd(case.network, case.x, case.top, rules))


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", ["VGG-style", "ResNet-style"])
def test_overriding_every_relu_is_what_captum_does_to_modules(name, rules):
    pytest.importorskip("captum")
    case = Case.of(name)
    override = by_autograd(case.network, case.x, case.top, rules)
    assert_equal(override, by_captum(case.network, case.x, case.top, rules), 1e-12)


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", ["GoogLeNet-style", "Inception-v3-style"])
def test_captums_methods_are_the_plain_gradient_where_it_sees_no_relu(name, rules):
    pytest.importorskip("captum")
    case = Case.of(name)
    captums = by_captum(case.network, case.x, case.top, rules)
    np.testing.assert_array_equal(captums, by_autograd(case.network, case.x, case.top))
    assert distance(captums, by_autograd(case.network, case.x, case.top, rules)) > 0.5


def test_captums_deconvolution_is_off_where_it_misses_one_relu():
    pytest.importorskip("captum")
    case = Case.of("DenseNet-style")
    captums = by_captum(case.network, case.x, case.top, "deconvnet")
    assert distance(captums, by_autograd(case.network, case.x, case.top)) > 0.1
    assert distance(captums, by_autograd(case.network, case.x, case.top, "deconvnet")) > 0.1


# --- other people's numbers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("deconvnet", [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]),
        ("guided", [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]),
    ],
)
def test_the_exact_case_of_captum(rules, expected):
    # captum/tests/attr/test_deconvolution.py and test_guided_backprop.py
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    weights = {
        "w": np.ones((2, 1, 3, 3)),
        "b": np.array([-50, -75]),
        "units": np.outer(np.ones(4), [1, 1, 1, 1, 1, -1, -1, -1]),
    }
    proto = model(
        "a = Conv(x, w, b) r = Relu(a) f = Flatten(r) g = Gemm<transB=1>(f, units) y = Relu(g)", x, weights
    )
    np.testing.assert_array_equal(reconstruction(proto, x, 0, Semantics(rules=rules))[0, 0], expected)


NHWC = "n = Transpose<perm=[0,3,1,2]>(x) {} h = Transpose<perm=[0,2,3,1]>(c)"
CONV = "t = Transpose<perm=[3,2,0,1]>(k) {} = Conv(n, t, b)"
POOL = "c = {}<kernel_shape=[2,2], strides=[2,2]>(n)"
INNVESTIGATE = {
    "Dense": "a = MatMul(x, k) h = Add(a, b)",
    "Dense_relu": "a = MatMul(x, k) c = Add(a, b) h = Relu(c)",
    "Conv2D": NHWC.format(CONV.format("c")),
    "Conv2D_relu": NHWC.format(CONV.format("a") + " c = Relu(a)"),
    "MaxPooling2D": NHWC.format(POOL.format("MaxPool")),
    "AveragePooling2D": NHWC.format(POOL.format("AveragePool")),
}


@pytest.mark.parametrize("layer", INNVESTIGATE)
def test_the_six_layers_of_innvestigate(layer):
    # Its seed is the activation of the strongest unit of the flattened output.
    h5py, path = pytest.importorskip("h5py"), ZOO / "oracles" / "innvestigate_Deconvnet.hdf5"
    if not path.exists():
        pytest.skip(f"{path} is absent; set ONNX_DECONV_ZOO")
    with h5py.File(path) as file:
        x, held = file["input"][()].astype(np.float32), file[layer]
        weights = dict(zip("kb", [held["weights"][key][()] for key in held["weights"]], strict=False))
        output, expected = held["output"][()], held["attribution"][()]
    pair = compile_pair(load(model(INNVESTIGATE[layer] + " y = Flatten(h)", x, weights)))
    session = PairSession(pair, "cpu")
    values = session.run_forward({"x": x})
    scores = numpy_of(values["y"])
    np.testing.assert_allclose(scores, output, rtol=1e-5, atol=1e-6)
    strongest = scores.argmax(1)[:, None] == np.arange(scores.shape[1])
    found = session.run_deconv(values, scores * strongest)["reconstruction"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def model(body, x, weights):
    """A model in float32 from the body of its graph."""
    sizes = ",".join(map(str, x.shape))
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[{sizes}] x) => (float[] y) {{ {body} }}'
    )
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return proto
