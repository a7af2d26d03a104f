"""What a kernel remembers of one mount, and when it asks: pages, lengths and handles by the rules of Linux for a file system that
has neither the kernel's write-back cache nor attributes that stay (`FUSE_EXPLICIT_INVAL_DATA`, no time for files).

- A read takes pages that are there, and asks for others under their lock. One that reaches behind the length asks for it first.
- A write is put into its pages, then sent. A page that was not there stays only if all of it was written, and another one of it
  waits for the answer. A write that fails takes its pages away.
- An open without `KEEP_CACHE` drops all pages once it has been answered, which may be a while later.
- An answer about the length counts only if no other change of it was learned of since it was asked for.
- Mapped memory is written back by `msync`, `fsync` and `close`, and before its pages are dropped.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fs3.api.client import Client
from fs3.api.fuse.mount import FuseOperations
from fs3.api.fuse.options import FuseOptions
from fs3.api.space import KEEP_SIZE
from fs3.base.errors import NotFound
from fs3.base.ids import ROOT_INODE
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.fuse.protocol import OpenFlag
from fs3.drivers.fuse.records import Changes, KernelLock, KernelRequest, Opened
from fs3.model.lock import LOCK_END
from fs3.runtime.tasks import TaskSet

PAGE_BYTES: Final = 4096
READ_AHEAD_PAGES: Final = 8
SWITCH_NS_MAX: Final = 2 * MILLISECOND
"""How long it takes until a request is read, or a thread that waited for an answer goes on."""

_WHOLE = (0, LOCK_END - 1)


@dataclass(slots=True)
class _Node:
    """An inode that is remembered."""

    number: int
    length: int
    pages: dict[int, bytearray] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    """Pages that were written as mapped memory."""
    page_locks: dict[int, asyncio.Lock] = field(default_factory=dict)
    inode_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by what changes it."""
    version: int = 0
    """Of its length: by the clock of `_Versions`."""
    unstable: bool = False
    """Its length is being changed: answers say nothing about it."""
    lookups: int = 0
    users: int = 0
    """Calls that are at it by its name."""


@dataclass(slots=True)
class KernelFile:
    """An open file description."""

    node: _Node
    number: int
    writes: bool
    appends: bool
    direct: bool
    """Past the pages."""
    is_open: bool = True


