"""What ``onnx-deconv inspect --measure`` tries on photographs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.imaging import ImageInput, Photo, Preprocess
from onnx_deconv.model import Model
from onnx_deconv.runtime import PairSession, Survival
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import likeness_of_images, survival, told


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes
    ----------
    survived
        What became of the signal in the first photograph; ``None`` where nothing is rectified.
    photographs
        How many there are.
    likeness
        How alike the pictures of two photographs are; ``None`` for one photograph, or a blank picture.
    """

    survived: Survival | None
    photographs: int
    likeness: float | None

    @classmethod
    def of(
        cls, model: Model, value: str, semantics: Semantics, paths: Sequence[Path], preprocess: Preprocess
    ) -> "Measured":
        """Explain the unit that is strongest in the first photograph, in each of them."""
        takes = ImageInput.of(model, preprocess.layout)
        images = (Photo.read(path, preprocess).tensor[None] for path in paths)
        feeds = [{takes.name: np.repeat(image, takes.batch or 1, 0)} for image in images]
        pair = compile_pair(model, value, semantics=semantics)
        likeness = likeness_of_images(PairSession(pair), *feeds) if len(feeds) > 1 else None
        return cls(survival(model, pair, feeds[0]), len(feeds), likeness)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        survived = None if self.survived is None else self.survived.as_dict()
        return {"signal": survived, "photographs": self.photographs, "likeness": self.likeness}

    def lines(self) -> Iterator[str]:
        """Yield a line for each thing that was measured."""
        if self.survived is not None:
            yield f"Measured: {self.survived.warning or self.survived.words}."
        if self.photographs > 1:
            yield f"Measured: two photographs, one unit: {told(self.likeness)}."
