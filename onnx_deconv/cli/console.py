"""What a command prints, and where: results on stdout, all else on stderr."""

import io
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from onnx_deconv.files import check_disk

_Item = TypeVar("_Item")

logger = logging.getLogger("onnx_deconv")


_BUSY = 1.3
"""How many times as long something has to last that other programs are worth telling of."""
_LONG, _LARGE, _MANY = 20.0, 10_000_000, 10
"""Seconds, bytes, and a number of files' makers that are worth telling of beforehand."""
_LONGEST_SIZE = 40
"""How many letters the name of a size may have, to be shown."""


class Console:
    """Where a command's results, warnings and errors go.

    Attributes
    ----------
    json
        Results are JSON objects, one per line, and nothing else is written to stdout.
    quiet
        Nothing but errors is printed (and JSON, where it was asked for).
    verbose
        Details are printed, and the traceback of an error.
    """

    def __init__(self) -> None:
        self.json = self.quiet = self.verbose = False
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self._status, self._told = 0, False
        self._warnings: list[str] = []
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name or a symbol that the terminal cannot show
            sys.stdout.reconfigure(errors="backslashreplace")

    def result(self, record: Mapping[str, Any], text: str | Callable[[], str]) -> None:
        """Print one result, as JSON or as text."""
        self._clear()
        if self.json:
            click.echo(json.dumps(plain_data(record)))
        elif not self.quiet:
            click.echo(plain(text if isinstance(text, str) else text()))

    def say(self, text: str) -> None:
        """Print what is for people only, not for programs."""
        if not self.json and not self.quiet:
            self._clear()
            click.echo(plain(text))

    def detail(self, text: str) -> None:
        """Print what only ``--verbose`` asks for."""
        if self.verbose:
            self._err(text)

    def warn(self, text: str) -> None:
        """Print what did not stop the command but should be known."""
        if not self.quiet:
            self._err(f"Warning: {_one_line(text)}")

    def warn_at_the_end(self, text: str) -> None:
        """Print a warning after the results; a command that fails prints its error alone."""
        self._warnings.append(text)

    def finish(self) -> None:
        """Print the warnings that were kept for the end."""
        while self._warnings:
            self.warn(self._warnings.pop(0))

    def error(self, text: str, prefix: str = "Error: ") -> None:
        """Print what went wrong, in one line."""
        self._err(f"{prefix}{_one_line(text)}")

    def progress(
        self, items: Sequence[_Item], name: Callable[[_Item], str], judged_by: int = 1
    ) -> Iterator[_Item]:
        """Show which of several items is being worked on; say how long the others will last.

        Parameters
        ----------
        items
            What is worked on, one after the other.
        name
            Writes an item.
        judged_by
            After how many items that is said: more than one where they are of several kinds, and the first
            ones hold one of each.
        """
        start, self._told = time.monotonic(), False
        for number, item in enumerate(items):
            if number == judged_by and not self._told:
                self.say_the_rest(len(items) - number, "step", (time.monotonic() - start) / number)
            if len(items) > 1:
                self.status(f"{number + 1}/{len(items)} {name(item)}")
            yield item
        self._clear()

    def say_the_rest(
        self, left: int, what: str, seconds: float, home: Path | None = None, files: int = 0,
        or_else: str = "", *, elsewhere: bool = False,
    ) -> None:  # fmt: skip
        """Say what the rest of a long command will take, judged by its first part.

        Parameters
        ----------
        left
            How many parts are left; nothing is said where there are none.
        what
            What they are, in the singular.
        seconds
            How long one took.
        home
            The folder that each writes files to.
        files
            Bytes of the files that one wrote.
        or_else
            What the caller can do about a full disk beside choosing another folder.
        elsewhere
            Whether other processes do the work, whose memory this one does not know.

        Raises
        ------
        InputError
            If the disk cannot hold the files.
        """
        self._told = True
        needed, lasts, takes = left * files, left * seconds, list[str]()
        free = check_disk(home, needed, f"the other {left} take", or_else) if home is not None else 0
        if lasts >= _LONG:
            takes.append(f"last {self.between(lasts / self.slower(), lasts)}")
        if needed >= _LARGE or (needed and left >= _MANY):
            takes.append(f"take about {in_bytes(needed)} of disk ({in_bytes(free)} free)")
        if left and takes:
            from onnx_deconv.runtime import peak_memory  # noqa: PLC0415 - loads onnx, which --help can do without

            taken = 0 if elsewhere else peak_memory()  # by the first, which the others are like
            memory = f", with about {in_bytes(taken)} of memory" if taken else ""
            self.say(f"{counted(left, what)} more will {' and '.join(takes)}{memory}")

    def say_what_lasts(self, what: str, least: float, threads: int) -> None:
        """Say how long something lasts that takes so many seconds of so many cores, if it lasts long."""
        if (most := least * self.slower(threads)) >= _LONG:
            self.say(f"{what} will last {self.between(least, most)}")

    def slower(self, threads: int | None = None) -> float:
        """Tell how many times as long work takes beside what else ran when the command began.

        The system gives each thread its turn: those of the work (by default one for each core) and as many
        others as its load was. Where it tells of no load, and on an idle machine, the answer is 1.
        """
        cores = os.cpu_count() or 1
        return max(1.0, ((threads or cores) + self._load) / cores)

    def between(self, least: float, most: float) -> str:
        """Write how long something lasts, between an idle machine and one as busy as this was."""
        if most < _BUSY * least:
            return f"about {lasting(most)}"
        return f"{lasting(least)} to {lasting(most)} (with a load of {self._load:.1f})"

    def status(self, text: str) -> None:
        """Show what is being done: on stderr, only on a terminal, in place of what was shown before."""
        if self.quiet or not sys.stderr.isatty():
            return
        self._clear()
        shown = plain(_one_line(text))[:79]
        click.echo(shown, err=True, nl=False)
        self._status = len(shown)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn the package's log messages into lines on stderr, those of the least level into a status."""
        handler, level = _Lines(self), logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            self._clear()
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _err(self, text: str) -> None:
        self._clear()
        click.echo(plain(text), err=True)

    def _clear(self) -> None:
        """Remove the status from the terminal."""
        if self._status:
            click.echo("\r" + " " * self._status + "\r", err=True, nl=False)
            self._status = 0


