"""Splits that a convolution can do by itself, and Splits in a form that not every runtime takes."""

from itertools import accumulate, pairwise

from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, Match, op, read_once, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter


def _has_known_sizes(found: Match) -> bool:
    return found.graph.sizes(found.node.output[0]) is not None


_CONV = op.Conv(ANY, ANY, ABSENT, group=1).where(_has_known_sizes).named("conv")
_SPLIT = op.Split(read_once(_CONV), axis=1)
_BY_SIZES = op.Split(ANY, value("sizes"))


@optimisation_pass("splits")
def splits(graph: Rewriter) -> None:
    """A convolution whose channels are split becomes one for each group of channels.

    In onnxruntime a Split takes the signal out of the blocked layout, with the ReLU that follows.
    The filter is cut in the graph, when the model is loaded.

    Measured to help SqueezeNet 1.1, where the Splits are left that ``blocked`` does not take: 1 to 8 %.
    """
    for found in _SPLIT.matches(graph):
        conv, counts, add = found.nodes["conv"], _channels(found), graph.builder(found.node.name)
        made = []
        for begin, end in pairwise(accumulate(counts, initial=0)):
            cut = add.Slice(conv.input[1], [begin], [end], [0])
            made += add.copy(conv, [conv.input[0], cut])
        if made:
            graph.replace(found.node, add, *made)


def _channels(found: Match) -> list[int]:
    """Count the channels of each output; nothing where one is not known."""
    counts = [d for v in found.node.output for d in found.graph.shape(v)[1:2] if isinstance(d, int)]
    return counts if len(counts) == len(found.node.output) else []


@optimisation_pass("parts")
def parts(graph: Rewriter) -> None:
    """A Split into equal parts says how many there are, not how large they are.

    onnxruntime's NNAPI provider (1.29) divides by a number of parts, which it takes for 0 where it is not
    given, and dies as the session is made.
    """
    for found in _BY_SIZES.matches(graph):
        sizes, count = graph.constants.numbers(found.values["sizes"]), len(found.node.output)
        if sizes is not None and len(set(sizes.tolist())) == 1:
            add, axis = graph.builder(found.node.name), found.attributes.get("axis", 0)
            whole = found.node.input[0]
            graph.replace(found.node, add, *add.Split(whole, outputs=count, axis=axis, num_outputs=count))
