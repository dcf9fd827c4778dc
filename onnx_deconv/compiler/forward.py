"""The forward model: the user's own, with the outputs that the companion reads appended."""

from collections.abc import Iterable

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from onnx_deconv.compiler import switches
from onnx_deconv.errors import ModelError
from onnx_deconv.model import Model
from onnx_deconv.operators import Tap, find
from onnx_deconv.operators.traits import SWITCHES

MAX_POOL_WITH_INDICES = 8
"""The first opset whose MaxPool can tell where it found its maxima."""


def forward(model: Model, taps: Iterable[Tap]) -> ModelProto:
    """Copy the user's model and append what the companion reads to its outputs.

    Nothing else changes: a MaxPool that is asked for its switches gets a second output (in opset 7,
    where it has none yet, the model is relabelled as opset 8, whose operators are the same
    otherwise), from which the place of each image in the batch is taken away, so that what an image gets
    depends on no other; a shape, a model input, or a value inside a local function gets nodes of its own.

    Parameters
    ----------
    model
        The user's model.
    taps
        What the companion reads.

    Returns
    -------
    ModelProto
        With one output per tap, named as the tap; large weights are still external.
    """
    copy = ModelProto()
    copy.CopyFrom(model.proto)
    if model.pinned:
        _pin(copy, model)
    _correct(copy, model)
    present = {o.name for o in copy.graph.output}
    inlined = _Inlined(model, copy)
    for tap in taps:
        if tap.name not in present:
            present.add(tap.name)
            elem_type = _append(copy, model, tap, inlined)
            _add_output(copy, model, tap, elem_type)
    return copy


def _pin(copy: ModelProto, model: Model) -> None:
    """Write down the sizes that a caller gave, and those that follow for the outputs.

    What the file says of values in between may not hold.
    """
    for info in (*copy.graph.input, *copy.graph.output):
        dims = model.type_of(info.name).dims
        if dims is not None and info.type.HasField("tensor_type"):
            elem_type = info.type.tensor_type.elem_type
            info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, elem_type, dims))
    del copy.graph.value_info[:]


def _correct(copy: ModelProto, model: Model) -> None:
    """Declare outputs as they are where the file is wrong: runtimes reuse memory by what is declared."""
    free = {size for name in model.inputs for size in model.type_of(name).dims or () if isinstance(size, str)}
    for info in copy.graph.output:
        found, stated = model.type_of(info.name).dims, info.type.tensor_type.shape.dim
        if found is None or not info.type.tensor_type.HasField("shape"):
            continue
        wrong = len(found) != len(stated) or any(
            dim.dim_value and size != dim.dim_value and (size in free or isinstance(size, int))
            for size, dim in zip(found, stated, strict=True)
        )
        if wrong:
            elem_type = info.type.tensor_type.elem_type
            info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, elem_type, found))


def _append(copy: ModelProto, model: Model, tap: Tap, inlined: "_Inlined") -> int:
    """Make the graph compute a tap under its name; return its element type."""
    graph = copy.graph
    inlined.provide(tap.value)
    if tap.kind == "switches":
        pool = next(n for n in graph.node if tap.value in n.output)
        if SWITCHES not in find(pool.op_type, pool.domain).traits:
            pool = inlined.repeat(tap.value)
        _relabel(copy)
        if tap.name not in model.producers:
            switches.append(copy, pool, tap.name, *_pooled(model, tap.value))
        return int(TensorProto.INT64)
    if tap.kind == "shape":
        graph.node.append(onnx.helper.make_node("Shape", [tap.value], [tap.name], name=tap.name))
        return int(TensorProto.INT64)
    if tap.name != tap.value:
        graph.node.append(onnx.helper.make_node("Identity", [tap.value], [tap.name], name=tap.name))
    return model.type_of(tap.value).dtype


def _pooled(model: Model, maximum: str) -> tuple[list[int | None], int]:
    """Return the sizes and the type of what a pool reads."""
    read = model.type_of(model.producers[maximum].inputs[0].name)
    return list(read.shape or ()), read.dtype


def _add_output(copy: ModelProto, model: Model, tap: Tap, elem_type: int) -> None:
    types = model.type_of(tap.value)
    dims = types.dims
    if tap.kind == "shape":
        dims = None if dims is None else [len(dims)]
    info = onnx.helper.make_tensor_value_info(tap.name, elem_type or TensorProto.FLOAT, dims)
    copy.graph.output.append(info)


def _relabel(copy: ModelProto) -> None:
    for opset in copy.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < MAX_POOL_WITH_INDICES:
            opset.version = MAX_POOL_WITH_INDICES


class _Inlined:
    """Adds nodes of the view (from inside functions, branches, composites) that the user's graph lacks."""

    def __init__(self, model: Model, copy: ModelProto) -> None:
        self.model, self.copy = model, copy
        self.present = model.values | {t.name for t in copy.graph.initializer}
        self.present |= {t.values.name for t in copy.graph.sparse_initializer}
        self.weights = {t.name for t in model.view.graph.initializer}
        self.producers: dict[str, NodeProto] = {}

    def provide(self, *values: str) -> None:
        """Append the inlined nodes that compute values, down to values that the graph has."""
        needed: set[str] = set()
        pending = [v for v in values if v not in self.present]
        while pending:
            name = pending.pop()
            needed.add(name)
            if name not in self.weights:
                pending += [v for v in self._producer(name).input if v and v not in self.present | needed]
        if needed:
            inside = self.model.view.graph
            added = [n for n in inside.node if needed.intersection(n.output)]
            self.copy.graph.node.extend(map(self._renamed, added))
            self.copy.graph.initializer.extend(t for t in inside.initializer if t.name in needed)
            self.present |= {v for n in added for v in n.output}  # those of a Split are asked for one by one
        self.present |= needed

    def repeat(self, value: str) -> NodeProto:
        """Append once more the node inside a function whose output the graph has as the function's own."""
        node = self._producer(value)
        self.provide(*(v for v in node.input if v))
        self.copy.graph.node.append(self._renamed(node))
        return self.copy.graph.node[-1]

    def _producer(self, value: str) -> NodeProto:
        if not self.producers:
            self.producers = {v: n for n in self.model.view.graph.node for v in n.output if v}
        if value not in self.producers:
            raise ModelError(f"{self.model.name}: the forward model cannot give {value!r}")
        return self.producers[value]

    def _renamed(self, node: NodeProto) -> NodeProto:
        """Copy a node, its outputs that the graph has already under other names."""
        new = NodeProto()
        new.CopyFrom(node)
        new.output[:] = [f"{v}/again" if v in self.present else v for v in node.output]
        return new
