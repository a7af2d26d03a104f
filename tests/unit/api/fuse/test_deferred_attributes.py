"""Attributes that wait for the bytes that are stored with them."""

import pytest
from msgspec.structs import replace

from fs3.api.fuse.deferred_attributes import DeferredAttributes
from fs3.base.ids import InodeId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import TIME_NOW, SetAttributes

INODE = Inode(InodeId(5), InodeType.FILE, 0o600, 1, 2, 1, 0, 3, 4, 0, 0, 7, InodeId(0), NO_LAYOUT)
HERE = SetAttributes(PathRef(InodeId(5), ""), follow=False)


def test_later_ones_go_over_earlier_ones() -> None:
    deferred = DeferredAttributes()
    assert deferred.add(INODE, replace(HERE, mode=0o640, uid=10)) == replace(INODE, mode=0o640, uid=10)
    assert deferred.add(INODE, replace(HERE, mode=0o644, mtime_ns=50)) == replace(INODE, mode=0o644, uid=10, mtime_ns=50)
    assert deferred.wanted == replace(HERE, mode=0o644, uid=10, mtime_ns=50)
    deferred.clear()
    assert deferred.wanted is None


def test_a_time_of_change_goes_when_bytes_are_written() -> None:
    deferred = DeferredAttributes()
    deferred.on_written()
    deferred.add(INODE, replace(HERE, atime_ns=0, mtime_ns=0))
    deferred.on_written()
    assert deferred.wanted == replace(HERE, atime_ns=0)
    deferred.clear()
    deferred.add(INODE, replace(HERE, mtime_ns=0))
    deferred.on_written()
    assert deferred.wanted is None


@pytest.mark.parametrize(
    ("inode", "wanted"),
    [
        (INODE, replace(HERE, mode=0o4755)),
        (replace(INODE, mode=0o2755), replace(HERE, uid=5)),
        (replace(INODE, xattr_bytes=10), replace(HERE, mode=0o600)),
        (INODE, replace(HERE, mtime_ns=TIME_NOW)),
        (INODE, replace(HERE, atime_ns=TIME_NOW, mtime_ns=1)),
    ],
)
def test_what_more_follows_from_does_not_wait(inode: Inode, wanted: SetAttributes) -> None:
    deferred = DeferredAttributes()
    assert deferred.add(inode, wanted) is None
    assert deferred.wanted is None


def test_what_waits_is_written_down() -> None:
    noted: list[SetAttributes | None] = []
    is_room = True

    def note(wanted: SetAttributes | None) -> bool:
        noted.append(wanted)
        return is_room

    deferred = DeferredAttributes(note)
    deferred.clear()
    deferred.add(INODE, replace(HERE, mode=0o640))
    deferred.add(INODE, replace(HERE, mtime_ns=50))
    deferred.on_written()
    deferred.on_written()
    deferred.clear()
    assert noted == [replace(HERE, mode=0o640), replace(HERE, mode=0o640, mtime_ns=50), replace(HERE, mode=0o640), None]
    is_room = False
    assert deferred.add(INODE, replace(HERE, mode=0o640)) is None
    assert deferred.wanted is None
    deferred.inherit(replace(HERE, uid=5))
    assert deferred.wanted == replace(HERE, uid=5)
