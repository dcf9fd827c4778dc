"""The companion graph as a file, and what the walk that writes it refuses."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper
from operator_cases import CASES
from oracle import assert_close, model_of, numbers, session_of

from onnx_deconv import (
    InputError,
    MissingRuleError,
    ModelError,
    RuleError,
    Semantics,
    UnknownLayerError,
    compile_pair,
    load,
)
from onnx_deconv.operators import RuleTable, declare, register, rule_table, rules_for
from onnx_deconv.operators.builder import IR_VERSION, OPSET, Emitter

FLOAT = np.dtype(np.float32)


def network(body, **weights):
    return model_of(body, {"x": ("N", 3, 8, 8)}, {n: numbers(s, n) for n, s in weights.items()})


def exported(op, *results):
    infos = [
        (f"y{k}", value, helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, None))
        for k, value in enumerate(results)
    ]
    return op.export(infos, [], "test").graph


def inlined(pair):
    """The companion, its weights inside."""
    proto = ModelProto()
    proto.CopyFrom(pair.deconv)
    onnx.external_data_helper.load_external_data_for_model(proto, str(pair.folder))
    return proto


# --- single nodes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "attribute", "given", "type_", "written"),
    [
        ("LeakyRelu", "alpha", 1, AttributeProto.FLOAT, 1.0),
        ("LeakyRelu", "alpha", np.float64(0.5), AttributeProto.FLOAT, 0.5),
        ("Transpose", "perm", np.array([1, 0]), AttributeProto.INTS, [1, 0]),
        ("Transpose", "perm", (1, 0), AttributeProto.INTS, [1, 0]),
        ("Softmax", "axis", 0.0, AttributeProto.INT, 0),
        ("Softmax", "axis", np.int64(1), AttributeProto.INT, 1),
        ("ScatterElements", "reduction", "add", AttributeProto.STRING, b"add"),
    ],
)
def test_an_attribute_has_the_type_that_its_operator_declares(operator, attribute, given, type_, written):
    op = Emitter(FLOAT)
    graph = exported(op, getattr(op, operator)(op.input("x", None), **{attribute: given}))
    found = next(a for a in graph.node[0].attribute if a.name == attribute)
    assert found.type == type_
    assert helper.get_attribute_value(found) == written


def test_attributes_that_say_nothing_are_left_out():
    op = Emitter(FLOAT)
    x = op.input("x", None)
    graph = exported(op, op.Gemm(x, x, alpha=1, transB=0), op.Softmax(x, axis=-1), op.Transpose(x, perm=None))
    assert not any(n.attribute for n in graph.node)


def test_an_operator_is_spelled_with_a_capital():
    with pytest.raises(AttributeError):
        _ = Emitter(FLOAT).relu


def test_an_unknown_operator_is_refused():
    with pytest.raises(RuleError, match="Deconvolve is no operator of opset 18"):
        Emitter(FLOAT).Deconvolve(Emitter(FLOAT).input("x", None))


def test_a_node_is_not_written_twice():
    op = Emitter(FLOAT)
    x = op.input("x", None)
    assert op.Relu(x) is op.Relu(x)
    assert op.Mul(x, 2.0) is op.Mul(x, 2.0)
    assert op.Split(x, [1, 2], axis=0, outputs=2)[1] is op.Split(x, [1, 2], axis=0, outputs=2)[1]
    graph = exported(op, op.Add(op.Relu(x), op.Mul(op.Relu(x), 2.0)))
    assert sorted(n.op_type for n in graph.node) == ["Add", "Identity", "Mul", "Relu"]
    assert len(graph.initializer) == 1


def test_nodes_that_differ_in_anything_are_different_nodes():
    op = Emitter(FLOAT)
    x = op.input("x", None)
    alike = [
        op.LeakyRelu(x, alpha=0.5),
        op.LeakyRelu(x, alpha=0.25),
        op.LeakyRelu(op.Relu(x), alpha=0.5),
        op.filled([2, 3], 0.0),
        op.filled([2, 3], 1.0),
        op.filled([3, 2], 1.0),
        op.Mul(x, 0.1),
        op.Mul(x, 0.1 + 1e-8),
        op.Mul(x, np.float16(1)),
        op.Mul(x, np.float32(1)),
        op.Reshape(x, [2, 3]),
        op.Reshape(x, [-1]),
    ]
    assert len({value.name for value in alike}) == len(alike)


def test_what_no_output_needs_is_not_in_the_file():
    op = Emitter(FLOAT)
    x = op.input("x", None)
    op.Exp(op.input("unused", None))
    kept, unused = (helper.make_tensor(n, TensorProto.FLOAT, [1], [1.0]) for n in ("w", "v"))
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = op.export([("y", op.Mul(x, onnx_variable("w")), info)], [kept, unused], "test").graph
    assert [n.op_type for n in graph.node] == ["Mul", "Identity"]
    assert [t.name for t in graph.initializer] == ["w"]
    assert [i.name for i in graph.input] == ["x"]


def onnx_variable(name):
    return Emitter(FLOAT).input(name, None)


# --- whole companions -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_every_companion_is_valid_and_of_the_standards_own_operators(rules):
    for case in CASES:
        pair = compile_pair(load(case.proto()), "y", inputs=["x"], semantics=Semantics(rules=rules))
        proto = inlined(pair)
        assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
        assert proto.ir_version == IR_VERSION
        assert {n.domain for n in proto.graph.node} <= {""}
        assert not proto.functions
        onnx.checker.check_model(proto, full_check=True)


def test_opset_and_format_are_the_oldest_that_will_do():
    assert (OPSET, IR_VERSION) == (18, 8)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_a_companion_computes_in_the_precision_asked_for(precision, tolerance):
    proto = network("c = Conv(x, w) r = Relu(c) y = MaxPool<kernel_shape = [2, 2]>(r)", w=(4, 3, 3, 3))
    pair = session_of(proto, precision=precision)
    values = pair.run_forward({"x": numbers((2, 3, 8, 8), "x")})
    (got,) = pair.run_deconv(values, np.ones((2, 4, 5, 5), precision)).values()
    assert got.dtype == precision
    single = session_of(proto)
    (expected,) = single.run_deconv(values, np.ones((2, 4, 5, 5), np.float32)).values()
    assert_close(got, expected, tolerance)


def test_the_same_model_gives_the_same_companion():
    proto = network("c = Conv(x, w) r = Sigmoid(c) p = Mul(c, r) y = GlobalMaxPool(p)", w=(4, 3, 3, 3))
    first, second = (compile_pair(load(proto)).deconv.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_weights_the_companion_does_not_need_are_not_in_it():
    body = "c = Conv(x, w, b) n = BatchNormalization(c, s, b, m, v) d = Add(n, a) y = Relu(d)"
    proto = network(body, w=(4, 3, 3, 3), b=(4,), s=(4,), m=(4,), v=(4,), a=(4, 1, 1))
    names = {t.name for t in compile_pair(load(proto)).deconv.graph.initializer}
    assert {n for n in names if not n.startswith("deconv/")} == {"w", "s", "v"}


def test_signals_that_meet_are_added_once():
    body = "a = Exp(x) b = Sin(a) c = Cos(a) d = Neg(a) y = Sum(b, c, d)"
    graph = compile_pair(load(network(body))).deconv.graph
    assert [len(n.input) for n in graph.node if n.op_type == "Sum"] == [3]


# --- what is refused ------------------------------------------------------------------------------


def test_all_nodes_without_a_rule_are_named_at_once():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "elsewhere": 1]>
        net (float[2, 3, 3] x) => (float[2] y, float[2] z) <float[2, 3, 3] a, float[2, 3, 3] b>
        {
            [first] a = elsewhere.Mystery(x)
            [between] t = Neg(a)
            [second] b = elsewhere.Mystery(t)
            [third] y = Det(b)
            [aside] z = elsewhere.Riddle(x)
        }"""
    )
    with pytest.raises(MissingRuleError) as raised:
        compile_pair(load(proto))
    assert raised.value.missing == [
        ("elsewhere::Mystery", "first"),
        ("elsewhere::Mystery", "second"),
        ("Det", "third"),
    ]
    for name in ("first", "second", "third", "Mystery", "Det"):
        assert name in str(raised.value)
    assert "Riddle" not in str(raised.value)


