"""The catalogue of measures: what each one says, which numbers are better, and where it comes from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from onnx_deconv.errors import InputError
from onnx_deconv.evaluation import measures
from onnx_deconv.evaluation.disturbances import JPEG_QUALITY, NOISE, SHIFT, compressed, noisy, shifted
from onnx_deconv.evaluation.localisation import TOLERANCE, pointing_game, rank_accuracy, share_inside
from onnx_deconv.evaluation.measures import Run, pair
from onnx_deconv.evaluation.perturbation import CONTENTLESS
from onnx_deconv.evaluation.randomisation import depths

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a method.

    Attributes
    ----------
    name
        What it is asked for by.
    about
        What its numbers say.
    better
        Which numbers are better.
    source
        The paper that it comes from, or nothing.
    numbers
        Names of the numbers that it yields for each case.
    run
        Measures a method on some cases.
    depth
        How many layers of the model have random weights; 0 for the model itself.
    """

    name: str
    about: str
    better: Better
    source: str
    numbers: tuple[str, ...]
    run: Run
    depth: int = 0


def measures_named(names: Iterable[str], layers: int) -> list[Measure]:
    """Look measures up by their names.

    Parameters
    ----------
    names
        Of :data:`MEASURES`, or ``cascade``: ``weights`` after more and more layers, as many measures as
        there are steps.
    layers
        How many layers with weights the model has.

    Raises
    ------
    InputError
        If there is no such measure.
    """
    found = dict[str, Measure]()
    for name in names:
        if name not in {*MEASURES, CASCADE}:
            raise InputError(f"there is no measure {name!r}: choose from {', '.join([*MEASURES, CASCADE])}")
        chosen = _cascade(layers) if name == CASCADE else [MEASURES[name]]
        found |= {measure.name: measure for measure in chosen}
    return list(found.values())


def _cascade(layers: int) -> list[Measure]:
    names = {depth: _WEIGHTS if depth == 1 else f"{_WEIGHTS}-{depth}" for depth in depths(layers)}
    return [_weights(name, depth) for depth, name in names.items()]


def _weights(name: str, depth: int) -> Measure:
    last = "the last layer has" if depth == 1 else f"the last {depth} layers have"
    about = f"correlation with the map where {last} random weights"
    run = measures.weight_dependence(name, depth)
    return Measure(name, about, "lower", "Adebayo et al. 2018", pair(name), run, depth)


CASCADE, _WEIGHTS = "cascade", "weights"
_INSERTION, _DELETION = (
    tuple(f"{kind}_{name}" for name in CONTENTLESS) for kind in ("insertion", "deletion")
)
_ALL = (
    Measure(
        "blank", "share of maps that show nothing", "lower", "", ("blank",), measures.blank,
    ),
    Measure(
        "pointing",
        f"the map's peak lies on the object, or within {TOLERANCE:.0f} pixels of it",
        "higher",
        "Zhang et al. 2018",
        ("pointing", "pointing_tolerant"),
        measures.localisation(
            pointing=pointing_game, pointing_tolerant=partial(pointing_game, tolerance=TOLERANCE)
        ),
    ),
    Measure(
        "energy",
        "share of the map that lies on the object",
        "higher",
        "Wang et al. 2020, Arras et al. 2022",
        ("energy",),
        measures.localisation(energy=share_inside),
    ),
    Measure(
        "rank",
        "share of the strongest pixels that lie on the object",
        "higher",
        "Arras et al. 2022",
        ("rank",),
        measures.localisation(rank=rank_accuracy),
    ),
    Measure(
        "insertion",
        "mean probability while pixels are put in, the most salient first",
        "higher",
        "Petsiuk et al. 2018",
        _INSERTION,
        measures.perturbation("insertion"),
    ),
    Measure(
        "deletion",
        "mean probability while pixels are taken out, the most salient first",
        "lower",
        "Petsiuk et al. 2018",
        _DELETION,
        measures.perturbation("deletion"),
    ),
    Measure(
        "image",
        "correlation with the map of another photograph for the same class",
        "lower",
        "",
        pair("image"),
        measures.image_dependence,
    ),
    Measure(
        "class",
        "correlation with the map of the same photograph for an unrelated class",
        "lower",
        "Sixt et al. 2020",
        pair("class"),
        measures.class_dependence,
    ),
    _weights(_WEIGHTS, 1),
    Measure(
        "noise",
        f"correlation with the map after noise of {NOISE:.0%} of the range",
        "higher",
        "Ghorbani et al. 2019",
        pair("noise"),
        measures.stability("noise", noisy),
    ),
    Measure(
        "shift",
        f"correlation with the map after a shift by {SHIFT[0]} pixels down and {SHIFT[1]} to the right",
        "higher",
        "Crabbé & van der Schaar 2023",
        pair("shift"),
        measures.stability("shift", shifted),
    ),
    Measure(
        "jpeg",
        f"correlation with the map after compression as JPEG of quality {JPEG_QUALITY}",
        "higher",
        "",
        pair("jpeg"),
        measures.stability("jpeg", compressed),
    ),
    Measure(
        "sparsity",
        "Gini index: 0 is even, 1 is all on one pixel",
        "neither",
        "Chalasani et al. 2020",
        ("gini",),
        measures.sparsity,
    ),
)  # fmt: skip
MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
"""All measures but the cascade, which takes longest, by name."""
