"""The forward model is the user's own: only added to, and its outputs are what they were."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from oracle import explain, model_of, numbers, plain, reconstruction, send_back, session_of

from onnx_deconv import Semantics, compile_pair, load
from onnx_deconv.compiler.pair import MANIFEST_KEY

HEADER = '<ir_version: 8, opset_import: ["": 17]>'
POOL = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"


def model(body, header=HEADER, more="", **weights):
    """A model of one image, from ONNX text."""
    proto = parser.parse_model(
        f"{header} net (float[N, 2, 8, 8] x) => (float[N, C, H, W] y) {{ {body} }} {more}"
    )
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in weights.items())
    return proto


def weight(*shape):
    return numbers(shape, "weight")


X = {"x": numbers((2, 2, 8, 8), "x")}


def everything_a_file_may_hold():
    """Metadata, descriptions, declared values, weights that nothing uses, and more outputs than one."""
    header = (
        '<ir_version: 9, opset_import: ["": 17, "elsewhere": 3], producer_name: "somebody",'
        ' producer_version: "1.2", domain: "org.example", model_version: 7, doc_string: "A network.",'
        ' metadata_props: ["author": "somebody", "labels": "a,b"]>'
    )
    proto = parser.parse_model(
        f"""{header}
        net (float[N, 2, 8, 8] x, float[3] other) => (float[N, 3, 4, 4] y, float[3] z, float[N, 3, 8, 8] r)
        <float[N, 3, 8, 8] c, float[5] unused = {{1.0, 2.0, 3.0, 4.0, 5.0}}>
        {{
            [first] c = Conv<pads = [1, 1, 1, 1]>(x, w)
            [second] r = Relu(c)
            [third] y = {POOL}(r)
            [beside] z = Neg(other)
        }}"""
    )
    proto.graph.initializer.append(numpy_helper.from_array(weight(3, 2, 3, 3), "w"))
    proto.graph.doc_string, proto.graph.node[0].doc_string = "What it does.", "The first filter."
    proto.graph.input[0].doc_string = "An image."
    proto.graph.output[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    proto.graph.metadata_props.add(key="of the graph", value="kept")
    proto.graph.node[1].metadata_props.add(key="of a node", value="kept")
    return proto


def old_file_that_lists_weights_as_inputs():
    proto = parser.parse_model(
        '<ir_version: 3, opset_import: ["": 8]>'
        "net (float[2, 2, 8, 8] x, float[3, 2, 3, 3] w) => (float[2, 3, 3, 3] y)"
        f"{{ c = Conv(x, w) y = {POOL}(c) }}"
    )
    proto.graph.initializer.append(numpy_helper.from_array(weight(3, 2, 3, 3), "w"))
    return proto


def branches_beside_the_path():
    return model(
        f"""r = Relu(x)
        p = {POOL}(r)
        y = Neg(p)
        condition = Constant<value = bool {{1}}>()
        aside = If(condition) <
            then_branch = a () => (float[N, 2, 4, 4] one) {{ one = Abs(p) }},
            else_branch = b () => (float[N, 2, 4, 4] two) {{ two = Neg(p) }}
        >"""
    )


def sparse_weights_beside_the_path():
    proto = model(f"r = Relu(x) y = {POOL}(r) aside = Add(x, s)")
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("places", TensorProto.INT64, [2], [1, 6])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8]))
    return proto


FUNCTION = f"""
    <opset_import: ["": 17], domain: "own"> pooled (a) => (c) {{ b = Relu(a) c = {POOL}(b) }}
    <opset_import: ["": 17], domain: "own"> mixed <share> (a) => (c)
        {{ s = Constant<value_float: float = @share>() b = Mul(a, s) c = Sub(b, a) }}