def test_an_operator_of_another_domain_is_not_taken_for_the_standards():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "elsewhere": 1]>
        net (float[2, 3] x) => (float[2, 3] y) { y = elsewhere.Relu(x) }"""
    )
    with pytest.raises(MissingRuleError, match="elsewhere::Relu"):
        compile_pair(load(proto))


def test_a_rule_of_the_callers_own_is_used():
    rules = RuleTable("tripled", "deconvnet", {"Relu": lambda at: [at.op.Mul(at.signal, 3.0)]})
    pair = compile_pair(load(network("y = Relu(x)")), semantics=rules)
    assert pair.manifest["rules"] == {"name": "tripled", "parent": "deconvnet", "digest": rules.digest}
    assert [n.op_type for n in pair.deconv.graph.node] == ["Mul", "Identity"]


def test_registering_a_rule_twice_is_an_error():
    before = {name: rules_for(Semantics(name)) for name in ("deconvnet", "guided", "gradient")}
    with pytest.raises(ValueError, match="Relu has an entry already"):
        declare("Relu")
    for name in ("deconvnet", "guided"):
        with pytest.raises(ValueError, match=f"LeakyRelu.* has a row in '{name}' already"):
            rule_table(name).row("LeakyRelu")(lambda at: [at.signal])
    with pytest.raises(ValueError, match="there is a rule table 'guided' already"):
        register(RuleTable("guided"))
    with pytest.raises(InputError, match="there is a rule table 'guided' already"):
        Semantics.of(RuleTable("guided"))
    assert {name: rules_for(Semantics(name)) for name in before} == before


def test_a_table_made_for_the_moment_may_be_made_again():
    for factor in (2.0, 4.0):
        rules = RuleTable("scaled", "gradient", {"Relu": lambda at, k=factor: [at.op.Mul(at.signal, k)]})
        assert Semantics.of(rules).table is rules
    with pytest.raises(InputError, match="choose one of deconvnet, guided, gradient"):
        Semantics("scald")


def test_the_digest_tells_tables_apart():
    def one(at):
        return [at.signal]

    def other(at):
        return [at.op.Neg(at.signal)]

    tables = [RuleTable("t", "gradient", {"Relu": rule}) for rule in (one, one, other)]
    tables.append(RuleTable("t", "guided", {"Relu": one}))
    digests = [each.digest for each in tables]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_rule_that_returns_too_many_signals_is_named():
    rules = RuleTable("two", rows={"Relu": lambda at: [at.signal, at.signal]})
    proto = network("y = Relu(x)")
    proto.graph.node[0].name = "the culprit"
    with pytest.raises(RuleError, match=r"for Relu at 'the culprit' returned 2 signals for 1 inputs"):
        compile_pair(load(proto), semantics=rules)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (lambda at: at.op.Reluu(at.signal), "Reluu is no operator"),
        (lambda at: [at.op.Relu(at.signal, slope=1)], "Relu has no attribute 'slope'"),
        (lambda at: at.signal, "returned no list of signals"),
        (lambda _: [3.0], "returned no list of signals"),
        (lambda _: [], "returned 0 signals, but input 0 depends on the image too"),
        (lambda at: [at.no_such_thing], "raised AttributeError"),
    ],
)
def test_a_rule_that_misbehaves_is_named(rule, complaint):
    proto = network("y = Relu(x)")
    proto.graph.node[0].name = "the culprit"
    with pytest.raises(RuleError, match=complaint) as found:
        compile_pair(load(proto), semantics=RuleTable("faulty", rows={"Relu": rule}))
    assert "the culprit" in str(found.value)


def test_signals_for_inputs_that_are_not_there_may_be_none():
    rules = RuleTable("more", rows={"Relu": lambda at: [at.signal, None, None]})
    assert compile_pair(load(network("y = Relu(x)")), semantics=rules).deconv.graph.node


def test_an_unknown_layer_offers_what_it_may_have_meant():
    proto = network("features_conv = Neg(x) features_relu = Relu(features_conv) y = Neg(features_relu)")
    with pytest.raises(UnknownLayerError) as raised:
        compile_pair(load(proto), "features_cnv")
    assert raised.value.matches[0] == "features_conv"
    assert "features_conv" in str(raised.value)


def test_a_layer_can_be_named_by_its_node():
    proto = network("a = Neg(x) y = Relu(a)")
    proto.graph.node[0].name = "the node"
    assert compile_pair(load(proto), "the node").manifest["explained"]["value"] == "a"


@pytest.mark.parametrize(
    ("body", "explained"),
    [
        ("y = Neg(x) k = Exp(w) c = Neg(k)", "c"),
        ("s = Shape(x) y = Cast<to = 1>(s)", "y"),
        ("y = Neg(x)", "x"),
    ],
)
def test_a_value_that_no_input_reaches_cannot_be_explained(body, explained):
    with pytest.raises(ModelError, match="no path leads from x to"):
        compile_pair(load(network(body, w=(2,))), explained)


def test_what_passes_no_signal_is_named_with_the_value_before_it():
    """An output that counts, or marks, what it chose among scores says where its signal ends."""
    proto = network("s = Neg(x) a = ArgMax<axis = 0>(s) y = Cast<to = 1>(a)", w=(2,))
    with pytest.raises(ModelError, match=r"passes ArgMax a: choose a layer before it, as 's'"):
        compile_pair(load(proto), "y")


def test_an_input_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="no input 'picture'; it has x"):
        compile_pair(load(network("y = Neg(x)")), inputs=["picture"])


def test_a_filter_that_depends_on_the_image_is_refused():
    proto = model_of("k = Neg(z) y = Conv(x, k)", {"x": (1, 2, 4, 4), "z": (3, 2, 2, 2)})
    with pytest.raises(RuleError, match="filter depends on the explained input"):
        compile_pair(load(proto))
    assert compile_pair(load(proto), inputs=["x"]).deconv.graph.node


# --- size -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_twenty_thousand_nodes_in_a_row_are_walked():
    length = 20_000
    nodes = [helper.make_node("Exp", [f"v{k}"], [f"v{k + 1}"]) for k in range(length)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("v0", f"v{length}")]
    graph = helper.make_graph(nodes, "long", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pair = compile_pair(load(proto))
    assert [n.op_type for n in pair.deconv.graph.node].count("Mul") == length
    assert len(pair.forward.graph.output) == length
    # Operands come before the nodes that read them.
    known = {i.name for i in pair.deconv.graph.input}
    for n in pair.deconv.graph.node:
        assert known.issuperset(n.input)
        known.update(n.output)
