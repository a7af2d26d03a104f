"""Serving reads: everything warm at once on the loop, the rest from the disks, one reply when all of it is there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import chain as flatten
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.limits import cold_read_bytes_max, cold_reads_max
from fs3.base.status import Code
from fs3.ports.chunk_store import ChunkStore, ReadBatch, ReadResult
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.services.storage.target import TargetShell
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import parse_read

log = logging.getLogger("fs3.storage")


class ColdReads:
    """The reads of one process that wait for its disks, and how much memory their answers take.

    What is read cold may be in memory until it is sent. Beyond `cold_read_bytes_max` further requests wait in order; beyond
    `cold_reads_max` reads are refused.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Job] = deque()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.count = 0
        """Reads that wait or are being read."""
        self.bytes = 0
        """Asked of the disks, and not sent yet."""

    def put(self, job: _Job) -> None:
        """Read what is cold of a request, in turn. Its bytes count until it is sent."""
        self._waiting.append(job)
        self._next()

    def sent(self, job: _Job) -> None:
        """What was read for a request is not in memory any more."""
        self.bytes -= job.bytes
        self._next()

    def run(self, reading: Coroutine[Any, Any, None]) -> None:
        """Start one read of a request whose turn it is."""
        task = asyncio.get_running_loop().create_task(reading)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def stop(self) -> None:
        """Wait for what is being read; refuse what waits."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next(self) -> None:
        # A request is let in whole: half of one would hold memory and wait for the memory of the other half.
        while self._waiting and (not self.bytes or self.bytes + self._waiting[0].bytes <= cold_read_bytes_max):
            job = self._waiting.popleft()
            self.bytes += job.bytes
            job.begin()


class _Job:
    """One Read call some of whose IOs are cold."""

    __slots__ = ("_batch", "_call", "_cold", "_ios", "_left", "_path", "_with_checksums", "bytes")

    def __init__(self, path: ReadPath, call: Call, batch: ReadBatch, with_checksums: bool) -> None:
        self._path = path
        self._call = call
        self._batch = batch
        self._with_checksums = with_checksums
        self._cold = path.cold
        self._ios: list[tuple[ChunkStore, ChunkId, int]] = []
        self._left = 0
        self.bytes = 0

    def add(self, store: ChunkStore, chunks: Sequence[bytes], indices: Iterable[int]) -> None:
        """These IOs are cold; those for which there is no room are refused."""
        for index in indices:
            if self._cold.count >= cold_reads_max:
                self._batch.refuse(index, Code.BUSY)
                continue
            self._cold.count += 1
            self._left += 1
            self.bytes += self._batch.wanted[index]
            self._ios.append((store, ChunkId(chunks[index]), index))

    def begin(self) -> None:
        """Its turn has come."""
        for io in self._ios:
            self._cold.run(self._read(*io))
        if not self._ios:
            self._finish()

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
            log.exception("a cold read of chunk %s failed", chunk.hex())
            result = ReadResult(Code.INTERNAL, message=str(failure))
        if result.code not in (Code.OK, Code.NOT_FOUND):
            log.warning("chunk %s cannot be read: %s %s", chunk.hex(), result.code.name, result.message)
        batch.put(index, store, result)
        self._cold.count -= 1
        self._left -= 1
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        self._path.answer(self._call, self._batch, self._with_checksums, self._sent)

    def _sent(self) -> None:
        self._batch.release()
        self._cold.sent(self)


class ReadPath:
    """Answers Read calls for the targets of one node."""

    def __init__(
        self,
        shell_of: Callable[[int], TargetShell | None],
        clock: Clock,
        lease_until: Callable[[], int],
        routing_version: Callable[[], int],
    ) -> None:
        """`shell_of` gives the target of a chain id, None when this node has none; `lease_until` is monotonic nanoseconds."""
        self.cold = ColdReads()
        self._shell_of = shell_of
        self._clock = clock
        self._lease_until = lease_until
        self._routing_version = routing_version

    def read(self, call: Call) -> None:
        """The handler of Read."""
        request = call.request
        try:
            chunks, chains, versions, offsets, lengths = parse_read(request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        batch = ReadBatch(offsets, lengths)
        with_checksums = not request.without_checksums
        count = len(chains)
        job: _Job | None = None
        now = self._clock.now()
        lease_until = self._lease_until()
        for chain, version, which in _groups(chains, versions, count):
            shell = self._shell_of(chain)
            code, refuse_dirty = shell.read_gate(version, now, lease_until) if shell else (Code.NO_SUCH_TARGET, False)
            if shell is None or code is not Code.OK:
                for index in which:
                    batch.refuse(index, code)
                continue
            cold = shell.store.read_many(chunks, batch, which, refuse_dirty=refuse_dirty)  # type: ignore[arg-type]
            if cold:
                if job is None:
                    job = _Job(self, call, batch, with_checksums)
                job.add(shell.store, chunks, cold)
        if job is not None:
            self.cold.put(job)
        else:
            self.answer(call, batch, with_checksums, batch.release if batch.pins else None)

    def answer(self, call: Call, batch: ReadBatch, with_checksums: bool, sent: Callable[[], None] | None) -> None:
        """Send the reply of a batch whose every IO is answered."""
        reply = pb.ReadReply(
            codes=batch.codes,
            lengths=batch.lengths,
            versions=batch.versions,
            checksums=flatten.from_iterable(batch.checksums) if with_checksums else (),
            piece_bytes=batch.piece_bytes,
            routing_version=self._routing_version(),
        )
        call.reply(reply, batch.parts(), sent)


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
