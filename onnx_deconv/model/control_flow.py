"""Put branches and loops that no input decides in their place: If by its branch, Loop turn by turn.

Exporters that script a network write control flow whose condition depends on sizes or constants
alone. Where those are known, the nodes that will run are known, and the view shows them.
"""

from collections.abc import Mapping, Sequence

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from onnx_deconv.errors import ModelError
from onnx_deconv.model.constant_folding import known_numbers
from onnx_deconv.model.protos import renamed, replace
from onnx_deconv.operators import own_domain
from onnx_deconv.operators.shapes import Numbers

_MOST_TURNS = 256
_MOST_NODES = 50_000
"""In a graph whose loops are unrolled: loops in loops multiply."""


def inline_branches(graph: GraphProto) -> bool:
    """Replace the If and Loop nodes whose course is known; tell whether there were any.

    Parameters
    ----------
    graph
        The view's graph with its shapes inferred; changed in place.

    Raises
    ------
    ModelError
        If there would be more nodes than any network has.
    """
    if not any(n.op_type in ("If", "Loop") for n in graph.node):
        return False
    known = known_numbers(graph)
    written: list[NodeProto] = []
    for node in graph.node:
        flat = _flat(graph, node, known)
        written += [node] if flat is None else flat
        if len(written) > _MOST_NODES:
            name = node.name or node.output[0]
            raise ModelError(f"{node.op_type} {name!r} would be unrolled to more than {_MOST_NODES} nodes")
    if len(written) == len(graph.node) and all(a is b for a, b in zip(written, graph.node, strict=True)):
        return False
    replace(graph.node, written)
    return True


def _flat(graph: GraphProto, node: NodeProto, known: Mapping[str, Numbers]) -> list[NodeProto] | None:
    """Return the nodes that run in place of a node, ``None`` for all but a known If or Loop."""
    bodies = {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}
    if own_domain(node.domain) != "" or node.op_type not in ("If", "Loop"):
        return None
    if node.op_type == "If":
        decision = _only(known.get(node.input[0]))
        if decision is None:
            return None
        body = bodies["then_branch" if decision else "else_branch"]
        return _inlined(graph, body, {}, node.output, f"{node.output[0]}/")
    turns = _only(known.get(node.input[0]))
    scans = len(bodies["body"].output) > len(node.input) - 1
    if turns is None or scans or not 0 < turns <= _MOST_TURNS or not _runs_on(node, bodies["body"], known):
        return None
    return _unrolled(graph, node, bodies["body"], turns)


def _only(numbers: Numbers | None) -> int | None:
    """Return a known value's one element."""
    return None if numbers is None or numbers.size != 1 else numbers.item()


def _runs_on(node: NodeProto, body: GraphProto, known: Mapping[str, Numbers]) -> bool:
    """Tell whether a loop's condition is true from the start and stays so."""
    if node.input[1] and not _only(known.get(node.input[1])):
        return False
    goes_on, inside = body.output[0].name, known_numbers(body)
    passed_on = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
    return passed_on.get(goes_on, goes_on) == body.input[1].name or bool(_only(inside.get(goes_on)))


def _unrolled(graph: GraphProto, node: NodeProto, body: GraphProto, turns: int) -> list[NodeProto]:
    state, nodes = list(node.input[2:]), list[NodeProto]()
    condition = f"{node.output[0]}/condition"
    graph.initializer.append(helper.make_tensor(condition, TensorProto.BOOL, [], [True]))
    for turn in range(turns):
        prefix = f"{node.output[0]}/{turn}/"
        count = f"{prefix}count"
        graph.initializer.append(helper.make_tensor(count, TensorProto.INT64, [], [turn]))
        names = dict(zip((i.name for i in body.input), (count, condition, *state), strict=True))
        results = [f"{prefix}result/{o.name}" for o in body.output]
        nodes += _inlined(graph, body, names, results, prefix)
        state = results[1:]
    for result, value in zip(node.output, state, strict=True):
        nodes.append(helper.make_node("Identity", [value], [result], f"{result}/last"))
    return nodes


def _inlined(
    graph: GraphProto,
    body: GraphProto,
    names: dict[str, str],
    results: Sequence[str],
    prefix: str,
) -> list[NodeProto]:
    """Copy a body's nodes into the graph, its values renamed where their names are taken."""
    inner = {v for n in body.node for v in n.output if v} | {t.name for t in body.initializer}
    # Never by their own names: the user's graph still has the body, which must not see them outside.
    names = {**{v: prefix + v for v in inner}, **names}
    for tensor in body.initializer:
        graph.initializer.append(tensor)
        graph.initializer[-1].name = names[tensor.name]
    nodes = [_renamed(n, names) for n in body.node]
    for result, output in zip(results, body.output, strict=True):
        value = names.get(output.name, output.name)
        nodes.append(helper.make_node("Identity", [value], [result], f"{result}/result"))
    return nodes


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Copy a node, its values under other names, also where its own branches read them."""
    new = renamed(node, names)
    for attribute in new.attribute:
        if attribute.type == AttributeProto.GRAPH:
            own = {v for n in attribute.g.node for v in n.output} | {i.name for i in attribute.g.input}
            outer = {k: v for k, v in names.items() if k not in own}
            replace(attribute.g.node, [_renamed(n, outer) for n in attribute.g.node])
            for output in attribute.g.output:
                output.name = outer.get(output.name, output.name)
    return new
