"""What an output of a model is, as all that read it see it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from onnx_deconv.errors import InputError, given, way
from onnx_deconv.model.detections import Fields, Layout, labels_that_fit
from onnx_deconv.model.model import Model
from onnx_deconv.model.output_kinds import Kind
from onnx_deconv.model.tail_steps import BOX
from onnx_deconv.model.value_axes import Axes

ChosenKind = Literal["classes", "regression"]
"""What a user may say that a row of numbers is."""


@dataclass(frozen=True)
class Head:
    """What one output of a model is, and where its explanation starts.

    Attributes
    ----------
    output
        The output's name.
    kind
        See :data:`Kind`.
    start
        The value that an explanation starts from: the scores.
    axes
        The scores' axes.
    cut
        The operators and names of the nodes behind it that take no part.
    elements
        For each class of the output its class among the scores, and whether it rises (1) or falls (-1) with
        it; ``None`` where classes are counted among the scores.
    own
        The output's axes, where it has one number for each class and position that the scores have.
    problem
        Why there is nothing to explain; ``None`` if there is. Where the kind is known, a channel of the
        scores can be.
    boxes
        What is known of its boxes; ``None`` where it has none.
    squash
        How the scores become probabilities: each alone, or all together; ``None`` where they do not.
    ranked
        The value by which classes are ranked, if it is not the scores: a mean of several probabilities, or
        rows that hold some, whose axes are the scores'; or the output itself, whose axes are ``own``, where
        it has one number for each class (and position) and puts classes into another order than their scores.
    by_name
        Whether nothing but its name tells its kind.
    assumed
        Whether it is taken for classes, or for classes at each step, though nothing says so: most models that
        end like it have classes.
    in_place_of
        The output that stands before it, and would be explained if this one held no classes.
    levels
        The other outputs with scores of the same classes for other boxes, as a detector has for each of its
        levels, if this output was chosen among them without being asked for.
    table
        The sizes of the table that the output makes of each image's row of numbers, which are counted row by
        row; empty where it makes none.
    scored
        How many classes the scores have; ``None`` where that is not known.
    rivals
        Whether a softmax or an ArgMax compares the classes at each position of a map: what all have in common
        there says nothing, and a class is as strong as its odds against all others are.
    """

    output: str
    kind: Kind
    start: str
    axes: Axes = field(default_factory=Axes)
    cut: tuple[str, ...] = ()
    elements: tuple[tuple[int, int], ...] | None = None
    own: Axes | None = None
    problem: str | None = None
    boxes: Layout | None = None
    squash: Literal["each", "together"] | None = None
    ranked: str | None = None
    by_name: bool = False
    assumed: bool = False
    in_place_of: str | None = None
    levels: Sequence[str] = ()
    table: tuple[int | None, ...] = ()
    scored: int | None = None
    rivals: bool = False

    @property
    def ranked_axes(self) -> Axes:
        """The axes of the value by which classes are ranked."""
        return self.own if self.own is not None and self.ranked_by_output else self.axes

    @property
    def ranked_by_output(self) -> bool:
        """Whether the output's own numbers, one for each class, rank these."""
        return self.own is not None and self.ranked == self.output

    @property
    def has_positions(self) -> bool:
        """Whether there is a map, or a row, of each class."""
        return self.kind not in ROWS

    @property
    def seed(self) -> Literal["one", "map", "present"]:
        """What a class is explained from: 1 at its score or box, or its map with its activations.

        Before a sigmoid those that are negative say that the class is not there, and are left out.
        """
        if not self.has_positions or self.kind == "detections":
            return "one"
        return "present" if self.squash == "each" and self.elements is None else "map"

    @property
    def seed_of_a_place(self) -> Literal["one", "auto"]:
        """What a position, a region or a mask of it is explained from: 1 at each score, as a class has.

        Scores have no zero: their sign says nothing, and must not turn a reconstruction round. The values of
        an image have one, as activations have.
        """
        return "auto" if self.kind == "image" else "one"


ROWS_OF_BOXES = "rows of numbers, as of boxes or points"
"""What messages call rows of which nothing tells that they are boxes: they may be points (SimCC)."""

ROWS = ("classes", "regression", "embedding", "numbers")
"""Kinds of outputs that have no positions."""


def class_count(model: Model, head: Head) -> int | None:
    """Return how many classes an output has; ``None`` where the model leaves that open."""
    if head.elements is not None:
        return len(head.elements)
    sizes = head.axes.sizes(model.type_of(head.start).shape) or []
    return int(sizes[1]) if len(sizes) > 1 and isinstance(sizes[1], int) else None


