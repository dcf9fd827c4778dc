"""Being stopped: an interruption from the keyboard, and the system's request to end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""The exit code of a command that was stopped."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopping:
    """Whether the command was asked to stop.

    Attributes
    ----------
    asked
        Some libraries turn the interruption into an error of their own: then this tells.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Raise ``KeyboardInterrupt`` for all that asks to stop, so that what was begun is cleared away."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._ask) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:  # a second time: at once
            os._exit(INTERRUPTED)
        self.asked = True
        raise KeyboardInterrupt
