"""How far a long run is."""

import time

from onnx_deconv.cli.console import Console, lasting

_SHOW_EVERY = 0.2
"""Seconds between two updates."""


class Progress:
    """Shows how many are done, how many per second, and how long the rest will take.

    Parameters
    ----------
    console
        Where it is shown.
    what
        What is counted, in the plural.
    total
        How many there are, where that is known.
    first
        How many were done before this run.
    """

    def __init__(self, console: Console, what: str, total: int | None, first: int = 0) -> None:
        self._console, self._what, self._total, self._first = console, what, total, first
        self._start, self._shown = time.monotonic(), 0.0

    def show(self, done: int) -> None:
        """Show it, unless it was just shown."""
        now = time.monotonic()
        if now - self._shown < _SHOW_EVERY:
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._start, 1e-3)
        of = "" if self._total is None else f" of {self._total}"
        left = "" if self._total is None or not rate else f", {lasting((self._total - done) / rate)} left"
        self._console.status(f"{done}{of} {self._what}, {rate:.1f} per second{left}")
