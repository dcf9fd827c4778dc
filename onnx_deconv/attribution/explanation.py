"""What an explanation is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onnx_deconv.attribution import notebook
from onnx_deconv.attribution.average import Average
from onnx_deconv.attribution.shown import Drawn, Shown
from onnx_deconv.attribution.standing import Equals, Standing
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    ON_PHOTO,
    Image,
    PathLike,
    Scales,
    as_image,
    png,
    save_npy,
    save_picture,
    save_sheet,
)
from onnx_deconv.model import Array
from onnx_deconv.semantics import Semantics

_SAID = {"yes": "", "hardly": " (hardly about the photograph)", "no": " (not about the photograph)"}
"""What a caption says of a method, by whether its picture depends on the photograph."""
SHEET = "side-by-side"


_CALLED = {"image": "channel", "embedding": "dimension", "regression": "number", "numbers": "number"}
"""What outputs that are no scores of classes hold, for people."""


@dataclass(frozen=True)
class Explanation:
    """What excited one unit in one image.

    Where it was made by :meth:`~onnx_deconv.attribution.explainer.Explainer.explain`, it knows its photograph
    and can be looked at: in a notebook by itself, else by ``heat``, ``overlay``, ``projection``,
    ``side_by_side``, ``show()`` and ``save(path)``.

    Attributes
    ----------
    image
        Index of the image in the batch.
    layer
        The value that the explanation started from.
    channel
        The unit's channel; for scores, the class.
    label
        The channel's name, where the explained value is the scores and labels are known.
    score
        For scores: the model's own output for the class (a probability where the model ends in a
        Softmax); for other values: the activation (the map's strongest where no position is given; of a class
        that a softmax compares with others at each position, the logarithm of its best odds against these;
        before a sigmoid it is this logarithm, too). ``standing.probability`` is the probability.
    position
        The unit's position in the feature map, chosen or the map's strongest; ``None`` for scores or a
        whole map.
    seed
        Which seed was used (see :data:`onnx_deconv.attribution.seed.SeedKind`).
    reconstruction
        Shape of one image as the model takes it (C, H, W or H, W, C), float32; for a model with several
        explained inputs, that of the first.
    reconstructions
        All reconstructions by input name, each without the batch axis. An input that all images of a batch
        share has one where there was one image.
    standing
        Where the channel stands among all in this image: its rank, and its probability.
    equals
        How many others are exactly as strong, where it was chosen for its strength.
    note
        A remark for the reader: that what is explained is, more likely than not, not there; that the signal
        became zero before it reached the input, at which node, and what was explained in its place; that
        others are as strong; that the picture does not, or hardly, depend on the image; else ``None``.
        ``standing.warning`` says whether the model hardly sees the class in it.
    semantics
        All choices that it was made with.
    depends
        Whether the picture depends on the image: ``yes``, ``hardly`` or ``no``, see
        :class:`~onnx_deconv.compiler.dependence.ImageDependence`.
    output, kind
        The model's output that was explained, and what it is (see :data:`~onnx_deconv.model.head.Head`);
        ``None`` for layers.
    words
        What was explained, where it is more than one class or channel: ``tabby - tiger cat``.
    place
        Where in its map it was explained, if in a region or a mask.
    average
        What it is the mean of; ``None`` for a single pass.
    survived
        The share of the signal's energy that the narrowest rectifier let through, see
        :class:`~onnx_deconv.runtime.Survival`; ``None`` where that was not measured.
    shown
        What was explained, and how the model saw it: a photograph, a signal, a volume; ``None`` where the
        explainer was called with arrays, or there is nothing to draw.
    drawn
        The same for each input that can be drawn, by name; :meth:`of_input` chooses one of them.
    """

    image: int
    layer: str
    channel: int
    label: str | None
    score: float
    position: tuple[int, ...] | None
    seed: str
    reconstruction: Array = field(repr=False)
    reconstructions: Mapping[str, Array] = field(repr=False)
    standing: Standing = field(repr=False)
    equals: Equals = field(default=Equals(), repr=False)
    note: str | None = None
    semantics: Semantics = field(default_factory=Semantics, repr=False)
    depends: str = "yes"
    output: str | None = None
    kind: str | None = None
    words: str | None = None
    place: str | None = None
    average: Average | None = field(default=None, repr=False, compare=False)
    survived: float | None = field(default=None, repr=False)
    shown: Shown | None = field(default=None, repr=False, compare=False)
    drawn: Mapping[str, Shown] = field(default_factory=dict, repr=False, compare=False)

    @property
    def array(self) -> Array:
        """The reconstruction, float32, shaped as the model takes one image."""
        return self.reconstruction

    @property
    def name(self) -> str:
        """What is explained, for people: ``tabby``, ``class 281``, ``conv4 channel 17 at 6,6``."""
        if self.words is not None or self.place is not None:
            return ", ".join(filter(None, (self.words or self.of_one, self.place)))
        return self.of_one

    @property
    def of_class(self) -> bool:
        """Whether a class is explained; an image's channel or a regression's number is none."""
        return self.standing.of_class and self.kind not in _CALLED

    @property
    def of_one(self) -> str:
        """The name of the class, or of the unit or channel of a layer, without the place in its map."""
        if self.standing.of_class:
            spoken = (self.label or "").partition(",")[0].strip()
            return spoken or f"{_CALLED.get(self.kind or '', 'class')} {self.channel}"
        position = "" if self.position is None else f" at {','.join(map(str, self.position))}"
        return f"{self.standing.asked} channel {self.channel}{position}"

    @property
    def method(self) -> str:
        """What made it, see :attr:`~onnx_deconv.semantics.Semantics.method`."""
        method = self.semantics.method
        return method if self.average is None else self.average.method(method)

    @property
    def made_by(self) -> str:
        """The method, for a caption, with its :attr:`reservation`."""
        return f"{self.method}{self.reservation}"

    @property
    def reservation(self) -> str:
        """What a caption adds where the picture is hardly, or not, about the photograph."""
        return _SAID[self.depends]

    def of_input(self, name: str) -> "Explanation":
        """Return the same explanation, with the reconstruction and the pictures of one input.

        Raises
        ------
        InputError
            If nothing was sent back to an input of this name.
        """
        if name not in self.reconstructions:
            raise InputError(
                f"input {name!r}: there are reconstructions of {', '.join(self.reconstructions)}"
            )
        return replace(self, reconstruction=self.reconstructions[name], shown=self.drawn.get(name))

    @property
    def is_empty(self) -> bool:
        """Whether the reconstruction is zero everywhere."""
        return not any(r.any() for r in self.reconstructions.values())

    @property
    def heat(self) -> Image:
        """The saliency as a heat map, on the photograph's own grid."""
        return as_image(self.views()["heat"])

    @property
    def overlay(self) -> Image:
        """The heat map over the photograph."""
        return as_image(self.views()["overlay"])

    @property
    def projection(self) -> Image:
        """The reconstruction in colour, zero mid-grey, on the photograph's own grid."""
        return as_image(self.views()[ON_PHOTO])

    @property
    def side_by_side(self) -> Image:
        """What the model saw, the projection, the heat map and the overlay on one sheet, with captions."""
        return as_image(self.views()[SHEET])

    @property
    def caption(self) -> str:
        """What is explained, its score, and a class's rank unless it is the first: ``tabby, 0.94``."""
        rank = f", {self.standing.words}" if self.standing.of_class and self.standing.is_behind else ""
        return f"{self.name}, {self.score:.3g}{self.standing.beside(self.score)}{rank}{self.equals.words}"

    def views(self, scales: Scales | None = None) -> Drawn:
        """Return all pictures as arrays, by the names in :data:`onnx_deconv.imaging.VIEWS`.

        Parameters
        ----------
        scales
            The magnitudes at full brightness, for pictures that are compared; by default its own.

        Raises
        ------
        InputError
            If nothing that can be drawn belongs to the explanation, or its numbers are not finite.
        """
        if self.shown is None:
            raise InputError("arrays alone have no photograph to draw on: explain them by Explainer.explain")
        if not np.isfinite(self.reconstruction).all():
            raise InputError(f"{self.name}: {self.note}")
        captions = (self.shown.name, self.caption, f"{self.made_by}, saliency", "overlay")
        badge = f"{self.score:.2g}, {self.standing.words}" if self.standing.improbable else None
        return self.shown.views(self.reconstruction, captions, badge, scales)

    def save(self, path: PathLike, view: str = SHEET) -> None:
        """Write a picture, or the numbers.

        Parameters
        ----------
        path
            Its suffix says what is written: ``.png``, ``.jpg``, ``.webp``; ``.svg`` or ``.pdf``, with
            captions as text, for the side-by-side sheet; ``.npy`` for the reconstruction.
        view
            A name in :data:`onnx_deconv.imaging.VIEWS`.

        Raises
        ------
        InputError
            If the suffix is another, or the file cannot be written.
        """
        if Path(path).suffix.lower() == ".npy":
            save_npy(path, self.reconstruction)
        elif view == SHEET:
            save_sheet(path, self.views().sheet())
        else:
            save_picture(path, self.views()[view])

    def show(self) -> None:
        """Show it: in a notebook's cell, else in the system's picture viewer."""
        if not notebook.displayed(self):
            self.side_by_side.show()

    def _repr_png_(self) -> bytes | None:
        return None if self.shown is None else png(self.views()[SHEET])

    def _repr_html_(self) -> str:
        picture = None if self.shown is None else self.views()[SHEET]
        return notebook.figure(picture, self.caption, self._facts())

    def _facts(self) -> dict[str, str]:
        """Return what a reader has to know of it, for people."""
        standing = self.standing
        labelled = standing.of_class and self.label is not None
        beside = standing.beside(self.score)
        of_class = "score" if standing.probability is None or beside else "probability"
        facts = {
            "explained": f"{self.label} (class {self.channel})" if labelled else self.name,
            of_class if standing.of_class else "activation": f"{self.score:.3g}{beside}",
            **({} if standing.rank is None else {"rank": f"{standing.rank} of {standing.among}"}),
            "method": f"{self.method}, seed {self.seed}, from {self.layer}",
        }
        if self.shown is not None and self.shown.assumed is not None:
            facts["preprocessing"] = f"{self.shown.assumed}, which was assumed: is the class right?"
        noted = "; ".join(filter(None, (self.note, self.standing.warning)))
        return facts | ({"note": noted} if noted else {})
