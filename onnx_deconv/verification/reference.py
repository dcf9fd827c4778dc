"""The same explanation, slowly: an independent deconvnet in NumPy, written from the paper.

The product compiles a model into a companion graph. This module shares no code with it: it walks
the forward graph backwards in float64, one small function per operator, each straight from its
definition in the ONNX specification or from Zeiler & Fergus, "Visualizing and Understanding
Convolutional Networks" (2013), section 2.1:

* *filtering*: a convolution sends the signal back through its transposed filters;
* *rectification*: the signal passes through a relu where the forward values did;
* *unpooling*: the signal goes to the positions, the switches, where the maxima came from;
* anything else sends back its true vector-Jacobian product.

Two implementations that agree are the evidence that ``onnx-deconv verify`` reports.

References
----------
Zeiler & Fergus, 2013 (arXiv:1311.2901), section 2.1: deconvnet. Springenberg et al., 2014
(arXiv:1412.6806), section 3.4: guided backpropagation.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnx_deconv.errors import (
    InputError,
    MissingRuleError,
    ModelError,
    RuleError,
    UnknownLayerError,
)

__all__ = ["ReferenceOptions", "forward_values", "reference"]

Array = NDArray[np.float64]
Positions = NDArray[np.int64]
Slices = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True)
class ReferenceOptions:
    """What the specification of a deconvnet leaves open.

    Parameters
    ----------
    rules
        What a rectifier does to the signal: `deconvnet` rectifies the signal, `guided` also stops
        it where the forward input was not positive, `gradient` is the true derivative.
    activations
        Which activations obey `rules`: `all` of the rectifier-like ones, or `relu` alone, the
        others then being at their true derivative.
    lrn
        `identity`, or `gradient`; None means identity for the deconvnet and gradient otherwise.
    unpool
        Where windows overlap their signals `add`, or the last one in row-major order wins
        (`overwrite`).
    """

    rules: Literal["deconvnet", "guided", "gradient"] = "deconvnet"
    activations: Literal["all", "relu"] = "all"
    lrn: Literal["identity", "gradient"] | None = None
    unpool: Literal["add", "overwrite"] = "add"


# --- the walk -------------------------------------------------------------------------------------


def reference(
    model: onnx.ModelProto,
    values: Mapping[str, NDArray[Any]],
    explained: str,
    seed: NDArray[Any],
    inputs: Sequence[str] | None = None,
    options: ReferenceOptions = ReferenceOptions(),
) -> dict[str, Array]:
    """Project `seed`, placed at the value `explained`, back to the inputs of `model`.

    Parameters
    ----------
    model
        A flat graph (functions inlined) with its weights inside.
    values
        Every forward value by name, from any runtime: graph inputs and outputs of nodes.
        The switches are recomputed from these very numbers.
    explained
        The value to start from.
    seed
        The signal there, of the value's shape.
    inputs
        The inputs to return reconstructions for, of any type; default: each floating point input of the model
        that the signal reaches.
    options
        The variant of the method.

    Returns
    -------
    dict
        The reconstruction for each input, float64; zeros for one in `inputs` that no signal
        reaches.
    """
    graph = Forward.read(model, values, inputs)
    seed = np.asarray(seed, np.float64)
    if graph.value(explained).shape != seed.shape:
        shape = graph.value(explained).shape
        raise InputError(f"the seed has shape {seed.shape}, but {explained!r} has {shape}")
    signals: dict[str, Array] = {explained: seed}
    missing: list[tuple[str, str]] = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for node in reversed(model.graph.node):
            arrived = [signals.get(name) if name else None for name in node.output]
            for name in set(node.output) - set(graph.inputs):
                signals.pop(name, None)
            visit = Visit(graph, node, arrived, options)
            if visit.reached:
                if visit.operator not in BACKWARD:
                    missing.append((visit.operator, node.name or node.output[0]))
                    continue
                for name, signal in visit.send_back():
                    signals[name] = signals[name] + signal if name in signals else signal
    if missing:
        raise MissingRuleError(missing)
    return {
        name: np.array(signals[name]) if name in signals else np.zeros(graph.value(name).shape)
        for name in graph.inputs
        if inputs is not None or name in signals
    }


def is_real(value: NDArray[Any]) -> bool:
    """Whether numbers of this type carry a signal (bfloat16 is a void type to NumPy)."""
    return value.dtype.kind in "fV"


def carries(value: NDArray[Any]) -> bool:
    """Whether a signal passes through a value: a real one, or the whole numbers of quantised operators."""
    return is_real(value) or value.dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class Forward:
    """The forward graph with its values: what a rule may look at."""

    opset: int
    inputs: tuple[str, ...]
    weights: Mapping[str, onnx.TensorProto]
    values: Mapping[str, NDArray[Any]]
    producers: Mapping[str, onnx.NodeProto]
    depends: frozenset[str]
    """The values through which a signal can reach an explained input."""

    @classmethod
    def read(
        cls,
        model: onnx.ModelProto,
        values: Mapping[str, NDArray[Any]],
        inputs: Sequence[str] | None,
    ) -> "Forward":
        """Index the graph and find out which values depend on the explained inputs."""
        graph = model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        if inputs is None:
            free = [value.name for value in graph.input if value.name not in weights]
            inputs = [name for name in free if name in values and is_real(np.asarray(values[name]))]
        depends = set(inputs)
        for node in graph.node:
            subgraph = any(attribute.HasField("g") for attribute in node.attribute)
            if subgraph or not depends.isdisjoint(node.input):
                # A dynamic quantiser's scale is taken as given.
                outputs = node.output[:1] if node.op_type == "DynamicQuantizeLinear" else node.output
                depends.update(
                    name
                    for name in outputs
                    if name and (name not in values or carries(np.asarray(values[name])))
                )
        return cls(
            opset=max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
            inputs=tuple(inputs),
            weights=weights,
            values=values,
            producers={name: node for node in graph.node for name in node.output if name},
            depends=frozenset(depends),
        )

    def value(self, name: str) -> NDArray[Any]:
        """Return the forward value `name`: as computed, or a weight or a constant of the model."""
        if name in self.values:
            return np.asarray(self.values[name])
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        node = self.producers.get(name)
        if node is None:
            raise UnknownLayerError(name, [*self.values, *self.weights, *self.producers])
        if node.op_type == "Constant":
            return np.asarray(constant(node))
        raise ModelError(f"the forward value {name!r} is needed, but was not given")

    def scalar(self, name: str) -> float | None:
        """Return the one number that `name` holds, if it is constant."""
        if name in self.depends:
            return None
        value = self.value(name)
        return float(value.reshape(-1)[0]) if value.size == 1 else None


def constant(node: onnx.NodeProto) -> NDArray[Any]:
    """Return what a Constant node holds, in whichever attribute it stands."""
    (attribute,) = node.attribute
    held = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(held)
    return np.asarray(held, np.float32 if "float" in attribute.name else None)


@dataclass(frozen=True)
class Visit:
    """One node of the forward graph, and the signals that arrived at its outputs."""

    graph: Forward
    node: onnx.NodeProto
    arrived: Sequence[Array | None]
    options: ReferenceOptions

    @property
    def operator(self) -> str:
        """The operator, with its domain unless that is the standard's."""
        domain = "" if self.node.domain in ("", "ai.onnx") else f"{self.node.domain}."
        return domain + self.node.op_type

    @property
    def reached(self) -> bool:
        """Whether there is a signal to send back, and an input to send it to."""
        return any(signal is not None for signal in self.arrived) and not (
            self.graph.depends.isdisjoint(self.node.input)
            and not any(attribute.HasField("g") for attribute in self.node.attribute)
        )

    def send_back(self) -> Iterator[tuple[str, Array]]:
        """Yield the signal for each input that an explained input feeds."""
        spelled = self.spelled_rectifier()
        if spelled is not None:
            yield spelled, rectified(self, self.graph.value(spelled))
            return
        for i, name in enumerate(self.node.input):
            if name in self.graph.depends:
                yield name, BACKWARD[self.operator](self, i)

    def spelled_rectifier(self) -> str | None:
        """Return the input of the activation that ends here, spelled in several nodes."""
        if self.options.rules == "gradient" or self.options.activations == "relu":
            return None
        return spelled_activation(self.graph, self.node)

    @property
    def signal(self) -> Array:
        """The signal at the first output; no other output may have one."""
        first, *others = self.arrived
        if first is None or any(other is not None for other in others):
            raise self.unsupported("explaining one of its secondary outputs")
        return first

    def unsupported(self, what: str) -> RuleError:
        """Return the error that says which form of this node is unsupported."""
        return RuleError(
            f"the reference does not support {what}: "
            f"{self.operator} {self.node.name or self.node.output[0]!r}"
        )

    def given(self, i: int) -> bool:
        """Whether the node has an input `i`."""
        return i < len(self.node.input) and bool(self.node.input[i])

    def raw(self, i: int) -> NDArray[Any]:
        """Return the forward value at input `i`, in the model's own type."""
        return self.graph.value(self.node.input[i])

    def x(self, i: int = 0) -> Array:
        """Return the forward value at input `i` in float64."""
        return self.raw(i).astype(np.float64)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Return the shape of input `i`."""
        return self.raw(i).shape

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the node."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                held = onnx.helper.get_attribute_value(attribute)
                return held.decode() if isinstance(held, bytes) else held
        return default

    def real(self, name: str, default: float) -> float:
        """Return an attribute that is a real number."""
        return float(self.attr(name, default))

    def ints(self, name: str, i: int | None = None) -> list[int] | None:
        """Return a list of integers: an attribute, or input `i` in newer opsets."""
        if i is not None and self.given(i):
            return [int(number) for number in self.raw(i).reshape(-1)]
        held = self.attr(name)
        return None if held is None else [int(number) for number in held]

    def number(self, name: str, i: int, default: float) -> float:
        """Return a number: an attribute, or input `i` in newer opsets."""
        if self.given(i):
            return float(self.raw(i).reshape(-1)[0])
        return float(self.attr(name, default))


# --- the table ------------------------------------------------------------------------------------

EachInput = Callable[[Visit, int], Array]
FirstInput = Callable[[Visit], Array]

BACKWARD: dict[str, EachInput] = {}
"""From an operator to the function that gives the signal for its input number i."""


def of_each_input(*operators: str) -> Callable[[EachInput], EachInput]:
    """Enter a function into the table that can serve every input of its operators."""

    def enter(function: EachInput) -> EachInput:
        BACKWARD.update(dict.fromkeys(operators, function))
        return function

    return enter


def of_first_input(*operators: str) -> Callable[[FirstInput], FirstInput]:
    """Enter a function into the table that serves input 0, the others being parameters."""

    def enter(function: FirstInput) -> FirstInput:
        def for_data(at: Visit, i: int) -> Array:
            if i > 0:
                raise at.unsupported(f"an input {i} computed from the explained input")
            return function(at)

        BACKWARD.update(dict.fromkeys(operators, for_data))
        return function

    return enter


# --- filtering ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Which input position each window's kernel offset looks at: i·stride + k·dilation - begin.

    They look at a frame: the input with its padding around it, large enough for every window.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    size: tuple[int, ...]
    count: tuple[int, ...]

    @classmethod
    def of(cls, at: Visit, kernel: Sequence[int]) -> "Windows":
        """Read the windows of a convolution or a pool: as many as the signal has positions."""
        rank, size, count = len(kernel), at.shape()[2:], at.signal.shape[2:]
        strides = at.ints("strides") or [1] * rank
        dilations = at.ints("dilations") or [1] * rank
        pads = at.ints("pads") or [0] * (2 * rank)
        begin, end = pads[:rank], pads[rank:]
        if at.attr("auto_pad", "NOTSET") == "VALID":
            begin = end = [0] * rank
        elif at.attr("auto_pad", "NOTSET") != "NOTSET":
            wanted = [
                max(0, (count[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 - size[a])
                for a in range(rank)
            ]
            begin = [halves(total, at)[0] for total in wanted]
            end = [halves(total, at)[1] for total in wanted]
        return cls(*map(tuple, (kernel, strides, dilations, begin, end, size, count)))

    @property
    def frame(self) -> tuple[int, ...]:
        """The size of the frame."""
        return tuple(
            max(b + n + e, (c - 1) * s + (k - 1) * d + 1)
            for k, s, d, b, e, n, c in zip(
                self.kernel,
                self.strides,
                self.dilations,
                self.begin,
                self.end,
                self.size,
                self.count,
                strict=True,
            )
        )

    @property
    def inside(self) -> Slices:
        """Where in the frame the input lies."""
        return (..., *(slice(b, b + n) for b, n in zip(self.begin, self.size, strict=True)))

    def at(self, offset: Sequence[int]) -> Slices:
        """Return where in the frame the windows look with this offset of the kernel."""
        starts = [k * d for k, d in zip(offset, self.dilations, strict=True)]
        return (
            ...,
            *(
                slice(start, start + (c - 1) * s + 1, s)
                for start, s, c in zip(starts, self.strides, self.count, strict=True)
            ),
        )

    def framed(self, inner: NDArray[Any], fill: float) -> NDArray[Any]:
        """Return the frame around `inner`, padded with `fill`."""
        frame = np.full((*inner.shape[: -len(self.size)], *self.frame), fill, inner.dtype)
        frame[self.inside] = inner
        return frame


def halves(total: int, at: Visit) -> tuple[int, int]:
    """Share a padding between both ends; SAME_UPPER puts the odd one at the end."""
    smaller, larger = total // 2, total - total // 2
    return (smaller, larger) if at.attr("auto_pad") == "SAME_UPPER" else (larger, smaller)


def mix(filters: Array, signal: Array) -> Array:
    """Return Σ_o filters[g, c, o] · signal[n, (g, o), position], channels (g, c)."""
    groups, _, channels = filters.shape
    batch, _, *positions = signal.shape
    columns = signal.reshape(batch, groups, channels, -1)
    return (np.ascontiguousarray(filters) @ columns).reshape(batch, -1, *positions)


@of_first_input("Conv")
def conv(at: Visit) -> Array:
    """y[o, i] = Σ w[o, c, k]·x[c, i·s + k·d - p]: x there receives w[o, c, k]·signal[o, i]."""
    weight = at.x(1)
    groups, windows = at.attr("group", 1), Windows.of(at, weight.shape[2:])
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    frame = np.zeros((*at.shape()[:2], *windows.frame))
    for offset in np.ndindex(*windows.kernel):
        frame[windows.at(offset)] += mix(grouped[(..., *offset)].swapaxes(1, 2), at.signal)
    return frame[windows.inside]


@of_first_input("ConvTranspose")
def conv_transpose(at: Visit) -> Array:
    """y[o, i·s + k·d - p] += w[c, o, k]·x[c, i]: x[c, i] receives Σ w[c, o, k]·signal[o, there]."""
    weight, out = at.x(1), at.signal.shape[2:]
    rank, size, kernel = len(out), at.shape()[2:], weight.shape[2:]
    strides, dilations = at.ints("strides") or [1] * rank, at.ints("dilations") or [1] * rank
    extra = at.ints("output_padding") or [0] * rank
    begin = (at.ints("pads") or [0] * rank)[:rank]
    automatic = at.attr("auto_pad", "NOTSET")
    if automatic == "VALID":
        begin = [0] * rank
    if at.ints("output_shape") or automatic.startswith("SAME"):
        full = [
            (size[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 + extra[a] for a in range(rank)
        ]
        begin = [halves(max(0, full[a] - out[a]), at)[0] for a in range(rank)]
    none = [0] * rank
    windows = Windows(*map(tuple, (kernel, strides, dilations, begin, none, out, size)))
    groups, frame = at.attr("group", 1), windows.framed(at.signal, 0.0)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return sum(
        (mix(grouped[(..., *offset)], frame[windows.at(offset)]) for offset in np.ndindex(*kernel)),
        start=np.zeros(at.shape()),
    )


@of_each_input("Gemm")
def gemm(at: Visit, i: int) -> Array:
    """Y = alpha·A·B + beta·C: A receives alpha·signal·Bᵀ, B receives alpha·Aᵀ·signal.

    What entered transposed is sent back transposed.
    """
    if i > 1:
        return shrink(at.real("beta", 1.0) * at.signal, at.shape(2))
    flipped = at.attr("transA" if i == 0 else "transB", 0)
    if i == 0:
        other = at.x(1) if at.attr("transB", 0) else at.x(1).T
        back = at.signal @ other
    else:
        other = at.x(0) if at.attr("transA", 0) else at.x(0).T
        back = other @ at.signal
    scaled: Array = at.real("alpha", 1.0) * (back.T if flipped else back)
    return scaled


@of_each_input("MatMul")
def matmul(at: Visit, i: int) -> Array:
    """Y = A·B: A receives signal·Bᵀ, B receives Aᵀ·signal; stacks broadcast, vectors are thin."""
    signal = at.signal
    if len(at.shape(0)) == 1:
        signal = np.expand_dims(signal, -2 if len(at.shape(1)) > 1 else -1)
    if len(at.shape(1)) == 1:
        signal = np.expand_dims(signal, -1)
    if len(at.shape(0)) == len(at.shape(1)) == 1:
        signal = signal.reshape(1, 1)
    a, b = (1, *at.shape(0))[-max(2, len(at.shape(0))) :], at.shape(1)
    b = (*b, 1) if len(b) == 1 else b
    if i == 0:
        back = shrink(signal @ at.x(1).reshape(b).swapaxes(-1, -2), a)
    else:
        back = shrink(at.x(0).reshape(a).swapaxes(-1, -2) @ signal, b)
    return back.reshape(at.shape(i))


# --- unpooling ------------------------------------------------------------------------------------


@of_first_input("MaxPool")
def max_pool(at: Visit) -> Array:
    """Unpool (section 2.1): the signal of a window goes to its switch, the first maximum."""
    windows = Windows.of(at, at.ints("kernel_shape") or [])
    values = windows.framed(at.x(), -np.inf)
    places = windows.framed(np.arange(math.prod(windows.size)).reshape(windows.size), -1)
    best, switches = np.full(at.signal.shape, -np.inf), np.full(at.signal.shape, -1)
    for offset in np.ndindex(*windows.kernel):
        higher = values[windows.at(offset)] > best
        best = np.where(higher, values[windows.at(offset)], best)
        switches = np.where(higher, places[windows.at(offset)], switches)
    planes = at.shape()[:2]
    first = np.arange(math.prod(planes)).reshape(*planes, *[1] * len(windows.size))
    switches = np.where(switches < 0, -1, first * math.prod(windows.size) + switches)
    if at.options.unpool == "add":
        return return_to(switches, at.signal, at.shape())
    unpooled = np.zeros(math.prod(at.shape()))
    for place, signal in zip(switches.reshape(-1), at.signal.reshape(-1), strict=True):
        if place >= 0:
            unpooled[place] = signal
    return unpooled.reshape(at.shape())


@of_first_input("GlobalMaxPool")
def global_max_pool(at: Visit) -> Array:
    """Unpool one window over the whole plane."""
    planes = at.x().reshape(*at.shape()[:2], -1)
    places = np.arange(planes.size).reshape(planes.shape)
    switches = np.take_along_axis(places, planes.argmax(-1, keepdims=True), -1)
    return return_to(switches, at.signal.reshape(switches.shape), at.shape())


@of_first_input("AveragePool")
def average_pool(at: Visit) -> Array:
    """Y = Σ x / count over a window: each x in it receives signal / count.

    The padding counts where `count_include_pad` says so; what a window of `ceil_mode` has beyond
    the padding never does.
    """
    windows = Windows.of(at, at.ints("kernel_shape") or [])
    counted = windows.framed(np.ones(windows.size), 0.0)
    if at.attr("count_include_pad", 0):
        extents = zip(windows.begin, windows.size, windows.end, strict=True)
        counted[tuple(slice(sum(extent)) for extent in extents)] = 1.0
    offsets = list(np.ndindex(*windows.kernel))
    share = at.signal / sum(counted[windows.at(offset)] for offset in offsets)
    frame = np.zeros((*at.shape()[:2], *windows.frame))
    for offset in offsets:
        frame[windows.at(offset)] += share
    return frame[windows.inside]


@of_first_input("GlobalAveragePool")
def global_average_pool(at: Visit) -> Array:
    """Y = mean of x over the plane: each x receives signal / count."""
    return np.broadcast_to(at.signal / math.prod(at.shape()[2:]), at.shape())


# --- rectification --------------------------------------------------------------------------------

RECTIFIERS = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "PRelu",
        "ThresholdedRelu",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Swish",
        "HardSwish",
        "Gelu",
        "Mish",
    }
)
"""The activations that a deconvnet inverts by rectifying the signal; a Clip from 0 is another."""

DERIVATIVES: dict[str, Callable[[Visit, Array], Array]] = {}
"""From an activation to the function that gives its derivative at the forward input x."""


def derivative_of(
    *operators: str,
) -> Callable[[Callable[[Visit, Array], Array]], Callable[[Visit, Array], Array]]:
    """Enter an elementwise function, by its derivative, into both tables."""

    def enter(function: Callable[[Visit, Array], Array]) -> Callable[[Visit, Array], Array]:
        DERIVATIVES.update(dict.fromkeys(operators, function))
        return function

    of_first_input(*operators)(activation)
    return enter


def activation(at: Visit) -> Array:
    """Return the rectified signal (section 2.1), or the signal times the true derivative."""
    if is_rectifier(at):
        return rectified(at, at.raw(0))
    return at.signal * DERIVATIVES[at.operator](at, at.x())


def is_rectifier(at: Visit) -> bool:
    """Whether the options make a rectifier of this activation."""
    if at.options.rules == "gradient":
        return False
    if at.options.activations == "relu":
        return at.operator == "Relu"
    return at.operator in RECTIFIERS or (at.operator == "Clip" and clip_bounds(at)[0] == 0)


def rectified(at: Visit, x: NDArray[Any]) -> Array:
    """Rectify the signal; guided backpropagation also stops it where x was not positive.

    An activation that is positively homogeneous is applied to the signal as it is (a relu that
    leaks lets the signal leak), any other one acts as a relu.
    """
    signal = at.signal
    slope: Array | float = 0.0
    if at.operator == "LeakyRelu":
        slope = at.real("alpha", 0.01)
    elif at.operator == "PRelu":
        slope = at.x(1)
    signal = np.where(signal > 0, signal, slope * signal)
    return np.where(x > 0, signal, 0.0) if at.options.rules == "guided" else signal


@derivative_of("Relu")
def relu(_: Visit, x: Array) -> Array:
    """Relu: max(x, 0), so 1 above 0, and 0 at 0."""
    return (x > 0).astype(np.float64)


@derivative_of("LeakyRelu")
def leaky_relu(at: Visit, x: Array) -> Array:
    """LeakyRelu: x above 0, alpha·x else."""
    return np.where(x > 0, 1.0, at.real("alpha", 0.01))


@derivative_of("PRelu")
def prelu(at: Visit, x: Array) -> Array:
    """PRelu: x above 0, slope·x else, the slope being learned."""
    return np.where(x > 0, 1.0, at.x(1))


@derivative_of("ThresholdedRelu")
def thresholded_relu(at: Visit, x: Array) -> Array:
    """ThresholdedRelu: x above alpha, 0 else."""
    return (x > at.real("alpha", 1.0)).astype(np.float64)


def clip_bounds(at: Visit) -> tuple[float, float]:
    """Return min and max of a Clip: attributes before opset 11, inputs since."""
    return at.number("min", 1, -np.inf), at.number("max", 2, np.inf)


@derivative_of("Clip")
def clip(at: Visit, x: Array) -> Array:
    """Clip: 1 strictly between the bounds, so that Clip(x, 0) and Relu are the same."""
    low, high = clip_bounds(at)
    return ((x > low) & (x < high)).astype(np.float64)


@derivative_of("Elu")
def elu(at: Visit, x: Array) -> Array:
    """Elu: x above 0, alpha·(eˣ - 1) else."""
    return np.where(x > 0, 1.0, at.real("alpha", 1.0) * np.exp(x))


@derivative_of("Selu")
def selu(at: Visit, x: Array) -> Array:
    """Selu: gamma·x above 0, gamma·alpha·(eˣ - 1) else."""
    alpha, gamma = at.real("alpha", 1.6732632423543772), at.real("gamma", 1.0507009873554805)
    return gamma * np.where(x > 0, 1.0, alpha * np.exp(x))


@derivative_of("Celu")
def celu(at: Visit, x: Array) -> Array:
    """Celu: x above 0, alpha·(e^(x/alpha) - 1) else."""
    return np.where(x > 0, 1.0, np.exp(x / at.real("alpha", 1.0)))


def logistic(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@derivative_of("Softplus")
def softplus(_: Visit, x: Array) -> Array:
    """Softplus: ln(1 + eˣ), so 1 / (1 + e⁻ˣ)."""
    return logistic(x)


@derivative_of("Softsign")
def softsign(_: Visit, x: Array) -> Array:
    """Softsign: x / (1 + |x|), so 1 / (1 + |x|)²."""
    return 1.0 / (1.0 + np.abs(x)) ** 2


@derivative_of("Sigmoid")
def sigmoid(_: Visit, x: Array) -> Array:
    """Sigmoid: s = 1 / (1 + e⁻ˣ), so s·(1 - s)."""
    return logistic(x) * logistic(-x)


@derivative_of("HardSigmoid")
def hard_sigmoid(at: Visit, x: Array) -> Array:
    """HardSigmoid: min(max(alpha·x + beta, 0), 1)."""
    alpha, line = at.real("alpha", 0.2), at.real("alpha", 0.2) * x + at.real("beta", 0.5)
    return np.where((line > 0) & (line < 1), alpha, 0.0)


@derivative_of("Tanh")
def tanh(_: Visit, x: Array) -> Array:
    """Tanh: 1 - tanh²."""
    return 1.0 - np.tanh(x) ** 2


@derivative_of("Swish")
def swish(at: Visit, x: Array) -> Array:
    """Swish: x·s(alpha·x), s the Sigmoid."""
    alpha = at.real("alpha", 1.0)
    return logistic(alpha * x) + alpha * x * logistic(alpha * x) * logistic(-alpha * x)


@derivative_of("HardSwish")
def hard_swish(_: Visit, x: Array) -> Array:
    """HardSwish: x·min(max(x/6 + 1/2, 0), 1)."""
    return np.where(x >= 3, 1.0, np.where(x > -3, (2 * x + 3) / 6, 0.0))  # noqa: PLR2004


@derivative_of("Mish")
def mish(_: Visit, x: Array) -> Array:
    """Mish: x·tanh(ln(1 + eˣ))."""
    gate: Array = np.tanh(np.logaddexp(0, x))
    return gate + x * (1 - gate**2) * logistic(x)


@derivative_of("Gelu")
def gelu(at: Visit, x: Array) -> Array:
    """Gelu: x·Φ(x), or nearly: ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if at.attr("approximate", "none") == "none":
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + error_function(x / math.sqrt(2))) + x * density
    bent: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent**2) * slope


