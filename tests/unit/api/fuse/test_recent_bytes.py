"""Bytes of small files that were closed."""

from msgspec.structs import replace

from fs3.api.fuse.recent_bytes import RecentBytes
from fs3.base.ids import InodeId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType


def inode(number: int, change: int = 1) -> Inode:
    return Inode(InodeId(number), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, change, InodeId(0), NO_LAYOUT, inline=True)


def test_bytes_are_those_of_one_change() -> None:
    recent = RecentBytes()
    assert recent.find(inode(5)) is None
    recent.keep(inode(5), b"first")
    assert recent.find(inode(5)) == b"first"
    assert recent.find(inode(5, change=2)) is None
    recent.keep(inode(5, change=2), b"")
    assert recent.find(inode(5)) is None
    assert recent.find(replace(inode(5, change=2), nlink=2)) == b""
    recent.forget(InodeId(5))
    assert recent.find(inode(5, change=2)) is None


def test_the_oldest_go_when_there_is_no_room() -> None:
    recent = RecentBytes(room=10)
    for number in range(1, 6):
        recent.keep(inode(number), b"abc")
    recent.keep(inode(4), b"a")
    assert [recent.find(inode(number)) for number in range(1, 6)] == [None, None, b"abc", b"a", b"abc"]
    recent.keep(inode(9), b"more than there is room for")
    assert all(recent.find(inode(number)) is None for number in range(1, 10))
    recent.keep(inode(1), b"0123456789")
    assert recent.find(inode(1)) == b"0123456789"
