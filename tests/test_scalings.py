"""Scalings cancel or go into weights: the numbers stay, and nothing else is touched."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from oracle import assert_close

from onnx_deconv import compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.passes import COMPANION, EXPLAIN, apply_passes
from onnx_deconv.runtime import Session, numpy_of

RNG = np.random.default_rng(3)
PRODUCTS, SUMS = 1e-6, 1e-5
"""Shares of the largest number: what rounding a few products costs; and sums of products, in any order."""


def numbers(*shape):
    """Numbers of one order of magnitude and both signs."""
    return (RNG.uniform(0.5, 2, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


def model(body, x="N,4,6,5", results="y", ir_version=8, **tensors):
    """Parse a graph's lines; all nodes are named as those on the way back."""
    outputs = ", ".join(f"float[] {name}" for name in results.split())
    text = f'<ir_version: {ir_version}, opset_import: ["" : 18]> net (float[{x}] x) => ({outputs}) {{{body}}}'
    proto = onnx.parser.parse_model(text)
    for k, node in enumerate(proto.graph.node):
        node.name = node.name or f"deconv/{k}"
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    read = {value for node in proto.graph.node for value in node.input}
    used = [numpy_helper.from_array(np.asarray(a), n) for n, a in tensors.items() if n in read]
    proto.graph.initializer.extend(used)
    return proto


def run(proto, x):
    """Run a model as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


def moving(proto):
    """List what is done to the signal: the operators that depend on the input, in order."""
    reached, found = {"x"}, []
    for node in proto.graph.node:
        if reached & set(node.input):
            reached.update(node.output)
            found.append(node.op_type)
    return found


def optimised(proto, left, shape=(2, 4, 6, 5), rtol=0.0):
    """Optimise a model; compare what is left with what is expected, and the numbers with the model's."""
    after = apply_passes(proto, ["scalings"])
    assert moving(after) == left.split()
    x = numbers(*shape)
    for old, new in zip(run(proto, x), run(after, x), strict=True):
        assert old.shape == new.shape
        assert np.isfinite(old).all()
        np.testing.assert_allclose(new, old, rtol=0, atol=rtol * np.abs(old).max(initial=0))
    return after


def spelled(proto):
    return [(n.op_type, [*n.input], [*n.output], [*n.attribute]) for n in proto.graph.node]


def stays(proto, shape=(2, 4, 6, 5)):
    """Check that nothing is done to a model."""
    after = optimised(proto, " ".join(moving(proto)), shape)
    assert spelled(after) == spelled(proto)
    return after


FILTERS = {
    "Conv": ("Conv <pads=[1,1,1,1]>", (6, 4, 3, 3)),
    "Conv in groups": ("Conv <group=2>", (6, 2, 3, 2)),
    "Conv depthwise": ("Conv <group=4, strides=[2,1]>", (4, 1, 3, 2)),
    "Conv depthwise, doubled": ("Conv <group=4>", (8, 1, 3, 2)),
    "ConvTranspose": ("ConvTranspose <strides=[2,2], pads=[1,0,0,1]>", (4, 6, 3, 3)),
    "ConvTranspose in groups": ("ConvTranspose <group=2, strides=[2,1], output_padding=[1,0]>", (4, 3, 3, 2)),
    "ConvTranspose depthwise": ("ConvTranspose <group=4>", (4, 1, 3, 2)),
    "Gemm": ("Gemm <alpha=0.5>", (4, 6)),
    "Gemm turned": ("Gemm <transB=1>", (6, 4)),
    "MatMul": ("MatMul", (4, 6)),
}
"""Operators of 4 channels, and their weights."""
SCALINGS = {
    "Mul by one number": ("Mul(x, c)", ()),
    "Mul of one number": ("Mul(c, x)", (1,)),
    "Div by one number": ("Div(x, c)", (1, 1)),
    "Mul by a number for each channel": ("Mul(x, c)", None),
    "Div by a number for each channel": ("Div(x, c)", None),
    "BatchNormalization": ("BatchNormalization <epsilon=0.01> (x, c, zero, zero, v)", None),
}
NORMALISATION = {"n": np.array([4]), "v": np.abs(numbers(4)), "w": numbers(6, 4, 3, 3), "c": numbers(4)}


def shape_for(filter_):
    return (2, 4, 6, 5) if len(FILTERS[filter_][1]) == 4 else (2, 4)


def out_channels(filter_):
    operator, weight = FILTERS[filter_]
    if operator.startswith("ConvTranspose"):
        return weight[1] * (
            weight[0] // 2 if "group=2" in operator else weight[0] if "group=4" in operator else 1
        )
    return weight[0 if operator.startswith("Conv") or "transB" in operator else 1]


