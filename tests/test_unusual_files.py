"""Files that say the same in an unusual way are explained like usual ones; what cannot be is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run
from onnx import TensorProto, helper, numpy_helper
from oracle import assert_close, model_of, numbers, plain, reconstruction

from onnx_deconv import Explainer, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.errors import DeconvError, ModelError
from onnx_deconv.imaging import save_png
from onnx_deconv.runtime import SignalMeter
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import verify

X = {"x": numbers((3, 3, 8, 8), "x")}
BODY = "c = Conv<pads = [1, 1, 1, 1]>(x, w) r = LeakyRelu<alpha = 0.3>(c) m = Conv(r, v)"
BODY += " a = Softplus(m) g = GlobalAveragePool(a) y = Flatten(g)"
WEIGHTS = {"w": numbers((4, 3, 3, 3), "w"), "v": numbers((5, 4, 1, 1), "v")}


def usual(opset=17, **weights):
    return model_of(BODY, {"x": ("N", 3, 8, 8)}, WEIGHTS | weights, opset)


def first(operator, proto):
    return next(node for node in proto.graph.node if node.op_type == operator)


def in_the_standards_other_name():
    proto = usual()
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    return proto


def out_of_order():
    proto = usual()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def with_a_function():
    """The activation as a function whose slope is an attribute with a default."""
    proto = usual()
    body = helper.make_node("LeakyRelu", ["t"], ["u"])
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    body.attribute.append(reference)
    default = [helper.make_attribute("slope", 0.3)]
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_function("local", "Leak", ["t"], ["u"], [body], opsets, [], default)
    outer = helper.make_node("Leak", ["t"], ["u"], domain="local")
    opsets.append(helper.make_opsetid("local", 1))
    proto.functions.extend([made, helper.make_function("local", "Outer", ["t"], ["u"], [outer], opsets)])
    call = first("LeakyRelu", proto)
    call.CopyFrom(helper.make_node("Outer", list(call.input), list(call.output), domain="local"))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    return proto


def sparse(array, name, *, linear):
    places = np.flatnonzero(array) if linear else np.argwhere(array)
    values = numpy_helper.from_array(array[array != 0], name)
    return helper.make_sparse_tensor(
        values, numpy_helper.from_array(places.astype(np.int64), "i"), array.shape
    )


MOSTLY_ZERO = np.where(np.arange(20).reshape(5, 4, 1, 1) % 3 == 0, WEIGHTS["v"], 0)


def with_sparse_initializer():
    proto = usual(v=MOSTLY_ZERO)
    kept = next(t for t in proto.graph.initializer if t.name == "v")
    proto.graph.initializer.remove(kept)
    proto.graph.sparse_initializer.append(sparse(MOSTLY_ZERO, "v", linear=True))
    return proto


def with_sparse_constant():
    proto = with_sparse_initializer()
    del proto.graph.sparse_initializer[:]
    node = helper.make_node("Constant", [], ["v"], sparse_value=sparse(MOSTLY_ZERO, "", linear=False))
    proto.graph.node.insert(0, node)
    return proto


def with_an_empty_constant():
    proto = usual()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "nothing"))
    proto.graph.node.append(helper.make_node("Identity", ["nothing"], ["none"]))
    return proto


def declared(*dims):
    proto = usual()
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, dims))
    return proto


def with_an_input_that_nothing_reads():
    """Old exports of batch normalisation: the number of batches, a weight that is listed as an input."""
    proto = usual(opset=9)
    for name, array in {"tracked": np.array(7)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, []))
    return proto


def stored(dtype, array, opset, *scale, **attributes):
    """A model whose weight v is dequantised from one of another type, of its own shape or of two axes."""
    tensor = helper.make_tensor("q", dtype, array.shape, array.reshape(-1).tolist())
    (scale,) = scale
    proto = usual(opset)
    kept = next(t for t in proto.graph.initializer if t.name == "v")
    proto.graph.initializer.remove(kept)
    proto.graph.initializer.extend([tensor, numpy_helper.from_array(scale, "s")])
    shaped = array.ndim == 4
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["v" if shaped else "d"], **attributes)
    proto.graph.node.insert(0, node)
    if not shaped:
        proto.graph.initializer.append(numpy_helper.from_array(np.array([5, 4, 1, 1]), "shape"))
        proto.graph.node.insert(1, helper.make_node("Reshape", ["d", "shape"], ["v"]))
    return proto


WHOLE = np.arange(20).reshape(5, 4) % 13 - 6
BLOCKS = numbers((5, 2), "blocks", 0.1, 1)
ROWS = numbers((5,), "rows", 0.1, 1)
BLOCKED = (WHOLE * np.repeat(BLOCKS, 2, 1)).reshape(5, 4, 1, 1).astype(np.float32)
BY_ROW = (WHOLE * ROWS[:, None]).reshape(5, 4, 1, 1).astype(np.float32)
SCALED = (WHOLE * np.float32(0.25)).reshape(5, 4, 1, 1).astype(np.float32)
QUARTER = np.float32(0.25)

UNUSUAL = {
    "the standard's other name": (in_the_standards_other_name, {}),
    "nodes out of order": (out_of_order, {}),
    "a function's default": (with_a_function, {}),
    "a sparse initializer": (with_sparse_initializer, {"v": MOSTLY_ZERO}),
    "a sparse constant": (with_sparse_constant, {"v": MOSTLY_ZERO}),
    "an empty constant": (with_an_empty_constant, {}),
    "an output said to be of one image": (lambda: declared(1, 5), {}),
    "an output said to have other sizes": (lambda: declared(1, 1000), {}),
    "an output said to have other axes": (lambda: declared(1, 5, 1, 1), {}),
    "an input that nothing reads": (with_an_input_that_nothing_reads, {}),
    "int4 by blocks": (
        lambda: stored(TensorProto.INT4, WHOLE, 21, BLOCKS, axis=1, block_size=2), {"v": BLOCKED},
    ),
    "int4 by row": (lambda: stored(TensorProto.INT4, WHOLE, 21, ROWS, axis=0), {"v": BY_ROW}),
    "int8 by blocks": (
        lambda: stored(TensorProto.INT8, WHOLE, 21, BLOCKS, axis=1, block_size=2), {"v": BLOCKED},
    ),
    "uint4": (lambda: stored(TensorProto.UINT4, np.abs(WHOLE), 21, QUARTER), {"v": np.abs(SCALED)}),
    # Not of two axes: onnxruntime, up to 1.24 at least, loses negative numbers where float8 is reshaped.
    "float8": (
        lambda: stored(TensorProto.FLOAT8E4M3FN, WHOLE.reshape(5, 4, 1, 1), 19, QUARTER), {"v": SCALED},
    ),
    "int16": (lambda: stored(TensorProto.INT16, WHOLE, 21, QUARTER), {"v": SCALED}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_file_that_is_unusual_gives_the_same_pair(name):
    make, weights = UNUSUAL[name]
    seed = numbers((3, 5), "seed")
    for rules in ("deconvnet", "gradient"):
        expected = reconstruction(usual(**weights), X, seed, "y", rules=rules)
        assert_close(reconstruction(make(), X, seed, "y", rules=rules), expected)


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_file_that_is_unusual_gives_an_explain_graph_that_runs_anywhere(name):
    make, weights = UNUSUAL[name]
    graph = explain_graph(compile_pair(load(make()), semantics="gradient"))
    session = onnxruntime.InferenceSession(
        graph.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [i.name for i in session.get_inputs()] == ["x", "target"]
    results = session.run(None, X | own_top(graph.manifest))
    found = dict(zip([o.name for o in session.get_outputs()], results, strict=True))
    assert_close(found["y"], plain(make(), X)["y"])
    best = np.eye(5)[found["y"].argmax(1)]
    assert_close(found["reconstruction"], reconstruction(usual(**weights), X, best, "y", rules="gradient"))


def test_packed_weights_that_lie_in_a_file_are_read():
    packed = np.arange(4096) % 15 - 7
    tensor = helper.make_tensor("q", TensorProto.INT4, (64, 64), packed.astype(np.float32))
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["d"])
    product = helper.make_node("MatMul", ["x", "d"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 64)) for n in "xy"]
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    graph = helper.make_graph([node, product], "net", values[:1], values[1:], [tensor, scale])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    np.testing.assert_array_equal(model.constant("d").reshape(-1), packed * 0.5)


def test_pads_that_follow_from_a_known_size_are_known_where_the_batch_is_free():
    head, tail = "c = Conv(x, w) r = Relu(c)", 'q = Pad<mode = "edge">(r, p) y = Relu(q)'
    sizes = "s = Shape(r) h = Gather(s, two) d = Sub(h, four) p = Concat<axis = 0>(z, d, d, z, d, d)"
    weights = {"w": numbers((4, 3, 3, 3), "w")}
    held = weights | {"two": np.array([2]), "four": np.array([4]), "z": np.array([0, 0])}
    computed = model_of(f"{head} {sizes} {tail}", {"x": ("N", 3, 8, 8)}, held)
    given = weights | {"p": np.array([0, 0, 2, 2, 0, 0, 2, 2])}
    expected = reconstruction(model_of(f"{head} {tail}", {"x": ("N", 3, 8, 8)}, given), X)
    assert_close(reconstruction(computed, X), expected)


@pytest.mark.parametrize(
    ("batch", "declared", "kept"),
    [("N", (1, 5), (None, 5)), ("N", ("B", 5), ("B", 5)), (3, (3, 5), (3, 5))],
    ids=["one image where any number may come", "a name", "the batch's own size"],
)
def test_an_output_keeps_what_only_its_declaration_says(batch, declared, kept):
    proto = model_of(BODY, {"x": (batch, 3, 8, 8)}, WEIGHTS)
    proto.graph.node.append(helper.make_node("Reshape", ["g", "row"], ["z"]))
    proto.graph.input.append(helper.make_tensor_value_info("row", TensorProto.INT64, [2]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, declared))
    assert tuple(load(proto).type_of("z").dims) == kept


def test_what_inference_says_of_an_output_is_believed():
    proto = model_of("y = Relu(x)", {"x": (1, "L")})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5)))
    assert tuple(load(proto).type_of("y").dims) == (1, "L")


def doubling(levels):
    """Functions each of which calls the one before it twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = [helper.make_node("Relu", ["t"], ["u"])]
    functions = [helper.make_function("local", "f0", ["t"], ["u"], inner, opsets)]
    for k in range(1, levels):
        calls = [helper.make_node(f"f{k - 1}", [a], [b], domain="local") for a, b in (("t", "s"), ("s", "u"))]
        functions.append(helper.make_function("local", f"f{k}", ["t"], ["u"], calls, opsets))
    call = helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="local")
    return call, functions, opsets


