"""See one activation where exporters wrote several nodes.

Only the *view* of a model is rewritten, never the user's model: a recognised group of nodes becomes
one node of the standard's name for it, so that one network gets one explanation whichever exporter
wrote the file. The group's output keeps its name.
"""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Constant = Callable[[str], NDArray[np.generic] | None]


def recognise(graph: gs.Graph, constant: Constant) -> None:
    """Replace spelled-out activations by one node each.

    SiLU ``x·σ(x)`` (Swish), HardSwish ``x·HardSigmoid(x)`` and ``x·Clip(x+3, 0, 6)/6`` with the factor
    anywhere, GELU by Erf and by Tanh, Mish ``x·tanh(softplus(x))``, and ReLU6 as Min and Max (Clip).

    Parameters
    ----------
    graph
        The view; changed in place.
    constant
        Gives the numbers of a value that is a constant, else ``None``.
    """
    matcher = _Matcher(graph, constant)
    for i, node in enumerate(graph.nodes):
        found = next(filter(None, (match(node) for match in matcher.patterns)), None)
        if found is not None:
            op, x, attributes = found
            y = node.outputs[0]
            node.outputs.clear()
            graph.nodes[i] = gs.Node(op, node.name, attributes, inputs=[x], outputs=[y])
            matcher.producers[y.name] = graph.nodes[i]


Match = tuple[str, gs.Variable, dict[str, object]] | None


