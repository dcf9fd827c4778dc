"""A model as it is read: its graph, types and constants; nothing here changes the user's file.

A :class:`Model` holds two things: ``proto``, the model as it is written (its large tensors left in
the file, see :mod:`onnx_deconv.model.external_data`), and a *view* of its graph for reading
(:mod:`onnx_deconv.model.canonical`), in which activations that exporters spell out are recognised
(:mod:`onnx_deconv.model.activation_matching`).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_deconv.errors import InputError, ModelError, UnknownLayerError
from onnx_deconv.model import activation_matching, softmax_matching
from onnx_deconv.model.canonical import InputShapes, read_view, value_types
from onnx_deconv.model.constant_folding import known_numbers, known_shapes
from onnx_deconv.model.ensembles import ensembles
from onnx_deconv.model.external_data import Extent
from onnx_deconv.model.image_axis import added_to
from onnx_deconv.model.joined import joined_probabilities
from onnx_deconv.model.layer_names import layers_named
from onnx_deconv.model.model_files import PACKED, ModelFiles, check_weights
from onnx_deconv.model.products import products
from onnx_deconv.model.protos import opset_of, stored_tensors
from onnx_deconv.model.reading import read_by
from onnx_deconv.model.shape_inference import NothingLeftError
from onnx_deconv.model.too_small import larger
from onnx_deconv.operators import ValueType, find, own_domain, traits_of
from onnx_deconv.operators.traits import CONVOLUTION, POINTWISE, QUANTISER, RANDOM, SHAPE_ONLY, VIEW

# Its notes go to stdout, which belongs to a caller's results; what is fatal is raised beside.
G_LOGGER.severity = max(G_LOGGER.severity, G_LOGGER.CRITICAL + 1)

_log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
_QUANTISERS_SINCE = 19
_COMPUTED = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32}
_INTEGERS = {TensorProto.INT64, TensorProto.INT32}
_SIZES = _INTEGERS | {TensorProto.BOOL}
_FIRST_FOREIGN = TensorProto.BFLOAT16
"""NumPy has the standard's types before this one; older versions of onnx give another for the rest."""


