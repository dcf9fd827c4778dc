"""Explanations in notebooks: HTML, with every text escaped."""

import base64
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from onnx_deconv.imaging import Picture, webp

_QUALITY = 90
"""Of pictures in a page: a notebook keeps them all, and PNG takes ten times the room."""
_CELL = "style='text-align:left;vertical-align:top'"


def figure(picture: Picture | None, name: str, facts: Mapping[str, str]) -> str:
    """Write a picture, if there is one, and a table of facts below it."""
    rows = "".join(
        f"<tr><th {_CELL}>{escape(key)}</th><td {_CELL}>{escape(value)}</td></tr>"
        for key, value in facts.items()
    )
    image = "" if picture is None else _image(picture, name)
    return f"<figure style='margin:0'>{image}<figcaption><table>{rows}</table></figcaption></figure>"


def grid(pictures: Sequence[tuple[Picture | None, str, str]]) -> str:
    """Write pictures in rows as wide as the page: (picture, caption, note)."""
    figures = "".join(
        "<figure style='margin:0;max-width:256px'>"
        f"{'' if picture is None else _image(picture, caption)}"
        f"<figcaption>{escape(caption)}<br/><small>{escape(note)}</small></figcaption></figure>"
        for picture, caption, note in pictures
    )
    return f"<div style='display:flex;flex-wrap:wrap;gap:8px'>{figures}</div>"


def displayed(what: Any) -> bool:
    """Show something in the notebook's cell that is running; tell whether there is one."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return False
    ipython.display.display(what)
    return True


def _image(picture: Picture, alternative: str) -> str:
    pixels = base64.b64encode(webp(picture, _QUALITY)).decode()
    return f"<img style='max-width:100%' alt='{escape(alternative)}' src='data:image/webp;base64,{pixels}'>"
