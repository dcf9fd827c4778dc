"""What is evaluated: anything that makes saliency maps of images, and baselines that know no class."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from onnx_deconv.attribution.average import AVERAGES, Average
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.imaging import Layout, channels_first, saliency
from onnx_deconv.model import Array, Model
from onnx_deconv.operators import RuleTable
from onnx_deconv.semantics import Semantics

Maps = Callable[[Array, Sequence[int]], Array]
"""Takes N images as the model takes them, shape (N, ...), and a class for each; returns N saliency maps, not
negative, on the grid of the model's input: shape (N, H, W)."""


@dataclass(frozen=True)
class Method:
    """A way to make saliency maps, for any model.

    Attributes
    ----------
    name
        What tables call it; results in a journal are known by it.
    on
        Makes :data:`Maps` for a model, given the layout of its input; raises what is wrong with the two. It
        is called again for copies of the model with random weights.
    """

    name: str
    on: Callable[[Model, Layout], Maps]


def explanations(
    semantics: Semantics | RuleTable | str,
    *,
    layer: str | None = None,
    seed: SeedKind = "auto",
    name: str | None = None,
    **options: Any,
) -> Method:
    """Evaluate what an :class:`~onnx_deconv.attribution.explainer.Explainer` makes.

    A map is the saliency of the reconstruction, not cut off at any percentile. A reconstruction with numbers
    that are not finite counts as blank.

    Parameters
    ----------
    semantics
        The explainer's; ``auto`` is what it chooses by itself; or an average: ``smoothgrad``,
        ``integrated-gradients``.
    layer, seed
        As for :meth:`onnx_deconv.attribution.explainer.Explainer.__call__`.
    name
        By default the method's own, and whatever choice is not the default one.
    **options
        The explainer's: ``providers``, ``output``, ``labels``, ``kind``.

    Raises
    ------
    InputError
        If there is no such method.
    """
    if isinstance(semantics, str) and semantics in AVERAGES:
        return _averages(Average.of(semantics), options, name)
    chosen: Semantics | str = AUTO if semantics == AUTO else Semantics.of(semantics)
    words = [*_words(chosen), *([f"seed {seed}"] if seed != "auto" else []), *([layer] if layer else [])]

    def on(model: Model, layout: Layout) -> Maps:
        explainer = Explainer(model, chosen, **options)
        explainer.prepare(layer, seed=seed)
        return lambda images, targets: _maps(explainer, images, targets, layout, layer, seed)

    return Method(", ".join(words) if name is None else name, on)


def _averages(average: Average, options: Mapping[str, Any], name: str | None) -> Method:
    def on(model: Model, layout: Layout) -> Maps:
        explainer = Explainer(model, average=average, **options)
        explainer.prepare()
        return lambda images, targets: _maps(explainer, images, targets, layout, None, "auto")

    return Method(name or average.kind, on)


def method_of(method: "Method | RuleTable | str", explainer: Explainer) -> Method:
    """Return a baseline by its name, or the explanations of that name; a method is returned as it is.

    Explanations are of what an explainer explains.

    Raises
    ------
    InputError
        If nothing has that name.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in BASELINES:
        return BASELINES[method]
    return explanations(method, **explainer.options)


def centre_map(image: Array, _: int) -> Array:
    """Return a Gaussian at the centre of the picture, where photographers put things."""
    height, width = image.shape[1:]
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in (height, width))
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * _CENTRE**2)).astype(np.float32)


def edge_map(image: Array, _: int) -> Array:
    """Return the length of the gradient (Sobel) of an image's mean over channels; 0 at the border."""
    grey = image.mean(axis=0, dtype=np.float32)
    smooth, slope = (1, 2, 1), (-1, 0, 1)
    edges = np.zeros_like(grey)
    edges[1:-1, 1:-1] = np.hypot(_filtered(grey, smooth, slope), _filtered(grey, slope, smooth))
    return edges


def random_map(image: Array, target: int) -> Array:
    """Return noise, another one for each image and class."""
    rng = np.random.default_rng([target, zlib.crc32(image.tobytes())])
    return rng.random(image.shape[1:], np.float32)


def _baseline(name: str, draw: Callable[[Array, int], Array]) -> Method:
    def on(_: Model, layout: Layout) -> Maps:
        return lambda images, targets: np.stack(
            [draw(channels_first(i, layout), t) for i, t in zip(images, targets, strict=True)]
        )

    return Method(name, on)


_Taps = tuple[int, int, int]

_CENTRE = 0.18
"""Standard deviation of the Gaussian at the centre, as a fraction of the picture's sides."""

BASELINES: Mapping[str, Method] = MappingProxyType(
    {
        name: _baseline(name, draw)
        for name, draw in (("centre", centre_map), ("edges", edge_map), ("random", random_map))
    }
)
"""What any method has to be better than, by name. They read no model."""


def _maps(
    explainer: Explainer,
    images: Array,
    targets: Sequence[int],
    layout: Layout,
    layer: str | None,
    seed: SeedKind,
) -> Array:
    missing = -len(images) % (explainer.model.batch or 1)
    whole = np.concatenate([images, images[-1:].repeat(missing, axis=0)])
    found = explainer(whole, [*targets, *list(targets[-1:]) * missing], layer=layer, seed=seed)
    return np.stack([_map(channels_first(one.reconstruction, layout)) for one in found[: len(images)]])


def _words(semantics: Semantics | str) -> list[str]:
    """Name a method, then each choice that is not the default one."""
    if isinstance(semantics, str):
        return [semantics]
    others = {f.name: f.default for f in fields(semantics) if f.name not in ("rules", "cam", "cam_layer")}
    chosen = {name: getattr(semantics, name) for name in others}
    return [semantics.method, *(f"{name} {chosen[name]}" for name in others if chosen[name] != others[name])]


def _map(reconstruction: Array) -> Array:
    if not np.isfinite(reconstruction).all():
        return np.zeros(reconstruction.shape[1:], np.float32)
    return saliency(reconstruction, percentile=100)


def _filtered(image: Array, down: _Taps, across: _Taps) -> Array:
    """Filter by the product of two filters of three taps, without the border."""
    rows = down[0] * image[:-2] + down[1] * image[1:-1] + down[2] * image[2:]
    return np.asarray(across[0] * rows[:, :-2] + across[1] * rows[:, 1:-1] + across[2] * rows[:, 2:])
