"""Appending to a file that others append to as well: docs/protocols/appends.md."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from fs3.api.file import READ_ONLY, File
from fs3.api.io.budget import ByteBudget
from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.ids import InodeId
from fs3.base.limits import (
    append_proof_ns,
    append_renewal_ns,
    append_silence_ns,
    file_bytes_max,
    inline_bytes_max,
)
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.meta.client import MetaClient
from fs3.client.storage.client import StorageClient
from fs3.core.files.append_plan import AppendPlan
from fs3.model.inode import AppendTurn, Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Append, AppendStep, Stat

append_wait_ns = 60 * SECOND
"""An append that does not get the turn for so long fails."""
append_attempts_max = 16
"""Turns that one append loses to truncations, other writers and takeovers before it fails."""

_POLL_MIN_NS = 1 * MILLISECOND
_POLL_MAX_NS = 50 * MILLISECOND

_FREE = AppendTurn(0, READ_ONLY)

log = logging.getLogger("fs3.client")

Piece = Callable[[int, int], Awaitable[memoryview]]
"""(at, size): a part of the bytes to append. What it answers may be used again by the next one."""


class AppendEnd:
    """How an append remembers the step that ends it, for a caller that may have to ask again whether it happened."""

    def note(self, step: Append, start: int) -> int:
        """This step is about to be asked for; once it is done the bytes are at `start`. Its number; 0: any."""
        return 0


class _TurnLostError(Exception):
    """The end of the file was moved, or another one took the turn over: nothing was appended, and what was written is behind the
    end."""


class _Turn:
    """The turn as its holder knows it."""

    def __init__(self, plan: AppendPlan, proven_ns: int, *, unnamed: bool) -> None:
        self.plan = plan
        self.unnamed = unnamed
        """It goes on when the file has no name any more."""
        self.proven_ns = proven_ns
        """When the question was asked that was answered: the turn is this one."""
        self.is_lost = False


class Appender:
    """The appends of one client. Belongs to one event loop."""

    def __init__(self, meta: MetaClient, storage: StorageClient, budget: ByteBudget) -> None:
        """`budget`: of written bytes that are under way."""
        self._meta = meta
        self._storage = storage
        self._budget = budget
        self._queues: WeakValueDictionary[InodeId, asyncio.Lock] = WeakValueDictionary()
        """Per content, the appends of this client in the order they came."""

    def with_meta(self, meta: MetaClient) -> Appender:
        """The same appends, asked for by another user of the client."""
        view = copy.copy(self)
        view._meta = meta
        return view

    async def append(
        self, file: File, length: int, piece: Piece, writes: int, *, unnamed: bool = False, end: AppendEnd | None = None
    ) -> int:
        """So many bytes at the end of a file: where they are. `writes`: in place, that have ended and been told of. `unnamed`:
        also of a file that has no name any more. Raises as `Client.append`."""
        ending = end or AppendEnd()
        if not length:
            return file.length
        queue = self._queues.setdefault(file.inode.content_id, asyncio.Lock())
        async with queue:
            if file.inode.inline and file.inode.length + length <= inline_bytes_max:
                at = await self._append_inline(file, length, piece, ending, unnamed=unnamed)
                if at is not None:
                    return at
            for _ in range(append_attempts_max):
                turn = await self._take(file, length, unnamed=unnamed)
                try:
                    await self._store(file, turn, piece)
                    plan = turn.plan
                    step = Append(
                        file.inode.content_id,
                        file.session,
                        AppendStep.PUBLISH,
                        plan.serial,
                        length=plan.start + length,
                        unnamed=unnamed,
                    )
                    inode = await self._ask(file, step, ending.note(step, plan.start))
                except _TurnLostError:
                    continue
                except BaseException:
                    with suppress(FS3Error, _TurnLostError):
                        await asyncio.shield(self._step(file, AppendStep.GIVE_UP, turn.plan.serial))
                    raise
                file.on_told(inode, writes)
                return turn.plan.start
        raise error(Code.BUSY, f"the end of the file was moved {append_attempts_max} times while bytes were appended", file.path)

    async def _append_inline(self, file: File, length: int, piece: Piece, ending: AppendEnd, *, unnamed: bool) -> int | None:
        """The same for a file whose bytes are kept beside its inode: one request. None: it is not so small (any more)."""
        data = bytes(await piece(0, length))
        try:
            step = Append(file.inode.content_id, file.session, AppendStep.INLINE, data=data, unnamed=unnamed)
            inode = await self._ask(file, step, ending.note(step, 0))
        except FS3Error as failure:
            if failure.code is Code.NOT_INLINE:
                return None
            raise
        file.on_told(inode)
        return inode.length - length

    # --- the turn -----------------------------------------------------------------------------------------------------

    async def _take(self, file: File, length: int, *, unnamed: bool) -> _Turn:
        """The turn, once it is free. One whose holder has not been heard of for `append_silence_ns` is taken over."""
        clock = self._meta.clock
        begun_ns = clock.now()
        seen: AppendTurn | None = None
        since_ns = begun_ns
        backoff = Backoff(_POLL_MIN_NS, _POLL_MAX_NS)
        is_moving = True
        while True:
            asked_ns = clock.now()
            silent = seen if seen is not None and asked_ns - since_ns >= append_silence_ns else None
            if is_moving or seen is None or silent is not None or seen.session == file.session:
                over = silent or _FREE
                with suppress(_TurnLostError):
                    inode = await self._step(file, AppendStep.TAKE, over.serial, over.renewals, unnamed=unnamed)
                    return await self._check_end(file, _Turn(AppendPlan(inode, length), asked_ns, unnamed=unnamed), length)
            current = await self._current(file)
            # Who waits stands in a queue at the service while the turns go on there, and only looks while they do not.
            is_moving = current != seen
            if is_moving:
                seen, since_ns = current, clock.now()
                backoff.reset()
            if clock.now() - begun_ns >= append_wait_ns:
                raise error(Code.DEADLINE, f"others have been appending for {append_wait_ns // SECOND} s", file.path)
            if seen is not None:
                await asyncio.sleep(backoff.next_ns() / SECOND)

    async def _current(self, file: File) -> AppendTurn | None:
        """Whose turn it is: asked for without a change, since those who wait ask often."""
        try:
            inode = await self._meta.ask(Stat(PathRef(file.inode.id, ""), follow=False))
        except FS3Error as failure:
            raise error(failure.code, failure.strerror or failure.code.name, file.path) from failure
        file.is_replaced = inode.content_id != file.inode.content_id
        file.check_found()
        return inode.append

    async def _check_end(self, file: File, turn: _Turn, length: int) -> _Turn:
        """The turn. Raises FILE_TOO_LARGE when the file would become too long by it, which is given up then."""
        if turn.plan.start + length > file_bytes_max:
            await self._step(file, AppendStep.GIVE_UP, turn.plan.serial)
            raise error(Code.FILE_TOO_LARGE, f"{length} bytes more end beyond the largest file", file.path)
        return turn

    async def _renew(self, file: File, turn: _Turn) -> None:
        """Say again and again that the turn is used, until it is lost."""
        while True:
            await asyncio.sleep(append_renewal_ns / SECOND)
            try:
                await self._prove(file, turn)
            except _TurnLostError:
                return
            except FS3Error as failure:
                log.info("%s: a turn to append was not renewed: %s", file.path, failure)

    async def _prove(self, file: File, turn: _Turn) -> None:
        asked_ns = self._meta.clock.now()
        try:
            await self._step(file, AppendStep.RENEW, turn.plan.serial, unnamed=turn.unnamed)
        except _TurnLostError:
            turn.is_lost = True
            raise
        turn.proven_ns = asked_ns

    async def _step(
        self,
        file: File,
        step: AppendStep,
        serial: int = 0,
        renewals: int = 0,
        *,
        unnamed: bool = False,
    ) -> Inode:
        return await self._ask(file, Append(file.inode.content_id, file.session, step, serial, renewals, unnamed=unnamed))

    async def _ask(self, file: File, step: Append, seq: int = 0) -> Inode:
        try:
            return await self._meta.ask(step, seq=seq)
        except FS3Error as failure:
            if failure.code is Code.NOT_ITS_TURN:
                raise _TurnLostError from None
            if failure.code in (Code.NO_SESSION, Code.STALE):
                file.is_lost = True
            raise error(failure.code, failure.strerror or failure.code.name, file.path) from failure

    # --- the bytes ----------------------------------------------------------------------------------------------------

    async def _store(self, file: File, turn: _Turn, piece: Piece) -> None:
        """The bytes behind the end, durable."""
        renewing = asyncio.get_running_loop().create_task(self._renew(file, turn))
        try:
            for number, at, size in turn.plan.pieces():
                data = await piece(at, size)
                if self._meta.clock.now() - turn.proven_ns >= append_proof_ns:
                    # This process was stopped for long: what orders its updates behind later turns is not kept for ever.
                    await self._prove(file, turn)
                if turn.is_lost:
                    raise _TurnLostError
                await self._store_piece(file, turn.plan, number, at, data)
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _store_piece(self, file: File, plan: AppendPlan, number: int, at: int, data: memoryview) -> None:
        taken = await self._budget.take(len(data))
        try:
            results = await self._storage.update(plan.plan(number, at, data))
        finally:
            self._budget.give(taken)
        for result in results:
            if result.code is Code.STALE_UPDATE:
                raise _TurnLostError
            if result.code is not Code.OK:
                what = result.message or result.code.name.lower().replace("_", " ")
                raise error(result.code, f"bytes could not be appended ({what})", file.path)
