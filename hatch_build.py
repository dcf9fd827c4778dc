"""What the package index shows: the README with links that work there, and the project's addresses.

All of it is made from one address, ``home`` in pyproject.toml, that of the repository. Without it the links
stay as they are, and no addresses are given.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\((?!https?:|#)([^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    """Fills in the readme and the project's addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to the project's table of metadata."""
        root, home = Path(self.root), str(self.config.get("home", "")).rstrip("/")
        text = (root / "README.md").read_text(encoding="utf-8")
        if home:
            text = absolute(text, home, f"v{metadata['version']}")
            metadata["urls"] = addresses(home)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute(text: str, home: str, revision: str) -> str:
    """Make a page's links into the repository absolute: pictures to their bytes, files to their pages."""

    def link(found: re.Match[str]) -> str:
        is_picture, words, path = found.groups()
        inner = _LINK.sub(link, words)
        kind = "raw" if is_picture else "blob"
        return f"{is_picture}[{inner}]({home}/{kind}/{revision}/{path})"

    return _LINK.sub(link, text)


def addresses(home: str) -> dict[str, str]:
    """Name the addresses that the index lists beside the project."""
    return {
        "Source": home,
        "Documentation": f"{home}/tree/main/docs",
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
