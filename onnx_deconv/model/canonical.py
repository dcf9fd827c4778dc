"""The copy of a model for reading: one flat graph in order, of plain operators, with shapes.

Values keep their names in the view, so that a value of the view is a value of the user's model
wherever both have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from onnx_deconv.errors import InputError, ModelError
from onnx_deconv.model.control_flow import inline_branches
from onnx_deconv.model.decompositions import spell_out
from onnx_deconv.model.functions import inlined
from onnx_deconv.model.plain_forms import make_dense, name_domains
from onnx_deconv.model.protos import attributes_of, copy_of, every_node, replace, subgraphs
from onnx_deconv.model.shape_inference import infer_shapes
from onnx_deconv.model.too_small import check_what_is_left
from onnx_deconv.operators import find
from onnx_deconv.operators.value_type import Shape, ValueType

InputShapes = Mapping[str, Sequence[int | str]]
"""Sizes of inputs, by name: numbers, or words for any size."""


def read_view(proto: ModelProto, input_shapes: InputShapes, name: str) -> ModelProto:
    """Copy a model for reading.

    The standard's domain gets one name, local functions are inlined, sparse constants written out, composite
    operators spelled out (:mod:`onnx_deconv.model.decompositions`), branches and loops that no input decides
    put in their place (:mod:`onnx_deconv.model.control_flow`), nodes put in order, and shapes inferred.

    Parameters
    ----------
    proto
        The model; not changed.
    input_shapes
        Sizes that replace those that the file gives its inputs; a word stands for any size.
    name
        What messages call the model.

    Raises
    ------
    InputError
        If there is no such input, or it has another number of axes.
    NothingLeftError
        If a node leaves nothing of inputs of these sizes.
    ModelError
        If the nodes need each other in a circle, or one has a form that it cannot have, or gives its result
        the name of an input.
    """
    view = ModelProto()
    view.CopyFrom(proto)
    name_domains(view)
    if view.functions:
        view = inlined(view)
    _check_forms(view.graph, name)
    _forget_sizes_below_one(view.graph)
    make_dense(view.graph)
    _drop_initializer_inputs(view)
    _set_input_shapes(view, input_shapes, name)
    _check_names(view.graph, name)
    put_in_order(view.graph, name)
    spell_out(view.graph)
    view = _inferred_afresh(view)
    while inline_branches(view.graph):
        spell_out(view.graph)
        view = infer_shapes(view)
    return view


def value_types(view: ModelProto) -> dict[str, ValueType]:
    """Return what is known of each value of a view."""
    graph = view.graph
    types = {t.name: ValueType(t.data_type, tuple(t.dims)) for t in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        tensor = info.type.tensor_type
        shape: Shape | None = None
        if tensor.HasField("shape"):
            # Inference writes 0 for an axis that is empty.
            shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
        # Inference makes up names for sizes that have none.
        symbols = tuple("" if d.dim_param.startswith("unk__") else d.dim_param for d in tensor.shape.dim)
        types.setdefault(info.name, ValueType(tensor.elem_type, shape, symbols))
    return types


def _inferred_afresh(view: ModelProto) -> ModelProto:
    """Infer all shapes; take from the file only those that inference does not find.

    Exporters that rearrange a finished graph leave shapes of values as they were before.
    """
    stated = [copy_of(i) for i in view.graph.value_info]
    given = {i.name for i in view.graph.input}  # an output that is an input is what that is
    declared = {o.name: copy_of(o) for o in view.graph.output if o.name not in given}
    del view.graph.value_info[:]
    for output in view.graph.output:
        if output.name in declared:
            output.type.tensor_type.ClearField("shape")
    view = infer_shapes(view)
    check_what_is_left(view)
    for output in view.graph.output:
        if output.name in declared:
            _complete(output, declared[output.name], view.graph)
    shaped = {i.name: i for i in view.graph.value_info if i.type.tensor_type.HasField("shape")}
    missing = [i for i in stated if i.name not in shaped]
    if not missing:
        return view
    replace(view.graph.value_info, [*shaped.values(), *missing])
    return infer_shapes(view)


def _complete(found: ValueInfoProto, declared: ValueInfoProto, graph: GraphProto) -> None:
    """Take from an output's declaration the sizes that inference does not find.

    Nobody checks a declaration: many say one image where any number may come, or what another head had.
    """
    shape, stated = found.type.tensor_type.shape, declared.type.tensor_type.shape
    if not found.type.tensor_type.HasField("shape"):
        found.CopyFrom(declared)
        return
    if len(shape.dim) != len(stated.dim):
        return
    free = any(
        i.type.tensor_type.shape.dim[:1] and not i.type.tensor_type.shape.dim[0].dim_value
        for i in graph.input
    )
    for axis, (size, given) in enumerate(zip(shape.dim, stated.dim, strict=True)):
        known = size.HasField("dim_value") or not size.dim_param.startswith("unk__")
        if not known and (axis or given.HasField("dim_param") or not free):
            size.CopyFrom(given)


def _forget_sizes_below_one(graph: GraphProto) -> None:
    """Leave open what some exporters write -1 or 0 for: sizes that they do not know."""
    for info in (*graph.input, *graph.value_info, *graph.output):
        for dim in info.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 1:
                dim.ClearField("dim_value")


def _drop_initializer_inputs(view: ModelProto) -> None:
    """Make constants of initializers that IR 3 lists as inputs too: inference reads only constants."""
    view.ir_version, graph = max(view.ir_version, 4), view.graph
    initializers = {t.name for t in graph.initializer}
    replace(graph.input, [i for i in graph.input if i.name not in initializers])


def is_size(size: int | str) -> bool:
    """Tell whether an axis can be of that size: a number, or a word for any."""
    return size.isidentifier() if isinstance(size, str) else size > 0


def _set_input_shapes(view: ModelProto, shapes: InputShapes, name: str) -> None:
    inputs = {i.name: i for i in view.graph.input}
    for key, shape in shapes.items():
        if key not in inputs:
            raise InputError(f"{name} has no input {key!r}; it has {', '.join(map(repr, inputs))}")
        declared = inputs[key].type.tensor_type.shape
        if len(declared.dim) not in (0, len(shape)):
            raise InputError(f"input {key!r} of {name} has {len(declared.dim)} axes, not {len(shape)}")
        wrong = [size for size in shape if not is_size(size)]
        if wrong:
            raise InputError(
                f"input {key!r} of {name}: {wrong[0]!r} is no size: give a number, or 'N' for any"
            )
        del declared.dim[:]
        for size in shape:
            declared.dim.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))


def _check_forms(graph: GraphProto, name: str) -> None:
    """Refuse nodes at which the standard's own inference would end the process."""
    for node in every_node(graph.node):
        fault = find(node.op_type, node.domain).fault
        wrong = fault and fault(attributes_of(node), len(node.input), len(node.output))
        if wrong:
            called = node.name or next(iter(node.output), "")
            raise ModelError(f"{name}: {node.op_type} {called!r} cannot be: {wrong}; export the model again")


