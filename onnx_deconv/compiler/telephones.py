"""How much of a graph onnxruntime's providers for telephones take; the CPU computes the rest.

Data, from what is published in onnxruntime's repository: the lists of operators of NNAPI and Core ML (as an
ML Program), and the documentation of XNNPACK's, whose provider (1.29) took what it says of six networks.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto

from onnx_deconv.compiler.profiles import Facts
from onnx_deconv.model.protos import attributes_of
from onnx_deconv.operators import own_domain

_Test = Callable[[Facts, NodeProto], bool]
_PLANE = 4
"""Axes of a batch of pictures."""


@dataclass(frozen=True)
class Share:
    """What a provider takes of a graph.

    Attributes
    ----------
    provider
        Its name.
    taken, nodes
        How many nodes it takes, and how many there are.
    left
        How many nodes of each operator are left to the CPU, the most first.
    """

    provider: str
    taken: int
    nodes: int
    left: Mapping[str, int]


def _any(*_: object) -> bool:
    return True


def _weights_known(facts: Facts, node: NodeProto) -> bool:
    return all(v in facts.constants for v in node.input[1:] if v)


def _plane(facts: Facts, node: NodeProto) -> bool:
    return len(facts.dims.get(node.input[0], ())) == _PLANE


def _conv(facts: Facts, node: NodeProto) -> bool:
    return _plane(facts, node) and _weights_known(facts, node)


def _line_or_plane(facts: Facts, node: NodeProto) -> bool:
    return len(facts.dims.get(node.input[0], ())) in {_PLANE - 1, _PLANE} and all(
        v in facts.constants for v in node.input[2:] if v
    )


def _transposed(facts: Facts, node: NodeProto) -> bool:
    given = attributes_of(node)
    plain = not any(given.get("output_padding", ())) and not given.get("output_shape")
    return plain and given.get("auto_pad", "NOTSET") in {"NOTSET", "VALID"} and _weights_known(facts, node)


def _pool(facts: Facts, node: NodeProto) -> bool:
    return _plane(facts, node) and not any(node.output[1:])


def _floor_pool(facts: Facts, node: NodeProto) -> bool:
    given = attributes_of(node)
    large = any(side > 1 for side in given.get("kernel_shape", ()))
    return _pool(facts, node) and not given.get("ceil_mode", 0) and large


def _second_known(facts: Facts, node: NodeProto) -> bool:
    return node.input[1] in facts.constants


def _product(facts: Facts, node: NodeProto) -> bool:
    return node.input[1] in facts.constants or bool(attributes_of(node).get("transB", 0))


def _constant_mode(_: Facts, node: NodeProto) -> bool:
    return bool(attributes_of(node).get("mode", "constant") == "constant")


_POOLS = ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool")
_OF_BOTH = (
    "Add", "Cast", "Clip", "Concat", "Div", "Elu", "Exp", "Identity", "MatMul", "Max", "Mul", "Pow", "PRelu",
    "Relu", "Reshape", "Sigmoid", "Sin", "Softmax", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose",
    "Unsqueeze",
)  # fmt: skip
_OF_NNAPI = ("Abs", "Flatten", "Floor", "Log", "Min", "Neg", "Slice")
_OF_CORE_ML = (
    "ArgMax", "Ceil", "Cos", "DepthToSpace", "Erf", "Gelu", "HardSigmoid", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Round", "Shape",
    "Softplus",
)  # fmt: skip
_NNAPI: Mapping[str, _Test] = {
    **dict.fromkeys((*_OF_BOTH, *_OF_NNAPI), _any),
    **dict.fromkeys(_POOLS, _pool),
    "Conv": _conv, "Gemm": _product, "Gather": _second_known, "Pad": _constant_mode, "Resize": _plane,
}  # fmt: skip
_CORE_ML: Mapping[str, _Test] = {
    **dict.fromkeys((*_OF_BOTH, *_OF_CORE_ML), _any),
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(("Slice", "Split", "Tile"), _weights_known),
    "Conv": _line_or_plane, "ConvTranspose": _transposed, "Gemm": _second_known, "Resize": _plane,
}  # fmt: skip
_XNNPACK: Mapping[str, _Test] = {
    "Conv": _conv, "ConvTranspose": _conv, "MaxPool": _floor_pool, "AveragePool": _floor_pool,
    "Gemm": _second_known, "MatMul": _second_known, "Softmax": _any, "Resize": _plane,
}  # fmt: skip
PROVIDERS: Mapping[str, Mapping[str, _Test]] = {"NNAPI": _NNAPI, "Core ML": _CORE_ML, "XNNPACK": _XNNPACK}
"""By provider, the operators that it takes, and in which form."""


def shares(proto: ModelProto) -> list[Share]:
    """Count what each provider takes of a graph by its published table; real numbers alone count as taken.

    Parameters
    ----------
    proto
        The graph, with all sizes known.
    """
    facts, nodes = Facts(proto), [n for n in proto.graph.node if n.op_type != "Constant"]
    found = []
    for provider, table in PROVIDERS.items():
        left = Counter(n.op_type for n in nodes if not _takes(table, facts, n))
        found.append(Share(provider, len(nodes) - left.total(), len(nodes), dict(left.most_common())))
    return found


def _takes(table: Mapping[str, _Test], facts: Facts, node: NodeProto) -> bool:
    real = all(facts.types.get(v) == TensorProto.FLOAT for v in node.input[:1] if v)
    test = table.get(node.op_type)
    return own_domain(node.domain) == "" and real and test is not None and test(facts, node)
