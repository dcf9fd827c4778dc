"""A run over many photographs: what is done already, what it takes on the disk, and its summary."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.standing import beside
from onnx_deconv.cli.console import Console, plain_data
from onnx_deconv.cli.explanation import Job
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing
from onnx_deconv.imaging import VIEWS, Picture, at_most, save_picture

JOURNAL, SUMMARY, INDEX, THUMBNAILS = "explained.jsonl", "summary.csv", "index.html", "thumbnails"
_THUMBNAIL = 160
"""Pixels along the longer side of a thumbnail."""
_JUDGED_BY = 10.0
"""Seconds of a cluster's work by which the rest is judged."""
_COLUMNS = (
    "image", "rank", "label", "class", "channel", "layer", "score", "probability", "standing", "method",
    "seed", "depends_on_image", "note", "improbable", "picture", "error",
)  # fmt: skip

Record = Mapping[str, Any]


class Batch:
    """What a run over several photographs keeps beside their explanations.

    Each photograph whose explanations are written gets a line of JSON in ``explained.jsonl``. A run that was
    interrupted goes on after the last of them. What other options were for, and a photograph that has
    changed, is done again.

    Parameters
    ----------
    job
        What is done to each photograph.
    paths
        The photographs.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self._job, self._paths = job, paths
        self._made = _digest(job)
        self._errors: dict[str, str] = {}
        known = {entry["image"]: entry for entry in self._read() if self._holds(entry)}
        self.done: dict[str, list[Record]] = {path: known[path]["records"] for path in paths if path in known}
        job.taken.extend(Path(r["files"]["record"]).stem for found in self.done.values() for r in found)
        self._said, self._start = False, time.monotonic()
        self._first: tuple[float, int] | None = None

    def note(self, path: str, explained: Sequence[tuple[Record, Picture | None]]) -> None:
        """Note that a photograph's explanations are written; write their thumbnails."""
        records = [plain_data(record) for record, _ in explained]
        folder(self._job.output / THUMBNAILS)
        for record, thumbnail in explained:
            if thumbnail is not None:
                save_picture(self._thumbnail(record), thumbnail)
        entry = {"made": self._made, "image": path, "file": _state(path), "records": records}
        with (self._job.output / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.done[path] = records

    def fail(self, path: str, error: str) -> None:
        """Note that a photograph cannot be explained."""
        self._errors[path] = error

    def say_what_it_takes(self, console: Console, path: str, *, elsewhere: bool) -> None:
        """Say what the other photographs will take, judged by this one.

        On a cluster the first takes the longest to come, and the others are explained meanwhile: there the
        time is judged by how many follow in the next seconds.

        Raises
        ------
        InputError
            If the disk has not so much room.
        """
        if self._said:
            return
        left, now = len(self._paths) - len(self.done) - len(self._errors), time.monotonic()
        if self._first is None:
            self._first, self._said = (now, left), not elsewhere
            sizes = (Path(file).stat().st_size for record in self.done[path] for file in _files(record))
            or_else = ", fewer --view, --format webp, or a --max-size"
            took = 0.0 if elsewhere else now - self._start
            console.say_the_rest(
                left, "photograph", took, self._job.output, sum(sizes), or_else, elsewhere=elsewhere
            )
        elif now - self._first[0] > _JUDGED_BY:
            self._said = True
            each = (now - self._first[0]) / (self._first[1] - left)
            console.say_the_rest(left, "photograph", each, elsewhere=True)

    def write_summary(self) -> list[Path]:
        """Write the table and the page of all photographs; return the files."""
        if not self.done:
            return []
        home = folder(self._job.output)
        rows = list(self._rows())
        table, page = home / SUMMARY, home / INDEX
        with replacing(table) as temporary:
            temporary.write_text(_csv(rows), encoding="utf-8", newline="")
        with replacing(page) as temporary:
            temporary.write_text(_page(rows), encoding="utf-8")
        return [table, page]

    def _rows(self) -> Iterator[dict[str, Any]]:
        for path in self._paths:
            for record in self.done.get(path, ()):
                standing = record["standing"]
                yield {
                    **record,
                    "standing": ""
                    if standing["rank"] is None
                    else f"{standing['rank']} of {standing['among']}",
                    "picture": Path(_picture(record)).name,
                    "thumbnail": f"{THUMBNAILS}/{self._thumbnail(record).name}" if _views(record) else None,
                }
            if path in self._errors:
                yield {"image": path, "error": self._errors[path]}

    def _read(self) -> Iterator[dict[str, Any]]:
        """Read the journal; a line that was cut off counts as none."""
        path = self._job.output / JOURNAL
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); delete it to begin again") from error
        if text and not text.endswith("\n"):  # what is added shall stand on a line of its own
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry

    def _holds(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether what a line says is still so."""
        if entry.get("made") != self._made or entry.get("file") != _state(entry["image"]):
            return False
        drawn = (record for record in entry["records"] if _views(record))
        thumbnails = (self._thumbnail(record) for record in drawn)
        files = (Path(file) for record in entry["records"] for file in _files(record))
        return all(file.is_file() for file in (*files, *thumbnails))

    def _thumbnail(self, record: Record) -> Path:
        return self._job.output / THUMBNAILS / f"{_stem(record)}.webp"


def thumbnail_of(one: Explanation) -> Picture | None:
    """Draw an explanation as small as the page of all shows it; ``None`` of one that cannot be drawn."""
    overlays = (one.of_input(name).views()["overlay"] for name in one.drawn)
    return next((at_most(overlay, _THUMBNAIL) for overlay in overlays), None)


def _digest(job: Job) -> str:
    """Identify what a photograph's explanations depend on beside the photograph."""
    head = job.study.explainer.head
    made = {
        **job.study.made_by(),
        "method": [job.study.explainer.method(each.layer).as_dict() for each in job.selections],
        "labels": job.study.explainer.labels.names,
        "explained": [head.output, head.kind, head.assumed],
        "file": _state(job.study.explainer.model.name),
        "targets": [vars(each) for each in job.selections],
        "views": job.views,
        "suffix": job.suffix,
        "most": job.most,
        "output": job.output,
    }
    text = json.dumps(plain_data(made), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _state(file: str) -> list[int]:
    """Tell a file, or the archive that it is in, from a changed one: its size, and when it was written."""
    path = Path(file)
    for each in (path, *path.parents):
        with suppress(OSError):
            found = each.stat()
            return [found.st_size, found.st_mtime_ns] if each.is_file() else []
    return []


def _picture(record: Record) -> str:
    """Choose the picture that a thumbnail leads to."""
    views = _views(record)
    return str(record["files"][views[0] if views else "record"])


def _views(record: Record) -> list[str]:
    """List the views that were drawn, the best for looking at first."""
    return [name for view in reversed(VIEWS) for name in record["files"] if name.startswith(view)]


def _files(record: Record) -> list[str]:
    return [*record["files"].values()]


def _stem(record: Record) -> str:
    return Path(record["files"]["record"]).stem


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Keep spreadsheets from running a name as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Explanations</title>
<link rel="icon" href="data:,">
<style>
body { font: 14px system-ui, sans-serif; margin: 1rem; color-scheme: light dark }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem }
figure { margin: 0; overflow-wrap: anywhere } small { display: block; font-size: 12px }
img { width: 160px; max-width: 100%; height: 160px; object-fit: contain; object-position: left bottom }
[hidden] { display: none } input { font: inherit; margin: 0 0 1rem; width: min(100%, 24rem) }
</style>
<header>
<h1>Explanations</h1>
<label>Search <input type="search" id="search"></label>
</header>
<main>
"""
_TAIL = """</main>
<script>
const figures = [...document.querySelectorAll("figure")];
document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const each of figures) each.hidden = !each.textContent.toLowerCase().includes(wanted);
});
</script>
</html>
"""


def _page(rows: Sequence[Mapping[str, Any]]) -> str:
    return _HEAD + "".join(map(_figure, rows)) + _TAIL


def _figure(row: Mapping[str, Any]) -> str:
    name = escape(Path(row["image"]).name)
    if "error" in row:
        return (
            f"<figure><figcaption><b>{name}</b><small>{escape(row['error'])}</small></figcaption></figure>\n"
        )
    what = row["label"] or row["target"]
    notes = "".join(f"<small>{escape(row[key])}</small>" for key in ("note", "improbable") if row[key])
    rank = f", rank {row['standing']}" if row["standing"] else ""
    words = f"{escape(what)}, {row['score']:.3g}{beside(row['score'], row['probability'])}{rank}"
    picture = "no picture"
    if row["thumbnail"] is not None:
        source = quote(row["thumbnail"])
        picture = f'<img loading="lazy" alt="{escape(what)} in {name}" src="{source}">'
    return (
        f'<figure><a href="{quote(row["picture"])}">{picture}</a>'
        f"<figcaption><b>{name}</b><small>{words}</small><small>{escape(row['method'])}</small>{notes}"
        "</figcaption></figure>\n"
    )
