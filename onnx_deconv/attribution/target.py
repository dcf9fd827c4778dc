"""Targets: what is explained, as a person writes it, and what of the explained value that is."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np

from onnx_deconv.attribution.seed import Aim, Place, is_area
from onnx_deconv.errors import InputError
from onnx_deconv.labels import Labels, is_index
from onnx_deconv.model import Array

Target = SupportsIndex | str
"""A class by index or label, or a channel; or a sum of these, such as ``-tabby``, ``tabby - tiger cat``,
``0.5*tabby + 207``, in which ``others`` is the mean of all that it does not name: ``tabby - others``. Where
classes are called by numbers, ``label 7`` is one's name and ``index 7`` its index. Of
detections: a class (its strongest box), ``person#2`` (its second), ``person at 120,80`` (the one around that
point of the input, x and y), ``at 120,80`` (of any class), ``field 4`` (of one box, by its position)."""

OTHERS = "others"
_NO_WEIGHT = 1e-9
"""Weights that add up to no more than this were meant to add up to 0."""
_SIGN = re.compile(r"\s+([+-])\s+")
_RANK = re.compile(r"(.+)#(\d+)", re.DOTALL)
_POINT = re.compile(r"(?:(.*\S)\s+)?at\s+(-?[\d.]+)\s*,\s*(-?[\d.]+)", re.DOTALL)
_FIELD = re.compile(r"field\s+(\d+)")
_TERM = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?(.+)", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """A target that was understood: classes or channels, each with its weight.

    Attributes
    ----------
    terms
        Classes or channels as a caller counts them, each with its weight.
    words
        The target for people; ``None`` for a single class or channel.
    rank
        Of detections: which of a class's boxes, from 1.
    point
        Of detections: a point (x, y) of the input that the box is around.
    field
        Of detections: whether terms are fields, not classes.
    """

    terms: tuple[tuple[int, float], ...]
    words: str | None = None
    rank: int = 1
    point: tuple[float, float] | None = None
    field: bool = False

    @property
    def first(self) -> int:
        """The first class or channel."""
        return self.terms[0][0]

    def score(self, scores: Array) -> float:
        """Return the weighted sum of scores, given one for each class or channel."""
        return float(sum(weight * scores[k] for k, weight in self.terms))


@dataclass(frozen=True)
class Choices:
    """The classes of an output, or the channels of a layer, that a target may name.

    Attributes
    ----------
    count
        How many there are.
    labels
        Their names; ``None`` for channels.
    elements
        For each class its channel of the explained value, and the sign that it has there; ``None`` where
        these are the same.
    fields
        How many fields the boxes of a detector have; ``None`` of other outputs.
    objectness
        The field that each class's score is multiplied by, if there is one: before their sigmoids the two
        are added, as the logarithm of the product is a sum. A difference of two classes is without it.
    """

    count: int
    labels: Labels | None
    elements: Sequence[tuple[int, int]] | None = None
    fields: int | None = None
    objectness: int | None = None

    def understood(self, target: Target) -> Wanted:
        """Read a target.

        Raises
        ------
        InputError
            If it names no class or channel.
        """
        if not isinstance(target, str):
            return Wanted(((self._checked(_index(target)), 1.0),))
        if not target.strip():
            raise InputError(
                f"target {target!r}: it is empty: give a class's number or name, or leave it out"
            )
        alone = self._label(target)
        if alone is not None:
            self._check_no_negative(target.strip(), alone)
            return Wanted(((self._checked(alone), 1.0),))
        if self.fields is not None and (box := self._box(target)) is not None:
            return box
        try:
            terms = [self._term(sign, part) for sign, part in zip(*_parts(target), strict=True)]
            every = self._spread(terms)
        except InputError:
            _check_not_of_boxes(target)
            raise
        if len(every) == 1 and every[0][1] == 1.0:
            return Wanted(every)
        return Wanted(every, " ".join(self._said(k, *term) for k, term in enumerate(terms)))

    def aim(self, wanted: Wanted, place: Place) -> Aim:
        """Return what of the explained value a target is."""
        if self.elements is None or wanted.field:
            return Aim(wanted.terms, place)
        own = self.elements
        weights = [(own[k][0], own[k][1] * weight) for k, weight in wanted.terms]
        total = sum(weight for _, weight in weights)
        if self.objectness is not None and abs(total) > _NO_WEIGHT:
            weights.append((self.objectness, total))
        return Aim(tuple(weights), place)

    def _box(self, text: str) -> Wanted | None:
        """Read a target that only detections have; ``None`` if it is none."""
        if match := _FIELD.fullmatch(text.strip()):
            field = int(match[1])
            if field >= (self.fields or 0):
                raise InputError(f"there is no field {field}: boxes have 0 to {(self.fields or 0) - 1}")
            return Wanted(((field, 1.0),), f"field {field}", field=True)
        if match := _POINT.fullmatch(text.strip()):
            terms = self.understood(match[1]).terms if match[1] else ()
            return Wanted(terms, text.strip(), point=(float(match[2]), float(match[3])))
        if match := _RANK.fullmatch(text.strip()):
            if not int(match[2]):
                raise InputError(f"target {text!r}: ranks count from 1, the class's best box")
            return replace(self.understood(match[1]), words=text.strip(), rank=int(match[2]))
        return None

    def _label(self, text: str) -> int | None:
        """Return the class that a text names as a whole, so that labels may hold signs."""
        if self.labels is None or text.isdecimal():
            return None
        try:
            return self.labels.index(text)
        except InputError:
            return None

    def _check_no_negative(self, text: str, named: int) -> None:
        """Make sure that the name of a class is not the negative of another's number as well."""
        if text.startswith("-") and is_index(text[1:]) and int(text[1:]) < self.count:
            raise InputError(
                f"{text!r} is the name of class {named} and the negative of class {text[1:]}: give "
                f"'label {text}' or '-index {text[1:]}'"
            )

    def _spread(self, terms: Sequence[tuple[int | None, float]]) -> tuple[tuple[int, float], ...]:
        """Put in place of the others' mean all that is not named, after what is."""
        named = [(k, weight) for k, weight in terms if k is not None]
        if not named:
            raise InputError(f"target: {OTHERS!r} are those that are not named: name one, '0 - {OTHERS}'")
        others = [k for k in range(self.count) if k not in dict(named)]
        weight = sum(weight for k, weight in terms if k is None)
        return (*named, *((k, weight / len(others)) for k in others if weight))

    def _term(self, sign: float, text: str) -> tuple[int | None, float]:
        match = _TERM.fullmatch(text.strip())
        if match is None:
            raise InputError(f"target: a class or channel is missing beside {'+' if sign > 0 else '-'}")
        factor, name = match.groups()
        if name.strip() == OTHERS and self._label(name) is None:
            return None, sign * float(factor or 1)
        named = _whole(name) if self.labels is None else self.labels.index(name)
        return self._checked(named), sign * float(factor or 1)

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.count:
            what = "channel" if self.labels is None else "class"
            raise InputError(f"there is no {what} {index}: the model has 0 to {self.count - 1}")
        return index

    def _said(self, place: int, index: int | None, weight: float) -> str:
        if index is None:
            name = OTHERS
        else:
            name = f"channel {index}" if self.labels is None else self.labels.spoken(index)
        sign = ("-" if weight < 0 else "") if place == 0 else "- " if weight < 0 else "+ "
        return f"{sign}{'' if abs(weight) == 1 else f'{abs(weight):g}*'}{name}"


