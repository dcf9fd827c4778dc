"""Read ``atlas.json`` as what it is: text from a file, which anybody may have changed."""

import json
import re
from collections.abc import Mapping
from typing import Any

FORMAT = 4
"""The version of the index's format."""

_STEM = re.compile(r"[0-9]{3,}-[A-Za-z0-9.-]{1,80}")
_MOST_UNITS = 1 << 26
"""Units of a layer; networks have a few thousand feature maps, and atlases a few images for each."""
_MOST_AXES = 4
_MOST_PIXELS = 1 << 12
"""Height and width, at most, of a unit's picture."""


def checked_index(text: str) -> dict[str, Any]:
    """Parse the index of an atlas.

    Raises
    ------
    ValueError
        If it does not describe an atlas; nothing is allocated or opened by what it says before that.
    """
    try:
        index = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(index, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  (it is a text's)
    _require(index.get("format") == FORMAT, f"it is not of format {FORMAT}, which this version reads")
    _check_whole(index.get("top"), 1, _MOST_UNITS, "top")
    _check_whole(index.get("seen"), 0, 1 << 60, "seen")
    for name in ("made", "failed"):
        _require(isinstance(index.get(name), dict), f"{name!r} is no object")
    _check_made(index["made"])
    _require(all(isinstance(reason, str) for reason in index["failed"].values()), "'failed' holds no reasons")
    _require(isinstance(index.get("layers"), list), "'layers' is no list")
    for each in index["layers"]:
        _check_layer(each, index["top"])
    images = index.get("images")
    known = isinstance(images, list) and all(isinstance(name, str) for name in images)
    _require(known, "'images' holds no names")
    names = [each["layer"] for each in index["layers"]]
    _require(len({*names}) == len(names), "a layer is there twice")
    return index


def stems_in(text: str) -> list[str]:
    """Return how the names of an atlas's files begin, by its index of this format or an older one."""
    try:
        layers = json.loads(text)["layers"]
        stems = [each["files"] for each in layers]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []  # what is no atlas has no files that are known
    return [stem for stem in stems if isinstance(stem, str) and _STEM.fullmatch(stem)]


def _check_made(made: Mapping[str, Any]) -> None:
    _require(isinstance(made.get("model", ""), str), "the model's name is no text")
    for name in ("semantics", "preprocess", "numbers", "ranked_by"):
        _require(isinstance(made.get(name, {}), dict), f"{name!r} is no object")
    _require(isinstance(made.get("semantics", {}).get("rules", ""), str), "the rule table's name is no text")


def _check_layer(each: Any, top: int) -> None:
    _require(isinstance(each, dict) and isinstance(each.get("layer"), str), "a layer without a name")
    name = each["layer"]
    stem = each.get("files")
    _require(isinstance(stem, str) and _STEM.fullmatch(stem), f"{name!r} has no name of files")
    _check_whole(each.get("channels"), 1, _MOST_UNITS // top, f"the channels of {name!r}")
    _check_whole(each.get("axes"), 0, _MOST_AXES, f"the axes of {name!r}")
    _check_wholes(each.get("tile"), 2, f"the pictures' size of {name!r}")
    for pixels in each["tile"]:
        _check_whole(pixels, 1, _MOST_PIXELS, f"the pictures' size of {name!r}")


def _check_wholes(values: Any, count: int, what: str) -> None:
    _require(isinstance(values, list) and len(values) == count, f"{what} has not {count} numbers")
    for value in values:
        _check_whole(value, -(1 << 31), 1 << 31, what)


def _check_whole(value: Any, least: int, most: int, what: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    _require(whole and least <= value <= most, f"{what}: no whole number from {least} to {most}")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)
