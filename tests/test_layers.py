"""Imports point down the list of rooms, never up; each foreign package has one door."""

import ast
from pathlib import Path

import pytest

import onnx_deconv

ROOT = Path(onnx_deconv.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))
ORDER = [
    "errors", "files", "semantics", "skim", "sizes", "shapes", "legacy", "composite", "branches", "view",
    "arithmetic", "activations", "patterns", "model", "emit", "rules", "forward", "compile", "receptive",
    "package", "opsets", "lower", "runtime", "seed", "labels", "passes", "explainer", "image", "render",
    "fragments", "graphics", "fuse", "reference", "verify", "inspection", "saliency", "atlas", "report",
    "features", "occlusion", "invariance", "evolution", "correspondence", "plot", "sheet", "figures", "cli",
]  # fmt: skip
DOORS = {"onnxruntime": {"runtime"}, "PIL": {"image"}, "click": {"cli"}, "cmap": {"render"}}


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if node.module == "onnx_deconv")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    if room(path) in ("__init__", "__main__"):
        return
    assert room(path) in ORDER
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "onnx_deconv" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= ORDER.index(room(path)), f"{room(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_foreign_packages_have_one_door(path):
    for module in imported(path):
        doors = DOORS.get(module.split(".")[0])
        assert doors is None or room(path) in doors, f"{room(path)} imports {module}"


def test_graphs_are_exported_in_one_place():
    uses = [p for p in FILES if "export_onnx" in p.read_text(encoding="utf-8")]
    assert [room(p) for p in uses] == ["emit"]
