"""Files with coroutine methods, as `open_async` of the fsspec filesystem gives them."""

from __future__ import annotations

import io
from typing import Any, Self

from fsspec.asyn import AbstractAsyncStreamedFile

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.draft import CreateOptions, Draft
from fs3.api.fsspec.info import info_of
from fs3.api.io.buffers import source_of, target_of
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import MIB

BLOCK_BYTES = 16 * MIB
"""Gathered before it is sent, as several chunks at once."""


class FS3AsyncFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """An open file of one event loop. Reads go where they are told and may be concurrent; writes are in order.

    As with `FS3File`, what was written appears when it is closed, and not at all when an exception leaves the `async with` block.
    """

    def __init__(self, fs: FS3Base, path: str, mode: str, client: Client, file: File, draft: Draft | None, block: int) -> None:
        self.fs = fs
        self.path = path
        self.mode = mode
        self.blocksize = block
        self.loc = file.length if mode == "ab" else 0
        self.size = file.length
        self.forced = False
        self._client = client
        self._file = file
        self._draft = draft
        self._buffer = bytearray()
        self._stored = self.loc
        self.closed = False

    @classmethod
    async def open(cls, fs: FS3Base, path: str, mode: str, how: CreateOptions, block: int | None = None) -> Self:
        """Open `path`: rb, wb, xb or ab."""
        if mode not in ("rb", "wb", "xb", "ab"):
            raise error(Code.INVALID, f"mode is {mode!r}, not one of rb, wb, xb, ab", path)
        draft = None
        if mode == "rb":
            client, file = await fs._client(), await fs._open_reading(path)
        elif mode == "ab":
            client, file = await fs._open_named(path, "a", how)
        else:
            draft = await fs._begin_draft(path, how)
            client, file = draft.client, draft.file
        return cls(fs, path, mode, client, file, draft, block or BLOCK_BYTES)

    @property
    def details(self) -> dict[str, Any]:
        """The info of the file as it was when it was opened."""
        return info_of(self.path, self._file.inode)

    def fileno(self) -> int:
        """There is no descriptor: io.UnsupportedOperation."""
        raise io.UnsupportedOperation("fileno: an fs3 file has no descriptor")

    async def pread(self, offset: int, length: int) -> bytes:
        """At most `length` bytes at `offset`, wherever the file stands."""
        self._check("rb")
        return await self._client.pread(self._file, length, offset)

    async def read(self, length: int = -1) -> bytes:
        """At most `length` bytes from here, all that are left when it is negative."""
        self._check("rb")
        count = max(0, self.size - self.loc) if length is None or length < 0 else int(length)
        data = await self._client.pread(self._file, count, self.loc)
        self.loc += len(data)
        return data

    async def readinto(self, buffer: Any) -> int:
        """Fill a writable buffer from here, received in place. How many bytes."""
        self._check("rb")
        count = await self._client.pread_into(self._file, target_of(buffer, self.path), self.loc)
        self.loc += count
        return count

    async def write(self, data: Any) -> int:
        """Take bytes; all of them. Sent when there is enough for a block."""
        self._check("wb", "xb", "ab")
        if self.forced:
            raise ValueError("This file has been force-flushed, can only close")
        view = source_of(data, self.path)
        self._buffer += view
        self.loc += len(view)
        if len(self._buffer) >= self.blocksize:
            await self._send()
        return len(view)

    async def flush(self, force: bool = False) -> None:
        """Everything written so far is durable when it returns. With `force` the file is finished as by `close`."""
        if self.closed:
            raise ValueError("Flush on closed file")
        if force and self.forced:
            raise ValueError("Force flush cannot be called more than once")
        if self.mode == "rb" or self.forced:
            return
        await self._send()
        if force:
            self.forced = True
            await (self._draft.publish(make_parents=True) if self._draft is not None else self._client.close(self._file))

    async def close(self) -> None:
        """Finish: what was written becomes visible as a whole."""
        if self.closed:
            return
        try:
            if not self.forced:
                await self.flush(force=True)
        except BaseException:
            await self.discard()
            raise
        self.closed = True

    async def discard(self) -> None:
        """Drop what was written; of `ab` files what was appended."""
        self.closed = True
        if self.mode != "rb":
            await self._client.abandon(self._file)

    async def _send(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            at = self._stored
            self._stored += len(data)
            await self._client.pwrite(self._file, data, at)

    def _check(self, *modes: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if self.mode not in modes:
            raise io.UnsupportedOperation(f"{self.path!r} is open in mode {self.mode!r}")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self.closed:
            await self.discard()
        else:
            await self.close()

    def __del__(self) -> None:
        # The base class would call the coroutine `close`. An unnamed file vanishes with its session.
        self._closed = True
