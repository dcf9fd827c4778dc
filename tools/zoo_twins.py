"""Same network, same explanation: files of one network, with the same weights, from several tools.

    python tools/zoo_twins.py FOLDER [--only GLOB]      # after the builders; writes FOLDER/twins.md

The files of one architecture whose outputs on the same random image agree to 1e-3 are the same network; the
largest difference between their reconstructions is told, for each rule table. Files of 16-bit floats and of
quantised numbers compute something else, and are left out.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np
from zoo_check import TABLES, compiled, numbers, run, seed_of

from onnx_deconv import DeconvError, Pair, load
from onnx_deconv.runtime import PairSession

ROUNDED = {"fp16", "quantised"}
SAME = 1e-3


class Twin:
    """One file: what it gives for the image, and what its companions give."""

    def __init__(self, folder: Path, facts: dict[str, Any], image: np.ndarray | None) -> None:
        self.name = facts["name"]
        path = folder / f"{self.name}.onnx"
        model = load(path)
        (self.input,) = facts["inputs"]
        own = numbers(model, facts["inputs"])[self.input]
        self.image = own if image is None else fitted(image, own.shape)
        self.pairs = compiled(model, facts.get("explain"))
        self.outputs = [*run(path, {self.input: self.image}).values()]

    def reconstructions(self) -> dict[str, np.ndarray]:
        """Return the reconstruction by rule table, channels first."""
        return {rules: first_channels(self._back(pair)) for rules, pair in self.pairs.items()}

    def _back(self, pair: Pair) -> np.ndarray:
        session = PairSession(pair, "cpu")
        values = session.run_forward({self.input: self.image})
        scores = values[pair.manifest["explained"]["value"]].numpy()
        (back,) = session.run_deconv(values, seed_of(scores).astype(np.float32)).values()
        return back

    def is_same(self, other: "Twin") -> bool:
        """Tell whether both give the same first output."""
        a, b = self.outputs[0], other.outputs[0]
        return a.shape == b.shape and np.abs(a - b).max() <= SAME * np.abs(b).max()


def fitted(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give an image the layout that a file wants."""
    if image.shape == shape:
        return image
    for moved in (np.moveaxis(image, 1, -1), np.moveaxis(image, -1, 1)):
        if moved.shape == shape:
            return np.ascontiguousarray(moved)
    return image


def first_channels(image: np.ndarray) -> np.ndarray:
    """Put the channels of a colour image first."""
    last = image.ndim == 4 and image.shape[-1] == 3 and image.shape[1] != 3  # noqa: PLR2004
    return np.moveaxis(image, -1, 1) if last else image


def families(folder: Path, only: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the files of each network of one framework."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        facts = json.loads(path.read_text())
        chosen = fnmatch(path.stem, only) and not path.stem.endswith(".result")
        if chosen and "failed" not in facts and facts["family"] not in ROUNDED and len(facts["inputs"]) == 1:
            architecture = facts["architecture"].lower().replace("_100", "")
            groups[facts["framework"].split(" ")[0], architecture].append({**facts, "name": path.stem})
    yield from ((f"{a} ({f})", files) for (f, a), files in sorted(groups.items()) if len(files) > 1)


def compared(folder: Path, files: list[dict[str, Any]]) -> tuple[list[str], float] | None:
    """Return the names of the files that are one network, and by how much their reconstructions differ."""
    first = Twin(folder, files[0], None)
    expected, names, worst = first.reconstructions(), [first.name], 0.0
    for facts in files[1:]:
        try:
            other = Twin(folder, facts, first.image)
        except DeconvError:
            continue  # the sweep's table says why
        if not other.is_same(first):
            continue
        names.append(other.name)
        found = other.reconstructions()
        apart = [np.abs(found[t] - expected[t]).max() / np.abs(expected[t]).max() for t in TABLES]
        worst = max(worst, *map(float, apart))
    return (names, worst) if len(names) > 1 else None


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", default="*", metavar="GLOB", help="The names to compare.")
def main(folder: Path, only: str) -> None:
    """Print the table, and write it into the folder if it is whole."""
    rows = ["| network | files | largest difference |", "| --- | --- | --- |"]
    for network, files in families(folder, only):
        found = compared(folder, files)
        if found is not None:
            rows.append(f"| {network} | {', '.join(found[0])} | {found[1]:.0e} |")
            click.echo(rows[-1])
    if only == "*":
        (folder / "twins.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
