"""What the page of ``onnx-deconv explore`` shows: a model's layers, photographs, and explanations."""

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from onnx_deconv.atlas.reader import Reader
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.features import Features
from onnx_deconv.attribution.photographs import Selection, explain_photos
from onnx_deconv.attribution.recent import Recent
from onnx_deconv.attribution.seed import as_strong
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.figures import draw_occlusion
from onnx_deconv.experiments.occlusion import Occlusion, occlusion
from onnx_deconv.imaging import (
    Geometry,
    Photo,
    Picture,
    Preprocess,
    SheetLayout,
    at_most,
    png,
    read_image,
    size_of,
)
from onnx_deconv.model import Array
from onnx_deconv.model.ranking import before_limit
from onnx_deconv.serving.glances import Glances, bright
from onnx_deconv.serving.nine import Nine
from onnx_deconv.serving.photographs import read_photograph

OCCLUSION = "occlusion"
METHODS = (
    "auto", "deconvnet", "guided", "gradient", "grad-cam", "guided*grad-cam", "excitation", "lrp", OCCLUSION,
)  # fmt: skip
"""What a photograph can be explained with, side by side; ``auto`` is what suits model and target."""
CAMS = ("grad-cam", "guided*grad-cam")
"""Those of them that may name a layer, as in ``grad-cam@conv3``: that of the class activation map."""
_STRIDES = 14
"""The square that hides parts of a photograph moves by its shorter side over this."""
_CLASSES = 10
_THUMBNAIL = 56
"""Pixels of a feature map's longer side, at most, in the overview."""
_MAPS = 512
"""How many feature maps an overview has, at most; the strongest come first."""
_IMAGE_AXES = 2
_VIEWS = ("overlay", "projection", "heat")
_KEPT_PHOTOGRAPHS, _KEPT_SESSIONS, _KEPT_EXPLANATIONS, _KEPT_GLANCES = 32, 6, 32, 3
_Value = TypeVar("_Value")


class Asked(NamedTuple):
    """What is explained of a photograph.

    Attributes
    ----------
    photograph
        Its identifier.
    method
        One of :data:`METHODS`, or of :data:`CAMS` with a layer.
    layer
        A layer's name; ``None`` for classes.
    target
        A class or a channel, as ``--target`` takes it; ``None`` for the strongest.
    position
        Of a unit in its feature map; ``None`` for the whole map.
    """

    photograph: str
    method: str = "auto"
    layer: str | None = None
    target: str | None = None
    position: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Photograph:
    """A photograph that can be explained.

    Attributes
    ----------
    id
        What addresses call it.
    name
        Of its file, for people.
    path
        Where the file is, if it is one of this machine.
    """

    id: str
    name: str
    path: Path | None = None


class Hidden(NamedTuple):
    """What came of hiding parts of a photograph, and the sheet that shows it."""

    found: Occlusion
    sheet: SheetLayout


