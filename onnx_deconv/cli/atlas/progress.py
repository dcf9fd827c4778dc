"""How far a long run is."""

import time
from collections import deque

from onnx_deconv.cli.console import Console, lasting

_SHOW_EVERY, _LATELY = 0.2, 120.0
"""Seconds between two updates, and those by which the rate is judged: a machine gets busier, or less busy."""


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
        self._console, self._what, self._total = console, what, total
        self._shown, self._lately = 0.0, deque([(time.monotonic(), first)])

    def show(self, done: int) -> None:
        """Show it, unless it was just shown."""
        now = time.monotonic()
        if now - self._shown < _SHOW_EVERY:
            return
        self._shown = now
        start, before = self._lately[0]
        rate = (done - before) / max(now - start, 1e-3)
        self._lately.append((now, done))
        while self._lately[1][0] < now - _LATELY:
            self._lately.popleft()
        of = "" if self._total is None else f" of {self._total}"
        left = "" if self._total is None or not rate else f", {lasting((self._total - done) / rate)} left"
        self._console.status(f"{done}{of} {self._what}, {rate:.1f} per second{left}")
