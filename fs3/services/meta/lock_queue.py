"""Requests for locks that have to wait (docs/protocols/locks.md): kept here until their turn has come, or for a short time.

Who waits, and in which order, is in the store. What is kept here are the requests themselves, so that they are answered as soon
as nothing is in their way: after each step about a lock of the same file at this service, and every `lock_look_ns`, which is how
this service learns what happened at another one, and of clients that died. One look is one read, however many wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from fs3.base.ids import ClientId, InodeId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.locks import list_ready
from fs3.core.txn import ReadTxn
from fs3.model.lock import Lock, LockAnswer, LockStep, LockWait
from fs3.model.trace import TURN_WAIT
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, OnDone

lock_requests_waiting_max = 16_384
"""Requests that are kept, of all files together; others are told at once to ask again."""
lock_turn_wait_ns = 500 * MILLISECOND
"""A request is kept so long while others hold the lock; its client then asks again. Less than after what it asks another service
as well (`meta_change_hedge_ns`)."""
lock_look_ns = 250 * MILLISECOND
"""A service looks so often whether a lock that is waited for there was given up at another service, or its holder has died."""
lock_claim_ns = 2 * SECOND
"""A wait whose turn has come and that is not asked for during so long is passed by. That is safe at any time, and this long
polite: its client may have died, or be stopped."""

_IDLE_LOOKS_MAX = 4
"""Looks at a file for which no request is kept before it is forgotten: those who wait ask again within less."""

_Key = tuple[ClientId, int]
"""Client and `Lock.wait`: what a wait is called."""


class LockChanges(Protocol):
    """What carries out changes. `fs3.services.meta.change_executor.ChangeExecutor` is the one of production."""

    def submit(self, ctx: OpContext, request: Lock, done: OnDone[LockAnswer]) -> None:
        """Carry out a request."""
        ...

    def refuse(self, ctx: OpContext, request: Lock, why: MetaError, done: OnDone[LockAnswer]) -> None:
        """Answer a request with why it is refused, for good."""
        ...


class LockCaller(Protocol):
    """The call that a request came with."""

    @property
    def is_cancelled(self) -> bool:
        """No answer is wanted any more."""
        ...


@dataclass(slots=True, eq=False)
class _LockRequest:
    ctx: OpContext
    request: Lock
    done: OnDone[LockAnswer]
    caller: LockCaller
    until_ns: int
    timer: asyncio.TimerHandle | None = None
    kept_at: int = 0
    """When, of one that is traced."""

    @property
    def key(self) -> _Key:
        """What its wait is called."""
        return self.ctx.client, self.request.wait


@dataclass(slots=True)
class _WaitedFile:
    kept: dict[_Key, _LockRequest] = field(default_factory=dict)
    ready_since: dict[_Key, int] = field(default_factory=dict)
    """Waits whose turn it is and that are not asked for here."""
    timer: asyncio.TimerHandle | None = None
    idle_looks: int = 0
    """How often in a row nothing was kept when it was time for a look."""


class LockQueue:
    """Per file, the requests that wait at this service."""

    def __init__(self, kv: KV, clock: Clock, changes: LockChanges) -> None:
        self._kv = kv
        self._clock = clock
        self._changes = changes
        self._files: dict[InodeId, _WaitedFile] = {}
        self._kept = 0
        self._stopped = False

    def submit(self, ctx: OpContext, request: Lock, done: OnDone[LockAnswer], caller: LockCaller) -> None:
        """Carry out a step about a lock, or keep it: a WAIT whose turn has not come. Nothing is kept of a caller that went."""
        if request.step is LockStep.WAIT:
            self._try(_LockRequest(ctx, request, done, caller, self._clock.now() + lock_turn_wait_ns))
            return

        waiter = _LockRequest(ctx, request, done, caller, 0)
        self._changes.submit(ctx, request, partial(self._settle, waiter))

    def stop(self) -> None:
        """Keep nothing any more: callers are told to ask another service."""
        self._stopped = True
        files, self._files = self._files, {}
        for file in files.values():
            if file.timer is not None:
                file.timer.cancel()
            for key in list(file.kept):
                if (waiter := self._take(file, key)) is not None:
                    self._leave(waiter)

    def _leave(self, waiter: _LockRequest) -> None:
        if not waiter.caller.is_cancelled:
            waiter.done(None, MetaError(Code.SHUTTING_DOWN, "the metadata service stops"))

    # --- one request ----------------------------------------------------------------------------------------------------

    def _try(self, waiter: _LockRequest, passing: tuple[_Key, ...] = ()) -> None:
        request = waiter.request

        def tried(answer: LockAnswer | None, why: BaseException | None) -> None:
            if answer is None or why is not None or answer.granted:
                self._settle(waiter, answer, why)
            elif self._stopped:
                self._leave(waiter)
            elif not waiter.caller.is_cancelled:
                self._keep(waiter)

        self._changes.submit(waiter.ctx, replace(request, passing=passing) if passing else request, tried)

    def _settle(self, waiter: _LockRequest, answer: LockAnswer | None, why: BaseException | None) -> None:
        """A step was carried out, or refused: it may be the turn of another one."""
        waiter.done(answer, why)
        file = self._files.get(waiter.request.inode)
        if why is None and file is not None and file.kept:
            self._look(waiter.request.inode)

    def _keep(self, waiter: _LockRequest) -> None:
        left_ns = waiter.until_ns - self._clock.now()
        inode, key = waiter.request.inode, waiter.key
        if left_ns <= 0 or self._kept >= lock_requests_waiting_max:
            self._refuse(waiter)
            return
        file = self._files.get(inode)
        if file is None:
            file = self._files[inode] = _WaitedFile()
        if (before := self._take(file, key)) is not None:
            # Sent once more, over another connection perhaps: one of the two is enough.
            self._refuse(before)
        file.kept[key] = waiter
        self._kept += 1
        waiter.kept_at = 0 if waiter.ctx.span is None else waiter.ctx.span.now()

        def expire() -> None:
            if self._take(file, key) is not None:
                self._refuse(waiter)

        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(left_ns / SECOND, expire)
        if file.timer is None:
            file.timer = loop.call_later(lock_look_ns / SECOND, self._look_again, inode)

    def _take(self, file: _WaitedFile, key: _Key) -> _LockRequest | None:
        """A request that is kept no longer."""
        waiter = file.kept.pop(key, None)
        if waiter is not None:
            self._kept -= 1
            if waiter.timer is not None:
                waiter.timer.cancel()
                waiter.timer = None
            if (span := waiter.ctx.span) is not None:
                span.part(TURN_WAIT, waiter.kept_at, span.now())
        return waiter

    def _refuse(self, waiter: _LockRequest) -> None:
        if not waiter.caller.is_cancelled:
            why = MetaError(Code.LOCKED, f"another owner has locked inode {waiter.request.inode}, or is to get it first")
            self._changes.refuse(waiter.ctx, waiter.request, why, waiter.done)

    # --- looking --------------------------------------------------------------------------------------------------------

    def _look_again(self, inode: InodeId) -> None:
        file = self._files.get(inode)
        if file is None:
            return
        file.idle_looks = 0 if file.kept else file.idle_looks + 1
        if file.idle_looks > _IDLE_LOOKS_MAX:
            del self._files[inode]
            return
        file.timer = asyncio.get_running_loop().call_later(lock_look_ns / SECOND, self._look_again, inode)
        if file.kept:
            self._look(inode)

    def _look(self, inode: InodeId) -> None:
        """Ask the store whose turn it is."""
        file = self._files[inode]
        now = self._clock.now()

        async def look(txn: ReadTxn) -> tuple[list[_Key], list[_Key]]:
            ready = [_key_of(wait) for wait in await list_ready(txn, inode)]
            silent = [key for key in ready if now - file.ready_since.get(key, now) >= lock_claim_ns]
            further = [_key_of(wait) for wait in await list_ready(txn, inode, frozenset(silent))] if silent else []
            return ready, further

        def seen(found: tuple[list[_Key], list[_Key]] | None, why: BaseException | None) -> None:
            # A store that does not answer is asked again soon.
            if found is None or self._files.get(inode) is not file:
                return
            ready, further = found
            since = file.ready_since
            file.ready_since = {key: since.get(key, now) for key in ready if key not in file.kept}
            silent = tuple(key for key, at in file.ready_since.items() if now - at >= lock_claim_ns)
            for key in ready:
                self._try_kept(file, key)
            for key in further:
                self._try_kept(file, key, silent)

        self._kv.submit_read(look, seen)

    def _try_kept(self, file: _WaitedFile, key: _Key, passing: tuple[_Key, ...] = ()) -> None:
        waiter = self._take(file, key)
        if waiter is not None and not waiter.caller.is_cancelled:
            self._try(waiter, passing)


def _key_of(wait: LockWait) -> _Key:
    return wait.owner.client, wait.wait
