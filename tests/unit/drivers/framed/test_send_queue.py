"""The send queue: every byte in order through a socket that takes a little at a time, every `sent` exactly once."""

import os
import socket
import tempfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.drivers.framed.send_queue import FileEnded, OutgoingFrame, SendQueue
from fs3.ports.rpc import FileRange, Part

FILE = bytes(index * 7 % 251 for index in range(300_000))


def pair(buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


def drain(queue: SendQueue, ours: socket.socket, theirs: socket.socket, budget: int) -> bytes:
    """Send everything, receiving whenever the socket is full."""
    got = b""
    done = False
    while True:
        with suppress(BlockingIOError):
            done = queue.send(ours, budget)
        try:
            while piece := theirs.recv(1 << 20):
                got += piece
        except BlockingIOError:
            if done:
                return got


@settings(deadline=None)
@given(st.data())
def test_everything_arrives_in_order(data: st.DataObject) -> None:
    ours, theirs = pair(data.draw(st.sampled_from([1, 20_000, 1 << 20])))
    queue = SendQueue()
    whole = b""
    order: list[int] = []
    with ours, theirs, tempfile.TemporaryFile() as file:
        file.write(FILE)
        file.flush()
        for number in range(data.draw(st.integers(1, 6))):
            if data.draw(st.booleans()):
                small = FILE[: data.draw(st.integers(1, 100))]
                queue.add_small(small)
                whole += small
                continue
            parts: list[Part] = []
            length = 0
            for kind in data.draw(st.lists(st.sampled_from("mf"), min_size=1, max_size=5)):
                offset = data.draw(st.integers(0, 1000))
                size = data.draw(st.one_of(st.integers(0, 2000), st.integers(0, 200_000)))
                parts.append(FILE[offset : offset + size] if kind == "m" else FileRange(file.fileno(), offset, size))
                whole += FILE[offset : offset + size]
                length += size
            if length:
                queue.add(parts, length, lambda number=number: order.append(number))  # type: ignore[misc]
        assert queue.queued_bytes == len(whole)
        assert drain(queue, ours, theirs, data.draw(st.sampled_from([1000, 50_000, 1 << 20]))) == whole
        assert queue.queued_bytes == 0
        assert queue.sent_bytes == len(whole)
        assert order == sorted(order)
        assert len(order) == len(set(order))
        assert not queue


def test_what_is_dropped_is_let_go_once() -> None:
    ours, theirs = pair(20_000)
    gone: list[int] = []
    queue = SendQueue()
    with ours, theirs:
        queue.add((bytes(1000),), 1000, lambda: gone.append(1))
        queue.add((bytes(1_000_000),), 1_000_000, lambda: gone.append(2))
        queue.add((bytes(1000),), 1000, lambda: gone.append(3))
        with pytest.raises(BlockingIOError):
            queue.send(ours, 1 << 30)
        assert gone == [1]
        queue.drop()
        assert gone == [1, 2, 3]
        queue.drop()
        assert gone == [1, 2, 3]
        assert queue.queued_bytes == 0


def test_callbacks_may_queue_more_or_drop_everything() -> None:
    ours, theirs = pair(1 << 20)
    queue = SendQueue()
    with ours, theirs:
        queue.add((b"first",), 5, lambda: queue.add_small(b"second"))
        assert drain(queue, ours, theirs, 1000) == b"firstsecond"
        queue.add((b"third",), 5, queue.drop)
        queue.add((b"fourth",), 6, None)
        queue.send(ours, 1000)
        assert not queue


def test_a_failing_callback_spoils_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = pair(1 << 20)
    queue = SendQueue()
    with ours, theirs:
        queue.add((b"first",), 5, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        queue.add((b"second",), 6, None)
        assert drain(queue, ours, theirs, 1000) == b"firstsecond"
    assert "ZeroDivisionError" in caplog.text


def test_a_file_that_ends_is_noticed() -> None:
    ours, theirs = pair(1 << 20)
    queue = SendQueue()
    with ours, theirs, tempfile.TemporaryFile() as file:
        file.write(bytes(100))
        file.flush()
        queue.add((FileRange(file.fileno(), 0, 101),), 101, None)
        with pytest.raises(FileEnded, match="ends at byte 100, 1 bytes before"):
            queue.send(ours, 1000)


def test_files_of_which_nothing_can_be_sent_directly_are_read() -> None:
    file = os.open("/proc/self/cmdline", os.O_RDONLY)
    ours, theirs = pair(1 << 20)
    queue = SendQueue()
    try:
        with ours, theirs:
            text = os.pread(file, 20, 3)
            queue.add((b"<", FileRange(file, 3, 20), b">"), 22, None)
            assert drain(queue, ours, theirs, 1000) == b"<" + text + b">"
    finally:
        os.close(file)


def test_a_frame_that_has_begun_can_be_cut_loose_from_its_owner() -> None:
    ours, theirs = pair(20_000)
    queue = SendQueue()
    owned = bytearray(b"\1" * 500_000)
    with ours, theirs, tempfile.TemporaryFile() as file:
        file.write(b"\2" * 1000)
        file.flush()
        outgoing = queue.add((owned, FileRange(file.fileno(), 0, 1000)), 501_000, None)
        with pytest.raises(BlockingIOError):
            queue.send(ours, 1 << 30)
        assert outgoing.is_started
        outgoing.snapshot()
        owned[:] = bytes(len(owned))
        file.truncate(0)
        assert drain(queue, ours, theirs, 1 << 30) == b"\1" * 500_000 + b"\2" * 1000


def test_a_frame_that_has_not_begun_can_be_forgotten() -> None:
    ours, theirs = pair(1 << 20)
    queue = SendQueue()
    with ours, theirs:
        queue.add((b"first",), 5, None)
        second = queue.add((b"second", b"part"), 10, None)
        queue.add_small(b"third")
        queue.remove(second)
        assert queue.queued_bytes == 10
        assert drain(queue, ours, theirs, 1000) == b"firstthird"


def test_empty_parts_take_no_place() -> None:
    assert len(OutgoingFrame((b"", bytearray(), FileRange(0, 0, 0), b"x")).parts) == 1
