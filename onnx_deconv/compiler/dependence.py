"""Whether a reconstruction depends on the image at all, and through what.

A deconvnet rectifies the signal whatever the forward pass was: without max pools nothing of the image takes
part, and every photograph gives the same picture (Nie, Zhang & Patel 2018, "A Theoretical Explanation for
Perplexing Behaviors of Backpropagation-based Visualizations"; Mahendran & Vedaldi 2016, "Salient
Deconvolutional Networks").
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx_graphsurgeon as gs

from onnx_deconv.operators import Tap, traits_of
from onnx_deconv.operators.traits import FILTER, POOL, SWITCHES
from onnx_deconv.semantics import Semantics

ENOUGH = 0.5
"""The share of the halvings of the image's size that max pools must do for their switches to tie a picture
to it. Measured between two photographs: SqueezeNet 1.1 (3 of 4) 0.16, ResNets (1 of 5) 0.92."""

FINE = 1 / 16
"""The share of the image's positions that a map must have to bring the image in where all of it is sent back.
Two photographs' pictures correlate at most 0.19 where it has this share or more, 0.43 at 1/64, 0.63 to 0.97
at 1/256 or less (deconvnets of MobileNetV2 and EfficientNet-lite0)."""

_ACTIVATIONS = {"rectifiers", "activations", "class activation map"}
_GRAD_CAM = "any rules times grad-cam do"


@dataclass(frozen=True)
class ImageDependence:
    """How a reconstruction depends on the image.

    Attributes
    ----------
    depends
        ``yes``, ``hardly`` or ``no``.
    through
        What of the forward pass takes part: ``activations`` (all, in tables of relevance), ``map`` (that is
        sent back), ``rectifiers``, ``switches``, ``values`` (of gates and normalisations), ``class map``,
        ``class activation map``.
    note
        One line for whoever looks at the picture; ``None`` where it depends.
    """

    depends: Literal["yes", "hardly", "no"]
    through: tuple[str, ...]
    note: str | None = None

    @property
    def reads_activations(self) -> bool:
        """Whether the image's activations stop or weigh the signal: what is left is about the image then."""
        return not _ACTIVATIONS.isdisjoint(self.through)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "ImageDependence":
        """Read it from a manifest; pairs of earlier versions do not tell."""
        told = manifest.get("image_dependence", {"depends": "yes", "through": (), "note": None})
        return cls(told["depends"], tuple(told["through"]), told["note"])

    def as_dict(self) -> dict[str, Any]:
        """Return it for a manifest."""
        return {"depends": self.depends, "through": list(self.through), "note": self.note}


def image_dependence(
    semantics: Semantics,
    path: Sequence[gs.Node],
    taps: Collection[Tap],
    *,
    rectifies: bool,
    reads_rectifiers: bool,
) -> ImageDependence:
    """Tell how a companion's reconstruction depends on the image, from what it reads.

    Parameters
    ----------
    semantics
        The choices that the companion was made with.
    path
        The forward nodes between the image and the explained value.
    taps
        The forward values that the companion reads.
    rectifies
        Whether anything between them rectifies.
    reads_rectifiers
        Whether the rule of what does read forward values.
    """
    kinds = {tap.kind for tap in taps}
    share = pooled_share(path)
    shared_out = semantics.table.conserves and "value" in kinds
    told = {
        "activations": shared_out,
        "rectifiers": reads_rectifiers,
        "class activation map": semantics.cam != "none",
        "switches": "switches" in kinds,
        "class map": semantics.head == "class-map",
        "values": "value" in kinds and not (reads_rectifiers or shared_out or semantics.reads_feature_maps),
    }
    through = tuple(name for name, applies in told.items() if applies)
    if not through and not rectifies:
        note = "nothing below rectifies: the picture is the unit's own filter, whatever the image"
        return ImageDependence("no", through, note)
    if not through:
        note = f"{semantics.method} does not depend on the image here: no forward value takes part"
        return ImageDependence("no", through, f"{note}; {_way(semantics)}")
    if reads_rectifiers or shared_out or semantics.cam != "none" or ("switches" in kinds and share >= ENOUGH):
        return ImageDependence("yes", through)
    what = [_SAID[name].format(round(100 * share)) for name in through]
    note = f"{semantics.method} hardly depends on the image here: only through {' and '.join(what)}"
    return ImageDependence("hardly", through, f"{note}; {_way(semantics)}")


def _way(semantics: Semantics) -> str:
    """Say what depends on the image where the chosen method does not."""
    return _GRAD_CAM if semantics.method == "guided" else f"guided does, and {_GRAD_CAM}"


def of_a_map(semantics: Semantics, share: float = 0.0) -> ImageDependence:
    """Tell the same of a reconstruction that starts from a whole feature map with its activations.

    Parameters
    ----------
    semantics
        The choices that the companion was made with.
    share
        How many positions the map has, as a share of the image's.
    """
    if share >= FINE:
        return ImageDependence("yes", ("map",))
    note = f"{semantics.method} hardly depends on the image here: only through the map it starts from"
    return ImageDependence("hardly", ("class map",), f"{note}; {_way(semantics)}")


_SAID = {
    "switches": "the switches of max pools that do {} % of the downsampling",
    "class map": "the class's own map",
    "values": "gates or normalisations",
}


def pooled_share(path: Sequence[gs.Node]) -> float:
    """Return what share of the downsampling on a path max pools do, from 0 to 1.

    Where nothing is downsampled it is 1 if there is a max pool, else 0.
    """
    steps: dict[str, tuple[float, float]] = {}
    for node in path:
        reached = max((steps[v.name] for v in node.inputs if v.name in steps), default=(0.0, 0.0))
        traits = traits_of(node)
        strides = node.attrs.get("strides") if traits & {FILTER, POOL} else None
        step = math.log2(math.prod(strides)) / len(strides) if strides else 0.0
        after = reached[0] + step, reached[1] + (step if SWITCHES in traits else 0.0)
        steps |= {v.name: after for v in node.outputs}
    whole, pooled = steps[path[-1].outputs[0].name]
    pools = any(SWITCHES in traits_of(node) for node in path)
    return pooled / whole if whole > 0 else float(pools)