def calling(levels):
    call, functions, opsets = doubling(levels)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4)) for n in "xy"]
    graph = helper.make_graph([call], "net", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


def test_functions_that_stand_for_too_much_are_refused_before_they_are_put_in_place():
    assert len(load(calling(5)).nodes) == 16
    with pytest.raises(ModelError, match=r"functions stand for 5\.76e\+17 nodes"):
        load(calling(60))


def test_a_function_that_calls_itself_is_refused():
    proto = calling(2)
    proto.functions[0].node[0].CopyFrom(helper.make_node("f1", ["t"], ["u"], domain="local"))
    with pytest.raises(ModelError, match="calls itself"):
        load(proto)


def nested_loops(depth):
    """A loop of 200 turns within another one, and so on."""
    body = "r = Identity(v)"
    for k in range(depth):
        signature = f"(int64 i{k}, bool c{k}, float[4] v) => (bool d{k}, float[4] r)"
        scope = f"{signature} {{ d{k} = Identity(c{k}) {body} }}"
        body = f"r = Loop <body = b{k} {scope}>(turns, always, v)" if k < depth - 1 else scope
    return f"y = Loop<body = b {body}>(turns, always, x)"


def test_loops_that_stand_for_too_much_are_refused():
    held = {"turns": np.array(200), "always": np.array(True)}
    with pytest.raises(ModelError, match="unrolled to more than"):
        load(model_of(nested_loops(3), {"x": (4,)}, held))


MALFORMED = {
    "a Split into one and two": ("a, b = Split<num_outputs = 1>(x) y = Relu(a)", 18, "num_outputs=1"),
    "indices of fewer than no axes": ("y = GatherND<batch_dims = -9>(x, k)", 17, "batch_dims=-9"),
    "an equation of two operands": ('y = Einsum<equation = "ij,jk->ik">(x)', 17, "1 inputs"),
    "windows that do not move": ("y = MaxPool<kernel_shape = [2], strides = [0]>(x)", 17, r"strides=\[0\]"),
    "windows of no size": ("y = AveragePool<kernel_shape = [2, 0]>(x)", 17, r"kernel_shape=\[2, 0\]"),
    "a filter spread by nothing": ("y = Conv<dilations = [0]>(x, k)", 17, r"dilations=\[0\]"),
    "no groups": ("y = ConvTranspose<group = 0>(x, k)", 17, "group=0"),
    "pads that leave nothing": ("y = Pad(x, pads)", 17, "'y' gives an axis of size -86"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_node_that_cannot_be_is_refused_before_anything_is_inferred(name):
    body, opset, said = MALFORMED[name]
    held = {"k": np.array([[0]]), "pads": np.array([0, -90, 0, 0])}
    proto = model_of(body, {"x": (2, 4)}, {n: a for n, a in held.items() if f" {n})" in body}, opset)
    with pytest.raises(ModelError, match=said):
        load(proto)


@pytest.mark.parametrize(("name", "called"), [("spread", "'spread'"), ("", "'y'")])
def test_a_node_that_cannot_be_is_called_by_its_name_or_its_result(name, called):
    proto = model_of("y = ConvTranspose<group = 0>(x, k)", {"x": (2, 4)}, {"k": np.array([[0]])})
    proto.graph.node[0].name = name
    with pytest.raises(ModelError, match=f"ConvTranspose {called} cannot be"):
        load(proto)


def test_a_node_that_cannot_be_is_found_within_a_branch():
    body = (
        "y = If<then_branch = t () => (float[2] a) {{ {} }}, else_branch = e () => (float[2] a) {{ {} }}>(k)"
    )
    split = "a, b = Split<num_outputs = 1>(x)"
    proto = model_of(body.format(split, split), {"x": (2,)}, {"k": np.array(True)}, 18)
    with pytest.raises(ModelError, match="num_outputs=1"):
        load(proto)


@pytest.mark.parametrize(
    "body", ["y = Slice(x, four, four, one)", "y = Pad(x, pads)", "y = Reshape(x, none)"]
)
def test_a_result_of_no_elements_ends_the_inference(body):
    held = {"four": [4], "one": [1], "pads": [0, -4, 0, 0], "none": [0, 2]}
    weights = {n: np.array(a) for n, a in held.items() if f" {n}" in body}
    assert load(model_of(body, {"x": (2, 4)}, weights)).type_of("y").shape is not None


def test_a_file_that_names_no_opset_is_refused():
    proto = usual()
    del proto.opset_import[:]
    with pytest.raises(ModelError, match="which opset"):
        load(proto)


def test_statistics_that_a_composite_gives_beside_its_result_are_not_left_out():
    body = "n, m, i = com.microsoft.SkipLayerNormalization(x, x, w) y = Add(n, m)"
    proto = model_of(body, {"x": (1, 2, 4)}, {"w": np.ones(4, np.float32)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(DeconvError, match="SkipLayerNormalization"):
        compile_pair(load(proto))


def test_an_output_of_other_sizes_is_warned_of(caplog):
    load(declared("N", 5))
    load(declared(1, 5))
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == []
    load(declared(1, 1000))
    (record,) = caplog.records
    assert record.getMessage() == "the given model: output 'y' is ?×5, not 1×1000 as the file says"


def not_a_number():
    v = WEIGHTS["v"].copy()
    v[2, 1] = np.nan
    return usual(v=v)


def test_a_nan_of_the_models_own_is_said_to_be_its_own():
    (first_image, *_) = Explainer(not_a_number(), semantics="gradient")(X)
    assert "the model's own Conv 'm' gives NaN" in first_image.note
    checks = [c for c in verify(load(not_a_number()), X, tables=["guided"]) if c.name == "companion"]
    assert [(c.verdict, "the model's own Conv 'm' gives NaN" in c.detail) for c in checks] == [
        ("not covered", True), ("not covered", True),
    ]  # fmt: skip


def test_a_nan_is_no_picture_and_its_node_is_named(tmp_path):
    (tmp_path / "net.onnx").write_bytes(not_a_number().SerializeToString())
    save_png(tmp_path / "p.png", np.zeros((8, 8, 3), np.uint8))
    how = "explain", tmp_path / "net.onnx", tmp_path / "p.png", "--rules", "gradient", "-o", tmp_path / "out"
    code, _, err = run(*how)
    assert code == 2
    assert "the model's own Conv 'm' gives NaN" in err
    assert not list(tmp_path.glob("out/*.png"))
    how = "atlas", "build", tmp_path / "net.onnx", tmp_path / "p.png", "-o", tmp_path / "atlas", "--quiet"
    code, _, err = run(*how, "--size", "8", "--layer", "a")
    assert code == 2
    assert "of 'a' in p.png: values of the reconstruction are not finite" in err
    assert "the model's own Conv 'm' gives NaN" in err


def test_a_nan_in_a_node_that_is_named_like_the_companions_is_the_models_own():
    proto = not_a_number()
    named = next(node for node in proto.graph.node if "m" in node.output)
    named.name = "deconv/m"
    (first_image, *_) = Explainer(proto, semantics="gradient")(X)
    assert "the model's own Conv 'deconv/m' gives NaN" in first_image.note


def test_a_nan_of_the_signal_is_traced_to_its_node():
    """The smallest numbers' reciprocals are infinite."""
    proto = model_of("p = Log(x) q = Mul(p, zero) y = Flatten(q)", {"x": ("N", 2)}, {"zero": np.float32(0)})
    x = np.float32([[1e-42, 1]])
    (found,) = Explainer(proto, semantics="gradient", kind="classes")({"x": x})
    assert "the signal is first infinite or NaN at 'p'" in found.note


def outgrowing():
    """Units at their upper bound, which guided lets pass: what it sends back is 10⁷⁵ times the seed."""
    layers = (f"{b} = Mul({a}, huge) {c} = Clip({b}, zero, six)" for a, b, c in ("xpq", "qrs", "stu"))
    body = " ".join((*layers, "y = Flatten(u)"))
    weights = {"huge": np.float32(1e25), "zero": np.float32(0), "six": np.float32(6)}
    return model_of(body, {"x": ("N", 1, 4, 4)}, weights)


def test_a_signal_that_outgrows_its_numbers_names_the_way_out(tmp_path):
    x, proto = np.ones((1, 1, 4, 4), np.float32), outgrowing()
    for measure in (False, True):
        (found,) = Explainer(proto, "guided", kind="classes", measure=measure)({"x": x}, 0)
        assert "by the gradient it may stay finite: semantics='gradient'" in found.note
    (found,) = Explainer(proto, "gradient", kind="classes")({"x": x}, 0)
    assert (found.reconstruction == 0).all()
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    np.save(tmp_path / "x.npy", x[0])
    how = ("explain", tmp_path / "m.onnx", tmp_path / "x.npy", "--kind", "classes", "--target", "0")
    code, _, err = run(*how, "--rules", "guided", "--output", tmp_path / "out")
    assert (code, err.count("by the gradient it may stay finite: --rules gradient")) == (2, 1), err
    code, _, err = run(*how, "--rules", "gradient", "--output", tmp_path / "out")
    assert code == 0, err


def test_of_a_signal_that_outgrows_its_numbers_no_share_is_told():
    """What of it is known passed whole: the meter neither warns, as NumPy does of ∞/∞, nor calls it lost."""
    meter = SignalMeter(load(outgrowing()), "u", Semantics("guided"))
    (found,) = meter({"x": np.ones((1, 1, 4, 4), np.float32)}, np.ones_like)
    assert (found.share, found.warning) == (1.0, None)


def field(number, content):
    """A field of a protobuf message that holds bytes."""
    size, length = len(content), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def bare_model(graph):
    return b"\x08\x08" + field(7, graph) + field(8, helper.make_opsetid("", 17).SerializeToString())


def test_a_graph_of_far_too_many_nodes_is_refused():
    node = field(1, helper.make_node("Relu", ["x"], ["x"]).SerializeToString())
    with pytest.raises(ModelError, match="more than 200000 nodes"):
        load(bare_model(200_001 * node))


def test_graphs_within_graphs_without_end_are_refused():
    graph = b""
    for _ in range(3000):
        branch = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, branch))
    with pytest.raises(ModelError, match="hundreds deep"):
        load(bare_model(graph))


LEAK = """<domain: "f", opset_import: ["": 18]> leak <alpha: float = 0.5>(a) => (b) {
    b = LeakyRelu<alpha: float = @alpha>(a) }"""
OUTER = """<domain: "f", opset_import: ["": 18, "f": 1]> outer <%s: float = 0.25>(a) => (b) {
    c = f.leak<alpha: float = @%s>(a) b = f.leak(c) }"""


@pytest.mark.parametrize(
    ("body", "functions", "slope"),
    [
        ("y = f.leak(x)", LEAK, 0.5),
        ("y = f.leak<alpha: float = 0.75>(x)", LEAK, 0.75),
        ("t = f.leak<alpha: float = 0.75>(x) y = f.leak(t)", LEAK, 0.75 * 0.5),
        ("y = f.outer(x)", OUTER % ("beta", "beta") + LEAK, 0.25 * 0.5),
        ("y = f.outer<beta: float = 0.75>(x)", OUTER % ("beta", "beta") + LEAK, 0.75 * 0.5),
        ("y = f.outer(x)", OUTER % ("alpha", "alpha") + LEAK, 0.25 * 0.5),
        (
            "t = f.outer<beta: float = 0.75>(x) y = f.outer(t)",
            OUTER % ("beta", "beta") + LEAK,
            0.75 * 0.5 * 0.25 * 0.5,
        ),
    ],
)
def test_each_call_of_a_function_has_its_own_attributes(body, functions, slope):
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 18, "f": 1]> g (float[N,4] x) => (float[N,4] y) {{ {body} }}'
        + functions
    )
    (one,) = Explainer(proto, "gradient", providers="cpu")(np.full((1, 4), -1, np.float32), 2)
    assert one.score == pytest.approx(-slope)
    np.testing.assert_allclose(one.reconstruction, [0, 0, slope, 0], rtol=1e-6)
