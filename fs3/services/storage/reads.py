"""Serving reads: everything warm at once on the loop, the rest from the disks, one reply when all of it is there.

The lease and paused processes. A read is linearizable when what it returns was the chunk's value at some moment between the
request and the reply. What a target picks (which version of the chunk, found under a gate that said OK) is that value as long as
the chain cannot have gone on without it: within its lease, under the chain version that was asked for. How long the reply takes
after that does not matter: blocks that were picked are pinned and never written again. So what must lie within the lease is the
*pick*, and a process may be stopped between any two instructions. Hence

- the gate is asked before the pick, which spares the work, and the clock is read again after it. Lease running after the pick:
  it was running at the pick. A process that is stopped later, even for an hour, sends a reply that is late but was true when it
  was made; and the one that asked has given up long before.
- a pick that waits (for its turn, for a cold disk) is made at an unknown moment after the gate. The gate is asked again when all
  of it is there: same chain version, lease running. It cannot have run out and come back in between: after a lease has run out,
  the manager grants the next one only to a node that has applied the routing in which it lost something: another version.
- a chunk that begins to be updated after the gate may be read by then in its older or its newer version: both were its value at
  some moment since the gate, when neither was staged.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain as flatten

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.core.craq.block_lease import grant_block_lease_ms
from fs3.model.principal import Right
from fs3.ports.chunk_store import ChunkStore, ReadGather, ReadResult
from fs3.ports.rpc import Call
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage import read_reply_to_pb, read_request_from_pb

log = logging.getLogger("fs3.storage")

cold_read_bytes_max = 64 * MIB
"""Bytes those reads may hold in memory until they are sent; further ones wait."""

_FIRST_PAGE_BYTE = 0x80
"""Chunk ids of KVCache pages begin with this or more (`fs3.base.ids.is_page`, which is called once too often here)."""

cold_reads_max = 4096
"""Reads that wait for the disks of one storage process."""


class ColdReads:
    """The reads of one node that wait for its disks, and how much memory their answers take.

    What is read cold may be in memory until it is sent. Beyond `cold_read_bytes_max` further requests wait in order; beyond
    `cold_reads_max` reads are refused.
    """

    def __init__(self) -> None:
        self._waiting: deque[_ReadJob] = deque()
        self.tasks = TaskSet()
        """Reads under way."""
        self.count = 0
        """Reads that wait or are being read."""
        self.bytes = 0
        """Asked of the disks, and not sent yet."""

    @property
    def waiting_count(self) -> int:
        """Requests whose turn has not come."""
        return len(self._waiting)

    def put(self, job: _ReadJob) -> None:
        """Read what is cold of a request, in turn. Its bytes count until it is sent."""
        self._waiting.append(job)
        self._next()

    def on_sent(self, job: _ReadJob) -> None:
        """What was read for a request is not in memory any more."""
        self.bytes -= job.bytes
        self._next()

    def recheck(self) -> None:
        """Chains have changed: a client that waits for a target that may not serve it any more hears of it now."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            if job.drop_refused():
                job.finish()
            else:
                self._waiting.append(job)
        self._next()

    async def stop(self) -> None:
        """Wait for what is being read; refuse what waits."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.refuse()
        await self.tasks.join()

    def _next(self) -> None:
        # A request is let in whole: half of one would hold memory and wait for the memory of the other half.
        while self._waiting and (not self.bytes or self.bytes + self._waiting[0].bytes <= cold_read_bytes_max):
            job = self._waiting.popleft()
            self.bytes += job.bytes
            job.begin()


class _ReadJob:
    """One Read call some of whose IOs are cold."""

    __slots__ = (
        "_arrived",
        "_batch",
        "_begun",
        "_begun_at",
        "_call",
        "_cold",
        "_gates",
        "_handler",
        "_ios",
        "_left",
        "_page",
        "bytes",
    )

    def __init__(self, handler: ReadHandler, call: Call, batch: ReadGather, arrived: int, page: bytes) -> None:
        """`page`: see `ReadHandler.answer`."""
        self._handler = handler
        self._call = call
        self._batch = batch
        self._arrived = arrived
        self._page = page
        self._cold = handler.cold
        self._gates: list[tuple[TargetShell, int, list[int]]] = []
        """(target, chain version, its cold IOs)"""
        self._ios: dict[int, tuple[ChunkStore, ChunkId]] = {}
        self._left = 0
        self._begun = False
        self._begun_at = 0
        """When its turn came, of one that is traced."""
        self.bytes = 0

    def add(self, shell: TargetShell, chain_version: int, chunks: Sequence[bytes], indices: Iterable[int]) -> None:
        """These IOs are cold; those for which there is no room are refused."""
        mine: list[int] = []
        for index in indices:
            if self._cold.count >= cold_reads_max:
                self._batch.refuse(index, Code.BUSY)
                continue
            self._cold.count += 1
            self._left += 1
            self.bytes += self._batch.wanted[index]
            self._ios[index] = (shell.store, ChunkId(chunks[index]))
            mine.append(index)
        self._gates.append((shell, chain_version, mine))

    def begin(self) -> None:
        """Its turn has come."""
        self._begun = True
        if self._call.span is not None:
            self._begun_at = self._handler.now()
            self._call.span.part("wait for the disk", self._arrived, self._begun_at)
        for index, (store, chunk) in self._ios.items():
            self._cold.tasks.start(self._read(store, chunk, index))
        if not self._ios:
            self.finish()

    def drop_refused(self) -> bool:
        """While it waits: refuse what may not be served any more. True when that is all of it."""
        for index, code in self._find_refused():
            if self._ios.pop(index, None) is not None:
                self._batch.refuse(index, code)
                self._cold.count -= 1
                self._left -= 1
                self.bytes -= self._batch.wanted[index]
        return not self._ios

    def _find_refused(self) -> list[tuple[int, Code]]:
        found: list[tuple[int, Code]] = []
        for shell, chain_version, indices in self._gates:
            code = self._handler.recheck_gate(shell, chain_version)
            if code is not Code.OK:
                found += [(index, code) for index in indices]
        return found

    def refuse(self) -> None:
        """The node stops before its turn has come."""
        self._cold.count -= self._left
        self._call.fail(Code.SHUTTING_DOWN, "the storage node stops")

    async def _read(self, store: ChunkStore, chunk: ChunkId, index: int) -> None:
        batch = self._batch
        try:
            result = await store.read_cold(chunk, batch.offsets[index], batch.wanted[index])
        except FS3Error as failure:
            result = ReadResult(failure.code, message=failure.strerror or "")
        except Exception as failure:
            log.exception("a cold read of chunk %s failed", chunk.hex(), extra={"chunk": chunk.hex()})
            result = ReadResult(Code.INTERNAL, message=str(failure))
        if result.code not in (Code.OK, Code.NOT_FOUND):
            about = {"chunk": chunk.hex(), "peer": self._call.peer}
            log.warning("chunk %s cannot be read: %s %s", chunk.hex(), result.code.name, result.message, extra=about)
        batch.put(index, store, result)
        self._cold.count -= 1
        self._left -= 1
        if not self._left:
            self.finish()

    def finish(self) -> None:
        """Everything is read or refused."""
        for index, code in self._find_refused():
            _revoke(self._batch, index, code)
        if self._call.span is not None and self._begun_at:
            self._call.span.part("disk", self._begun_at, self._handler.now())
        self._handler.answer(self._call, self._batch, self._arrived, self._on_sent, self._page)

    def _on_sent(self) -> None:
        self._batch.release()
        if self._begun:
            self._cold.on_sent(self)


class ReadHandler:
    """Answers Read calls for the targets of one node."""

    def __init__(self, targets: TargetMap, context: NodeContext) -> None:
        self.cold = ColdReads()
        self.ios = 0
        """Pieces that were asked for."""
        self.cold_ios = 0
        """Of those, pieces that had to come from a disk."""
        self._by_chain = targets.by_chain
        self._context = context
        self._clock = context.clock
        self.now = context.clock.now

    def read(self, call: Call) -> None:
        """The handler of Read."""
        request = call.request
        try:
            chunks, chains, versions, offsets, lengths = read_request_from_pb(request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        if request.repair_version:
            self._read_for_repair(call, chains, chunks, lengths)
            return
        batch = ReadGather(offsets, lengths)
        count = len(chains)
        self.ios += count
        job: _ReadJob | None = None
        page = chunks[0] if count and chunks[0][0] >= _FIRST_PAGE_BYTE and not request.without_use else b""
        arrived = now = self._clock.now()
        served: list[tuple[TargetShell, Sequence[int]]] = []
        for chain, version, which in _groups(chains, versions, count):
            shell = self._by_chain.get(chain)
            code, refuse_dirty = shell.read_gate(version, now) if shell else (Code.NO_SUCH_TARGET, False)
            if shell is None or code is not Code.OK:
                for index in which:
                    batch.refuse(index, code)
                continue
            served.append((shell, which))
            if shell.cache is not None and chunks[which[0]][0] >= _FIRST_PAGE_BYTE and not request.without_use:
                shell.cache.note_reads(chunks if len(which) == count else [chunks[index] for index in which])
            cold = shell.store.read_many(chunks, batch, which, refuse_dirty=refuse_dirty)  # type: ignore[arg-type]
            if cold:
                self.cold_ios += len(cold)
                if job is None:
                    job = _ReadJob(self, call, batch, arrived, page)
                job.add(shell, version, chunks, cold)
        now = self._clock.now()
        for shell, which in served:
            if now >= shell.lease_until():
                for index in which:
                    _revoke(batch, index, Code.LEASE)
        if job is not None:
            self.cold.put(job)
        else:
            self.answer(call, batch, arrived, batch.release if batch.pins else None, page)

    def _read_for_repair(self, call: Call, chains: Sequence[int], chunks: Sequence[bytes], lengths: Sequence[int]) -> None:
        """Bytes for a target of the same chain that knows what they must be. No gate: it compares them with its own checksums, so
        neither lease nor chain version nor whether they are committed here makes a difference."""
        if not call.auth.rights & Right.STORAGE:
            call.fail(Code.PERMISSION, "reads for a repair are for storage nodes")
            return
        shell = self._by_chain.get(chains[0]) if len(chains) == 1 else None
        if shell is None or shell.failure:
            call.fail(Code.NO_SUCH_TARGET, "a read for a repair names one chunk of a chain that has a target here")
        elif self.cold.count >= cold_reads_max:
            call.fail(Code.BUSY, f"{self.cold.count} reads wait for the disks already")
        else:
            self.cold.count += 1
            self.cold.tasks.start(self._answer_repair(call, shell.store, ChunkId(chunks[0]), lengths[0]))

    async def _answer_repair(self, call: Call, store: ChunkStore, chunk: ChunkId, length: int) -> None:
        wanted: int = call.request.repair_version
        arrived = self._clock.now()
        batch = ReadGather([0], [length])
        try:
            meta = store.get(chunk)
            if meta is None or wanted not in (meta.committed, meta.pending):
                batch.refuse(0, Code.NOT_FOUND)
            else:
                batch.put(0, store, await store.read_cold(chunk, 0, length, pending=wanted != meta.committed))
                if batch.codes[0] == Code.OK and batch.versions[0] != wanted:
                    _revoke(batch, 0, Code.NOT_FOUND)
        except FS3Error as failure:
            batch.refuse(0, failure.code)
        finally:
            self.cold.count -= 1
        self.answer(call, batch, arrived, batch.release)

    def recheck_gate(self, shell: TargetShell, chain_version: int) -> Code:
        """What is said now to a read of this target under this chain version."""
        return shell.read_gate(chain_version, self._clock.now())[0]

    def answer(self, call: Call, batch: ReadGather, arrived: int, sent: Callable[[], None] | None, page: bytes = b"") -> None:
        """Send the reply of a batch whose every IO is answered. `arrived`: when its request did, or later. `page`: when KVCache
        pages are read, one of them."""
        if page:
            self._context.cache_statistics.count_reads(page, batch.lengths)
        checksums: Iterable[int] = ()
        block_lease_ms: int | None = None
        if not call.request.without_checksums:
            checksums = flatten.from_iterable(batch.checksums)
        elif batch.pins:
            delay = min(store.block_reuse_delay_ns for store, _ in batch.pins)
            block_lease_ms = grant_block_lease_ms(arrived, self._clock.now(), delay)
        routing_version = self._context.routing_version
        reply = read_reply_to_pb(
            batch.codes, batch.lengths, batch.versions, batch.piece_bytes, checksums, routing_version, block_lease_ms
        )
        call.reply(reply, batch.join_parts(), sent)


def _revoke(batch: ReadGather, index: int, code: Code) -> None:
    """An IO that was answered may not be. What it has pinned stays so until the reply is sent, with the others'."""
    batch.refuse(index, code)
    batch.lengths[index] = batch.versions[index] = batch.piece_bytes[index] = 0
    batch.checksums[index] = ()
    batch.large_parts.pop(index, None)


def _groups(chains: Sequence[int], versions: Sequence[int], count: int) -> Iterable[tuple[int, int, Sequence[int]]]:
    """(chain, version, indices of its IOs): usually one."""
    if not count:
        return ()
    first, version = chains[0], versions[0]
    if chains.count(first) == count and versions.count(version) == count:
        return ((first, version, range(count)),)
    found: dict[tuple[int, int], list[int]] = {}
    for index, key in enumerate(zip(chains, versions, strict=True)):
        indices = found.get(key)
        if indices is None:
            found[key] = [index]
        else:
            indices.append(index)
    return [(key[0], key[1], indices) for key, indices in found.items()]
