"""How a change is carried out: usually by one transaction, and by more when its first one says what is missing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace

from fs3.base.errors import FS3Error
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import LengthUnknown, MetaError, MoveOutstanding, TrimOutstanding
from fs3.core.meta.idempotency import record_refusal
from fs3.core.meta.operations import operation_of
from fs3.core.txn import Txn
from fs3.model.inode import Inode
from fs3.model.requests import Close, Request, Sync, Truncate
from fs3.model.trace import COMMIT, CallSpan
from fs3.ports.kv import KV, OnDone
from fs3.runtime.tasks import TaskSet
from fs3.runtime.tracing import timed_part, within_request
from fs3.services.meta.chunk_client import ChunkClient, file_length
from fs3.services.meta.inline_mover import InlineMover
from fs3.services.meta.leased_kv import ClientOp
from fs3.services.meta.trimmer import Trimmer

log = logging.getLogger("fs3.meta")

R = TypeVar("R")

_TIMEOUT_NS = 2 * SECOND
"""For one round of requests to storage; a writer waits for the answer, and asks again if there is none."""
_TRUNCATIONS_MET_MAX = 5


class ChangeExecutor:
    """Carries out changes and calls back with what became of them."""

    def __init__(self, kv: KV, storage: ChunkClient, trimmer: Trimmer) -> None:
        self._kv = kv
        self._storage = storage
        self._trimmer = trimmer
        self._mover = InlineMover(kv, storage)
        self._tasks = TaskSet()
        """One per change that waits for storage."""
        self._handed: tuple[CallSpan, int] | None = None
        """The span of the change that the store was given last, and when, until that is committed. (The changes of
        a batch that are committed together are one part.)"""

    def submit(self, ctx: OpContext, request: Request[R], done: OnDone[R]) -> None:
        """Carry out a request in a transaction of its own; `done` gets its answer or why there is none, on the loop."""

        def settled(answer: R | None, why: BaseException | None) -> None:
            if why is None:
                if truncates(request) and isinstance(answer, Inode) and answer.trim is not None:
                    # Also when it is a first sending's answer that was remembered: that one may have got no further.
                    self._start(ctx, self._after_trim(answer, done))
                else:
                    done(answer, None)
            elif isinstance(why, TrimOutstanding | LengthUnknown | MoveOutstanding):
                self._start(ctx, self._with_storage(ctx, request, why, done))
            elif ctx.repeated and isinstance(why, MetaError) and is_final(ctx, why):
                self.refuse(ctx, request, why, done)
            else:
                done(None, why)

        self._kv.submit(_write_op(ctx, request), settled if ctx.span is None else self._time_commit(ctx.span, settled))

    async def stop(self) -> None:
        """Leave unanswered the changes that wait for storage."""
        await self._tasks.cancel()

    def refuse(self, ctx: OpContext, request: Request[R], why: MetaError, done: OnDone[R]) -> None:
        """Answers a request with why it is refused, for good: see `fs3.core.meta.idempotency`. When another sending of it has an
        answer already, that is the answer."""
        if not ctx.repeated:
            done(None, why)
            return

        def stored(first: bool | None, problem: BaseException | None) -> None:
            if problem is not None:
                done(None, problem)
            elif first:
                done(None, why)
            else:
                self._kv.submit(_write_op(ctx, request), done)

        self._kv.submit(lambda txn: record_refusal(txn, ctx, why), stored)

    def _start(self, ctx: OpContext, work: Coroutine[Any, Any, None]) -> None:
        """What storage is asked for is a part of the request."""
        with within_request(ctx.span):
            self._tasks.start(work)

    def _time_commit(self, span: CallSpan, settled: OnDone[R]) -> OnDone[R]:
        """`settled`, of a change whose operation is traced."""
        if self._handed is None or self._handed[0] is not span:
            self._handed = span, span.now()
        _, handed_at = self._handed

        def timed(answer: R | None, why: BaseException | None) -> None:
            self._handed = None
            span.part(COMMIT, handed_at, span.now())
            settled(answer, why)

        return timed

    async def _after_trim(self, answer: Inode, done: OnDone[Any]) -> None:
        """The first transaction of a truncation is done: the others, then the answer. A client that gets none asks again."""
        try:
            await self._trimmer.finish(answer.id)
            done(answer, None)
        except (FS3Error, MetaError) as failure:
            done(None, failure)

    async def _with_storage(self, ctx: OpContext, request: Request[R], why: MetaError, done: OnDone[Any]) -> None:
        """Storage has to do or say something before the change can be made."""
        try:
            for _ in range(_TRUNCATIONS_MET_MAX):
                known: Request[Any] = request
                if isinstance(why, TrimOutstanding):
                    await self._trimmer.finish(why.inode)
                elif isinstance(why, MoveOutstanding):
                    await self._mover.move(why.inode)
                elif isinstance(request, Close | Sync):
                    known = await self._with_length(request)
                try:
                    with timed_part(COMMIT):
                        answer = await self._kv.transact(_write_op(ctx, known))
                except (TrimOutstanding, LengthUnknown, MoveOutstanding) as again:
                    why = again
                    continue
                if truncates(request) and answer.trim is not None:
                    await self._trimmer.finish(answer.id)
                done(answer, None)
                return
            done(None, why)
        except (FS3Error, MetaError) as failure:
            done(None, failure)

    async def _with_length(self, request: Close | Sync) -> Close | Sync:
        """The file was truncated since the writer opened it: its length counts as far as storage has the bytes."""
        inode = await self._kv.read(lambda txn: find_by_content(txn, request.content))
        if inode is None or inode.trim is not None or request.length is None:
            return request
        try:
            length = min(request.length, await file_length(self._storage, inode, timeout_ns=_TIMEOUT_NS))
        except FS3Error as failure:
            raise MetaError(
                Code.BUSY, f"storage does not say how long content {request.content} is: {failure.strerror}"
            ) from failure
        # What the truncation has taken away from under its writes is a hole.
        return replace(request, length=length, truncations=inode.truncations, leaves_holes=True)


def _write_op(ctx: OpContext, request: Request[R]) -> ClientOp[R]:
    """The operation that answers a request, for a transaction of its own."""
    operation = operation_of(request)

    def op(txn: Txn) -> Awaitable[R]:
        return operation(txn, ctx, request)

    return ClientOp(op, ctx.client, request, makes_room=request.may_use_reserve)


def truncates(request: Request[Any]) -> bool:
    """It is answered only when storage has done its part."""
    return isinstance(request, Truncate) or (isinstance(request, Close) and request.discard)


def is_final(ctx: OpContext, why: MetaError) -> bool:
    """Asking again changes nothing. A cluster whose storage nodes are still to come is waited for."""
    return why.code.retry is Retry.NEVER and not (why.code is Code.NO_TABLE and not ctx.routing.tables)
