"""What all open files and transfers of one process hold in memory together.

An open file holds what it gathered to write or has read ahead, for as long as its user likes; so it never waits for others, it is
refused and does with less. So does a transfer through a pipe or another object of the user's, whose other end may be slow. A file
may have as much as is free then: one alone gets half of it all, N about 1/(N + 1) each, and something is always left for the next
(dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998). Transfers of whole files hold memory only while bytes move,
and nothing while they wait for it; so they wait in order of arrival, and part of the budget is kept for them, which no open file
can hold. Hence no transfer waits for one that waits.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fs3.base.units import KIB, MIB

client_buffer_bytes_max = 512 * MIB
"""Memory of a client process for what open files gathered or read ahead, and for transfers of whole files, all together."""

client_transfer_bytes_min = 128 * MIB
"""Of that, kept for transfers."""

file_buffer_bytes_min = 64 * KIB
"""What every open file may gather, also when nothing is left of the memory that all share."""

buffer_bytes_first = 4 * KIB
"""Memory of a file in which little was written. It doubles when it is full."""

assert client_transfer_bytes_min < client_buffer_bytes_max


class _Waiting:
    """A transfer that waits for room."""

    __slots__ = ("count", "is_granted", "loop", "turn")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.count = count
        self.loop = loop
        self.turn: asyncio.Future[None] = loop.create_future()
        self.is_granted = False

    def wake(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


class BufferBudget:
    """Bytes held by files and transfers of any threads and event loops."""

    def __init__(self, limit: int, transfers_min: int) -> None:
        """`limit`: bytes of all together. `transfers_min`: those of them that no open file gets."""
        assert 0 < transfers_min <= limit
        self._limit = limit
        self._transfers_min = transfers_min
        self._reset()

    def _reset(self) -> None:
        """Nothing is held: also of a forked process, whose parent's files are the parent's."""
        # Re-entrant: a finalizer that writes what a dropped file still has may run within any of these methods.
        self._lock = threading.RLock()
        self._files = 0
        self._transfers = 0
        self._waiting: deque[_Waiting] = deque()
        self._dropped: deque[int] = deque()
        """Bytes of files that went away without a word: a finalizer runs anywhere, also where the lock is held already."""

    @property
    def held(self) -> int:
        """Bytes of files and transfers now."""
        with self._lock:
            self._collect_dropped()
            return self._files + self._transfers

    def open_share(self) -> BufferShare:
        """That of one open file, empty."""
        return BufferShare(self)

    # --- open files ------------------------------------------------------------------------------------------------------

    def try_take(self, held: int, count: int) -> bool:
        """A file that has `held` bytes wants `count` more. False: there are too few."""
        with self._lock:
            self._collect_dropped()
            if held + count > self._limit - self._files - max(self._transfers, self._transfers_min):
                return False
            self._files += count
            return True

    def take_anyway(self, count: int) -> None:
        """The little that every file has, also when nothing is left."""
        with self._lock:
            self._files += count

    def give(self, count: int) -> None:
        """Bytes that a file has no more."""
        with self._lock:
            self._files -= count
            self._wake()

    def drop(self, count: int) -> None:
        """The same from a finalizer."""
        self._dropped.append(count)

    # --- transfers -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def reserve(self, count: int) -> AsyncIterator[None]:
        """Waits until a transfer may hold so many bytes, for as long as the `with` block runs. Who holds some must not ask for
        more. Any number is granted to one that is alone."""
        await self._take(count)
        try:
            yield
        finally:
            self._give(count)

    async def _take(self, count: int) -> None:
        with self._lock:
            self._collect_dropped()
            if not self._waiting and self._fits(count):
                self._transfers += count
                return
            mine = _Waiting(count, asyncio.get_running_loop())
            self._waiting.append(mine)
        try:
            await mine.turn
        except asyncio.CancelledError:
            with self._lock:
                if mine.is_granted:
                    self._transfers -= count
                else:
                    self._waiting.remove(mine)
                self._wake()
            raise

    def _give(self, count: int) -> None:
        with self._lock:
            self._transfers -= count
            self._wake()

    def _fits(self, count: int) -> bool:
        room = max(self._transfers_min, self._limit - self._files)
        return not self._transfers or self._transfers + count <= room

    def _wake(self) -> None:
        self._collect_dropped()
        while self._waiting and self._fits(self._waiting[0].count):
            first = self._waiting.popleft()
            try:
                first.loop.call_soon_threadsafe(first.wake)
            except RuntimeError:
                continue  # its loop was closed, and nobody waits any more
            first.is_granted = True
            self._transfers += first.count

    def _collect_dropped(self) -> None:
        while self._dropped:
            self._files -= self._dropped.popleft()


class BufferShare:
    """What one open file holds. It is given back when the share goes away."""

    __slots__ = ("__weakref__", "_budget", "_held", "_lock", "_pid")

    def __init__(self, budget: BufferBudget) -> None:
        self._budget = budget
        self._held = 0
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @property
    def held(self) -> int:
        """Bytes."""
        return self._held

    def try_take(self, count: int) -> bool:
        """So many bytes more, if there are enough for all."""
        self._detect_fork()
        with self._lock:
            if not self._budget.try_take(self._held, count):
                return False
            self._held += count
            return True

    def take_anyway(self, count: int) -> None:
        """So many bytes more, which must be few."""
        self._detect_fork()
        with self._lock:
            self._budget.take_anyway(count)
            self._held += count

    def try_grow(self, need: int, most: int) -> bool:
        """Have at least `need` bytes in all; twice what there was, up to `most`, so as to grow seldom. False: there are too few
        for all. The little that every file has is always given."""
        with self._lock:
            if need <= self._held:
                return True
            for wanted in (min(most, max(2 * self._held, buffer_bytes_first)), need):
                if wanted >= need and self.try_take(wanted - self._held):
                    return True
            if need <= file_buffer_bytes_min:
                self.take_anyway(need - self._held)
            return need <= self._held

    @contextmanager
    def lend(self, wanted: int) -> Iterator[int]:
        """As many of `wanted` bytes as there are, by halves, for as long as the `with` block runs; the little that every file has
        in any case."""
        while wanted > file_buffer_bytes_min and not self.try_take(wanted):
            wanted //= 2
        if wanted <= file_buffer_bytes_min:
            self.take_anyway(wanted)
        try:
            yield wanted
        finally:
            self.give(wanted)

    def give_all(self) -> None:
        """None are held."""
        self.give(self._held)

    def give(self, count: int) -> None:
        """So many bytes less. What was taken by the process that was forked is none of this one's."""
        self._detect_fork()
        with self._lock:
            count = min(count, self._held)
            self._held -= count
            self._budget.give(count)

    def _detect_fork(self) -> None:
        if self._pid != os.getpid():
            self._lock = threading.RLock()
            self._held = 0
            self._pid = os.getpid()

    def __del__(self) -> None:
        if self._held and self._pid == os.getpid():
            # A collector that finds a cycle may come here before the file it belongs to, which then writes what it still has.
            held, self._held = self._held, 0
            self._budget.drop(held)


buffer_budget = BufferBudget(client_buffer_bytes_max, client_transfer_bytes_min)
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=buffer_budget._reset)
