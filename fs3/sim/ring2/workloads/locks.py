"""Clients that lock files and ranges of them, count under the locks, wait, give up waiting, and die; each lock is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import Exists, FS3Error, NotFound
from fs3.base.ids import ClientId
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.lock import LOCK_END, HeldLock, LockKind, LockOwner
from fs3.sim.checkers.locks import DoubleRead, HoldInterval, Increment

COUNTED = "/counted"
"""Locked as a whole; who has it exclusively counts in it."""
RANGED = "/ranged"
"""Locked by ranges of its first bytes."""
PATHS = (COUNTED, RANGED)
_CELLS = 4
_COUNTER_BYTES = 8


@dataclass
class LockHistory:
    """What all clients held."""

    intervals: list[HoldInterval] = field(default_factory=list)
    increments: list[Increment] = field(default_factory=list)
    reads: list[DoubleRead] = field(default_factory=list)
    is_counting: bool = True
    """False: a write may have come under a later holder, or may still: what the counters say proves nothing any more."""
    lost: int = 0
    """Locks whose clients were told, or died, before they gave them up."""

    def on_lost(self) -> None:
        """The locks of a client ended without it."""
        self.lost += 1
        self.is_counting = False
        self.increments.clear()
        self.reads.clear()


class LockWorkload:
    """One client's locks."""

    def __init__(self, number: int, client: Client, prng: Prng, history: LockHistory, now: Callable[[], int]) -> None:
        """`now`: one clock for all clients."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._now = now

    async def run(self, operations: int, think_ns: int) -> None:
        """Lock and unlock so many times."""
        for _ in range(operations):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            try:
                await self._one()
            except FS3Error:
                continue

    async def _one(self) -> None:
        path = self._prng.pick(PATHS)
        file = await open_or_create(self._client, path)
        try:
            await (self._count(file) if path == COUNTED else self._lock_ranges(file))
        finally:
            await self._close(file)

    async def _close(self, file: File) -> None:
        """Until it is: the process goes on, and must not keep what it has."""
        while not file.closed:
            try:
                await self._client.close(file)
            except FS3Error as failure:
                if failure.code.retry is Retry.NEVER:
                    return

    # --- whole files ----------------------------------------------------------------------------------------------------

    async def _count(self, file: File) -> None:
        shared = self._prng.chance(1, 3)
        if not await self._acquire(file, shared=shared):
            return
        held = self._note(file, LockKind.FLOCK, file.lock_number, True, 0, LOCK_END, not shared)
        if shared and self._prng.chance(1, 3):
            # While it waits for more it has less, as with flock(2).
            if not await self._acquire(file, shared=False):
                await self._release(file, [])
                return
            held = self._note(file, LockKind.FLOCK, file.lock_number, True, 0, LOCK_END, True)
            shared = False
        found = await self._read(file)
        await self._hold()
        if shared:
            again = await self._read(file)
            if await self._release(file, [held]) and self._history.is_counting:
                self._history.reads.append(DoubleRead(file.path, found, again))
            return
        try:
            await self._client.pwrite(file, (found + 1).to_bytes(_COUNTER_BYTES, "big"), 0)
        except BaseException:
            self._history.is_counting = False
            raise
        if await self._release(file, [held]) and self._history.is_counting:
            self._history.increments.append(Increment(file.path, found))

    async def _read(self, file: File) -> int:
        return int.from_bytes(await self._client.pread(file, _COUNTER_BYTES, 0), "big")

    # --- ranges ---------------------------------------------------------------------------------------------------------

    async def _lock_ranges(self, file: File) -> None:
        owner = self._number * 10 + self._prng.below(2)
        held: list[HoldInterval] = []
        for _ in range(self._prng.between(1, 3)):
            start = self._prng.below(_CELLS)
            end = self._prng.between(start + 1, _CELLS)
            shared = self._prng.chance(1, 2)
            begun = self._now()
            acquired = await self._acquire(file, shared=shared, start=start, length=end - start, owner=owner)
            if held:
                # It may be replaced by the new one, also by one that was granted and is given up before its answer comes:
                # others see that until it is withdrawn. Of those before it nothing more is certain.
                held[-1].confirmed = begun
            if not acquired:
                held.clear()
                break
            held.append(self._note(file, LockKind.RANGE, owner, False, start, end, not shared))
            await self._hold()
        await self._release(file, held[-1:], start=0, owner=owner)

    # --- a lock ---------------------------------------------------------------------------------------------------------

    async def _acquire(
        self, file: File, *, shared: bool, start: int | None = None, length: int = 0, owner: int | None = None
    ) -> bool:
        """Now, in its turn, or in its turn if that is soon."""
        fields = {"shared": shared, "start": start, "length": length, "owner": owner}
        if self._prng.chance(1, 4):
            return await self._client.try_lock(file, **fields)  # type: ignore[arg-type]
        if self._prng.chance(1, 2):
            await self._client.lock(file, **fields)  # type: ignore[arg-type]
            return True
        patience = self._prng.between(1, 400) * MILLISECOND / SECOND
        try:
            async with asyncio.timeout(patience):
                await self._client.lock(file, **fields)  # type: ignore[arg-type]
        except TimeoutError:
            return False
        return True

    def _note(
        self, file: File, kind: LockKind, number: int, by_handle: bool, start: int, end: int, exclusive: bool
    ) -> HoldInterval:
        now = self._now()
        owner = LockOwner(ClientId(bytes([self._number]) * 2), number, by_handle)
        interval = HoldInterval(file.path, HeldLock(kind, owner, start, end, exclusive, 0), now, now)
        self._history.intervals.append(interval)
        return interval

    async def _hold(self) -> None:
        await asyncio.sleep(self._prng.below(60) * MILLISECOND / SECOND)

    async def _release(self, file: File, held: list[HoldInterval], *, start: int | None = None, owner: int | None = None) -> bool:
        """Give it up. True when it was held until now, for certain."""
        begun = self._now()
        while True:
            try:
                await self._client.unlock(file, start=start, owner=owner)
            except FS3Error as failure:
                if failure.code is Code.LOCKS_LOST:
                    self._history.on_lost()
                    return False
                if failure.code.retry is Retry.NEVER:
                    raise
                continue
            for interval in held:
                interval.confirmed = begun
            return True


async def open_or_create(client: Client, path: str) -> File:
    """The file, open for reading and writing."""
    for mode in ("r+", "x"):
        with suppress(NotFound, Exists):
            return await client.open(path, mode)
    return await client.open(path, "r+")


async def find_stuck(client: Client, patience_ns: int) -> str:
    """All is well, and no client is about to lock anything: every file can be locked. Which cannot, "" when none."""
    for path in PATHS:
        try:
            file = await open_or_create(client, path)
            await client.lock(file, timeout_ns=patience_ns)
            await client.lock(file, start=0, timeout_ns=patience_ns)
            await client.close(file)
        except FS3Error as failure:
            return f"{path} cannot be locked in the end: {failure}"
    return ""
