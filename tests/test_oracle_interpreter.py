"""The oracle in PyTorch against onnxruntime, against the gradient table, and the papers.

It (oracles/torch_oracle) shares no code with the product, so that each vouches for the other.
"""

import numpy as np
import onnx
import pytest
from operator_cases import CASES
from oracle import Case, RefusedError, model_of, numbers, plain, reconstruction

torch = pytest.importorskip("torch")

from torch_oracle import Oracle, reconstruct  # noqa: E402

SPELLINGS = {
    "SiLU": ("s = Sigmoid(x) y = Mul(x, s)", 0),
    "QuickGelu": ("a = Mul(x, c) s = Sigmoid(a) y = Mul(s, x)", 0),
    "HardSwish": ("a = Add(x, three) b = Clip(a, zero, six) d = Mul(x, b) y = Div(d, six)", 0),
    "GELU": ("a = Div(x, root) e = Erf(a) b = Add(e, one) d = Mul(x, b) y = Mul(d, half)", 0),
    "Mish": ("s = Softplus(x) t = Tanh(s) y = Mul(t, x)", 0),
    "ReLU6": ("a = Max(x, zero) y = Min(a, six)", 0),
    "ELU": ("p = Max(x, zero) m = Min(x, zero) e = Exp(m) d = Sub(e, one) y = Add(p, d)", 0),
    "LeakyReLU": ("a = Mul(x, tenth) y = Max(x, a)", 0.1),
    "PReLU": ("p = Relu(x) n = Neg(x) q = Relu(n) s = Mul(q, minus) y = Add(p, s)", 0.25),
    "quantised SiLU": (
        "q = QuantizeLinear(x, tenth) d = DequantizeLinear(q, tenth) s = Sigmoid(x) y = Mul(s, d)",
        0,
    ),
}
CONSTANTS = {
    "zero": 0.0, "tiny": 1e-12, "one": 1.0, "half": 0.5, "three": 3.0, "six": 6.0, "tenth": 0.1,
    "root": 2**0.5, "c": 1.702,
    "minus": [[[-0.25]], [[-0.25]], [[-0.25]]],
}  # fmt: skip
UNRECTIFIED = {
    "a hard sigmoid": "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)",
    "a line": "y = Mul(x, half)",
    "a gate of another value": "g = Sigmoid(z) y = Mul(x, g)",
    "a sigmoid": "y = Sigmoid(x)",
    "an absolute value": "a = Abs(x) y = Mul(a, half)",
    "a lower bound": "y = Max(x, tiny)",
}