def filtered(filter_, scaling, *, behind):
    """Put a scaling before a filter, or behind it."""
    (operator, weight), (scaled, sizes), shape = FILTERS[filter_], SCALINGS[scaling], shape_for(filter_)
    channels = out_channels(filter_) if behind else 4
    if sizes is None:
        sizes = (channels,) if "zero" in scaled or len(shape) == 2 else (channels, 1, 1)
    tensors = {
        "w": numbers(*weight),
        "c": numbers(*sizes),
        "v": np.abs(numbers(channels)),
        "n": np.array([channels]),
    }
    zeros = "zero = ConstantOfShape(n) " if "zero" in scaled else ""
    lines = [f"{operator} (x, w)", scaled] if behind else [scaled, f"{operator} (x, w)"]
    last = lines[1].replace("(x", "(m").replace(", x)", ", m)")
    return model(f"{zeros} m = {lines[0]} y = {last}", sizes_of(shape), **tensors)


def sizes_of(shape):
    return ",".join(["N", *map(str, shape[1:])])


PAIRS = [(f, s) for f in FILTERS for s in SCALINGS if (f, s) != ("MatMul", "BatchNormalization")]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("filter_", "scaling"), PAIRS)
def test_a_filter_takes_in_the_scaling_next_to_it(filter_, scaling, behind):
    proto = filtered(filter_, scaling, behind=behind)
    optimised(proto, FILTERS[filter_][0].split()[0], shape_for(filter_), rtol=SUMS)


@pytest.mark.parametrize("filter_", FILTERS)
def test_a_filter_takes_in_scalings_on_both_sides(filter_):
    operator, weight = FILTERS[filter_]
    body = f"a = Div(x, c) b = {operator} (a, w) d = Mul(b, e) f = Mul(g, d) y = Relu(f)"
    tensors = {"w": numbers(*weight), "c": np.float32(3), "e": np.float32(0.7), "g": np.float32(-5)}
    shape = shape_for(filter_)
    optimised(model(body, sizes_of(shape), **tensors), f"{operator.split()[0]} Relu", shape, rtol=SUMS)


def test_a_normalisation_of_pictures_of_unknown_rank_is_taken_in():
    """Shape inference loses ranks behind what it cannot follow; a filter tells its own."""
    body = "s = Shape(x) r = Reshape(x, s) zero = ConstantOfShape(n)"
    body += "a = BatchNormalization(r, c, zero, zero, v) y = Conv(a, w)"
    proto = model(body, "N,C,H,W", **NORMALISATION)
    optimised(proto, "Shape Reshape Conv", rtol=SUMS)


def test_numbers_of_half_precision_stay_so():
    proto = filtered("Conv", "BatchNormalization", behind=False)
    half = helper.np_dtype_to_tensor_dtype(np.dtype(np.float16))
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.elem_type = half
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            numpy_helper.from_array(
                array.astype({"f": np.float16}.get(array.dtype.kind, array.dtype)), tensor.name
            )
        )
    zero = proto.graph.node[0].attribute.add()
    zero.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float16))))
    after = apply_passes(proto, ["scalings"])
    assert moving(after) == ["Conv"]
    x = numbers(2, 4, 6, 5).astype(np.float16)
    old, new = run(proto, x)[0], run(after, x)[0]
    assert_close(new, old, 2e-3)


def test_a_weight_that_is_made_at_load_takes_in_a_scaling_whatever_its_size():
    body = "v = Transpose <perm=[1,0]> (w) a = Mul(x, c) y = MatMul(a, v)"
    tensors = {"w": numbers(4, 3 << 18).T.copy(), "c": numbers(4)}
    optimised(model(body, "N,4", **tensors), "MatMul", (2, 4), rtol=PRODUCTS)


def test_a_large_weight_that_is_used_as_it_is_stored_takes_in_nothing():
    tensors = {"w": numbers(4, 3 << 18), "c": numbers(4)}
    stays(model("a = Mul(x, c) y = MatMul(a, w)", "N,4", **tensors), (2, 4))


