"""See the standard's plain operators where a file has composite ones.

Runtimes write models that they have optimised or quantised with operators of their own: a filter
with its activation (``FusedConv``), a filter of quantised numbers (``QLinearConv``). Each is spelled
out here, in the *view* of a model, as the plain operators that it stands for, so that one
network gets one explanation in either form and a rule is written once. The composite's outputs keep
their names; values between its parts are new. So are operators that ONNX withdrew and onnxruntime
still runs (``ImageScaler``, ``Affine``, ``Crop``): found in files from CoreML and early Keras converters.
These are spelled out too where a graph is raised to an opset that has them no more.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from onnx_deconv.model.node_builder import NodeBuilder
from onnx_deconv.model.protos import attributes_of, every_node, replace

MICROSOFT = "com.microsoft"


class Call(NodeBuilder):
    """One composite node, and the plain nodes that replace it.

    Parameters
    ----------
    node
        The composite.
    graph
        The view's graph; constants go there.
    dequantised
        The results of DequantizeLinear so far, by inputs: one value for all that read the same.
    taken
        Names that new values may not have.
    """

    def __init__(
        self,
        node: NodeProto,
        graph: GraphProto,
        dequantised: dict[tuple[str, ...], str],
        taken: Collection[str] = (),
    ) -> None:
        super().__init__(node.output[0])
        self.node, self.graph, self.dequantised, self.taken = node, graph, dequantised, taken
        self._attributes = attributes_of(node)

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, or the default."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, i: int) -> str:
        """Return the name of input ``i``, empty where it is not given."""
        return self.node.input[i] if i < len(self.node.input) else ""

    def attributes(self, *names: str) -> dict[str, Any]:
        """Return those of the attributes that are given."""
        return {name: self._attributes[name] for name in names if name in self._attributes}

    def constant(self, numbers: NDArray[Any] | np.generic | float) -> str:
        """Store a constant in the graph; plain numbers are float32."""
        numbers = np.asarray(numbers, np.float32 if isinstance(numbers, float) else None)
        name = self.free(f"{self.node.output[0]}/constant_{len(self.graph.initializer)}")
        self.graph.initializer.append(numpy_helper.from_array(numbers, name))
        return name

    def free(self, name: str) -> str:
        """Return a name that no value has: this one, or a longer one."""
        while name in self.taken:
            name += "_"
        return name

    def replace(self, result: str) -> list[NodeProto]:
        """Give the result the composite's name; return the nodes."""
        last = next(n for n in self.nodes if n.output[0] == result)
        last.output[0], last.name = self.node.output[0], self.node.name or last.name
        return self.nodes


Spelling = Callable[[Call], str | None]
"""Returns the result's name; ``None`` leaves a form that it does not know as it is."""

_SPELLINGS: dict[tuple[str, str], Spelling] = {}


def spell_out(
    graph: GraphProto, which: Callable[[NodeProto], bool] = lambda _: True, taken: Collection[str] = ()
) -> None:
    """Replace each composite node by the plain nodes that it stands for.

    Parameters
    ----------
    graph
        Changed in place.
    which
        Chooses among the composite nodes; by default all.
    taken
        Names that new values may not have.
    """
    found = [(n.domain, n.op_type) in _SPELLINGS and which(n) for n in graph.node]
    if not any(found):
        return
    read = {v for node in every_node(graph.node) for v in node.input} | {o.name for o in graph.output}
    written: list[NodeProto] = []
    dequantised: dict[tuple[str, ...], str] = {}
    for node, composite in zip(graph.node, found, strict=True):
        if composite:
            call = Call(node, graph, dequantised, taken)
            result = _SPELLINGS[node.domain, node.op_type](call)
            plain = [node] if result is None else call.replace(result)
            made = {v for each in plain for v in each.output}
            # A further output that its parts do not have (statistics) would come from nowhere.
            written += plain if read & {*node.output} <= made | {""} else [node]
        else:
            written.append(node)
    replace(graph.node, written)


