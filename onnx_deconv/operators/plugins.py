"""Packages that add operators and rule tables of their own, found by their entry points."""

import functools
from importlib.metadata import EntryPoint, entry_points

from onnx_deconv.errors import PluginError

GROUP = "onnx_deconv.plugins"
"""The entry-point group; each entry names a module that registers operators and tables when imported."""


_begun: set[str] = set()


def load_plugins() -> None:
    """Import the plug-ins that are installed, each once.

    Raises
    ------
    PluginError
        If one cannot be imported, or registers what is registered already.
    """
    for plugin in _installed():
        if plugin.name not in _begun:
            _begun.add(plugin.name)  # before it is imported: it may look up operators and tables itself
            _load(plugin)


@functools.cache
def _installed() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda each: each.name)


def _load(plugin: EntryPoint) -> None:
    try:
        plugin.load()
    except Exception as error:  # whatever a stranger's module raises
        _begun.discard(plugin.name)
        package = plugin.dist.name if plugin.dist is not None else plugin.value
        raise PluginError(f"plug-in {plugin.name!r} of {package} cannot be loaded: {error}") from error
