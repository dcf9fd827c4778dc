"""What the outputs of a model are, and where an explanation starts."""

from onnx import TensorProto

from onnx_deconv.model.load import Model
from onnx_deconv.operators import find
from onnx_deconv.operators.node import label
from onnx_deconv.operators.traits import POOL, PROBABILITY, REDUCTION, VIEW

FLOATS = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.BFLOAT16,
        TensorProto.UNDEFINED,
    }
)
"""Element types of real numbers; unknown ones are taken for such."""


def scores_value(model: Model, output: str | None = None) -> tuple[str, list[str]]:
    """Find where an explanation of a class starts: before the final Softmax, LogSoftmax or Sigmoid.

    A softmax makes every class's signal depend on all others; Simonyan et al. (2014, section 2)
    start before it for that reason.

    Returns
    -------
    tuple
        The value's name, and the names of the nodes that were cut off behind it.
    """
    value = output or next((o for o in model.outputs if model.type_of(o).dtype in FLOATS), model.outputs[0])
    trail: list[str] = []
    below = value
    while (node := model.producers.get(below)) is not None:
        trail.append(f"{node.op} {label(node)}")
        below = node.inputs[0].name if node.inputs else ""
        traits = find(node.op, node.domain).traits
        if PROBABILITY in traits:
            return below, trail
        if VIEW not in traits:
            break
    return value, []


def class_maps(model: Model, scores: str) -> str | None:
    """Find the value that holds one feature map per class, right below a global pool.

    Parameters
    ----------
    model
        The model.
    scores
        The value of the scores, see :func:`scores_value`.

    Returns
    -------
    str or None
        Its name; ``None`` where the model has no such maps.
    """
    value, classes = scores, channels(model, scores)
    while (node := model.producers.get(value)) is not None and node.inputs:
        traits, below = find(node.op, node.domain).traits, node.inputs[0].name
        if traits & {POOL, REDUCTION}:
            return below if classes is not None and channels(model, below) == classes else None
        if VIEW not in traits:
            return None
        value = below
    return None


def channels(model: Model, value: str) -> int | None:
    """Return the size of a value's second axis, ``None`` where it is not known."""
    shape = model.type_of(value).shape
    return shape[1] if shape is not None and len(shape) > 1 else None
