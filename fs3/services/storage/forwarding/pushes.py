"""Bytes that predecessors push: written to blocks of the store at once, and kept until their updates come.

A buffer of a push is held while the disk writes it, and while it is pushed on, which is counted with what forwards use
(`lent_bytes_max`). What is written is held as a block of the store, in which nothing else finds it: until an update that names it
is staged, until the chain version changes, or for as long as an update can be under way.
"""

from __future__ import annotations

import asyncio
import logging

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TargetId
from fs3.base.limits import flight_deadline_ns, lent_bytes_max
from fs3.base.status import Code
from fs3.model.chunk import PushedHandle
from fs3.ports.chunk_store import ChunkStore, Prewritten
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.runtime.alarm import Alarm
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.forwarding.payloads import Payloads
from fs3.wire.storage_push import push_reply_to_pb

log = logging.getLogger("fs3.storage")

pushes_held_max = 32
"""Pushes one target has and waits for the updates of; the bytes are in blocks of its store."""


class PushBuffer:
    """The bytes of one Push call, which is answered when the last user of them is done."""

    def __init__(self, call: Call, payloads: Payloads) -> None:
        """Held once by the caller: `drop`."""
        assert call.payload is not None
        self.data = call.payload
        self._call = call
        self._payloads = payloads
        self._bytes = len(call.payload)
        self._holds = 1
        self._failure: FS3Error | None = None
        payloads.bytes += self._bytes

    def hold(self) -> None:
        """One user more."""
        self._holds += 1

    def drop(self) -> None:
        """One user less."""
        self._holds -= 1
        if self._holds:
            return
        self._payloads.bytes -= self._bytes
        if self._failure is not None:
            self._call.fail(self._failure.code, self._failure.strerror or "")
        else:
            self._call.reply(push_reply_to_pb())

    def fail(self, failure: FS3Error) -> None:
        """The bytes are not kept here: why."""
        self._failure = failure

    def lend(self) -> PushBuffer | None:
        """Itself, to push the bytes on; `give_back` follows. None: too much is lent already."""
        if self._payloads.lent_bytes + self._bytes > lent_bytes_max:
            return None
        self._payloads.lent_bytes += self._bytes
        self.hold()
        return self

    def give_back(self) -> None:
        """See `ForwardedBytes`."""
        self._payloads.lent_bytes -= self._bytes
        self.drop()


class PushedBlock:
    """The bytes of one push, written or about to be: the `PushedHandle` of a storage service."""

    def __init__(self, source: TargetId, number: int, expires_ns: int) -> None:
        self.key = (source, number)
        self.expires_ns = expires_ns
        self.onward = 0
        """See `PushedHandle`."""
        self.is_dropped = False
        """No update will be staged with it."""
        self.prewriting: asyncio.Task[Prewritten | None] | None = None


class PushedBlocks:
    """What was pushed to one target and not staged yet."""

    def __init__(self, store: ChunkStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._held: dict[tuple[TargetId, int], PushedBlock] = {}
        """In the order of time."""
        self._tasks = TaskSet()
        self._alarm = Alarm(self._expire)
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    def receive(self, source: TargetId, number: int, reserve: int, buffer: PushBuffer) -> PushedBlock | None:
        """Begin to write pushed bytes. None: they are not kept."""
        if self._closed or (source, number) in self._held or len(self._held) >= pushes_held_max:
            return None
        now = self._clock.now()
        pushed = PushedBlock(source, number, now + flight_deadline_ns)
        self._held[pushed.key] = pushed
        buffer.hold()
        pushed.prewriting = self._tasks.start(self._prewrite(pushed, reserve, buffer))
        self._alarm.set(pushed.expires_ns, now)
        return pushed

    def find(self, source: TargetId, number: int) -> PushedBlock | None:
        """What an update names; None: it is not here, or not any more."""
        return self._held.get((source, number))

    async def take(self, pushed: PushedHandle) -> Prewritten | None:
        """The block, for the store to stage an update with; None: there is none."""
        assert isinstance(pushed, PushedBlock)
        assert pushed.prewriting is not None
        await asyncio.wait((pushed.prewriting,))
        if pushed.is_dropped:
            return None
        self._forget(pushed)
        return pushed.prewriting.result()

    def clear(self) -> None:
        """No update will come for any of them: the chain version is another one."""
        for pushed in list(self._held.values()):
            self._drop(pushed)
        self._alarm.cancel()

    async def close(self) -> None:
        """Wait for the store to be done with what is being written; nothing is kept."""
        self._closed = True
        self.clear()
        await self._tasks.join()

    async def _prewrite(self, pushed: PushedBlock, reserve: int, buffer: PushBuffer) -> Prewritten | None:
        block = None
        try:
            block = await self._store.prewrite(buffer.data, reserve)
        except Exception:
            log.exception("a push of %d bytes from target %d could not be written", len(buffer.data), pushed.key[0])
        if block is None:
            buffer.fail(error(Code.BUSY, "what was pushed is not kept: there is no room for it"))
            if not pushed.is_dropped:
                self._forget(pushed)
                pushed.is_dropped = True
        elif pushed.is_dropped:
            self._store.discard(block)
        buffer.drop()
        return block

    def _forget(self, pushed: PushedBlock) -> None:
        if self._held.get(pushed.key) is pushed:
            del self._held[pushed.key]

    def _drop(self, pushed: PushedBlock) -> None:
        self._forget(pushed)
        pushed.is_dropped = True
        if pushed.prewriting is not None and pushed.prewriting.done():
            block = pushed.prewriting.result()
            if block is not None:
                self._store.discard(block)

    def _expire(self) -> None:
        now = self._clock.now()
        for pushed in list(self._held.values()):
            if pushed.expires_ns > now:
                self._alarm.set(pushed.expires_ns, now)
                return
            self._drop(pushed)