def error_function(x: Array) -> Array:
    """Return erf of each number."""
    return np.array([math.erf(number) for number in x.reshape(-1)]).reshape(x.shape)


@derivative_of("Erf")
def erf(_: Visit, x: Array) -> Array:
    """Erf: 2/√π·e^(-x²)."""
    return 2 / math.sqrt(math.pi) * np.exp(-(x**2))


@derivative_of("Exp")
def exp(_: Visit, x: Array) -> Array:
    """Exp: eˣ."""
    return np.exp(x)


@derivative_of("Log")
def log(_: Visit, x: Array) -> Array:
    """Log: 1/x."""
    return 1.0 / x


@derivative_of("Sqrt")
def sqrt(_: Visit, x: Array) -> Array:
    """Sqrt: ½/√x."""
    return 0.5 / np.sqrt(x)


@derivative_of("Reciprocal")
def reciprocal(_: Visit, x: Array) -> Array:
    """Reciprocal: -1/x²."""
    return -1.0 / x**2


@derivative_of("Abs")
def absolute(_: Visit, x: Array) -> Array:
    """Abs: the sign, 0 at 0."""
    return np.sign(x)


@derivative_of("Neg")
def negative(_: Visit, x: Array) -> Array:
    """Neg: -1."""
    return -np.ones_like(x)


