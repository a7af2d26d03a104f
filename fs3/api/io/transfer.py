"""Whole files between this machine and the cluster: bounded memory, several parts under way, nothing half-done left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Any, Protocol, Self

from fs3.api.file import BytesProgress, File
from fs3.api.io.budget import gather_bounded
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import buffer_pool
from fs3.base.errors import FS3Error, error
from fs3.base.limits import client_write_call_bytes
from fs3.base.status import Code
from fs3.base.units import MIB

transfer_parts_max = 4
"""Parts of `client_write_call_bytes` that one upload or download of a local file holds in memory."""

PART_BYTES = client_write_call_bytes

_PIPE_BYTES = 1 * MIB
"""Asked of a pipe at once."""


class FileBytes(Protocol):
    """Reads and writes of open files. `fs3.api.client.Client` is the one of production, and says what they raise."""

    async def pread(self, file: File, length: int, offset: int = 0) -> bytes:
        """At most `length` bytes at `offset`; fewer at the end of the file."""
        ...

    async def pread_into(self, file: File, buffer: Any, offset: int = 0) -> int:
        """Fill a buffer from `offset`; how many bytes, fewer at the end of the file."""
        ...

    async def pwrite(self, file: File, data: Any, offset: int = 0) -> int:
        """Write bytes at `offset`; durable when it returns."""
        ...


def local_length(path: str) -> int | None:
    """Bytes of a local file; None for a directory."""
    found = os.stat(path)
    return None if stat.S_ISDIR(found.st_mode) else found.st_size


def _is_special(path: str) -> bool:
    """A pipe, device, socket or directory: what is to be looked at before it is opened."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _naming(local: str) -> Iterator[None]:
    """What goes wrong with an open local file (a full disk, say) names it, as what goes wrong with opening it does."""
    try:
        yield
    except OSError as failure:
        if failure.filename is None and not isinstance(failure, FS3Error):
            failure.filename = local
        raise


def read_local(path: str, limit: int) -> bytes | None:
    """All bytes of a local file. None when it cannot be read, has more than `limit` bytes, or is no regular file."""
    try:
        if _is_special(path):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_size > limit:
                return None
            data = os.read(fd, about.st_size + 1)  # one more tells that it grows
        finally:
            os.close(fd)
    except OSError:
        return None
    return data if len(data) <= about.st_size else None


def save_local(path: str, data: memoryview) -> bool:
    """Bytes as a local file, which appears whole or stays as it was. False when it cannot be written, or is no regular file."""
    try:
        with _AtomicLocalFile(path, regular_only=True) as target:
            _pwrite_all(target.fd, data, 0)
    except OSError:
        return False
    return True


async def upload(client: FileBytes, local: str, file: File, progress: BytesProgress) -> None:
    """The bytes of a local file into an open file. An OSError of the local side passes through.

    A pipe is read until its writers close it; InvalidArgument for one that no process has open to write.
    """
    with _naming(local), open_device(local, os.O_RDONLY) as source:
        about = os.fstat(source.fileno())
        if stat.S_ISFIFO(about.st_mode):
            await _upload_pipe(client, source, file, progress, local)
            return
        if not stat.S_ISREG(about.st_mode):
            await _upload_stream(client, source, file, progress)
            return
        length = about.st_size

        async def part(offset: int) -> None:
            count = min(PART_BYTES, length - offset)
            async with buffer_budget.reserve(count):
                block = buffer_pool.take(count)
                if await asyncio.to_thread(_pread_full, source.fileno(), memoryview(block), offset) < count:
                    raise error(Code.INVALID, "the local file became shorter while it was read", local)
                await client.pwrite(file, memoryview(block), offset)
                buffer_pool.give(block)
            progress(count)

        await gather_bounded((part(offset) for offset in range(0, length, PART_BYTES)), transfer_parts_max)


