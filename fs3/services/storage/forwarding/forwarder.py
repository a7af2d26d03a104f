"""What one target sends down its chain: the lane to its successor, and the bytes that have to be read back from the store first.

A lane belongs to one chain version. When the version changes everything under way is given up at once, answered or not: the
machine sends it again under the new version, and an answer to a sending of the old one would not count. So nothing waits for a
successor that is dead, silent, or no successor any more, for longer than it takes the chain to change.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import msgspec

from fs3.base.checksum import coarsen
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.core.craq.effects import Forward
from fs3.core.craq.events import ForwardDone
from fs3.model.chain import Chain
from fs3.model.chunk import UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadResult
from fs3.ports.rpc import Channel
from fs3.services.storage.forwarding.payloads import Payloads
from fs3.services.storage.forwarding.queue import ForwardQueue
from fs3.services.storage.forwarding.successor_monitor import SuccessorMonitor

log = logging.getLogger("fs3.storage")

fill_bytes_max = 64 * MIB
"""Bytes one target may have read back from its store to send them on."""


class Forwarder:
    """Carries `Forward` effects out; each is answered with exactly one `ForwardDone`, unless the target stops before."""

    def __init__(
        self,
        target: TargetId,
        store: ChunkStore,
        payloads: Payloads,
        channel: Callable[[NodeId], Channel],
        deliver: Callable[[ForwardDone], None],
        on_unreadable: Callable[[ChunkId, str], None],
        on_reachability_changed: Callable[[], None],
    ) -> None:
        """`channel` reaches a node or raises FS3Error; `unreadable` is told of a pending version that the disk does not give;
        `silent` when `unreachable` is another one."""
        self._target = target
        self._store = store
        self._payloads = payloads
        self._channel = channel
        self._deliver = deliver
        self._on_unreadable = on_unreadable
        self._on_reachability_changed = on_reachability_changed
        self._monitor: SuccessorMonitor | None = None
        self._chain: Chain | None = None
        self._queue: ForwardQueue | None = None
        self._waiting: deque[Forward] = deque()
        """Sendings whose bytes have to be read back, for which there is no memory yet."""
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.read_back_bytes = 0
        """In memory to be sent, or being read for that."""

    def on_chain_changed(self, chain: Chain | None) -> None:
        """Another chain version: what is under way is given up."""
        self._chain = chain
        lane, self._queue = self._queue, None
        if lane is not None:
            lane.close()
        watch, self._monitor = self._monitor, None
        if watch is not None:
            watch.close()
        successor = chain.successor(self._target) if chain is not None else None
        if successor is not None:
            self._monitor = SuccessorMonitor(
                successor.target, successor.node, self._channel, self._unanswered_bytes, self._on_reachability_changed
            )

    @property
    def unreachable_successor(self) -> TargetId:
        """The successor, when nothing is heard of it in the present chain version although something was asked of it; 0: none."""
        return self._monitor.target if self._monitor is not None and self._monitor.is_unresponsive else TargetId(0)

    def on_successor_request(self) -> None:
        """Somebody else has asked something of the successor."""
        if self._monitor is not None:
            self._monitor.on_request_sent()

    def _unanswered_bytes(self) -> int | None:
        return self._queue.unanswered_bytes if self._queue is not None else None

    def forward(self, effect: Forward) -> None:
        """Send an update; it leaves with the next `flush`, or once its bytes have been read."""
        update = effect.update
        lane = self._lane_to(effect.target)
        if lane is None:
            # The chain has changed since; the machine will hear of it next and send again.
            self._deliver(ForwardDone(update.chunk, update.version, effect.attempt, UpdateResult(Code.NOT_SERVING)))
        elif not update.length:
            lane.put(update, effect.attempt, (), _nothing)
        elif update.data is not None and (give_back := self._payloads.lend(update)) is not None:
            lane.put(update, effect.attempt, (update.data,), give_back)
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
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _lane_to(self, target: TargetId) -> ForwardQueue | None:
        if self._queue is None and self._chain is not None:
            successor = self._chain.successor(self._target)
            if successor is not None and self._monitor is not None:
                self._queue = ForwardQueue(
                    self._target, successor.target, successor.node, self._channel, self._deliver, self._monitor
                )
        return self._queue if self._queue is not None and self._queue.target == target else None

    # --- from the store ----------------------------------------------------------------------------------------------

    def _read_back(self) -> None:
        """Read what cannot be sent from a request's buffer, as much at once as may be in memory."""
        while self._waiting and (
            not self.read_back_bytes or self.read_back_bytes + self._waiting[0].update.length <= fill_bytes_max
        ):
            effect = self._waiting.popleft()
            self.read_back_bytes += effect.update.length
            task = asyncio.get_running_loop().create_task(self._send_from_store(effect))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    async def _send_from_store(self, effect: Forward) -> None:
        """Forward an update with the bytes that the pending version, or in a resync the committed one, has in its range."""
        update = effect.update
        try:
            found = await self._store.read_cold(update.chunk, update.offset, update.length, pending=not effect.committed)
        except FS3Error as failure:
            found = ReadResult(failure.code, message=failure.strerror or "")
        except Exception as failure:
            log.exception("target %d: reading chunk %s back failed", self._target, update.chunk.hex())
            found = ReadResult(Code.DISK, message=str(failure))

        def release() -> None:
            if found.pin:
                self._store.release(found.pin)
            self.read_back_bytes -= update.length
            self._read_back()

        code = found.code
        if code is Code.OK and (found.version != update.version or found.length != update.length):
            code = Code.NOT_FOUND
        lane = self._lane_to(effect.target) if code is Code.OK else None
        if lane is not None:
            if not update.checksums:
                sums = coarsen(found.checksums, update.offset, update.length, found.piece_bytes)
                update = msgspec.structs.replace(update, checksums=tuple(sums))
            lane.put(update, effect.attempt, found.parts, release)
            lane.flush()
            return
        if code is Code.OK:
            code = Code.NOT_SERVING
        elif not effect.committed and code in (Code.CHECKSUM, Code.DISK):
            self._on_unreadable(update.chunk, found.message or code.name)
        release()
        self._deliver(ForwardDone(update.chunk, update.version, effect.attempt, UpdateResult(code, message=found.message)))


def _nothing() -> None:
    """There are no bytes to give back."""
