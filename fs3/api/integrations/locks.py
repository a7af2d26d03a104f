"""Engines unlock objects one by one; fs3's leases end as a whole. Which lease ends when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

N = TypeVar("N")
L = TypeVar("L")


class _HeldLease(Generic[N, L]):
    """A lease, and how many of its objects are locked yet."""

    def __init__(self, lease: L, names: Sequence[N], until: float) -> None:
        self.lease = lease
        self.names = names
        self.until = until
        self.locked = len(names)


class ObjectLocks(Generic[N, L]):
    """What was looked up and is not unlocked yet. A lease is over with its last lock, or with its time."""

    def __init__(self) -> None:
        self._held: dict[N, deque[_HeldLease[N, L]]] = {}
        self._by_time: deque[_HeldLease[N, L]] = deque()
        """All leases last equally long, so the one that was granted first ends first."""

    def __len__(self) -> int:
        return len(self._held)

    def lock(self, lease: L, names: Sequence[N], until: float, now: float) -> None:
        """Objects that a lease protects until then. What has ended by now is forgotten."""
        self._forget(now)
        if not names:
            return
        held = _HeldLease(lease, names, until)
        self._by_time.append(held)
        for name in names:
            self._held.setdefault(name, deque()).append(held)

    def unlock(self, names: Iterable[N]) -> list[L]:
        """The leases that nothing needs any more, to be released. An object that is not locked is no matter."""
        over = []
        for name in names:
            held = self._held.get(name)
            if held is None:
                continue
            first = held.popleft()
            if not held:
                del self._held[name]
            first.locked -= 1
            if not first.locked:
                over.append(first.lease)
        return over

    def _forget(self, now: float) -> None:
        while self._by_time and (self._by_time[0].until <= now or not self._by_time[0].locked):
            ended = self._by_time.popleft()
            for name in ended.names if ended.locked else ():
                held = self._held.get(name)
                if held is not None and ended in held:
                    held.remove(ended)
                    if not held:
                        del self._held[name]
