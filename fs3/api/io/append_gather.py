"""What one handle appends, kept aside until it is appended as a whole."""

from __future__ import annotations

import logging
from typing import Protocol

from fs3.api.file import File
from fs3.api.io.buffer_budget import BufferBudget, buffer_budget
from fs3.base.errors import FS3Error
from fs3.base.limits import client_write_call_bytes
from fs3.base.status import Code
from fs3.model.inode import Inode, Layout

append_gather_bytes = client_write_call_bytes
"""Appended bytes that a handle holds in memory, if there is so much. More of them wait in an unnamed file of their own."""

log = logging.getLogger("fs3.client")


class Appending(Protocol):
    """What is needed of a client. `fs3.api.client.Client` is the one of production, and says what its methods raise."""

    async def append(self, file: File, data: memoryview | bytearray) -> int:
        """Write bytes at the end of a file, where that is by now."""
        ...

    async def append_file(self, file: File, source: File) -> int:
        """The same with all bytes of another one."""
        ...

    async def open_unnamed(self, directory: str = "/", layout: Layout | None = None) -> File:
        """A new file without a name."""
        ...

    async def pwrite(self, file: File, data: memoryview | bytearray, offset: int = 0) -> int:
        """Write bytes at `offset`."""
        ...

    async def close(self, file: File) -> Inode:
        """End a handle."""
        ...

    async def abandon(self, file: File) -> None:
        """End a handle, and drop what it wrote."""
        ...


class AppendGather:
    """Bytes that are going to be appended to one open file, all together or not at all.

    One call at a time. The first failure is raised again by every later call: what became of the bytes is not known. Its memory
    comes out of a budget that all files of the process share.
    """

    def __init__(self, client: Appending, file: File, directory: str, *, budget: BufferBudget = buffer_budget) -> None:
        """`directory`: where a file for what does not fit into memory may be made."""
        self._client = client
        self._file = file
        self._directory = directory
        self._gathered = bytearray()
        self._share = budget.open_share()
        self._spill: File | None = None
        self._spilled = 0
        self._failure: BaseException | None = None

    @property
    def is_empty(self) -> bool:
        """Everything that was taken has been appended."""
        return not self._gathered and not self._spilled

    def add(self, view: memoryview, *, always: bool = False) -> bool:
        """Take bytes, if there is room in memory or `always`. They may change as soon as this returns."""
        if self._failure is not None:
            raise self._failure
        need = len(self._gathered) + len(view)
        if need > append_gather_bytes or not self._share.try_grow(need, append_gather_bytes):
            if not always:
                return False
            self._share.take_anyway(max(0, need - self._share.held))
        self._gathered += view
        return True

    async def spill(self, view: memoryview) -> None:
        """Take bytes for which there is no room: what was gathered goes to an unnamed file, then they do or are gathered."""
        try:
            if self._spill is None:
                layout = self._file.inode.layout
                asked = Layout(layout.table, layout.chunk_size, layout.stripe)
                try:
                    self._spill = await self._client.open_unnamed(self._directory, asked)
                except FS3Error as failure:
                    if failure.code not in (Code.ACCESS, Code.PERMISSION):
                        raise
                    # A user who may write the file and not its directory has no place for it: then in parts.
                    await self._append_gathered()
                    await self._client.append(self._file, view)
                    return
                self._spill.path = self._file.path
            await self._store(self._gathered)
            self._forget()
            if len(view) >= append_gather_bytes or not self.add(view):
                await self._store(view)
        except BaseException as failure:
            self._failure = failure
            raise

    async def publish(self) -> None:
        """Append everything. When it returns every later open sees it."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._spill is None:
                await self._append_gathered()
                return
            if self._gathered:
                await self._store(self._gathered)
                self._forget()
            await self._client.append_file(self._file, self._spill)
        except BaseException as failure:
            self._failure = failure
            raise
        await self._drop_spill()

    async def discard(self) -> None:
        """Forget what was not appended, and end the handle: what goes wrong is only logged."""
        self._forget()
        await self._drop_spill()
        await self._client.abandon(self._file)

    async def finish(self) -> None:
        """`publish`, then end the handle, also when that failed."""
        try:
            await self.publish()
        except BaseException:
            await self.discard()
            raise
        await self._client.close(self._file)

    async def _append_gathered(self) -> None:
        if self._gathered:
            try:
                await self._client.append(self._file, self._gathered)
            finally:
                self._forget()

    def _forget(self) -> None:
        self._gathered = bytearray()
        self._share.give_all()

    async def _store(self, data: memoryview | bytearray) -> None:
        assert self._spill is not None
        await self._client.pwrite(self._spill, data, self._spilled)
        self._spilled += len(data)

    async def _drop_spill(self) -> None:
        if self._spill is not None:
            spill, self._spill, self._spilled = self._spill, None, 0
            await self._client.abandon(spill)
