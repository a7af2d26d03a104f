"""Writes that wait for their commit, and what a scan shows of them over what is committed."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import islice

Rows = dict[bytes, bytes | None]
"""Key -> value; None: deleted."""

_SORT_AGAIN = 32
"""From so many new keys on, sorting the list again beats inserting one by one."""


class WriteSet:
    """Writes that wait for their commit. Keys only ever join `rows`, so the newest are its last ones."""

    __slots__ = ("_ordered", "rows")

    def __init__(self) -> None:
        self.rows: Rows = {}
        self._ordered: list[bytes] = []

    def keys(self, begin: bytes, end: bytes) -> list[bytes]:
        """Keys in [begin, end), in order. Deleted ones are among them."""
        ordered = self._ordered
        fresh = len(self.rows) - len(ordered)
        if fresh > _SORT_AGAIN:
            ordered.extend(islice(reversed(self.rows), fresh))
            ordered.sort()
        elif fresh:
            for key in islice(reversed(self.rows), fresh):
                insort(ordered, key)
        return ordered[bisect_left(ordered, begin) : bisect_left(ordered, end)]
