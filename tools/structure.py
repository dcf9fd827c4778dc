"""Count the rooms of the package, the import arrows between them, and the levels they stand on.

Usage: python tools/structure.py [FOLDER OF THE PACKAGE]
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path


def imports(path: Path, package: str) -> Iterator[str]:
    """Yield the modules of the package that a file imports, as names below the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield from (f"{node.module}.{a.name}".partition(".")[2] for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith(f"{package}."))


def main(root: Path) -> None:
    """Print the figures."""
    names = {
        p.parent.name if p.name == "__init__.py" else p.stem
        for p in [*root.glob("*.py"), *root.glob("*/__init__.py")]
    }
    rooms = names - {root.name, "__main__"}
    arrows: dict[str, set[str]] = {room: set() for room in rooms}
    modules = [p for p in root.rglob("*.py") if p.parent != root or p.stem in rooms]
    for path in modules:
        room = path.relative_to(root).parts[0].removesuffix(".py")
        found = {name.split(".")[0] for name in imports(path, root.name)} & rooms
        arrows[room] |= found - {room}
    order = TopologicalSorter(arrows)
    order.prepare()
    levels = []
    while order.is_active():
        levels.append(sorted(order.get_ready()))
        order.done(*levels[-1])
    files = list(root.glob("*.py"))
    print(f"{len(modules)} modules, {len(files)} files at the root, {len(rooms)} rooms")
    print(f"{sum(map(len, arrows.values()))} arrows between rooms, on {len(levels)} levels, no circle")
    for number, level in enumerate(levels, 1):
        print(f"  {number}  {'  '.join(level)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "onnx_deconv").resolve())
