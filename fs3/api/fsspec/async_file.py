"""Files with coroutine methods, as `open_async` of the fsspec filesystem gives them."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from typing import Any, Self

from fsspec.asyn import AbstractAsyncStreamedFile

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec import unclosed
from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.block_exit import say_dropped
from fs3.api.fsspec.draft import CreateOptions, Draft
from fs3.api.fsspec.info import info_of
from fs3.api.io.append_gather import AppendGather
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import source_of, target_of
from fs3.api.namespace import parent_of
from fs3.base.errors import UnsupportedOperation, error
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.base.units import MIB

BLOCK_BYTES = 16 * MIB
"""Gathered before it is sent, as several chunks at once; less where open files hold much memory."""


class FS3AsyncFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """An open file of one event loop. Reads go where they are told and may be concurrent; writes are in order.

    As with `FS3File`, what was written appears when it is closed, and not at all when an exception leaves the `async with` block.
    One that is dropped without closing it is closed in the background, if its loop still runs and its last write did not fail."""

    def __init__(self, fs: FS3Base, path: str, mode: str, client: Client, file: File | Draft, block: int) -> None:
        self.fs = fs
        self.path = path
        self.mode = mode
        self.blocksize = block
        self.size = file.length if isinstance(file, File) else 0
        self.loc = self.size if mode == "ab" else 0
        self.forced = False
        self._client = client
        self._draft: Draft | None = None
        self._gather: AppendGather | None = None
        if isinstance(file, Draft):
            self._draft = file
        else:
            self._file = file
            if mode == "ab":
                self._gather = AppendGather(client, file, parent_of(path))
        self._buffer = bytearray()
        self._share = buffer_budget.open_share()
        self._stored = 0
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._is_broken_off = False
        """The last write failed."""
        self.closed = False
        if mode != "rb":
            unclosed.watch(self)

    @classmethod
    async def open(cls, fs: FS3Base, path: str, mode: str, how: CreateOptions, block: int | None = None) -> Self:
        """Open `path`: rb, wb, xb or ab."""
        if mode not in ("rb", "wb", "xb", "ab"):
            raise error(Code.INVALID, f"mode is {mode!r}, not one of rb, wb, xb, ab", path)
        client = await fs._client()
        file: File | Draft
        if mode == "rb":
            file = await fs._open_reading(path)
        elif mode == "ab":
            client, file = await fs._open_named(path, "a", how)
        else:
            file = await fs._prepare_draft(path, how)
            client = file.client
        return cls(fs, path, mode, client, file, block or BLOCK_BYTES)

    @property
    def details(self) -> dict[str, Any]:
        """The info of the file as it was when it was opened; of one that is written, nothing that is not known yet."""
        if self._draft is not None:
            return {"name": self.path, "size": 0, "type": "file"}
        return info_of(self.path, self._file.inode)

    def fileno(self) -> int:
        """There is no descriptor: UnsupportedOperation."""
        raise UnsupportedOperation(errno.ENOTTY, "fileno: an fs3 file has no descriptor", self.path)

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
        self._is_broken_off = True
        view = source_of(data, self.path)
        if self._gather is None:
            await self._write_behind(view)
        elif not self._gather.add(view):
            await self._gather.spill(view)
        self._is_broken_off = False
        self.loc += len(view)
        return len(view)

    async def flush(self, force: bool = False) -> None:
        """Everything written so far is durable when it returns, and of `ab` files visible. With `force` the file is finished as
        by `close`."""
        if self.closed:
            raise ValueError("Flush on closed file")
        if force and self.forced:
            raise ValueError("Force flush cannot be called more than once")
        if self.mode == "rb" or self.forced:
            return
        if force:
            self.forced = True
            await self._finish()
        elif self._gather is not None:
            await self._gather.publish()
            self.loc = self._file.length
        else:
            await self._send()

    async def _finish(self) -> None:
        if self._gather is not None:
            await self._gather.finish()
        elif self._draft is not None:
            if not self._stored and len(self._buffer) <= inline_bytes_default:
                self._draft.data, self._buffer = bytes(self._buffer), bytearray()
                self._share.give_all()
            else:
                await self._send()
            await self._draft.publish(make_parents=True)

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
        """Drop what was written; of `ab` files what was not flushed."""
        self.closed = True
        self._buffer = bytearray()
        self._share.give_all()
        if self._gather is not None:
            await self._gather.discard()
        elif self._draft is not None:
            await self._draft.discard()

    async def _write_behind(self, view: memoryview) -> None:
        """Gather, and send whole blocks; where memory is short what there is, and large data from where it lies."""
        at = 0
        while at < len(view):
            block = max(1, self.blocksize)
            whole = (len(view) - at) // block * block
            if whole and not self._buffer:
                await self._store(view[at : at + whole])
                at += whole
                continue
            count = min(block - len(self._buffer), len(view) - at)
            if not self._share.try_grow(len(self._buffer) + count, block):
                await self._send()
                if not self._share.try_grow(count, block):
                    await self._store(view[at : at + count])
                    at += count
                    continue
            self._buffer += view[at : at + count]
            at += count
            if len(self._buffer) >= block:
                await self._send()

    async def _send(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            try:
                await self._store(data)
            finally:
                self._share.give_all()

    async def _store(self, data: bytearray | memoryview) -> None:
        at = self._stored
        self._stored += len(data)
        assert self._draft is not None
        await self._draft.write(data, at)

    def _check(self, *modes: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if self.mode not in modes:
            raise UnsupportedOperation(errno.EBADF, f"the file is open in mode {self.mode!r}", self.path)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self.closed:
            if self.mode != "rb" and not self.forced and (self._gather is None or not self._gather.is_empty):
                say_dropped(self.path, kind)
            await self.discard()
        else:
            await self.close()

    def close_unclosed(self, flush: unclosed.Flush | None = None) -> None:
        """As `FS3File.close_unclosed`, in the background."""
        if self.closed:
            return
        self.closed = True
        if self.mode == "rb" or self._pid != os.getpid() or self.forced or sys.is_finalizing():
            return
        if self._is_broken_off or unclosed.is_dying():
            unclosed.say(self.path, f"{'its last write failed, and ' * self._is_broken_off}what was written to it is dropped")
            unclosed.start(self._loop, self.path, self.discard())
        else:
            unclosed.say(self.path, "it is closed now")
            unclosed.start(self._loop, self.path, self._finish_or_drop())

    def __del__(self) -> None:
        self.close_unclosed()  # the base class would call the coroutine `close`

    async def _finish_or_drop(self) -> None:
        try:
            await self._finish()
        except BaseException:
            await self.discard()
            raise
