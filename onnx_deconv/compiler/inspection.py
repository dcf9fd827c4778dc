"""Look at a model before any work is done: its layers, the rule each node gets, and what is in the way."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.dependence import ImageDependence
from onnx_deconv.compiler.input_facts import labels_for, labels_of
from onnx_deconv.compiler.operator_table import family, says
from onnx_deconv.errors import DeconvError, ModelError
from onnx_deconv.model import Model
from onnx_deconv.model.feature_maps import class_maps
from onnx_deconv.model.head import Head, class_count, fields_of, labels_unfit
from onnx_deconv.model.head_labels import boxes_by_labels, labelled, names_differ, names_of_fields
from onnx_deconv.model.heads import explainable, head_of, heads
from onnx_deconv.operators import key_of, spelled, traits_of
from onnx_deconv.operators.traits import SWITCHES
from onnx_deconv.semantics import Semantics


@dataclass(frozen=True)
class Layer:
    """One node between the input and the explained value.

    Attributes
    ----------
    layer
        The value it computes: what ``--layer`` takes.
    node
        Its own name, which ``--layer`` takes as well; may be empty.
    operator
        With its domain unless that is the standard's.
    shape
        Of the value; ``None`` where not even the rank is known.
    number
        ``conv1``, ``conv2``, ...: its place among the model's convolutions, which ``--layer`` takes as
        well; ``None`` for other operators, and where another value or node has that for a name.
    family
        The file of its rule, ``None`` where it has none.
    rule
        What happens to the signal there; ``None`` where there is no rule.
    overlaps
        Whether the windows of a MaxPool share positions; ``None`` for other operators.
    """

    layer: str
    node: str
    operator: str
    shape: list[int | str | None] | None
    number: str | None
    family: str | None
    rule: str | None
    overlaps: bool | None = None


@dataclass(frozen=True)
class Output:
    """What one output of a model is, and how it is explained.

    Attributes
    ----------
    output
        Its name.
    kind
        See :data:`~onnx_deconv.model.output_kinds.Kind`.
    axes
        What runs along each axis of the value that an explanation starts from: ``images``, ``classes``, of
        which there are as many as the output has, or a position's size.
    start
        The value that an explanation starts from.
    cut
        The nodes behind it that take no part.
    targets
        What can be asked for.
    problem
        Why nothing can; ``None`` if something can.
    by_name
        Whether nothing but its name tells its kind.
    assumed
        Whether it is taken for classes though nothing says so.
    """

    output: str
    kind: str
    axes: list[str]
    start: str
    cut: list[str]
    targets: str
    problem: str | None = None
    by_name: bool = False
    assumed: bool = False


@dataclass(frozen=True)
class Inspection:
    """What a model is, and how far it can be explained.

    Attributes
    ----------
    model, opset, ir_version, producer
        From the file.
    weights
        How many numbers the initializers hold.
    inputs, outputs
        By name, each with ``shape`` and ``dtype``.
    dynamic
        Axes whose size is only known at run time, as ``input[axis]``.
    heads
        What each output is.
    explained
        The value an explanation starts from.
    cut
        The nodes behind it that were cut off.
    class_maps
        The value with one feature map per class that ``--seed auto`` starts from; ``None`` without one.
    labels
        How many names of classes are known: those given, else those in the file's metadata or nodes, or
        beside it.
    labels_are
        Where they are: given, in the file, or beside it.
    metadata
        The metadata's keys.
    layers
        The nodes on the path, in order.
    missing
        Those without a rule.
    deepest
        With rules missing: the last value that can be explained, ``None`` if there is none.
    problem
        Why no companion can be made; ``None`` if it can.
    rules
        The rule table that was asked about.
    image_dependence
        Whether the reconstruction depends on the image, as in a pair's manifest; ``None`` where there is no
        companion.
    names_differ
        What tells that there are not as many names as the explained output has classes, or that their number
        alone makes a map a detector's boxes; else ``None``.
    image_axis_added
        The inputs that have no axis for the images in the file, and got one when it was read.
    """

    model: str
    opset: int
    ir_version: int
    producer: str
    weights: int
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    dynamic: list[str]
    heads: list[Output]
    explained: str
    cut: list[str]
    class_maps: str | None
    labels: int
    labels_are: str
    metadata: list[str]
    rules: str
    layers: list[Layer] = field(repr=False)
    missing: list[Layer] = field(repr=False)
    deepest: str | None = None
    problem: str | None = None
    image_dependence: dict[str, Any] | None = None
    names_differ: str | None = None
    image_axis_added: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return asdict(self)


def inspect_model(
    model: Model,
    semantics: Semantics | None = None,
    layer: str | None = None,
    output: str | None = None,
    labels: Sequence[str] | str | None = None,
) -> Inspection:
    """Look at a model; no weight is read and nothing runs.

    Parameters
    ----------
    model
        The model; operators without a rule are no error here.
    semantics
        The choices that decide which rule a node gets.
    layer
        The value to explain; by default the scores.
    output
        The output that these belong to; by default the first that is real numbers, or made of such.
    labels
        Names of the classes, as for :func:`~onnx_deconv.compiler.pair.compile_pair`.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    """
    semantics = semantics or Semantics()
    plain = head_of(model, output)
    names, own = labels_for(model, plain, labels).names, labels_of(model, plain).names
    head = labelled(model, plain, len(names))
    value, cut = (head.start, list(head.cut)) if layer is None else (model.layer(layer), [])
    walk, problem, dependence = _walk(model, value, semantics)
    if layer is None and head.problem is not None:
        problem = _problem(model, head.output)
    layers = list(_layers(walk)) if walk is not None else []
    proto = model.proto
    return Inspection(
        model=model.name,
        opset=model.opset,
        ir_version=proto.ir_version,
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        weights=sum(prod(t.dims) for t in model.tensors.values()),
        inputs={name: _type(model, name) for name in model.inputs},
        outputs={name: _type(model, name) for name in model.outputs},
        dynamic=[
            f"{name}[{dim or axis}]"
            for name in model.inputs
            for axis, dim in enumerate(model.type_of(name).dims or ())
            if not isinstance(dim, int)
        ],
        heads=[
            _output(model, labelled(model, each, count), count)
            for each, count in ((each, _known(model, each, labels and names)) for each in heads(model))
        ],
        explained=value,
        cut=cut,
        class_maps=class_maps(model, head) if layer is None and not semantics.starts_at_scores else None,
        labels=len(names),
        labels_are="given" if labels else "in the file" if names == own else "beside the file",
        metadata=sorted(model.metadata),
        rules=semantics.rules,
        layers=layers,
        missing=[each for each in layers if each.rule is None],
        deepest=_deepest(walk) if walk is not None and walk.missing() else None,
        problem=problem,
        image_dependence=None if dependence is None else dependence.as_dict(),
        names_differ=boxes_by_labels(model, plain, len(names)) or _names_differ(model, head, names),
        image_axis_added=sorted(model.image_axis_added),
    )


def _known(model: Model, head: Head, given: Sequence[str] | None) -> int:
    """Return how many names are known of an output's classes."""
    return len(labels_for(model, head, given or None).names)


