"""What can be asked about in a forward pass: ranks of classes, what targets mean and aim at."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import SupportsIndex

import numpy as np

from onnx_deconv.attribution.chance import Chance, in_a_box, in_a_map
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.seed import Aim, Place, is_area, of_classes, region, scores_of
from onnx_deconv.attribution.standing import Standing
from onnx_deconv.attribution.target import Choices, Target, Wanted
from onnx_deconv.errors import InputError, given
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array
from onnx_deconv.model.detections import Fields
from onnx_deconv.model.head import Head, undecided
from onnx_deconv.model.tail_steps import BOX


class Subject:
    """The classes of an output, the boxes of a detector, or the channels of a layer.

    Parameters
    ----------
    run
        The forward pass through the pair that explains them.
    head
        The output; ``None`` for a layer.
    labels
        The classes' names.
    fields
        Which fields of a detector's boxes are what; ``None`` where that is not told, or there are none.
    """

    def __init__(self, run: Pass, head: Head | None, labels: Labels, fields: Fields | None = None) -> None:
        self.run, self.head, self.labels = run, head, labels
        self.fields = fields
        self.boxes = head is not None and head.kind == "detections"
        self._rows = run.explained if head is None else run.ranked(head)
        self.scores = self._scores()
        self.choices = self._choices()

    def wanted(self, targets: Sequence[Target] | None, top: int) -> list[list[Wanted]]:
        """Return what to explain in each image, the strongest first.

        Raises
        ------
        InputError
            If there are no such classes, or nothing tells what to explain.
        """
        if targets is not None:
            return [[self.choices.understood(target)] for target in targets]
        if self.head is not None and (why := self._undecided(self.head)):
            raise InputError(why)
        if not isinstance(top, SupportsIndex):
            raise InputError(f"{given('top', top)}: give a whole number")
        if not 1 <= top <= self.choices.count:
            raise InputError(
                f"{given('top', top)}: choose 1 to {self.choices.count}, as many as there are to explain"
            )
        # Probabilities may be equal where rounding made them so: scores before the softmax tell them apart.
        order = np.lexsort((-self._before(), -self.scores), axis=1)[:, :top]
        return [[Wanted(((int(k), 1.0),)) for k in row] for row in order]

    def _undecided(self, head: Head) -> str | None:
        count = self.choices.count if self.choices.fields is None else self.choices.fields
        return undecided(head, self.fields, count, len(self.labels.names))

    def aim(self, image: int, wanted: Wanted, place: Place) -> tuple[Wanted, Aim]:
        """Return what of the explained value a target is in one image, and the target made definite."""
        if not self.boxes or place is not None:
            self._check_place(wanted, place)
            several = self.fields is not None and self.fields.anchors > 1 and not wanted.field
            aim = self._aim(wanted, place) if several else self.choices.aim(wanted, place)
            of_classes = self.head is not None and isinstance(place, str) and place == "region"
            return wanted, replace(aim, areas=self._areas(image, wanted, aim)) if of_classes else aim
        if self.fields is None or wanted.field:
            raise InputError("tell the box too, by its position: one number, its place among the boxes")
        wanted, box = self._box(image, wanted)
        return wanted, self._aim(wanted, box)

    def score(self, image: int, wanted: Wanted, aim: Aim) -> float:
        """Return a target's score: of the model's own numbers if it gives one, else the activation."""
        if aim.position is None:
            return wanted.score((scores_of(self.run.explained) if wanted.field else self.scores)[image])
        usual = self.fields is not None and not wanted.field
        values = self._usual[image] if usual else self.run.explained[image]
        there = np.moveaxis(values, 0, -1)[aim.asked or ()]
        return (wanted if usual else Wanted(aim.weights)).score(there)

    def standing(self, asked: str, image: int, wanted: Wanted, aim: Aim) -> Standing:
        """Tell where a class or channel stands among all, and whether it is there; of a sum, nothing."""
        scores, single = self.scores[image], wanted.words is None and not wanted.field
        if self.head is None:
            return Standing.of_a_channel(asked, scores, wanted.first) if single else Standing(asked, False)
        found = Standing(asked, True)
        if single:
            found = Standing.of_a_class(self.head, asked, scores, wanted.first)
        told = found.probability is not None or wanted.field or [w for _, w in wanted.terms] != [1.0]
        if told or not (self.head.has_positions or (self.head.kind == "classes" and len(scores) > 1)):
            return found
        chance = self._chance(self.head, image, wanted, aim)
        return replace(found, probability=chance.probability, absent=chance.absent)

    def _chance(self, head: Head, image: int, wanted: Wanted, aim: Aim) -> Chance:
        """Tell whether a class is in its box, or in its map; of a part of a map nothing is told."""
        if self.boxes and self.fields is not None and not is_area(aim.place):
            return in_a_box(head, self.fields, self.score(image, wanted, aim))
        if self.boxes or aim.place is not None:
            return Chance()
        return in_a_map(head, float(self._before()[image, wanted.first]))

    def as_strong(self, image: int, row: Sequence[Wanted], wanted: Wanted) -> int:
        """Count the classes or channels outside a row that are exactly as strong as one in it."""
        scores, before = self.scores[image], self._before()[image]
        alike = (scores == scores[wanted.first]) & (before == before[wanted.first])
        return int(alike.sum()) - sum(int(alike[each.first]) for each in row)

    @cached_property
    def _usual(self) -> Array:
        """Return each class's score in each box, shape (N, C, ...): times the objectness, if there is one."""
        assert self.fields is not None  # noqa: S101 - the caller looked
        return self.fields.scores(self.fields.apart(self._rows))

    def _scores(self) -> Array:
        if self.head is None:
            return scores_of(self.run.explained)
        if self.boxes:
            return scores_of(self._rows) if self.fields is None else self.fields.best(self._rows)
        return self.run.scores(self.head)

    def _before(self) -> Array:
        """Return the scores that the explanation starts from, shape (N, K)."""
        plain = self.head is None or self.boxes
        return self.scores if plain or self.head is None else of_classes(self.run.explained, self.head)

    def _choices(self) -> Choices:
        if self.head is None:
            return Choices(self.scores.shape[1], None)
        if not self.boxes:
            return Choices(self.scores.shape[1], self.labels, self.head.elements)
        count, fields = self.run.explained.shape[1], self.fields
        if fields is None:
            return Choices(self.scores.shape[1], self.labels, fields=count)
        elements = [(fields.first + k, 1) for k in range(fields.count)]
        return Choices(self.scores.shape[1], self.labels, elements, count, fields.objectness)

    def _aim(self, wanted: Wanted, box: Place) -> Aim:
        """Aim at a box; of several anchors of a map its channels follow those of the anchors before."""
        aim = self.choices.aim(wanted, box)
        if self.fields is None or self.fields.anchors == 1:
            return aim
        place = aim.position or ()
        if len(place) != self.run.explained.ndim - 1:
            raise InputError(f"position {box}: give a box's anchor, row and column")
        if not 0 <= place[0] < self.fields.anchors:
            raise InputError(f"position {box}: there are anchors 0 to {self.fields.anchors - 1}")
        before = place[0] * (self.run.explained.shape[1] // self.fields.anchors)
        weights = tuple((channel + before, weight) for channel, weight in aim.weights)
        return Aim(weights, place[1:], place[0])

    def _check_place(self, wanted: Wanted, place: Place) -> None:
        """Make sure that a place is not given twice, nor the region of what is no class."""
        if wanted.point is not None or wanted.rank > 1:
            raise InputError(
                f"target {wanted.words!r} finds a box by itself: leave out the position, or the point or rank"
            )
        if wanted.field and isinstance(place, str):
            raise InputError(f"position {place!r}: {wanted.words} is no class: give a box's place")

    def _areas(self, image: int, wanted: Wanted, aim: Aim) -> tuple[Array, ...]:
        """Return where each class of a target wins over the others, and where the objectness counts.

        A box's own numbers are no rivals of its classes; a background is one, where a softmax weighs it.
        """
        own = self.choices.elements or [(k, 1) for k in range(self.choices.count)]
        fields = range(self.run.explained.shape[1])
        if self.fields is not None:
            fields = fields[BOX * (self.fields.first >= BOX) :] if self.fields.exclusive else fields[:0]
        others = set(fields).difference(channel for channel, _ in own)
        rivals = [*own, *((channel, 1) for channel in sorted(others))]
        values = self.run.explained[image]
        signed = np.stack([sign * values[channel] for channel, sign in rivals])
        found = [region(signed, k) for k, _ in wanted.terms]
        if len(aim.weights) > len(found):
            weights = [weight for _, weight in wanted.terms]
            found.append(np.tensordot(weights, found, 1).astype(np.float32) / np.float32(sum(weights)))
        return tuple(found)

    def _box(self, image: int, wanted: Wanted) -> tuple[Wanted, tuple[int, ...]]:
        """Find the box that a target means, and its class where the target leaves that open."""
        fields = self.fields
        assert fields is not None  # noqa: S101 - the caller looked
        values = fields.apart(self._rows[image, None])[0]
        flat, sizes = values.reshape(len(values), -1), values.shape[1:]
        scores = fields.scores(flat[None])[0]
        if wanted.point is not None:
            around = fields.around(flat, wanted.point)
            if not around:
                raise InputError(f"no box is around the point {wanted.point[0]:g},{wanted.point[1]:g}")
            rows = [k for k, _ in wanted.terms] or list(range(fields.count))
            channel, box = max(((c, b) for c in rows for b in around), key=lambda each: scores[each])
            terms = wanted.terms or ((channel, 1.0),)
            return Wanted(terms, f"{self.labels.spoken(terms[0][0])}, box {box}"), _place(box, sizes)
        ranked = fields.ranked(flat, wanted.first)
        if wanted.rank > len(ranked):
            raise InputError(f"#{wanted.rank}: the class has {len(ranked)} boxes")
        return wanted, _place(ranked[wanted.rank - 1], sizes)


def _place(box: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return a box's position, given its place among all."""
    return tuple(int(k) for k in np.unravel_index(box, sizes))
