"""What every command on photographs begins with: an explainer, and how photographs become its input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli import FELL_SHORT, groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import NOTHING_FIXED, FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.cli.options import takes, together
from onnx_deconv.cli.records import made_by
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Photo, Preprocess
from onnx_deconv.model import Array

on_photographs = together(
    takes("fixed", FixedInputs), takes("images", ImageOptions), takes("run", ModelOptions), groups.common
)
"""The options of every command on photographs: other inputs, preprocessing, the run, what is printed."""


@dataclass(frozen=True)
class Study:
    """A model ready to explain, and how photographs become its input."""

    explainer: Explainer
    preprocess: Preprocess
    fixed: FixedInputs = NOTHING_FIXED

    @classmethod
    def of(
        cls, console: Console, explainer: Explainer, images: ImageOptions, fixed: FixedInputs = NOTHING_FIXED
    ) -> "Study":
        """Decide how photographs become the explainer's input."""
        return cls(explainer, images.preprocess(explainer.model, console), fixed)

    def read(self, paths: Iterable[Path], *, as_batch: bool = False) -> list[Photo]:
        """Read photographs.

        Parameters
        ----------
        paths
            The photographs.
        as_batch
            Whether they are to be one batch: then they need one size.

        Raises
        ------
        InputError
            If one cannot be read, or they would differ in size.
        """
        if as_batch and self.preprocess.size is None:
            raise InputError("photographs in their own sizes cannot be compared: give a --size")
        return [Photo.read(path, self.preprocess) for path in paths]

    def made_by(self, layer: str | None = None) -> dict[str, Any]:
        """Return what a result depends on, for its record; of one layer, where the method depends on it."""
        return {**made_by(self.explainer, self.preprocess, layer), **self.fixed.record()}


class Failures:
    """Counts photographs that cannot be explained: each is reported, and the others are explained.

    Parameters
    ----------
    console
        Where they are reported.
    total
        How many photographs there are; the failure of an only one is the command's.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._count = 0

    def note(self, error: InputError) -> None:
        """Report a failure, or raise it where there is one photograph."""
        if self._total == 1:
            raise error
        self._console.error(str(error))
        self._count += 1

    def exit_code(self) -> int:
        """Sum up.

        Raises
        ------
        InputError
            If all photographs failed.
        """
        if self._count == self._total:
            raise InputError("none of the photographs could be explained")
        if self._count:
            self._console.warn(f"{self._count} of {self._total} photographs could not be explained")
        return FELL_SHORT if self._count else 0


def batch_of(photos: Sequence[Photo]) -> Array:
    """Stack photographs of one size: shape (N, ...) as the model takes them."""
    return np.stack([photo.tensor for photo in photos]) if photos else np.empty(0)
