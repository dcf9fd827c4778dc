"""Change the program at random, one place at a time, and count how many changes no test notices.

    pip install cosmic-ray
    python tools/mutants.py receptive operators --count 150

Places are drawn at random with a fixed seed, and one of Cosmic Ray's mutations at each. What survives is
printed as a diff: either a test is missing, or the change makes no difference (CONTRIBUTING.md says which).
"""

import json
import os
import random
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
ROOMS = {
    "receptive": ("onnx_deconv/receptive", "tests/test_receptive.py -k 'not squeezenet'"),
    "canonical": (
        "onnx_deconv/model/canonical.py",
        "tests/test_composite.py tests/test_branches.py tests/test_legacy.py tests/test_model.py",
    ),
    "operators": ("onnx_deconv/operators", "tests/test_rules.py tests/test_geometry.py tests/test_emit.py"),
    "passes": ("onnx_deconv/compiler/passes", "tests/test_lower.py tests/test_cancel.py"),
}
"""What is changed, and the tests that are to notice."""
POINTLESS = re.compile(r"BitOr_.*|ReplaceTrueWithFalse.*\b(frozen|strict)=True.*")
"""Of ``|``, which stands in annotations and joins dictionaries, any other operator stops the import;
``frozen`` and ``strict`` guard against mistakes of ours that nothing makes.
"""
CONFIG = """
[cosmic-ray]
module-path = {path}
timeout = 120
excluded-modules = []
test-command = {command}
distributor.name = "local"
"""


def sampled(session: Path, tree: Path, count: int, random_state: int) -> int:
    """Keep one mutation at each of some places of the source; return how many mutations there were."""
    with sqlite3.connect(session) as database:
        places = defaultdict(list)
        for module, operator, row, column, job in database.execute(
            "SELECT module_path, operator_name, start_pos_row, start_pos_col, job_id FROM mutation_specs"
            " ORDER BY module_path, start_pos_row, start_pos_col, operator_name, occurrence, operator_args"
        ):
            line = (tree / module).read_text().splitlines()[row - 1]
            if not POINTLESS.search(f"{operator} {line}"):
                places[module, row, column, operator.partition("_")[0]].append(job)
        draw = random.Random(random_state)  # noqa: S311  (no secrets)
        chosen = draw.sample(sorted(places), min(count, len(places)))
        jobs = [(draw.choice(places[place]),) for place in chosen]
        database.execute("CREATE TEMP TABLE chosen (job_id)")
        database.executemany("INSERT INTO chosen VALUES (?)", jobs)
        for table in ("work_items", "mutation_specs"):
            database.execute(f"DELETE FROM {table} WHERE job_id NOT IN chosen")  # noqa: S608
    return sum(map(len, places.values()))


def mutate(room: str, count: int, random_state: int) -> None:
    """Try the mutations of one room in a copy of the sources, and print what survived."""
    path, tests = ROOMS[room]
    with tempfile.TemporaryDirectory() as folder:
        tree, session, config = (Path(folder) / name for name in ("tree", "session.sqlite", "config.toml"))
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
        tree.mkdir()
        subprocess.run(["tar", "x"], cwd=tree, input=archive.stdout, check=True)  # noqa: S607
        command = shlex.join(
            [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", *shlex.split(tests)]
        )
        config.write_text(CONFIG.format(path=json.dumps(path), command=json.dumps(command)))
        ray = [sys.executable, "-c", "from cosmic_ray.cli import main; main()"]
        env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(shlex.split(command), cwd=tree, env=env, check=True)
        subprocess.run([*ray, "init", str(config), str(session)], cwd=tree, env=env, check=True)
        total = sampled(session, tree, count, random_state)
        subprocess.run([*ray, "exec", str(config), str(session)], cwd=tree, env=env, check=True)
        report(room, session, total)


def report(room: str, session: Path, total: int) -> None:
    """Print the figures and the survivors' diffs."""
    with sqlite3.connect(session) as database:
        results = database.execute("SELECT test_outcome, diff FROM work_results").fetchall()
    survived = [diff for outcome, diff in results if "SURVIVED" in str(outcome).upper()]
    print(f"{room}: {len(results)} of {total} mutations, {len(survived)} survived")
    for diff in survived:
        print(diff)


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
