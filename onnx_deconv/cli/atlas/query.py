"""``onnx-deconv atlas query``: ask a finished atlas."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import click

from onnx_deconv.atlas.query import ClassOf, Columns, Query, ask, classes_from, folder_of
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, counted, table
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.options import Sectioned, option, takes
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.labels import Labels

_EPILOG = """\b
Examples:
  onnx-deconv atlas query atlas "class=tabby top=20"
  onnx-deconv atlas query atlas "near=conv9:17" -o alike.csv
  onnx-deconv atlas query atlas "layer=conv9 channel=17" --json

QUESTION is any of layer=NAME (or conv9, or a part of the name), channel=N, image=NAME, top=N, and:

\b
  class=NAME          the feature maps that have most images of a class among their strongest
  near=LAYER:CHANNEL  the feature maps, of any layer or of layer=NAME, with most images in common with one

An image's class is its folder's name, or what --classes says. The answer is printed, or written to a file:
.csv, .jsonl, .parquet or .feather, which pandas and other tools read.
"""


@dataclass(frozen=True)
class QueryOptions:
    """What tells the images' classes."""

    classes: Annotated[
        Path | None,
        option("--classes", "A table (.csv) with the columns image and class: names or indices.", type=PATH),
    ] = None
    labels: Annotated[
        Path | None,
        option("--labels", "The names of the classes that are given by their indices.", type=PATH),
    ] = None


@click.command(cls=Sectioned, epilog=_EPILOG)
@click.argument("atlas", type=PATH)
@click.argument("question", default="")
@click.option("-o", "--output", type=PATH, help="Write the answer to this file.  [default: it is printed]")
@takes("options", QueryOptions)
@groups.common
@click.pass_obj
def command(
    console: Console, /, atlas: Path, question: str, output: Path | None, *, options: QueryOptions
) -> int:
    """Ask ATLAS, a folder that 'atlas build' made, which feature maps fire for a class, or are alike."""
    query, class_of = Query.parse(question), _classes(options)
    columns = ask(Reader(atlas).atlas, query, class_of)
    count = len(columns["layer"])
    if output is not None:
        write(output, columns)
        console.result({"file": output, "rows": count}, f"{output}: {counted(count, 'row')}")
        return 0
    rows = list(zip(*columns.values(), strict=True))
    if console.json:
        for row in rows:
            console.result(dict(zip(columns, row, strict=True)), "")
    else:
        shown = [[f"{each:.4g}" if isinstance(each, float) else str(each) for each in row] for row in rows]
        console.result({}, table([list(columns), *shown]))
    return 0


def _classes(options: QueryOptions) -> ClassOf:
    names = Labels.read(options.labels).names if options.labels is not None else ()
    if options.classes is None:
        return folder_of
    try:
        with options.classes.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return classes_from({row["image"]: row["class"] for row in rows}, names)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{options.classes}: cannot be read ({error})") from error
    except KeyError as error:
        raise InputError(f"{options.classes}: has no column {error}; give image and class") from error


def write(path: Path, columns: Columns) -> None:
    """Write a table in the format that the file's suffix names.

    Raises
    ------
    InputError
        If the suffix is another, the file cannot be written, or the format needs a package that is not there.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: tables are written as {', '.join(_WRITERS)}; choose one of these suffixes")
    with replacing(path) as temporary:
        writer(temporary, columns)


def _csv(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _jsonl(path: Path, columns: Columns) -> None:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _arrow(path: Path, columns: Columns) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import feather, parquet  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"{path.suffix} is written by pyarrow: pip install 'onnx-deconv[arrow]', or choose .csv or .jsonl"
        ) from error
    whole = pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(whole, path)
    else:
        feather.write_feather(whole, path)


_WRITERS: Mapping[str, Callable[[Path, Columns], None]] = MappingProxyType(
    {".csv": _csv, ".jsonl": _jsonl, ".parquet": _arrow, ".feather": _arrow}
)
