"""Being stopped: an interruption from the keyboard, and the system's request to end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType

INTERRUPTED = 130
"""The exit code of a command that was stopped."""

_SOON = 0.05
"""Seconds after which what could not be heeded is asked again."""

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
        if self.asked:  # a second time: at once
            os._exit(INTERRUPTED)
        if _is_loading_a_library(frame):
            later = threading.Timer(_SOON, _again, [number])
            later.daemon = True
            later.start()
            return
        self.asked = True
        raise KeyboardInterrupt


def _again(number: int) -> None:
    """Send a signal to the main thread, whose waiting it ends where the system can do that."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _is_loading_a_library(frame: FrameType | None) -> bool:
    """Tell whether a compiled module is being imported.

    Code within it that calls Python would take the interruption for an error of its own, print it and go on,
    as onnxruntime does, or end the process.
    """
    while frame is not None:
        loads = frame.f_code.co_name in ("create_module", "exec_module")
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False
