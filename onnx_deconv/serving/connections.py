"""Connections on which nothing goes on: uvicorn alone would keep them for ever."""

from collections.abc import Iterable
from typing import Any


class Connections:
    """Closes connections on which no whole request comes, or whose answers nobody takes.

    Parameters
    ----------
    seconds
        How long the head of a first request may take to come, and how long an answer may lie untouched.
    kept
        How many seconds a connection is kept after an answer.
    """

    def __init__(self, seconds: float, kept: float) -> None:
        self._seconds, self._kept = seconds, kept
        self._since: dict[Any, tuple[tuple[Any, int], float]] = {}

    def close_idle(self, connections: Iterable[Any], now: float) -> None:
        """Close those on which nothing has gone on for too long.

        Parameters
        ----------
        connections
            As uvicorn keeps them: each has its transport and, as ``cycle``, its last request.
        now
            By a clock that only goes on.
        """
        before, self._since = self._since, {}
        for each in connections:
            cycle, unsent = getattr(each, "cycle", None), each.transport.get_write_buffer_size()
            if not is_silent(each):
                continue
            state, since = before.get(each, ((cycle, unsent), now))
            self._since[each] = (cycle, unsent), since if state == (cycle, unsent) else now
        for each, ((cycle, unsent), since) in self._since.items():
            if now - since > (self._kept if cycle is not None and not unsent else self._seconds):
                each.transport.abort()


def is_silent(connection: Any) -> bool:
    """Tell whether no request of a connection, as uvicorn keeps it, is worked on."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete
