"""Files that are said to have no holes have none, as the checker of holes sees it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fs3.base.ids import ChainId, InodeId, TableId, file_chunk
from fs3.model.inode import Inode, InodeType, Layout, Trim
from fs3.sim.checkers.file_holes import explain

CHUNK = 1 << 16
LAYOUT = Layout(TableId(1), CHUNK, 2, (ChainId(1), ChainId(2)))
FILE = Inode(InodeId(7), InodeType.FILE, 0o644, 0, 0, 1, 2 * CHUNK + 10, 0, 0, 0, 0, 1, InodeId(0), LAYOUT)


def said(inode: Inode, *lengths: int) -> str:
    stored = {(file_chunk(inode.content_id, at), LAYOUT.chains[at % 2]): length for at, length in enumerate(lengths)}
    return explain([inode], lambda chunk, chain: stored.get((chunk, chain), 0))


def test_every_byte_before_the_end_is_there() -> None:
    assert said(FILE, CHUNK, CHUNK, 10) == ""
    assert said(FILE, CHUNK, CHUNK, 11) == "", "what lies behind the end is not looked at"


@pytest.mark.parametrize("lengths", [(CHUNK, CHUNK, 9), (CHUNK, CHUNK), (CHUNK, CHUNK - 1, 10), (0, CHUNK, 10)])
def test_a_hole_is_found(lengths: tuple[int, ...]) -> None:
    assert "is said to have no holes" in said(FILE, *lengths)


@pytest.mark.parametrize(
    "inode",
    [
        replace(FILE, has_holes=True),
        replace(FILE, nlink=0),
        replace(FILE, inline=True),
        replace(FILE, trim=Trim(1, 5)),
        replace(FILE, type=InodeType.DIRECTORY),
    ],
)
def test_what_says_nothing_of_holes(inode: Inode) -> None:
    assert said(inode) == ""
