"""Appenders that wait for their turn (docs/protocols/appends.md): a TAKE is kept here until the turn before it ends, and is
carried out together with what ends it, in the same commit.

Whose turn it is, the transactions decide. What is known here is a guess that saves asking in vain: a turn may be taken, lost or
ended through another service on the same store. So a TAKE is kept for a short time only, and is carried out then in any case.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from fs3.base.ids import InodeId, SessionId
from fs3.base.limits import append_turn_wait_ns
from fs3.base.units import SECOND
from fs3.core.meta.context import OpContext
from fs3.model.inode import Inode
from fs3.model.requests import Append, AppendStep
from fs3.model.trace import TURN_WAIT
from fs3.ports.kv import OnDone

appends_waiting_max = 4096
"""Requests that are kept, of all files together; others are carried out at once."""
append_files_max = 65_536
"""Files whose turn is remembered."""


class TurnChanges(Protocol):
    """What carries out changes. `fs3.services.meta.change_executor.ChangeExecutor` is the one of production."""

    def submit(self, ctx: OpContext, request: Append, done: OnDone[Inode]) -> None:
        """Carry out a request; those of one turn of the loop are committed together, in order."""
        ...


class TurnCaller(Protocol):
    """The call that a request came with."""

    @property
    def is_cancelled(self) -> bool:
        """No answer is wanted any more."""
        ...


@dataclass(slots=True, eq=False)
class _TurnWaiter:
    ctx: OpContext
    request: Append
    done: OnDone[Inode]
    caller: TurnCaller
    timer: asyncio.TimerHandle | None = None
    kept_at: int = 0
    """When, of one that is traced."""

    def end_waiting(self) -> None:
        """It is kept no longer."""
        if (span := self.ctx.span) is not None:
            span.part(TURN_WAIT, self.kept_at, span.now())


@dataclass(slots=True)
class _FileTurn:
    holder: SessionId
    """The session that has the turn, or is being given it."""
    waiting: deque[_TurnWaiter] = field(default_factory=deque)
    """In the order they came."""


class AppendQueue:
    """Per file, who has the turn to append to it and who waits for that, as far as this service knows."""

    def __init__(self, changes: TurnChanges) -> None:
        self._changes = changes
        self._files: dict[InodeId, _FileTurn] = {}
        self._waiting = 0

    def submit(self, ctx: OpContext, request: Append, done: OnDone[Inode], caller: TurnCaller) -> None:
        """Carry out a step of an append, or keep it: a TAKE that waits its turn. Nothing is kept of a caller that has gone."""
        file = self._files.get(request.content)
        if request.step is AppendStep.TAKE:
            # One that names a turn takes it over from a holder that is silent.
            is_waiting = file is not None and file.holder != request.session and not request.serial
            if file is not None and is_waiting and self._waiting < appends_waiting_max:
                self._keep(file, _TurnWaiter(ctx, request, done, caller))
            elif file is None and len(self._files) < append_files_max:
                self._give(ctx, request, done)
            else:
                self._try(ctx, request, done)
            return
        self._changes.submit(ctx, request, done)
        if request.step is not AppendStep.RENEW:
            self._hand_on(request)

    def stop(self) -> None:
        """Drop what is kept; its callers ask another service."""
        for file in self._files.values():
            for waiter in file.waiting:
                if waiter.timer is not None:
                    waiter.timer.cancel()
        self._files.clear()
        self._waiting = 0

    def _keep(self, file: _FileTurn, waiter: _TurnWaiter) -> None:
        def expire() -> None:
            file.waiting.remove(waiter)
            self._waiting -= 1
            waiter.end_waiting()
            if not waiter.caller.is_cancelled:
                self._try(waiter.ctx, waiter.request, waiter.done)

        waiter.timer = asyncio.get_running_loop().call_later(append_turn_wait_ns / SECOND, expire)
        waiter.kept_at = 0 if waiter.ctx.span is None else waiter.ctx.span.now()
        file.waiting.append(waiter)
        self._waiting += 1

    def _hand_on(self, ended: Append) -> None:
        """The turn of this request's session has ended, or will have when the request before is done: the next one."""
        file = self._files.get(ended.content)
        if file is None or file.holder != ended.session:
            return
        while file.waiting:
            waiter = file.waiting.popleft()
            self._waiting -= 1
            assert waiter.timer is not None
            waiter.timer.cancel()
            waiter.end_waiting()
            if not waiter.caller.is_cancelled:
                file.holder = waiter.request.session
                self._give(waiter.ctx, waiter.request, waiter.done)
                return
        del self._files[ended.content]

    def _give(self, ctx: OpContext, request: Append, done: OnDone[Inode]) -> None:
        """A TAKE for which the turn seems free."""
        if request.content not in self._files:
            self._files[request.content] = _FileTurn(request.session)

        def taken(inode: Inode | None, why: BaseException | None) -> None:
            if why is not None:
                self._hand_on(request)
            done(inode, why)

        self._changes.submit(ctx, request, taken)

    def _try(self, ctx: OpContext, request: Append, done: OnDone[Inode]) -> None:
        """A TAKE whatever is known of the turn: others wait on only if it is refused."""

        def taken(inode: Inode | None, why: BaseException | None) -> None:
            file = self._files.get(request.content)
            if why is None and file is not None:
                file.holder = request.session
            done(inode, why)

        self._changes.submit(ctx, request, taken)
