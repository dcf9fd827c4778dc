"""Verification passes what is exact, and finds what is not."""

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from oracle import model_of, numbers
from zoo_files import ZOO

from onnx_deconv import Semantics, compile_pair, load
from onnx_deconv.attribution.photographs import random_feeds
from onnx_deconv.errors import InputError, MissingRuleError, UnknownLayerError
from onnx_deconv.operators import tables
from onnx_deconv.runtime import Session
from onnx_deconv.verification import reference
from onnx_deconv.verification.verify import (
    Check,
    _Run,
    _Windows,
    _with_weights,
    check_pair,
    relative_error,
    verify,
)

POOLS = {
    "overlapping": ("MaxPool<kernel_shape = [3, 3], strides = [2, 2]>", (11, 12)),
    "hanging over": ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>", (10, 12)),
    "padded": ("MaxPool<kernel_shape = [3, 3], strides = [1, 2], pads = [1, 0, 1, 1]>", (9, 12)),
    "dilated": ("MaxPool<kernel_shape = [2, 3], dilations = [2, 2]>", (9, 12)),
    "by column": ("MaxPool<kernel_shape = [2, 2], strides = [2, 2], storage_order = 1>", (8, 12)),
    "same upper": ('MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">', (8, 11)),
    "same lower": ('MaxPool<kernel_shape = [2, 2], strides = [1, 2], auto_pad = "SAME_LOWER">', (8, 11)),
    "valid": ('MaxPool<kernel_shape = [2, 2], strides = [3, 3], auto_pad = "VALID">', (8, 11)),
    "one axis": ("MaxPool<kernel_shape = [3], strides = [2]>", (13,)),
    "three axes": ("MaxPool<kernel_shape = [2, 2, 2], strides = [1, 2, 2]>", (6, 5, 6)),
}


def network(pool="MaxPool<kernel_shape = [3, 3], strides = [2, 2]>", size=(11, 12)):
    """Conv → Relu → MaxPool → Conv, of any number of axes."""
    body = f"c = Conv(x, w)  r = Relu(c)  p = {pool}(r)  y = Conv(p, v)"
    ones = (1,) * (len(size) - 1)
    weights = {"w": numbers((4, 3, 3, *ones), "w"), "v": numbers((5, 4, 2, *ones), "v")}
    return model_of(body, {"x": (2, 3, *size)}, weights)


def feeds_of(model, rng=0):
    return random_feeds(model, np.random.default_rng(rng))


def checks_of(proto, **more):
    model = load(proto)
    return list(verify(model, feeds_of(model), providers="cpu", **more))


@pytest.fixture
def run():
    """The network above, gone forward."""
    model = load(network())
    pair = compile_pair(model)
    return _Run(model, _with_weights(model), pair, feeds_of(model), "cpu")


@pytest.mark.parametrize("name", POOLS)
def test_every_form_of_a_pool_is_found_exact(name):
    checks = checks_of(network(*POOLS[name]))
    assert [c.name for c in checks] == [
        "forward", "switches", "companion", "companion",
        "forward", "companion", "companion",
        "forward", "companion", "companion", "difference",
    ]  # fmt: skip
    assert [c for c in checks if not c.passed] == []


@pytest.mark.parametrize("choice", [{"unpool": "overwrite"}, {"activations": "relu"}, {"lrn": "gradient"}])
def test_choices_are_verified_as_chosen(choice):
    body = (
        "c = Conv(x, w)  e = Elu(c)  l = LRN<size = 3, alpha = 0.5>(e)  y = MaxPool<kernel_shape = [3, 3]>(l)"
    )
    proto = model_of(body, {"x": (1, 3, 9, 9)}, {"w": numbers((4, 3, 3, 3), "w")})
    assert all(c.passed for c in checks_of(proto, semantics=Semantics(**choice)))


