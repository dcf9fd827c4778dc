"""PyTorch's networks through both of its exporters.

    python tools/zoo/torch_models.py -o FOLDER [--only 'torch-ts_*'] [--list]

Names: EXPORTER_ARCHITECTURE; the exporters are the rows of EXPORTERS, the architectures those of torch_nets.
"""

import copy
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import torch
from common import Build, Facts, main, versions
from torch_export import Net, dynamo, settle, torchscript
from torch_nets import HEAVY, NETS

CNNS = "seresnet18 mobilenetv2_100 unet yolo espcn squeezenet1_1 act_gelu norm_group pool_max_ceil audio_m5"
# exporter: how, and for which architectures
EXPORTERS: dict[str, tuple[Callable[..., None], str]] = {
    "torch-ts": (torchscript, "*"),
    "torch-ts9": (partial(torchscript, opset=9), CNNS),
    "torch-ts11": (partial(torchscript, opset=11), CNNS),
    "torch-ts13": (partial(torchscript, opset=13), CNNS),
    "torch-ts20": (partial(torchscript, opset=20), CNNS),
    "torch-dynamo23": (partial(dynamo, opset=23), CNNS),
    "torch-dynamo": (dynamo, "*"),
    "torch-unfolded": (
        partial(torchscript, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE),
        CNNS + " densenet121 volume_unet",
    ),
}


def build(path: Path, *, name: str, net: Net, export: Callable[..., None]) -> Facts:
    """Make the network, settle its weights, export it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = net.make()
    batch = torch.randn(4, *net.shape[1:])
    settle(module, batch)
    export(net, copy.deepcopy(module), path)
    facts = {"architecture": name, "framework": versions("torch", *net.packages), "family": net.family}
    facts |= {"exporter": versions("torch") if export is torchscript else versions("torch", "onnxscript")}
    facts |= {"inputs": {"input": list(net.shape)}, "sizes": [{"input": [*s]} for s in net.sizes]}
    return facts


def recipes() -> dict[str, Build]:
    """Return every exporter's architectures, the quick exporters first."""
    return {
        f"{exporter}_{name}": partial(build, name=name, net=net, export=export)
        for exporter, (export, globs) in EXPORTERS.items()
        for name, net in NETS.items()
        if any(fnmatch(name, glob) for glob in globs.split())
        and (name not in HEAVY or exporter == "torch-ts")
    }


if __name__ == "__main__":
    main(recipes())
