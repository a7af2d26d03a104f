"""Writing a file from a thread that is not the event loop's: blocks are stored while the caller fills the next one."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fs3.api.io.blocking import start_on
from fs3.api.io.buffers import buffer_pool, source_of
from fs3.base.limits import client_write_call_bytes
from fs3.base.units import MIB

file_behind_bytes_max = 32 * MIB
"""Accepted from a writer and not yet acknowledged by storage, per open file; a write then waits."""

BLOCK_BYTES = 4 * MIB

Store = Callable[[memoryview, int], Coroutine[Any, Any, int]]
"""(bytes, offset): makes them durable."""


class WriteBehindWriter:
    """Appends to one open file, block by block, at most `file_behind_bytes_max` bytes ahead of storage.

    The first failure of storage is raised by the next call, and by every one after it. For one thread at a time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, path: str, offset: int, chunk: int, block: int = 0) -> None:
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
        self._in_flight: deque[tuple[concurrent.futures.Future[int], int, bytearray | None]] = deque()
        self._in_flight_bytes = 0
        self._failure: BaseException | None = None

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
            buffer = self._buffer
            if buffer is None:
                buffer = self._buffer = buffer_pool.take(self.block)
            buffer[self._filled : self._filled + count] = view[at : at + count]
            self._filled += count
            at += count
            if count == room:
                self._send_buffer(wait=wait)
        return length

    def flush(self) -> None:
        """Send what was gathered and wait until everything is durable."""
        self._raise_failure()
        self._send_buffer()
        while self._in_flight:
            self._wait_oldest()

    async def finish(self) -> None:
        """As `flush`, on the event loop. Nothing is written afterwards."""
        self._raise_failure()
        self._send_buffer(wait=False)
        while self._in_flight:
            with suppress(Exception):
                await asyncio.wrap_future(self._in_flight[0][0])
            self._wait_oldest()

    def abandon(self) -> None:
        """Forget what was gathered and wait until nothing is under way."""
        self._filled = 0
        for future, _, _ in self._in_flight:
            future.cancel()
        while self._in_flight:
            try:
                self._wait_oldest()
            except (OSError, concurrent.futures.CancelledError):
                continue
        self._buffer = None

    def _room(self) -> int:
        """Bytes from the beginning of the buffer to where its block ends."""
        return self.block - self._offset % self.block

    def _send_buffer(self, *, wait: bool = True) -> None:
        if self._filled:
            assert self._buffer is not None
            buffer, self._buffer = self._buffer, None
            self._send(memoryview(buffer)[: self._filled], buffer, wait=wait)
            self._filled = 0

    def _send(self, data: memoryview, buffer: bytearray | None, *, wait: bool) -> None:
        while wait and self._in_flight and self._in_flight_bytes + len(data) > file_behind_bytes_max:
            self._wait_oldest()
        self._in_flight.append((start_on(self._loop, self._store(data, self._offset)), len(data), buffer))
        self._in_flight_bytes += len(data)
        self._offset += len(data)
        while self._in_flight and self._in_flight[0][0].done():
            self._wait_oldest()

    def _wait_oldest(self) -> None:
        """The oldest of those under way has ended, or is waited for."""
        future, length, buffer = self._in_flight[0]
        try:
            future.result()
        except (Exception, concurrent.futures.CancelledError) as failure:
            self._failure = self._failure or failure
        # Only now: an interrupted wait (Ctrl-C) must find it here again.
        self._in_flight.popleft()
        self._in_flight_bytes -= length
        if buffer is not None and self._failure is None:
            buffer_pool.give(buffer)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def block_bytes_for(chunk: int) -> int:
    """How much to gather for files of a chunk size: whole chunks, about BLOCK_BYTES; parts of chunks that are much larger."""
    if chunk > client_write_call_bytes:
        return BLOCK_BYTES
    return max(chunk, BLOCK_BYTES // chunk * chunk)