class Exploration:
    """Answers what the page asks; calls from several threads may run at once.

    Parameters
    ----------
    make
        Makes an explainer of the model by a method's name.
    preprocess
        How photographs become its input.
    photographs
        Files to begin with.
    pixels
        Pixels of a photograph, at most.
    atlas
        What is shown beside feature maps: a finished atlas of the model.

    Raises
    ------
    InputError
        If the atlas was made of another model.
    """

    def __init__(
        self,
        make: Callable[[str], Explainer],
        preprocess: Preprocess,
        photographs: Sequence[Path] = (),
        pixels: int = 25_000_000,
        atlas: Reader | None = None,
    ) -> None:
        self._make, self._preprocess, self._pixels = make, preprocess, pixels
        self.explainer = make("auto")
        self._given = [Photograph(f"file{k}", path.name, path) for k, path in enumerate(photographs)]
        self._sent: OrderedDict[str, tuple[Photograph, Photo]] = OrderedDict()
        self._explainers, self._features = _Once(_KEPT_SESSIONS), _Once(_KEPT_SESSIONS)
        self._explained, self._seen = _Once(_KEPT_EXPLANATIONS), _Once(_KEPT_PHOTOGRAPHS)
        self._measured = _Once(_KEPT_EXPLANATIONS)
        self._glances = _Once(_KEPT_GLANCES)
        self._nine = None if atlas is None else Nine(atlas, self.explainer.model)
        self._lock = threading.Lock()

    def model(self) -> dict[str, Any]:
        """Describe the model: its layers from the image to the scores, the methods, and what needs room."""
        model = self.explainer.model
        inspection = inspect_model(model, None, None, self.explainer.head.output)
        layers = [
            {"layer": each.layer, "operator": each.operator, "shape": each.shape, "number": each.number}
            for each in inspection.layers
            if each.rule is not None and len(each.shape or ()) > 1
        ]
        count = self.explainer.classes or _CLASSES
        return {
            "name": Path(model.name).name,
            "layers": layers,
            "methods": METHODS,
            "cams": CAMS,
            "atlas": self._nine is not None,
            "size": self._preprocess.size,
            "classes": {"count": min(count, _CLASSES), "are_named": bool(self.explainer.labels.names)},
        }

    def photographs(self) -> list[dict[str, str]]:
        """List the photographs."""
        with self._lock:
            known = [*self._given, *(each for each, _ in self._sent.values())]
        return [{"id": each.id, "name": each.name} for each in known]

    def add(self, file: bytes, name: str, instead: str | None = None) -> dict[str, str]:
        """Take a photograph that was sent; the oldest of many are forgotten.

        Parameters
        ----------
        file, name
            Its bytes, and what people call it.
        instead
            The identifier of one that was sent before, and is forgotten now: the last frame of a film.

        Raises
        ------
        InputError
            If it cannot be read, or is too large.
        """
        photo = self._prepared(read_photograph(file, self._pixels))
        identifier = hashlib.sha256(file).hexdigest()[:16]
        with self._lock:
            self._sent.pop(instead or "", None)
            self._sent[identifier] = Photograph(identifier, name), photo
            while len(self._sent) > _KEPT_PHOTOGRAPHS:
                self._sent.popitem(last=False)
        return {"id": identifier, "name": name}

    def seen(self, identifier: str) -> bytes:
        """Return what the model sees of a photograph, as PNG."""
        return png(self._photo(identifier).picture)

    def classes(self, identifier: str) -> list[dict[str, Any]]:
        """List the strongest classes of a photograph; where none comes first, the first."""
        scores = self.explainer.scores(self._batch(identifier))[0]
        ranked = np.argsort(-scores, kind="stable")
        best = (ranked if self.explainer.undecided is None else np.arange(len(scores)))[:_CLASSES]
        names = self.explainer.labels
        return [{"class": int(k), "label": names.name(int(k)), "score": float(scores[k])} for k in best]

    def maps(self, identifier: str, layer: str) -> dict[str, Any]:
        """Draw a layer's feature maps of a photograph, the strongest first, on one sheet.

        The brightness of all is to one scale: that of the layer's largest activation.
        """
        name = self.explainer.model.layer(layer)
        features = self._features.get(name, lambda: Features(self.explainer, [name]))
        values = features(self._batch(identifier)).features[name][0]
        strengths = values.reshape(len(values), -1).max(axis=1)
        order = np.argsort(-strengths, kind="stable")[:_MAPS]
        largest = float(strengths.max())
        found: dict[str, Any] = {
            "layer": name,
            "count": len(values),
            "size": list(values.shape[1:]),
            "equals": int((strengths == largest).sum()) - 1 if largest else 0,
            "told_apart": before_limit(self.explainer.model, name),
            "maps": [
                {
                    "channel": int(k),
                    "strength": float(strengths[k]),
                    "equals": as_strong(values[k]) if strengths[k] else 0,
                    "position": [int(i) for i in np.unravel_index(values[k].argmax(), values[k].shape)],
                }
                for k in order
            ],
        }
        if values.ndim == 1 + _IMAGE_AXES:
            cells = [at_most(bright(values[k], largest), _THUMBNAIL) for k in order]
            columns = int(np.ceil(np.sqrt(len(cells))))
            found |= {
                "columns": columns,
                "cell": list(cells[0].shape[:2]),
                "sheet": _url(_sheet(cells, columns)),
            }
        return found

    def map(self, photograph: str, layer: str, channel: int) -> bytes:
        """Draw one feature map as PNG, one pixel for each position."""
        return png(self.glanced(photograph, layer, "auto").map(channel))

    def glance(self, asked: Asked) -> dict[str, Any]:
        """Draw what excited one unit, as fast as can be: the photograph has run forward before.

        Raises
        ------
        DeconvError
            If a layer, a channel by its number, and a position are not all told, or do not exist.
        """
        if asked.layer is None or asked.position is None or not (asked.target or "").isdecimal():
            raise InputError("tell a layer, the number of a channel, and a position")
        found = self.glanced(asked.photograph, asked.layer, asked.method).at(
            int(asked.target or ""), asked.position
        )
        return {
            "activation": found.activation,
            "field": list(found.field),
            "projection": _url(found.projection),
        }

    def glanced(self, photograph: str, layer: str, method: str) -> Glances:
        """Run a photograph forward to a layer, or remember that it was."""
        if method not in METHODS or method == OCCLUSION:
            method = "auto"
        return self._glances.get(
            (photograph, layer, method),
            lambda: Glances(self._explainer(method, layer), self._photo(photograph), layer, self._preprocess),
        )

    def nine(self, layer: str, channel: int) -> list[dict[str, Any]]:
        """Show what the atlas holds of a feature map, the strongest first; nothing without an atlas."""
        found = [] if self._nine is None else self._nine.of(self.explainer.model.layer(layer), channel)
        return [each | {kind: _url(each[kind]) for kind in ("projection", "patch")} for each in found]

    def explain(self, asked: Asked) -> Explanation:
        """Explain a photograph, or remember how it was.

        Raises
        ------
        DeconvError
            If there is no such layer, class, position or photograph, or the method cannot explain it.
        """
        return self._explained.get(asked, lambda: self._explain(asked))

    def picture(self, asked: Asked, view: str) -> Picture:
        """Draw one view of an explanation."""
        return self.sheet(asked).picture() if asked.method == OCCLUSION else self.explain(asked).views()[view]

    def sheet(self, asked: Asked) -> SheetLayout:
        """Lay out the side-by-side sheet of an explanation, or the figure of an occlusion."""
        return self.hidden(asked).sheet if asked.method == OCCLUSION else self.explain(asked).views().sheet()

    def array(self, asked: Asked) -> Array:
        """Return an explanation's numbers: the reconstruction, or a class's score by what is hidden."""
        return self.hidden(asked).found.scores if asked.method == OCCLUSION else self.explain(asked).array

    def hidden(self, asked: Asked) -> "Hidden":
        """Hide parts of a photograph, one after the other, and measure a class; or remember how it was.

        Raises
        ------
        DeconvError
            If something else than one class is asked for, or there is no such class.
        """
        if asked.layer is not None:
            raise InputError("occlusion follows a class, not a layer: choose a class")
        return self._explained.get(asked, lambda: self._hide(asked))

    def explanation(self, asked: Asked) -> dict[str, Any]:
        """Draw an explanation, and say what there is to know of it."""
        if asked.method == OCCLUSION:
            return self._occlusion(asked)
        one, photo = self.explain(asked), self._photo(asked.photograph)
        views, box = one.views(), None if one.shown is None else one.shown.box
        projection = views["projection"]
        return {
            "name": one.name,
            "caption": one.caption,
            "method": one.method,
            "note": _noted(one),
            "note_follows": self._explainer(asked.method, asked.layer).may_be_leftovers(
                one.layer, one.semantics
            ),
            "field": None if box is None else list(box),
            "is_wide": False,
            "inside": [_url(inside) for inside in _inside(box, [photo.picture, projection])],
            "size": list(photo.geometry.size),
            "pictures": {view: _url(views[view]) for view in _VIEWS},
        }

    def note(self, asked: Asked) -> str | None:
        """Say all that there is to note of an explanation: also whether it shows leftovers of the signal.

        Measuring that takes longer than explaining; nobody has to wait for it to see the picture.
        """
        return _noted(self._measured.get(asked, lambda: self._explain(asked, measures=True)))

    def _occlusion(self, asked: Asked) -> dict[str, Any]:
        """Say of an occlusion what there is to know of other explanations."""
        found, sheet = self.hidden(asked)
        name = self.explainer.labels.spoken(found.target)
        least = float(found.probabilities_or_scores.min())
        return {
            "name": name,
            "caption": f"{name}, {found.probability_or_score:.3g}, with a part hidden down to {least:.3g}",
            "method": OCCLUSION,
            "note": None,
            "note_follows": False,
            "field": None,
            "inside": [],
            "is_wide": True,
            "size": list(self._photo(asked.photograph).geometry.size),
            "pictures": dict.fromkeys(_VIEWS, _url(sheet.picture())),
            "options": [f"--stride={found.stride}"],
        }

    def _hide(self, asked: Asked) -> "Hidden":
        photo = self._photo(asked.photograph)
        stride = max(1, min(photo.geometry.size) // _STRIDES)
        target = int(asked.target) if asked.target and asked.target.isdecimal() else asked.target
        found = occlusion(
            self.explainer, photo.tensor, stride=stride, target=target, preprocess=self._preprocess
        )
        ((projected,),) = explain_photos(self.explainer, [photo], Selection([found.channel], found.layer))
        labels = self.explainer.labels
        made = projected.reconstruction, projected.made_by
        return Hidden(found, draw_occlusion(found, photo, *made, self._preprocess, labels))

    def name_of(self, identifier: str) -> str:
        """Return a photograph's path if it is a file of this machine, else its name."""
        known = self._known(identifier)
        return known.name if known.path is None else str(known.path)

    def _explain(self, asked: Asked, *, measures: bool = False) -> Explanation:
        name, _, cam_layer = asked.method.partition("@")
        if name not in (CAMS if cam_layer else METHODS):
            raise InputError(f"no method is named {asked.method!r}: choose one of {', '.join(METHODS)}")
        explainer = self._explainer(asked.method, asked.layer)
        explainer = explainer.measuring() if measures else explainer
        targets = [] if asked.target is None else [asked.target]
        selection = Selection([int(t) if t.isdecimal() else t for t in targets], asked.layer, asked.position)
        names = [self._known(asked.photograph).name]
        ((one,),) = explain_photos(
            explainer, [self._photo(asked.photograph)], selection, self._preprocess, names
        )
        if not np.isfinite(one.reconstruction).all():
            raise InputError(f"{one.name}: {one.note}")
        return one

    def _explainer(self, method: str, layer: str | None) -> Explainer:
        """Make an explainer of a method ready, or remember it."""
        return self._explainers.get((method, layer), lambda: self._make(method))

    def _known(self, identifier: str) -> Photograph:
        with self._lock:
            sent = self._sent.get(identifier)
        found = sent[0] if sent else next((each for each in self._given if each.id == identifier), None)
        if found is None:
            raise InputError("this photograph is not known any more: drop it on the page again")
        return found

    def _photo(self, identifier: str) -> Photo:
        known = self._known(identifier)
        if known.path is None:
            with self._lock:
                return self._sent[identifier][1]
        path = known.path
        return self._seen.get(identifier, lambda: self._prepared(_read(path, self._pixels)))

    def _prepared(self, picture: Picture) -> Photo:
        """Keep of a photograph what the model sees: everything is drawn on that."""
        tensor, geometry = self._preprocess.apply(picture)
        size = geometry.size
        return Photo(geometry.view(picture), tensor, Geometry(size, size, size, (0, 0)))

    def _batch(self, identifier: str) -> Array:
        tensor = self._photo(identifier).tensor[None]
        return tensor.repeat(self.explainer.model.batch or 1, axis=0)


class _Once:
    """Makes each thing once, also when it is wanted twice at the same time, and keeps those used last.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._lock, self._kept = threading.Lock(), Recent[Hashable, Any](most)
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                found: _Value | None = self._kept.get(key)
            try:
                if found is None:
                    found = make()
                    with self._lock:
                        self._kept.add(key, found)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return found


def _noted(one: Explanation) -> str | None:
    return "; ".join(filter(None, (one.note, one.standing.warning))) or None


def _read(path: Path, pixels: int) -> Picture:
    """Read a file of this machine: unlike what is sent, any picture that ``explain`` reads."""
    height, width = size_of(path)
    if height * width > pixels:
        raise InputError(f"{path}: has {height * width:,} pixels; --max-pixels allows {pixels:,}")
    return read_image(path)


def _sheet(cells: Sequence[Picture], columns: int) -> Picture:
    height, width = cells[0].shape[:2]
    sheet = np.zeros((-(-len(cells) // columns) * height, columns * width, 3), np.uint8)
    for k, cell in enumerate(cells):
        y, x = k // columns * height, k % columns * width
        sheet[y : y + height, x : x + width] = cell
    return sheet


def _inside(box: Sequence[int] | None, pictures: Sequence[Picture]) -> list[Picture]:
    """Crop pictures to a receptive field, if it is smaller than they are, and not all padding."""
    y0, x0, y1, x1 = box or (0, 0, 0, 0)
    is_part = y0 < y1 and x0 < x1 and (y1 - y0, x1 - x0) != pictures[0].shape[:2]
    return [np.ascontiguousarray(each[y0:y1, x0:x1]) for each in pictures] if is_part else []


def _url(picture: Picture) -> str:
    """Write a picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(picture, fast=True)).decode()
