"""Layer-wise relevance propagation by the papers' formulas.

Each unit divides its relevance R among what it was computed from, in proportion to contributions. In a layer
that is linear, zₖ = Σⱼ wⱼₖxⱼ + bₖ, an input gets xⱼ·Σₖ wⱼₖRₖ/zₖ: what the transposed layer makes of R/z,
times the input. The rules differ in the weights and inputs that count as contributions (Montavon et al. 2019,
table 10.1; where inputs may be negative, contributions are told apart by their own sign, Anders et al. 2021).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_deconv.errors import RuleError
from onnx_deconv.verification.reference.activations import DERIVATIVES
from onnx_deconv.verification.reference.graph import Array, Forward
from onnx_deconv.verification.reference.layer import LAYERS, Layer, part
from onnx_deconv.verification.reference.options import ReferenceOptions
from onnx_deconv.verification.reference.signals import shrink
from onnx_deconv.verification.reference.table import BACKWARD
from onnx_deconv.verification.reference.visit import Visit
from onnx_deconv.verification.reference.walk import Sent, walk_back

EPSILON, GAMMA = 1e-6, 0.25
"""What denominators are moved away from 0 by; by how much contributions of the result's sign are favoured."""

UNCHANGED = frozenset(
    {
        *DERIVATIVES,
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "MeanVarianceNormalization",
        "LpNormalization",
        "LRN",
        "Pow",
        "Softmax",
        "LogSoftmax",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
"""Activations, normalisations and quantisers, which pass on what they get."""
DERIVED = frozenset(
    {
        *("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
        *("Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"),
        *("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max", "Min", "Where", "Resize", "Upsample"),
    }
)
"""Operators that only move numbers or choose among them: relevance goes where the derivative goes."""
GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softmax"})


def relevance(
    model: onnx.ModelProto,
    values: Mapping[str, NDArray[Any]],
    explained: str,
    seed: NDArray[Any],
    inputs: Sequence[str],
    path: Sequence[onnx.NodeProto],
    table: str,
) -> dict[str, Array]:
    """Return the relevance of each input's numbers.

    Parameters
    ----------
    model, values, explained, inputs
        As for :func:`~onnx_deconv.verification.reference.reference`.
    seed
        The relevance of the explained value's numbers.
    path
        The nodes between the inputs and the explained value, the last first.
    table
        One of :data:`TABLES`.

    Raises
    ------
    RuleError
        If an operator or its form is not among those whose formula stands here; they are named.
    """
    graph = Forward.read(model, values, inputs)
    others = sorted({node.op_type for node in path} - {*LAYERS, *ROWS, *UNCHANGED, *DERIVED})
    if others:
        raise RuleError(f"the reference has no formula of relevance for {', '.join(others)}")

    def sent_back(at: Visit) -> Sent:
        if at.operator in LAYERS:
            return [(at.node.input[0], _through_layer(at, path, TABLES[table]))]
        if at.operator in ROWS:
            return ROWS[at.operator](at)
        depending = [i for i, name in enumerate(at.node.input) if name in graph.depends]
        if at.operator in UNCHANGED:
            return [(at.node.input[depending[0]], at.signal)]
        return [(at.node.input[i], BACKWARD[at.operator](at, i)) for i in depending]

    options = ReferenceOptions(rules="gradient")
    signals = walk_back(path, graph, {explained: np.asarray(seed, np.float64)}, options, sent_back)
    return {name: signals.get(name, np.zeros(graph.value(name).shape)) for name in inputs}


def moved(total: Array) -> Array:
    """Move denominators away from 0, upwards where they are 0."""
    return total + np.where(total < 0, -EPSILON, EPSILON)


# --- layers -----------------------------------------------------------------------------------------

Divide = Callable[[Layer, Array], Array]


def epsilon(layer: Layer, r: Array) -> Array:
    """R·wx/z."""
    return layer.x * layer.back(r / moved(layer.z), layer.weight)


def z_plus(layer: Layer, r: Array) -> Array:
    """R·(wx)⁺/Σ(wx)⁺."""
    return _by_parts(layer, r, 1, part)


def gamma(layer: Layer, r: Array) -> Array:
    """R·(wx + γ(wx)±)/Σ(wx + γ(wx)±), with the sign of z."""

    def favoured(numbers: Array, sign: int) -> Array:
        return numbers + GAMMA * part(numbers, sign)

    return sum(
        (_by_parts(layer, np.where(np.sign(layer.z) == sign, r, 0.0), sign, favoured) for sign in (1, -1)),
        start=np.zeros(layer.x.shape),
    )


def _by_parts(layer: Layer, r: Array, sign: int, chosen: Callable[[Array, int], Array]) -> Array:
    """Divide by contributions that are chosen by their sign: of w⁺ and w⁻, with x⁺ and x⁻."""
    terms = [(part(layer.x, own), chosen(layer.weight, sign * own)) for own in (1, -1)]
    total = sum((layer.forward(x, w) for x, w in terms), start=chosen(layer.bias, sign))
    ratio = np.divide(r, total + sign * EPSILON, where=r != 0, out=np.zeros(r.shape))
    return sum((x * layer.back(ratio, w) for x, w in terms), start=np.zeros(layer.x.shape))


def flat(layer: Layer, r: Array) -> Array:
    """Divide among all inputs evenly; what pads an image is none."""
    ones = np.ones(layer.weight.shape)
    count = layer.forward(layer.placed(np.ones(layer.image.shape)), ones)
    return layer.back(r / (count + EPSILON), ones)


def z_box(layer: Layer, r: Array) -> Array:
    """R·((x - low)w⁺ + (x - high)w⁻)/Σ…, between the smallest and the largest number of each channel."""
    axes = tuple(range(2, layer.image.ndim)) or (-1,)
    low, high = (search(layer.image, axis=axes, keepdims=True) for search in (np.min, np.max))
    terms = [(layer.placed(layer.image - b), part(layer.weight, s)) for b, s in ((low, 1), (high, -1))]
    ratio = r / moved(sum((layer.forward(x, w) for x, w in terms), start=np.zeros(r.shape)))
    return sum((x * layer.back(ratio, w) for x, w in terms), start=np.zeros(layer.x.shape))


class Rules(NamedTuple):
    """Which rule stands in which layers; without one for the first, it has the one of its kind."""

    convolutions: Divide
    dense: Divide
    first: Divide | None = None


TABLES = {
    "lrp": Rules(z_plus, epsilon, flat),
    "lrp-epsilon": Rules(epsilon, epsilon),
    "lrp-gamma": Rules(gamma, epsilon, z_box),
}


def _through_layer(at: Visit, path: Iterable[onnx.NodeProto], rules: Rules) -> Array:
    dense = at.operator in ("Gemm", "MatMul")
    rule = rules.dense if dense else rules.convolutions
    if rules.first is not None and _is_first(at):
        rule = rules.first
    return rule(Layer.of(at, path), at.signal)


def _is_first(at: Visit) -> bool:
    """Tell whether no layer stands between the image and this one."""
    pending, seen = [at.node.input[0]], set[str]()
    while pending:
        name = pending.pop()
        node = at.graph.producers.get(name)
        if node is None or name in seen or name not in at.graph.depends:
            continue
        if node.op_type in LAYERS:
            return False
        seen.add(name)
        pending += node.input
    return True


# --- what joins and gates ---------------------------------------------------------------------------


def among_terms(at: Visit) -> Sent:
    """Divide in proportion to the terms; constants get nothing."""
    terms = [i for i, name in enumerate(at.node.input) if name in at.graph.depends]
    if len(terms) == 1:
        return [(at.node.input[terms[0]], shrink(at.signal, at.shape(terms[0])))]
    parts = {i: -at.x(i) if i and at.operator == "Sub" else at.x(i) for i in terms}
    ratio = at.signal / moved(sum(parts.values(), start=np.zeros(())))
    return [(at.node.input[i], shrink(ratio * term, at.shape(i))) for i, term in parts.items()]


def in_proportion(at: Visit) -> Sent:
    """Divide a mean or a sum in proportion to its elements."""
    ratio = at.signal / moved(at.graph.value(at.node.output[0]).astype(np.float64))
    slopes = BACKWARD[at.operator](Visit(at.graph, at.node, [ratio], at.options), 0)
    return [(at.node.input[0], at.x() * slopes)]


def to_what_is_gated(at: Visit) -> Sent:
    """Give all to the factor that is no gate, halves where neither or both are (Arras et al. 2019)."""
    factors = [i for i in (0, 1) if at.node.input[i] in at.graph.depends]
    whole = [i for i in factors if at.shape(i) == at.signal.shape] or factors
    taking = [i for i in whole if not _is_gate(at.graph, at.node.input[i])] or whole
    return [(at.node.input[i], shrink(at.signal / len(taking), at.shape(i))) for i in taking]


def _is_gate(graph: Forward, name: str) -> bool:
    node = graph.producers.get(name)
    while node is not None and node.op_type in (
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Expand",
    ):
        node = graph.producers.get(node.input[0])
    return node is not None and node.op_type in GATES


def to_numerator(at: Visit) -> Sent:
    """Give all to the numerator, where it depends on the image."""
    i = 0 if at.node.input[0] in at.graph.depends else 1
    return [(at.node.input[i], shrink(at.signal, at.shape(i)))]


ROWS: dict[str, Callable[[Visit], Sent]] = {
    **dict.fromkeys(("Add", "Sum", "Sub", "Mean"), among_terms),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"), in_proportion),
    "Mul": to_what_is_gated,
    "Div": to_numerator,
}
