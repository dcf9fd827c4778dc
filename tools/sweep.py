"""Convert and check every model of a folder, and write the table.

    python tools/zoo/torch_models.py -o build/zoo       # and the other builders there
    python tools/sweep.py build/zoo                     # checks what has no newer result; writes docs/zoo.md

For NAME.onnx and NAME.json in the folder, NAME.result.json is written. An interrupted sweep goes on where it
stopped; a failure is a result too.
"""

import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import click
from zoo_table import render

HERE = Path(__file__).parent


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", default="*", metavar="GLOB", help="The names to check.")
@click.option("--again", is_flag=True, help="Check again what has a result.")
@click.option("--failed", is_flag=True, help="Check again what has no good result.")
@click.option("--limit", default=600, show_default=True, help="Seconds for one model.")
@click.option("--table", type=click.Path(path_type=Path), default=HERE.parent / "docs" / "zoo.md")
def main(folder: Path, only: str, again: bool, failed: bool, limit: int, table: Path) -> None:  # noqa: FBT001
    """Sweep."""
    names = sorted(p.stem for p in folder.glob("*.json") if not p.stem.endswith(".result"))
    chosen = [n for n in names if fnmatch(n, only) and (folder / f"{n}.onnx").exists()]
    chosen.sort(key=lambda n: (folder / f"{n}.onnx").stat().st_size)  # the quick ones first
    due = [n for n in chosen if again or is_due(folder, n, failed=failed)]
    for count, name in enumerate(due, 1):
        if not (again or is_due(folder, name, failed=failed)):
            continue  # another sweep over the same folder was faster
        say(f"[{count}/{len(due)}] {name} ")
        say(checked(folder, name, limit) + "\n")
    table.write_text(render(folder), encoding="utf-8")
    click.echo(f"wrote {table}")


def is_due(folder: Path, name: str, *, failed: bool) -> bool:
    """Tell whether a model has no result that is newer than its files."""
    result = folder / f"{name}.result.json"
    if not result.exists():
        return True
    newest = max((folder / f"{name}{end}").stat().st_mtime for end in (".onnx", ".json"))
    good = json.loads(result.read_text())["verdict"].startswith("ok")
    return result.stat().st_mtime < newest or (failed and not good)


def checked(folder: Path, name: str, limit: int) -> str:
    """Check one model in a process of its own; return its verdict."""
    record, result = folder / f"{name}.json", folder / f"{name}.result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "zoo_check.py"), str(record), str(result)]
    reason = ""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        reason = f"the process died ({ended.returncode}) {ended.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        reason = f"no end after {limit} s"
    if not result.exists():
        facts = json.loads(record.read_text())
        result.write_text(json.dumps({**facts, "verdict": "failed", "reason": reason}) + "\n")
    found = json.loads(result.read_text())
    return f"{found['verdict']} {found.get('reason', '')} {found.get('error', 0):.1e}"


def say(text: str) -> None:
    """Show progress, on a terminal alone."""
    if sys.stderr.isatty():
        click.echo(text, err=True, nl=False)


if __name__ == "__main__":
    main()
