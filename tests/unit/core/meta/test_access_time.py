"""When a read shows in the access time, and that it shows in nothing else."""

import pytest
from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta.access_time import access_time_age_ns, is_access_due
from fs3.core.meta.ops.setattr import set_attributes


def test_the_first_read_after_a_change_shows_and_the_next_ones_do_not(space):
    made = space.file("f")
    read = space.do(set_attributes, "f", accessed=True)
    assert read.atime_ns == space.wall > made.atime_ns
    assert space.do(set_attributes, "f", accessed=True) == read
    changed = space.do(set_attributes, "f", mode=0o600)
    again = space.do(set_attributes, "f", accessed=True)
    assert again.atime_ns == space.wall
    assert (again.ctime_ns, again.mtime_ns, again.change) == (changed.ctime_ns, changed.mtime_ns, changed.change)


def test_a_day_later_a_read_shows_again(space):
    space.file("f")
    read = space.do(set_attributes, "f", accessed=True)
    space.wall += access_time_age_ns - 2000
    assert space.do(set_attributes, "f", accessed=True) == read
    assert space.do(set_attributes, "f", accessed=True).atime_ns == space.wall


def test_whoever_may_read_is_enough(space):
    space.file("f", 0o604)
    assert space.do(set_attributes, "f", user=space.eve, accessed=True).atime_ns == space.wall
    space.file("g", 0o640)
    space.refused(Code.ACCESS, set_attributes, "g", user=space.eve, accessed=True)


@pytest.mark.parametrize(
    ("atime", "mtime", "ctime", "due"),
    [(5, 4, 4, False), (5, 5, 4, True), (5, 4, 5, True), (5, 9, 4, True), (5, 4, 9, True)],
)
def test_an_access_is_due_when_something_changed_since_the_last_one(space, atime, mtime, ctime, due):
    inode = replace(space.file("f"), atime_ns=atime, mtime_ns=mtime, ctime_ns=ctime)
    assert is_access_due(inode, 10) is due
    assert is_access_due(inode, 5 + access_time_age_ns)