def open_device(path: str, flags: int) -> FileIO:
    """A file, pipe or device of this machine. Never waits for the other end of a pipe: ENXIO when no process reads it."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.set_blocking(fd, True)
    return FileIO(fd, "rb" if flags == os.O_RDONLY else "wb")


async def _upload_pipe(client: FileBytes, source: FileIO, file: File, progress: BytesProgress, local: str) -> None:
    """In order, until its writers have gone. Waits on the loop, so that a silent writer holds no thread."""
    share = buffer_budget.open_share()
    offset = 0
    while True:
        with share.lend(_PIPE_BYTES) as room:
            data = source.read(room)
            if data:
                await client.pwrite(file, data, offset)
                offset += len(data)
                progress(len(data))
        if data == b"":
            break
        if data is None:  # there are writers, and they have not written
            await _wait_until_ready(source.fileno(), writing=False)
    if not offset:
        raise error(Code.INVALID, "is a pipe that nobody writes to", local)


async def _download_pipe(client: FileBytes, file: File, target: FileIO, progress: BytesProgress) -> None:
    share = buffer_budget.open_share()
    offset = 0
    while offset < file.length:
        with share.lend(min(PART_BYTES, file.length - offset)) as room:
            view = memoryview(await client.pread(file, room, offset))
            offset += room
            while view:
                taken = target.write(view)
                if taken is None:
                    await _wait_until_ready(target.fileno(), writing=True)
                    continue
                view = view[taken:]
                progress(taken)


async def _wait_until_ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)


async def _upload_stream(client: FileBytes, source: FileIO, file: File, progress: BytesProgress) -> None:
    """A device: in order, until it ends."""
    share = buffer_budget.open_share()
    offset = 0
    while True:
        with share.lend(PART_BYTES) as room:
            data = await asyncio.to_thread(source.read, room)
            if not data:
                break
            await client.pwrite(file, data, offset)
        offset += len(data)
        progress(len(data))


async def download(client: FileBytes, file: File, local: str, progress: BytesProgress) -> None:
    """The bytes of an open file into a local one, which appears whole or stays as it was. Missing directories are made."""
    target = _AtomicLocalFile(local)
    if target.device is not None:
        with _naming(local), target.device:
            into_pipe = stat.S_ISFIFO(os.fstat(target.device.fileno()).st_mode)
            await (_download_pipe if into_pipe else download_stream)(client, file, target.device, progress)
        return
    with _naming(local), target:
        length = file.length

        async def part(offset: int) -> None:
            wanted = min(PART_BYTES, length - offset)
            async with buffer_budget.reserve(wanted):
                block = buffer_pool.take(wanted)
                count = await client.pread_into(file, memoryview(block), offset)
                await asyncio.to_thread(_pwrite_all, target.fd, memoryview(block)[:count], offset)
                buffer_pool.give(block)
            progress(count)

        await gather_bounded((part(offset) for offset in range(0, length, PART_BYTES)), transfer_parts_max)


class _AtomicLocalFile:
    """A local file that is replaced as a whole when its `with` block ends well."""

    def __init__(self, path: str, *, regular_only: bool = False) -> None:
        """`regular_only`: OSError for a pipe or device, which is not even opened: to open and close a pipe would break off who
        waits at its other end."""
        self._path = os.path.abspath(path)
        self.device: FileIO | None = None
        """A pipe or /dev/null: there is nothing to replace."""
        self.fd = -1
        """Of the temporary file."""
        self._mode: int | None = None
        if before := self._look():
            if not stat.S_ISREG(before.st_mode):
                if regular_only:
                    raise OSError(errno.EINVAL, "no regular file", path)
                self.device = open_device(self._path, os.O_WRONLY)  # IsADirectoryError for a directory
                return
            self._mode = stat.S_IMODE(before.st_mode)
        directory, name = os.path.split(self._path)
        self._temporary = os.path.join(directory, f".{name[:48]}.{os.urandom(6).hex()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self.fd = os.open(self._temporary, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(directory, exist_ok=True)
            self.fd = os.open(self._temporary, flags, 0o666)

    def _look(self) -> os.stat_result | None:
        """What has the name, or the name that a symlink there leads to."""
        with suppress(FileNotFoundError):
            before = os.lstat(self._path)
            if not stat.S_ISLNK(before.st_mode):
                return before
            self._path = os.path.realpath(self._path)
            return os.stat(self._path)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if self._mode is not None:
                    os.fchmod(self.fd, self._mode)
                os.replace(self._temporary, self._path)
                self._temporary = ""
        finally:
            os.close(self.fd)
            if self._temporary:
                with suppress(FileNotFoundError):
                    os.unlink(self._temporary)


async def download_stream(client: FileBytes, file: File, out: Any, progress: BytesProgress) -> None:
    """The bytes of an open file, in order, into something with a `write`."""
    share = buffer_budget.open_share()
    offset = 0
    while offset < file.length:
        with share.lend(min(PART_BYTES, file.length - offset)) as room:
            data = await client.pread(file, room, offset)
            await asyncio.to_thread(_write_all, out, data)
        offset += room
        progress(len(data))


def _pread_full(fd: int, buffer: memoryview, offset: int) -> int:
    at = 0
    while at < len(buffer):
        count = os.preadv(fd, [buffer[at:]], offset + at)
        if not count:
            break
        at += count
    return at


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], offset + at)


def _write_all(out: Any, data: bytes) -> None:
    """A raw file may take less than it is given; one that does not say took all."""
    view = memoryview(data)
    while view:
        taken = out.write(view)
        view = view[len(view) if taken is None else taken :]
