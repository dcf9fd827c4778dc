"""Several explanations: a list that shows itself as a grid of pictures."""

import math
from collections.abc import Sequence
from itertools import compress

from onnx_deconv.attribution import notebook
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    Image,
    PathLike,
    Picture,
    Scales,
    SheetLayout,
    as_image,
    at_height,
    laid_out,
    png,
)
from onnx_deconv.imaging import save_sheet as save_layout

_HEIGHT = 256
"""Pixels: the height of each picture in a grid."""
_MOST_COLUMNS = 4


class Explanations(list[Explanation]):
    """A list of explanations, which notebooks show as a grid.

    What is explained in one photograph by one method is drawn to one scale, so that it can be compared: two
    classes, or channels of a layer.
    """

    @property
    def grid(self) -> Image:
        """The overlays of all, with captions."""
        return as_image(self.sheet().picture())

    def sheet(self, view: str = "overlay", columns: int | None = None) -> SheetLayout:
        """Lay one view of each out on a sheet.

        Parameters
        ----------
        view
            A name in :data:`onnx_deconv.imaging.VIEWS`.
        columns
            How many in a row; by default at most four.

        Raises
        ------
        InputError
            If there are none, or one has no photograph.
        """
        if not self:
            raise InputError("there is no explanation to draw")
        across = columns or min(_MOST_COLUMNS, math.ceil(math.sqrt(len(self))))
        pictures = [at_height(picture, _HEIGHT) for picture in self._pictures(view)]
        return laid_out(pictures, across, [one.caption for one in self], lines=3)

    def save(self, path: PathLike, view: str = "overlay") -> None:
        """Write the grid: ``.png``, ``.jpg``, ``.webp``; ``.svg`` or ``.pdf`` with the captions as text.

        Raises
        ------
        InputError
            If the suffix is another, or the file cannot be written.
        """
        save_layout(path, self.sheet(view))

    def show(self) -> None:
        """Show the grid: in a notebook's cell, else in the system's picture viewer."""
        if not notebook.displayed(self):
            self.grid.show()

    def _pictures(self, view: str) -> list[Picture]:
        return [one.views(scales)[view] for one, scales in zip(self, shared_scales(self), strict=True)]

    def _repr_png_(self) -> bytes | None:
        drawable = self and all(one.shown is not None for one in self)
        return png(self.sheet().picture()) if drawable else None

    def _repr_html_(self) -> str:
        drawable = all(one.shown is not None for one in self)
        pictures = (
            [at_height(p, _HEIGHT) for p in self._pictures("overlay")] if drawable else [None] * len(self)
        )
        captions = [f"{one.caption} ({one.method})" for one in self]
        notes = ["; ".join(filter(None, (one.note, one.standing.warning))) for one in self]
        return notebook.grid(list(zip(pictures, captions, notes, strict=True)))


def shared_scales(explanations: Sequence[Explanation]) -> list[Scales | None]:
    """Return the scales, one for all of one photograph by one method; ``None`` of what is not drawn."""
    found: dict[tuple[int, str, str], list[Scales]] = {}
    drawn = [one.shown is not None for one in explanations]
    for one in compress(explanations, drawn):
        found.setdefault(_compared(one), []).append(one.views().scales)
    return [
        Scales.largest(found[_compared(one)]) if each else None
        for one, each in zip(explanations, drawn, strict=True)
    ]


def _compared(one: Explanation) -> tuple[int, str, str]:
    """What explanations share that are drawn to one scale."""
    return one.image, one.layer, one.method
