"""Descriptors of dma-bufs: what may be one, where its bytes are in memory, and when the kernel is told that they are touched."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.io import dma_buf as module
from fs3.api.io.device_memory import are_in_host_memory, copier_for, device_memory, is_on_device
from fs3.api.io.dma_buf import DmaBuf, accessing
from fs3.api.registration import RegisteredBuffer
from fs3.base.errors import FS3Error, InvalidArgument, InvalidType
from fs3.base.status import Code
from fs3.drivers.os.dma_buf import LinuxDmaBufs
from tests.dma_bufs import END, READ, WRITE, FakeDmaBufs, make_real_dma_buf, real_dma_buf_problem

SIZE = 3 * mmap.PAGESIZE
DATA = bytes(number * number % 251 for number in range(SIZE))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDmaBufs]:
    made = FakeDmaBufs()
    monkeypatch.setattr(module, "_kernel", made)
    yield made
    made.close()


@pytest.fixture
def fd(kernel: FakeDmaBufs) -> Iterator[int]:
    made = kernel.make(DATA)
    yield made
    with suppress(OSError):
        os.close(made)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_its_bytes_are_mapped(kernel: FakeDmaBufs, fd: int) -> None:
    assert fs3.DmaBuf is DmaBuf
    with DmaBuf(fd) as buffer:
        os.close(fd)  # the caller's; this one has its own
        assert (buffer.nbytes, len(buffer), buffer.readonly) == (SIZE, SIZE, False)
        memory = buffer.map()
        with accessing([memory, buffer[:9].map()], writable=False):
            assert memory.view == DATA
        assert kernel.syncs[2:] == [READ, READ | END]  # once for both; the first two are of the probe
    assert "closed" in repr(buffer)


def test_a_part_begins_anywhere(kernel: FakeDmaBufs, fd: int) -> None:
    begin = mmap.PAGESIZE + 17
    with DmaBuf(fd, 5000, begin) as buffer:
        part = buffer[100:1100][10:]
        assert (len(part), part.nbytes, repr(part)) == (990, 990, "<DmaBuf of 990 bytes>")
        memory = part.map()
        with accessing([memory], writable=True):
            assert memory.view == DATA[begin + 110 : begin + 1100]
            memory.view[:4] = b"here"
            assert kernel.load(fd, SIZE) == DATA
        assert kernel.load(fd, SIZE) == DATA[: begin + 110] + b"here" + DATA[begin + 114 :]
        assert len(buffer[7000:]) == 0
        assert len(DmaBuf(fd, offset=SIZE - 3)) == 3


def test_what_a_device_does_meanwhile_is_seen_by_the_next_access(kernel: FakeDmaBufs, fd: int) -> None:
    with DmaBuf(fd) as buffer:
        memory = buffer.map()
        kernel.store(fd, b"from the device")
        assert memory.view[:15] != b"from the device", "the fake shows what no access has fetched"
        with accessing([memory], writable=False):
            assert memory.view[:15] == b"from the device"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((SIZE + 1,), f"nbytes {SIZE + 1}: 1 to {SIZE} of the dma-buf's {SIZE} bytes follow offset 0"),
        ((0,), "nbytes 0: 1 to"),
        ((-1,), "nbytes -1 is negative"),
        ((1, SIZE), f"offset {SIZE}: the dma-buf has {SIZE} bytes"),
        ((2, SIZE - 1), f"nbytes 2: 1 to 1 of the dma-buf's {SIZE} bytes follow offset {SIZE - 1}"),
        ((None, -1), "offset -1 is negative"),
        ((1 << 70,), "nbytes 1180591620717411303424"),
        ((1, 1 << 70), "offset 1180591620717411303424"),
    ],
)
def test_a_part_is_within(fd: int, arguments: Any, says: str) -> None:
    before = descriptors()
    with pytest.raises(InvalidArgument) as caught:
        DmaBuf(fd, *arguments)
    assert says in str(caught.value)
    assert descriptors() == before


@pytest.mark.parametrize("arguments", [("3",), (None,), (True,), (3, 2.5), (3, 4, "0")])
def test_what_is_no_number(kernel: FakeDmaBufs, arguments: Any) -> None:
    with pytest.raises(InvalidType, match="is not a number but"):
        DmaBuf(*arguments)


def test_a_descriptor_of_nothing(kernel: FakeDmaBufs, fd: int) -> None:
    os.close(fd)
    for number in (fd, 1 << 30):
        with pytest.raises(InvalidArgument, match=f"fd {number} is no open file: Bad file descriptor"):
            DmaBuf(number)
    with pytest.raises(InvalidArgument, match="fd -1 is negative"):
        DmaBuf(-1)


def test_files_of_other_kinds_are_refused_by_the_kernel_itself(tmp_path: Path) -> None:
    """By the system calls of this machine: no dma-buf is needed to see what they say of anything else."""
    made = [os.memfd_create("memory"), os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT), os.open("/dev/null", os.O_RDWR)]
    made += [*os.pipe(), os.open(tmp_path, os.O_RDONLY), os.eventfd(0)]
    left, right = socket.socketpair()
    for name in (*made, left.fileno()):
        before = descriptors()
        with pytest.raises(InvalidArgument, match=f"fd {name} is of no dma-buf"):
            DmaBuf(name)
        assert descriptors() == before
    with pytest.raises(InvalidArgument, match=r"a file, or a memfd, is handed over as mmap\.mmap of it"):
        DmaBuf(made[0])
    for name in made:
        os.close(name)
    left.close()
    right.close()


def test_an_exporter_that_does_not_map(kernel: FakeDmaBufs, fd: int) -> None:
    kernel.maps = False
    before = descriptors()
    with pytest.raises(FS3Error, match=r"maps it into no process \(Invalid argument\): hand over the array") as caught:
        DmaBuf(fd)
    assert (caught.value.code, caught.value.errno) == (Code.UNSUPPORTED, errno.EOPNOTSUPP)
    assert descriptors() == before


def test_one_for_reading_only(kernel: FakeDmaBufs) -> None:
    fd = kernel.make(DATA, readonly=True)
    with DmaBuf(fd) as buffer:
        assert buffer.readonly
        memory = buffer.map()
        assert memory.readonly
        with accessing([memory], writable=False):
            assert memory.view == DATA
        with pytest.raises(InvalidArgument, match="buffer is read-only"):
            RegisteredBuffer(buffer)
    os.close(fd)


def test_closed_it_stays_mapped_while_it_is_used(kernel: FakeDmaBufs, fd: int) -> None:
    before = descriptors()
    buffer = DmaBuf(fd)
    part = buffer[8:]
    registered = RegisteredBuffer(part)
    assert registered.nbytes == SIZE - 8
    memory = buffer.map()
    with accessing([memory], writable=True):
        buffer.close()
        buffer.close()
        memory.view[:3] = b"yes"
    assert kernel.load(fd, 3) == b"yes"
    for closed in (buffer, part, buffer[:4]):
        with pytest.raises(ValueError, match="is a dma-buf that was closed"):
            closed.map()
        with pytest.raises(InvalidArgument, match="buffer is a dma-buf that was closed"):
            RegisteredBuffer(closed)
    del memory
    assert descriptors() > before
    registered.release()
    assert descriptors() == before


def test_what_nothing_refers_to_is_closed(fd: int) -> None:
    before = descriptors()
    made = DmaBuf(fd)[4:8]
    assert descriptors() > before
    assert len(made.map()) == 4
    del made
    assert descriptors() == before


@pytest.mark.parametrize("part", [slice(None, None, 2), slice(None, None, -1)])
def test_parts_have_no_gaps(fd: int, part: slice) -> None:
    with DmaBuf(fd) as buffer:
        with pytest.raises(ValueError, match="a part of a dma-buf has step 1"):
            buffer[part]
        with pytest.raises(TypeError, match="told by a slice, not int"):
            buffer[0]  # type: ignore[index]


def test_an_access_that_cannot_be_begun_or_ended(kernel: FakeDmaBufs) -> None:
    fds = [kernel.make(DATA) for _ in range(2)]
    first, second = (DmaBuf(fd) for fd in fds)
    memories = [first.map(), second.map()]
    kernel.failing = {READ | WRITE}
    with (
        pytest.raises(FS3Error, match="access to a dma-buf cannot be begun: Input/output error"),
        accessing(memories, writable=True),
    ):
        pytest.fail("it was not begun")
    kernel.failing = {READ | END}
    with (
        pytest.raises(FS3Error, match="access to a dma-buf cannot be ended") as caught,
        accessing(memories, writable=False),
    ):
        pass
    assert caught.value.errno == errno.EIO
    kernel.failing = set()
    kernel.syncs.clear()
    with pytest.raises(KeyError), accessing(memories, writable=True):
        raise KeyError
    assert kernel.syncs == [READ | WRITE] * 2 + [READ | WRITE | END] * 2
    for fd in fds:
        os.close(fd)


def test_a_forked_child_has_the_same_memory(kernel: FakeDmaBufs, fd: int) -> None:
    with DmaBuf(fd) as buffer:
        child = os.fork()
        if not child:
            memory = buffer.map()
            memory.view[:5] = b"child"
            buffer.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0
        memory = buffer.map()  # closed by the child, for the child
        assert memory.view[:5] == b"child"


def test_it_is_device_memory_that_needs_no_copier(fd: int) -> None:
    with DmaBuf(fd) as buffer:
        assert is_on_device(buffer)
        memory = device_memory(buffer)
        assert memory is not None
        assert copier_for([memory]) is None
        assert not are_in_host_memory([(memoryview(b""), memory)])
        del memory


def test_asked_again_when_a_signal_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [errno.EINTR, errno.EAGAIN, 0, *[errno.EAGAIN] * 1000]

    def ioctl(fd: int, number: int, argument: bytes) -> bytes:
        assert (fd, number, argument) == (7, 0x40086200, bytes([5, 0, 0, 0, 0, 0, 0, 0]))
        problem = answers.pop(0)
        if problem:
            raise OSError(problem, os.strerror(problem))
        return argument

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    LinuxDmaBufs().sync(7, READ | END)
    with pytest.raises(OSError, match="asked 1000 times"):
        LinuxDmaBufs().sync(7, READ | END)
    assert answers == []


@pytest.mark.skipif(bool(real_dma_buf_problem()), reason=f"no dma-buf here: {real_dma_buf_problem()}")
def test_real_ones() -> None:
    fd = make_real_dma_buf(SIZE)
    with DmaBuf(fd, 5000, 17) as buffer, DmaBuf(fd) as whole:
        assert whole.nbytes == SIZE
        memory, all_of_it = buffer.map(), whole.map()
        with accessing([memory, all_of_it], writable=True):
            memory.view[:] = DATA[:5000]
        with accessing([all_of_it], writable=False):
            assert all_of_it.view == bytes(17) + DATA[:5000] + bytes(SIZE - 5017)
        with pytest.raises(InvalidArgument, match="1 to 1 of the dma-buf"):
            DmaBuf(fd, 2, SIZE - 1)
    os.close(fd)
