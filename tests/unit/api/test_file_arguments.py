"""Arguments callers hand in, and what a handle knows of its file."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import pytest

from fs3.api.file import File, check_length, check_range
from fs3.api.io.buffers import source_of, target_of
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChainId, InodeId, SessionId, TableId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout


def inode(length: int) -> Inode:
    layout = Layout(TableId(1), 1 << 20, 1, (ChainId(1),))
    return Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, length, 0, 0, 0, 0, 1, InodeId(0), layout)


@pytest.mark.parametrize("data", [b"abcd", bytearray(b"abcd"), memoryview(b"ab" * 4)[:4], array("H", [1, 2])])
def test_sources_are_seen_as_flat_bytes(data: Any) -> None:
    view = source_of(data, "/x")
    assert (view.format, view.ndim, len(view)) == ("B", 1, 4)
    assert bytes(view) == memoryview(data).tobytes()


def test_shapes_and_emptiness() -> None:
    matrix = memoryview(bytearray(24)).cast("d", (3, 1))
    assert len(target_of(matrix, "/x")) == 24
    assert len(source_of(memoryview(bytearray(0)).cast("I"), "/x")) == 0


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (b"abcd", "buffer is read-only"),
        (memoryview(bytearray(8))[::2], "buffer is not contiguous"),
        ("text", "buffer is not bytes-like but str"),
        (None, "buffer is not bytes-like but NoneType"),
    ],
)
def test_bad_targets_are_named(buffer: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        target_of(buffer, "/x")
    assert caught.value.filename == "/x"


def test_ranges() -> None:
    assert check_range(True, 5, "/x") == 1
    assert check_range(file_bytes_max - 5, 5, "/x") == file_bytes_max - 5
    for offset, message in ((-1, "negative"), (0.5, "not an integer"), ("1", "not an integer")):
        with pytest.raises(InvalidArgument, match=f"offset.*{message}"):
            check_range(offset, 0, "/x")
    for call in (lambda: check_range(file_bytes_max, 1, "/x"), lambda: check_length(file_bytes_max + 1, "/x")):
        with pytest.raises(FS3Error) as caught:
            call()
        assert caught.value.code is Code.FILE_TOO_LARGE


def test_length_is_what_was_published_or_acknowledged() -> None:
    file = File(inode(100), "/x", SessionId(1))
    assert (file.length, file.acknowledged, file.modified) == (100, 0, False)
    file.begin_write()
    file.end_write(50)
    assert (file.length, file.acknowledged, file.modified) == (100, 50, True)
    file.begin_write()
    file.end_write(170)
    assert file.length == 170
    file.on_told(inode(120))
    assert (file.length, file.acknowledged, file.modified) == (120, 120, False)


def test_a_write_that_stored_nothing_changes_nothing() -> None:
    file = File(inode(3), "/x", SessionId(1))
    file.begin_write()
    file.end_write(0)
    assert (file.length, file.modified) == (3, False)


async def test_waiting_for_writes() -> None:
    file = File(inode(0), "/x", SessionId(1))
    await file.wait_written()
    file.begin_write()
    file.begin_write()
    waiting = [asyncio.ensure_future(file.wait_written()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one that gives up does not take the others along
    file.end_write(1)
    await asyncio.sleep(0)
    assert not waiting[1].done()
    file.end_write(2)
    await waiting[1]


def test_states() -> None:
    reader = File(inode(0), "/x")
    reader.check_open()
    with pytest.raises(InvalidArgument, match="reading only"):
        reader.check_writable()
    reader.closed = True
    with pytest.raises(InvalidArgument, match="closed"):
        reader.check_open()
    assert "/x" in repr(reader)
