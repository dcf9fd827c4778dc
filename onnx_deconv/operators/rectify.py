"""Rectifiers: the only rows in which the three tables differ.

* ``gradient``: the true derivative.
* ``deconvnet``: the signal is rectified as the forward value was (Zeiler & Fergus 2013, section 2.1,
  "Rectification"): by the same function if it is positively homogeneous, by Relu for the others.
* ``guided``: deconvnet's rule, and nothing passes where the forward input was not positive
  (Springenberg et al. 2015, section 3.4).
"""

import math

import numpy as np

from onnx_deconv.errors import RuleError
from onnx_deconv.operators import numbers
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.registry import key_of, operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Rule, Signals, rule_table
from onnx_deconv.operators.traits import COMBINATION, DISCONTINUOUS, LIMIT, NONNEGATIVE, POINTWISE, RECTIFIER

SELU_ALPHA, SELU_GAMMA = 1.6732631921768188, 1.0507010221481323
GELU_CUBIC, GELU_SCALE = 0.044715, math.sqrt(2 / math.pi)
_ROOT_HALF, _BELL = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


# The true derivatives.


@operator("Relu", traits={LIMIT, RECTIFIER, POINTWISE, NONNEGATIVE}, evaluate=lambda x: np.maximum(x, 0))
def relu(at: Site) -> Signals:
    """Passes where the forward value is positive."""
    return [_where_passed(at, at.signal)]


@operator(
    "LeakyRelu",
    traits={RECTIFIER, POINTWISE},
    evaluate=lambda x, alpha=0.01: numbers.leaky(x, alpha),
)
def leaky_relu(at: Site) -> Signals:
    """Passes, scaled by alpha where the forward input is negative."""
    return [_where_positive(at, at.signal, at.op.Mul(at.signal, float(at.attr("alpha", 0.01))))]


@operator("PRelu", traits={RECTIFIER, POINTWISE}, evaluate=numbers.leaky)
def prelu(at: Site) -> Signals:
    """Passes, scaled by the learned slope where the forward input is negative."""
    return [_where_positive(at, at.signal, at.op.Mul(at.signal, at.input(1))), None]


@operator(
    "ThresholdedRelu",
    traits={LIMIT, RECTIFIER, POINTWISE, DISCONTINUOUS},
    evaluate=lambda x, alpha=1.0: np.where(np.greater(x, alpha), x, 0),
)
def thresholded_relu(at: Site) -> Signals:
    """Passes where the forward input exceeds alpha."""
    beyond = at.op.Greater(at.input(0), float(at.attr("alpha", 1.0)))
    return [at.op.Where(beyond, at.signal, 0.0)]


@operator("Clip", traits={LIMIT, RECTIFIER, POINTWISE, COMBINATION}, evaluate=numbers.clip)
def clip(at: Site) -> Signals:
    """Passes where the forward input lies between the bounds."""
    op, (low, high) = at.op, _bounds(at)
    signal = at.signal
    if low is not None:
        signal = op.Where(op.Greater(_limited(at), low), signal, 0.0)
    if high is not None:
        signal = op.Where(op.Less(_limited(at), high), signal, 0.0)
    return [signal, None, None]


@operator("Elu", traits={RECTIFIER, POINTWISE}, evaluate=lambda x, alpha=1.0: numbers.exponential(x, alpha))
def elu(at: Site) -> Signals:
    """Scaled by alpha·eˣ where the forward input is negative."""
    return [_where_positive(at, at.signal, _times_exp(at, float(at.attr("alpha", 1.0))))]


@operator(
    "Selu",
    traits={RECTIFIER, POINTWISE},
    evaluate=lambda x, alpha=SELU_ALPHA, gamma=SELU_GAMMA: numbers.exponential(x, alpha, gamma),
)
def selu(at: Site) -> Signals:
    """Scaled by gamma, and by gamma·alpha·eˣ where the forward input is negative."""
    alpha, gamma = at.attr("alpha", SELU_ALPHA), at.attr("gamma", SELU_GAMMA)
    return [_where_positive(at, at.op.Mul(at.signal, float(gamma)), _times_exp(at, alpha * gamma))]


@operator(
    "Celu",
    traits={RECTIFIER, POINTWISE},
    evaluate=lambda x, alpha=1.0: numbers.exponential(x, alpha, scale=alpha),
)
def celu(at: Site) -> Signals:
    """Scaled by e^(x/alpha) where the forward input is negative."""
    op, alpha = at.op, float(at.attr("alpha", 1.0))
    decay = op.Exp(op.Div(op.Min(at.input(0), 0.0), alpha))
    return [op.Mul(at.signal, decay)]


