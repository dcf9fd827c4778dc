"""Run a graph, and send signals back through it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from torch import Tensor

from torch_oracle.curves import STRUCTURAL, Curves
from torch_oracle.operators import OPERATORS, At, Call, tensor_of
from torch_oracle.rectifiers import Rule, cut_off_rule, lrn_rule, native_rule

Arrays = Mapping[str, np.ndarray]


def reconstruct(
    proto: ModelProto,
    feeds: Arrays,
    explained: str,
    seed: np.ndarray,
    rules: str = "deconvnet",
    **options: Any,
) -> dict[str, np.ndarray]:
    """Send a seed from a value back to the inputs; ``options`` as for :class:`Oracle`.

    Returns
    -------
    dict
        The reconstruction for each real input, float64.
    """
    oracle = Oracle(proto, **options)
    oracle.forward(feeds, [explained])
    return oracle.back(explained, seed, rules)


class Detour(torch.autograd.Function):
    """Y as it was computed from x; its signal goes to x by a rule, or to where y came from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, rule: Rule, oracle: "Oracle") -> Tensor:
        """Return y."""
        ctx.save_for_backward(x)
        ctx.rule, ctx.oracle = rule, oracle
        return y.clone()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Apply the rule of the table that is in force."""
        (x,) = ctx.saved_tensors
        sent = ctx.rule(ctx.oracle, x, signal)
        return (None, signal, None, None) if sent is None else (sent, None, None, None)


class Oracle:
    """A model in PyTorch.

    One way forward serves any number of ways back, each by any rule table.

    Parameters
    ----------
    proto
        The model, its weights inside.
    values
        Forward values of another runtime, by name: every operator is then differentiated at these, so that
        both take the same branches.
    switches
        Positions of the maxima that another runtime found, as MaxPool gives them, by the name of its output.
    activations, lrn
        As in :class:`onnx_deconv.Semantics`.

    Attributes
    ----------
    deviation
        By how much a node's result differed from the given value, as a share of its largest number;
        the worst of all nodes, and that node's output.
    """

    def __init__(
        self,
        proto: ModelProto,
        *,
        values: Arrays | None = None,
        switches: Arrays | None = None,
        activations: str = "all",
        lrn: str = "auto",
    ) -> None:
        self.proto = onnx.inliner.inline_local_functions(proto) if proto.functions else proto
        self.given, self.switches = dict(values or {}), dict(switches or {})
        self.activations, self.lrn, self.rules = activations, lrn, "gradient"
        self.opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}
        self.deviation: tuple[float, str] = (0.0, "")
        self.curves = Curves(
            half=any(t.data_type == TensorProto.FLOAT16 for t in self.proto.graph.initializer)
        )
        self.producers = {v: node for node in self.proto.graph.node for v in node.output if v}
        self.known: dict[str, Tensor | None] = {}
        self.inputs: dict[str, Tensor] = {}

    def forward(self, feeds: Arrays, wanted: Iterable[str]) -> dict[str, Tensor]:
        """Compute values by name; only the nodes that they need are run."""
        graph, wanted = self.proto.graph, list(wanted)
        self.known = {t.name: tensor_of(t) for t in graph.initializer}
        for name, array in feeds.items():
            value = tensor_of(array)
            self.known[name] = value.requires_grad_() if value.is_floating_point() else value
        self.inputs = {n: self.known[n] for n in feeds if self.known[n].is_floating_point()}
        for node in _needed(graph.node, wanted):
            self.run(node)
        return {name: self.known[name] for name in wanted}

    def back(self, explained: str, seed: np.ndarray, rules: str) -> dict[str, np.ndarray]:
        """Send a seed back by a rule table; zeros for an input that no signal reaches."""
        self.rules = rules
        x, y = list(self.inputs.values()), self.known[explained]
        grads = torch.autograd.grad(y, x, tensor_of(seed), retain_graph=True, allow_unused=True)
        return {
            name: np.zeros(v.shape) if g is None else g.numpy()
            for (name, v), g in zip(self.inputs.items(), grads, strict=True)
        }

    def run(self, node: NodeProto) -> None:
        """Run one node: its result takes the given value, and its signal the table's way back."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        call = Call(node, self.opsets.get(domain, 1), self)
        given = [self.known[v] if v else None for v in node.input]
        results = function_of(domain, node)(call, *given)
        results = list(results) if isinstance(results, tuple | list) else [results]
        for k, (name, result) in enumerate(zip(node.output, results, strict=False)):
            if name and isinstance(result, Tensor) and result.requires_grad:
                results[k] = self._at(name, result)
        if results and isinstance(results[0], Tensor):
            results[0] = self._rectified(call, given, results[0])
        self.known.update(zip(node.output, results, strict=False))

    def branch(self, graph: GraphProto, given: Sequence[Tensor] = ()) -> list[Tensor]:
        """Run a subgraph; it sees the values around it."""
        self.known.update({t.name: tensor_of(t) for t in graph.initializer})
        self.known.update(zip((i.name for i in graph.input), given, strict=True))
        for node in graph.node:
            self.run(node)
        return [self.known[o.name] for o in graph.output]

    def detour(self, x: Tensor, y: Tensor, rule: Rule) -> Tensor:
        """Return y, its signal sent to x by a rule."""
        return Detour.apply(x, y.detach() if y is x else y, rule, self) if y.requires_grad else y

    def _at(self, name: str, result: Tensor) -> Tensor:
        value = tensor_of(self.given[name]) if name in self.given else None
        if value is None or value.shape != result.shape:
            return result
        value = value.to(torch.float64)
        largest = float(value.abs().max()) if value.numel() else 0.0
        apart = float((result.detach() - value).abs().max()) / largest if largest else 0.0
        self.deviation = max(self.deviation, (apart, name))
        return At.apply(result, value)

    def _rectified(self, call: Call, given: Sequence[Tensor | None], y: Tensor) -> Tensor:
        """Give an activation, of one node or spelled in several, the table's way back."""
        found = self.curves.follow(call, self.known)
        if not y.requires_grad:
            return y
        if call.node.op_type == "LRN":
            return self.detour(given[0], y, lrn_rule)
        source = self.producers.get(call.node.input[0])
        rule = cut_off_rule(call, given, source.op_type if source is not None else "")
        if rule is not None:
            return self.detour(y, y, rule)
        rule = native_rule(call, *given)
        if rule is not None:
            return self.detour(given[0], y, rule)
        if found is not None and call.node.op_type not in STRUCTURAL:
            base, rule = found
            return self.detour(self.known[base], y, rule)
        return y


def function_of(domain: str, node: NodeProto) -> Callable[..., Any]:
    """Find an operator in the table."""
    if (domain, node.op_type) not in OPERATORS:
        raise NotImplementedError(
            f"the oracle lacks {domain or 'ai.onnx'}::{node.op_type} ({node.output[0]})"
        )
    return OPERATORS[domain, node.op_type]


def _needed(nodes: Sequence[NodeProto], wanted: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that values need, each behind those that it reads from; files may be unsorted."""
    producers = {v: node for node in nodes for v in node.output if v}
    pending, ordered, done = list(wanted), [], set()
    while pending:
        node = producers.get(pending[-1])
        if node is None or id(node) in done:
            pending.pop()
        elif missing := [v for v in _reads(node) if v in producers and id(producers[v]) not in done]:
            pending += missing
        else:
            ordered.append(node)
            done.add(id(node))
    return ordered


def _reads(node: NodeProto) -> Iterable[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)
        yield from (o.name for o in attribute.g.output)
