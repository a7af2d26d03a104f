"""Locks on open files: docs/protocols/locks.md.

    async with client.hold_lock(file):                            # flock: the whole file, against every other handle
        ...
    await client.lock(file, start=0, length=100, owner=7)      # fcntl: a range, of process 7 of this client

A lock is advisory: it keeps others from locking, not from reading and writing. Its holder sees the length that earlier holders
left, and publishes its own when it unlocks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from fs3.api.file import File
from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ClientId, InodeId
from fs3.base.limits import call_timeout_ns, retry_backoff_max_ns, retry_backoff_min_ns
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.core.meta.locks import set_range
from fs3.model.lock import LOCK_END, FoundLock, GetLock, HeldLock, Lock, LockKind, LockOwner, LockStep
from fs3.runtime.tasks import TaskSet

_GIVE_UP_PATIENCE_NS = 2 * SECOND
"""How long who closes a handle or a client waits until a service knows that its locks are free."""

log = logging.getLogger("fs3.client")

HandleHook = Callable[[File], Awaitable[object]]
"""Something to be done about an open file."""

Locks = tuple[HeldLock, ...]

_handle_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class LockPlace:
    """An owner's place at a file."""

    inode: InodeId
    number: int
    by_handle: bool


@dataclass(frozen=True, slots=True)
class LockRange:
    """What is to be locked, and how."""

    kind: LockKind
    start: int
    end: int
    is_exclusive: bool


OnHeld = Callable[[LockPlace, Locks], object]
"""Called with all that an owner holds of a file, whenever that has changed."""


@dataclass(slots=True)
class _Holding:
    """What an owner holds of a file."""

    locks: Locks = ()
    files: set[File] = field(default_factory=set)
    """The handles it was acquired through."""


