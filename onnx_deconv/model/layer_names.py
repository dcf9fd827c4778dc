"""What a layer may be called."""

import re
from collections.abc import Mapping


def layers_named(name: str, names: Mapping[str, str], numbers: Mapping[str, str]) -> list[str]:
    """List the layers that a name means: one, unless it is not clear which, or there is none.

    Parameters
    ----------
    name
        A layer's name, or its number (``conv3``). Where nothing is called that: a part of a name between
        slashes, dots, colons and underscores (``pool10`` of ``pool10_1``), else the beginning of such a part,
        whatever the case.
    names
        Layers by their names.
    numbers
        Layers by their numbers.
    """
    for known in (names, numbers):
        if name in known:
            return [known[name]]
    if not name or name.isdecimal():
        return []
    part = rf"(?:^|[/.:_]){re.escape(name)}"
    return _matching(part + r"(?:$|[/.:_])", names) or _matching(part, names)


def _matching(pattern: str, names: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(names[name] for name in names if re.search(pattern, name, re.IGNORECASE)))