@derivative_of("Sign", "Floor", "Ceil", "Round")
def staircase(_: Visit, x: Array) -> Array:
    """Sign, Floor, Ceil, Round: constant almost everywhere."""
    return np.zeros_like(x)


@derivative_of("Affine")
def affine(at: Visit, x: Array) -> Array:
    """Affine: alpha·x + beta (of ONNX before 1.0, still in old exports)."""
    return np.full_like(x, at.real("alpha", 1.0))


@derivative_of("ImageScaler")
def image_scaler(at: Visit, x: Array) -> Array:
    """ImageScaler: scale·x + bias[c] (of ONNX before 1.0, still in old exports)."""
    return np.full_like(x, at.real("scale", 1.0))


# --- rectifiers that exporters spell in several nodes ---------------------------------------------


def spelled_activation(graph: Forward, node: onnx.NodeProto) -> str | None:
    """Return the x of the activation whose last node this is, or None.

    1. x·Sigmoid(x) (SiLU), x·HardSigmoid(x) or x·Clip(x + 3, 0, 6)/6 (HardSwish),
       x·½·(1 + Erf(x/√2)) (Gelu), x·Tanh(Softplus(x)) (Mish): a product of x, a gate of the same
       x and a number, in any order and association.
    2. Min(Max(x, 0), h), Max(Min(x, h), 0): Clip, ReLU6 where h is 6.
    """
    name = node.output[0] if node.output else ""
    for x in (*gated(graph, name), *clamped_at_zero(graph, node)):
        if x in graph.depends and graph.value(x).shape == graph.value(name).shape:
            return x
    return None


