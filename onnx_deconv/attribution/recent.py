"""What was used last, and no more of it than a given number."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps the entries that were used last.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return an entry, which counts as used now; ``None`` if there is none."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def make_room(self) -> None:
        """Drop what was used longest ago, if one more entry would be too many."""
        while len(self._entries) >= self._most:
            self._entries.popitem(last=False)

    def add(self, key: K, value: V) -> V:
        """Keep an entry, and return it."""
        self.make_room()
        self._entries[key] = value
        return value
