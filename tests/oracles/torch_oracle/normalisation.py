"""Normalisations."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from torch_oracle.linear import channelwise
from torch_oracle.operators import MICROSOFT, Call, operator
from torch_oracle.pooling import norm


def standardised(x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Subtract the mean, divide by the deviation."""
    centred = x - x.mean(list(axes), keepdim=True)
    return centred / (centred.square().mean(list(axes), keepdim=True) + epsilon).sqrt()


@operator("BatchNormalization")
def batch_normalization(
    at: Call, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    """Normalise by the stored statistics."""
    spatial = at.get("spatial", 1)
    scale, shift, mean, var = (
        channelwise(v, x) if spatial and x.ndim > 1 else v for v in (scale, shift, mean, var)
    )
    return (x - mean) / (var + at.get("epsilon", 1e-5)).sqrt() * scale + shift


@operator("InstanceNormalization")
def instance_normalization(at: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise each map."""
    y = standardised(x, range(2, x.ndim), at.get("epsilon", 1e-5))
    return y * channelwise(scale, x) + channelwise(shift, x)


@operator("GroupNormalization")
def group_normalization(at: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise groups of channels; before opset 21 with one scale per group."""
    groups = at.get("num_groups")
    parts = x.reshape(x.shape[0], groups, -1)
    y = standardised(parts, [2], at.get("epsilon", 1e-5)).reshape(x.shape)
    scale, shift = (
        v if len(v) == x.shape[1] else v.repeat_interleave(x.shape[1] // groups) for v in (scale, shift)
    )
    return y * channelwise(scale, x) + channelwise(shift, x)


@operator("GroupNorm", domain=MICROSOFT)
def group_norm(at: Call, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise groups of channels, the channels last, and activate."""
    last = at.get("channels_last", 1)
    call = at.like("GroupNormalization", num_groups=at.get("groups"), epsilon=at.get("epsilon", 1e-5))
    y = group_normalization(call, x.movedim(-1, 1) if last else x, gamma, beta)
    y = y.movedim(1, -1) if last else y
    return y * torch.sigmoid(y) if at.get("activation") else y


@operator("LayerNormalization")
def layer_normalization(
    at: Call, x: Tensor, scale: Tensor, shift: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the last axes; tell the mean and the inverse of the deviation."""
    axes, epsilon = list(range(at.get("axis", -1) % x.ndim, x.ndim)), at.get("epsilon", 1e-5)
    y = standardised(x, axes, epsilon) * scale
    inverse = (x.var(axes, correction=0, keepdim=True) + epsilon).rsqrt()
    return y if shift is None else y + shift, x.mean(axes, keepdim=True), inverse


@operator("RMSNormalization", "SimplifiedLayerNormalization")
@operator("SimplifiedLayerNormalization", domain=MICROSOFT)
def rms_normalization(at: Call, x: Tensor, scale: Tensor) -> Tensor:
    """Divide by the root mean square of the last axes."""
    axes = list(range(at.get("axis", -1) % x.ndim, x.ndim))
    return x / (x.square().mean(axes, keepdim=True) + at.get("epsilon", 1e-5)).sqrt() * scale


@operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    at: Call, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Add, and normalise the last axis."""
    total = x + skip if bias is None else x + skip + bias
    call = at.like("LayerNormalization", epsilon=at.get("epsilon", 1e-12))
    return *layer_normalization(call, total, gamma, beta), total


@operator("LRN")
def lrn(at: Call, x: Tensor) -> Tensor:
    """Divide by the response of the channels around."""
    size = at.get("size")
    before = (size - 1) // 2
    square = functional.pad(x.square().movedim(1, -1), (before, size - 1 - before))
    total = square.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (at.get("bias", 1.0) + at.get("alpha", 1e-4) / size * total) ** at.get("beta", 0.75)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(at: Call, x: Tensor) -> Tensor:
    """Normalise over the given axes."""
    return standardised(x, at.get("axes", [0, 2, 3]), 1e-9)


@operator("LpNormalization")
def lp_normalization(at: Call, x: Tensor) -> Tensor:
    """Divide by the norm along an axis."""
    length = norm(x, at.get("p", 2), [at.get("axis", -1)], keep=True)
    return torch.where(length > 0, x / torch.where(length > 0, length, 1.0), 0.0)