class _Matcher:
    """The patterns; each takes a group's last node and returns (operator, x, attributes) or None."""

    def __init__(self, graph: gs.Graph, constant: Constant) -> None:
        self.constant = constant
        self.producers = {v.name: n for n in graph.nodes for v in n.outputs if v.name}
        self.patterns = (self.gate, self.scaled_gate, self.gelu, self.relu6)

    def gate(self, node: gs.Node) -> Match:
        """Match x·g(x), where g is a sigmoid-like function of one node or two."""
        for x, g in self.factors(node):
            gate = self.producers.get(g.name)
            if gate is None:
                continue
            alpha = self.multiple(gate.inputs[0], x) if gate.op == "Sigmoid" else None
            if alpha is not None:
                return "Swish", x, {"alpha": alpha}
            if gate.op == "HardSigmoid" and gate.inputs[0].name == x.name and _sixth(gate):
                return "HardSwish", x, {}
            soft = self.producers.get(gate.inputs[0].name) if gate.op == "Tanh" else None
            if soft is not None and soft.op == "Softplus" and soft.inputs[0].name == x.name:
                return "Mish", x, {}
            inner = self.scaled(g, 1 / 6)
            if inner is not None and self.is_clip_of_shifted(inner, x):
                return "HardSwish", x, {}
        return None

    def scaled_gate(self, node: gs.Node) -> Match:
        """Match (x·Clip(x+3, 0, 6))/6 and (x/6)·Clip(x+3, 0, 6)."""
        product = self.scaled(node.outputs[0], 1 / 6) if node.outputs else None
        if product is not None and product.name in self.producers:
            for x, g in self.factors(self.producers[product.name]):
                if self.is_clip_of_shifted(g, x):
                    return "HardSwish", x, {}
        for a, g in self.factors(node):
            x = self.scaled(a, 1 / 6)
            if x is not None and self.is_clip_of_shifted(g, x):
                return "HardSwish", x, {}
        return None

    def gelu(self, node: gs.Node) -> Match:
        """Match x·½·(1+erf(x/√2)) and x·½·(1+tanh(√(2/π)(x+0.044715x³))), factors in any order."""
        for g in self.flat_product(node):
            inner = self.plus(g, 1.0)
            bell = self.producers.get(inner.name) if inner is not None else None
            for x, form in self.belled(bell) if bell is not None else ():
                factors = list(self.flat_product(node, whole=x))
                others = [f for f in factors if f.name not in (x.name, g.name)]
                half = len(factors) == 3 and len(others) == 1 and self.number(others[0])  # noqa: PLR2004
                if half and np.isclose(half, 0.5):
                    return "Gelu", x, {"approximate": form}
        return None

    def belled(self, node: gs.Node) -> Iterator[tuple[gs.Variable, str]]:
        """Yield x and the name of the form where a node is erf(x/√2) or the tanh that stands for it."""
        if node.op == "Erf":
            x = self.scaled(node.inputs[0], 2**-0.5)
            if x is not None:
                yield x, "none"
        total = self.scaled(node.inputs[0], float(np.sqrt(2 / np.pi))) if node.op == "Tanh" else None
        cubic = self.producers.get(total.name) if total is not None else None
        if cubic is not None and cubic.op == "Add":
            for x, cube in (cubic.inputs, cubic.inputs[::-1]):
                if self.is_gelu_cube(cube, x):
                    yield x, "tanh"

    def relu6(self, node: gs.Node) -> Match:
        """Match Min(Max(x, 0), c) and Max(Min(x, c), 0)."""
        for outer, inner in (("Min", "Max"), ("Max", "Min")):
            if node.op != outer or len(node.inputs) != 2:  # noqa: PLR2004
                continue
            for a, b in (node.inputs, node.inputs[::-1]):
                below = self.producers.get(a.name)
                if self.number(b) is None or below is None or below.op != inner or len(below.inputs) != 2:  # noqa: PLR2004
                    continue
                for x, c in (below.inputs, below.inputs[::-1]):
                    if self.number(c) is not None and self.number(x) is None:
                        low, high = (c, b) if outer == "Min" else (b, c)
                        return "Clip", x, {"min": self.number(low), "max": self.number(high)}
        return None

    def factors(self, node: gs.Node) -> Iterator[tuple[gs.Variable, gs.Variable]]:
        """Yield both orders of a product of two."""
        if node.op == "Mul":
            yield node.inputs[0], node.inputs[1]
            yield node.inputs[1], node.inputs[0]

    def flat_product(
        self, node: gs.Node, depth: int = 2, whole: gs.Variable | None = None
    ) -> Iterator[gs.Variable]:
        """Yield the factors of a product of products, half a value being one too; ``whole`` stays whole."""
        factors = node.inputs if node.op == "Mul" else ()
        if node.op == "Div" and self.number(node.inputs[1]) == 2:  # noqa: PLR2004
            factors = [node.inputs[0], gs.Constant("half", np.full((), 0.5, np.float32))]
        for value in factors:
            below = self.producers.get(value.name)
            inner = below is not None and depth and (whole is None or value.name != whole.name)
            product = list(self.flat_product(below, depth - 1, whole)) if inner else []
            yield from product or [value]

    def number(self, value: gs.Variable) -> float | None:
        """Return the value of a constant of one element."""
        if isinstance(value, gs.Constant):
            numbers: NDArray[np.generic] | None = value.values if np.prod(value.shape) == 1 else None
        else:
            numbers = self.constant(value.name)
        return None if numbers is None or numbers.size != 1 else float(numbers.reshape(-1)[0])

    def multiple(self, value: gs.Variable, x: gs.Variable) -> float | None:
        """Return c where value = c·x."""
        if value.name == x.name:
            return 1.0
        node = self.producers.get(value.name)
        if node is None or node.op != "Mul":
            return None
        others = [v for v in node.inputs if v.name != x.name]
        return self.number(others[0]) if len(others) == 1 else None

    def scaled(self, value: gs.Variable, factor: float) -> gs.Variable | None:
        """Return v where value = factor·v, written as a Mul or a Div."""
        node = self.producers.get(value.name)
        if node is None or node.op not in ("Mul", "Div"):
            return None
        a, b = node.inputs
        if node.op == "Div":
            number = self.number(b)
            return a if number is not None and number and np.isclose(1 / number, factor) else None
        for v, c in ((a, b), (b, a)):
            number = self.number(c)
            if number is not None and np.isclose(number, factor):
                return v
        return None

    def plus(self, value: gs.Variable, term: float) -> gs.Variable | None:
        """Return v where value = v + term."""
        node = self.producers.get(value.name)
        if node is None or node.op != "Add":
            return None
        for v, c in (node.inputs, node.inputs[::-1]):
            number = self.number(c)
            if number is not None and np.isclose(number, term):
                return v
        return None

    def same(self, a: gs.Variable | None, b: gs.Variable) -> bool:
        return a is not None and a.name == b.name

    def is_clip_of_shifted(self, value: gs.Variable, x: gs.Variable) -> bool:
        """Tell whether value = Clip(x + 3, 0, 6)."""
        node = self.producers.get(value.name)
        if node is None or node.op != "Clip":
            return False
        bounds = [node.attrs.get("min"), node.attrs.get("max")]
        for k, given in enumerate(node.inputs[1:3]):
            bounds[k] = self.number(given)
        return bounds == [0, 6] and self.same(self.plus(node.inputs[0], 3.0), x)

    def is_gelu_cube(self, value: gs.Variable, x: gs.Variable) -> bool:
        """Tell whether value = 0.044715·x³."""
        cube = self.scaled(value, 0.044715)
        power = self.producers.get(cube.name) if cube is not None else None
        if power is None:
            return False
        if power.op == "Pow":
            return self.same(power.inputs[0], x) and self.number(power.inputs[1]) == 3  # noqa: PLR2004
        return [v.name for v in self.flat_product(power, whole=x)] == [x.name] * 3


def _sixth(node: gs.Node) -> bool:
    slope, offset = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    return bool(np.isclose(slope, 1 / 6) and np.isclose(offset, 0.5))
