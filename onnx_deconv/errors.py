"""Every exception that this package raises on purpose.

::

    DeconvError                     something that a user can correct
    ├── ModelError                  the file is not an ONNX model, is broken, or cannot be explained
    │   └── UnknownLayerError       no value or node has that name
    ├── MissingRuleError            operators on the path for which no rule is registered
    ├── RuleError                   a known operator in a form that its rule does not support
    ├── PluginError                 an installed plug-in that cannot be loaded
    ├── InputError                  an image, an array, a target or an option that does not fit
    └── RuntimeUnavailableError     onnxruntime, or the provider asked for, is not available

Each message is one line that says what is wrong and how to correct it.
"""

from collections.abc import Iterable, Sequence

_OFFERED = 3
_SPOKEN = {"options": False}


def speak_options(options: bool) -> None:  # noqa: FBT001
    """Have messages name options of the command line, or, as they do otherwise, arguments in Python."""
    _SPOKEN["options"] = options


def way(option: str, argument: str) -> str:
    """Return the way out that the caller can take: an option of the command line, or an argument."""
    return option if _SPOKEN["options"] else argument


def given(name: str, value: object, option: str | None = None) -> str:
    """Say what a caller gave, as it was given: ``--top 0``, or ``top=0``."""
    return way(f"--{option or name.replace('_', '-')} {value}", f"{name}={value!r}")


class DeconvError(Exception):
    """The base of all errors that a user can correct."""


class ModelError(DeconvError):
    """The model cannot be read, is invalid, or has nothing to explain."""


def _some_of(names: Sequence[str]) -> str:
    few = ", ".join(names[-_OFFERED:])
    more = " and others, which 'onnx-deconv inspect' lists" if len(names) > _OFFERED else ""
    return f"there are {few}{more}"


class UnknownLayerError(ModelError):
    """No value or node of the model has the given name.

    Parameters
    ----------
    name
        What was asked for.
    known
        The names that exist; the closest are offered in the message.
    meant
        Layers that it could stand for, which are offered instead.
    """

    def __init__(self, name: str, known: Iterable[str], meant: Sequence[str] = ()) -> None:
        import difflib  # noqa: PLC0415  (an interruption while it is loaded would show where we are)

        names = list(dict.fromkeys(known))
        close = list(meant[:_OFFERED]) or difflib.get_close_matches(name, names, n=_OFFERED, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else _some_of(names)
        super().__init__(f"no layer is named {name!r}: {hint}")
        self.name = name
        self.matches = close


class MissingRuleError(DeconvError):
    """Operators between the input and the explained value have no rule.

    Parameters
    ----------
    missing
        Pairs of (operator with its domain, name of the node), all of them.
    """

    def __init__(self, missing: Sequence[tuple[str, str]]) -> None:
        operators = sorted({operator for operator, _ in missing})
        nodes = ", ".join(f"{node} ({operator})" for operator, node in missing)
        remedy = (
            f"explain an earlier layer ({way('--layer', 'layer=')}), or add a rule (docs/add-an-operator.md)"
        )
        if all(operator.startswith("com.microsoft.nchwc::") for operator in operators):
            remedy = "the file was optimised for one kind of CPU: save it at onnxruntime's level 'extended'"
        super().__init__(f"no rule for {', '.join(operators)}: needed by {nodes}; {remedy}")
        self.missing = list(missing)


class RuleError(DeconvError):
    """A rule met a form of its operator that it does not support."""


class PluginError(DeconvError):
    """An installed plug-in cannot be loaded."""


class InputError(DeconvError):
    """An image, an array, a target or an option does not fit the model."""


class RuntimeUnavailableError(DeconvError):
    """onnxruntime, or the execution provider that was asked for, is not available."""


def sizes_of(name: str = "NAME", shape: Sequence[int | str | None] | None = None) -> str:
    """Tell how a person gives the sizes of an input, by an example that the input takes.

    Parameters
    ----------
    name
        The input.
    shape
        What is known of its sizes, which the example keeps; ``None`` where not even their number is.
    """
    sizes = _example(shape)
    argument = f"input_shapes={{{name!r}: {tuple(sizes)}}}"
    option = f"--input-shape {name}:{','.join(map(str, sizes))}"
    return f"give it, as in {way(option, argument)}"


_PICTURES = (1, 3, 224, 224)
_SHORT = 64
"""The length of each side of a volume, which has many of them."""


def _example(shape: Sequence[int | str | None] | None) -> list[int]:
    """Choose sizes: those that are known, else of one picture, signal or volume."""
    known = [size if isinstance(size, int) else None for size in shape or [None] * len(_PICTURES)]
    batch, channels, *sides = _PICTURES
    usual = [batch, *[sides[0] if len(known) <= len(_PICTURES) else _SHORT] * len(known)]
    if len(known) == len(_PICTURES) and known[-1] is None:  # else the channels come last
        usual[1] = channels
    return [usual[k] if size is None else size for k, size in enumerate(known)]