def clamped_at_zero(graph: Forward, node: onnx.NodeProto) -> Iterator[str]:
    """Yield x where a Min or a Max completes a clamp of x from 0 to something positive."""
    if node.op_type in ("Min", "Max"):
        for x, low, high in clamps(graph, node):
            if low == 0 < high:
                yield x


def clamps(graph: Forward, node: onnx.NodeProto | None) -> Iterator[tuple[str, float, float]]:
    """Yield (x, low, high) where a node ends a clamp: a Clip, or Min and Max."""
    if node is None:
        return
    if node.op_type == "Clip":
        bounds = clip_bounds(Visit(graph, node, (), ReferenceOptions()))
        yield node.input[0], *bounds
    for outer, inner in (("Min", "Max"), ("Max", "Min")):
        for inside, first in with_number(graph, node, outer):
            for x, second in with_number(graph, graph.producers.get(inside), inner):
                yield (x, second, first) if outer == "Min" else (x, first, second)


def with_number(graph: Forward, node: onnx.NodeProto | None, operator: str) -> Iterator[tuple[str, float]]:
    """Yield (value, number) where a node is `operator` of a value and a constant number."""
    if node is None or node.op_type != operator or len(node.input) != 2:  # noqa: PLR2004
        return
    for value, other in (node.input, reversed(node.input)):
        number = graph.scalar(other)
        if number is not None and value in graph.depends:
            yield value, number