class FileLocks:
    """The locks of one client. Belongs to one event loop."""

    def __init__(self, meta: MetaClient, publish: HandleHook, refresh: HandleHook) -> None:
        """`publish` tells the length of what was written, `refresh` learns it."""
        self._meta = meta
        self._publish = publish
        self._refresh = refresh
        self._epoch = 0
        """Of the newest lock that was granted, as the service names it."""
        self._ended_epoch = 0
        """The newest that is known to have ended."""
        self._held: dict[LockPlace, _Holding] = {}
        self._wanted = 0
        """Requests for locks that are under way."""
        self._withdrawals: dict[LockPlace, set[asyncio.Task[None]]] = {}
        """What is to be given up of a place, until a service has done it: its owner acquires nothing there meanwhile."""
        self._tasks = TaskSet()
        self.on_held: OnHeld = lambda place, locks: None
        self.pid_space = 0
        """Of this process (`fs3.drivers.os.host`), so that others there learn which process has a lock; 0: nothing is said."""

    def inherit(self, place: LockPlace, locks: Locks, file: File | None) -> None:
        """An earlier process of this client, which is the same one to the services, held these locks through this handle."""
        self._held[place] = _Holding(locks, set() if file is None else {file})
        self._epoch = max(self._epoch, *(lock.epoch for lock in locks))
        self._meta.hold_locks(True)

    def deadline_in(self, timeout_ns: int) -> int:
        """The end of waiting, by this client's clock."""
        return self._meta.clock.now() + timeout_ns

    # --- acquiring ------------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        file: File,
        owner: int | None,
        want: LockRange,
        *,
        wait: bool,
        deadline_ns: int = 0,
        learn: HandleHook | None = None,
        place_in_line: int = 0,
        process: int = 0,
    ) -> bool:
        """Lock a range for the owner of this number, None: for the handle. False, without `wait`: another owner is in the way.
        `place_in_line`: what the wait is called, for a caller that may have to take it up in another process; 0: anything.

        When it is cancelled or fails, the owner has what it had before. `deadline_ns`: of waiting, 0: none. Whether the handle
        may lock so is the caller's matter (`check_may_lock`). `learn`: how the handle is told what earlier holders left, instead
        of by what the client does. `process`: which one the owner is, 0: this one."""
        learns = learn or self._refresh
        file.check_open()
        self._check_not_lost(file)
        place = _place_of(file, owner)
        while pending := self._withdrawals.get(place):
            await asyncio.wait(pending)
        self._wanted += 1
        self._meta.hold_locks(True)
        try:
            if not wait:
                return await self._ask(file, place, want, LockStep.TRY, deadline_ns, learns, process)
            if want.kind is LockKind.FLOCK and self._holds_flock(place):
                # Two that hold it shared and want it exclusive would wait for each other: as flock(2), one lets go first.
                if await self._ask(file, place, want, LockStep.TRY, deadline_ns, learns, process):
                    return True
                await self.unlock(file, owner, want)
            return await self._ask(file, place, want, LockStep.WAIT, deadline_ns, learns, process, place_in_line)
        finally:
            self._wanted -= 1
            self._tell_held()

    def _holds_flock(self, place: LockPlace) -> bool:
        holding = self._held.get(place)
        return holding is not None and any(lock.kind is LockKind.FLOCK for lock in holding.locks)

    async def _ask(
        self,
        file: File,
        place: LockPlace,
        want: LockRange,
        step: LockStep,
        deadline_ns: int,
        learn: HandleHook,
        process: int,
        first: int = 0,
    ) -> bool:
        """Ask until there is an answer that stands. False: LOCKED, where that is one."""
        while True:
            seq = self._meta.draw_seq()
            first = first or seq
            claimed = self._claimed_epoch
            request = _request(place, want, step, claimed, wait=first)
            if self.pid_space:
                request = replace(request, process=process or os.getpid(), pid_space=self.pid_space)
            try:
                answer = await self._meta.ask(request, seq=seq, deadline=self._deadline_of(deadline_ns))
            except asyncio.CancelledError:
                self._withdraw(place, want, first, seq)
                raise
            except FS3Error as failure:
                if failure.code is Code.LOCKS_LOST and self._on_claim_refused(file, claimed):
                    first = 0
                    continue
                is_in_time = not deadline_ns or self._meta.clock.now() < deadline_ns
                if failure.code is Code.LOCKED and step is LockStep.TRY:
                    return False
                if failure.code is Code.LOCKED and is_in_time:
                    continue
                if first != seq or failure.code.retry is not Retry.NEVER or failure.code is Code.LOCKED:
                    self._withdraw(place, want, first, seq)
                if not is_in_time:
                    raise error(Code.DEADLINE, "the lock was not free in time", file.path) from failure
                raise error(failure.code, failure.strerror or failure.code.name, file.path) from failure
            self._note_epoch(answer.epoch)
            try:
                await _learn(file, learn)
                file.check_open()
            except BaseException:
                self._withdraw(place, want, first, seq)
                raise
            if answer.epoch != self._epoch or answer.epoch <= self._ended_epoch:
                file.locks_lost = True
                raise _lost(file)
            self._on_granted(file, place, want)
            return True

    def _deadline_of(self, deadline_ns: int) -> int:
        """Of one request."""
        return min(deadline_ns, self._meta.clock.now() + call_timeout_ns) if deadline_ns else 0

    def _note_epoch(self, epoch: int) -> None:
        """A grant names the epoch of the client's locks: those of an older one have ended."""
        if epoch > self._epoch:
            self._lose_all()
            self._epoch = epoch

    def _on_granted(self, file: File, place: LockPlace, want: LockRange) -> None:
        holding = self._held.setdefault(place, _Holding())
        holding.locks = set_range(holding.locks, _held_lock(place, want, self._epoch))
        holding.files.add(file)
        self.on_held(place, holding.locks)

    def _withdraw(self, place: LockPlace, want: LockRange, first: int, seq: int) -> None:
        """The outcome of a request is not known, and what it was granted is given back."""
        self._give_up(place, _request(place, want, LockStep.WITHDRAW, 0, wait=first, asked=seq))

    def _give_up(self, place: LockPlace, request: Lock) -> asyncio.Task[None]:
        """In the background, until a service has done it."""
        task = self._tasks.start(self._insist(request))
        self._withdrawals.setdefault(place, set()).add(task)

        def end(done: asyncio.Task[None]) -> None:
            left = self._withdrawals[place]
            left.discard(done)
            if not left:
                del self._withdrawals[place]
            self._tell_held()

        task.add_done_callback(end)
        return task

    async def _insist(self, request: Lock) -> None:
        backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
        while True:
            try:
                await self._meta.ask(request)
                return
            except FS3Error as failure:
                log.info("a lock of inode %d is not given up yet: %s", request.inode, failure)
                if failure.code.retry is Retry.NEVER:
                    return
            await asyncio.sleep(backoff.next_ns() / SECOND)

    # --- giving up ------------------------------------------------------------------------------------------------------

    async def unlock(self, file: File, owner: int | None, want: LockRange) -> None:
        """Give up what the owner holds of a range. LOCKS_LOST, once, when it was lost before."""
        if file.locks_lost:
            file.locks_lost = False
            raise _lost(file)
        file.check_open()
        place = _place_of(file, owner)
        if place not in self._held:
            return
        if file.session and file.modified:
            await self._publish(file)
        claimed = self._claimed_epoch
        # It goes on when its caller is cancelled: whether it was done would not be known.
        failure = await asyncio.shield(self._tasks.start(self._unlock(place, want, claimed)))
        if failure is None:
            return
        if failure.code is Code.LOCKS_LOST:
            self._on_claim_refused(file, claimed)
            file.locks_lost = False
            raise _lost(file)
        raise error(failure.code, failure.strerror or failure.code.name, file.path)

    async def _unlock(self, place: LockPlace, want: LockRange, claimed: int) -> FS3Error | None:
        try:
            await self._meta.ask(_request(place, want, LockStep.UNLOCK, claimed))
        except FS3Error as failure:
            return failure
        holding = self._held.get(place)
        if holding is not None and claimed == self._epoch:
            holding.locks = set_range(holding.locks, _held_lock(place, want, claimed), unlock=True)
            if not holding.locks:
                del self._held[place]
            self.on_held(place, holding.locks)
        self._tell_held()
        return None

    async def release_owner(self, file: File, owner: int | None) -> None:
        """Give up all that an owner holds of a file, and waits for."""
        await self._release(_place_of(file, owner))

    async def release(self, file: File) -> None:
        """The handle is closed: all that was acquired through it is given up, as close(2) does."""
        for place in [place for place, holding in self._held.items() if file in holding.files]:
            await self._release(place)

    async def _release(self, place: LockPlace) -> None:
        if self._held.pop(place, None) is not None:
            self.on_held(place, ())
        request = Lock(place.inode, LockStep.RELEASE_OWNER, owner=place.number, by_handle=place.by_handle)
        await asyncio.wait((self._give_up(place, request),), timeout=_GIVE_UP_PATIENCE_NS / SECOND)

    async def close(self) -> None:
        """The client disconnects: its locks are given up if a service can be told soon, else as those of a dead client."""
        await self._tasks.cancel()
        self._held.clear()
        if self._epoch:
            with suppress(FS3Error):
                deadline = self._meta.clock.now() + _GIVE_UP_PATIENCE_NS
                await self._meta.ask(Lock(InodeId(0), LockStep.RELEASE_CLIENT), deadline=deadline)

    # --- asking ---------------------------------------------------------------------------------------------------------

    async def find_conflict(self, file: File, owner: int | None, want: LockRange) -> FoundLock | None:
        """A lock of another owner that is in the way."""
        file.check_open()
        self._check_not_lost(file)
        place = _place_of(file, owner)
        while True:
            claimed = self._claimed_epoch
            try:
                return await self._meta.ask(replace(_question(place, want, claimed), pid_space=self.pid_space))
            except FS3Error as failure:
                if failure.code is Code.LOCKS_LOST and self._on_claim_refused(file, claimed):
                    continue
                raise error(failure.code, failure.strerror or failure.code.name, file.path) from failure

    async def check(self, file: File | None = None) -> None:
        """Ask whether this client still has its locks, and mark the handles that lost theirs. LOCKS_LOST when `file` is one."""
        if self._held:
            place = next(iter(self._held))
            claimed = self._claimed_epoch
            try:
                await self._meta.ask(_question(place, LockRange(LockKind.FLOCK, 0, LOCK_END, False), claimed))
            except FS3Error as failure:
                if failure.code is Code.LOCKS_LOST:
                    self._on_claim_refused(file, claimed)
                elif failure.code.retry is not Retry.NEVER:
                    raise
        if file is not None:
            self._check_not_lost(file)

    # --- locks that are lost --------------------------------------------------------------------------------------------

    @property
    def _claimed_epoch(self) -> int:
        """What is said to the service to be held."""
        return self._epoch if self._held else 0

    def _on_claim_refused(self, file: File | None, claimed: int) -> bool:
        """The locks of an epoch that this client claimed have ended. True: not those of this handle, so it can ask again."""
        self._ended_epoch = max(self._ended_epoch, claimed)
        if claimed and claimed == self._epoch:
            self._lose_all()
        return file is not None and not file.locks_lost and bool(claimed)

    def _lose_all(self) -> None:
        for place, holding in self._held.items():
            log.warning("locks of inode %d are lost: this client was silent for too long", place.inode)
            for file in holding.files:
                file.locks_lost = True
            self.on_held(place, ())
        self._held.clear()

    def _check_not_lost(self, file: File) -> None:
        if file.locks_lost:
            raise _lost(file)

    def _tell_held(self) -> None:
        self._meta.hold_locks(bool(self._held or self._wanted or self._withdrawals))


