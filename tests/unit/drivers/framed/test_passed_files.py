"""Replies whose bytes a client of the same host copies from the server's files."""

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.drivers.framed import passed_files
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.passed_files import FilePasser, PassedFiles, PlacesCopy
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Call, Channel, FileRange, Part
from fs3.runtime.bulk_work import bulk_slice_bytes, bulk_work_of, receive_slice_bytes
from fs3.sim.conformance.transport_harness import PULL, failure, pattern
from fs3.wire.frames import HEADER_BYTES, FrameKind, pack, unpack
from fs3.wire.pb import storage_pb2
from fs3.wire.places import Place, pack_places

LENGTH = 4 * MIB


class Library:
    """A handler whose replies lie in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parts: list[Part] = []
        self.sent = 0
        self._open: list[int] = []

    def add(self, name: str, data: bytes) -> int:
        """A file, open for reading and writing."""
        path = self.directory / name
        path.write_bytes(data)
        self._open.append(os.open(path, os.O_RDWR))
        return self._open[-1]

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)

    def __call__(self, call: Call) -> None:
        call.reply(storage_pb2.ReadReply(), self.parts, self._on_sent)

    def _on_sent(self) -> None:
        self.sent += 1


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def serving(library: Library, transport: LocalTransport | None = None) -> AsyncIterator[Channel]:
    transport = transport or LocalTransport(OsClock())
    listener = await transport.serve(f"local://{library.directory}/socket", {PULL: library})
    channel = transport.connect(listener.endpoint)
    try:
        yield channel
    finally:
        await channel.close()
        await listener.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def read(channel: Channel, length: int) -> bytes:
    into = memoryview(bytearray(length))

    def provide(message: Any, arriving: int) -> list[memoryview]:
        assert arriving == length
        return [into[:100], into[100 : length // 2], into[length // 2 :]]

    await channel.start(PULL, storage_pb2.ReadRequest(), (), provide)
    return bytes(into)


def passed_to_this_process(name: str) -> list[int]:
    """Descriptors of a file that may only be read: the server here has others."""
    found: list[int] = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").endswith(f"/{name}"):
                found.append(int(entry))
        except FileNotFoundError:
            continue
    return [fd for fd in found if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY]


async def test_a_file_is_passed_once_for_reading_only_and_closed_with_the_connection(library: Library) -> None:
    data = pattern(LENGTH)
    fd = library.add("blocks", data)
    library.parts = [FileRange(fd, 7, LENGTH - 7)]
    async with serving(library) as channel:
        for _ in range(3):
            assert await read(channel, LENGTH - 7) == data[7:]
        (passed,) = passed_to_this_process("blocks")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(passed, b"x", 0)
        assert not os.get_inheritable(passed)
    assert library.sent == 3
    assert passed_to_this_process("blocks") == []


async def test_memory_and_files_are_joined_in_order(library: Library) -> None:
    first, second = pattern(LENGTH, 1), pattern(LENGTH, 2)
    one, two = library.add("one", first), library.add("two", second)
    ranges = [b"head", FileRange(one, 3, 200 * KIB), bytearray(b"between"), FileRange(two, MIB, 9), FileRange(one, 0, 5), b"tail"]
    library.parts = list(ranges)
    whole = b"head" + first[3 : 3 + 200 * KIB] + b"between" + second[MIB : MIB + 9] + first[:5] + b"tail"
    async with serving(library) as channel:
        assert await read(channel, len(whole)) == whole
        assert len(passed_to_this_process("one")) == len(passed_to_this_process("two")) == 1


async def test_short_payloads_and_other_users_get_them_by_the_socket(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pattern(LENGTH)
    library.parts = [FileRange(library.add("blocks", data), 0, passed_files.places_bytes_min - 1)]
    async with serving(library) as channel:
        assert await read(channel, passed_files.places_bytes_min - 1) == data[: passed_files.places_bytes_min - 1]
        assert passed_to_this_process("blocks") == []
    library.parts = [FileRange(library.parts[0].fd, 0, LENGTH)]  # type: ignore[union-attr]
    own = os.geteuid()
    monkeypatch.setattr("fs3.drivers.framed.local._credentials", lambda sock: (1, own + 1))
    monkeypatch.setattr(LocalTransport, "_check_listener", staticmethod(lambda endpoint, sock: sock))
    async with serving(library) as channel:
        assert await read(channel, LENGTH) == data
        assert passed_to_this_process("blocks") == []


async def test_a_descriptor_number_that_is_used_again_is_another_file(library: Library) -> None:
    """A store was closed and opened anew: the number says nothing."""
    old, new = pattern(LENGTH, 1), pattern(LENGTH, 2)
    fd = library.add("blocks", old)
    library.parts = [FileRange(fd, 0, LENGTH)]
    async with serving(library) as channel:
        assert await read(channel, LENGTH) == old
        os.unlink(library.directory / "blocks")
        (library.directory / "blocks").write_bytes(new)
        again = os.open(library.directory / "blocks", os.O_RDWR)
        os.dup2(again, fd)
        os.close(again)
        assert await read(channel, LENGTH) == new


async def test_more_files_than_are_passed_come_by_the_socket(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_files, "passed_files_max", 2)
    data = [pattern(LENGTH, seed) for seed in range(4)]
    fds = [library.add(f"blocks-{seed}", data[seed]) for seed in range(4)]
    async with serving(library) as channel:
        for _ in range(2):
            for seed in range(4):
                library.parts = [FileRange(fds[seed], 0, LENGTH)]
                assert await read(channel, LENGTH) == data[seed]
        assert [len(passed_to_this_process(f"blocks-{seed}")) for seed in range(4)] == [1, 1, 0, 0]


async def test_a_client_without_a_descriptor_left_is_told_and_served_by_the_socket(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system then drops the descriptor and says that something is missing (MSG_CTRUNC), as it does without room for it."""
    data = pattern(LENGTH)
    library.parts = [FileRange(library.add("blocks", data), 0, LENGTH)]
    monkeypatch.setattr(passed_files, "_ANCILLARY_BYTES", 0)
    async with serving(library) as channel:
        outcome = await failure(channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [memoryview(bytearray(LENGTH))]))
        assert outcome.code is Code.BUSY
        assert "ulimit -n" in str(outcome)
        assert await read(channel, LENGTH) == data
        assert passed_to_this_process("blocks") == []


