"""Forward values from the reference evaluator of the ONNX standard, amended where it is wrong.

The evaluator does not know the three operators that left the standard before 1.0, and what it makes of
seven others is wrong (onnx 1.23). Each class is what its operator's text says.
"""

import functools
import math

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnx_deconv.errors import RuleError

error_function = np.vectorize(math.erf, otypes=[np.float64])


class ImageScaler(OpRun):
    """scale·x + bias[c]: gone from the standard."""

    op_domain = ""

    def _run(self, x, scale=1.0, bias=0.0):
        return ((scale * x + np.asarray(bias).reshape(-1, 1, 1)).astype(x.dtype),)


class Affine(OpRun):
    """alpha·x + beta: gone from the standard."""

    op_domain = ""

    def _run(self, x, alpha=1.0, beta=0.0):
        return ((alpha * x + beta).astype(x.dtype),)


class Crop(OpRun):
    """Cut borders: gone from the standard."""

    op_domain = ""

    def _run(self, x, border=(), scale=None):
        left, top, right, bottom = border
        height, width = scale or (x.shape[2] - top - bottom, x.shape[3] - left - right)
        return (x[:, :, top : top + height, left : left + width],)


class Erf(OpRun):
    """Not rounded to float32 on the way."""

    op_domain = ""

    def _run(self, x):
        return (error_function(x).astype(x.dtype),)


class Gelu(OpRun):
    """Not rounded to float32 on the way."""

    op_domain = ""

    def _run(self, x, approximate):
        if approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        else:
            gate = error_function(x / math.sqrt(2))
        return ((0.5 * x * (1 + gate)).astype(x.dtype),)


class LRN(OpRun):
    """For every channel, not for as many as there are images."""

    op_domain = ""

    def _run(self, x, alpha, beta, bias, size):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            near = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
            y[:, c] = x[:, c] / (bias + alpha / size * (near**2).sum(1)) ** beta
        return (y,)


class Mean(OpRun):
    """With broadcasting."""

    op_domain = ""

    def _run(self, *terms):
        total = functools.reduce(np.add, terms)
        return ((total / len(terms)).astype(total.dtype),)


class BatchNormalization(OpRun):
    """Always at inference: before opset 14 the evaluator trains."""

    op_domain = ""

    def _run(self, x, *statistics, epsilon, **_):
        scale, bias, mean, variance = (
            held.reshape(*held.shape, *[1] * (x.ndim - held.ndim - 1)) for held in statistics
        )
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


class Softmax(OpRun):
    """Before opset 13 over all axes from `axis` on, not along one."""

    op_domain = ""

    def _run(self, x, axis):
        axes = (axis,)
        if self.run_params["opsets"].get("", 13) < 13:
            told = any(attribute.name == "axis" for attribute in self.onnx_node.attribute)
            axes = tuple(range(axis % x.ndim if told else 1, x.ndim))
        y = np.exp(x - x.max(axes, keepdims=True))
        return (y / y.sum(axes, keepdims=True),)


class LogSoftmax(Softmax):
    """The logarithm of a Softmax."""

    def _run(self, x, axis):
        (y,) = super()._run(x, axis)
        return (np.log(y),)


AMENDED = [ImageScaler, Affine, Crop, Erf, Gelu, LRN, Mean, BatchNormalization, Softmax, LogSoftmax]


def refuse_wrong_values(node):
    """Raise where the evaluator is wrong and not amended: another runtime must compute these."""
    form = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    wrong = {
        "ConvTranspose": form.get("group", 1) > 1 or "output_shape" in form,
        "MaxPool": form.get("auto_pad") == b"SAME_LOWER",
    }
    if wrong.get(node.op_type):
        raise RuleError(
            f"onnx.reference computes this form of {node.op_type} wrongly: "
            f"{node.name or node.output[0]!r}; take its values from onnxruntime"
        )


def forward_values(model, feeds):
    """Compute every value of a small, flat model: its inputs and the outputs of every node, by name.

    Raises
    ------
    RuleError
        For a ConvTranspose with groups or output_shape and a MaxPool with SAME_LOWER, which the
        evaluator of the standard computes wrongly.
    """
    for node in model.graph.node:
        refuse_wrong_values(node)
    evaluator = ReferenceEvaluator(model, new_ops=AMENDED)
    names = [name for node in model.graph.node for name in node.output if name]
    return dict(feeds) | dict(zip(names, evaluator.run(names, dict(feeds)), strict=True))