CONV = {"w": numbers(6, 4, 3, 3), "c": numbers(1, 4, 1, 1), "d": numbers(1, 6, 1, 1), "bias": numbers(6)}
KEPT_SCALINGS = {
    "a result": ("y = Mul(x, c) z = Conv(y, w)", "y z", {}),
    "read elsewhere": ("a = Mul(x, c) z = Conv(a, w) y = Relu(a)", "y z", {}),
    "a filter's result": ("y = Conv(x, w) z = Mul(y, d)", "y z", {}),
    "a filter read elsewhere": ("a = Conv(x, w) z = Mul(a, d) y = Relu(a)", "y z", {}),
    "a bias": ("a = Conv(x, w, bias) y = Mul(a, d)", "y", {}),
    "along rows": ("a = Mul(x, c) y = Conv(a, w)", "y", {"c": numbers(1, 1, 6, 1)}),
    "along columns": ("a = Mul(x, c) y = Conv(a, w)", "y", {"c": numbers(5)}),
    "along rows too": ("a = Mul(x, c) y = Conv(a, w)", "y", {"c": numbers(1, 4, 6, 1)}),
    "along images": ("a = Mul(x, c) y = Conv(a, w)", "y", {"c": numbers(2, 1, 1, 1)}),
    "an activation between": ("a = Mul(x, c) b = Relu(a) y = Conv(b, w)", "y", {}),
    "a constant that is divided": ("a = Div(c, x) y = Conv(a, w)", "y", {}),
    "by a value": ("a = Sigmoid(x) b = Mul(a, x) y = Conv(b, w)", "y", {}),
    "a weight that is a value": ("a = Mul(x, c) v = Relu(a) y = Conv(a, v)", "y", {"c": np.float32(2)}),
    "a mean": (
        "a = BatchNormalization(x, s, z, m, v) y = Conv(a, w)", "y",
        {"s": numbers(4), "z": np.zeros(4, np.float32), "m": numbers(4), "v": np.abs(numbers(4))},
    ),
    "a shift": (
        "z = ConstantOfShape(n) a = BatchNormalization(x, s, o, z, v) y = Conv(a, w)", "y",
        {"s": numbers(4), "o": numbers(4), "n": np.array([4]), "v": np.abs(numbers(4))},
    ),
    "a shift that is made at load": (
        "o = ConstantOfShape <value=float[1] {1}> (n) a = BatchNormalization(x, s, o, o, v) y = Conv(a, w)",
        "y",
        {"s": numbers(4), "n": np.array([4]), "v": np.abs(numbers(4))},
    ),
    "channels and rows": (
        "a = Mul(x, c) b = Mul(a, d) y = Relu(b)", "y", {"c": numbers(1, 4, 1, 1), "d": numbers(6, 1)},
    ),
    "one that is a result, and another": ("y = Mul(x, c) z = Mul(y, c)", "y z", {}),
    "one that is read elsewhere, and another": ("a = Mul(x, c) y = Mul(a, c) z = Relu(a)", "y z", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_SCALINGS)
def test_other_scalings_stay(name):
    body, results, more = KEPT_SCALINGS[name]
    stays(model(body, results=results, **(CONV | more)))


def test_a_scaling_along_as_many_columns_as_there_are_channels_stays():
    stays(model("a = Mul(x, c) y = Conv(a, w)", "N,4,6,4", **(CONV | {"c": numbers(4)})), (2, 4, 6, 4))


def test_a_scaling_that_makes_channels_of_one_stays():
    stays(model("a = Mul(x, c) y = Conv(a, w)", "N,1,6,5", **CONV), (2, 1, 6, 5))


def test_a_scaling_that_adds_an_axis_stays():
    stays(model("a = Mul(x, c) y = MatMul(a, w)", "N,4", c=numbers(1, 1, 1), w=numbers(4, 6)), (2, 4))


def test_a_scaling_that_is_also_added_stays():
    stays(model("a = Mul(x, c) y = Gemm(a, w, a)", "N,4", c=np.float32(3), w=numbers(4, 4)), (2, 4))


def test_a_constant_of_unknown_shape_is_not_taken_for_one_number():
    body = "s = Neg(none) e = Squeeze(c, s) a = Mul(x, e) y = Conv(a, w)"
    stays(model(body, none=np.array([0]), **CONV))


def test_a_normalisation_along_the_second_of_three_axes_stays_before_a_product():
    body = "zero = ConstantOfShape(n) a = BatchNormalization(x, c, zero, zero, v) y = MatMul(a, w)"
    stays(model(body, "N,4,4", **(NORMALISATION | {"w": numbers(4, 6)})), (2, 4, 4))


def test_a_weight_that_runtimes_keep_quantised_takes_in_nothing():
    body = "f = DequantizeLinear(w, s) a = Mul(x, c) y = Conv(a, f)"
    tensors = {"w": RNG.integers(-128, 127, (6, 4, 3, 3), np.int8), "s": np.float32(0.02)}
    stays(model(body, **(CONV | tensors)))


def test_constants_that_a_caller_can_replace_are_none():
    proto = model("a = Mul(x, c) y = Conv(a, w)", **CONV)
    proto.graph.input.append(helper.make_tensor_value_info("c", 1, [1, 4, 1, 1]))
    stays(proto)


def test_the_users_own_nodes_stay():
    proto = model("a = Mul(x, c) y = Conv(a, w)", **CONV)
    for node in proto.graph.node:
        node.name = f"net/{node.op_type}"
    stays(proto)


def test_what_a_branch_reads_is_still_scaled():
    proto = model(
        "a = Mul(x, c) s = Conv(a, w) y = If (t) <then_branch = g1 () => (float[] p) { p = Relu(a) }, "
        "else_branch = g2 () => (float[] q) { q = Neg(s) }>",
        t=np.array(True), **CONV,
    )  # fmt: skip
    after = apply_passes(proto, ["scalings"])
    assert spelled(after)[:2] == spelled(proto)[:2]
    x = numbers(2, 4, 6, 5)
    np.testing.assert_array_equal(run(after, x)[0], run(proto, x)[0])


ROWS = [
    (f, s, g, t) for f, s in (("Mul", ()), ("Div", (4, 1, 1))) for g, t in (("Mul", (1,)), ("Div", (4, 1, 1)))
]


@pytest.mark.parametrize(("first", "sizes", "last", "others"), ROWS)
def test_of_two_scalings_in_a_row_one_is_left(first, sizes, last, others):
    body = f"a = {first}(x, c) b = {last}(a, d) y = Relu(b)"
    kept = first if first == last else "Mul"
    optimised(model(body, c=numbers(*sizes), d=numbers(*others)), f"{kept} Relu", rtol=PRODUCTS)


@pytest.mark.parametrize(("first", "last"), [("Mul", "Div"), ("Div", "Mul"), ("Mul", "Mul"), ("Div", "Div")])
def test_two_scalings_by_numbers_whose_product_is_not_one_stay_one(first, last):
    body = f"a = {first}(x, c) b = {last}(a, d) y = Relu(b)"
    kept = first if first == last else "Mul"
    optimised(model(body, c=np.float32(3), d=np.float32(6)), f"{kept} Relu", rtol=PRODUCTS)


def test_of_five_scalings_in_a_row_one_is_left():
    body = "a = Mul(x, c) b = Div(a, d) e = Mul(c, b) f = Div(e, d) g = Div(f, d) y = Relu(g)"
    optimised(model(body, c=numbers(4, 1, 1), d=np.float32(3)), "Mul Relu", rtol=PRODUCTS)


@pytest.mark.parametrize(
    ("body", "numbers_"),
    [
        ("a = Mul(x, c) b = Mul(a, d) y = Relu(b)", (0.5, 2)),
        ("a = Div(x, c) b = Mul(a, d) y = Relu(b)", (6, 6)),
        ("a = Mul(x, c) b = Div(a, d) y = Relu(b)", (6, 6)),
        ("a = Div(x, c) b = Div(a, d) y = Relu(b)", (4, 0.25)),
        ("f = Conv(x, w) a = Mul(f, c) b = Mul(a, d) y = Relu(b)", (1 / 6, 6)),
    ],
)
def test_scalings_that_cancel_go(body, numbers_):
    tensors = {"w": CONV["w"], "c": np.float32(numbers_[0]), "d": np.float32(numbers_[1])}
    after = optimised(model(body, **tensors), "Conv Relu" if "Conv" in body else "Relu", rtol=PRODUCTS)
    assert len(after.graph.node) == len(moving(after))  # no weight was multiplied


def test_quotients_of_whole_numbers_are_rounded_and_stay():
    proto = model("a = Div(x, c) b = Mul(a, c) y = Relu(b)", c=np.int64(3))
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.elem_type = 7
    after = apply_passes(proto, ["scalings"])
    assert spelled(after) == spelled(proto)


CHAINED = {"w": 0.3 * numbers(4, 4, 3, 3), "half": np.float32(0.5), "each": numbers(4, 1, 1)}
PICTURE = numbers(2, 4, 4, 4)


@st.composite
def chains(draw):
    """Draw moves, scalings, activations and filters in a row, of one picture of 4 channels."""
    lines, at, shapes, results = [], "x", {}, ["y"]
    for k in range(draw(st.integers(2, 9))):
        kind = draw(
            st.sampled_from(["turn", "move", "copy", "view", "Relu", "Mul", "Div", "channels", "filter"])
        )
        axes = draw(st.permutations([1, 2, 3]))
        perm = f"Transpose <perm=[0,{','.join(map(str, axes))}]> ({at})"
        shapes |= {"line": [-1], "square": [-1, 4, 4, 4], "four": [-1, 16, 4]}
        made = {
            "turn": perm,
            "move": f"Reshape({at}, square)",
            "copy": f"Reshape({at}, copied)",
            "view": f"Identity({at})",
            "Relu": f"Relu({at})",
            "Mul": f"Mul({at}, half)",
            "Div": f"Div({at}, half)",
            "channels": f"Mul({at}, each)",
            "filter": f"Conv <pads=[1,1,1,1]> ({at}, w)",
        }[kind]
        if kind == "move":
            lines.append(f"l{k} = Reshape({at}, {draw(st.sampled_from(['line', 'four']))})")
            made = f"Reshape(l{k}, square)"
        lines.append(f"v{k} = {made}")
        at = f"v{k}"
        if draw(st.integers(0, 4)) == 0:
            results.append(at)
    lines.append(f"y = Neg({at})")
    shapes["copied"] = [0, 0, -1, 4]
    return " ".join(lines), " ".join(results), shapes


@settings(max_examples=150, deadline=None)
@given(chains())
def test_chains_give_the_same_numbers_by_no_more_nodes(chain):
    body, results, shapes = chain
    proto = model(body, "N,4,4,4", results, **CHAINED, **shapes)
    after = apply_passes(proto, ["scalings"])
    assert len(moving(after)) <= len(moving(proto))
    assert [o.name for o in after.graph.output] == [o.name for o in proto.graph.output]
    for old, new in zip(run(proto, PICTURE), run(after, PICTURE), strict=True):
        assert_close(new, old, 4e-6)


def unfolded():
    """A net as exporters write it that fold no normalisation: filters in steps of 1 and 2, and depthwise."""
    body, at = "", "x"
    tensors = {"fc": numbers(24, 5)}
    for k, (attributes, *weight) in enumerate(
        [("pads=[1,1,1,1]", 20, 4, 3, 3), ("strides=[2,2]", 24, 20, 3, 3), ("group=24", 24, 1, 2, 2)]
    ):
        body += f"c{k} = Conv <{attributes}> ({at}, w{k}) "
        body += f"n{k} = BatchNormalization (c{k}, s{k}, b{k}, m{k}, v{k}) r{k} = Relu(n{k}) "
        at = f"r{k}"
        tensors[f"w{k}"] = numbers(*weight) / np.float32(np.prod(weight[1:]) ** 0.5)
        tensors |= {f"{name}{k}": np.abs(numbers(weight[0])) for name in "sbmv"}
    proto = model(f"{body} p = GlobalAveragePool({at}) f = Flatten(p) y = Gemm(f, fc)", "N,4,9,8", **tensors)
    for node in proto.graph.node:
        node.name = f"net/{node.output[0]}"
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["N", 5]))
    return proto


