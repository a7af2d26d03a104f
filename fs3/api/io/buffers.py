"""Memory that bytes arrive in, and the memory of what callers hand in.

Fresh memory is dear: the system zeroes and maps every page of it at first touch, which takes longer than receiving into it. So
blocks are used again, and bytes that are handed out are received into the very object.
"""

from __future__ import annotations

import io
from typing import Any

from fs3.api.byte_view import byte_view
from fs3.base.errors import InvalidType, error
from fs3.base.status import Code
from fs3.base.units import KIB, MIB

spare_buffer_bytes_max = 64 * MIB
"""Blocks of memory a client process keeps for the next transfer."""

spare_block_bytes_min = 256 * KIB
"""Smaller ones cost no more than to look for them."""

_COPY_BYTES = 64 * KIB


class ReadBuffer:
    """Room for so many bytes, of which `take` makes a `bytes`; large ones without a copy."""

    __slots__ = ("_buffer", "_stream", "view")

    def __init__(self, length: int) -> None:
        self._stream: io.BytesIO | None = None
        self._buffer: bytearray | None = None
        if length <= _COPY_BYTES:
            self._buffer = bytearray(length)
            self.view = memoryview(self._buffer)
            """Where the bytes go."""
        else:
            # CPython's BytesIO hands out its inner buffer as the value, unless a view of it is left.
            self._stream = io.BytesIO()
            self._stream.seek(length - 1)
            self._stream.write(b"\0")
            self.view = self._stream.getbuffer()

    def take(self, count: int) -> bytes:
        """The first `count` bytes. The view is gone afterwards."""
        if self._stream is None or count < len(self.view):
            # Parts of the view may be held still, and a stream with parts that are held cannot be made shorter.
            return bytes(self.view[:count])
        self.view.release()
        return self._stream.getvalue()


class BufferPool:
    """Blocks of memory to use again, of any sizes, `limit` bytes of them at most; those below `smallest` are made anew each time.
    May be used from any thread."""

    def __init__(self, limit: int, smallest: int = 1) -> None:
        self._limit = limit
        self._smallest = smallest
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A block of exactly this size, with anything in it."""
        spare = self._spare
        for _ in range(len(spare) if size >= self._smallest else 0):
            try:
                block = spare.pop()
            except IndexError:  # another thread was faster
                break
            if len(block) == size:
                return block
            spare.insert(0, block)
        return bytearray(size)

    def give(self, block: bytearray) -> None:
        """A block that the caller does not look at any more."""
        spare = self._spare
        if len(block) < self._smallest:
            return
        while spare and sum(map(len, spare)) + len(block) > self._limit:
            spare.pop(0)
        if len(block) <= self._limit:
            spare.append(block)


buffer_pool = BufferPool(spare_buffer_bytes_max, spare_block_bytes_min)
"""The one of this process."""


def source_of(data: Any, path: str | None, argument: str = "data") -> memoryview:
    """The bytes to write, as one row and without a copy; `argument` and `path` are for errors.

    What has bytes is what `byte_view` takes. InvalidType for other objects, text among them, and for arrays of Python objects,
    whose memory is addresses; InvalidArgument when the bytes do not follow each other in C order.
    """
    try:
        return byte_view(data)
    except TypeError as wrong:
        raise InvalidType(f"{argument} {wrong}", path) from wrong
    except ValueError as wrong:
        raise error(Code.INVALID, f"{argument} {wrong}", path) from wrong


def target_of(buffer: Any, path: str | None, argument: str = "buffer") -> memoryview:
    """The memory to read into, likewise. Errors as `source_of`, and InvalidType when it cannot be written to."""
    if type(buffer) is memoryview and not buffer.readonly and buffer.format == "B" and buffer.ndim == 1 and buffer.contiguous:
        return buffer  # a batch of small reads has hundreds of them
    view = source_of(buffer, path, argument)
    if view.readonly:
        raise InvalidType(f"{argument} is read-only ({type(buffer).__name__})", path)
    return view