class LockCalls:
    """The calls of a client that are about locks.

    `start` None: of the whole file, against other handles (flock). Else of `length` bytes from there, 0: to the end, however
    far it moves (fcntl). The owner is the handle, or what has the number `owner` in this client: a process, for one that serves
    several. Locks of one owner replace each other. They end by `unlock`, when a handle they were acquired through is closed, or
    the client is, and when this client was not heard of for long: then `LOCKS_LOST`, from every call with the handle, until
    `unlock` has said it.
    """

    locks: FileLocks
    """The same by owner and range."""

    async def lock(
        self,
        file: File,
        *,
        shared: bool = False,
        start: int | None = None,
        length: int = 0,
        owner: int | None = None,
        timeout_ns: int | None = None,
    ) -> None:
        """Lock, when those who came before are done. DEADLOCK (EDEADLK) when a numbered owner would wait for itself, NO_LOCKS
        (ENOLCK) when there are too many, DeadlineExceeded after `timeout_ns`. Cancelling it withdraws."""
        want = range_of(file, shared, start, length)
        check_may_lock(file, want)
        deadline = self.locks.deadline_in(timeout_ns) if timeout_ns else 0
        if not await self.locks.acquire(file, owner, want, wait=timeout_ns != 0, deadline_ns=deadline):
            raise error(Code.DEADLINE, "the lock is not free", file.path)

    async def try_lock(
        self, file: File, *, shared: bool = False, start: int | None = None, length: int = 0, owner: int | None = None
    ) -> bool:
        """The same without waiting. False: another owner has it."""
        want = range_of(file, shared, start, length)
        check_may_lock(file, want)
        return await self.locks.acquire(file, owner, want, wait=False)

    async def unlock(self, file: File, *, start: int | None = None, length: int = 0, owner: int | None = None) -> None:
        """Give up what the owner holds of the range; what was written through the handle is published first."""
        await self.locks.unlock(file, owner, range_of(file, False, start, length))

    @asynccontextmanager
    async def hold_lock(
        self,
        file: File,
        *,
        shared: bool = False,
        start: int | None = None,
        length: int = 0,
        owner: int | None = None,
        timeout_ns: int | None = None,
    ) -> AsyncIterator[File]:
        """`lock` and `unlock` around a block. LOCKS_LOST at its end says that the lock did not last so long."""
        await self.lock(file, shared=shared, start=start, length=length, owner=owner, timeout_ns=timeout_ns)
        try:
            yield file
        finally:
            await self.unlock(file, start=start, length=length, owner=owner)

    async def get_lock(
        self, file: File, *, shared: bool = False, start: int | None = None, length: int = 0, owner: int | None = None
    ) -> FoundLock | None:
        """A lock of another owner that `try_lock` would meet; None: it would not now. Its `process` is known where that is one of
        this machine."""
        return await self.locks.find_conflict(file, owner, range_of(file, shared, start, length))

    async def check_locks(self, file: File) -> None:
        """Ask whether the locks of a handle are still held: LOCKS_LOST when they are not."""
        await self.locks.check(file)


