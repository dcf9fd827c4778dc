"""Each room imports only the rooms that its contract names; each foreign package has one door."""

import ast
from pathlib import Path

import pytest

import onnx_deconv

ROOT = Path(onnx_deconv.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))

# What each room may import beside `errors`: a room is a folder, or one of the few files at the
# package's root; `package` is what the package itself exports.
CONTRACT = {
    "errors": "",
    "files": "",
    "labels": "",
    "operators": "",
    "semantics": "operators",
    "model": "operators",
    "receptive": "model operators",
    "imaging": "files model",
    "compiler.passes": "model",
    "compiler": "compiler.passes files imaging labels model operators semantics",
    "runtime": "compiler compiler.passes model operators",
    "attribution": "compiler imaging labels model operators runtime semantics",
    "experiments": "attribution imaging model semantics",
    "experiments.figures": "attribution experiments imaging labels model",
    "atlas": "attribution compiler files imaging model operators receptive runtime semantics",
    "verification.reference": "",
    "verification": "attribution compiler model operators runtime semantics verification.reference",
    "cli": (
        "atlas attribution compiler compiler.passes experiments experiments.figures files imaging labels "
        "model package receptive runtime semantics verification"
    ),
    "package": "attribution compiler labels model semantics",
    "__main__": "cli",
}
DOORS = {"onnxruntime": {"runtime"}, "PIL": {"imaging"}, "click": {"cli"}, "cmap": {"imaging"}}


def room(names):
    """The room of a module, given as its names below the package; `package` is the package itself."""
    inner = ".".join(names[:2])
    return inner if inner in CONTRACT else names[0] if names and names[0] in CONTRACT else "package"


def room_of(path):
    return room(path.relative_to(ROOT).with_suffix("").parts)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def rooms_imported(path):
    for module in imported(path):
        package, *parts = module.split(".")
        if package == "onnx_deconv":
            yield room(parts)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_what_its_contract_names(path):
    own = room_of(path)
    allowed = {own, "errors", *CONTRACT[own].split()}
    assert set(rooms_imported(path)) <= allowed


def test_the_contract_has_no_circle_and_names_nothing_in_vain():
    used = {name: set() for name in CONTRACT}
    for path in FILES:
        used[room_of(path)] |= set(rooms_imported(path)) - {room_of(path), "errors"}
    assert used == {name: set(rooms.split()) for name, rooms in CONTRACT.items()}
    open_rooms = dict(used)
    while open_rooms:
        free = [name for name, needs in open_rooms.items() if not needs & set(open_rooms)]
        assert free, f"a circle among {sorted(open_rooms)}"
        for name in free:
            del open_rooms[name]


def test_nothing_else_stands_at_the_root():
    files = {p.stem for p in ROOT.glob("*.py")}
    assert files == {"__init__", "__main__", "errors", "semantics", "labels", "files"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_foreign_packages_have_one_door(path):
    for module in imported(path):
        doors = DOORS.get(module.split(".")[0])
        assert doors is None or room_of(path) in doors, f"{path} imports {module}"


def test_graphs_are_exported_in_one_place():
    uses = [p.relative_to(ROOT).as_posix() for p in FILES if "export_onnx" in p.read_text(encoding="utf-8")]
    assert uses == ["operators/builder.py"]