@operator("Softplus", traits={RECTIFIER, POINTWISE, NONNEGATIVE}, evaluate=lambda x: np.logaddexp(0, x))
def softplus(at: Site) -> Signals:
    """Scaled by σ(x)."""
    return [at.op.Mul(at.signal, at.op.Sigmoid(at.input(0)))]


@operator(
    "Swish",
    traits={RECTIFIER, POINTWISE},
    evaluate=lambda x, alpha=1.0: x * numbers.logistic(alpha * x),
)
def swish(at: Site) -> Signals:
    """Scaled by σ(αx)·(1 + αx·(1 - σ(αx)))."""
    op, alpha = at.op, float(at.attr("alpha", 1.0))
    scaled = at.input(0) if alpha == 1.0 else op.Mul(at.input(0), alpha)
    gate = op.Sigmoid(scaled)
    slope = op.Mul(gate, op.Add(op.Mul(scaled, op.Sub(1.0, gate)), 1.0))
    return [op.Mul(at.signal, slope)]


@operator("HardSwish", traits={RECTIFIER, POINTWISE}, evaluate=lambda x: x * np.clip(x / 6 + 0.5, 0, 1))
def hard_swish(at: Site) -> Signals:
    """Scaled by 0 below -3, by 1 above 3, by x/3 + ½ between."""
    op, x = at.op, at.input(0)
    slope = op.Add(op.Mul(x, 1 / 3), 0.5)
    inner = op.Where(op.Greater(x, -3.0), slope, 0.0)
    return [op.Mul(at.signal, op.Where(op.Less(x, 3.0), inner, 1.0))]


@operator("Gelu", traits={RECTIFIER, POINTWISE}, evaluate=numbers.gelu)
def gelu(at: Site) -> Signals:
    """Scaled by Φ(x) + x·φ(x), or by the derivative of its tanh form."""
    op, x = at.op, at.input(0)
    if at.attr("approximate", "none") == "tanh":
        square = op.Mul(x, x)
        tanh = op.Tanh(op.Mul(x, op.Add(op.Mul(square, GELU_SCALE * GELU_CUBIC), GELU_SCALE)))
        inner = op.Add(op.Mul(square, 3 * GELU_SCALE * GELU_CUBIC), GELU_SCALE)
        tail = op.Mul(op.Mul(x, inner), op.Sub(1.0, op.Mul(tanh, tanh)))
        slope = op.Mul(op.Add(op.Add(tanh, tail), 1.0), 0.5)
    else:
        below = op.Mul(op.Add(op.Erf(op.Mul(x, _ROOT_HALF)), 1.0), 0.5)
        bell = op.Mul(op.Exp(op.Mul(op.Mul(x, x), -0.5)), _BELL)
        slope = op.Add(below, op.Mul(x, bell))
    return [op.Mul(at.signal, slope)]


@operator("Mish", traits={RECTIFIER, POINTWISE}, evaluate=lambda x: x * np.tanh(np.logaddexp(0, x)))
def mish(at: Site) -> Signals:
    """Scaled by t + x·σ(x)·(1 - t²), t = tanh(softplus(x))."""
    op, x = at.op, at.input(0)
    tanh = op.Tanh(op.Softplus(x))
    tail = op.Mul(op.Mul(x, op.Sigmoid(x)), op.Sub(1.0, op.Mul(tanh, tanh)))
    return [op.Mul(at.signal, op.Add(tanh, tail))]


# The deconvnet's rows.


@rule_table("deconvnet").row(RECTIFIER)
def rectify(at: Site) -> Signals:
    """Rectifies the signal."""
    return [at.op.Relu(at.signal)]


@leaky_relu.row("deconvnet")
def rectify_leaky(at: Site) -> Signals:
    """Rectifies the signal by the same leaky function."""
    return [at.op.LeakyRelu(at.signal, alpha=at.attr("alpha"))]


@prelu.row("deconvnet")
def rectify_parametric(at: Site) -> Signals:
    """Rectifies the signal by the same learned slope."""
    return [at.op.PRelu(at.signal, at.input(1)), None]


@clip.row("deconvnet")
def rectify_clip(at: Site) -> Signals:
    """Rectifies the signal if the lower bound is 0 (ReLU6); any other Clip is no rectifier."""
    return [at.op.Relu(at.signal), None, None] if _bounds(at)[0] == 0 else clip(at)


