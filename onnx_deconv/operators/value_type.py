"""What is known of a value before the model runs."""

from dataclasses import dataclass

from onnx import TensorProto

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class ValueType:
    """What is known of a value before the model runs.

    Attributes
    ----------
    dtype
        ONNX element type (``TensorProto.FLOAT``, ...), 0 where unknown.
    shape
        One entry per axis, ``None`` for a size that is only known at run time; ``None`` altogether
        where not even the rank is known.
    symbols
        The names of the axes that have one (``batch``, ``height``), else ``""``.
    """

    dtype: int = TensorProto.UNDEFINED
    shape: Shape | None = None
    symbols: tuple[str, ...] = ()

    @property
    def dims(self) -> list[int | str | None] | None:
        """The shape as ONNX writes it: a size, the name of one, or ``None``."""
        if self.shape is None:
            return None
        names = self.symbols or ("",) * len(self.shape)
        return [d if d is not None else (n or None) for d, n in zip(self.shape, names, strict=True)]

    def __str__(self) -> str:
        if self.dims is None:
            return "?"
        return "×".join("?" if d is None else str(d) for d in self.dims) or "scalar"
