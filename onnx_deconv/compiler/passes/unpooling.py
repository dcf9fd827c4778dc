"""Unpoolings by switches, as a companion has them: a max pool, and a signal that its switches put back."""

from dataclasses import dataclass

from onnx import NodeProto

from onnx_deconv.compiler.passes.attributes import ones
from onnx_deconv.compiler.passes.operations import ZEROS
from onnx_deconv.compiler.passes.pattern import ANY, Match, Pattern, backward, op, value
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of


def _is_2d(found: Match) -> bool:
    """Tell whether a pool is of float32 images whose sizes are known."""
    sizes = found.graph.sizes(found.node.input[0]) or ()
    return len(sizes) == len(found.attributes["kernel_shape"]) == len("HW")


def put_back(indices: Pattern) -> Pattern:
    """Match ``signal`` where a pool's indices put it back."""
    rest = op.Sub(indices, op.Mul(op.Div(indices, ANY), ANY))  # as older opsets write it
    switches = op.Mod(indices, ANY) | rest | indices
    images = (op.Flatten(each) | each for each in (ZEROS, switches, value("signal")))
    return op.Reshape(op.ScatterElements(*images, reduction="add", axis=1)).where(backward)


_POOL = op.MaxPool(ANY, dilations=ones, storage_order=0).where(_is_2d)
_UNPOOLING = put_back(_POOL.named("pool").giving(1))


@dataclass(frozen=True)
class Unpooling:
    """A max pool and the signal that its switches put back.

    Attributes
    ----------
    name
        The unpooling's node.
    pool
        The pool's node.
    pooled, maximum
        What the pool reads and gives.
    signal, result
        What the unpooling reads and gives.
    kernel, strides
        The pool's, per axis.
    pads
        The pool's padding: before, along each axis, then after; ``None`` where it follows from the sizes.
    """

    name: str
    pool: NodeProto
    pooled: str
    maximum: str
    signal: str
    result: str
    kernel: list[int]
    strides: list[int]
    pads: list[int] | None

    def is_side_by_side(self, graph: Rewriter) -> bool:
        """Tell whether the windows are squares that fill the image (where ``auto_pad`` adds nothing)."""
        side, sizes = self.kernel[0], graph.sizes(self.pooled) or []
        square = self.kernel == self.strides == [side, side]
        return square and not any(self.pads or ()) and all(size % side == 0 for size in sizes)


def unpooling_of(graph: Rewriter, node: NodeProto) -> Unpooling | None:
    """Return the unpooling whose last node this is, if it is one of 2-D windows that are not dilated."""
    found = _UNPOOLING.match(graph, node)
    if found is None:
        return None
    pool = found.nodes["pool"]
    attributes = attributes_of(pool)
    given = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    return Unpooling(
        node.name, pool, pool.input[0], pool.output[0], found.values["signal"], node.output[0],
        list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1])),
        list(attributes.get("pads", [0] * 4)) if given else None,
    )  # fmt: skip
