"""The choices that make one deconvnet differ from another, each with a name and a default."""

from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args, get_type_hints

from onnx_deconv.errors import InputError, given
from onnx_deconv.operators.tables import RuleTable, adopt, rule_table, rule_tables

NO_RULES = "none"
_CAMS = ("grad-cam", "layer-cam", "cam", "grad-cam^3")


@dataclass(frozen=True)
class Semantics:
    """What kind of reconstruction a companion graph makes; written into every model it belongs to.

    Attributes
    ----------
    rules
        The name of a rule table: ``deconvnet`` rectifies the signal itself (Zeiler & Fergus 2013,
        section 2.1), ``guided`` does so too and stops it where the forward input was not positive
        (Springenberg et al. 2015, section 3.4), ``gradient`` is the true derivative (Simonyan et al.
        2014); ``excitation`` (Zhang et al. 2018), ``lrp``, ``lrp-epsilon`` and ``lrp-gamma`` (Montavon et
        al. 2019) divide relevance; or a table that was registered (:func:`onnx_deconv.operators.register`).
        ``none``: no signal goes to the image, the map of ``cam`` alone is made.
    cam
        A class activation map, enlarged to the image, that the reconstruction is multiplied by: ``grad-cam``
        (Selvaraju et al. 2017, section 3), ``layer-cam`` (Jiang et al. 2021, section 3.3), or ``cam``,
        gradient times activation (Draelos & Carin 2020), which is the class activation map of Zhou et al.
        2016 where a linear layer follows the pool. ``grad-cam^3``: the third power of Grad-CAM, so that what
        it hardly shows counts less.
    head
        What starts down at the last feature maps: the ``signal`` that comes from above, or the
        ``class-map``, gradient times activation: each position with what it contributes to the class.
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
        The type that the companion computes in: ``float32`` or ``float16``, which is too coarse for
        tables of relevance.
    cam_layer
        The layer whose feature maps the class activation map is made of, by the name of a value or node, or
        ``conv3`` for the third convolution; by default the last feature maps.
    """

    rules: str = "deconvnet"
    cam: Literal["none", "grad-cam", "layer-cam", "cam", "grad-cam^3"] = "none"
    head: Literal["signal", "class-map"] = "signal"
    activations: Literal["all", "relu"] = "all"
    lrn: Literal["auto", "identity", "gradient"] = "auto"
    unpool: Literal["add", "overwrite"] = "add"
    precision: Literal["float32", "float16"] = "float32"
    cam_layer: str | None = None

    def __post_init__(self) -> None:
        if self.rules != NO_RULES:
            rule_table(self.rules)
        elif self.cam == "none":
            raise InputError("neither rules nor cam: there is nothing to make")
        if not isinstance(self.cam_layer, str | None):
            raise InputError(f"{given('cam_layer', self.cam_layer)}: give the name of one layer")
        if self.cam_layer is not None and self.cam == "none":
            layer = given("cam_layer", self.cam_layer)
            raise InputError(f"{layer}: choose a class activation map too, as {given('cam', 'grad-cam')}")
        if self.precision == "float16" and self.table.conserves:
            raise InputError(
                f"{given('rules', self.rules)}: shares are too small for {given('precision', 'float16')}"
            )
        for name, choices in self.choices().items():
            if getattr(self, name) not in choices:
                raise InputError(f"{given(name, getattr(self, name))}: choose one of {', '.join(choices)}")

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Name every choice among a few with what it may be, the default first."""
        hints = get_type_hints(cls)
        return {
            f.name: (*rule_tables(), NO_RULES) if f.name == "rules" else get_args(hints[f.name])
            for f in fields(cls)
            if f.name != "cam_layer"
        }

    @classmethod
    def of(cls, semantics: "Semantics | RuleTable | str | None") -> Self:
        """Accept the name of a method, a rule table, or nothing, in place of the whole.

        A method is a rule table (``guided``), a class activation map (``grad-cam``), or the product of both
        (``guided*grad-cam``). A map may name its layer (``grad-cam@conv3``, ``guided*grad-cam@conv3``). A
        table that is not registered is known by its name from then on.

        Raises
        ------
        InputError
            If there is no such table or map.
        """
        if isinstance(semantics, cls):
            return semantics
        if isinstance(semantics, RuleTable):
            return cls(adopt(semantics).name)
        if semantics is None:
            return cls()
        method, _, layer = str(semantics).partition("@")
        rules, _, cam = method.rpartition("*")
        if cam not in _CAMS:
            if str(semantics) not in rule_tables():
                tables = ", ".join(rule_tables())
                raise InputError(
                    f"no method is named {str(semantics)!r}: choose a rule table ({tables}), "
                    f"a class activation map ({', '.join(_CAMS)}), or both, as in guided*grad-cam"
                )
            return cls(rules=str(semantics))
        return cls(rules=rules or NO_RULES, cam=cam, cam_layer=layer or None)  # type: ignore[arg-type]

    @property
    def table(self) -> RuleTable:
        """The rule table of that name; the gradient's where no signal goes to the image."""
        return rule_table("gradient" if self.rules == NO_RULES else self.rules)

    @property
    def method(self) -> str:
        """What pictures call it: the rule table, the map, or both (``guided*grad-cam@conv3``)."""
        method = "*".join(name for name in (self.rules, self.cam) if name != NO_RULES)
        return method if self.cam_layer is None else f"{method}@{self.cam_layer}"

    @property
    def reads_feature_maps(self) -> bool:
        """Whether feature maps take part as they are."""
        return self.cam != "none" or self.head == "class-map"

    @property
    def starts_at_scores(self) -> bool:
        """Whether a class is explained from its score, and its map, or shares of it, are found on the way."""
        return self.reads_feature_maps or self.table.conserves

    @property
    def rules_record(self) -> dict[str, str | None]:
        """Say which rule table it is: a later version, or another package, may have another of that name."""
        parent = None if self.table.parent is None else self.table.parent.name
        return {"name": self.rules, "parent": parent, "digest": self.table.digest}

    def as_dict(self) -> dict[str, str | None]:
        """Return the choices as plain data, for a manifest."""
        return asdict(self)


GRADIENT = Semantics(rules="gradient", lrn="gradient")
"""The true derivative, which class activation maps are made of."""