class Model:
    """An ONNX model, read but not changed.

    Parameters
    ----------
    proto
        The model.
    files
        The files that it was read from, where its external data are; see
        :class:`~onnx_deconv.model.model_files.ModelFiles`.
    name
        What messages call the model.
    input_shapes
        Sizes that replace those that the file gives its inputs; a word stands for any size.

    Attributes
    ----------
    view
        The copy for reading, see :func:`onnx_deconv.model.canonical.read_view`.
    pinned
        Whether sizes were given that the file leaves open.
    gained
        Values and constants of the view that the file lacks: parts of recognised activations.
    spread
        What softmaxes over several axes go over, by their values: no operator of the standard is one.
    ensembles
        The means of probabilities that outputs are made of, by the mean's value; the view has their scores.
    products
        For each product of parts of two values the product of both: a value of the view.
    joined
        The values that hold probabilities beside each other, or beside other numbers, by name; likewise.

    Raises
    ------
    ModelError
        If the graph cannot be read.
    """

    def __init__(
        self,
        proto: ModelProto,
        files: ModelFiles,
        name: str,
        input_shapes: InputShapes | None = None,
    ) -> None:
        self.proto = proto
        self.files = files
        self.name = name
        self.input_shapes = dict(input_shapes or {})
        _check(self)
        self.pinned = bool(input_shapes)
        view = self._read_view()
        self.view = view
        self.types = value_types(view)
        self.graph: gs.Graph = gs.import_onnx(view)
        self.tensors = {t.name: t for t in view.graph.initializer} | stored_tensors(view.graph.node)
        self._evaluated = self._known_numbers()
        self._read_nodes()
        self.gained = activation_matching.recognise(self.graph, self._small_constant)
        self.tensors |= self.gained.tensors
        self.types |= {t.name: ValueType(t.data_type, tuple(t.dims)) for t in self.gained.tensors.values()}
        self.types |= {new: self.type_of(like) for new, like in self.gained.values.items()}
        self.spread = softmax_matching.recognise(self.graph, self._small_constant, self.opset)
        self._read_nodes()
        self.ensembles, written = ensembles(self, self.outputs)
        self.products, whole = products(self, self.nodes)
        if whole:
            for node, like in whole:
                self._append(node, like)
            self._read_nodes()
        self.joined, more = joined_probabilities(self, self.nodes, (*self.outputs, *self.products.values()))
        for node, like in (*written, *more):
            self._append(node, like)
        self._read_nodes()
        self._warn_of_declarations()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.proto.SerializeToString(), self.files, self.name, self.input_shapes)

    def _read_view(self) -> ModelProto:
        try:
            return read_view(self.proto, self.input_shapes, self.name)
        except NothingLeftError as fault:
            raise ModelError(f"{self.name}: {fault}: {larger(self.proto, self.input_shapes)}") from fault

    @property
    def folder(self) -> Path:
        """Where its external data are."""
        return self.files.folder

    @property
    def opset(self) -> int:
        """The version of the standard operators that the model uses."""
        return opset_of(self.proto)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The model's metadata properties."""
        return {p.key: p.value for p in self.proto.metadata_props}

    @cached_property
    def image_axis_added(self) -> frozenset[str]:
        """The inputs that have no axis for the images in the user's file, and got one when it was read."""
        return added_to(self.metadata) & frozenset(self.inputs)

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the inputs that a caller feeds (old files list initializers as inputs too)."""
        return [i.name for i in self.proto.graph.input if i.name not in self.tensors]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the model's own outputs."""
        return [o.name for o in self.proto.graph.output]

    @cached_property
    def recognised(self) -> frozenset[str]:
        """Names of the values that stand for an activation written as several nodes."""
        return frozenset(self.gained.results)

    @cached_property
    def batch(self) -> int | None:
        """How many images the model takes at once; ``None`` where the file leaves that open.

        Of several inputs, those with most axes are the images, beside which there may be tables and flags.
        """
        shapes = [shape for shape in (self.type_of(name).shape for name in self.inputs) if shape]
        most = max(map(len, shapes), default=0)
        sizes = [shape[0] for shape in shapes if len(shape) == most]
        return None if None in sizes else min((size for size in sizes if size), default=None)

    @cached_property
    def values(self) -> set[str]:
        """Names of all values that the user's own graph computes or is given (not the inlined ones)."""
        graph = self.proto.graph
        return {v for n in graph.node for v in n.output} | set(self.inputs) - {""}

    def type_of(self, value: str) -> ValueType:
        """Element type and shape of a value, as far as they are known."""
        return self.types.get(value, ValueType())

    def input_dtype(self, name: str) -> "np.dtype[Any]":
        """Return NumPy's type of the numbers that an input is given.

        Sessions round float32 for inputs of bfloat16, which NumPy does not have.

        Raises
        ------
        InputError
            If NumPy has none, as for float8.
        """
        kind = self.type_of(name).dtype
        if kind == TensorProto.BFLOAT16:
            return np.dtype(np.float32)
        if kind >= _FIRST_FOREIGN:
            called = TensorProto.DataType.Name(kind).lower()
            raise InputError(
                f"input {name!r} takes {called} numbers, which NumPy does not have: put a Cast from float32 "
                "before it, or export the model with float32 inputs"
            )
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))

    def layer(self, name: str) -> str:
        """Find a value by its own name, by that of the node that computes it, or as the n-th convolution.

        Names come first: ``conv3`` is the third convolution only where nothing bears that name. A part of a
        name will do where no other value has it, see :func:`~onnx_deconv.model.layer_names.layers_named`.

        Raises
        ------
        InputError
            If it is no name.
        UnknownLayerError
            If none exists, or several do; close matches are offered.
        """
        if not isinstance(name, str):
            raise InputError(f"layer={name!r}: give the name of one layer")
        if name in self.producers or name in self.inputs:
            return name
        nodes = {n.name: n.outputs[0].name for n in self.nodes if n.name}
        numbers = {number: value for value, number in self.ordinals.items()}
        names = nodes | {value: value for value in self.producers}
        found = layers_named(name, names, numbers)
        if len(found) != 1:
            raise UnknownLayerError(name, [*names, *numbers], found)
        return found[0]

    @cached_property
    def convolutions(self) -> list[str]:
        """The values that convolutions compute, in order; what no input but by its size changes left out."""
        reached = set(self.inputs)
        for node in self.nodes:
            if any(name in reached for name in read_by(node)):
                numbers = (v.name for v in node.outputs if self.type_of(v.name).dtype not in _SIZES)
                reached.update(numbers)
        found = (n.outputs[0].name for n in self.nodes if CONVOLUTION in traits_of(n))
        return [value for value in found if value in reached]

    @cached_property
    def ordinals(self) -> dict[str, str]:
        """``conv1``, ``conv2``, ...: the place of each convolution, by its value."""
        return {value: f"conv{n}" for n, value in enumerate(self.convolutions, 1)}

    def constant(self, value: str) -> Array | None:
        """Return the numbers of a value that does not depend on the inputs, else ``None``."""
        if value not in self.constants:
            return None
        if value not in self._evaluated:
            self._evaluated[value] = self._evaluate(value)
        return self._evaluated[value]

    def read(self, tensor: TensorProto) -> Array:
        """Read a tensor's numbers; those that lie in a file of our own are mapped."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        dtype, where = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), Extent.of(tensor)
        self.files.check()
        path = self.folder / where.location
        if tensor.data_type in PACKED:
            numbers = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims)
            numbers.raw_data = _part(path, where.offset, where.length)
            return numpy_helper.to_array(numbers)
        if self.files.is_private:
            return np.memmap(path, dtype, mode="r", offset=where.offset, shape=tuple(tensor.dims))
        # What others can cut short is not mapped: the system would stop whoever looks at it.
        content = _part(path, where.offset, math.prod(tensor.dims) * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(tensor.dims)

    @staticmethod
    def node_proto(node: gs.Node) -> NodeProto:
        """Write a node of the view as ONNX does."""
        return gs.exporters.onnx_exporter.OnnxExporter.export_node(node)

    def _warn_of_declarations(self) -> None:
        """Warn of outputs that have other sizes than the file declares, as runtimes do."""
        declared = known_shapes(GraphProto(output=self.proto.graph.output))
        for name, stated in declared.items():
            shape = self.type_of(name).shape
            if (
                shape is None
                or len(shape) != len(stated)
                or any(a and b and a != b for a, b in zip(shape, stated, strict=True))
            ):
                found, said = ("×".join(str(d or "?") for d in sizes or ()) for sizes in (shape, stated))
                _log.warning("%s: output %r is %s, not %s as the file says", self.name, name, found, said)

    def _small_constant(self, value: str) -> Array | None:
        """Read a constant during pattern matching, unless it is large."""
        shape = self.type_of(value).shape
        if shape is not None and math.prod(d or 1 for d in shape) > activation_matching.MOST_NUMBERS:
            return None
        return self.constant(value)

    def _append(self, node: gs.Node, like: Sequence[str]) -> None:
        """Add a node at the end of the view, whose results have the types of other values."""
        self.view.graph.node.append(self.node_proto(node))
        self.nodes.append(node)
        for result, value in zip(node.outputs, like, strict=True):
            self.types[result.name] = self.type_of(value)

    def _read_nodes(self) -> None:
        """Take stock of the view's nodes."""
        self.nodes: list[gs.Node] = self.graph.nodes
        self.producers: dict[str, gs.Node] = {v.name: n for n in self.nodes for v in n.outputs if v.name}
        self.constants = self._find_constants()

    def _known_numbers(self) -> dict[str, Array]:
        """Compute the small integers that follow from the sizes that are known, where others are not."""
        found: dict[str, Array] = {}
        if not any(SHAPE_ONLY in traits_of(node) for node in self.graph.nodes):
            return found  # only sizes can be known where the batch is not
        for value, numbers in known_numbers(self.view.graph).items():
            dtype = self.type_of(value).dtype
            if value not in self.tensors and dtype in _INTEGERS and None not in numbers.reshape(-1).tolist():
                found[value] = numbers.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        return found

    def _find_constants(self) -> set[str]:
        """Find all values that no input can change: weights, and what is computed from them."""
        constants = {*self.tensors, *self._evaluated}
        for node in self.nodes:
            sized = SHAPE_ONLY in traits_of(node) and self._has_static_shape(node.inputs[0].name)
            fixed = all(v.name in constants for v in node.inputs if v.name)
            if (sized or fixed) and _is_pure(node):
                constants.update(v.name for v in node.outputs)
        return constants

    def _has_static_shape(self, value: str) -> bool:
        shape = self.type_of(value).shape
        return shape is not None and None not in shape

    def _evaluate(self, value: str) -> Array:
        if value in self.tensors:
            return self.read(self.tensors[value])
        node = self.producers[value]
        if SHAPE_ONLY in traits_of(node):
            sized = node.inputs[0].name
            shape = self.type_of(sized).shape
            # Without a known size it is a constant: of a Range, inference may not tell how long it is.
            known = shape is not None and None not in shape
            feeds = {sized: np.empty([d or 0 for d in shape or ()]) if known else self._numbers(sized)}
        else:
            feeds = {v.name: self._numbers(v.name) for v in node.inputs if v.name}
        quickly = self._computed(node, feeds) if traits_of(node) & {VIEW, POINTWISE} else None
        if quickly is not None:
            return quickly
        # The reference implementation has the newer forms of quantisers alone, which mean the same.
        opset = max(self.opset, _QUANTISERS_SINCE) if QUANTISER in traits_of(node) else self.opset
        try:
            found = _run_node(self.node_proto(node), feeds, opset)
        except Exception as error:  # it raises what it likes on a node of a form that it cannot have
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{self.name}: {value!r} cannot be computed ({reason}); is it damaged?"
            ) from error
        return found[[v.name for v in node.outputs].index(value)]

    def _computed(self, node: gs.Node, feeds: Mapping[str, Array]) -> Array | None:
        """Compute a node by its own entry, where that does as the reference implementation does."""
        entry, dtype = find(node.op, node.domain), self.type_of(node.outputs[0].name).dtype
        if (
            not entry.can_evaluate
            or entry.traits & {QUANTISER}
            or dtype not in _COMPUTED
            or len(node.outputs) > 1
        ):
            return None
        try:
            with np.errstate(all="ignore"):
                found = entry.evaluate(node.attrs, *(feeds.get(v.name) for v in node.inputs))
        except (TypeError, ValueError):
            return None
        return np.asarray(found, onnx.helper.tensor_dtype_to_np_dtype(dtype))

    def _numbers(self, value: str) -> Array:
        numbers = self.constant(value)
        if numbers is None:
            raise ModelError(f"{self.name}: {value!r} is no constant")
        return numbers


