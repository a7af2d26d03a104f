"""What was written to a file and is not in its chunks yet: gathered into blocks, which are stored while more is written.

Blocks that lie on each other are stored in the order they were written. One that cannot be stored keeps its bytes: the next
write, sync or close tries again, and is told when it fails again. Nothing that was accepted is given up while a handle is open.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable

from fs3.api.fuse.kept_bytes import KeptBlock
from fs3.api.io.buffer_budget import BufferBudget, buffer_budget, file_buffer_bytes_min
from fs3.api.io.write_behind import block_bytes_for, file_behind_bytes_max

Store = Callable[[memoryview, int], Awaitable[int]]
"""(bytes, offset): makes them durable."""

Keep = Callable[[int], KeptBlock | None]
"""(offset): where bytes from there on outlive this process; None: nowhere."""


spare_blocks_max = 4
"""Memory of blocks that were stored, kept for the next ones: the kernel clears that of a new block page by page, which costs more
than to copy into it."""


class _SpareBlocks:
    """Of one process."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """Memory for a whole block, with anything in it."""
        for index, one in enumerate(self._buffers):
            if len(one) == size:
                return self._buffers.pop(index)
        return bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """It is free again."""
        self._buffers.append(buffer)
        if len(self._buffers) > spare_blocks_max:
            del self._buffers[0]


_spare_blocks = _SpareBlocks()


class _Block:
    """Bytes [start, start + size)."""

    __slots__ = ("buffer", "kept", "share", "size", "start", "task")

    def __init__(self, start: int, kept: KeptBlock | None) -> None:
        self.start = start
        self.kept = kept
        self.size = 0
        self.buffer = bytearray()
        """Its bytes, and room for more."""
        self.share = 0
        """Bytes of the budget that it holds: as many as there is room for."""
        self.task: asyncio.Task[None] | None = None
        """Stores it; None: it is still gathered, or has failed and waits to be tried again."""

    @property
    def end(self) -> int:
        return self.start + self.size

    def make_room(self, share: int, *, is_whole: bool) -> None:
        """It holds so many bytes of the budget now. `is_whole`: it will not need more."""
        grown = _spare_blocks.take(share) if is_whole else bytearray(share)
        grown[: self.size] = memoryview(self.buffer)[: self.size]
        self.buffer, self.share = grown, share

    def overlaps(self, start: int, end: int) -> bool:
        return self.start < end and start < self.end

    def free(self) -> None:
        """It is stored, or given up."""
        if self.kept is not None:
            self.kept.free()


class DirtyBlocks:
    """Of one open file. Belongs to one event loop; `write` and `drain` are called one at a time."""

    def __init__(
        self, store: Store, chunk: int, *, keep: Keep = lambda offset: None, budget: BufferBudget = buffer_budget
    ) -> None:
        """`chunk`: the file's chunk size; blocks end at multiples of about that."""
        self._store = store
        self._keep = keep
        self._block_bytes = block_bytes_for(chunk)
        self._share = budget.open_share()
        self._blocks: list[_Block] = []
        """In the order they were begun."""
        self._open: _Block | None = None
        """The one of them that is gathered."""
        self._failure: OSError | None = None

    def __bool__(self) -> bool:
        """There is something that is not stored."""
        return bool(self._blocks)

    @property
    def end(self) -> int:
        """Of the last byte that is not stored; 0: all are."""
        return max((block.end for block in self._blocks), default=0)

    def overlap(self, start: int, end: int) -> bool:
        """Bytes of the range are not stored."""
        return any(block.overlaps(start, end) for block in self._blocks)

    def try_write(self, data: memoryview, offset: int) -> bool:
        """Take bytes into the block that is gathered. False: `write` has to."""
        block = self._open
        if block is None or self._failure is not None or not block.start <= offset <= block.end:
            return False
        end = offset + len(data)
        if end > self._block_end(block.start) or not self._grow(block, end - block.start):
            return False
        at = offset - block.start
        block.buffer[at : at + len(data)] = data
        block.size = max(block.size, at + len(data))
        if block.kept is not None:
            block.kept.write(at, data)
        if end == self._block_end(block.start):
            self._send()
        return True

    async def write(self, data: memoryview, offset: int) -> None:
        """Take bytes, as soon as there is room for them. Raises what storing earlier ones failed with, and fails again with."""
        if self._failure is not None:
            await self.drain()
        at = 0
        while at < len(data):
            here = offset + at
            count = min(len(data) - at, self._block_end(here) - here)
            if not self.try_write(data[at : at + count], here):
                self._send()
                await self._make_room(count)
                self._open = _Block(here, self._keep(here))
                self._blocks.append(self._open)
                # Within what a file has in any case, or what was waited for.
                if not self._grow(self._open, count):
                    self._share.take_anyway(count)
                    self._open.make_room(count, is_whole=count == self._block_bytes)
                assert self.try_write(data[at : at + count], here)
            at += count

    async def settle(self, start: int, end: int) -> None:
        """Until the bytes of a range are stored. Raises why they are not."""
        if self._open is not None and self._open.overlaps(start, end):
            self._send()
        while tasks := [block.task for block in self._blocks if block.overlaps(start, end) and block.task is not None]:
            await asyncio.wait(tasks)
        if self.overlap(start, end):
            await self.drain()

    async def drain(self) -> None:
        """Until all is stored. Raises the first failure; what failed is kept."""
        is_again = self._failure is not None
        self._send()
        await self._wait(self._blocks)
        if is_again:
            self._failure = None
            for block in self._blocks:
                self._start(block)
            await self._wait(self._blocks)
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror) from self._failure

    def drop(self) -> int:
        """Forget what is not stored; how many bytes. Nothing of it is under way."""
        lost = sum(block.size for block in self._blocks)
        for block in self._blocks:
            self._share.give(block.share)
            block.free()
        self._blocks, self._open, self._failure = [], None, None
        return lost

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _block_end(self, offset: int) -> int:
        return offset - offset % self._block_bytes + self._block_bytes

    def _grow(self, block: _Block, size: int) -> bool:
        """Memory for so many bytes of a block, taken in large steps."""
        if size <= block.share:
            return True
        # What is written in large pieces fills its block.
        least = self._block_bytes if 4 * size >= self._block_bytes else max(size, 2 * block.share)
        wanted = min(self._block_bytes, least)
        if not self._share.try_take(wanted - block.share):
            return False
        block.make_room(wanted, is_whole=wanted == self._block_bytes)
        return True

    def _send(self) -> None:
        """Store what was gathered."""
        block, self._open = self._open, None
        if block is not None:
            self._start(block)

    def _start(self, block: _Block) -> None:
        earlier = self._blocks[: self._blocks.index(block)]
        before = [one for one in earlier if one.overlaps(block.start, block.end)]
        block.task = asyncio.get_running_loop().create_task(self._store_block(block, before))

    async def _store_block(self, block: _Block, before: list[_Block]) -> None:
        try:
            for one in before:
                if one.task is not None:
                    await asyncio.wait([one.task])
            if any(one in self._blocks for one in before):
                return  # it has failed, and this one lies on it: they are tried again in this order
            await self._store(memoryview(block.buffer)[: block.size], block.start)
            self._blocks.remove(block)
            self._share.give(block.share)
            block.free()
            if len(block.buffer) == self._block_bytes:
                _spare_blocks.give(block.buffer)
        except OSError as wrong:
            self._failure = self._failure or wrong
        except BaseException:
            self._failure = self._failure or OSError(errno.EIO, "bytes could not be stored")
            raise
        finally:
            block.task = None

    async def _make_room(self, count: int) -> None:
        """Waits while as much is under way as may be, or the memory of all files is spent."""
        while True:
            tasks = [block.task for block in self._blocks if block.task is not None]
            if not tasks:
                break
            held = self._share.held
            if held + count <= file_behind_bytes_max and (held < file_buffer_bytes_min or self._has_room(count)):
                break
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            await self.drain()

    def _has_room(self, count: int) -> bool:
        if not self._share.try_take(count):
            return False
        self._share.give(count)
        return True

    @staticmethod
    async def _wait(blocks: list[_Block]) -> None:
        while tasks := [block.task for block in blocks if block.task is not None]:
            await asyncio.wait(tasks)
