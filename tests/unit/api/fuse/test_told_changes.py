"""Which pages the kernel may keep."""

from msgspec.structs import replace

from fs3.api.fuse.told_changes import ToldChanges
from fs3.base.ids import InodeId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT)


def at(change: int) -> Inode:
    return replace(INODE, change=change)


def opens(told: ToldChanges, inode: Inode) -> bool:
    """By a program that reads it then."""
    is_kept = told.open(inode, 1)
    told.drop(inode.id, 1)
    return is_kept


def test_pages_stay_while_nothing_changed_but_by_us() -> None:
    told = ToldChanges()
    assert not opens(told, at(7))
    assert opens(told, at(7))
    told.change(at(8))
    told.change(at(9))
    assert opens(told, at(9))


def test_pages_go_when_another_client_changed_something_before_between_or_behind() -> None:
    for ours, found in (([9], 9), ([8, 10], 10), ([8], 9), ([], 8)):
        told = ToldChanges()
        opens(told, at(7))
        for change in ours:
            told.change(at(change))
        assert told.is_older(at(found))
        assert not opens(told, at(found))
        assert opens(told, at(found))


def test_what_the_kernel_forgot_or_has_wrong_is_not_kept() -> None:
    told = ToldChanges()
    told.begin(at(1))
    assert told.knows(InodeId(5))
    told.forget(InodeId(5))
    told.forget(InodeId(6))
    assert not told.knows(InodeId(5))
    assert not opens(told, at(1))


def test_pages_that_are_to_go_are_relied_on_by_none_until_they_have_gone() -> None:
    told = ToldChanges()
    assert not told.open(at(7), 1)
    assert not told.open(at(7), 2)
    assert told.is_older(at(7))
    told.drop(InodeId(5), 1)
    assert not told.open(at(7), 3)
    told.drop(InodeId(5), 2)
    told.drop(InodeId(5), 3)
    told.drop(InodeId(5), 3)
    assert told.open(at(7), 4)


def test_what_was_forgotten_on_our_word_has_gone() -> None:
    told = ToldChanges()
    told.open(at(7), 1)
    told.begin(at(8))
    assert told.open(at(8), 2)
    assert not told.is_older(at(8))
