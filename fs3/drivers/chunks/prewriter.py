"""Bytes written to free blocks before the update that brings them is staged: staging it is then no more than a row.

What waits is written together and synced once, on a thread of its own: barriers do not wait for it. A block that is prewritten is
taken, and no row refers to it: after a crash it is free. A record of the log that refers to it is
written when its sync is over, and says that the block is new from its beginning, whatever the log had of it before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from fs3.base.checksum import checksums
from fs3.base.units import MIB
from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.files import BlockFiles, write_all
from fs3.drivers.chunks.planner import Planner
from fs3.drivers.chunks.sizes import block_bytes, split_place
from fs3.runtime.durable_files import NO_ROOM
from fs3.runtime.worker_threads import WorkerThreads

log = logging.getLogger("fs3.chunks")

prewritten_bytes_max = 64 * MIB
"""Bytes in blocks of one store that were written before the updates that bring them are staged."""


class PrewrittenBlock:
    """`fs3.ports.chunk_store.Prewritten` in a block of a file."""

    __slots__ = ("checksums", "data", "length", "place")

    def __init__(self, place: int, data: memoryview) -> None:
        self.place = place
        self.length = len(data)
        self.data: memoryview | None = data
        """Until it is written, or cannot be."""
        self.checksums: tuple[int, ...] = ()
        """Set when it is written."""


class Prewriter:
    """Writes blocks ahead. Belongs to the loop, but for the blocks it has handed to its thread."""

    def __init__(self, files: BlockFiles, allocator: BlockAllocator, planner: Planner) -> None:
        self._files = files
        self._allocator = allocator
        self._planner = planner
        self._thread: Executor | None = None
        """There once it is needed."""
        self._waiting: list[PrewrittenBlock] = []
        self._written: asyncio.Future[None] | None = None
        """Resolved when what waits now is written; None: nothing waits."""
        self._writing: asyncio.Future[None] | None = None
        """The same of what the thread has."""
        self._unstaged: set[PrewrittenBlock] = set()
        """Those that are written or about to be, and not staged."""
        self.bytes = 0
        """In their blocks."""
        self.failure = ""
        """A sync failed: why."""
        self._closing = False

    async def prewrite(self, data: memoryview, reserve: int) -> PrewrittenBlock | None:
        """`ChunkStore.prewrite`."""
        if self._closing or self.failure or self.bytes + len(data) > prewritten_bytes_max:
            return None
        try:
            place = self._planner.plan_prewrite(len(data), reserve)
        except OSError:
            return None
        if place < 0:
            return None
        block = PrewrittenBlock(place, data)
        self._unstaged.add(block)
        self.bytes += block_bytes(place)
        self._waiting.append(block)
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        if self._writing is None:
            self._begin()
        try:
            await asyncio.shield(written)
        except asyncio.CancelledError:
            written.add_done_callback(lambda _: self.discard(block))
            raise
        if not block.checksums:
            self.discard(block)
            return None
        return block

    def take(self, block: PrewrittenBlock) -> bool:
        """An update is staged with it: the block is the caller's. False: it is not here any more."""
        if block not in self._unstaged:
            return False
        self._unstaged.remove(block)
        self.bytes -= block_bytes(block.place)
        return True

    def discard(self, block: PrewrittenBlock) -> None:
        """`ChunkStore.discard`."""
        if self.take(block):
            self._allocator.free(block.place)

    async def close(self) -> None:
        """Finish what is being written; nothing more is."""
        self._closing = True
        while self._writing is not None:
            await asyncio.shield(self._writing)
        if self._thread is not None:
            self._thread.shutdown()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        blocks, self._waiting = self._waiting, []
        self._writing, self._written = self._written, None
        if self._thread is None:
            self._thread = WorkerThreads(1, f"fs3-prewrite-{self._files.directory.name}")
        loop.run_in_executor(self._thread, lambda: self._write(blocks)).add_done_callback(self._on_written)

    def _write(self, blocks: Sequence[PrewrittenBlock]) -> str:
        """On the thread: why a sync failed, "" it has not. A block that could not be written has no checksums."""
        found: dict[PrewrittenBlock, tuple[int, ...]] = {}
        for block in blocks:
            data, block.data = block.data, None
            assert data is not None
            class_number, _ = split_place(block.place)
            fd, at = self._files.locate_prewritten(block.place)
            try:
                write_all(fd, data, at)
            except OSError:
                continue  # no room, or the disk: the `stage` that comes without it says so
            found[block] = tuple(checksums(data))
        for class_number in sorted({split_place(block.place)[0] for block in found}):
            try:
                self._files.sync_prewritten(class_number)
            except OSError as why:
                if why.errno not in NO_ROOM:
                    # The system marks pages it could not write as clean: a later sync would succeed and mean nothing.
                    return f"data could not be synced: {why.strerror}"
                found = {block: sums for block, sums in found.items() if split_place(block.place)[0] != class_number}
        for block, sums in found.items():
            block.checksums = sums
        return ""

    def _on_written(self, future: asyncio.Future[str]) -> None:
        writing, self._writing = self._writing, None
        assert writing is not None
        why = future.exception()
        if why is not None:
            log.critical("%s: writing ahead failed by a mistake in this program", self._files.directory, exc_info=why)
            self.failure = f"internal error: {why!r}"
        elif future.result():
            self.failure = future.result()
        writing.set_result(None)
        if self._waiting:
            self._begin()
