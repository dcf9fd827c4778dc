"""The plug-in of docs/plug-in.md, to the letter."""

from onnx_deconv.operators import RuleTable, Trait, fields, operator, register


@operator("ExpandDims", domain="com.microsoft", traits={Trait.VIEW}, field=fields.new_shape)
def expand_dims(at):
    """Takes the forward input's shape."""
    return [at.reshape(at.signal, 0), None]


@expand_dims.shape
def expanded(at):
    """One axis more, of size 1, where the second input says."""
    source, where = at.source, at.small(1)
    if source is None or where is None:
        return None
    axis = where[0] if where[0] >= 0 else where[0] + len(source) + 1
    return [*source[:axis], 1, *source[axis:]]


leaky = register(RuleTable("leaky", "deconvnet", doc="An example: rectifiers halve what is negative."))


@leaky.row(Trait.RECTIFIER)
def leak(at):
    """Halves the signal where it is negative."""
    return [at.op.LeakyRelu(at.signal, alpha=0.5), *[None] * (len(at.node.inputs) - 1)]