def _part(path: Path, offset: int, length: int | None) -> bytes:
    """Read a part of a file, or all from an offset on.

    Raises
    ------
    ModelError
        If it ends earlier.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(-1 if length is None else length)
    if length is not None and len(content) < length:
        raise ModelError(f"{path}: was cut short while it was read; try again")
    return content


def _restored(content: bytes, files: ModelFiles, name: str, input_shapes: InputShapes) -> Model:
    """Make a model from what was pickled."""
    return Model(ModelProto.FromString(content), files, name, input_shapes)


def _check(model: Model) -> None:
    """Refuse what is no model, and external data that are not there or not the model's own."""
    if not model.proto.graph.node:
        raise ModelError(f"{model.name}: no ONNX model (it has no graph)")
    standard = any(own_domain(o.domain) == "" for o in model.proto.opset_import)
    if not standard and not model.proto.functions:
        raise ModelError(f"{model.name}: no ONNX model (it does not say of which opset its operators are)")
    graph, known = model.proto.graph, set(TensorProto.DataType.values())
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type not in known:
            raise ModelError(f"{model.name}: damaged: {info.name!r} has a type that ONNX does not know")
    check_weights(model.proto, model.files, model.name)


def _is_pure(node: gs.Node) -> bool:
    """Tell whether a node gives the same result for the same inputs, and reads no outer value."""
    branches = any(isinstance(a, gs.Graph) for a in node.attrs.values())
    return RANDOM not in traits_of(node) and not branches and own_domain(node.domain) == ""


def _run_node(node: NodeProto, feeds: Mapping[str, Array], opset: int) -> list[Array]:
    """Evaluate one node with the standard's own reference implementation."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - 70 ms that few models cost

    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in node.output]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return list(ReferenceEvaluator(model).run(None, dict(feeds)))
