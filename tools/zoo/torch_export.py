"""A PyTorch network, its random weights settled, through either exporter."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Net:
    """A network: how to make it, what it reads, what it is."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    family: str
    packages: tuple[str, ...] = ()
    sizes: Iterable[tuple[int, ...]] = ()


def settle(module: nn.Module, inputs: torch.Tensor) -> None:
    """Give random weights a sane scale: filters by what they give, normalisation by what it reads.

    Every filter is scaled such that what it gives has a deviation of 1 (Mishkin & Matas, "All you need is a
    good init", 2016), every batch normalisation gets the statistics of what it reads and a random scale
    and shift, every gain that starts at zero (LayerScale, skip gains) one that is seen.
    """
    module.eval()
    for parameter in module.parameters():
        redraw(parameter)
    hooks = [layer.register_forward_hook(scale) for layer in module.modules() if isinstance(layer, FILTERS)]
    for layer in module.modules():
        if isinstance(layer, NORMS):
            layer.momentum = 1.0
            layer.train()
    with torch.no_grad():
        module(inputs)
    for hook in hooks:
        hook.remove()
    module.eval()


FILTERS = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001 the one base of all convolutions
NORMS = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001 likewise


def redraw(parameter: nn.Parameter) -> None:
    """Replace constants: ones by random scales, zeros by small numbers."""
    values = parameter.data
    if values.numel() > 1 and values.is_floating_point() and values.std() == 0:
        if values.flatten()[0] == 1:
            values.uniform_(0.5, 1.5)
        elif values.abs().max() < 0.01:  # noqa: PLR2004
            values.normal_(0, 0.1) if values.max() == 0 else values.uniform_(0.3, 0.7)
    elif values.numel() == 1 and values.item() == 0:
        values.fill_(0.5)


def scale(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
    """Scale a filter's weights such that its output has a deviation of 1; once, where filters are shared."""
    if "weight" not in layer._parameters or hasattr(layer, "_settled"):  # noqa: SLF001 computed weights
        return None
    layer._settled = True  # noqa: SLF001
    spread = output.std().clamp(min=1e-6)
    layer.weight.data /= spread
    if layer.bias is not None:
        layer.bias.data /= spread
    return output / spread


def torchscript(net: Net, module: nn.Module, path: Path, *, opset: int = 17, **options: Any) -> None:
    """Export by tracing."""
    axes = {"input": {0: "batch", **{k: f"size{k}" for k in range(2, len(net.shape))}}} if net.sizes else {}
    example = torch.randn(net.shape)
    torch.onnx.export(
        module, (example,), path, dynamo=False, opset_version=opset, dynamic_axes=axes,
        input_names=["input"], **options,
    )  # fmt: skip


def dynamo(net: Net, module: nn.Module, path: Path, *, opset: int = 18) -> None:
    """Export through torch.export."""
    free = {0: torch.export.Dim.DYNAMIC, **dict.fromkeys(range(2, len(net.shape)), torch.export.Dim.DYNAMIC)}
    torch.onnx.export(
        module, (torch.randn(net.shape),), path, dynamo=True, opset_version=opset, external_data=False,
        input_names=["input"], dynamic_shapes=(free,) if net.sizes else None,
    )  # fmt: skip