def range_of(file: File, shared: bool, start: int | None, length: int) -> LockRange:
    """What callers say as one thing. Raises InvalidArgument."""
    if start is None:
        if length:
            raise error(Code.INVALID, f"length is {length}, but no start of a range is given", file.path)
        return LockRange(LockKind.FLOCK, 0, LOCK_END, not shared)
    if start < 0 or length < 0 or start + length > LOCK_END or start == LOCK_END:
        raise error(Code.INVALID, f"a lock of {length} bytes at {start} is not within 0 and 2^63", file.path)
    return LockRange(LockKind.RANGE, start, start + length if length else LOCK_END, not shared)


def check_may_lock(file: File, want: LockRange) -> None:
    """Raises InvalidArgument for a handle that is closed, NO_SESSION (EBADF) for one that may not lock so."""
    file.check_open()
    if want.kind is LockKind.RANGE and want.is_exclusive and not file.session and not file.locks_lost:
        raise error(Code.NO_SESSION, "an exclusive lock of a range needs a file that is open for writing", file.path)


async def _learn(file: File, how: HandleHook) -> None:
    """What earlier holders left. A file that is gone may be locked nevertheless: its next read says so."""
    try:
        await how(file)
    except FS3Error as failure:
        if failure.code not in (Code.STALE, Code.NOT_FOUND):
            raise