def worst(found, expected):
    """The largest difference as a share of the largest expected number."""
    largest = np.abs(expected).max() if expected.size else 0
    return np.abs(found - expected).max() / largest if largest else np.abs(found).max(initial=0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_runs_as_onnxruntime_does_and_its_gradient_is_the_tables(case):
    feeds = case.feeds()
    try:
        expected = plain(case.proto(), feeds)["y"]
    except RefusedError:
        pytest.skip("onnxruntime refuses the model")
    oracle = Oracle(case.proto())
    found = oracle.forward(feeds, ["y"])["y"].detach().numpy()
    assert found.shape == expected.shape
    assert worst(found, expected) < 1e-5
    seed = numbers(expected.shape, "seed")
    back = oracle.back("y", seed, "gradient")["x"]
    ours = reconstruction(case.proto(), feeds, seed, rules="gradient", inputs=["x"])
    assert worst(ours, back) < 1e-4


def spelled(body, **more):
    """A model of one spelling, and random numbers for it."""
    weights = {n: np.float32(v) for n, v in CONSTANTS.items() if n in body}
    inputs = {n: (2, 3, 4, 5) for n in ("x", "z") if f"({n}" in body or f" {n})" in body}
    proto = model_of(body, inputs, weights, **more)
    return proto, {n: 4 * numbers(shape, n) for n, shape in inputs.items()}


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_activation_is_rectified_however_it_is_spelled(name):
    body, slope = SPELLINGS[name]
    proto, feeds = spelled(body)
    seed = numbers((2, 3, 4, 5), "seed")
    rectified = np.where(seed > 0, seed, slope * seed)
    np.testing.assert_allclose(reconstruct(proto, feeds, "y", seed)["x"], rectified, atol=1e-6)
    stopped = np.where(feeds["x"] > 0, rectified, 0)
    np.testing.assert_allclose(reconstruct(proto, feeds, "y", seed, "guided")["x"], stopped, atol=1e-6)


@pytest.mark.parametrize("name", UNRECTIFIED)
def test_nothing_else_is_rectified(name):
    proto, feeds = spelled(UNRECTIFIED[name])
    seed = numbers((2, 3, 4, 5), "seed")
    exact = reconstruct(proto, feeds, "y", seed, "gradient")
    for rules in ("deconvnet", "guided"):
        for input_, back in reconstruct(proto, feeds, "y", seed, rules).items():
            np.testing.assert_allclose(back, exact[input_], atol=1e-12)


def test_switches_of_another_runtime_are_taken():
    case = Case("y, i = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x)", x=(1, 1, 2, 3))
    feeds, seed = {"x": np.zeros((1, 1, 2, 3), np.float32)}, np.float32([[[[1, 2]]]])
    first = reconstruct(case.proto(), feeds, "y", seed)["x"]
    np.testing.assert_array_equal(first, [[[[1, 2, 0], [0, 0, 0]]]])
    given = {"y": np.array([[[[4, 4]]]])}
    np.testing.assert_array_equal(
        reconstruct(case.proto(), feeds, "y", seed, switches=given)["x"], [[[[0, 0, 0], [0, 3, 0]]]]
    )


def test_values_of_another_runtime_are_taken():
    proto, feeds = spelled("a = Mul(x, half) y = Relu(a)")
    seed = np.ones((2, 3, 4, 5))
    oracle = Oracle(proto, values={"a": -np.ones((2, 3, 4, 5), np.float32)})
    oracle.forward(feeds, ["y"])
    assert oracle.deviation[1] == "a"
    assert not oracle.back("y", seed, "gradient")["x"].any()


@pytest.mark.parametrize(
    "activation",
    ['activation = "Relu"', 'activation = "Clip", activation_params = [0.0, 6.0]'],
    ids=["Relu", "Clip"],
)
def test_a_fused_activation_is_on_the_side_that_another_runtime_took(activation):
    """The other runtime saw the first two units on the other side of zero: its side decides."""
    proto = model_of(
        f"y = com.microsoft.FusedConv<{activation}>(x, one)",
        {"x": (1, 1, 1, 4)},
        {"one": np.ones((1, 1, 1, 1), np.float32)},
    )
    feeds = {"x": np.array([[[[-1e-9, 1e-9, 1e-9, 3]]]], np.float32)}
    given = np.array([[[[1e-9, 0, 1e-9, 3]]]], np.float32)
    oracle = Oracle(proto, values={"y": given})
    found = oracle.forward(feeds, ["y"])["y"].detach().numpy()
    np.testing.assert_array_equal(found, given)
    back = oracle.back("y", np.ones((1, 1, 1, 4)), "gradient")["x"]
    np.testing.assert_array_equal(back, [[[[1, 0, 1, 1]]]])


def test_branches_and_loops_run():
    body = """
    c = ReduceSum<keepdims = 0>(x) p = Greater(c, zero) k = Constant<value = int64 {3}>()
    t = If (p) <then_branch = g () => (float[] u) { u = Mul(x, half) },
                else_branch = h () => (float[] v) { v = Neg(x) }>
    y = Loop (k, , t) <body = b (int64 i, bool on, float[] s) => (bool go, float[] r)
                       { go = Identity(on) r = Mul(s, six) }>
    """
    proto = model_of(body, {"x": (2, 3)}, {n: np.float32(CONSTANTS[n]) for n in ("zero", "half", "six")})
    feeds = {"x": np.full((2, 3), 2, np.float32)}
    np.testing.assert_allclose(Oracle(proto).forward(feeds, ["y"])["y"].detach(), plain(proto, feeds)["y"])
    seed = np.ones((2, 3))
    np.testing.assert_allclose(reconstruct(proto, feeds, "y", seed)["x"], np.full((2, 3), 108))


def test_a_file_may_be_unsorted():
    proto, feeds = spelled("a = Mul(x, half) y = Relu(a)")
    first = onnx.NodeProto.FromString(proto.graph.node[0].SerializeToString())
    del proto.graph.node[0]
    proto.graph.node.append(first)
    expected = np.maximum(feeds["x"] / 2, 0)
    np.testing.assert_allclose(Oracle(proto).forward(feeds, ["y"])["y"].detach(), expected, atol=1e-6)