"""
WITH_FUNCTIONS = '<ir_version: 8, opset_import: ["": 17, "own": 1]>'


def local_functions():
    return model("f = own.mixed<share = 3.0>(x) y = own.pooled(f)", WITH_FUNCTIONS, FUNCTION)


def an_operator_nobody_knows_beside_the_path():
    return model(
        f"y = {POOL}(x) aside = elsewhere.Mystery<depth = 3>(x)",
        '<ir_version: 8, opset_import: ["": 17, "elsewhere": 3]>',
    )


FILES = [
    everything_a_file_may_hold,
    old_file_that_lists_weights_as_inputs,
    branches_beside_the_path,
    sparse_weights_beside_the_path,
    local_functions,
]


def undone(forward, original):
    """Take away what may have been added, and nothing else."""
    copy = ModelProto()
    copy.CopyFrom(forward)
    del copy.graph.output[len(original.graph.output) :]
    del copy.graph.node[len(original.graph.node) :]
    for new, old in zip(copy.graph.node, original.graph.node, strict=True):
        if new.op_type == "MaxPool":
            del new.output[len(old.output) :]
    kept = [p for p in copy.metadata_props if p.key != MANIFEST_KEY]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    return copy


def feeds_of(proto):
    feeds = {}
    for value in proto.graph.input:
        shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
        if value.name not in {t.name for t in proto.graph.initializer}:
            feeds[value.name] = numbers(shape, value.name)
    return feeds


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
@pytest.mark.parametrize("make", [*FILES, an_operator_nobody_knows_beside_the_path])
def test_nothing_but_outputs_and_nodes_is_added(make, rules):
    original = make()
    forward = compile_pair(load(original), "y", semantics=Semantics(rules=rules)).forward
    assert undone(forward, original) == original
    assert forward != original


@pytest.mark.parametrize("make", FILES)
def test_the_models_own_outputs_are_what_they_were_to_the_bit(make):
    original = make()
    feeds = feeds_of(original)
    expected = plain(original, feeds)
    got = session_of(original, "y", rules="gradient").run_forward(feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name].numpy(), array)


# The checker refuses sparse weights themselves.
@pytest.mark.parametrize("make", [f for f in FILES if f is not sparse_weights_beside_the_path])
def test_the_forward_model_is_valid(make):
    forward = compile_pair(load(make()), "y", semantics=Semantics(rules="gradient")).forward
    onnx.checker.check_model(forward, full_check=True)


def test_weights_too_large_to_copy_are_read_from_the_users_file(tmp_path):
    original = model("c = Conv(x, w) y = Relu(c)", w=weight(300, 2, 3, 3))
    onnx.save(original, tmp_path / "net.onnx")
    pair = compile_pair(load(tmp_path / "net.onnx"))
    (stored,) = pair.forward.graph.initializer
    assert stored.data_location == TensorProto.EXTERNAL
    assert len(pair.forward.SerializeToString()) < original.ByteSize() / 2
    onnx.external_data_helper.load_external_data_for_model(pair.forward, str(pair.folder))
    np.testing.assert_array_equal(
        numpy_helper.to_array(stored), numpy_helper.to_array(original.graph.initializer[0])
    )


# --- switches -------------------------------------------------------------------------------------


def pools_asked_for_switches(forward):
    return {n.output[0] for n in forward.graph.node if n.op_type == "MaxPool" and len(n.output) > 1}


def test_the_pools_on_the_path_and_no_others_are_asked_for_their_switches():
    proto = model(
        f"below = {POOL}(x) beside = {POOL}(x) k = {POOL}(w) m = Mul(below, k) on = {POOL}(m)"
        f" value = Relu(on) above = {POOL}(value) y = Relu(above) t = Relu(beside)",
        w=weight(1, 2, 8, 8),
    )
    pair = compile_pair(load(proto), "value")
    assert pools_asked_for_switches(pair.forward) == {"below", "on"}
    added = [o.name for o in pair.forward.graph.output][1:]
    assert added == ["on/switches", "below/switches", "value"]


def test_each_companion_input_is_an_output_of_the_forward_model():
    proto = model(f"c = Conv(x, w) r = Sigmoid(c) p = {POOL}(r) y = Relu(p)", w=weight(3, 2, 3, 3))
    pair = compile_pair(load(proto), semantics=Semantics(rules="gradient"))
    inputs = [i.name for i in pair.deconv.graph.input]
    outputs = [o.name for o in pair.forward.graph.output]
    assert inputs[0] == "seed"
    assert set(inputs[1:]) == {"r", "p/switches", "y"}
    assert set(inputs[1:]) <= set(outputs)
    assert len(outputs) == len(set(outputs))


def test_opset_7_is_relabelled_8_and_nothing_else():
    original = model(f"r = Relu(x) y = {POOL}(r)", '<ir_version: 3, opset_import: ["": 7]>')
    forward = compile_pair(load(original)).forward
    assert [(o.domain, o.version) for o in forward.opset_import] == [("", 8)]
    forward.opset_import[0].version = 7
    assert undone(forward, original) == original


def test_opset_7_without_a_pool_on_the_path_stays_as_it_is():
    original = model(f"y = Relu(x) aside = {POOL}(x)", '<ir_version: 3, opset_import: ["": 7]>')
    forward = compile_pair(load(original)).forward
    assert undone(forward, original) == original


@pytest.mark.parametrize("shown", [True, False])
def test_indices_that_a_pool_gives_already_become_its_switches(shown):
    proto = model(f"r = Relu(x) p, places = {POOL}(r) y = Neg(p) aside = Cast<to = 1>(places)")
    if shown:
        proto.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, None))
    pair = session_of(proto)
    assert pair.reads == ["p/switches"]
    graph, count = pair.pair.forward.graph, len(proto.graph.node)
    assert list(graph.node)[:count] == list(proto.graph.node)
    assert [o.name for o in graph.output].count("places") == shown
    without = model(f"r = Relu(x) p = {POOL}(r) y = Neg(p)")
    (got,) = send_back(pair, X, numbers((2, 2, 4, 4), "seed")).values()
    np.testing.assert_array_equal(got, reconstruction(without, X, numbers((2, 2, 4, 4), "seed")))


# --- taps -----------------------------------------------------------------------------------------


def test_a_model_input_can_be_tapped():
    pair = session_of(model("y = Mul(x, x)"), rules="gradient")
    assert pair.reads == ["x/value"]
    (got,) = send_back(pair, X).values()
    np.testing.assert_allclose(got, 2 * X["x"], rtol=1e-6)


def test_a_tap_that_is_an_output_already_is_not_added_twice():
    forward = compile_pair(load(model("y = Tanh(x)")), semantics=Semantics(rules="gradient")).forward
    assert [o.name for o in forward.graph.output] == ["y"]


def test_compiling_a_forward_model_adds_nothing_more():
    proto = model(f"r = Relu(x) p = {POOL}(r) y = Neg(p)")
    once = compile_pair(load(proto)).forward
    twice = compile_pair(load(once)).forward
    assert twice.graph == once.graph


def test_compiling_a_forward_model_replaces_its_manifest():
    once = compile_pair(load(model("y = Neg(x)"))).forward
    twice = compile_pair(load(once)).forward
    assert [p.key for p in twice.metadata_props] == [MANIFEST_KEY]


# --- local functions ------------------------------------------------------------------------------


def same_as_written_out(body, functions, written_out, **semantics):
    """Explain a model with local functions and the same model without them."""
    with_functions, without = model(body, WITH_FUNCTIONS, functions), model(written_out)
    assert with_functions.functions
    seed = numbers(plain(without, X)["y"].shape, "seed")
    got = reconstruction(with_functions, X, seed, "y", **semantics)
    expected = reconstruction(without, X, seed, "y", **semantics)
    np.testing.assert_array_equal(got, expected)
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_a_pool_in_a_function_has_switches(rules):
    same_as_written_out(
        "f = own.mixed<share = 3.0>(x) y = own.pooled(f)",
        FUNCTION,
        f"""three = Constant<value = float {{3.0}}>() b = Mul(x, three) f = Sub(b, x)
            r = Relu(f) y = {POOL}(r)""",
        rules=rules,
    )


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
def test_a_function_called_twice_has_its_own_switches_each_time(rules):
    same_as_written_out(
        "a = own.pooled(x) b = own.mixed<share = 3.0>(a) y = own.pooled(b)",
        FUNCTION,
        f"""r = Relu(x) a = {POOL}(r) three = Constant<value = float {{3.0}}>()
            m = Mul(a, three) b = Sub(m, a) q = Relu(b) y = {POOL}(q)""",
        rules=rules,
    )


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
def test_a_function_may_call_another(rules):
    inner = (
        '<opset_import: ["": 17, "own": 1], domain: "own"> outer (a) => (c) { b = Abs(a) c = own.pooled(b) }'
    )
    same_as_written_out(
        "y = own.outer(x)", inner + FUNCTION, f"a = Abs(x) b = Relu(a) y = {POOL}(b)", rules=rules
    )


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
@pytest.mark.parametrize(
    "activation",
    [
        "s = Sigmoid(a) b = Mul(a, s)",
        "s = Softplus(a) t = Tanh(s) b = Mul(a, t)",
        "s = HardSigmoid<alpha = 0.16666667>(a) b = Mul(a, s)",
    ],
)
def test_an_activation_spelled_out_in_a_function_is_computed_as_spelled(activation, rules):
    function = f'<opset_import: ["": 17], domain: "own"> block (a) => (c) {{ {activation} c = {POOL}(b) }}'
    written_out = activation.replace("(a", "(x")
    same_as_written_out("y = own.block(x)", function, f"{written_out} y = {POOL}(b)", rules=rules)


def test_explaining_a_value_inside_a_function_is_possible_by_the_functions_output():
    proto = model("f = own.pooled(x) y = Neg(f)", WITH_FUNCTIONS, FUNCTION)
    got = explain(proto, X, explained="f")
    expected = explain(model(f"r = Relu(x) f = {POOL}(r) y = Neg(f)"), X, explained="f")
    np.testing.assert_array_equal(got["reconstruction"], expected["reconstruction"])


# --- names ----------------------------------------------------------------------------------------


OWN_NAMES = ["seed", "reconstruction", "deconv/constant_0", "deconv/output/Identity_0"]


def renamed(proto, old, new):
    """The same model, one of its values or weights under another name."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for n in copy.graph.node:
        n.input[:] = [new if v == old else v for v in n.input]
        n.output[:] = [new if v == old else v for v in n.output]
    for tensor in copy.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    return copy


@pytest.mark.parametrize("name", [*OWN_NAMES, "p/switches", "r/value"])
@pytest.mark.parametrize("value", ["r", "v", "p", "w"])
def test_a_models_own_names_do_not_get_in_the_way(name, value):
    proto = model(
        f"c = Conv(x, w) r = Sigmoid(c) v = Exp(r) p = {POOL}(v) y = Mul(p, p)", w=weight(3, 2, 1, 1)
    )
    seed = numbers((2, 3, 4, 4), "seed")
    got = reconstruction(renamed(proto, value, name), X, seed, rules="gradient")
    np.testing.assert_array_equal(got, reconstruction(proto, X, seed, rules="gradient"))


def test_two_inputs_that_get_the_same_signal_get_it_each():
    proto = model_of("y = Add(x, z)", {"x": (2, 3), "z": (2, 3)})
    seed = numbers((2, 3), "seed")
    got = explain(proto, {"x": seed, "z": seed}, seed)
    np.testing.assert_array_equal(got["reconstruction/x"], seed)
    np.testing.assert_array_equal(got["reconstruction/z"], seed)
