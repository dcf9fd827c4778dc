# ruff: noqa: SIM905 a table of names reads best as one string
"""The PyTorch architectures: one line each, grouped by the library that has them and by their input."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import small_nets
import torch
from torch import nn
from torch_export import Net

# torchvision's compiled operators need the PyTorch that it was built with; its networks do not.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import monai.networks.nets as monai  # noqa: E402
import pytorchcv.model_provider  # noqa: E402
import segmentation_models_pytorch as smp  # noqa: E402
import timm  # noqa: E402
import torchvision  # noqa: E402


class Parts(nn.Module):
    """A network that gives the tensors of a nested result, joined or one by one."""

    def __init__(self, net: nn.Module, pick: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        self.net, self.pick = net, pick

    def forward(self, image: torch.Tensor) -> Any:
        """Return what was picked of the result."""
        return self.pick(self.net, image)


def rows(table: dict[int, str]) -> Iterable[tuple[str, int]]:
    """Yield (name, pixels) of a table {pixels: names}."""
    return ((name, pixels) for pixels, names in table.items() for name in names.split())


TIMM = {
    64: """resnet18 mobilenetv2_100 resnet50 resnet26d resnext50_32x4d seresnext26d_32x4d ecaresnet26t
        skresnet18 res2net50_14w_8s resnest14d resnetv2_50 seresnet18 resnetblur18 densenet121 dla34
        dla46_c dpn48b mobilenetv1_100 mobilenetv3_small_100 mobilenetv3_large_100
        mobilenetv4_conv_small mobilenet_edgetpu_100 mobileone_s0 repvgg_a0 efficientnet_b0
        efficientnetv2_rw_t tf_efficientnet_b0 tf_efficientnet_lite0 mnasnet_100 semnasnet_075
        fbnetc_100 fbnetv3_b ghostnet_100 ghostnetv2_100 ghostnetv3_100 hardcorenas_a regnetx_002
        regnety_002 regnetz_005 nf_regnet_b0 convnext_atto convnextv2_atto convnext_atto_ols
        poolformer_s12 hrnet_w18_small darknet17 ese_vovnet19b_dw rexnet_100 spnasnet_100 tinynet_e
        lcnet_050 gernet_s gcresnext26ts mixnet_s inception_next_atto repghostnet_050 starnet_s1
        efficientvit_b0 fastvit_t8 cs3darknet_s hgnet_tiny hgnetv2_b0 edgenext_xx_small
        mobilevit_xxs botnet26t_256 repvit_m0_9 ghostnet_050 xcit_nano_12_p16_224 mambaout_femto""",
    128: "inception_v3",
    224: "vgg11_bn vgg16_bn",
}
NARROW = "resnet26d seresnext26d ecaresnet26t skresnet18 seresnet18 resnetblur18"
TIMM_OPTIONS: dict[str, dict[str, Any]] = {
    "vgg": {"mlp_ratio": 1 / 16},
    **{name: {"channels": (16, 32, 64, 128)} for name in NARROW.split()},
    "botnet": {"img_size": 64},
    "xcit": {"img_size": 64},
}
VISION = {64: "squeezenet1_0 squeezenet1_1 shufflenet_v2_x0_5 shufflenet_v2_x1_0", 96: "googlenet"}
CV = {
    32: "nin_cifar10",
    224: """
        bninception shufflenet_g3_wd4 sqnxt23_w1 darknet_tiny condensenet74_c4_g4 menet108_8x1_g3 igcv3_wd4
        peleenet proxylessnas_mobile14 sepreresnet10 mobilenet_wd4 fdmobilenet_wd4
        squeezeresnet_v1_1 preresnet10 espnetv2_wd2 hardnet39ds""",
    256: "lwopenpose2d_mobilenet_cmupan_coco centernet_resnet18_voc",
}
SMP = """Unet:resnet18 UnetPlusPlus:mobilenet_v2 FPN:mobilenet_v2 Linknet:mobilenet_v2 PSPNet:mobilenet_v2
        PAN:mobilenet_v2 DeepLabV3Plus:mobilenet_v2 UPerNet:mobilenet_v2""".split()
CUBE = 32
MONAI = {
    "volume_unet": (monai.UNet, {"channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 1}),
    "volume_densenet121": (monai.DenseNet121, {}),
    "volume_segresnet": (monai.SegResNet, {"init_filters": 8}),
    "volume_basicunet": (monai.BasicUNet, {"features": (8, 8, 16, 16, 32, 8)}),
    "volume_dynunet": (
        monai.DynUNet,
        {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 32],
        },
    ),
}


def options_of(name: str) -> dict[str, Any]:
    """Return what makes a timm network small."""
    return next((o for prefix, o in TIMM_OPTIONS.items() if name.startswith(prefix)), {})


def detection(name: str) -> nn.Module:
    """Return a detector of torchvision up to its heads: the boxes' selection has no gradient."""
    model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, num_classes=5)

    def heads(net: nn.Module, image: torch.Tensor) -> Any:
        return tuple(net.head([*net.backbone(image).values()]).values())

    return Parts(model, heads)


