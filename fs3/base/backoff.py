"""How long to wait before trying again."""

from __future__ import annotations


class Backoff:
    """Doubling waits from `first_ns` up to `most_ns`, for one sequence of attempts. Deterministic: jitter is the caller's."""

    __slots__ = ("_first", "_most", "_next")

    def __init__(self, first_ns: int, most_ns: int) -> None:
        self._first = first_ns
        self._most = most_ns
        self._next = first_ns

    def next_ns(self) -> int:
        """The wait before the next attempt."""
        wait = self._next
        self._next = min(self._most, wait * 2)
        return wait

    def reset(self) -> None:
        """An attempt succeeded."""
        self._next = self._first
