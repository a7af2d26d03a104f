"""Writing a file from a thread that is not the event loop's: blocks are stored while the caller fills the next one."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fs3.api.io.blocking import start_on
from fs3.api.io.buffer_budget import BufferBudget, BufferShare, buffer_budget, buffer_bytes_first, file_buffer_bytes_min
from fs3.api.io.buffers import buffer_pool, source_of
from fs3.base.limits import client_write_call_bytes
from fs3.base.units import MIB

file_behind_bytes_max = 32 * MIB
"""Accepted from a writer and not yet acknowledged by storage, per open file; a write then waits."""

BLOCK_BYTES = 4 * MIB

Store = Callable[[memoryview, int], Coroutine[Any, Any, int]]
"""(bytes, offset): makes them durable."""


class _InFlight:
    """Bytes that storage has not acknowledged yet; their memory goes back as soon as it has, whatever the writer does."""

    def __init__(self, stored: concurrent.futures.Future[int], length: int, buffer: bytearray | None, share: BufferShare) -> None:
        self.stored = stored
        self.length = length
        self._buffer = buffer
        self._share = share
        self._taken = length if buffer is None else len(buffer)
        stored.add_done_callback(self._on_stored)

    def _on_stored(self, stored: concurrent.futures.Future[int]) -> None:
        buffer, self._buffer = self._buffer, None
        self._share.give(self._taken)
        if buffer is not None and not stored.cancelled() and stored.exception() is None:
            buffer_pool.give(buffer)


class WriteBehindWriter:
    """Writes one open file, block by block, at most `file_behind_bytes_max` bytes ahead of storage.

    Its memory grows with what is written, out of a budget that all files of the process share. When that is spent, it sends what
    it has in smaller blocks, and is less far ahead.

    The first failure of storage is raised by the next call, and by every one after it. For one thread at a time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        path: str,
        offset: int,
        chunk: int,
        block: int = 0,
        *,
        budget: BufferBudget = buffer_budget,
    ) -> None:
        """`offset`: where the first byte goes. `chunk`: the file's chunk size; blocks end at multiples of it where they can.
        `block`: bytes to gather before sending; 0: as many as suit the chunk size."""
        self._loop = loop
        self._store = store
        self._path = path
        self.block = block or block_bytes_for(chunk)
        """Bytes gathered before they are sent."""
        self._offset = offset
        """Of the first byte in the buffer."""
        self._buffer: bytearray | None = None
        self._filled = 0
        self._share = budget.open_share()
        self._in_flight: deque[_InFlight] = deque()
        self._in_flight_bytes = 0
        self._failure: BaseException | None = None
        self._has_sent = False
        self._has_sent_block = False
        """The file is not small: what follows is gathered in whole blocks at once."""

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self._offset + self._filled

    def write(self, data: Any, *, wait: bool = True) -> int:
        """Take bytes; all of them. They may change as soon as this returns. Without `wait`, however many are on their way."""
        view = source_of(data, self._path)
        self._raise_failure()
        length = len(view)
        at = 0
        # The bytes of a `bytes` object cannot change, so whole blocks of it are sent from where they are.
        keeps = isinstance(data, bytes)
        while at < length:
            room = self._room() - self._filled
            if keeps and not self._filled and length - at >= room:
                whole = (min(length - at, max(room, client_write_call_bytes)) - room) // self.block * self.block
                self._send(view[at : at + room + whole], None, wait=wait)
                at += room + whole
                continue
            count = min(room, length - at)
            count = min(count, self._make_room(count, wait=wait))
            if not count:
                self._send_buffer(wait=wait)
                continue
            buffer = self._buffer
            assert buffer is not None
            buffer[self._filled : self._filled + count] = view[at : at + count]
            self._filled += count
            at += count
            if count == room:
                self._send_buffer(wait=wait)
        return length

    def _make_room(self, wanted: int, *, wait: bool) -> int:
        """Bytes that the buffer takes now: as many as are wanted, or fewer when the budget does not give them; 0: it has to be
        sent first."""
        buffer = self._buffer
        have = 0 if buffer is None else len(buffer)
        need = self._filled + wanted
        if need <= have:
            return wanted
        size = self.block if self._has_sent_block else buffer_bytes_first
        while size < need:
            size *= 2
        size = min(size, self.block)
        grown = self._take(size)
        while grown is None and size // 2 >= max(2 * have, file_buffer_bytes_min):
            size //= 2
            grown = self._take(size)
        if grown is None and have < file_buffer_bytes_min:
            # What every file has; what is on its way comes first, so that it has it once.
            while wait and self._in_flight:
                self._wait_oldest()
            size = min(size, file_buffer_bytes_min)
            self._share.take_anyway(size)
            grown = bytearray(size)
        if grown is None:
            return have - self._filled
        if buffer is not None:
            grown[: self._filled] = memoryview(buffer)[: self._filled]
            self._share.give(have)
            buffer_pool.give(buffer)
        self._buffer = grown
        return min(wanted, size - self._filled)

    def _take(self, size: int) -> bytearray | None:
        return buffer_pool.take(size) if self._share.try_take(size) else None

    def take_unsent(self, limit: int) -> bytes | None:
        """All bytes that were written, when they are at most `limit` and none of them was sent; they are not sent any more
        then."""
        if self._has_sent or self._filled > limit:
            return None
        self._raise_failure()
        data = b"" if self._buffer is None else bytes(memoryview(self._buffer)[: self._filled])
        self._filled = 0
        self._drop_buffer()
        return data

    def flush(self) -> None:
        """Send what was gathered and wait until everything is durable."""
        self._raise_failure()
        self._send_buffer()
        while self._in_flight:
            self._wait_oldest()

    def move(self, offset: int) -> None:
        """What is written next goes there. Waits until what was written before is durable, since the new bytes may lie on it."""
        if offset != self.position:
            self.flush()
            self._offset = offset

    async def finish(self) -> None:
        """As `flush`, on the event loop. Nothing is written afterwards."""
        self._raise_failure()
        self._send_buffer(wait=False)
        while self._in_flight:
            with suppress(Exception):
                await asyncio.wrap_future(self._in_flight[0].stored)
            self._wait_oldest()

    def abandon(self) -> None:
        """Forget what was gathered and wait until nothing is under way."""
        self._filled = 0
        for sent in self._in_flight:
            sent.stored.cancel()
        while self._in_flight:
            try:
                self._wait_oldest()
            except (OSError, concurrent.futures.CancelledError):
                continue
        self._drop_buffer()

    def _room(self) -> int:
        """Bytes from the beginning of the buffer to where its block ends."""
        return self.block - self._offset % self.block

    def _send_buffer(self, *, wait: bool = True) -> None:
        if self._filled:
            assert self._buffer is not None
            buffer, self._buffer = self._buffer, None
            self._send(memoryview(buffer)[: self._filled], buffer, wait=wait)
            self._filled = 0

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self._share.give(len(self._buffer))
            self._buffer = None

    def _send(self, data: memoryview, buffer: bytearray | None, *, wait: bool) -> None:
        while wait and self._in_flight and self._in_flight_bytes + len(data) > file_behind_bytes_max:
            self._wait_oldest()
        if buffer is None:
            # The caller's own bytes are kept for as long. One piece may always be on its way.
            while not self._share.try_take(len(data)):
                if not (wait and self._in_flight):
                    self._share.take_anyway(len(data))
                    break
                self._wait_oldest()
        self._has_sent = True
        self._in_flight.append(_InFlight(start_on(self._loop, self._store(data, self._offset)), len(data), buffer, self._share))
        self._in_flight_bytes += len(data)
        self._offset += len(data)
        self._has_sent_block = self._has_sent_block or len(data) >= self.block
        while self._in_flight and self._in_flight[0].stored.done():
            self._wait_oldest()

    def _wait_oldest(self) -> None:
        """The oldest of those under way has ended, or is waited for."""
        oldest = self._in_flight[0]
        try:
            oldest.stored.result()
        except (Exception, concurrent.futures.CancelledError) as failure:
            self._failure = self._failure or failure
        # Only now: an interrupted wait (Ctrl-C) must find it here again.
        self._in_flight.popleft()
        self._in_flight_bytes -= oldest.length
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def block_bytes_for(chunk: int) -> int:
    """How much to gather for files of a chunk size: whole chunks, about BLOCK_BYTES; parts of chunks that are much larger."""
    if chunk > client_write_call_bytes:
        return BLOCK_BYTES
    return max(chunk, BLOCK_BYTES // chunk * chunk)
