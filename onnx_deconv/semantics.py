"""The choices that make one deconvnet differ from another, each with a name and a default."""

from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args, get_type_hints

from onnx_deconv.errors import InputError

Rules = Literal["deconvnet", "guided", "gradient"]


@dataclass(frozen=True)
class Semantics:
    """What kind of reconstruction a companion graph makes; written into every model it belongs to.

    Attributes
    ----------
    rules
        What rectifiers do to the signal: ``deconvnet`` rectifies the signal itself (Zeiler & Fergus
        2013, section 2.1), ``guided`` does so too and stops it where the forward input was not
        positive (Springenberg et al. 2015, section 3.4), ``gradient`` is the true derivative
        (Simonyan et al. 2014).
    activations
        Which activations ``deconvnet`` and ``guided`` treat as rectifiers: ``all`` of them, or
        ``relu`` alone, as Captum does; the others then have their true derivative.
    lrn
        Local response normalisation: ``identity`` (the paper does not undo it) or ``gradient``;
        ``auto`` is identity in the deconvnet table and gradient in the others.
    unpool
        Where windows of a MaxPool overlap, signals that meet ``add`` up (the transpose), or the last
        one ``overwrite`` s the others, as a plain MaxUnpool does.
    precision
        The type that the companion computes in: ``float32`` or ``float16``.
    """

    rules: Rules = "deconvnet"
    activations: Literal["all", "relu"] = "all"
    lrn: Literal["auto", "identity", "gradient"] = "auto"
    unpool: Literal["add", "overwrite"] = "add"
    precision: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        for name, choices in self.choices().items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Name every choice with what it may be, the default first."""
        hints = get_type_hints(cls)
        return {f.name: get_args(hints[f.name]) for f in fields(cls)}

    @classmethod
    def of(cls, semantics: "Semantics | str | None") -> Self:
        """Accept the name of a rule table, or nothing, in place of the whole."""
        if isinstance(semantics, cls):
            return semantics
        return cls(rules=semantics or "deconvnet")  # type: ignore[arg-type]

    @property
    def lrn_is_identity(self) -> bool:
        """Whether a signal passes an LRN unchanged."""
        return self.lrn == "identity" or (self.lrn == "auto" and self.rules == "deconvnet")

    def as_dict(self) -> dict[str, str]:
        """Return the choices as plain strings, for a manifest."""
        return asdict(self)
