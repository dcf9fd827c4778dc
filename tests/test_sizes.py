"""Arithmetic on shapes: the numbers that onnxruntime computes, as far as they are known beforehand."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from onnx_deconv.model.constant_folding import known_numbers

UNARY = ["Neg", "Abs", "Identity"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min", "Div", "Mod"]
TEMPLATES = [
    *(f"y = {op}(a)" for op in UNARY),
    *(f"y = {op}(a, b)" for op in BINARY),
    *(f"c = {op}(a, b) y = Where(c, a, b)" for op in ("Equal", "Less", "Greater", "GreaterOrEqual")),
    "c = Equal(a, b) d = Not(c) e = Less(a, b) f = And(d, e) y = Cast<to = 7>(f)",
    "y = Concat<axis = 0>(a, b)",
    "c = Concat<axis = 0>(a, b) y = Slice(c, one, minus, zero, two)",
    "c = Concat<axis = 0>(a, b) y = Slice(c, minus, far, zero, minus)",
    (
        "c = Concat<axis = 0>(a, b) r = Reshape(c, pairs) s = Slice(r, minus, far, zero, minus)"
        " t = Transpose<perm = [1, 0]>(s) y = Reshape(t, minus)"
    ),
    "c = Concat<axis = 0>(a, b) y = Gather(c, order)",
    "u = Unsqueeze(a, zero) t = Concat<axis = 0>(u, u) y = ReduceProd<keepdims = 0>(t)",
    "f = Cast<to = 1>(a) g = Mul(f, half) i = Floor(g) y = Cast<to = 7>(i)",
    "f = Cast<to = 1>(a) g = Div(f, half) i = Ceil(g) y = Cast<to = 7>(i)",
    "y = ReduceMax(a)",
    "u = Unsqueeze(a, order) y = Squeeze(u, twice)",
    "u = Unsqueeze(a, order) y = Squeeze(u)",
    "k = ConstantOfShape<value = int64[1] {3}>(two) y = Add(a, k)",
]


@pytest.mark.parametrize("template", TEMPLATES)
@given(
    a=st.lists(st.integers(0, 9), min_size=2, max_size=2),
    b=st.lists(st.integers(1, 9), min_size=2, max_size=2),
)
@settings(max_examples=15, deadline=None)
def test_known_numbers_are_what_the_standards_reference_computes(template, a, b):
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g () => (int64[] y) {'
        f" a = Constant<value_ints = {a}>() b = Constant<value_ints = {b}>()"
        " zero = Constant<value_ints = [0]>() one = Constant<value_ints = [1]>()"
        " two = Constant<value_ints = [2]>()"
        " minus = Constant<value_ints = [-1]>() far = Constant<value_ints = [-99]>()"
        " pairs = Constant<value_ints = [-1, 2]>() order = Constant<value_ints = [3, 0, 2]>()"
        " twice = Constant<value_ints = [2, 0]>()"
        f" half = Constant<value_float = 0.5>() {template} }}"
    )
    proto = onnx.parser.parse_model(text)
    (expected,) = ReferenceEvaluator(proto).run(None, {})
    got = known_numbers(proto.graph)["y"]
    np.testing.assert_array_equal(got.astype(np.int64).reshape(expected.shape), expected)
    assert got.shape == expected.shape


OF_THE_FIRST = (
    "first = Constant<value_int = 0>() at = Constant<value_ints = [0]>() n = Gather(s, first) "
    "u = Unsqueeze(n, at)"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Shape(x)", [None, 3, None, 8]),
        ("s = Shape(x) y = Gather(s, three)", [8]),
        (f"s = Shape(x) {OF_THE_FIRST} y = Concat<axis = 0>(u, three)", [None, 3]),
        ("s = Shape(x) y = Add(s, s)", [None, 6, None, 16]),
        ("s = Shape<start = 2>(x) y = Concat<axis = 0>(s, three)", [None, 8, 3]),
        ("s = Shape(x) y = ReduceProd(s)", [None]),
        ("s = Shape<start = 3>(x) y = ReduceProd(s)", [8]),
        ("s = Shape(x) y = Equal(s, three)", [None, 1, None, 0]),
    ],
)
def test_what_is_known_at_run_time_only_stays_open(body, expected):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,3,h,8] x) => (int64[] y) {'
        f" three = Constant<value_ints = [3]>() {body} }}"
    )
    assert known_numbers(proto.graph)["y"].tolist() == expected


def test_what_is_not_computed_is_not_there():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,3] x, int64[2] k) => (int64[] y) {'
        " zero = Constant<value_ints = [0]>() s = Shape(x) a = Add(s, k) z = Shape<start = 1>(x)"
        " y = Div(z, zero) }"
    )
    assert set(known_numbers(proto.graph)) == {"zero", "s", "z"}
