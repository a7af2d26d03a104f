"""A session on a pair of sockets that stands for the device: answers, errors, interrupts."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from fs3.drivers.fuse import protocol
from fs3.drivers.fuse.operations import Later, Operations
from fs3.drivers.fuse.protocol import Opcode
from fs3.drivers.fuse.records import KernelLock, KernelRequest
from fs3.drivers.fuse.session import Session


class Scripted(Operations):
    """Answers in every way there is."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[int, int]] = []
        self.waits = asyncio.Event()
        self.later: list[Later[bytes]] = []

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        self.forgotten += nodes

    def readlink(self, request: KernelRequest) -> bytes:
        return b"target"

    async def write(
        self, request: KernelRequest, handle: int, offset: int, data: memoryview, flags: int, drops_set_ids: bool
    ) -> int:
        await self.waits.wait()
        return len(bytes(data))

    def unlink(self, request: KernelRequest, name: bytes) -> None:
        raise ZeroDivisionError

    def getxattr(self, request: KernelRequest, name: bytes) -> Later[bytes]:
        later: Later[bytes] = Later()
        self.later.append(later)
        return later

    async def setlkw(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> None:
        await asyncio.Event().wait()


class Kernel:
    """The other end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)

    async def send(self, opcode: int, unique: int, body: bytes = b"") -> None:
        data = protocol.IN_HEADER.pack(protocol.IN_HEADER.size + len(body), opcode, unique, 1, 0, 0, 0, 0, 0) + body
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    async def receive(self) -> tuple[int, int, bytes]:
        data = await asyncio.get_running_loop().sock_recv(self._end, 1 << 21)
        length, error, unique = protocol.OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return unique, error, data[protocol.OUT_HEADER.size :]

    async def ask(self, opcode: int, unique: int, body: bytes = b"") -> tuple[int, int, bytes]:
        await self.send(opcode, unique, body)
        return await self.receive()


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Kernel, Session, Scripted]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    operations = Scripted()
    session = Session(theirs.detach(), operations)
    with ours:
        yield Kernel(ours), session, operations
        await session.close()


async def test_answers_and_errors() -> None:
    async with talking() as (kernel, _, operations):
        assert await kernel.ask(Opcode.READLINK, 2) == (2, 0, b"target")
        assert await kernel.ask(Opcode.LSEEK, 3, bytes(24)) == (3, -errno.ENOSYS, b"")
        assert await kernel.ask(999, 4) == (4, -errno.ENOSYS, b"")
        assert await kernel.ask(Opcode.UNLINK, 5, b"name\0") == (5, -errno.EIO, b"")
        assert await kernel.ask(Opcode.UNLINK, 6, b"no end") == (6, -errno.EINVAL, b"")
        await kernel.send(Opcode.FORGET, 7, protocol.FORGET_IN.pack(3))
        await kernel.send(Opcode.FORGET, 8, b"")
        await kernel.send(Opcode.BATCH_FORGET, 9, protocol.BATCH_FORGET_IN.pack(1, 0) + protocol.FORGET_ONE.pack(5, 2))
        assert await kernel.ask(Opcode.READLINK, 10) == (10, 0, b"target")
        assert operations.forgotten == [(1, 3), (5, 2)]


async def test_answers_that_are_told_later() -> None:
    async with talking() as (kernel, session, operations):
        for unique in (2, 4, 6, 8):
            await kernel.send(Opcode.GETXATTR, unique, protocol.GETXATTR_IN.pack(4, 0) + b"name\0")
        assert await kernel.ask(Opcode.READLINK, 10) == (10, 0, b"target")
        assert session.under_way == 4
        first, second, third, fourth = operations.later
        third.finish(b"four")
        first.fail(OSError(errno.ENODATA, "none"))
        second.fail(ZeroDivisionError())
        assert [(await kernel.receive())[:2] for _ in range(3)] == [(6, 0), (2, -errno.ENODATA), (4, -errno.EIO)]
        assert session.under_way == 1
        await session.close()
        fourth.finish(b"late")  # to no one, which is no harm


async def test_the_bytes_of_a_write_stay_while_others_are_read() -> None:
    async with talking() as (kernel, session, operations):
        for unique in (2, 4):
            await kernel.send(Opcode.WRITE, unique, protocol.WRITE_IN.pack(1, 0, 5, 0, 0, 0, 0) + b"bytes")
        assert await kernel.ask(Opcode.READLINK, 6) == (6, 0, b"target")
        assert session.under_way == 2
        operations.waits.set()
        answers = [await kernel.receive() for _ in range(2)]
        assert answers == [(2, 0, protocol.WRITE_OUT.pack(5, 0)), (4, 0, protocol.WRITE_OUT.pack(5, 0))]


async def test_a_signal_ends_the_wait_for_a_lock_and_no_other_request() -> None:
    async with talking() as (kernel, _, operations):
        await kernel.send(Opcode.SETLKW, 12, bytes(48))  # interrupted before it was begun
        await kernel.send(Opcode.INTERRUPT, 13, protocol.INTERRUPT_IN.pack(12))
        assert await kernel.receive() == (12, -errno.EINTR, b"")
        await kernel.send(Opcode.SETLKW, 2, bytes(48))
        await kernel.send(Opcode.WRITE, 4, protocol.WRITE_IN.pack(1, 0, 1, 0, 0, 0, 0) + b"x")
        for unique in (2, 4, 98):
            await kernel.send(Opcode.INTERRUPT, unique | 1, protocol.INTERRUPT_IN.pack(unique))
        assert await kernel.receive() == (2, -errno.EINTR, b"")
        operations.waits.set()
        assert (await kernel.receive())[:2] == (4, 0)


async def test_hello_of_a_kernel_that_is_too_old() -> None:
    async with talking() as (kernel, session, _):
        answer = await kernel.ask(Opcode.INIT, 2, protocol.INIT_IN.pack(7, 8, 0, 0))
        assert answer == (2, -errno.EPROTO, b"")
        with pytest.raises(OSError, match="is needed"):
            await session.wait_ready()
