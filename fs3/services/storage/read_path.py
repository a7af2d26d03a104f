"""Serving reads: everything warm at once on the loop, the rest from the disks, one reply when all of it is there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain as flatten

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

    What is read cold is in memory until it is sent. Beyond `cold_read_bytes_max` further reads wait in order; beyond
    `cold_reads_max` they are refused.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Cold] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.bytes = 0
        """Asked of the disks, being read, or read and not sent yet."""

    @property
    def count(self) -> int:
        """Reads that are being read or wait for their turn."""
        return len(self._waiting) + len(self._tasks)

    def put(self, store: ChunkStore, chunk: ChunkId, offset: int, length: int, done: Callable[[ReadResult], None]) -> bool:
        """Read a range from the disk, in turn; False when too many wait already. Its bytes count until `sent`."""
        if self.count >= cold_reads_max:
            return False
        cold = _Cold(store, chunk, offset, length, done)
        if self._waiting or (self.bytes and self.bytes + length > cold_read_bytes_max):
            self._waiting.append(cold)
        else:
            self._start(cold)
        return True

    def sent(self, count: int) -> None:
        """So many bytes that were read here are not in memory any more."""
        self.bytes -= count
        while self._waiting and (not self.bytes or self.bytes + self._waiting[0].length <= cold_read_bytes_max):
            self._start(self._waiting.popleft())

    async def stop(self) -> None:
        """Wait for what is being read; forget what waits."""
        self._waiting.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, cold: _Cold) -> None:
        self.bytes += cold.length
        task = asyncio.get_running_loop().create_task(cold.read())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Cold:
    """One range of one chunk, to be read from the disk."""

    __slots__ = ("_chunk", "_done", "_offset", "_store", "length")

    def __init__(self, store: ChunkStore, chunk: ChunkId, offset: int, length: int, done: Callable[[ReadResult], None]) -> None:
        self._store = store
        self._chunk = chunk
        self._offset = offset
        self.length = length
        self._done = done

    async def read(self) -> None:
        try:
            result = await self._store.read_cold(self._chunk, self._offset, self.length)
        except FS3Error as failure:
            result = ReadResult(failure.code, message=failure.strerror or "")
        except Exception as failure:
            log.exception("a cold read of chunk %s failed", self._chunk.hex())
            result = ReadResult(Code.INTERNAL, message=str(failure))
        self._done(result)


class _Job:
    """One Read call some of whose IOs are cold."""

    __slots__ = ("_batch", "_call", "_cold", "_cold_bytes", "_left", "_path", "_with_checksums")

    def __init__(self, path: ReadPath, call: Call, batch: ReadBatch, with_checksums: bool) -> None:
        self._path = path
        self._call = call
        self._batch = batch
        self._with_checksums = with_checksums
        self._cold = path.cold
        self._cold_bytes = 0
        self._left = 1
        """Cold IOs without answer, and one for the caller of `read`."""

    def read(self, shell: TargetShell, chunks: Sequence[bytes], indices: Iterable[int]) -> None:
        batch = self._batch
        store = shell.store
        for index in indices:
            wanted = batch.wanted[index]

            def done(result: ReadResult, index: int = index) -> None:
                batch.put(index, store, result)
                self.one_less()

            if self._cold.put(store, ChunkId(chunks[index]), batch.offsets[index], wanted, done):
                self._left += 1
                self._cold_bytes += wanted
            else:
                batch.refuse(index, Code.BUSY)

    def one_less(self) -> None:
        self._left -= 1
        if not self._left:
            self._path.answer(self._call, self._batch, self._with_checksums, self._sent)

    def _sent(self) -> None:
        self._batch.release()
        self._cold.sent(self._cold_bytes)


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
                job.read(shell, chunks, cold)
        if job is not None:
            job.one_less()
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
