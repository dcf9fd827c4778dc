"""Explain photographs: what ``explain`` does, without the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.seed import Place, SeedKind
from onnx_deconv.attribution.shown import Shown
from onnx_deconv.attribution.target import moved
from onnx_deconv.imaging import InputAxes, Photo
from onnx_deconv.receptive import receptive_field


@dataclass(frozen=True)
class Target:
    """What to explain in each photograph.

    Attributes
    ----------
    targets
        Classes or channels, by index or label; empty for the ``top`` strongest.
    layer, position, top, seed
        As for :meth:`onnx_deconv.attribution.explainer.Explainer.__call__`.
    """

    targets: Sequence[int | str] = ()
    layer: str | None = None
    position: Place = None
    top: int = 1
    seed: SeedKind = "auto"


def explain_photos(
    explainer: Explainer,
    photos: Sequence[Photo],
    target: Target,
    axes: InputAxes | None = None,
    names: Sequence[str] = (),
    assumed: str | None = None,
) -> list[list[Explanation]]:
    """Explain photographs of one size together.

    Parameters
    ----------
    explainer
        For the model.
    photos
        At most as many as the model takes at once; where that number is fixed, fewer will do.
    target
        What to explain.
    axes
        How the model's input lies: the preprocessing. Without it the explanations have no pictures.
    names
        What captions call the photographs.
    assumed
        The preset that was assumed, for want of anything that says how pixels become numbers.

    Returns
    -------
    list
        For each photograph its explanations: in the order of the target's channels, or strongest first.

    Raises
    ------
    InputError
        If the target or a photograph does not fit the model.
    """
    missing = max(0, (explainer.model.batch or 0) - len(photos))
    batch = np.stack([p.tensor for p in photos] + [photos[-1].tensor] * missing)
    found: list[list[Explanation]] = [[] for _ in range(len(photos) + missing)]
    asked: Sequence[int | str | None] = target.targets or [None]
    how: dict[str, Any] = {"layer": target.layer, "position": target.position, "seed": target.seed}
    for each in asked:
        there: Any = each
        if isinstance(each, str) and not explainer.labels.names.count(each):
            there = [moved(each, partial(_in_input, p)) for p in [*photos, *[photos[-1]] * missing]]
        for one in explainer(batch, there, top=1 if target.targets else target.top, **how):
            found[one.image].append(one)
    if axes is None:
        return found[: len(photos)]
    named = names or ["photograph"] * len(photos)
    return [
        [replace(one, shown=_shown(explainer, one, photo, axes, name, assumed)) for one in each]
        for each, photo, name in zip(found, photos, named, strict=False)
    ]


def _shown(
    explainer: Explainer, one: Explanation, photo: Photo, axes: InputAxes, name: str, assumed: str | None
) -> Shown:
    box = None
    if not one.standing.of_class and one.position is not None:
        size, asked = photo.geometry.size, one.standing.asked
        box = receptive_field(explainer.model, asked, size=size, layout=axes.layout).box(one.position)
    return Shown(photo, axes.layout, axes.channels, name, box, assumed)


def _in_input(photo: Photo, x: float, y: float) -> tuple[float, float]:
    """Return where a photograph's point is in the model's input."""
    top, left, bottom, right = photo.geometry.box_in_input((y, x, y + 1, x + 1))
    return (left + right) / 2, (top + bottom) / 2
