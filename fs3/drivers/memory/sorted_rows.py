"""A dict of byte strings that also knows their order, at a cost that does not grow with its size.

Keys lie in short sorted runs, the runs in order; inserting moves a part of one run only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

_RUN = 1024


class SortedRows:
    """Keys and values, ordered by key. `values` may be read directly; change it through `put` and `delete` only."""

    __slots__ = ("_firsts", "_runs", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._runs: list[list[bytes]] = []
        self._firsts: list[bytes] = []
        """The first key of each run."""

    def put(self, key: bytes, value: bytes) -> bytes | None:
        """Sets a key; what it had before."""
        before = self.values.get(key)
        self.values[key] = value
        if before is not None:
            return before
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            if not self._runs:
                self._runs.append([key])
                self._firsts.append(key)
                return None
            at = 0
        run = self._runs[at]
        insort(run, key)
        self._firsts[at] = run[0]
        if len(run) > 2 * _RUN:
            upper = run[_RUN:]
            del run[_RUN:]
            self._runs.insert(at + 1, upper)
            self._firsts.insert(at + 1, upper[0])
        return None

    def delete(self, key: bytes) -> bytes | None:
        """Removes a key; what it had, None when it was absent."""
        before = self.values.pop(key, None)
        if before is None:
            return None
        at = bisect_right(self._firsts, key) - 1
        run = self._runs[at]
        del run[bisect_left(run, key)]
        if run:
            self._firsts[at] = run[0]
        else:
            del self._runs[at], self._firsts[at]
        return before

    def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with begin <= key < end, in key order, or in reverse from the last."""
        found: list[bytes] = []
        if begin >= end or limit <= 0:
            return []
        if reverse:
            at = bisect_left(self._firsts, end) - 1
            while at >= 0 and len(found) < limit:
                run = self._runs[at]
                chosen = run[bisect_left(run, begin) : bisect_left(run, end)]
                found += chosen[::-1]
                if run[0] < begin:
                    break
                at -= 1
        else:
            at = max(bisect_right(self._firsts, begin) - 1, 0)
            while at < len(self._runs) and self._firsts[at] < end and len(found) < limit:
                run = self._runs[at]
                low = bisect_left(run, begin)
                found += run[low : min(bisect_left(run, end, low), low + limit - len(found))]
                at += 1
        values = self.values
        return [(key, values[key]) for key in found[:limit]]