# The guided table: the deconvnet's rows, stopped where the forward input was not positive.


@relu.row("guided")
def guide(at: Site) -> Signals:
    """Rectifies the signal. Stopped where the forward input was not positive."""
    return [_where_passed(at, at.op.Relu(at.signal))]


@clip.row("guided")
def guide_clip(at: Site) -> Signals:
    """Guides the signal if the lower bound is 0 (ReLU6); any other Clip is no rectifier."""
    if _bounds(at)[0] != 0:
        return clip(at)
    passed = at.op.Greater(_limited(at), 0.0)
    return [at.op.Where(passed, at.op.Relu(at.signal), 0.0), None, None]


def _guided(deconvnet: Rule) -> Rule:
    def guided(at: Site) -> Signals:
        return _stopped(at, deconvnet(at))

    guided.__doc__ = f"{deconvnet.__doc__} Stopped where the forward input was not positive."
    guided.__qualname__ = f"guided_{deconvnet.__name__}"
    return guided


rule_table("guided").row(RECTIFIER)(_guided(rectify))
leaky_relu.row("guided")(_guided(rectify_leaky))
prelu.row("guided")(_guided(rectify_parametric))


def _stopped(at: Site, signals: Signals) -> Signals:
    signal, *rest = signals
    return [at.op.Where(_is_positive(at), signal, 0.0), *rest]


def _bounds(at: Site) -> tuple[float | None, float | None]:
    """Return a Clip's bounds; ``None`` where there is none, or one that no number exceeds."""
    low, high = _bound(at, "min", 1), _bound(at, "max", 2)
    most = float(np.finfo(at.op.dtype).max)
    return (
        None if low is None or low <= -most else float(low),
        None if high is None or high >= most else float(high),
    )


def before_upper_bound(node: ForwardNode) -> tuple[str, float] | None:
    """Return what a node limits from above, and its lower bound.

    Returns
    -------
    tuple
        The name of the value before both bounds, and the lower one, -inf where there is none; ``None`` if
        the node has no upper bound, or bounds that depend on the image.
    """
    if key_of(node.node) != ("", "Clip"):
        return None
    try:
        low, high = _bound(node, "min", 1), _bound(node, "max", 2)
    except RuleError:
        return None
    return None if high is None else (str(node.node.inputs[0].name), -math.inf if low is None else low)


def _bound(at: ForwardNode, name: str, place: int) -> float | None:
    """Return one of a Clip's bounds: a number, or an array that holds one, which runtimes take as well."""
    numbers = np.ravel(at.param(name, place, ()))
    if numbers.size > 1:
        raise at.unsupported(f"{name} (input {place}) is {numbers.size} numbers")
    return float(numbers[0]) if numbers.size else None


def _limited(at: Site) -> Signal:
    """Return what lies between the bounds of a Clip exactly where its input does.

    That is the result, since to read the input would undo the runtime's fusion of a filter with its Clip.
    Where several nodes are the Clip, nothing is fused, and what they compute is rounded more than once.
    """
    return at.input(0) if _is_recognised(at) else at.output()


def _where_passed(at: Site, signal: Signal) -> Signal:
    """Pass a signal where the input of a Relu is positive."""
    if _is_recognised(at):
        return at.op.Where(at.op.Greater(at.input(0), 0.0), signal, 0.0)
    # Sign(y) is 1 where y = max(x, 0) is positive, else 0; x itself would undo the runtime's fusion.
    return at.op.Mul(signal, at.op.Sign(at.output()))


def _is_recognised(at: Site) -> bool:
    return at.node.outputs[0].name in at.model.recognised


def _where_positive(at: Site, positive: Signal, negative: Signal) -> Signal:
    return at.op.Where(_is_positive(at), positive, negative)


def _is_positive(at: Site) -> Signal:
    """Tell where the forward input is positive: from the result, where that has the input's sign."""
    keeps_sign = at.node.op == "LeakyRelu" and at.attr("alpha", 0.01) > 0 and not _is_recognised(at)
    return at.op.Greater(at.output() if keeps_sign else at.input(0), 0.0)


def _times_exp(at: Site, scale: float) -> Signal:
    """Return signal·scale·eˣ for negative x (clamped: eˣ of a large x would be infinite)."""
    op = at.op
    return op.Mul(at.signal, op.Mul(op.Exp(op.Min(at.input(0), 0.0)), scale))
