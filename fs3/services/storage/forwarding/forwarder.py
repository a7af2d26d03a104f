"""What one target sends down its chain: the queue to its successor, and the bytes that have to be read back from the store first.

A queue belongs to one chain version. When the version changes everything under way is given up at once, answered or not: the
machine sends it again under the new version, and an answer to what was sent under the old one would not count. So nothing waits
for a successor that is dead, unresponsive, or no successor any more, for longer than it takes the chain to change.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import msgspec

from fs3.base.checksum import coarsen
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.core.craq.effects import Forward
from fs3.core.craq.events import ForwardDone
from fs3.model.chain import Chain
from fs3.model.chunk import Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadResult
from fs3.ports.rpc import Channel
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.forwarding.push_sender import PushSender
from fs3.services.storage.forwarding.queue import ForwardAnswers, ForwardQueue
from fs3.services.storage.forwarding.successor_monitor import SuccessorMonitor
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.update_trace import span_of

log = logging.getLogger("fs3.storage")

fill_bytes_max = 64 * MIB
"""Bytes one target may have read back from its store to send them on."""


class ForwarderOwner(ForwardAnswers, Protocol):
    """The target whose updates are forwarded."""

    def on_pending_unreadable(self, chunk: ChunkId, why: str) -> None:
        """The disk does not give a pending version back that has to be sent on. `why` is for people."""
        ...

    def on_reachability_changed(self) -> None:
        """`Forwarder.unreachable_successor` is another one."""
        ...


class Forwarder:
    """Carries `Forward` effects out; each is answered with exactly one `ForwardDone`, unless the target stops before."""

    def __init__(
        self, target: TargetId, store: ChunkStore, context: NodeContext, owner: ForwarderOwner, incarnation: int
    ) -> None:
        """`incarnation`: see `Replica`."""
        self.push_sender = PushSender(target, incarnation, context)
        self._target = target
        self._store = store
        self._context = context
        self._owner = owner
        self._monitor: SuccessorMonitor | None = None
        self._chain: Chain | None = None
        self._queue: ForwardQueue | None = None
        self._waiting: deque[Forward] = deque()
        """Those whose bytes have to be read back, for which there is no memory yet."""
        self._tasks = TaskSet()
        self.read_back_bytes = 0
        """In memory to be sent, or being read for that."""

    def on_chain_changed(self, chain: Chain | None) -> None:
        """Another chain version: what is under way is given up."""
        self._chain = chain
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()
        watch, self._monitor = self._monitor, None
        if watch is not None:
            watch.close()
        successor = chain.successor(self._target) if chain is not None else None
        self.push_sender.on_chain_changed(chain, successor)
        if successor is not None:
            self._monitor = SuccessorMonitor(successor.target, successor.node, self)

    @property
    def unreachable_successor(self) -> TargetId:
        """The successor, when nothing is heard of it in the present chain version although something was asked of it; 0: none."""
        return self._monitor.target if self._monitor is not None and self._monitor.is_unresponsive else TargetId(0)

    def on_successor_request(self) -> None:
        """The resync of this target has asked something of the successor."""
        if self._monitor is not None:
            self._monitor.on_request_sent()

    # --- what its monitor asks (`SuccessorOwner`) ---------------------------------------------------------------------

    def channel_to(self, node: NodeId) -> Channel:
        """The channel to a node; raises FS3Error."""
        return self._context.channel_to(node)

    def unanswered_bytes(self) -> int | None:
        """Of what was sent to the successor and not answered; None when nothing is."""
        return self._queue.unanswered_bytes if self._queue is not None else None

    def on_reachability_changed(self) -> None:
        """`unreachable_successor` is another one."""
        self._owner.on_reachability_changed()

    # --- forwarding -----------------------------------------------------------------------------------------------------

    def push(self, update: Update) -> None:
        """An update is about to be staged: send its bytes ahead, if they are many and all of the chunk."""
        number = update.pushed.onward if update.pushed is not None else self._push_whole(update)
        if number:
            self.push_sender.assign(update.chunk, update.version, number)

    def _push_whole(self, update: Update) -> int:
        data, payload = update.data, update.payload
        if data is None or payload is None or not self.push_sender.is_ready(len(data)):
            return 0
        if not self._is_whole(update) or not payload.lend():
            return 0
        return self.push_sender.push(data, update.checksums, update.reserve, payload, span_of(update))

    def _is_whole(self, update: Update) -> bool:
        """The chunk will consist of the update's data."""
        if update.kind is UpdateKind.PUT:
            return True
        if update.kind is not UpdateKind.WRITE or update.offset:
            return False
        meta = self._store.get(update.chunk)
        return meta is None or meta.length <= update.length

    def forward(self, effect: Forward) -> None:
        """Send an update; it leaves with the next `flush`, or once its bytes have been read."""
        update = effect.update
        push = self.push_sender.take(update.chunk, update.version)
        if push and update.kind in (UpdateKind.PUT, UpdateKind.WRITE):
            update = msgspec.structs.replace(update, push=push, pushed=None, data=None)
        elif update.push:
            update = msgspec.structs.replace(update, push=0, pushed=None)
        queue = self._queue_to(effect.target)
        if queue is None:
            # The chain has changed since; the machine will hear of it next and send again.
            self._finish(effect, UpdateResult(Code.NOT_SERVING))
        elif update.push or not update.length:
            queue.put(update, effect.attempt)
        elif update.data is not None and update.payload is not None and update.payload.lend():
            queue.put(update, effect.attempt, (update.data,), update.payload)
        else:
            self._waiting.append(effect)
            self._read_back()

    def flush(self) -> None:
        """Everything forwarded in this turn of the loop leaves in as few frames as possible."""
        if self._queue is not None:
            self._queue.flush()

    async def close(self) -> None:
        """Give everything up, and wait for the store to be done with what is being read."""
        self.on_chain_changed(None)
        self._waiting.clear()
        await self._tasks.join()

    def _queue_to(self, target: TargetId) -> ForwardQueue | None:
        if self._queue is None and self._chain is not None:
            successor = self._chain.successor(self._target)
            if successor is not None and self._monitor is not None:
                self._queue = ForwardQueue(self._target, successor, self._context, self._owner, self._monitor)
        return self._queue if self._queue is not None and self._queue.target == target else None

    def _finish(self, effect: Forward, result: UpdateResult) -> None:
        """The answer to what was not sent."""
        update = effect.update
        self._owner.on_forward_done(ForwardDone(update.chunk, update.version, effect.attempt, result))

    # --- from the store ----------------------------------------------------------------------------------------------

    def _read_back(self) -> None:
        """Read what cannot be sent from a request's buffer, as much at once as may be in memory."""
        while self._waiting and (
            not self.read_back_bytes or self.read_back_bytes + self._waiting[0].update.length <= fill_bytes_max
        ):
            effect = self._waiting.popleft()
            self.read_back_bytes += effect.update.length
            self._tasks.start(self._send_from_store(effect))

    def on_read_back_given_back(self, found: ReadResult, length: int) -> None:
        """What was read back is not needed any more: the next may be read."""
        if found.pin:
            self._store.release(found.pin)
        self.read_back_bytes -= length
        self._read_back()

    async def _send_from_store(self, effect: Forward) -> None:
        """Forward an update with the bytes that the pending version, or in a resync the committed one, has in its range."""
        update = msgspec.structs.replace(effect.update, push=0, pushed=None)
        if update.kind is UpdateKind.FILL_BAD and effect.committed and update.chunk not in self._store.bad_chunks:
            update = msgspec.structs.replace(update, kind=UpdateKind.FILL)  # it was repaired
        try:
            if update.kind is UpdateKind.FILL_BAD:
                found = await self._read_damaged(effect)
            else:
                found = await self._store.read_cold(update.chunk, update.offset, update.length, pending=not effect.committed)
        except FS3Error as failure:
            found = ReadResult(failure.code, message=failure.strerror or "")
        except Exception as failure:
            log.exception("target %d: reading chunk %s back failed", self._target, update.chunk.hex())
            found = ReadResult(Code.DISK, message=str(failure))
        read_back = _ReadBack(self, found, update.length)
        code = found.code
        if code is Code.OK and (found.version != update.version or found.length != update.length):
            code = Code.NOT_FOUND
        queue = self._queue_to(effect.target) if code is Code.OK else None
        if queue is not None:
            if not update.checksums:
                sums = coarsen(found.checksums, update.offset, update.length, found.piece_bytes)
                update = msgspec.structs.replace(update, checksums=tuple(sums))
            queue.put(update, effect.attempt, found.parts, read_back)
            queue.flush()
            return
        if code is Code.OK:
            code = Code.NOT_SERVING
        elif not effect.committed and code in (Code.CHECKSUM, Code.DISK):
            self._owner.on_pending_unreadable(update.chunk, found.message or code.name)
        read_back.give_back()
        self._finish(effect, UpdateResult(code, message=found.message))

    async def _read_damaged(self, effect: Forward) -> ReadResult:
        """The mark of the chunk is made durable first: after a loss of power, this copy must not pass for the good one."""
        if effect.committed:
            await self._store.flush()
        return await self._store.read_damaged(effect.update.chunk, pending=not effect.committed)


class _ReadBack:
    """Bytes of one forward that were read back from the store."""

    __slots__ = ("_forwarder", "_found", "_length")

    def __init__(self, forwarder: Forwarder, found: ReadResult, length: int) -> None:
        self._forwarder = forwarder
        self._found = found
        self._length = length

    def give_back(self) -> None:
        """See `ForwardedBytes`."""
        self._forwarder.on_read_back_given_back(self._found, self._length)