class SimKernel:
    """Of one mount of one client. Belongs to the client's process."""

    def __init__(self, client: Client, prng: Prng) -> None:
        self.operations = FuseOperations(client, FuseOptions(noatime=True))
        self.operations.notifier = self  # type: ignore[assignment]
        self._prng = prng
        self._nodes: dict[int, _Node] = {}
        self._files: dict[int, KernelFile] = {}
        self._releases = TaskSet()
        self._versions = 0
        self._uniques = 0
        self._sent_until = 0.0

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def open(self, name: str, flags: int = os.O_RDONLY) -> KernelFile:
        """Of a file in the root. FileNotFoundError; FileExistsError."""
        try:
            node = await self._look_up(name)
        except NotFound:
            if not flags & os.O_CREAT:
                raise
            return await self._create(name, flags)
        if flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "exists", name)
        with self._use(node):
            if not flags & os.O_TRUNC:
                opened = await self._ask("open", node.number, flags & ~os.O_CREAT, False)
                if not opened.flags & OpenFlag.KEEP_CACHE:
                    await self._drop(node, 0)
                return self._file(node, opened, flags)
            async with node.inode_lock:
                opened = await self._ask("open", node.number, flags & ~os.O_CREAT, False)
                self._cut(node, 0)
            return self._file(node, opened, flags)

    async def _create(self, name: str, flags: int) -> KernelFile:
        asked = self._versions
        created = await self._ask("create", ROOT_INODE, os.fsencode(name), flags, 0o644, 0)
        node = self._learn(created.entry.node, created.entry.attributes.size, asked)
        node.lookups += 1
        return self._file(node, created.opened, flags)

    def _file(self, node: _Node, opened: Opened, flags: int) -> KernelFile:
        file = KernelFile(
            node,
            opened.handle,
            writes=flags & os.O_ACCMODE != os.O_RDONLY,
            appends=bool(flags & os.O_APPEND),
            direct=bool(opened.flags & OpenFlag.DIRECT_IO),
        )
        self._files[file.number] = file
        return file

    async def close(self, file: KernelFile, owner: int = 0) -> None:
        """A descriptor, the only one: it is gone even if this fails."""
        file.is_open = False
        try:
            await self._write_back(file.node)
            async with file.node.inode_lock:
                pass  # writes under way come first
            await self._ask("flush", file.node.number, file.number, owner)
        finally:
            self._releases.start(self._release(file))

    async def _release(self, file: KernelFile) -> None:
        await self._ask("release", file.node.number, file.number, None)
        del self._files[file.number]

    async def fsync(self, file: KernelFile) -> None:
        """As fsync(2)."""
        await self._write_back(file.node)
        await self._ask("fsync", file.node.number, file.number, False)

    # --- bytes ---------------------------------------------------------------------------------------------------------

    async def read(self, file: KernelFile, offset: int, size: int) -> bytes:
        """As pread(2)."""
        node = file.node
        if offset + size > node.length:
            await self._get_attributes(node)
        if file.direct:
            return bytes(await self._ask("read", node.number, file.number, offset, size))
        found = bytearray()
        end = min(offset + size, node.length)
        while offset + len(found) < end:
            at = offset + len(found)
            page = await self._page(file, at // PAGE_BYTES)
            end = min(end, node.length)
            found += page[at % PAGE_BYTES : min(PAGE_BYTES, at % PAGE_BYTES + end - at)] if at < end else b""
        return bytes(found)

    async def read_all(self, file: KernelFile) -> bytes:
        """From the beginning to the end."""
        found = bytearray()
        while part := await self.read(file, len(found), 1 << 20):
            found += part
        return bytes(found)

    async def write(self, file: KernelFile, data: bytes, offset: int = 0) -> None:
        """As pwrite(2), or at the end for a file that is open for that."""
        node = file.node
        async with node.inode_lock:
            if file.appends:
                offset = node.length
            node.unstable = offset + len(data) > node.length
            try:
                if file.direct:
                    await self._drop(node, offset // PAGE_BYTES, (offset + len(data) - 1) // PAGE_BYTES)
                    await self._send(file, data, offset)
                else:
                    await self._write(file, data, offset)
            finally:
                node.unstable = False

    async def _write(self, file: KernelFile, data: bytes, offset: int) -> None:
        node, at = file.node, 0
        while at < len(data):
            pages, count = [], 0
            async with self._partial_page(node, (offset + at) // PAGE_BYTES) as partial:
                # One request: pages that are complete then, or one that is not.
                while at + count < len(data):
                    place = offset + at + count
                    index, inner = divmod(place, PAGE_BYTES)
                    part = data[at + count : at + count + PAGE_BYTES - inner]
                    if index not in node.pages and len(part) < PAGE_BYTES:
                        if index != partial:
                            break
                        count += len(part)
                        break
                    page = node.pages.setdefault(index, bytearray(PAGE_BYTES))
                    page[inner : inner + len(part)] = part
                    pages.append(index)
                    count += len(part)
                try:
                    await self._send(file, data[at : at + count], offset + at)
                except OSError:
                    for index in pages:
                        node.pages.pop(index, None)
                    raise
            at += count

    async def _send(self, file: KernelFile, data: bytes, offset: int) -> None:
        node, flags = file.node, os.O_WRONLY | (os.O_APPEND if file.appends else 0)
        await self._ask("write", node.number, file.number, offset, memoryview(data), flags, False)
        node.length = max(node.length, offset + len(data))
        self._versions += 1
        node.version = self._versions

    @asynccontextmanager
    async def _partial_page(self, node: _Node, index: int) -> AsyncIterator[int]:
        """The first page of a write, which stays locked until the answer when it is not there."""
        lock = self._page_lock(node, index)
        await lock.acquire()
        if index in node.pages:
            lock.release()
            yield -1
            return
        try:
            yield index
        finally:
            lock.release()

    async def _page(self, file: KernelFile, index: int) -> bytearray:
        """One page; those behind it are asked for as well."""
        node = file.node
        if index in node.pages:
            return node.pages[index]
        locked = [self._page_lock(node, index)]
        await locked[0].acquire()
        try:
            if index in node.pages:
                return node.pages[index]
            count = 1
            while count < READ_AHEAD_PAGES and (index + count) * PAGE_BYTES < node.length:
                lock = self._page_lock(node, index + count)
                if lock.locked() or index + count in node.pages:
                    break
                await lock.acquire()
                locked.append(lock)
                count += 1
            asked = self._versions
            data = await self._ask("read", node.number, file.number, index * PAGE_BYTES, count * PAGE_BYTES)
            data = bytes(data)
            if len(data) < count * PAGE_BYTES:
                self._learn_end(node, index * PAGE_BYTES + len(data), asked)
            for number in range(count):
                part = data[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
                node.pages[index + number] = bytearray(part.ljust(PAGE_BYTES, b"\0"))
            return node.pages[index]
        finally:
            for lock in locked:
                lock.release()

    async def map_write(self, file: KernelFile, data: bytes, offset: int) -> None:
        """Into mapped memory, below the length."""
        node, at = file.node, 0
        while at < len(data):
            index, inner = divmod(offset + at, PAGE_BYTES)
            part = data[at : at + PAGE_BYTES - inner]
            page = await self._page(file, index)
            page[inner : inner + len(part)] = part
            node.pages[index] = page
            node.dirty.add(index)
            at += len(part)

    async def _write_back(self, node: _Node, first: int = 0) -> None:
        """As msync(2)."""
        for index in sorted(node.dirty):
            if index < first or index not in node.dirty:
                continue
            node.dirty.discard(index)
            start = index * PAGE_BYTES
            body = memoryview(bytes(node.pages[index][: max(0, node.length - start)]))
            handle = next(number for number, one in self._files.items() if one.writes and one.node is node)
            if body:
                await self._ask("write", node.number, handle, start, body, os.O_RDWR, False)

    # --- lengths -------------------------------------------------------------------------------------------------------

    async def stat(self, name: str) -> int:
        """The length that stat(2) tells. FileNotFoundError."""
        return await self._get_attributes(await self._look_up(name))

    async def fstat(self, file: KernelFile) -> int:
        """The length that fstat(2) tells."""
        return await self._get_attributes(file.node)

    async def truncate(self, file: KernelFile, length: int) -> None:
        """As ftruncate(2)."""
        await self._truncate(file.node, length, file.number)

    async def truncate_path(self, name: str, length: int) -> None:
        """As truncate(2)."""
        node = await self._look_up(name)
        with self._use(node):
            await self._truncate(node, length, None)

    async def _truncate(self, node: _Node, length: int, handle: int | None) -> None:
        async with node.inode_lock:
            node.unstable = True
            try:
                told = await self._ask("setattr", node.number, Changes(size=length, handle=handle))
                before = node.length
                self._versions += 1
                node.version = self._versions
                node.length = told.attributes.size
                if before != node.length:
                    self._cut(node, node.length)
                    await self._drop(node, 0)
            finally:
                node.unstable = False

    async def fallocate(self, file: KernelFile, mode: int, offset: int, length: int) -> None:
        """As fallocate(2)."""
        node = file.node
        async with node.inode_lock:
            await self._write_back(node)
            node.unstable = not mode & KEEP_SIZE
            try:
                await self._ask("fallocate", node.number, file.number, offset, length, mode)
            finally:
                node.unstable = False
            if not mode & KEEP_SIZE and offset + length > node.length:
                node.length = offset + length
                self._versions += 1
                node.version = self._versions
            if mode & ~KEEP_SIZE:
                for index in [one for one in node.pages if offset <= one * PAGE_BYTES < offset + length]:
                    del node.pages[index]
                for at in (offset, offset + length):
                    node.pages.pop(at // PAGE_BYTES, None)

    # --- locks and names ---------------------------------------------------------------------------------------------

    async def flock(self, file: KernelFile, kind: int, owner: int) -> None:
        """As flock(2): waits for it; F_UNLCK gives it up."""
        await self._ask("setlkw", file.node.number, file.number, owner, KernelLock(*_WHOLE, kind, 0), True)

    async def unlink(self, name: str) -> None:
        """As unlink(2)."""
        await self._ask("unlink", ROOT_INODE, os.fsencode(name))

    def forget(self) -> None:
        """Memory is short: inodes are forgotten that no file is open of, nor asked about."""
        busy = {one.node.number for one in self._files.values()}
        for node in [one for one in self._nodes.values() if one.number not in busy and not one.users]:
            del self._nodes[node.number]
            self.operations.forget([(node.number, node.lookups)])

    # --- what is told -------------------------------------------------------------------------------------------------

    async def forget_data(self, node: int, offset: int = 0, length: int = 0) -> None:
        """See `Notifier`."""
        found = self._nodes.get(node)
        if found is not None:
            self._versions += 1
            found.version = self._versions  # answers under way may be older than what is told here
            await self._drop(found, max(0, offset) // PAGE_BYTES)

    async def forget_name(self, directory: int, name: bytes) -> None:
        """See `Notifier`: no name is remembered."""

    # --- below ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _use(self, node: _Node) -> Iterator[None]:
        node.users += 1
        try:
            yield
        finally:
            node.users -= 1

    async def _look_up(self, name: str) -> _Node:
        asked = self._versions
        found = await self._ask("lookup", ROOT_INODE, os.fsencode(name))
        node = self._learn(found.node, found.attributes.size, asked)
        node.lookups += 1
        return node

    async def _get_attributes(self, node: _Node) -> int:
        """What is told, also where that is not believed."""
        asked = self._versions
        told = await self._ask("getattr", node.number, None)
        self._learn(node.number, told.attributes.size, asked)
        length: int = told.attributes.size
        return length

    def _learn(self, number: int, length: int, asked: int) -> _Node:
        """Attributes have come, which were asked for at a version."""
        node = self._nodes.get(number)
        if node is None:
            node = self._nodes[number] = _Node(number, length)
            return node
        if asked >= node.version and not node.unstable:
            self._versions += 1
            node.version = self._versions
            if node.length != length:
                node.length = length
                self._cut(node, length)
        return node

    def _learn_end(self, node: _Node, end: int, asked: int) -> None:
        """A read was answered with fewer bytes."""
        if asked >= node.version and end < node.length and not node.unstable:
            self._versions += 1
            node.version = self._versions
            node.length = end

    def _cut(self, node: _Node, length: int) -> None:
        """No bytes are behind a length: those of its last page become zeros."""
        node.length = length
        whole, inner = divmod(length, PAGE_BYTES)
        for index in [one for one in node.pages if one >= whole + bool(inner)]:
            del node.pages[index]
            node.dirty.discard(index)
        if inner and whole in node.pages:
            node.pages[whole][inner:] = bytes(PAGE_BYTES - inner)

    async def _drop(self, node: _Node, first: int, last: int = 1 << 62) -> None:
        """Forget pages from one on, up to another; each when what has it locked is done."""
        await self._write_back(node, first)
        indexes = {index for index in (*node.pages, *node.page_locks) if first <= index <= last}
        for index in sorted(indexes):
            async with self._page_lock(node, index):
                if index not in node.dirty:
                    node.pages.pop(index, None)

    def _page_lock(self, node: _Node, index: int) -> asyncio.Lock:
        return node.page_locks.setdefault(index, asyncio.Lock())

    async def _ask(self, method: str, node: int, *arguments: Any) -> Any:
        """A request: read by the other side after those before it, answered, and heard of a moment later."""
        self._uniques += 1
        request = KernelRequest(0, self._uniques, node, 0, 0, 1)
        loop = asyncio.get_running_loop()
        self._sent_until = max(self._sent_until, loop.time() + self._prng.below(SWITCH_NS_MAX) / SECOND)
        await asyncio.sleep(self._sent_until - loop.time())
        answer = getattr(self.operations, method)(request, *arguments)
        try:
            return await answer if inspect.isawaitable(answer) else answer
        finally:
            await asyncio.sleep(self._prng.below(SWITCH_NS_MAX) / SECOND)