def multiples(graph: Forward, name: str) -> Iterator[tuple[float, str]]:
    """Yield every (k, value) such that `name` is k·value through factors that are numbers."""
    factor = 1.0
    while True:
        yield factor, name
        node = graph.producers.get(name)
        if node is None:
            return
        steps = [(value, number) for value, number in with_number(graph, node, "Mul")]
        if node.op_type == "Div" and graph.scalar(node.input[1]):
            steps = [(node.input[0], 1.0 / (graph.scalar(node.input[1]) or 1.0))]
        if not steps:
            return
        name, number = steps[0]
        factor *= number


def gated(graph: Forward, name: str) -> Iterator[str]:
    """Yield x where `name` is x times a gate of x, whatever number the factors come to."""
    for factor, product in multiples(graph, name):
        node = graph.producers.get(product)
        if node is None or node.op_type != "Mul":
            continue
        for one, other in (node.input, reversed(node.input)):
            carried = {value: k for k, value in multiples(graph, one)}
            for share, gate in multiples(graph, other):
                for x, full in gates(graph, graph.producers.get(gate)):
                    if x in carried and close(factor * share * carried[x] * full, 1.0):
                        yield x


def gates(graph: Forward, node: onnx.NodeProto | None) -> Iterator[tuple[str, float]]:
    """Yield (x, full) where a node is a gate of x, opening as x grows until it is `full`."""
    if node is None:
        return
    for x, low, high in clamps(graph, node):
        for inner, number in with_number(graph, graph.producers.get(x), "Add"):
            if (low, high, number) == (0.0, 6.0, 3.0):
                yield inner, high
    for value, number in with_number(graph, node, "Add"):
        yield from ((x, 2 * number) for x in error_functions(graph, value, number))
    yield from ((x, 1.0) for x in unit_gates(graph, node))


def unit_gates(graph: Forward, node: onnx.NodeProto) -> Iterator[str]:
    """Yield x where a node is a gate of x whose value runs from 0 to 1."""
    if node.op_type == "Sigmoid":
        yield node.input[0]
    if node.op_type == "HardSigmoid":
        at = Visit(graph, node, (), ReferenceOptions())
        if close(at.real("alpha", 0.2), 1 / 6) and close(at.real("beta", 0.5), 0.5):
            yield node.input[0]
    if node.op_type == "Tanh":
        inner = graph.producers.get(node.input[0])
        if inner is not None and inner.op_type == "Softplus":
            yield inner.input[0]


def error_functions(graph: Forward, name: str, scale: float) -> Iterator[str]:
    """Yield x where `name` is scale·erf(x/√2)."""
    for factor, value in multiples(graph, name):
        node = graph.producers.get(value)
        if node is not None and node.op_type == "Erf" and close(factor, scale):
            for inner, x in multiples(graph, node.input[0]):
                if close(inner, math.sqrt(0.5)):
                    yield x


def close(number: float, expected: float) -> bool:
    """Whether a number of a model, perhaps rounded to fp16, is meant to be `expected`."""
    return math.isclose(number, expected, rel_tol=2e-3)


# --- normalisation --------------------------------------------------------------------------------


@of_first_input("BatchNormalization")
def batch_normalization(at: Visit) -> Array:
    """scale·(x - mean)/√(var + ε) + B with constant statistics: linear in x."""
    if at.attr("training_mode", 0):
        raise at.unsupported("training mode")
    factor = at.x(1) / np.sqrt(at.x(4) + at.real("epsilon", 1e-5))
    return at.signal * factor.reshape(*factor.shape, *[1] * (len(at.shape()) - factor.ndim - 1))


