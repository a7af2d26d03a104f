"""What the store of one target is working on, and the bytes that must stay where they are meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.effects import DropPending
from fs3.core.craq.events import DropDone, StageDone
from fs3.model.chunk import PayloadHandle, Update
from fs3.ports.chunk_store import ChunkStore, Staged
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.forwarding.pushes import PushedBlocks

log = logging.getLogger("fs3.storage")


class ChunkRepairs(Protocol):
    """What works on the bad chunks of a target."""

    def may_be_repaired(self, chunk: ChunkId) -> bool:
        """The chunk was found bad, and may be good again in a moment."""
        ...


class StagingOwner(Protocol):
    """The target whose updates are staged."""

    def on_staged(self, dones: Sequence[StageDone]) -> None:
        """Updates are durable as their chunks' pending versions, or cannot be. Not called within a call of the owner's."""
        ...

    def on_dropped(self, done: DropDone) -> None:
        """A pending version is durably gone."""
        ...

    def on_drop_failed(self, failure: Exception) -> None:
        """The store cannot make it durable that a pending version is gone."""
        ...


class Staging:
    """Carries `Stage` and `DropPending` effects out; each is answered once. At most one update of a chunk is staged at a time."""

    def __init__(self, target: TargetId, store: ChunkStore, pushes: PushedBlocks, owner: StagingOwner) -> None:
        """`pushes`: where the bytes are of updates that name a push."""
        self.repairs: ChunkRepairs | None = None
        """There once the node's duties have begun for the target."""
        self.refusal = ""
        """Why nothing is staged: the target is read-only; "" when it is not."""
        self._target = target
        self._store = store
        self._pushes = pushes
        self._owner = owner
        self._payloads: dict[ChunkId, PayloadHandle] = {}
        self._tasks = TaskSet()
        self._gathered: list[Update] = []
        """Of this turn: the next `flush` hands them to the store."""
        self._submitted = 0
        """Updates that the store has been given and has not answered for."""
        self._all_staged: asyncio.Future[None] | None = None
        """Resolved when it has; there while `join` waits for that."""

    def __len__(self) -> int:
        """Updates whose bytes are in use."""
        return len(self._payloads)

    def stage(self, update: Update) -> None:
        """Have the store make an update its chunk's pending version, with the next `flush`. Its bytes are held until they are
        taken (`take`)."""
        payload = update.payload
        if payload is not None and update.data is not None and not payload.is_gone:
            payload.unpark()
            payload.hold()
            self._payloads[update.chunk] = payload
        if update.trace is not None:
            update.trace.on_staging()
        if self.refusal or update.pushed is not None:
            self._tasks.start(self._stage(update))
        else:
            self._gathered.append(update)

    def flush(self) -> None:
        """Hand the updates of this turn to the store. Raises what it raises, which then has none of them."""
        if self._gathered:
            updates, self._gathered = self._gathered, []
            try:
                self._store.submit(updates, self._on_staged)
            except Exception:
                for update in updates:
                    self.drop(update.chunk)
                raise
            self._submitted += len(updates)

    def drop_pending(self, effect: DropPending) -> None:
        """Have the store forget a pending version: at once in memory, then durably."""
        self._store.drop_pending(effect.chunk)
        self._tasks.start(self._flush(effect))

    def find(self, chunk: ChunkId) -> PayloadHandle | None:
        """The bytes that are held for a chunk."""
        return self._payloads.get(chunk)

    def take(self, chunk: ChunkId) -> PayloadHandle | None:
        """The same, to be dropped by the caller: the place belongs to the next update of the chunk."""
        return self._payloads.pop(chunk, None)

    def drop(self, chunk: ChunkId) -> None:
        """The machine will not see the end of this stage: its bytes are held for nothing."""
        payload = self._payloads.pop(chunk, None)
        if payload is not None:
            payload.drop()

    def drop_all(self) -> None:
        """The same for every chunk."""
        for chunk in list(self._payloads):
            self.drop(chunk)

    async def join(self) -> None:
        """Until the store has finished what it was given."""
        await self._tasks.join()
        if self._submitted:
            self._all_staged = asyncio.get_running_loop().create_future()
            await self._all_staged

    def _on_staged(self, told: Sequence[Staged]) -> None:
        self._submitted -= len(told)
        if self._all_staged is not None and not self._submitted and not self._all_staged.done():
            self._all_staged.set_result(None)
        self._owner.on_staged(
            [
                self._settle(
                    update, StageDone(update.chunk, update.version, result.code, result.length, result.checksum, result.message)
                )
                for update, result in told
            ]
        )

    async def _stage(self, update: Update) -> None:
        if self.refusal:
            message = f"target {self._target}: {self.refusal}"
            self._owner.on_staged([StageDone(update.chunk, update.version, Code.NO_SPACE, 0, 0, message)])
            return
        try:
            prewritten = None
            if update.pushed is not None:
                prewritten = await self._pushes.take(update.pushed)
                if prewritten is None:
                    # Worth asking again, with the bytes.
                    message = f"target {self._target}: what was pushed for chunk {update.chunk.hex()} is not here any more"
                    self._owner.on_staged([StageDone(update.chunk, update.version, Code.BUSY, 0, 0, message)])
                    return
            result = await self._store.stage(update, update.version, update.chain_version, prewritten)
            done = StageDone(update.chunk, update.version, result.code, result.length, result.checksum, result.message)
        except Exception as failure:
            log.exception("target %d: staging chunk %s failed", self._target, update.chunk.hex())
            done = StageDone(update.chunk, update.version, Code.DISK, 0, 0, f"target {self._target}: {failure}")
        self._owner.on_staged([self._settle(update, done)])

    def _settle(self, update: Update, done: StageDone) -> StageDone:
        if done.code is Code.CHECKSUM and self.repairs is not None and self.repairs.may_be_repaired(update.chunk):
            # The bytes it would have to keep are wrong. They are being fetched from another replica: worth asking again.
            done.code = Code.BUSY
        return done

    async def _flush(self, effect: DropPending) -> None:
        try:
            await self._store.flush()
        except Exception as failure:  # whatever it is, the chunk stays as it was, and the target decides
            self._owner.on_drop_failed(failure)
            return
        self._owner.on_dropped(DropDone(effect.chunk, effect.version))