def _names_differ(model: Model, head: Head, names: Sequence[str]) -> str | None:
    """Tell that there are not as many names as an output has classes, as an explainer would."""
    fields = fields_of(head, len(names))
    if fields is None and head.boxes is not None:  # fields of which nothing tells how many are classes
        return labels_unfit(head, fields, len(names))
    classes = class_count(model, head) if fields is None else fields.count
    return names_differ(classes, len(names_of_fields(head, names)))


_LONGEST = 20
"""Letters of a size's name, at most: some are the formula that it is computed by."""
_TARGETS = {
    "classes": "a class",
    "class map": "a class: its map, its region, a mask, or one position",
    "sequence": "a class: its row, or one step by its position",
    "detections": "a class (its best box), class#RANK, 'class at X,Y'; or 'field F' and a box's position",
    "embedding": "a dimension, or an array",
    "regression": "a number by its index (0 if there is one)",
    "numbers": "a number by its index, an array; a class with --kind classes or labels",
    "image": "a channel, or one position of it",
    "unknown": "a class or column and a position, or an array",
}


_ALONG = {
    "detections": "fields", "embedding": "dimensions", "image": "channels", "numbers": "numbers",
    "regression": "numbers",
}  # fmt: skip
_OF_UNNAMED = "'field F' and a box's position; a class, if labels tell which fields are classes"
_OF_BOXES = "'field F' and a box's position; the scores are another output"


