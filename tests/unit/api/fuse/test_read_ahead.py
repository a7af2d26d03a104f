"""Reading ahead of programs that read large pieces past the kernel's memory."""

from typing import Any, cast

import pytest
from msgspec.structs import replace

from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.read_ahead import ReadAhead, ahead_valid_ns
from fs3.base.errors import error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

SIZE = 100
INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT)


class Opened:
    """A file whose bytes say by which version they were read, and where."""

    def __init__(self) -> None:
        self.inode = INODE
        self.length = 10 * SIZE
        self.writers = 0
        self.reads: list[int] = []
        self.failures: list[int] = []

    async def read(self, offset: int, size: int) -> bytes:
        self.reads.append(offset)
        if offset in self.failures:
            self.failures.remove(offset)
            raise error(Code.DISK, "cannot be read")
        return b"%d at %d" % (self.inode.change, offset)


class Clock:
    """Stands still unless it is told to move."""

    ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def opened() -> Opened:
    return Opened()


def ahead_of(opened: Any, clock: Clock | None = None) -> ReadAhead:
    return ReadAhead(cast("OpenInode", opened), clock or Clock())


async def test_the_next_piece_is_fetched_while_one_is_read(opened: Opened) -> None:
    ahead = ahead_of(opened)
    for at in range(0, 10 * SIZE, SIZE):
        assert await ahead.read(at, SIZE) == b"7 at %d" % at
    assert sorted(opened.reads) == list(range(0, 10 * SIZE, SIZE)), "each piece once, and none behind the end"


async def test_reads_here_and_there_fetch_what_they_ask_for(opened: Opened) -> None:
    ahead = ahead_of(opened)
    for at in (500, 100, 300, 0):
        assert await ahead.read(at, SIZE) == b"7 at %d" % at
    assert opened.reads == [500, 100, 300, 0]


@pytest.mark.parametrize("why", ["changed", "replaced", "written", "late"])
async def test_a_piece_that_may_be_old_is_read_anew(opened: Opened, why: str) -> None:
    clock = Clock()
    ahead = ahead_of(opened, clock)
    await ahead.read(0, SIZE)
    await ahead.read(100, SIZE)
    match why:
        case "changed":
            opened.inode = replace(INODE, change=8)
        case "replaced":
            opened.inode = replace(INODE, content=InodeId(9))
        case "written":
            opened.writers = 1
        case "late":
            clock.ns += ahead_valid_ns + 1
    opened.reads.clear()
    assert await ahead.read(200, SIZE) == b"%d at 200" % opened.inode.change
    assert 200 in opened.reads


async def test_a_piece_that_could_not_be_read_is_asked_for_again(opened: Opened) -> None:
    ahead = ahead_of(opened)
    opened.failures = [200, 400, 400]
    for at in (0, 100, 200, 300):
        assert await ahead.read(at, SIZE) == b"7 at %d" % at
    with pytest.raises(OSError, match="cannot be read"):
        await ahead.read(400, SIZE)


async def test_a_handle_that_is_closed_leaves_nothing(opened: Opened) -> None:
    ahead = ahead_of(opened)
    await ahead.read(0, SIZE)
    await ahead.read(100, SIZE)
    ahead.close()
    ahead.close()
    await ahead.read(200, SIZE)
