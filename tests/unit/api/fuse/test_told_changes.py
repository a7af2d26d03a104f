"""Which pages the kernel may keep."""

from msgspec.structs import replace

from fs3.api.fuse.told_changes import ToldChanges
from fs3.base.ids import InodeId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT)


def at(change: int) -> Inode:
    return replace(INODE, change=change)


def test_pages_stay_while_nothing_changed_but_by_us() -> None:
    told = ToldChanges()
    assert not told.open(at(7))
    assert told.open(at(7))
    told.change(at(8))
    told.change(at(9))
    assert told.open(at(9))


def test_pages_go_when_another_client_changed_something_before_between_or_behind() -> None:
    for ours, found in (([9], 9), ([8, 10], 10), ([8], 9), ([], 8)):
        told = ToldChanges()
        told.open(at(7))
        for change in ours:
            told.change(at(change))
        assert not told.open(at(found))
        assert told.open(at(found))


def test_what_the_kernel_forgot_or_has_wrong_is_not_kept() -> None:
    told = ToldChanges()
    told.begin(at(1))
    told.forget(InodeId(5))
    told.forget(InodeId(6))
    assert not told.open(at(1))
