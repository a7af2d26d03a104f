"""Permission bits: one class applies, and only that."""

import pytest

from fs3.base.ids import InodeId, TableId
from fs3.base.status import Code
from fs3.core.meta import access
from fs3.core.meta.errors import MetaError
from fs3.model.inode import Inode, InodeType, Layout, User

OWNER, MEMBER, SECOND, STRANGER, ROOT = User(1, 9), User(2, 7), User(3, 9, (8, 7)), User(4, 9, (8,)), User(0, 0)


def inode(mode, uid=1, gid=7):
    return Inode(InodeId(5), InodeType.FILE, mode, uid, gid, 1, 0, 0, 0, 0, 0, 1, InodeId(0), Layout(TableId(0), 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "group", "others"),
    [
        (0o000, 0, 0, 0),
        (0o700, 7, 0, 0),
        (0o070, 0, 7, 0),
        (0o007, 0, 0, 7),
        (0o421, 4, 2, 1),
        (0o7642, 6, 4, 2),
    ],
)
def test_exactly_one_class_applies(mode, owner, group, others):
    for user, bits in [(OWNER, owner), (MEMBER, group), (SECOND, group), (STRANGER, others), (ROOT, 7)]:
        for want in range(8):
            assert access.has_permission(user, inode(mode), want) == (want & ~bits == 0)


def test_require_says_access_and_owner_says_permission():
    with pytest.raises(MetaError) as caught:
        access.require(STRANGER, inode(0o770), access.READ, "p")
    assert (caught.value.code, caught.value.path) == (Code.ACCESS, "p")
    with pytest.raises(MetaError) as caught:
        access.require_owner(MEMBER, inode(0o777), "p")
    assert caught.value.code is Code.PERMISSION
    access.require_owner(OWNER, inode(0), "p")
    access.require_owner(ROOT, inode(0), "p")


@pytest.mark.parametrize(
    ("user", "owner_of_entry", "allowed"),
    [(OWNER, 3, True), (SECOND, 3, True), (ROOT, 3, True), (MEMBER, 3, False), (MEMBER, 2, True), (STRANGER, 1, False)],
)
def test_sticky_directories(user, owner_of_entry, allowed):
    directory = inode(0o1777, uid=1)
    if allowed:
        access.require_unlink(user, directory, owner_of_entry, "p")
    else:
        with pytest.raises(MetaError) as caught:
            access.require_unlink(user, directory, owner_of_entry, "p")
        assert caught.value.code is Code.PERMISSION
    access.require_unlink(user, inode(0o777), owner_of_entry, "p")


@pytest.mark.parametrize(
    ("mode", "after"), [(0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o6777, 0o777), (0o1777, 0o1777), (0o644, 0o644)]
)
def test_set_ids_end_with_the_content(mode, after):
    assert access.without_set_ids(mode) == after


@pytest.mark.parametrize(
    ("user", "directory_mode", "is_directory", "mode", "expected"),
    [
        (OWNER, 0o755, False, 0o644, (0o644, 9)),
        (OWNER, 0o2755, False, 0o644, (0o644, 7)),
        (OWNER, 0o2755, True, 0o755, (0o2755, 7)),
        (OWNER, 0o755, True, 0o755, (0o755, 9)),
        (STRANGER, 0o2777, False, 0o2755, (0o755, 7)),
        (MEMBER, 0o2777, False, 0o2755, (0o2755, 7)),
        (ROOT, 0o2777, False, 0o2755, (0o2755, 7)),
        (STRANGER, 0o2777, False, 0o2644, (0o2644, 7)),
        (OWNER, 0o755, False, 0o170644, (0o644, 9)),
    ],
)
def test_mode_and_group_of_what_is_new(user, directory_mode, is_directory, mode, expected):
    assert access.mode_of_new(user, inode(directory_mode), mode, is_directory=is_directory) == expected
