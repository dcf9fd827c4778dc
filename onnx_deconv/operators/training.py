"""Nodes that a file still has in training mode, where they do something else."""

from onnx_deconv.operators.node import ForwardNode

_MODE = 2
"""The input of Dropout that tells, since opset 12."""


def is_training(at: ForwardNode) -> bool:
    """Tell whether a BatchNormalization computes statistics, or a Dropout drops.

    Before opset 14 a BatchNormalization that has further outputs does.
    """
    if at.node.op == "BatchNormalization":
        return bool(at.attr("training_mode", 0)) or any(v.name for v in at.node.outputs[1:])
    if at.node.op != "Dropout" or not at.has(_MODE):
        return False
    mode = at.constant(_MODE)
    return mode is None or bool(mode.any())


def refuse_training(at: ForwardNode) -> None:
    """Refuse a node in training mode.

    Raises
    ------
    RuleError
        If it is.
    """
    if is_training(at):
        if at.node.op == "Dropout" and at.constant(_MODE) is None:
            raise at.unsupported(
                "only the run says whether it is in training mode: where an input says so, give it by "
                "--input FLAG=false (in Python with_inputs), or export the model for inference"
            )
        does = "drops numbers at random" if at.node.op == "Dropout" else "mixes the images of a batch"
        raise at.unsupported(f"in training mode it {does}; export the model for inference")
