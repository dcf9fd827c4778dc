"""Change the program at random, one place at a time, and count the changes that no test notices.

    pip install cosmic-ray
    python tools/mutants.py receptive operators --count 150

Places are drawn at random with a fixed seed, and one of Cosmic Ray's mutations at each. What survives is
printed as a diff: either a test is missing, or the change makes no difference.
"""

import difflib
import importlib.util
import math
import os
import random
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import hypothesis
import onnx.backend.test
import onnx.reference
import onnx_graphsurgeon
import onnxruntime
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from PIL import Image

ROOT = Path(__file__).parents[1]
PRELOADED = hypothesis, onnx.backend.test, onnx.reference, onnx_graphsurgeon, onnxruntime, Image
"""What every test run would spend most of its time importing; each runs in a fork of this process."""


class Room(NamedTuple):
    """What is changed, and the tests that are to notice: those that matter first."""

    files: Sequence[str]
    tests: str
    without: Sequence[str] = ()


SIGHT = "operators/fields.py", "operators/sight.py", "operators/taps.py"
ROOMS = {
    "receptive": Room(("receptive/*.py", *SIGHT), "tests/test_receptive.py -k 'not squeezenet'"),
    "canonical": Room(
        ("model/canonical.py",),
        "tests/test_canonical.py tests/test_unusual_files.py tests/test_branches.py tests/test_composite.py",
    ),
    "operators": Room(
        ("operators/*.py",),
        "tests/test_rules.py tests/test_dynamic.py tests/test_emit.py tests/test_geometry.py "
        "tests/test_excitation.py tests/test_lrp.py -m 'not slow'",
        SIGHT,
    ),
    "passes": Room(
        ("compiler/passes/*.py",),
        "tests/test_pass_patterns.py tests/test_scalings.py tests/test_passes.py -k 'not many_channels'",
        ("compiler/passes/winograd.py",),
    ),
    "winograd": Room(("compiler/passes/winograd.py",), "tests/test_passes.py -k many_channels"),
}
POINTLESS = re.compile(r"BitOr_.*|ReplaceTrueWithFalse.*\b(frozen|strict)=True.*")
"""Of ``|``, which stands in annotations and joins dictionaries, any other operator stops the import;
``frozen`` and ``strict`` guard against mistakes of ours that nothing makes.
"""
MOST_MEMORY = 16 << 30
OPTIONS = "-xq", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"
LONGEST = 600
"""Seconds of processor time for the tests as they are. A changed program that takes twice as long is
taken for an endless loop, which is noticed too.
"""


class Mutation(NamedTuple):
    """One operator of Cosmic Ray at its n-th place in a file."""

    path: Path
    operator: str
    occurrence: int
    place: tuple[int, int]


def mutations(path: Path) -> Iterator[Mutation]:
    """List all mutations of a file."""
    source = path.read_text(encoding="utf-8")
    lines, tree = source.splitlines(), get_ast(source)
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():
            continue
        places = (start for node in ast_nodes(tree) for start, _ in operator().mutation_positions(node))
        for occurrence, place in enumerate(places):
            if not POINTLESS.search(f"{name} {lines[place[0] - 1]}"):
                yield Mutation(path, name, occurrence, place)


def drawn(candidates: Sequence[Mutation], count: int, random_state: int) -> list[Mutation]:
    """Draw places, and one mutation at each."""
    places = defaultdict(list)
    for each in candidates:
        places[str(each.path), each.place, each.operator.partition("_")[0]].append(each)
    draw = random.Random(random_state)  # noqa: S311  (no secrets)
    return [draw.choice(places[place]) for place in draw.sample(sorted(places), min(count, len(places)))]


def seconds_to_pass(tree: Path, tests: str, limit: int = LONGEST) -> int | None:
    """Run the tests in a fork of this process: return the processor time they took, ``None`` if they fail."""
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            os.chdir(tree)
            tempfile.tempdir = str(tree)  # a fork that ends here cleans nothing up
            sys.path.insert(0, str(tree))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            code = pytest.main([*OPTIONS, *shlex.split(tests)])
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return None if status else math.ceil(usage.ru_utime + usage.ru_stime)


def mutate(name: str, count: int, random_state: int) -> None:
    """Try the mutations of one room in a copy of the sources, and print what survived."""
    room = ROOMS[name]
    sys.dont_write_bytecode = False
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
        subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)  # noqa: S607
        tree = Path(folder)
        seconds = seconds_to_pass(tree, room.tests)  # this run leaves the bytecode of what does not change
        if seconds is None:
            raise click.ClickException(f"{room.tests}: they fail as it is")
        sys.dont_write_bytecode = True
        candidates = [each for path in files(tree / "onnx_deconv", room) for each in mutations(path)]
        chosen = drawn(candidates, count, random_state)
        survivors = [each for each in chosen if survives(each, tree, room.tests, 2 * seconds + 2)]
    print(f"{name}: {len(chosen)} of {len(candidates)} mutations, {len(survivors)} survived")


def files(package: Path, room: Room) -> list[Path]:
    """List a room's files."""
    without = {package / name for name in room.without}
    return sorted({path for pattern in room.files for path in package.glob(pattern)} - without)


def survives(mutation: Mutation, tree: Path, tests: str, limit: int) -> bool:
    """Tell whether no test notices, and print the diff if so."""
    source = mutation.path.read_text(encoding="utf-8")
    changed = mutate_code(source, get_operator(mutation.operator)(), mutation.occurrence)
    mutation.path.write_text(changed, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(mutation.path))).unlink(missing_ok=True)
    unnoticed = seconds_to_pass(tree, tests, limit) is not None
    print("survived" if unnoticed else ".", end="\n" if unnoticed else "", file=sys.stderr, flush=True)
    mutation.path.write_text(source, encoding="utf-8")
    if unnoticed:
        name = str(mutation.path.relative_to(tree))
        diff = difflib.unified_diff(source.splitlines(), changed.splitlines(), name, name, n=0, lineterm="")
        print("\n".join(diff), flush=True)
    return unnoticed


@click.command()
@click.argument("rooms", nargs=-1, type=click.Choice(list(ROOMS)))
@click.option("--count", default=150, show_default=True, help="How many mutations to try per room.")
@click.option("--random-state", default=0, show_default=True, help="Seeds the choice of mutations.")
def main(rooms: tuple[str, ...], count: int, random_state: int) -> None:
    """Count the changes that no test notices."""
    for room in rooms or ROOMS:
        mutate(room, count, random_state)


if __name__ == "__main__":
    main()
