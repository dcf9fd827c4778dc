"""What an explanation is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx_deconv.model import Array
from onnx_deconv.semantics import Semantics


@dataclass(frozen=True)
class Explanation:
    """What excited one unit in one image.

    Attributes
    ----------
    image
        Index of the image in the batch.
    layer
        The value that the explanation started from.
    channel
        The unit's channel; for scores, the class.
    label
        The channel's name, where the explained value is the scores and labels are known.
    score
        For scores: the model's own output for the class (a probability where the model ends in a
        Softmax); for other values: the activation (the map's strongest where no position is given).
    position
        The unit's position in the feature map, chosen or the map's strongest; ``None`` for scores or a
        whole map.
    seed
        Which seed was used (see :data:`onnx_deconv.attribution.seed.SeedKind`).
    reconstruction
        Shape of one image as the model takes it (C, H, W or H, W, C), float32; for a model with several
        explained inputs, that of the first.
    reconstructions
        All reconstructions by input name, each without the batch axis.
    note
        A remark for the reader: that the signal became zero before it reached the input, at which node,
        and what was explained in its place; that the picture does not, or hardly, depend on the image; else
        ``None``.
    semantics
        All choices that it was made with.
    depends
        Whether the picture depends on the image: ``yes``, ``hardly`` or ``no``, see
        :class:`~onnx_deconv.compiler.dependence.ImageDependence`.
    output, kind
        The model's output that was explained, and what it is (see :data:`~onnx_deconv.model.heads.Head`);
        ``None`` for layers.
    words
        What was explained, where it is more than one class or channel: ``tabby - tiger cat``.
    place
        Where in its map it was explained, if in a region or a mask.
    """

    image: int
    layer: str
    channel: int
    label: str | None
    score: float
    position: tuple[int, ...] | None
    seed: str
    reconstruction: Array = field(repr=False)
    reconstructions: Mapping[str, Array] = field(repr=False)
    note: str | None = None
    semantics: Semantics = field(default_factory=Semantics, repr=False)
    depends: str = "yes"
    output: str | None = None
    kind: str | None = None
    words: str | None = None
    place: str | None = None

    @property
    def method(self) -> str:
        """What made it, see :attr:`~onnx_deconv.semantics.Semantics.method`."""
        return self.semantics.method

    @property
    def is_empty(self) -> bool:
        """Whether the reconstruction is zero everywhere."""
        return not any(r.any() for r in self.reconstructions.values())