def _lost(file: File) -> FS3Error:
    return error(Code.LOCKS_LOST, "its locks were released: the client was silent for too long", file.path)


def _place_of(file: File, owner: int | None) -> LockPlace:
    if owner is None:
        file.lock_number = file.lock_number or next(_handle_numbers)
        return LockPlace(file.inode.id, file.lock_number, True)
    if not 0 <= owner < 1 << 64:
        raise error(Code.INVALID, f"owner {owner} does not fit in 64 bits", file.path)
    return LockPlace(file.inode.id, owner, False)


def _held_lock(place: LockPlace, want: LockRange, epoch: int) -> HeldLock:
    owner = LockOwner(ClientId(b""), place.number, place.by_handle)
    return HeldLock(want.kind, owner, want.start, want.end, want.is_exclusive, epoch)


def _request(place: LockPlace, want: LockRange, step: LockStep, epoch: int, *, wait: int = 0, asked: int = 0) -> Lock:
    fields = (want.kind, place.number, place.by_handle, want.is_exclusive, want.start, want.end)
    return Lock(place.inode, step, *fields, epoch, wait, asked)


def _question(place: LockPlace, want: LockRange, epoch: int) -> GetLock:
    fields = (want.kind, place.number, place.by_handle, want.is_exclusive, want.start, want.end)
    return GetLock(place.inode, *fields, epoch)