class _Lines(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno <= logging.DEBUG:
            self._console.status(text)
        elif record.levelno < logging.WARNING:
            self._console.detail(text)
        elif text not in self._warned:  # a command may make several explainers of one model
            self._warned.add(text)
            self._console.warn(text)


def plain(text: str) -> str:
    """Spell out what would steer the terminal: names in a file may hold anything."""
    return _STEERING.sub(lambda found: _spelled(ord(found[0])), text)


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 1 << 8 else f"\\u{code:04x}"


_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tabs and ends of lines, and those that turn the direction of writing."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def plain_data(value: Any) -> Any:
    """Convert to what JSON can hold: arrays become lists, infinite numbers and NaN null."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(each) for each in value]
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's, which is not imported for it
        return plain_data(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Write rows of text as columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(indent + line for line in lines)


def sizes(shape: Sequence[int | str | None] | None) -> str:
    """Write a shape: N×3×224×224. A size that an exporter wrote as a long formula is ``?``, too."""
    if shape is None:
        return "?"
    told = ("?" if size is None else str(size) for size in shape)
    return "×".join(size if len(size) <= _LONGEST_SIZE else "?" for size in told) or "scalar"


def counted(number: int, what: str) -> str:
    """Write a number of things: 1 layer, 2 layers."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def lasting(seconds: float) -> str:
    """Write a time: minutes and seconds, or hours too."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_bytes(size: float) -> str:
    """Write a file's size."""
    for unit in ("B", "kB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} MB"