def test_a_model_in_functions_is_verified():
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "own": 1]>
        net (float[1, 3, 8, 8] x) => (float[] y) {
            c = own.block (x, w)
            y = MaxPool <kernel_shape = [2, 2]> (c)
        }
        <domain: "own", opset_import: ["": 17]>
        block (a, w) => (b) { c = Conv (a, w)  b = Elu (c) }
    """)
    proto.graph.initializer.append(numpy_helper.from_array(numbers((4, 3, 3, 3), "w"), "w"))
    assert all(c.passed for c in checks_of(proto))


def test_a_layer_and_some_tables_alone():
    checks = checks_of(network(), layer="r", tables=["gradient"])
    assert [c.name for c in checks] == ["forward", "companion", "companion", "difference"]
    assert all(c.passed for c in checks)
    with pytest.raises(UnknownLayerError):
        checks_of(network(), layer="q")


@pytest.mark.parametrize(
    ("table", "rule", "fails"),
    [
        ("deconvnet", lambda at: [at.signal], {"companion"}),
        ("gradient", lambda at: [at.op.Mul(at.signal, 0.5)], {"companion", "difference"}),
    ],
)
def test_a_wrong_rule_is_found(monkeypatch, table, rule, fails):
    monkeypatch.setitem(tables()[table]._rows, ("", "Relu"), rule)
    checks = checks_of(network(), tables=[table])
    assert {c.name for c in checks if not c.passed} == fails


def test_switches_that_point_elsewhere_are_found(run):
    (name,) = run.pools
    right = run.values[name]
    assert run.switches().passed
    x = run.values["r"]
    for wrong in (
        right + 1,  # a neighbour
        np.flip(right, 0),  # another image
        np.full_like(right, int(x.argmax())),  # the largest of all, in another window
        np.full_like(right, -1),
        np.full_like(right, x.size),
    ):
        run.values[name] = wrong
        check = run.switches()
        assert not check.passed
        assert "wrong in" in check.detail


def test_ties_that_another_runtime_decides_otherwise_are_as_right(run):
    """A CUDA pool takes the first maximum by column: the reference follows where the values are equal."""
    (name,) = run.pools
    x = np.round(run.values["r"])  # many ties, zeros above all
    windows = _Windows.of(run.pools[name], x.shape, run.values["p"].shape)
    last = last_maxima(windows, x)
    assert (last != windows.first_maxima(x)).mean() > 0.1
    run.values |= {"r": x, "p": x.reshape(-1)[last], name: last}
    run.passed |= {"r": x, name: last}
    assert run.switches().passed
    seed = numbers(run.values["y"].shape, "seed")
    assert run.companion("random seed", seed).passed
    run.__dict__["settled"] = run.values
    assert not run.companion("random seed", seed).passed


def last_maxima(windows, x):
    """Each window's last maximum in row-major order."""
    last = np.empty((*x.shape[:2], *(len(p) for p in windows.positions)), np.int64)
    for index in np.ndindex(last.shape):
        n, c, *at = index
        rows, columns = (windows.positions[k][i] for k, i in enumerate(at))
        places = [(h, w) for h in rows for w in columns if h >= 0 and w >= 0]
        best = max(x[n, c, h, w] for h, w in places)
        h, w = [p for p in places if x[n, c, p[0], p[1]] == best][-1]
        last[index] = np.ravel_multi_index((n, c, h, w), x.shape)
    return last


def test_a_forward_model_that_differs_is_found(monkeypatch):
    real = Session.run

    def off(self, feeds, *, on_cpu=()):
        results = real(self, feeds, on_cpu=on_cpu)
        if "p/switches" in results:
            results["y"] = onnxruntime.OrtValue.ortvalue_from_numpy(results["y"].numpy() * np.float32(1.001))
        return results

    monkeypatch.setattr(Session, "run", off)
    (check,) = [c for c in checks_of(network(), tables=["guided"]) if c.name == "forward"]
    assert not check.passed
    assert check.error == pytest.approx(1e-3, rel=0.1)


def test_what_the_reference_cannot_do_is_not_passed(monkeypatch):
    monkeypatch.delitem(reference.BACKWARD, "MaxPool")
    checks = [c for c in checks_of(network(), tables=["guided"]) if c.name == "companion"]
    assert [c.error for c in checks] == [None, None]
    assert not any(c.passed for c in checks)
    assert "MaxPool" in checks[0].detail


def test_a_missing_rule_is_an_error():
    with pytest.raises(MissingRuleError, match="Det"):
        checks_of(model_of("y = Det(x)", {"x": (1, 3, 4, 4)}))


def test_a_saved_pair_is_checked_for_numbers():
    model = load(network())
    original = Session(model.proto, model.folder, "cpu")
    pair = compile_pair(model)
    checks = list(check_pair(model, original, pair, feeds_of(model), "cpu"))
    assert [(c.name, c.passed) for c in checks] == [("forward", True), ("companion", True)]
    weight = next(t for t in pair.deconv.graph.initializer if t.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 1), np.inf, np.float32), "w"))
    assert [c.passed for c in check_pair(model, original, pair, feeds_of(model), "cpu")] == [True, False]


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-9], [0.0, 0.0], np.inf),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([0.0, 1.0], [np.nan, 1.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
    ],
)
def test_errors_are_shares_of_the_largest_expected_number(found, expected, error):
    assert relative_error(np.array(found), np.array(expected)) == error


def test_no_number_is_no_pass():
    assert not Check("companion", "guided", float("nan"), 1.0).passed
    assert not Check("companion", "guided", None, 1.0).passed
    assert Check("companion", "guided", 1.0, 1.0).as_dict()["passed"]


def test_random_input_has_the_models_sizes():
    model = load(network(size=(9, 7)))
    (x,) = feeds_of(model).values()
    assert (x.shape, x.dtype) == ((2, 3, 9, 7), np.float32)
    assert np.array_equal(x, feeds_of(model)["x"])
    assert not np.array_equal(x, feeds_of(model, 1)["x"])
    two = load(model_of("s = Cast<to = 1>(k)  y = Mul(x, s)", {"x": (1, 7)}))
    assert feeds_of(two)["x"].shape == (1, 7)
    with pytest.raises(InputError, match="--input-shape"):
        feeds_of(load(model_of("y = Relu(x)", {"x": (1, "L")})))


@pytest.mark.parametrize(
    "name", ["squeezenet1.1-caffe2-fp16", "mnist-cntk", "cifar10-pytorch1.7", "textline-orientation-paddle"]
)
def test_real_models_are_found_exact(name):
    path = ZOO / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    model = load(path, {"x": (1, 3, 48, 192)} if "paddle" in name else None)
    checks = list(verify(model, feeds_of(model), tables=["guided", "gradient"], providers="cpu"))
    assert [c for c in checks if not c.passed] == []
    assert len(checks) >= 7


def test_a_half_precision_companion_has_a_wider_limit():
    checks = [
        c for c in checks_of(network(), semantics=Semantics(precision="float16")) if c.name == "companion"
    ]
    assert all(c.passed for c in checks)
    assert {c.limit for c in checks} == {1e-2}