def normalized(x: Array, signal: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Normalise, x̂ = (x - mean)/√(var + ε) over `axes`, backwards.

    x receives (g - mean(g) - x̂·mean(g·x̂))/√(var + ε), g being the signal for x̂.
    """
    deviation = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    unit = (x - x.mean(axes, keepdims=True)) / deviation
    centred = signal - signal.mean(axes, keepdims=True)
    back: Array = (centred - unit * (signal * unit).mean(axes, keepdims=True)) / deviation
    return back


@of_first_input("InstanceNormalization")
def instance_normalization(at: Visit) -> Array:
    """scale[c]·x̂ + B[c], each image's channel normalised by itself."""
    axes = tuple(range(2, len(at.shape())))
    scale = at.x(1).reshape(-1, *[1] * len(axes))
    return normalized(at.x(), at.signal * scale, axes, at.real("epsilon", 1e-5))


@of_first_input("GroupNormalization")
def group_normalization(at: Visit) -> Array:
    """scale·x̂ + bias, each image's group of channels normalised by itself."""
    batch, channels, *positions = at.shape()
    groups, scale = at.attr("num_groups"), at.x(1)
    scale = np.repeat(scale, channels // scale.size).reshape(-1, *[1] * len(positions))
    grouped = (batch, groups, -1)
    x, signal = at.x().reshape(grouped), (at.signal * scale).reshape(grouped)
    return normalized(x, signal, (2,), at.real("epsilon", 1e-5)).reshape(at.shape())


@of_first_input("LayerNormalization")
def layer_normalization(at: Visit) -> Array:
    """scale·x̂ + B, normalised over the axes from `axis` on."""
    rank = len(at.shape())
    axes = tuple(range(at.attr("axis", -1) % rank, rank))
    return normalized(at.x(), at.signal * at.x(1), axes, at.real("epsilon", 1e-5))


@of_first_input("LRN")
def lrn(at: Visit) -> Array:
    """Y[c] = x[c]·D[c]^-b, D = k + a/n·Σ x² over the n channels around c; or the identity.

    x[e] receives signal[e]·D[e]^-b - 2·a·b/n·x[e]·Σ signal[c]·x[c]·D[c]^(-b-1) over the c around
    which e lies. A deconvnet does not invert contrast normalisation.
    """
    chosen = at.options.lrn or ("identity" if at.options.rules == "deconvnet" else "gradient")
    if chosen == "identity":
        return at.signal
    x, signal, size = at.x(), at.signal, at.attr("size")
    alpha, beta = at.real("alpha", 1e-4), at.real("beta", 0.75)
    around = [slice(max(0, c - (size - 1) // 2), c + size // 2 + 1) for c in range(x.shape[1])]
    squares = np.stack([(x[:, near] ** 2).sum(1) for near in around], 1)
    power = at.real("bias", 1.0) + alpha / size * squares
    back: Array = signal * power**-beta
    for c, near in enumerate(around):
        pull = signal[:, c] * x[:, c] * power[:, c] ** (-beta - 1)
        back[:, near] -= 2 * alpha * beta / size * x[:, near] * pull[:, None]
    return back


@of_first_input("Softmax", "LogSoftmax")
def softmax(at: Visit) -> Array:
    """Y = eˣ/Σ eˣ: y·(signal - Σ y·signal); its logarithm: signal - y·Σ signal.

    Along one axis since opset 13, before over all axes from `axis` on.
    """
    recent = at.graph.opset >= 13  # noqa: PLR2004
    rank = len(at.shape())
    axis = at.attr("axis", -1 if recent else 1) % max(rank, 1)
    axes = (axis,) if recent else tuple(range(axis, rank))
    x, signal = at.x(), at.signal
    y = np.exp(x - x.max(axes, keepdims=True))
    y = y / y.sum(axes, keepdims=True)
    if at.operator == "LogSoftmax":
        back: Array = signal - y * signal.sum(axes, keepdims=True)
    else:
        back = y * (signal - (y * signal).sum(axes, keepdims=True))
    return back


# --- where paths join -----------------------------------------------------------------------------


def shrink(signal: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: what was copied gets the sum of its copies' signals."""
    signal = signal.sum(tuple(range(signal.ndim - len(shape))))
    stretched = tuple(a for a, size in enumerate(shape) if size == 1 and signal.shape[a] != 1)
    shrunk: Array = signal.sum(stretched, keepdims=True)
    return shrunk


@of_each_input("Add", "Sum")
def add(at: Visit, i: int) -> Array:
    """Add, Sum: each term receives the signal."""
    return shrink(at.signal, at.shape(i))


@of_each_input("Mean")
def mean(at: Visit, i: int) -> Array:
    """Mean: each of n terms receives signal/n."""
    return shrink(at.signal / len(at.node.input), at.shape(i))


@of_each_input("Sub")
def subtract(at: Visit, i: int) -> Array:
    """Sub, A - B: A receives the signal, B its negative."""
    return shrink(at.signal if i == 0 else -at.signal, at.shape(i))


@of_each_input("Mul")
def multiply(at: Visit, i: int) -> Array:
    """Mul, A·B: each factor receives signal times the other."""
    return shrink(at.signal * at.x(1 - i), at.shape(i))


@of_each_input("Div")
def divide(at: Visit, i: int) -> Array:
    """Div, A/B: A receives signal/B, B receives -signal·A/B²."""
    factor = 1 / at.x(1) if i == 0 else -at.x(0) / at.x(1) ** 2
    return shrink(at.signal * factor, at.shape(i))


@of_each_input("Pow")
def power(at: Visit, i: int) -> Array:
    """Pow, A^B: A receives signal·B·A^(B-1), B receives signal·A^B·ln A (0 where A is 0)."""
    a, b = np.broadcast_arrays(at.x(0), at.x(1))
    if i == 0:
        return shrink(at.signal * np.where(b == 0, 0.0, b * a ** (b - 1)), at.shape(0))
    return shrink(at.signal * np.where(a == 0, 0.0, a**b * np.log(a)), at.shape(1))


@of_each_input("Max", "Min")
def extremum(at: Visit, i: int) -> Array:
    """Return the signal where operand i is the extremum; of equal ones, the first receives it."""
    operands = np.stack(np.broadcast_arrays(*(at.x(j) for j in range(len(at.node.input)))))
    chosen = operands.argmax(0) if at.operator == "Max" else operands.argmin(0)
    return shrink(np.where(chosen == i, at.signal, 0.0), at.shape(i))


@of_each_input("Where")
def where(at: Visit, i: int) -> Array:
    """Return the signal where the condition chose operand i."""
    return shrink(np.where(at.raw(0) if i == 1 else ~at.raw(0), at.signal, 0.0), at.shape(i))


@of_each_input("Concat")
def concat(at: Visit, i: int) -> Array:
    """Concat: each part receives its stretch of the signal."""
    axis = at.attr("axis", 1) % at.signal.ndim
    start = sum(at.shape(j)[axis] for j in range(i))
    return at.signal.take(range(start, start + at.shape(i)[axis]), axis)


@of_first_input("Split")
def split(at: Visit) -> Array:
    """Parts along an axis: the concatenation of their signals, zero for one that has none."""
    axis = at.attr("axis", 0) % len(at.shape())
    total, parts = at.shape()[axis], len(at.node.output)
    largest = -(-total // parts)
    sizes = at.ints("split", 1) or [min(largest, total - p * largest) for p in range(parts)]
    frame = np.zeros(at.shape())
    for signal, stop in zip(at.arrived, np.cumsum(sizes), strict=True):
        if signal is not None:
            place = [slice(None)] * axis + [slice(stop - signal.shape[axis], stop)]
            frame[tuple(place)] = signal
    return frame


@of_first_input("ReduceSum", "ReduceMean")
def reduce(at: Visit) -> Array:
    """Σ x or its mean over axes: each x receives the signal, divided by their number for a mean."""
    axes, shape = at.ints("axes", 1), at.shape()
    if not axes:
        axes = [] if at.attr("noop_with_empty_axes", 0) else list(range(len(shape)))
    axes = [axis % len(shape) for axis in axes]
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    count = math.prod(shape[axis] for axis in axes) if at.operator == "ReduceMean" else 1
    return np.broadcast_to(at.signal.reshape(kept) / count, shape)


# --- operators that only move numbers -------------------------------------------------------------


def return_to(places: Positions, signal: Array, shape: tuple[int, ...]) -> Array:
    """Send each signal to the flat position it belongs to, -1 being none; what meets adds up."""
    real = places >= 0
    summed = np.bincount(places[real], weights=signal[real], minlength=math.prod(shape))
    return summed.astype(np.float64).reshape(shape)


def moved(*operators: str) -> Callable[[Callable[[Visit, Positions], Positions]], FirstInput]:
    """Enter an operator that only moves numbers, by how it moves their positions.

    The positions make the same way as the numbers; then each signal goes back to the position
    that arrived with it.
    """

    def enter(move: Callable[[Visit, Positions], Positions]) -> FirstInput:
        @functools.wraps(move)
        def backward(at: Visit) -> Array:
            places = np.arange(math.prod(at.shape())).reshape(at.shape())
            return return_to(move(at, places), at.signal, at.shape())

        return of_first_input(*operators)(backward)

    return enter


@of_first_input("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(at: Visit) -> Array:
    """Return the signal in the shape of the input: the order of the numbers is the same."""
    return at.signal.reshape(at.shape())


@of_first_input("Dropout")
def dropout(at: Visit) -> Array:
    """Nothing drops at inference."""
    if at.given(2) and at.raw(2).any():
        raise at.unsupported("training mode")
    return at.signal


def along_axis(at: Visit, numbers: Array) -> Array:
    """Give one number per channel the axes that it is broadcast along."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = int(at.attr("axis", 1))
    shape = [1] * len(at.shape())
    shape[axis] = numbers.size
    return numbers.reshape(shape)


def cuts_off(at: Visit) -> bool:
    """Whether a quantiser stands for the relu that was left out between it and a filter."""
    source = at.graph.producers.get(at.node.input[0])
    while source is not None and source.op_type in (
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
    ):
        source = at.graph.producers.get(source.input[0])
    filters = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sum", "BatchNormalization")
    if source is None or source.op_type not in filters or not at.given(2):
        return False
    return bool((at.raw(2) == np.iinfo(at.raw(2).dtype).min).all())


@of_first_input("QuantizeLinear")
def quantise(at: Visit) -> Array:
    """Pass as if nothing were rounded; rectify where the quantiser does a relu's work."""
    signal = at.signal / along_axis(at, at.x(1))
    if not cuts_off(at):
        return signal
    above = at.graph.value(at.node.output[0]) > along_axis(at, at.x(2))
    if at.options.rules != "gradient":
        signal = np.maximum(signal, 0)
    return signal if at.options.rules == "deconvnet" else np.where(above, signal, 0.0)


@of_first_input("DequantizeLinear")
def dequantise(at: Visit) -> Array:
    """Pass in units of the scale."""
    return at.signal * along_axis(at, at.x(1))


@of_first_input("DynamicQuantizeLinear")
def quantise_dynamically(at: Visit) -> Array:
    """Pass in units of the scale that was found; the scale itself is taken as given."""
    (first, *_) = at.arrived
    signal = np.zeros(at.shape()) if first is None else first
    return signal / at.graph.value(at.node.output[1])


@moved("Transpose")
def transpose(at: Visit, places: Positions) -> Positions:
    """Permute the axes; reverse them unless told."""
    return places.transpose(at.ints("perm"))


@moved("Slice")
def slice_(at: Visit, places: Positions) -> Positions:
    """Take starts:ends:steps along axes: attributes before opset 10, inputs since."""
    starts, ends = at.ints("starts", 1) or [], at.ints("ends", 2) or []
    axes = at.ints("axes", 3) or list(range(len(starts)))
    steps = at.ints("steps", 4) or [1] * len(starts)
    chosen = [slice(None)] * places.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python reads a negative end as ONNX does, save past the beginning, which both clamp.
        chosen[axis] = slice(start, end, step)
    return places[tuple(chosen)]


@moved("Crop")
def crop(at: Visit, places: Positions) -> Positions:
    """Cut borders [left, top, right, bottom], or `scale` [height, width] from left, top."""
    left, top, right, bottom = at.ints("border") or []
    height, width = at.ints("scale") or (
        places.shape[2] - top - bottom,
        places.shape[3] - left - right,
    )
    return places[:, :, top : top + height, left : left + width]


@moved("Gather")
def gather(at: Visit, places: Positions) -> Positions:
    """Take entries along an axis by index."""
    return places.take(at.raw(1), at.attr("axis", 0))


@moved("Pad")
def pad(at: Visit, places: Positions) -> Positions:
    """Cut where pads are negative, then pad; a padded constant comes from no position."""
    pads = at.ints("pads", 1) or []
    axes = at.ints("axes", 3) or range(places.ndim)
    around = [(0, 0)] * places.ndim
    for axis, begin, end in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        around[axis] = begin, end
    places = places[
        tuple(
            slice(max(0, -begin), size - max(0, -end))
            for (begin, end), size in zip(around, places.shape, strict=True)
        )
    ]
    grown = [(max(0, begin), max(0, end)) for begin, end in around]
    mode = at.attr("mode", "constant")
    if mode == "constant":
        return np.pad(places, grown, constant_values=-1)
    return np.pad(places, grown, mode=mode)


@moved("Expand")
def expand(at: Visit, places: Positions) -> Positions:
    """Broadcast to a shape."""
    return np.broadcast_to(places, at.signal.shape)


@moved("Tile")
def tile(at: Visit, places: Positions) -> Positions:
    """Repeat along each axis."""
    return np.tile(places, at.raw(1))


@moved("DepthToSpace")
def depth_to_space(at: Visit, places: Positions) -> Positions:
    """Spread channels over blocks: the block comes first among them (DCR) or last (CRD)."""
    n, c, h, w = places.shape
    b = at.attr("blocksize")
    if at.attr("mode", "DCR") == "DCR":
        order = places.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        order = places.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return order.reshape(n, c // b**2, h * b, w * b)


@moved("SpaceToDepth")
def space_to_depth(at: Visit, places: Positions) -> Positions:
    """Gather blocks into channels, the block first among them."""
    n, c, h, w = places.shape
    b = at.attr("blocksize")
    order = places.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return order.reshape(n, c * b**2, h // b, w // b)


# --- resizing -------------------------------------------------------------------------------------


@of_first_input("Resize", "Upsample")
def resize(at: Visit) -> Array:
    """Y = M·X along each axis, M[o, i] the share of input i in output o: x receives Mᵀ·signal."""
    if at.attr("antialias", 0) or at.attr("exclude_outside", 0):
        raise at.unsupported("antialias and exclude_outside")
    if at.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise at.unsupported("keep_aspect_ratio_policy")
    signal = at.signal
    for axis, scale in resize_scales(at).items():
        weights = resize_weights(at, at.shape()[axis], at.signal.shape[axis], scale)
        signal = np.moveaxis(np.tensordot(weights, signal, (0, axis)), 0, axis)
    return signal


def resize_scales(at: Visit) -> dict[int, float]:
    """Return the scale of each axis: given, or the quotient of the sizes."""
    axes = [axis % len(at.shape()) for axis in at.ints("axes") or range(len(at.shape()))]
    place = 2 if at.operator == "Resize" and at.graph.opset > 10 else 1  # noqa: PLR2004
    scales = at.raw(place).reshape(-1) if at.given(place) else np.asarray(at.attr("scales", ()))
    if scales.size:
        return dict(zip(axes, map(float, scales), strict=True))
    return {axis: at.signal.shape[axis] / at.shape()[axis] for axis in axes}


def resize_weights(at: Visit, size: int, out: int, scale: float) -> Array:
    """Return M[o, i]: how much of input i is in output o."""
    recent = at.operator == "Resize" and at.graph.opset > 10  # noqa: PLR2004
    kind = at.attr("coordinate_transformation_mode", "half_pixel" if recent else "asymmetric")
    nearest = at.attr("nearest_mode", "round_prefer_floor" if recent else "floor")
    mode = at.attr("mode", "nearest")
    if mode not in ("nearest", "linear") or kind not in COORDINATES:
        raise at.unsupported(f"mode {mode}, {kind}")
    weights = np.zeros((out, size))
    for o in range(out):
        x = COORDINATES[kind](o, size, out, scale)
        i = NEAREST[nearest](float(np.float32(x))) if mode == "nearest" else math.floor(x)
        share = 0.0 if mode == "nearest" else x - i
        weights[o, min(max(i, 0), size - 1)] += 1.0 - share
        weights[o, min(max(i + 1, 0), size - 1)] += share
    return weights


NEAREST: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
}
"""The input position that a coordinate takes; runtimes decide ties in single precision."""

COORDINATES: dict[str, Callable[[int, int, int, float], float]] = {
    "asymmetric": lambda o, _size, _out, scale: o / scale,
    "half_pixel": lambda o, _size, _out, scale: (o + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda o, _size, out, scale: (o + 0.5) / scale - 0.5 if out > 1 else 0.0,
    "align_corners": lambda o, size, out, _scale: o * (size - 1) / max(out - 1, 1),
    "half_pixel_symmetric": lambda o, size, out, scale: (size - out / scale) / 2 + (o + 0.5) / scale - 0.5,
}
"""Where in the input an output position o looks, given both sizes and the scale."""


# --- forward values -------------------------------------------------------------------------------

# The evaluator of the ONNX standard does not know the three operators that left it before 1.0, and
# what it makes of seven others is wrong (onnx 1.23). Each class is what its operator's text says.


class ImageScaler(OpRun):
    """scale·x + bias[c]: gone from the standard."""

    op_domain = ""

    def _run(self, x: Array, scale: float = 1.0, bias: Any = 0.0) -> tuple[Array]:
        return ((scale * x + np.asarray(bias).reshape(-1, 1, 1)).astype(x.dtype),)


class Affine(OpRun):
    """alpha·x + beta: gone from the standard."""

    op_domain = ""

    def _run(self, x: Array, alpha: float = 1.0, beta: float = 0.0) -> tuple[Array]:
        return ((alpha * x + beta).astype(x.dtype),)


class Crop(OpRun):
    """Cut borders: gone from the standard."""

    op_domain = ""

    def _run(self, x: Array, border: Any = (), scale: Any = None) -> tuple[Array]:
        left, top, right, bottom = border
        height, width = scale or (x.shape[2] - top - bottom, x.shape[3] - left - right)
        return (x[:, :, top : top + height, left : left + width],)


class Erf(OpRun):
    """Not rounded to float32 on the way."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (error_function(x).astype(x.dtype),)


class Gelu(OpRun):
    """Not rounded to float32 on the way."""

    op_domain = ""

    def _run(self, x: Array, approximate: str) -> tuple[Array]:
        if approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        else:
            gate = error_function(x / math.sqrt(2))
        return ((0.5 * x * (1 + gate)).astype(x.dtype),)


class LRN(OpRun):
    """For every channel, not for as many as there are images."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            near = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
            y[:, c] = x[:, c] / (bias + alpha / size * (near**2).sum(1)) ** beta
        return (y,)


class Mean(OpRun):
    """With broadcasting."""

    op_domain = ""

    def _run(self, *terms: Array) -> tuple[Array]:
        total = functools.reduce(np.add, terms)
        return ((total / len(terms)).astype(total.dtype),)


class BatchNormalization(OpRun):
    """Always at inference: before opset 14 the evaluator trains."""

    op_domain = ""

    def _run(self, x: Array, *statistics: Array, epsilon: float, **_: Any) -> tuple[Array]:
        scale, bias, mean, variance = (
            held.reshape(*held.shape, *[1] * (x.ndim - held.ndim - 1)) for held in statistics
        )
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


class Softmax(OpRun):
    """Before opset 13 over all axes from `axis` on, not along one."""

    op_domain = ""

    def _run(self, x: Array, axis: int) -> tuple[Array]:
        axes: tuple[int, ...] = (axis,)
        if self.run_params["opsets"].get("", 13) < 13:  # noqa: PLR2004
            told = any(attribute.name == "axis" for attribute in self.onnx_node.attribute)
            axes = tuple(range(axis % x.ndim if told else 1, x.ndim))
        y = np.exp(x - x.max(axes, keepdims=True))
        return (y / y.sum(axes, keepdims=True),)


class LogSoftmax(Softmax):
    """The logarithm of a Softmax."""

    def _run(self, x: Array, axis: int) -> tuple[Array]:
        (y,) = super()._run(x, axis)
        return (np.log(y),)


AMENDED = [
    ImageScaler,
    Affine,
    Crop,
    Erf,
    Gelu,
    LRN,
    Mean,
    BatchNormalization,
    Softmax,
    LogSoftmax,
]


def refuse_wrong_values(node: onnx.NodeProto) -> None:
    """Raise where the evaluator is wrong and not amended: another runtime must compute these."""
    form = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    wrong = {
        "ConvTranspose": form.get("group", 1) > 1 or "output_shape" in form,
        "MaxPool": form.get("auto_pad") == b"SAME_LOWER",
    }
    if wrong.get(node.op_type):
        raise RuleError(
            f"onnx.reference computes this form of {node.op_type} wrongly: "
            f"{node.name or node.output[0]!r}; take its values from onnxruntime"
        )


def forward_values(
    model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], *, float64: bool = False
) -> dict[str, NDArray[Any]]:
    """Compute every value of a small model with the reference evaluator of the ONNX standard.

    Parameters
    ----------
    model
        A flat graph with its weights inside.
    feeds
        The graph's inputs.
    float64
        Whether to compute in double precision what the model computes in any other.

    Returns
    -------
    dict
        The inputs and the outputs of every node, by name.

    Raises
    ------
    RuleError
        For a ConvTranspose with groups or output_shape and a MaxPool with SAME_LOWER, which the
        evaluator of the standard computes wrongly.
    """
    given = dict(feeds)
    if float64:
        model = in_float64(model)
        given = {name: value.astype(np.float64) if is_real(value) else value for name, value in given.items()}
    for node in model.graph.node:
        refuse_wrong_values(node)
    evaluator = ReferenceEvaluator(model, new_ops=AMENDED)
    names = [name for node in model.graph.node for name in node.output if name]
    return given | dict(zip(names, evaluator.run(names, given), strict=True))


FLOATS = frozenset(
    (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
    )
)


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a flat model whose floating point numbers are all doubles."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in graph.initializer:
        widen(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name.startswith("value_float"):
            held = constant(node).astype(np.float64)
            del node.attribute[:]
            tensor = numpy_helper.from_array(held)
            node.attribute.append(onnx.helper.make_attribute("value", tensor))
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = onnx.TensorProto.DOUBLE
    return double


def widen(tensor: onnx.TensorProto) -> None:
    """Make a tensor of floating point numbers one of doubles, in place."""
    if tensor.data_type in FLOATS:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