def _output(model: Model, head: Head, labels: int) -> Output:
    """Describe an output, given how many names of its classes there are."""
    dims, axes = model.type_of(head.start).dims or [], head.axes
    spoken = ["?" if d is None or len(str(d)) > _LONGEST else str(d) for d in dims]
    if head.problem is None and len(dims) == len(axes.order):
        if axes.batch is not None:
            spoken[axes.batch] += " images"
        if head.elements is not None:
            count = str(len(head.elements))
            spoken = [count if k == axes.classes else size for k, size in enumerate(spoken)]
            spoken += [f"{count} classes"] if axes.classes is None else []
        if axes.classes is not None:
            spoken[axes.classes] += f" {_ALONG.get(head.kind, 'classes')}"
    boxes = head.boxes is not None and head.boxes.part == "boxes"
    targets = "" if head.problem else _OF_BOXES if boxes else _TARGETS[head.kind]
    if head.kind == "detections" and not boxes and fields_of(head, labels) is None:
        targets = _OF_UNNAMED
    targets += _left_out(head, labels)
    return Output(
        head.output,
        head.kind,
        spoken,
        head.start,
        list(head.cut),
        targets,
        head.problem,
        head.by_name,
        head.assumed,
    )


def _left_out(head: Head, labels: int) -> str:
    """Say which field of a detector's scores is assumed to be no class, where no names tell."""
    fields = fields_of(head, labels)
    if labels or head.boxes is None or head.boxes.told or fields is None or not fields.exclusive:
        return ""
    nothing = fields.first + fields.count if head.boxes.last else fields.first - 1
    return f"; field {nothing} is assumed to stand for no object"


def _problem(model: Model, output: str) -> str | None:
    """Return why an output cannot be explained, and what can."""
    try:
        explainable(model, output)
    except ModelError as error:
        return str(error)
    return None


def _walk(
    model: Model, value: str, semantics: Semantics
) -> tuple[Walk | None, str | None, ImageDependence | None]:
    """Return the walk to the value, what is in the way of a companion, and whether that reads the image."""
    try:
        walk = Walk(model, value, semantics)
    except ModelError as error:
        return None, str(error), None
    try:
        _, taps = walk.run()
    except DeconvError as error:
        return walk, str(error), None
    return walk, None, walk.image_dependence(taps)


def _layers(walk: Walk) -> Iterator[Layer]:
    numbers = {v: n for v, n in walk.model.ordinals.items() if walk.model.layer(n) == v}
    for node in walk.path:
        rule = walk.rules.get(key_of(node))
        yield Layer(
            layer=node.outputs[0].name,
            node=str(node.name or ""),
            operator=spelled(key_of(node)),
            shape=walk.model.type_of(node.outputs[0].name).dims,
            number=numbers.get(node.outputs[0].name),
            family=None if rule is None else family(rule),
            rule=None if rule is None else says(rule),
            overlaps=overlaps(node, walk.model) if SWITCHES in traits_of(node) else None,
        )


def _deepest(walk: Walk) -> str | None:
    """Find the last value all of whose path back to the input has rules."""
    open_ended: set[str] = set()
    found = None
    for node in walk.path:
        names = [v.name for v in node.outputs]
        if key_of(node) not in walk.rules or any(v.name in open_ended for v in node.inputs):
            open_ended.update(names)
        elif len(walk.model.type_of(names[0]).shape or ()) > 1:
            found = names[0]
    return found


def _type(model: Model, value: str) -> dict[str, Any]:
    types = model.type_of(value)
    return {"shape": types.dims, "dtype": TensorProto.DataType.Name(types.dtype).lower()}


def overlaps(pool: gs.Node, model: Model) -> bool:
    """Tell whether the windows of a pool share positions.

    Along an axis, the windows i and i + m share one where m·stride is a multiple of the dilation
    that is shorter than the kernel.
    """
    kernel: Sequence[int] = pool.attrs.get("kernel_shape", ())
    strides = pool.attrs.get("strides") or [1] * len(kernel)
    dilations = pool.attrs.get("dilations") or [1] * len(kernel)
    shape = model.type_of(pool.outputs[0].name).shape
    counts = shape[2:] if shape is not None else [None] * len(kernel)
    return any(
        m * s % d == 0 and m * s // d < k and (count is None or m < count)
        for k, s, d, count in zip(kernel, strides, dilations, counts, strict=False)
        for m in range(1, k * d)
    )
