"""The choices that make one deconvnet differ from another, each with a name and a default."""

from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args, get_type_hints

from onnx_deconv.errors import InputError
from onnx_deconv.operators.tables import RuleTable, adopt, rule_table, rule_tables


@dataclass(frozen=True)
class Semantics:
    """What kind of reconstruction a companion graph makes; written into every model it belongs to.

    Attributes
    ----------
    rules
        The name of a rule table: ``deconvnet`` rectifies the signal itself (Zeiler & Fergus 2013,
        section 2.1), ``guided`` does so too and stops it where the forward input was not positive
        (Springenberg et al. 2015, section 3.4), ``gradient`` is the true derivative (Simonyan et al.
        2014); or a table that was registered (:func:`onnx_deconv.operators.register`).
    activations
        Which activations ``deconvnet`` and ``guided`` treat as rectifiers: ``all`` of them, or
        ``relu`` alone, as Captum does; the others then have their true derivative.
    lrn
        Local response normalisation: ``identity`` (the paper does not undo it) or ``gradient``;
        ``auto`` is what the rule table says: identity in the deconvnet table, gradient in the others.
    unpool
        Where windows of a MaxPool overlap, signals that meet ``add`` up (the transpose), or the last
        one ``overwrite`` s the others, as a plain MaxUnpool does.
    precision
        The type that the companion computes in: ``float32`` or ``float16``.
    """

    rules: str = "deconvnet"
    activations: Literal["all", "relu"] = "all"
    lrn: Literal["auto", "identity", "gradient"] = "auto"
    unpool: Literal["add", "overwrite"] = "add"
    precision: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        rule_table(self.rules)
        for name, choices in self.choices().items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Name every choice with what it may be, the default first."""
        hints = get_type_hints(cls)
        return {
            f.name: tuple(rule_tables()) if f.name == "rules" else get_args(hints[f.name])
            for f in fields(cls)
        }

    @classmethod
    def of(cls, semantics: "Semantics | RuleTable | str | None") -> Self:
        """Accept the name of a rule table, a table, or nothing, in place of the whole.

        A table that is not registered is known by its name from then on.
        """
        if isinstance(semantics, cls):
            return semantics
        if isinstance(semantics, RuleTable):
            return cls(adopt(semantics).name)
        return cls(rules=semantics or "deconvnet")  # type: ignore[arg-type]

    @property
    def table(self) -> RuleTable:
        """The rule table of that name."""
        return rule_table(self.rules)

    def as_dict(self) -> dict[str, str]:
        """Return the choices as plain strings, for a manifest."""
        return asdict(self)
