"""What the exact tests share: models from text, runs, and answers that do not come from the product."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from standard_evaluator import Erf

from onnx_deconv import Semantics, compile_pair, load
from onnx_deconv.runtime import PairSession

REAL = {"float": np.float32, "double": np.float64, "float16": np.float16}


class RefusedError(Exception):
    """The runtime refuses the user's own model: there is nothing to explain."""


@dataclass(frozen=True, eq=False)
class Case:
    """One form of an operator: the body of a graph that computes ``y`` from ``x`` (and ``z``).

    Attributes
    ----------
    body
        ONNX text.
    x, z
        Shapes of the inputs; an axis named by a string is only known at run time.
    opset
        Which version of the operators.
    weights
        Initializers by name: a shape stands for random numbers, an array for itself.
    low, high
        The range of the inputs' numbers, and of the weights'.
    same_as
        The same in operators that the standard's reference implementation evaluates rightly.
    torch
        The same in PyTorch: given the module and the tensors by name, returns y.
    rounded
        Whether the standard's reference implementation computes it in single precision: useless for
        differences, so that PyTorch alone can tell.
    """

    body: str
    x: tuple[int | str, ...] = (2, 4, 5, 6)
    z: tuple[int | str, ...] | None = None
    opset: int = 17
    weights: Mapping[str, object] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    same_as: str = ""
    torch: Callable[..., object] | None = field(default=None, repr=False)
    rounded: bool = False

    def __str__(self):
        sizes = "x".join(map(str, self.x))
        return f"{self.body.removeprefix('y = ')} of {sizes} in opset {self.opset}"

    @property
    def inputs(self):
        """The inputs' shapes by name."""
        return {n: s for n, s in (("x", self.x), ("z", self.z)) if s is not None}

    def proto(self):
        """The model."""
        return model_of(self.body, self.inputs, self.arrays(), self.opset)

    def exact(self):
        """The same function in double precision."""
        opset = 18 if self.same_as else self.opset
        return model_of(self.same_as or self.body, self.inputs, self.arrays(), opset, "double")

    def arrays(self):
        """The weights."""
        given = self.weights.items()
        return {n: w if isinstance(w, np.ndarray) else numbers(w, n, self.low, self.high) for n, w in given}

    def feeds(self, **sizes):
        """Numbers for the inputs, in single precision."""
        shapes = {n: [sizes.get(d, d) for d in s] for n, s in self.inputs.items()}
        return {n: numbers(s, n, self.low, self.high) for n, s in shapes.items()}


def model_of(body, inputs, weights=None, opset=17, real="float", outputs=("y",)):
    """A model from the body of its graph."""
    declared = ", ".join(f"{real}[{','.join(map(str, shape))}] {name}" for name, shape in inputs.items())
    results = ", ".join(f"{real}[] {name}" for name in outputs)
    proto = onnx.parser.parse_model(
        f'<ir_version: {8 if opset < 20 else 10}, opset_import: ["": {opset}]> '
        f"g ({declared}) => ({results}) {{ {body} }}"
    )
    for name, array in (weights or {}).items():
        typed = array.astype(REAL[real]) if array.dtype.kind == "f" else array
        proto.graph.initializer.append(numpy_helper.from_array(typed, name))
    return proto


def node(operator, inputs, **attributes):
    """A call of an operator as ONNX text; attributes that are None are left out."""
    given = ", ".join(f"{k} = {_text(v)}" for k, v in attributes.items() if v is not None)
    return f"{operator}<{given}>({inputs})" if given else f"{operator}({inputs})"


def _text(value):
    if isinstance(value, str):
        return f'"{value}"'
    return str([*map(int, value)]) if isinstance(value, list | tuple) else str(value)


def numbers(shape, name="", low=-2.0, high=2.0):
    """Random numbers of single precision, always the same for a name and shape."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    return rng.uniform(low, high, shape).astype(np.float32)


def plain(proto, feeds):
    """Run the user's own model, by output name."""
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"]
        )
        results = session.run(None, feeds)
    except Exception as error:  # onnxruntime has no common base for its exceptions
        raise RefusedError(str(error)) from error
    return dict(zip([o.name for o in session.get_outputs()], results, strict=True))


def answer(proto, feeds):
    """Run the user's own model; return its first output."""
    return next(iter(plain(proto, feeds).values()))


def session_of(proto, explained=None, *, inputs=None, **semantics):
    """Both models of a pair, ready to run on the CPU."""
    pair = compile_pair(load(proto), explained, semantics=Semantics(**semantics), inputs=inputs)
    return PairSession(pair, "cpu")


def explain(proto, feeds, seed=None, explained=None, **more):
    """Reconstruct the inputs from a seed (ones if not given), by output name."""
    pair = session_of(proto, explained, **more)
    return send_back(pair, feeds, seed)


def send_back(pair, feeds, seed=None):
    """Run both models of a pair."""
    values = pair.run_forward(feeds)
    if seed is None:
        seed = np.ones(values[pair.pair.manifest["explained"]["value"]].shape())
    return pair.run_deconv(values, seed.astype(pair.seed_dtype))


def reconstruction(proto, feeds, seed=None, explained=None, **more):
    """Reconstruct the only explained input."""
    (only,) = explain(proto, feeds, seed, explained, **more).values()
    return only


def assert_transposed(proto, feeds):
    """⟨f(x) - f(0), s⟩ = ⟨x, fᵀ(s)⟩: what the companion computes is the forward model's transpose."""
    plain(proto, feeds)
    pair = session_of(proto)
    (explained,) = proto.graph.output
    values = pair.run_forward(feeds)
    (x,) = feeds.values()
    at_zero = pair.run_forward(dict.fromkeys(feeds, np.zeros_like(x)))[explained.name].numpy()
    linear = values[explained.name].numpy().astype(np.float64) - at_zero
    seed = numbers(linear.shape, "seed")
    (back,) = pair.run_deconv(values, seed).values()
    assert back.shape == x.shape
    forwards, backwards = np.vdot(linear, seed), np.vdot(x, back.astype(np.float64))
    scale = np.linalg.norm(linear) * np.linalg.norm(seed) + np.linalg.norm(x) * np.linalg.norm(back)
    assert abs(forwards - backwards) <= 1e-5 * scale


def differences(proto, feeds, seed, of="x", step=1e-6):
    """seedᵀ·∂y/∂x by central differences in double precision, one element at a time.

    The forward values come from the standard's own reference implementation.
    """
    run = ReferenceEvaluator(proto, new_ops=[Erf])
    exact = {n: a.astype(np.float64) for n, a in feeds.items()}
    gradient = np.empty(exact[of].shape)
    for index in np.ndindex(gradient.shape):
        sides = []
        for sign in (1, -1):
            moved = exact[of].copy()
            moved[index] += sign * step
            sides.append(np.asarray(run.run(None, {**exact, of: moved})[0]))
        gradient[index] = np.vdot(seed, sides[0] - sides[1]) / (2 * step)
    return gradient


def assert_close(got, expected, tolerance=1e-5):
    """Equal up to a share of the largest expected number.

    Other graphs, runtimes and CPUs add up the same numbers in another order. Each addition is rounded by
    2**-24 of what it gives, so that a sum of n terms is off by about the root of n times that, and as much
    where the terms cancel each other: hence a share of the largest number, not of each. The default is that
    of 28 000 terms, more than any model of these tests adds up from its input to a result.
    """
    assert np.shape(got) == np.shape(expected)
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * (largest or 1e-3))