def segmentation(name: str) -> nn.Module:
    """Return a segmenter of torchvision."""
    model = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5)
    return Parts(model, lambda net, image: net(image)["out"])


def volume(make: Callable[..., nn.Module], options: dict[str, Any]) -> nn.Module:
    """Return a network of MONAI that reads one-channel volumes."""
    return make(spatial_dims=3, in_channels=1, out_channels=3, **options)


# Above 40 MB a network goes through one exporter only, except those that everyone knows.
HEAVY = """inception_v3 retinanet_resnet50_fpn resnetv2_50 resnext50_32x4d res2net50_14w_8s vgg16_bn
    dla34 smp_unet_resnet18 cv_centernet_resnet18_voc darknet17 hgnet_tiny efficientnetv2_rw_t poolformer_s12
    volume_densenet121 hrnet_w18_small cv_bninception botnet26t_256""".split()
ODD = ((2, 3, 61, 83), (1, 3, 97, 64), (3, 3, 75, 75))
FREE = "resnet18 mobilenetv2_100 densenet121 efficientnet_b0 convnext_atto mobilenetv3_small_100".split()
NETS: dict[str, Net] = {
    name: Net(
        partial(timm.create_model, name, num_classes=10, **options_of(name)),
        (1, 3, pixels, pixels), "classifier", ("timm",), ODD if name in FREE else (),
    )
    for name, pixels in rows(TIMM)
}  # fmt: skip
NETS |= {
    name: Net(
        partial(torchvision.models.get_model, name, num_classes=10),
        (1, 3, s, s),
        "classifier",
        ("torchvision",),
    )
    for name, s in rows(VISION)
}
NETS |= small_nets.all_nets(Net)
NETS |= {
    f"smp_{name.replace(':', '_').lower()}": Net(
        partial(smp.create_model, *name.split(":"), encoder_weights=None, classes=3),
        (1, 3, 192, 192), "segmenter", ("segmentation-models-pytorch",),
    )
    for name in SMP
}  # fmt: skip
NETS |= {
    name: Net(partial(make, name), (1, 3, 128, 128), family, ("torchvision",))
    for make, family, names in (
        (detection, "detector", "ssdlite320_mobilenet_v3_large retinanet_resnet50_fpn"),
        (segmentation, "segmenter", "deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large"),
    )
    for name in names.split()
}
NETS |= {
    name: Net(partial(volume, *made), (1, 1, CUBE, CUBE, CUBE), "volume", ("monai",))
    for name, made in MONAI.items()
}
NETS |= {
    f"cv_{name}": Net(
        partial(pytorchcv.model_provider.get_model, name), (1, 3, s, s), "classifier", ("pytorchcv",)
    )
    for name, s in rows(CV)
}