def _check_names(graph: GraphProto, name: str) -> None:
    """Refuse nodes that give their results the name of an input, as an exporter writes a returned input."""
    given = {i.name for i in graph.input}
    for node in graph.node:
        if twice := given.intersection(node.output):
            value, called = twice.pop(), node.name or node.op_type
            raise ModelError(
                f"{name}: the input {value!r} is given anew by node {called!r}, which no runtime takes: "
                f"export the model without the output that returns its input"
            )


def put_in_order(graph: GraphProto, name: str) -> None:
    """Sort nodes that some tools append at the end and onnxruntime takes in any order.

    Parameters
    ----------
    graph
        Changed in place; the graphs of its nodes' branches and bodies, too.
    name
        What messages call the model.

    Raises
    ------
    ModelError
        If the nodes need each other in a circle.
    """
    for inner in (graph for node in graph.node for graph in subgraphs(node)):
        put_in_order(inner, name)
    made = {value: k for k, node in enumerate(graph.node) for value in node.output if value}
    needs = {k: {made[v] for v in reads(node) if v in made} for k, node in enumerate(graph.node)}
    if all(before < k for k, befores in needs.items() for before in befores):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        first = graph.node[error.args[1][0]]
        raise ModelError(f"{name}: node {first.name or first.output[0]!r} needs its own result") from error
    replace(graph.node, [graph.node[k] for k in order])


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those that its branches take from around it too."""
    yield from node.input
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from reads(inner)