def _check_not_of_boxes(text: str) -> None:
    """Make sure that what names no class is no target of a box either; its point may have been moved."""
    for form, words in ((_FIELD, "field N"), (_POINT, "at X,Y"), (_RANK, "CLASS#N")):
        if form.fullmatch(text.strip()):
            raise InputError(
                f"a target '{words}' is for detections: here are no boxes, and no class of that name"
            )


def moved(target: Target, place: Callable[[float, float], tuple[float, float]]) -> Target:
    """Return a target with the point in it, if there is one, moved: from a photograph to a model's input."""
    match = _POINT.fullmatch(target.strip()) if isinstance(target, str) else None
    if match is None:
        return target
    x, y = place(float(match[2]), float(match[3]))
    return f"{match[1] or ''} at {x:g},{y:g}".strip()


def place_words(place: Place) -> str | None:
    """Say where in its maps a class is explained; ``None`` for a position or the whole map."""
    if not is_area(place):
        return None
    return "its region" if isinstance(place, str) else "a mask"


def per_image(target: Any, total: int) -> list[Target] | None:
    """Return one target per image; ``None`` where there is none.

    Raises
    ------
    InputError
        If it is a list of another length.
    """
    if target is None:
        return None
    if isinstance(target, str) or not hasattr(target, "__len__") or _is_index(target):
        return [target] * total
    if len(target) != total:
        raise InputError(f"{len(target)} targets for {total} images: give one for all, or one for each")
    return list(target)


def _is_index(target: Any) -> bool:
    """Tell whether a target is one whole number: of Python, NumPy or any array library."""
    try:
        _index(target)
    except (InputError, TypeError):
        return False
    return True


def _index(target: Any) -> int:
    if isinstance(target, float | np.floating | bool):
        raise InputError(f"target {target!r}: give a whole number or a label")
    try:
        return int(target.__index__())
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"target {target!r}: give a whole number or a label") from error


def is_sum(target: Target) -> bool:
    """Tell whether a target is written as a sum, as in ``tabby - tiger cat`` or ``-tabby``."""
    weights, _ = _parts(target) if isinstance(target, str) else ([1.0], [])
    return len(weights) > 1 or weights[0] < 0


def _parts(text: str) -> tuple[list[float], list[str]]:
    """Cut a sum into its terms; signs between terms stand between spaces, labels may hold hyphens."""
    first = 1.0
    text = text.strip()
    if text.startswith("-"):
        first, text = -1.0, text[1:]
    pieces = _SIGN.split(text)
    return [first, *(1.0 if s == "+" else -1.0 for s in pieces[1::2])], pieces[::2]


def _whole(target: str) -> int:
    try:
        return int(target)
    except ValueError:
        raise InputError(f"target {target!r}: a channel of a layer is given by its number") from None
