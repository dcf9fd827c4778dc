"""What an evaluation found: rows, means with confidence intervals, differences between methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx_deconv.evaluation.bootstrap import Interval, mean_interval, paired_difference
from onnx_deconv.evaluation.cases import Case
from onnx_deconv.evaluation.catalogue import Measure
from onnx_deconv.evaluation.measures import Numbers

ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}


@dataclass(frozen=True)
class Row:
    """One number: of one method, on one photograph.

    Attributes
    ----------
    method
        The method's name.
    photograph
        The photograph's file name.
    target
        The class that was explained.
    number
        What it is: one of :attr:`onnx_deconv.evaluation.catalogue.Measure.numbers`.
    value
        The number; ``None`` where it is not defined.
    """

    method: str
    photograph: str
    target: int
    number: str
    value: float | None


@dataclass(frozen=True)
class Evaluation:
    """What methods reached on photographs.

    Attributes
    ----------
    made
        What the numbers depend on: the model, the preprocessing, the photographs, the options.
    methods
        Names of the methods, in the order given.
    measures
        What was measured.
    cases
        The photographs with their classes.
    found
        By method, measure and place in `cases`: the numbers.
    """

    made: Mapping[str, Any]
    methods: Sequence[str]
    measures: Sequence[Measure]
    cases: Sequence[Case] = field(repr=False)
    found: Mapping[tuple[str, str, int], Numbers] = field(repr=False)

    @property
    def numbers(self) -> dict[str, Measure]:
        """The measure that each number belongs to, by the number's name."""
        return {number: measure for measure in self.measures for number in measure.numbers}

    def rows(self) -> Iterator[Row]:
        """Yield every number."""
        for method in self.methods:
            for number in self.numbers:
                for case, value in zip(self.cases, self.values(method, number), strict=True):
                    yield Row(method, case.name, case.target, number, value)

    def values(self, method: str, number: str) -> list[float | None]:
        """Return one number of one method, case by case."""
        measure = self.numbers[number].name
        return [self.found[method, measure, k][number] for k in range(len(self.cases))]

    def mean(self, method: str, number: str) -> Interval | None:
        """Return a mean over the cases that have the number, with its confidence interval."""
        return mean_interval([value for value in self.values(method, number) if value is not None])

    def difference(self, number: str, method: str, reference: str) -> Interval | None:
        """Return by how much a method exceeds another on the cases that have both numbers."""
        return paired_difference(self.values(method, number), self.values(reference, number))

    def worst(self, method: str, number: str, count: int) -> list[Case]:
        """Return the cases on which a method did worst, the worst first."""
        sign = -1 if self.numbers[number].better == "lower" else 1
        pairs = zip(self.values(method, number), self.cases, strict=True)
        known = [(sign * value, case) for value, case in pairs if value is not None]
        return [case for _, case in sorted(known, key=lambda pair: pair[0])[:count]]

    def table(self, numbers: Sequence[str] | None = None) -> str:
        """Write a table in Markdown: one line for each number, one column for each method.

        Parameters
        ----------
        numbers
            Which numbers; by default all. An arrow says which are better.
        """
        rows = [["", *self.methods], ["---"] * (1 + len(self.methods))]
        for number in numbers or self.numbers:
            cells = [written(self.mean(method, number)) for method in self.methods]
            rows.append([number + ARROWS[self.numbers[number].better], *cells])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it; differences are those to the first method."""
        reference = self.methods[0]
        return {
            "made": dict(self.made),
            "measures": {m.name: _told(m) for m in self.measures},
            "means": self._of_each(self.methods, self.mean),
            "reference": reference,
            "differences": self._of_each(
                self.methods[1:], lambda method, number: self.difference(number, method, reference)
            ),
            "rows": [vars(row) for row in self.rows()],
        }

    def _of_each(self, methods: Sequence[str], interval: Any) -> dict[str, Any]:
        def told(method: str, number: str) -> dict[str, float] | None:
            found: Interval | None = interval(method, number)
            return None if found is None else found._asdict()

        return {method: {number: told(method, number) for number in self.numbers} for method in methods}


def written(interval: Interval | None) -> str:
    """Write a mean with its confidence interval: 0.81 (0.73 to 0.88)."""
    return "–" if interval is None else f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _told(measure: Measure) -> dict[str, Any]:
    names = ("about", "better", "source", "numbers")
    return {name: getattr(measure, name) for name in names}
