"""A short part of tools/torture.py, and what the project says of the versions that it works with."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the tool reads /proc")
@pytest.mark.parametrize("campaign", ["model-bytes", "places", "images", "archives", "manifests", "atlases"])
def test_damaged_files_end_in_one_line(campaign):
    command = [sys.executable, ROOT / "tools" / "torture.py", "--campaign", campaign, "--cases", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{campaign}: 12 cases, none failed" in done.stdout


def test_the_floors_that_are_tested_are_those_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [each.split(">=") for each in (*project["dependencies"], *extras["cpu"], *extras["test"])]
    lines = (ROOT / "tools" / "floors.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(pinned) == {name for name, _ in declared} - {"hatchling"}  # which makes packages, no more
    for name, least in declared:
        assert pinned.get(name, least).startswith(least)
