"""Comparison sheets: one row per photograph, one column per class, layer or rule table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.photographs import Selection, explain_photos
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    SALIENCY_PERCENTILE,
    Photo,
    Picture,
    Preprocess,
    SheetLayout,
    at_height,
    channels_first,
    heat_map,
    laid_out,
    magnitude_of,
    map_resized,
    overlay,
    projection,
    saliency,
    scale_of,
)
from onnx_deconv.imaging.axes import number
from onnx_deconv.model import Array
from onnx_deconv.semantics import Semantics

View = Literal["projection", "heat", "overlay"]
Scale = Literal["own", "row", "column", "sheet"]
"""Whose magnitudes set what is shown at full brightness: the picture's own, or the largest of its row, of
its column or of the sheet, so that brightness can be compared."""


@dataclass(frozen=True)
class Column:
    """What one column of the sheet explains in each photograph, or several columns that belong together.

    Attributes
    ----------
    explainer, selection
        How each photograph is explained. A selection of K channels, or of the K strongest, makes K columns.
    name
        The beginning of the columns' captions.
    """

    explainer: Explainer
    selection: Selection
    name: str = ""

    def caption(self, one: Explanation) -> str:
        """Write what was explained, its score or activation, and the method where no name tells it."""
        explainer = self.explainer
        layer = (
            explainer.layer if self.selection.layer is None else explainer.model.layer(self.selection.layer)
        )
        what = f"{layer} map {one.channel}"
        if explainer.explains_classes(self.selection.layer):
            what = one.name
        text = f"{what}, {number(one.score)}{one.equals.words}"
        return f"{self.name}: {text}{one.reservation}" if self.name else f"{text}, {one.made_by}"


Step = tuple[Column, int]
"""A column, and the index of a photograph that is explained in it."""


@dataclass(frozen=True)
class Cell:
    """One explanation of a sheet, and its caption."""

    explanation: Explanation
    caption: str


def across_tables(explainer: Explainer, tables: Sequence[str], selection: Selection) -> list[Column]:
    """Compare rule tables on one target; the model and the other choices are those of the explainer."""
    return [
        Column(
            Explainer(
                explainer.model,
                replace(explainer.semantics, rules=Semantics.of(table).rules),
                **explainer.options,
            ),
            selection,
            table,
        )
        for table in tables
    ]


def across_layers(explainer: Explainer, layers: Sequence[str]) -> list[Column]:
    """Compare layers, each by the feature map that is strongest in a photograph."""
    return [Column(explainer, Selection(layer=layer)) for layer in layers]


def compare(
    columns: Sequence[Column],
    photos: Sequence[Photo],
    in_turn: Callable[[Sequence[Step]], Iterable[Step]] = iter,
) -> list[list[Cell]]:
    """Explain photographs in every column.

    The columns take turns, each with all photographs, so that the models of one layer are made once, and need
    not be kept.

    Parameters
    ----------
    columns
        The columns; :func:`across_tables` and :func:`across_layers` make some.
    photos
        The photographs.
    in_turn
        Goes through the steps of the work; one that shows the progress, say.

    Returns
    -------
    list of list of Cell
        The rows of the sheet.

    Raises
    ------
    InputError
        If there is nothing to compare, or a photograph or selection does not fit.
    """
    if not columns:
        raise InputError("there is nothing to compare: name classes, layers or tables")
    rows: list[list[Cell]] = [[] for _ in photos]
    for column, place in in_turn([(column, place) for column in columns for place in range(len(photos))]):
        (found,) = explain_photos(column.explainer, [photos[place]], column.selection)
        rows[place] += [Cell(one, column.caption(one)) for one in found]
    return rows


def lay_out_sheet(
    rows: Sequence[Sequence[Cell]],
    photos: Sequence[Photo],
    names: Sequence[str],
    preprocess: Preprocess,
    *,
    view: View = "projection",
    scale: Scale = "own",
    height: int = 256,
) -> SheetLayout:
    """Lay a comparison sheet out: each photograph as the model sees it, then its explanations.

    Parameters
    ----------
    rows
        What :func:`compare` yields.
    photos, names
        One per row.
    preprocess
        How the photographs became the model's input.
    view
        Draw reconstructions as projections, or their saliency alone or over the photograph.
    scale
        See :data:`Scale`.
    height
        Height of each picture, in pixels.

    Returns
    -------
    SheetLayout
        It can be drawn, or written as SVG or PDF.

    Raises
    ------
    InputError
        If there are no rows, or a reconstruction cannot be drawn.
    """
    if not rows:
        raise InputError("there is nothing to draw: give at least one photograph")
    layout = preprocess.layout
    values = [[channels_first(cell.explanation.reconstruction, layout) for cell in row] for row in rows]
    scales = _scales([[_scale(each, view) for each in row] for row in values], scale)
    pictures, captions = [], []
    for photo, name, row, cells, levels in zip(photos, names, values, rows, scales, strict=True):
        shown, _ = photo.enlarged_view()
        drawn = [_drawn(*each, preprocess, shown, view) for each in zip(row, levels, strict=True)]
        pictures += [at_height(picture, height) for picture in (shown, *drawn)]
        captions += [name, *(cell.caption for cell in cells)]
    return laid_out(pictures, len(values[0]) + 1, captions, lines=2)


def _scale(values: Array, view: View) -> float:
    if view == "projection":
        return scale_of(values)
    return scale_of(magnitude_of(values)[0], SALIENCY_PERCENTILE)


def _scales(own: Sequence[Sequence[float]], scale: Scale) -> list[list[float]]:
    """Replace each picture's own scale by the one it shares."""
    of_column = [max(column) for column in zip(*own, strict=True)]
    shared = {
        "own": own,
        "row": [[max(row)] * len(row) for row in own],
        "column": [of_column] * len(own),
        "sheet": [[max(of_column)] * len(of_column)] * len(own),
    }
    return [list(row) for row in shared[scale]]


def _drawn(values: Array, scale: float, preprocess: Preprocess, shown: Picture, view: View) -> Picture:
    if view == "projection":
        return at_height(projection(values, scale or None, channels=preprocess.channels), len(shown))
    salient = map_resized(saliency(magnitude_of(values)[0], scale=scale), (shown.shape[0], shown.shape[1]))
    return heat_map(salient) if view == "heat" else overlay(shown, salient)