def test_the_companion_of_a_net_with_normalisations_has_none():
    pair = compile_pair(load(unfolded()))
    before = [n.op_type for n in pair.deconv.graph.node]
    for passes in COMPANION.values():
        without = [name for name in passes if name != "uniform"]  # which moves them
        after = [n.op_type for n in apply_passes(pair.deconv, [*without, "scalings"]).graph.node]
        assert (before.count("BatchNormalization"), after.count("BatchNormalization")) == (3, 0)


@pytest.mark.parametrize("device", EXPLAIN)
def test_a_net_with_normalisations_answers_the_same_and_is_explained_alike(device):
    pair = compile_pair(load(unfolded()))
    without = [name for name in EXPLAIN[device] if name not in ("scalings", "uniform")]
    graphs = [explain_graph(pair, passes=names) for names in (without, [*without, "scalings"])]
    kinds = [[n.op_type for n in graph.proto.graph.node].count("BatchNormalization") for graph in graphs]
    assert kinds == [6, 3]  # those of the net are its own
    feeds = {"x": numbers(2, 4, 9, 8)}
    results = [
        Session(graph.proto, graph.folder, "cpu").run(feeds | own_top(graph.manifest)) for graph in graphs
    ]
    (scores, old), (same, new) = ([numpy_of(r[name]) for name in ("y", "reconstruction")] for r in results)
    np.testing.assert_array_equal(same, scores)
    assert old.any()
    assert_close(new, old, 2e-6)
