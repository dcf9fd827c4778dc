"""Each room imports only the rooms that its contract names; each foreign package has one door."""

import ast
from pathlib import Path

import onnx.defs
import pytest

import onnx_deconv
from onnx_deconv.operators import operators_by_key

ROOT = Path(onnx_deconv.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))

# What each room may import beside `errors`: a room is a folder, or one of the few files at the
# package's root; `package` is what the package itself exports.
CONTRACT = {
    "errors": "",
    "files": "",
    "labels": "files",
    "operators": "",
    "semantics": "operators",
    "model": "files operators",
    "receptive": "model operators",
    "imaging": "files model",
    "compiler.passes": "model operators",
    "compiler": "compiler.passes files imaging labels model operators semantics",
    "runtime": "compiler compiler.passes files model operators semantics",
    "attribution": "compiler files imaging labels model operators receptive runtime semantics",
    "experiments": "attribution imaging model semantics",
    "experiments.figures": "experiments imaging labels model",
    "atlas": "attribution compiler compiler.passes files imaging model operators receptive runtime",
    "distributed": "atlas attribution imaging model runtime",
    "evaluation": "attribution experiments files imaging labels model operators semantics",
    "verification.reference": "",
    "verification": "compiler imaging model operators runtime semantics verification.reference",
    "serving": (
        "atlas attribution compiler experiments experiments.figures imaging model receptive runtime "
        "verification"
    ),
    "cli": (
        "atlas attribution compiler compiler.passes distributed evaluation experiments experiments.figures "
        "files imaging labels model operators package runtime semantics serving verification"
    ),
    "package": "attribution compiler labels model semantics",
    "__main__": "cli",
}
DOORS = {
    "onnxruntime": {"runtime"},
    "openvino": {"runtime"},
    "tract": {"runtime"},
    "PIL": {"imaging"},
    "click": {"cli"},
    "cmap": {"imaging"},
    "ray": {"distributed"},
} | {
    name: {"serving"}
    for name in ("starlette", "uvicorn", "prometheus_client", "kserve", "grpc", "grpc_interceptor")
}


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


# Where names of operators may stand outside `operators`, and why.
OPERATOR_NAMES = {
    "compiler/profiles.py": "forms of operators that a runtime does not take",
    "compiler/telephones.py": "operators that a telephone's providers take, as their tables say",
    "compiler/passes": "patterns of a companion's nodes, and the nodes that take their place",
    "verification/reference": "an oracle shares nothing with what it checks",
    "model/decompositions.py": "composite operators, each known here alone",
    "model/softmax_matching.py": "a softmax, spelled out",
    "model/upgrade.py": "forms of operators that opset 7 no longer has",
    "model/opset_conversion.py": "operators that changed their meaning, and when",
    "model/control_flow.py": "If and Loop are what the file is about",
    "model/protos.py": "Constant is where a file may keep numbers",
}
WRITES = {"make_node", "Node", "node"}
"""What writes a node, and takes its operator's name first."""


def operator_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    written = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.func).rpartition(".")[2] in WRITES
    }
    exported = {id(c) for n in ast.walk(tree) if isinstance(n, ast.Assign) for c in ast.walk(n) if is_all(n)}
    known = {name for _, name in operators_by_key()} | {s.name for s in onnx.defs.get_all_schemas()}
    texts = (c for c in ast.walk(tree) if isinstance(c, ast.Constant) and isinstance(c.value, str))
    yield from (c.value for c in texts if c.value in known and id(c) not in written | exported)


def is_all(assignment):
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in assignment.targets)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_known_of_an_operator_stands_in_its_entry(path):
    where = path.relative_to(ROOT).as_posix()
    if room_of(path) != "operators" and not where.startswith(tuple(OPERATOR_NAMES)):
        assert not set(operator_names(path))


def test_the_exceptions_are_needed():
    for place in OPERATOR_NAMES:
        files = [p for p in FILES if p.relative_to(ROOT).as_posix().startswith(place)]
        assert any(set(operator_names(p)) for p in files), f"{place} needs no exception any more"
