"""An evaluation as one HTML page: the table, the differences, and pictures of the worst cases."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from onnx_deconv.evaluation.bootstrap import Interval
from onnx_deconv.evaluation.cases import Case
from onnx_deconv.evaluation.localisation import Mask
from onnx_deconv.evaluation.methods import Maps
from onnx_deconv.evaluation.results import ARROWS, Evaluation
from onnx_deconv.files import replacing
from onnx_deconv.imaging import (
    PathLike,
    Photo,
    Picture,
    Preprocess,
    at_height,
    joined,
    map_resized,
    outlined,
    overlay,
    saliency,
    webp,
)
from onnx_deconv.labels import Labels

_HEIGHT, _QUALITY = 224, 75
"""Of the pictures: their height in pixels, and the quality of their compression."""


@dataclass(frozen=True)
class WorstCase:
    """A case on which a method did badly.

    Attributes
    ----------
    method
        The method's name.
    caption
        Which photograph and class, and what was measured.
    picture
        What the model sees, the object outlined, beside the same with the map over it.
    """

    method: str
    caption: str
    picture: Picture


def draw_worst(
    found: Evaluation, number: str, method: str, maps: Maps, preprocess: Preprocess,
    labels: Labels, count: int = 3,
) -> list[WorstCase]:  # fmt: skip
    """Draw the cases on which a method did worst.

    Parameters
    ----------
    found
        The evaluation.
    number
        By which number.
    method, maps
        The method's name, and the method itself.
    preprocess
        How photographs become the model's input.
    labels
        Names of the classes.
    count
        How many.
    """
    values = dict(zip(found.cases, found.values(method, number), strict=True))
    return [
        WorstCase(
            method,
            f"{case.name}, {labels.spoken(case.target)}: {number} {values[case]:.2f}",
            _drawn(case, maps, preprocess),
        )
        for case in found.worst(method, number, count)
    ]


def write_report(
    path: PathLike, found: Evaluation, worst: Sequence[WorstCase] = (), worst_by: str = ""
) -> None:
    """Write an evaluation as one HTML page that needs neither server nor network.

    Parameters
    ----------
    path
        The file.
    found
        The evaluation.
    worst
        The worst cases, each method's together.
    worst_by
        The number that they are worst by.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    made = found.made
    about = f"{made['model']}, {made['photographs']} photographs, {len(found.cases)} cases."
    by = found.numbers[worst_by].about if worst_by else ""
    page = Template(files("onnx_deconv.evaluation").joinpath("report.html").read_text("utf-8")).substitute(
        about=escape(about),
        reference=escape(found.methods[0]),
        means=_means(found),
        differences=_differences(found),
        worst_by=escape(f"By {worst_by}: {by}." if worst else "None were asked for."),
        worst="\n".join(_figures(method, worst) for method in dict.fromkeys(w.method for w in worst)),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _means(found: Evaluation) -> str:
    head = ["", *found.methods, "what it is"]
    rows = []
    for number, measure in found.numbers.items():
        means = [found.mean(method, number) for method in found.methods]
        best = _best(means, measure.better)
        cells = [_cell(mean, "best" if mean is not None and mean.mean == best else "") for mean in means]
        about = f"{measure.about}{f' ({measure.source})' if measure.source else ''}"
        rows.append([_named(number, measure.better), *cells, _about(about)])
    return _table(head, rows)


def _differences(found: Evaluation) -> str:
    reference, *others = found.methods
    rows = []
    for number, measure in found.numbers.items():
        gaps = [found.difference(number, method, reference) for method in others]
        cells = [_cell(gap, "unsure" if gap is None or gap.low <= 0 <= gap.high else "") for gap in gaps]
        rows.append([_named(number, measure.better), *cells])
    return _table(["", *others], rows)


def _best(means: Sequence[Interval | None], better: str) -> float | None:
    known = [mean.mean for mean in means if mean is not None]
    if better == "neither" or not known:
        return None
    return max(known) if better == "higher" else min(known)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    names = (f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in head)
    lines = ["".join(names), *("".join(row) for row in rows)]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(interval: Interval | None, kind: str) -> str:
    if interval is None:
        return "<td>–</td>"
    text = f"{interval.mean:.2f} <small>({interval.low:.2f} to {interval.high:.2f}; {interval.size})</small>"
    return f'<td class="{kind}">{text}</td>'


def _named(number: str, better: str) -> str:
    return f'<th scope="row">{escape(number + ARROWS[better])}</th>'


def _about(text: str) -> str:
    return f'<td class="about">{escape(text)}</td>'


def _figures(method: str, worst: Sequence[WorstCase]) -> str:
    shown = [_figure(each) for each in worst if each.method == method]
    return f'<h3>{escape(method)}</h3><div class="shown">{"".join(shown)}</div>'


def _figure(worst: WorstCase) -> str:
    data = base64.b64encode(webp(worst.picture, _QUALITY)).decode()
    image = f'<img src="data:image/webp;base64,{data}" alt="{escape(worst.caption)}">'
    return f"<figure>{image}<figcaption>{escape(worst.caption)}</figcaption></figure>"


def _drawn(case: Case, maps: Maps, preprocess: Preprocess) -> Picture:
    photo = Photo.read(case.path, preprocess)
    (found,) = maps(photo.tensor[None], [case.target])
    view = at_height(photo.view, _HEIGHT)
    height, width = view.shape[:2]
    shown = view if case.inside is None else outlined(view, _enlarged(case.inside, height, width))
    heat = np.clip(map_resized(saliency(found), (height, width)), 0, 1)
    return joined([shown, overlay(view, heat)], axis=1)


def _enlarged(inside: Mask, height: int, width: int) -> Mask:
    """Bring a mask to a picture's size: each pixel is that of the mask below its centre."""
    rows, columns = (
        (np.arange(size) * 2 + 1) * own // (2 * size)
        for size, own in zip((height, width), inside.shape, strict=True)
    )
    return inside[np.ix_(rows, columns)]
