"""How Sphinx makes the site of this folder's pages: ``sphinx-build -W -b html docs SITE``.

The pages are plain Markdown, which reads well without Sphinx too. So the table of contents is the list of
links in ``index.md``, and two directives, ``public-names`` and ``command-help``, stand for what docstrings
and ``--help`` say.
"""

import importlib
import re
from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import onnx_deconv
from onnx_deconv.cli import main

project = "onnx_deconv"
author = "the authors of onnx_deconv"
release = version = onnx_deconv.__version__
copyright = author  # noqa: A001  (Sphinx's own name for it)

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"onnx_deconv {release}"
html_copy_source = False
templates_path: list[str] = []
exclude_patterns = ["_build"]

myst_heading_anchors = 3
nb_execution_mode = "off"  # a test runs the notebooks; the site shows what they showed

autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_ivar = True

_LIST_OF_LINKS = re.compile(r"^## (?P<caption>.+)\n(?P<links>(?:\n?(?!#).*)+)", re.MULTILINE)
_LINK = re.compile(r"^\* \[[^]]*\]\((?P<page>[^):]+)\.(?:md|ipynb)\)", re.MULTILINE)


def _contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Make the table of contents of the links that each section of the first page lists."""
    if name != "index":
        return
    for section in _LIST_OF_LINKS.finditer(source[0]):
        pages = "\n".join(link["page"] for link in _LINK.finditer(section["links"]))
        if pages:
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section['caption']}\n\n{pages}\n```\n"


class PublicNames(SphinxDirective):
    """Documents the names of a module: those given, or all that it exports."""

    required_arguments = 1
    optional_arguments = 1000

    def run(self) -> list[nodes.Node]:
        """Document them one after the other, from their docstrings."""
        home, *names = " ".join(self.arguments).split()
        module = importlib.import_module(home)
        public = [name for name in names or module.__all__ if not name.startswith("__")]
        lines = [f".. auto{_kind(getattr(module, name))}:: {home}.{name}\n" for name in public]
        return self.parse_text_to_nodes(
            "\n".join(["```{eval-rst}", *lines, "```"])
        )  # autodoc writes no Markdown


def _kind(value: object) -> str:
    if isinstance(value, type):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) else "data"


class CommandHelp(SphinxDirective):
    """Shows the help of the program and of each of its commands, as a terminal of 100 columns does."""

    def run(self) -> list[nodes.Node]:
        """Make one section per command."""
        return list(_sections(main.make_context("onnx-deconv", [], resilient_parsing=True)))


def _sections(context: click.Context) -> Iterator[nodes.section]:
    context.terminal_width = 100
    title, text = context.command_path, context.command.get_help(context)
    section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
    section += nodes.title(text=title)
    section += nodes.literal_block(text, text, language="text")
    yield section
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            # A context knows the command itself, of which the group has only a line until it is called.
            yield from _sections(command.make_context(name, [], parent=context, resilient_parsing=True))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add what is our own to Sphinx."""
    app.connect("source-read", _contents)
    app.add_directive("public-names", PublicNames)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