def spelling(*operators: str, domain: str = MICROSOFT) -> Callable[[Spelling], Spelling]:
    """Register how composite operators are spelled out."""

    def register(function: Spelling) -> Spelling:
        _SPELLINGS.update({(domain, operator): function for operator in operators})
        return function

    return register


def composites() -> list[tuple[str, str, str]]:
    """Return (domain, operator, what it stands for) of each composite operator, sorted."""
    return [(*key, (how.__doc__ or "").strip()) for key, how in sorted(_SPELLINGS.items())]


# Withdrawn from the standard.


@spelling("ImageScaler", domain="")
def image_scaler(at: Call) -> str:
    """scale·x + bias, one for each channel."""
    bias = np.reshape(np.float32(at.attr("bias")), (-1, 1, 1))
    return at.Add(at.Mul(at.input(0), at.constant(float(at.attr("scale", 1.0)))), at.constant(bias))


@spelling("Affine", domain="")
def affine(at: Call) -> str:
    """alpha·x + beta."""
    scaled = at.Mul(at.input(0), at.constant(float(at.attr("alpha", 1.0))))
    return at.Add(scaled, at.constant(float(at.attr("beta", 0.0))))


@spelling("Crop", domain="")
def crop(at: Call) -> str:
    """A Slice of the last two axes."""
    (left, top, right, bottom), size = at.attr("border"), at.attr("scale")
    end = 2**31 - 1
    ends = [top + size[0], left + size[1]] if size else [-bottom or end, -right or end]
    return at.Slice(at.input(0), starts=[top, left], ends=ends, axes=[2, 3])