def test_a_descriptor_that_is_lost_gives_its_number_to_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame of the first file is received in two pieces, the second of which comes with the descriptor of the second file."""
    server, client = socket.socketpair()
    fds = []
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(name.encode())
        fds.append(os.open(tmp_path / name, os.O_RDONLY))
    passer, files = FilePasser(server), PassedFiles(client)
    view = memoryview(bytearray(4096))
    with server, client:
        assert passer.locate([FileRange(fds[0], 0, 5)], may_pass=True)
        monkeypatch.setattr(passed_files, "_ANCILLARY_BYTES", 0)
        assert files.recv_into(view[:4]) == 4
        monkeypatch.undo()
        assert files.is_full
        assert passer.locate([FileRange(fds[1], 0, 6)], may_pass=True)
        left = 2 * HEADER_BYTES - 4
        while left:
            left -= files.recv_into(view)
        files.on_file(1)
        files.on_file(2)
        target = memoryview(bytearray(5))
        for number in (1, 2):
            copy = PlacesCopy(files, [Place(number, 5, 0)], memoryview(b""), [target])
            assert copy.step(5)
            assert copy.problem is not None
            assert copy.problem.code is Code.BUSY
        files.close()
    for name, fd in zip(("first", "second"), fds, strict=True):
        os.close(fd)
        assert passed_to_this_process(name) == []


async def test_places_are_copied_in_steps(library: Library) -> None:
    """Steps end within a buffer, within a place, and between two."""
    first, second = pattern(300 * KIB, 1), pattern(90 * KIB, 2)
    files = [library.add("one", first), library.add("two", second)]
    server, client = socket.socketpair()
    with server, client:
        passed = PassedFiles(client)
        passed._files = {1: files[0], 2: files[1]}
        places = [Place(1, 300 * KIB - 5, 5), Place(0, 7, 0), Place(2, 90 * KIB, 0)]
        into = bytearray(390 * KIB + 2)
        whole = memoryview(into)
        targets = [whole[: 10 * KIB], whole[10 * KIB : 11 * KIB], whole[11 * KIB :]]
        copy = PlacesCopy(passed, places, memoryview(b"between"), targets)
        steps = 0
        while not copy.step(64 * KIB):
            steps += 1
            assert sum(map(bool, into)) <= (64 * KIB + 7) * steps
        assert copy.problem is None
        assert into == first[5:] + b"between" + second
        assert steps == 6


async def test_a_large_reply_is_copied_in_slices_while_short_reads_are_under_way(library: Library) -> None:
    """What is asked by another connection is answered in between; what follows on the same one keeps its order."""
    data = pattern(LENGTH)
    library.parts = [FileRange(library.add("blocks", data), 0, LENGTH)]
    work = bulk_work_of(asyncio.get_running_loop())
    into = memoryview(bytearray(LENGTH))
    async with serving(library) as channel:
        await read(channel, LENGTH)  # the file is passed
        work.short_reads += 1
        ended: list[str] = []
        bulk = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [into])
        bulk.add_done_callback(lambda _: ended.append("bulk"))
        await until(lambda: any(into[: 64 * KIB]))
        library.parts = []
        behind = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [])
        behind.add_done_callback(lambda _: ended.append("behind it"))
        turns = 0
        while not bulk.done():
            await asyncio.sleep(0)
            turns += 1
        assert LENGTH // bulk_slice_bytes - 2 <= turns
        await behind
        work.short_reads -= 1
        assert ended == ["bulk", "behind it"]
        assert into == data


@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_a_call_that_ends_between_two_slices_leaves_the_buffer_alone(library: Library, end: str) -> None:
    data = b"x" * LENGTH
    library.parts = [FileRange(library.add("blocks", data), 0, LENGTH)]
    work = bulk_work_of(asyncio.get_running_loop())
    into = memoryview(bytearray(LENGTH))
    async with serving(library) as channel:
        await read(channel, LENGTH)
        work.short_reads += 1
        bulk = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [into])
        await until(lambda: any(into[: 64 * KIB]))
        if end == "cancelled":
            bulk.cancel()
        else:
            await channel.close()
            assert (await failure(bulk)).code is Code.DISCONNECTED
        so_far = bytes(into)
        assert so_far != data
        await until(lambda: not work._due)
        work.short_reads -= 1
        assert bytes(into) == so_far
        if end == "cancelled":
            assert await read(channel, LENGTH) == data


async def test_less_is_taken_from_a_socket_in_one_turn_while_short_reads_are_under_way(library: Library) -> None:
    data = pattern(LENGTH)
    library.parts = [data]
    work = bulk_work_of(asyncio.get_running_loop())
    into = memoryview(bytearray(LENGTH))
    async with serving(library, LocalTransport(OsClock(), passes_files=False)) as channel:
        work.short_reads += 1
        bulk = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [into])
        received = 0
        while not bulk.done():
            await asyncio.sleep(0)
            connection = channel._connection  # type: ignore[attr-defined]
            if connection is not None:
                assert connection.received_bytes - received <= 2 * receive_slice_bytes  # a frame's beginning comes by itself
                received = connection.received_bytes
        work.short_reads -= 1
        assert into == data


async def test_a_file_that_has_become_shorter_is_a_failure_of_the_disk(library: Library) -> None:
    fd = library.add("blocks", pattern(LENGTH))
    library.parts = [FileRange(fd, 0, LENGTH)]
    async with serving(library) as channel:
        os.ftruncate(fd, MIB)
        outcome = await failure(channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [memoryview(bytearray(LENGTH))]))
        assert outcome.code is Code.DISK
        assert f"ends before byte {LENGTH}" in str(outcome)
        os.ftruncate(fd, LENGTH)
        assert await read(channel, LENGTH)


async def test_a_caller_that_has_given_up_keeps_its_buffers(library: Library) -> None:
    library.parts = [FileRange(library.add("blocks", pattern(LENGTH)), 0, LENGTH)]
    into = bytearray(LENGTH)
    async with serving(library) as channel:
        await read(channel, LENGTH)
        given_up = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [memoryview(into)])
        given_up.cancel()
        refused = channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
        with pytest.raises(ZeroDivisionError):
            await refused
        assert await read(channel, LENGTH) == pattern(LENGTH)
        assert not any(into)


FILE, PLACES = FrameKind.FILE.value, FrameKind.PLACES.value


def places(listed: bytes, request_id: int = 1) -> bytes:
    return pack(PLACES, PULL.id, request_id, 0, len(listed)) + listed


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (pack(FILE, 0, 1, 0), "file 1 came without a descriptor"),
        (pack(FILE, 0, 0, 0), "file 0 was passed already, or is none"),
        (pack(FILE, 0, 1_000, 0), "file 1000 was passed already, or is none"),
        (pack(FILE, 0, 1, 0, 1) + b"x", "a server sends no frames of kind 5"),
        (pack(PLACES, PULL.id, 1, 0), "a server sends no frames of kind 6"),
        (places(b"\5\0\0\0\0\0\0\0"), "5 places in a list of 8 bytes"),
    ],
)
async def test_a_server_that_makes_no_sense(tmp_path: Path, said: bytes, why: str) -> None:
    outcome = await answer_by_hand(tmp_path, said)
    assert outcome.code is Code.PROTOCOL
    assert why in str(outcome)


async def test_a_place_in_a_file_that_was_not_passed(tmp_path: Path) -> None:
    outcome = await answer_by_hand(tmp_path, places(pack_places([Place(3, 10, 0)])))
    assert outcome.code is Code.BUSY


async def answer_by_hand(directory: Path, said: bytes) -> FS3Error:
    """What comes of a read that a server answers with these bytes."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frame = unpack(await reader.readexactly(HEADER_BYTES))
        assert frame.code == 1
        writer.write(said)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_unix_server(answer, str(directory / "socket")):
        channel = LocalTransport(OsClock()).connect(f"local://{directory}/socket")
        outcome = await failure(channel.start(PULL, storage_pb2.ReadRequest(), (), lambda _, n: [memoryview(bytearray(n))]))
        await channel.close()
        await ended.wait()
    return outcome


async def test_descriptors_that_belong_to_no_frame_are_closed_in_the_end(tmp_path: Path) -> None:
    """A server that passes one beside a reply."""
    (tmp_path / "stray").write_bytes(b"")
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(HEADER_BYTES)
        sock: socket.socket = writer.get_extra_info("socket")
        stray = os.open(tmp_path / "stray", os.O_RDONLY)
        socket.send_fds(socket.socket(fileno=os.dup(sock.fileno())), [pack(FrameKind.REPLY.value, PULL.id, 1, 0)], [stray])
        os.close(stray)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_unix_server(answer, str(tmp_path / "socket")):
        channel = LocalTransport(OsClock()).connect(f"local://{tmp_path}/socket")
        await channel.start(PULL, storage_pb2.ReadRequest(), (), lambda *_: [])
        assert len(passed_to_this_process("stray")) == 1
        await channel.close()
        assert passed_to_this_process("stray") == []
        await ended.wait()