def numbered_alike(head: Head) -> bool:
    """Tell whether a channel of an output's scores is its class of the same number, with the same sign."""
    return head.elements is None and head.problem is None


def fields_of(head: Head, labels: int) -> Fields | None:
    """Tell which fields of an output's boxes are what; ``None`` where that is not told, or it has none.

    Parameters
    ----------
    head
        The output.
    labels
        How many names of classes are known.
    """
    return None if head.boxes is None else Fields.of(head.boxes, labels)


def chosen(head: Head, kind: ChosenKind | None) -> Head:
    """Return a head of the kind that a user says it is.

    Raises
    ------
    InputError
        If that is no kind, or the output is none that may be of it.
    """
    if kind is None:
        return head
    if kind not in get_args(ChosenKind):
        raise InputError(f"{given('kind', kind)}: choose one of {', '.join(get_args(ChosenKind))}")
    if head.kind not in ROWS:
        raise InputError(
            f"kind {kind!r}: output {head.output!r} is of the kind {head.kind!r}, as its axes tell"
        )
    return replace(head, kind=kind, by_name=False, assumed=False)


def labels_unfit(head: Head, fields: Fields | None, labels: int) -> str | None:
    """Tell that so many names of classes leave open which fields of an output's boxes are classes.

    ``None`` where that is told, or where no number of names would tell it.

    Parameters
    ----------
    head
        The output.
    fields
        Which fields of its boxes are what, if that is told.
    labels
        How many names of classes are known.
    """
    if head.kind != "detections" or fields is not None or not labels or not (fit := _fitting(head)):
        return None
    return f"{labels} labels do not tell which fields of its boxes are classes; {fit} would"


def _fitting(head: Head) -> str:
    """Return the numbers of names that tell which fields of boxes are classes; empty where none does."""
    fit = [str(k) for k in (() if head.boxes is None else labels_that_fit(head.boxes))]
    return " or ".join(filter(None, (", ".join(fit[:-1]), *fit[-1:])))


def undecided(head: Head, fields: Fields | None, count: int | None, labels: int = 0) -> str | None:
    """Tell why nothing is explained of an output unless it is named; ``None`` where something is.

    Parameters
    ----------
    head
        The output.
    fields
        Which fields of its boxes are what, if that is told.
    count
        How many classes, fields or numbers it has, if that is known.
    labels
        How many names of classes are known.
    """
    named, sizes = f"output {head.output!r}", "×".join(str(size or "?") for size in head.table)
    how = f", counted row by row from 0 to {count - 1}" if sizes and count is not None else ""
    behind = count is not None and count > BOX and (head.boxes is None or head.boxes.part == "all")
    field = f"field {0 if count is None else BOX if behind else count - 1}"  # a score mostly follows the box
    if head.boxes is not None and head.boxes.part == "boxes":
        return (
            f"{named} holds boxes, whose scores another output holds: choose that one, or a target such as "
            f"{field!r} and the box's position"
        )
    if head.kind == "detections" and fields is None:
        those = "" if count is None else f" 0 to {count - 1}"
        scores = head.boxes is not None and head.boxes.part == "scores"
        what = "the scores of boxes" if scores else ROWS_OF_BOXES
        fit = _fitting(head)
        tells = f"{labels} labels do not tell" if labels and fit else "nothing tells"
        would = f"; {fit} would" if labels and fit else ""
        names = "the classes' labels, or " if fit else ""
        return (
            f"{named} holds {what}, and {tells} which of their fields{those} are classes{would}: give {names}"
            f"a target such as {field!r} and the box's position"
        )
    if head.kind == "embedding":
        return f"{named} is an embedding, whose dimensions have no meaning: give one as a target, or an array"
    if head.kind == "numbers":
        what = f"a table of {sizes}" if sizes else f"a row of {count or 'some'}"
        return (
            f"{named} is {what} numbers, and nothing tells whether they are classes: give one as a "
            f"target{how}; or say what they are, by {way('--kind', 'kind=')} or the classes' labels"
        )
    if head.kind == "unknown" and head.problem is None:
        return (
            f"{named} holds several rows of numbers, and nothing tells what they are: give one as a target, "
            "by its column and its position, or an array"
        )
    if head.kind == "regression" and count != 1:
        many = sizes or count or "several"
        return f"{named} holds {many} quantities, none of which comes first: give one as a target{how}"
    return None