@spelling("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(at: Call) -> str:
    """RMSNormalization under its former name."""
    return at.RMSNormalization(at.input(0), at.input(1), **at.attributes("axis", "epsilon"))


# Filters with what follows them.


@spelling("FusedConv")
def fused_conv(at: Call) -> str:
    """Conv, then the sum with another value, then an activation."""
    y = at.Conv(*_given(at, 0, 3), **at.attributes(*_WINDOW, "group"))
    return _activated(at, at.Add(y, at.input(3)) if at.input(3) else y)


@spelling("NhwcFusedConv", "NhwcConv")
def nhwc_conv(at: Call) -> str:
    """Conv, sum and activation, channels last."""
    x, *rest = _given(at, 0, 3)
    y = at.Conv(_first(at, x), *rest, **at.attributes(*_WINDOW, "group"))
    return _activated(at, _last(at, at.Add(y, _first(at, at.input(3))) if at.input(3) else y))


@spelling("NhwcMaxPool")
def nhwc_max_pool(at: Call) -> str:
    """MaxPool, channels last."""
    return _last(at, at.MaxPool(_first(at, at.input(0)), **at.attributes(*_WINDOW, "ceil_mode")))


@spelling("FusedGemm")
def fused_gemm(at: Call) -> str:
    """Gemm, then an activation."""
    return _activated(at, at.Gemm(*_given(at, 0, 3), **at.attributes("alpha", "beta", "transA", "transB")))


@spelling("FusedMatMul", "TransposeMatMul")
def fused_matmul(at: Call) -> str | None:
    """MatMul of transposed matrices, times alpha."""
    if at.attr("transBatchA", 0) or at.attr("transBatchB", 0):
        return None
    a, b = (
        at.Einsum(at.input(i), equation="...ij->...ji") if at.attr(name, 0) else at.input(i)
        for i, name in enumerate(("transA", "transB"))
    )
    y, alpha = at.MatMul(a, b), float(at.attr("alpha", 1.0))
    return y if alpha == 1.0 else at.Mul(y, at.constant(alpha))


def _given(at: Call, start: int, end: int) -> list[str]:
    return [at.input(i) for i in range(start, end) if at.input(i)]


_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def _activated(at: Call, y: str) -> str:
    """Append the activation that an attribute names."""
    name = at.attr("activation", "")
    parameters = list(at.attr("activation_params", []))
    parameters += [
        at.attr(key) for key in ("activation_alpha", "activation_beta") if at.attr(key) is not None
    ]
    names = {"LeakyRelu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "Elu": ["alpha"]}
    if not name:
        return y
    if name == "Clip":
        return at.Clip(y, *(at.constant(float(p)) for p in parameters))
    attributes = dict(zip(names.get(name, []), parameters, strict=False))
    return getattr(at, name)(y, **attributes)


def _first(at: Call, x: str) -> str:
    return at.Transpose(x, perm=[0, 3, 1, 2])


def _last(at: Call, x: str) -> str:
    return at.Transpose(x, perm=[0, 2, 3, 1])


# Activations and normalisations.


@spelling("Gelu")
def gelu(at: Call) -> str:
    """The standard's Gelu."""
    return at.Gelu(at.input(0))


@spelling("BiasGelu")
def bias_gelu(at: Call) -> str:
    """Gelu of a sum."""
    return at.Gelu(at.Add(at.input(0), at.input(1)))


@spelling("FastGelu")
def fast_gelu(at: Call) -> str:
    """Gelu in its tanh form, of a sum if there is a bias."""
    x = at.Add(at.input(0), at.input(1)) if at.input(1) else at.input(0)
    return at.Gelu(x, approximate="tanh")


@spelling("QuickGelu")
def quick_gelu(at: Call) -> str:
    """Swish: x·σ(alpha·x)."""
    return at.Swish(at.input(0), alpha=float(at.attr("alpha", 1.702)))


@spelling("BiasAdd")
def bias_add(at: Call) -> str:
    """x + bias + skip."""
    return at.Add(at.Add(at.input(0), at.input(1)), at.input(2))


@spelling("SkipLayerNormalization")
def skip_layer_normalization(at: Call) -> str:
    """LayerNormalization of a sum."""
    return at.LayerNormalization(_skipped(at, 4), *_given(at, 2, 4), epsilon=at.attr("epsilon", 1e-12))


@spelling("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(at: Call) -> str:
    """RMSNormalization of a sum."""
    return at.RMSNormalization(_skipped(at, 3), at.input(2), epsilon=at.attr("epsilon", 1e-12))


def _skipped(at: Call, bias: int) -> str:
    """Add x, skip and perhaps a bias; the sum may be an output of its own, the fourth."""
    total = at.Add(at.input(0), at.input(1))
    total = at.Add(total, at.input(bias)) if at.input(bias) else total
    if len(at.node.output) > 3 and at.node.output[3]:  # noqa: PLR2004
        at.nodes[-1].output[0] = total = at.node.output[3]
    return total


# Quantised operators: dequantise, compute, quantise.


@spelling("QuantizeLinear", "DequantizeLinear")
def quantise(at: Call) -> str:
    """The standard's own."""
    return getattr(at, at.node.op_type)(*_given(at, 0, 3), **at.attributes("axis"))


@spelling("QLinearConv", domain="")
@spelling("QLinearConv")
def qlinear_conv(at: Call) -> str:
    """Conv of dequantised numbers, quantised."""
    x, w = _real(at, 0), at.DequantizeLinear(*_given(at, 3, 6), axis=0)
    # The bias counts in units of both scales.
    bias = [at.DequantizeLinear(at.input(8), at.Mul(at.input(1), at.input(4)), axis=0)] if at.input(8) else []
    last = at.attr("channels_last", 0)
    y = at.Conv(_first(at, x) if last else x, w, *bias, **at.attributes(*_WINDOW, "group"))
    return _whole(at, _last(at, y) if last else y, 6)


@spelling("QLinearMatMul", domain="")
def qlinear_matmul(at: Call) -> str:
    """MatMul of dequantised numbers, quantised."""
    return _whole(at, at.MatMul(_real(at, 0), _real(at, 3, axis=-1)), 6)


@spelling("QGemm")
def qgemm(at: Call) -> str:
    """Gemm of dequantised numbers, quantised where the result's scale is given."""
    transposed = at.attr("transB", 0)
    a, b = _real(at, 0), _real(at, 3, axis=0 if transposed else 1)
    bias = [at.DequantizeLinear(at.input(6), at.Mul(at.input(1), at.input(4)), axis=0)] if at.input(6) else []
    y = at.Gemm(a, b, *bias, **at.attributes("alpha", "transA", "transB"))
    return _whole(at, y, 7) if at.input(7) else y


@spelling("QLinearAdd", "QLinearMul")
def qlinear_arithmetic(at: Call) -> str:
    """Add or Mul of dequantised numbers, quantised."""
    return _whole(at, getattr(at, at.node.op_type.removeprefix("QLinear"))(_real(at, 0), _real(at, 3)), 6)


@spelling("QLinearAveragePool", "QLinearGlobalAveragePool")
def qlinear_average_pool(at: Call) -> str:
    """A pool of dequantised numbers, quantised."""
    x, last = _real(at, 0), at.attr("channels_last", 0)
    pool = getattr(at, at.node.op_type.removeprefix("QLinear"))
    y = pool(_first(at, x) if last else x, **at.attributes(*_WINDOW, "ceil_mode", "count_include_pad"))
    return _whole(at, _last(at, y) if last else y, 3)


@spelling("QLinearReduceMean")
def qlinear_reduce_mean(at: Call) -> str:
    """ReduceMean of dequantised numbers, quantised."""
    return _whole(at, at.ReduceMean(_real(at, 0), **at.attributes("axes", "keepdims")), 3)


@spelling("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax")
def qlinear_activation(at: Call) -> str:
    """The activation of dequantised numbers, quantised."""
    activation = getattr(at, at.node.op_type.removeprefix("QLinear"))
    return _whole(at, activation(_real(at, 0), **at.attributes("alpha", "axis")), 3)


@spelling("QLinearConcat")
def qlinear_concat(at: Call) -> str:
    """Concat of dequantised numbers, quantised."""
    parts = [_real(at, i) for i in range(2, len(at.node.input), 3)]
    return _whole(at, at.Concat(*parts, axis=at.attr("axis")), 0)


@spelling("QLinearWhere")
def qlinear_where(at: Call) -> str:
    """Where of dequantised numbers, quantised."""
    return _whole(at, at.Where(at.input(0), _real(at, 1), _real(at, 4)), 7)


@spelling("ConvInteger", domain="")
def conv_integer(at: Call) -> str:
    """Conv of whole numbers, each less its zero point."""
    x, w = (_less_zero(at, i, i + 2) for i in (0, 1))
    return at.Conv(x, w, **at.attributes(*_WINDOW, "group"))


@spelling("MatMulInteger", domain="")
def matmul_integer(at: Call) -> str:
    """MatMul of whole numbers, each less its zero point."""
    return at.MatMul(*(_less_zero(at, i, i + 2) for i in (0, 1)))


@spelling("MatMulIntegerToFloat")
def matmul_integer_to_float(at: Call) -> str:
    """MatMul of dequantised numbers, and a bias."""
    a = at.DequantizeLinear(*filter(None, (at.input(0), at.input(2), at.input(4))))
    b = at.DequantizeLinear(*filter(None, (at.input(1), at.input(3), at.input(5))), axis=1)
    y = at.MatMul(a, b)
    return at.Add(y, at.input(6)) if at.input(6) else y


@spelling("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(at: Call) -> str:
    """MatMul with a dequantised matrix, and a bias."""
    y = at.MatMul(at.input(0), at.DequantizeLinear(*_given(at, 1, 4), axis=1))
    return at.Add(y, at.input(4)) if at.input(4) else y


def _real(at: Call, i: int, axis: int | None = None) -> str:
    """Dequantise input ``i``, whose scale and zero point are the next two."""
    key = (*_given(at, i, i + 3), str(axis))
    if key not in at.dequantised:
        at.dequantised[key] = at.DequantizeLinear(*key[:-1], axis=axis)
    return at.dequantised[key]


def _whole(at: Call, y: str, i: int) -> str:
    """Quantise by the scale and the zero point that inputs ``i`` and ``i + 1`` are."""
    return at.QuantizeLinear(y, *_given(at, i, i + 2))


def _less_zero(at: Call, i: int, zero: int) -> str:
    x = at.Cast(at.input(i), to=TensorProto.FLOAT)
    return at.Sub(x, at.Cast(at.input(zero), to=TensorProto.FLOAT)) if at.input(zero) else x
