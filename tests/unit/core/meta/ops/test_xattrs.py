"""Extended attributes and ACLs of a namespace."""

import struct

import pytest

from fs3.base.status import Code
from fs3.core.meta import garbage, keys
from fs3.core.meta.ops.append import append
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.get_xattr import get_xattr
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list_xattr import list_xattr
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.remove_xattr import remove_xattr
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.set_xattr import set_xattr
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import stat
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.xattrs import acl_entries_max, xattr_bytes_max, xattr_value_bytes_max, xattrs_max
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import AppendStep, XattrMode

ACL, DEFAULT, CAPABILITY = b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability"
NOBODY = 0xFFFFFFFF


def acl(owner, group, others, mask=None, users=(), groups=()):
    entries = [(1, owner, NOBODY), *[(2, bits, uid) for uid, bits in users], (4, group, NOBODY)]
    entries += [(8, bits, gid) for gid, bits in groups]
    entries += [] if mask is None else [(16, mask, NOBODY)]
    entries.append((32, others, NOBODY))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def names(space, path, user=None):
    return space.do(list_xattr, path, user=user)


# --- attributes ------------------------------------------------------------------------------------------------------


def test_attributes_are_set_read_listed_and_removed(space):
    before = space.file("f", user=space.alice)
    after = space.do(set_xattr, "f", b"user.b", b"1", user=space.alice)
    assert (after.change, after.mtime_ns) == (before.change + 1, before.mtime_ns)
    assert after.ctime_ns > before.ctime_ns
    space.do(set_xattr, "f", b"user.a\xff", b"")
    space.do(set_xattr, "f", b"user.b", b"two")
    assert names(space, "f") == [b"user.a\xff", b"user.b"]
    assert space.do(get_xattr, "f", b"user.b") == b"two"
    assert space.do(get_xattr, "f", b"user.a\xff") == b""
    assert space.stat("f").xattr_bytes == len(b"user.a\xffuser.btwo")
    space.do(remove_xattr, "f", b"user.b")
    assert names(space, "f") == [b"user.a\xff"]
    space.refused(Code.NO_ATTRIBUTE, remove_xattr, "f", b"user.b")
    space.refused(Code.NO_ATTRIBUTE, get_xattr, "f", b"user.b")
    space.do(remove_xattr, "f", b"user.a\xff")
    assert space.stat("f").xattr_bytes == 0


def test_create_and_replace_say_what_has_to_be_there(space):
    space.file("f")
    space.refused(Code.NO_ATTRIBUTE, set_xattr, "f", b"user.a", b"1", XattrMode.REPLACE)
    space.do(set_xattr, "f", b"user.a", b"1", XattrMode.CREATE)
    space.refused(Code.EXISTS, set_xattr, "f", b"user.a", b"2", XattrMode.CREATE)
    space.do(set_xattr, "f", b"user.a", b"3", XattrMode.REPLACE)
    assert space.do(get_xattr, "f", b"user.a") == b"3"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"", Code.INVALID),
        (b"user.", Code.INVALID),
        (b"trusted.", Code.INVALID),
        (b"user.a\0b", Code.INVALID),
        (b"color", Code.UNSUPPORTED),
        (b"users.a", Code.UNSUPPORTED),
        (b"system.other", Code.UNSUPPORTED),
        (b"user." + b"x" * 251, Code.ATTRIBUTE_NAME_TOO_LONG),
    ],
)
def test_what_cannot_be_a_name_is_refused(space, name, code):
    space.file("f")
    space.refused(code, set_xattr, "f", name, b"")
    space.refused(code, get_xattr, "f", name)
    space.refused(code, remove_xattr, "f", name)


def test_limits(space):
    space.file("f")
    longest = b"user." + b"x" * 250
    space.do(set_xattr, "f", longest, b"v" * xattr_value_bytes_max)
    assert space.do(get_xattr, "f", longest) == b"v" * xattr_value_bytes_max
    space.refused(Code.ATTRIBUTE_TOO_LARGE, set_xattr, "f", b"user.a", b"v" * (xattr_value_bytes_max + 1))
    left = xattr_bytes_max - space.stat("f").xattr_bytes - len(b"user.a")
    space.refused(Code.NO_SPACE, set_xattr, "f", b"user.a", b"v" * (left + 1))
    space.do(set_xattr, "f", b"user.a", b"v" * left)
    space.refused(Code.NO_SPACE, set_xattr, "f", b"user.b", b"")
    space.do(set_xattr, "f", b"user.a", b"")
    space.do(set_xattr, "f", b"user.b", b"")


def test_the_number_of_attributes_is_limited(space):
    space.file("f")
    for number in range(xattrs_max):
        space.do(set_xattr, "f", b"user.%d" % number, b"")
    space.refused(Code.NO_SPACE, set_xattr, "f", b"user.x", b"")
    space.do(set_xattr, "f", b"user.1", b"another value")
    space.do(remove_xattr, "f", b"user.2")
    space.do(set_xattr, "f", b"user.x", b"")
    assert len(names(space, "f")) == xattrs_max


def test_attributes_of_users_need_the_permissions_of_the_content(space):
    space.file("f", mode=0o640, user=space.alice)
    space.do(set_xattr, "f", b"user.a", b"1", user=space.alice)
    for op, args in ((set_xattr, (b"2",)), (remove_xattr, ())):
        space.refused(Code.ACCESS, op, "f", b"user.a", *args, user=space.bob)
    space.refused(Code.ACCESS, get_xattr, "f", b"user.a", user=space.eve)
    assert names(space, "f", space.eve) == [b"user.a"], "names are no secret"
    space.do(set_attributes, "f", gid=50, mode=0o660)
    space.do(set_xattr, "f", b"user.a", b"2", user=space.bob)
    assert space.do(get_xattr, "f", b"user.a", user=space.bob) == b"2"


def test_in_a_sticky_directory_only_its_owner_sets_its_attributes(space):
    space.dir("d", mode=0o1777, user=space.alice)
    space.refused(Code.PERMISSION, set_xattr, "d", b"user.a", b"1", user=space.bob)
    space.do(set_xattr, "d", b"user.a", b"1", user=space.alice)
    assert space.do(get_xattr, "d", b"user.a", user=space.bob) == b"1"


def test_symlinks_have_no_attributes_of_users(space):
    space.file("f")
    space.link("s", "f")
    space.do(set_xattr, "s", b"user.a", b"1")
    assert names(space, "f") == [b"user.a"], "a symlink is followed"
    space.refused(Code.PERMISSION, set_xattr, "s", b"user.a", b"1", follow=False)
    space.refused(Code.NO_ATTRIBUTE, get_xattr, "s", b"user.a", follow=False)
    space.refused(Code.UNSUPPORTED, set_xattr, "s", ACL, acl(6, 4, 0), follow=False)
    space.do(set_xattr, "s", b"trusted.a", b"1", follow=False)
    assert space.do(list_xattr, "s", follow=False) == [b"trusted.a"]
    space.do(remove, "s")
    assert not any(b"trusted" in key for key in space.keys_of(keys.XATTR))


def test_trusted_attributes_are_roots_and_seen_by_nobody_else(space):
    space.file("f", user=space.alice)
    space.do(set_xattr, "f", b"trusted.a", b"1")
    space.refused(Code.PERMISSION, set_xattr, "f", b"trusted.a", b"2", user=space.alice)
    space.refused(Code.PERMISSION, remove_xattr, "f", b"trusted.a", user=space.alice)
    space.refused(Code.NO_ATTRIBUTE, get_xattr, "f", b"trusted.a", user=space.alice)
    assert names(space, "f", space.alice) == []
    assert names(space, "f") == [b"trusted.a"]


def test_security_attributes_are_roots_and_read_by_all(space):
    space.file("f", mode=0o600, user=space.alice)
    space.do(set_xattr, "f", b"security.a", b"1")
    space.refused(Code.PERMISSION, set_xattr, "f", b"security.a", b"2", user=space.alice)
    assert space.do(get_xattr, "f", b"security.a", user=space.eve) == b"1"
    space.refused(Code.INVALID, set_xattr, "f", CAPABILITY, b"x" * 65)
    space.refused(Code.INVALID, set_xattr, "f", CAPABILITY, b"")


def test_a_request_that_is_repeated_answers_the_same(space):
    space.file("f")
    first = space.do(set_xattr, "f", b"user.a", b"1", XattrMode.CREATE, seq=7)
    assert space.do(set_xattr, "f", b"user.a", b"1", XattrMode.CREATE, seq=7) == first
    gone = space.do(remove_xattr, "f", b"user.a", seq=8)
    assert space.do(remove_xattr, "f", b"user.a", seq=8) == gone


# --- where attributes stay, and where they go -------------------------------------------------------------------------


def test_they_stay_with_the_inode(space):
    inode = space.do(put_file, "f", b"1")
    space.do(set_xattr, "f", b"user.a", b"1")
    space.do(link, "f", "g")
    space.do(set_xattr, "g", b"user.b", b"1")
    assert names(space, "f") == [b"user.a", b"user.b"]
    space.do(rename, PathRef(path="f"), PathRef(path="h"))
    space.do(put_file, "h", b"other")
    opened = space.open("", unnamed=True)
    space.do(close_file, opened.inode.id, opened.session, length=9, publish="g")
    space.open("g", truncate=True)
    assert names(space, "h") == [b"user.a", b"user.b"]
    assert space.stat("h").id == inode.id
    assert space.do(get_xattr, PathRef(inode.id), b"user.a") == b"1", "by its id"


def test_a_rename_over_a_file_leaves_those_of_the_other_behind(space):
    space.do(put_file, "old", b"1")
    space.do(set_xattr, "old", b"user.old", b"1")
    space.do(put_file, "new", b"1")
    space.do(set_xattr, "new", b"user.new", b"1")
    space.do(rename, PathRef(path="new"), PathRef(path="old"))
    assert names(space, "old") == [b"user.new"]
    assert len(space.keys_of(keys.XATTR)) == 1


def test_rows_go_with_what_is_removed(space):
    space.do(put_file, "small", b"1")
    space.file("large", length=1 << 21)
    space.dir("d")
    for path in ("small", "large", "d"):
        space.do(set_xattr, path, b"user.a", b"1")
    space.do(remove, "small")
    space.do(remove, "d", RemoveKind.DIRECTORY)
    space.do(remove, "large")
    assert len(space.keys_of(keys.XATTR)) == 1, "what is queued has them still"
    ((row, _),) = space.raw(lambda txn: garbage.next_garbage(txn, 9))
    space.raw(lambda txn: garbage.delete_file(txn, row))
    assert not space.keys_of(keys.XATTR)


def test_rows_of_a_tree_go_in_small_steps(space, monkeypatch):
    monkeypatch.setattr(garbage, "attribute_rows_max", 2)
    space.dir("t/in", parents=True)
    for path in ("t", "t/in"):
        space.do(set_xattr, path, b"user.a", b"1")
    for number in range(6):
        space.do(put_file, f"t/{number}", b"1")
        for name in (b"user.a", b"user.b"):
            space.do(set_xattr, f"t/{number}", name, b"1")
    space.do(remove, "t", RemoveKind.TREE)
    steps = 0
    while space.do(garbage.dismantle, 100):
        steps += 1
        assert space.problems() == []
    assert steps >= 3
    assert not space.keys_of(keys.XATTR)


# --- capabilities -----------------------------------------------------------------------------------------------------


def changes(space, path):
    """All ways to change the content of a file, as root."""
    inode = space.stat(path)
    opened = space.open(path)
    yield lambda: space.do(sync, inode.content_id, opened.session, modified=True)
    yield lambda: space.do(sync, inode.content_id, opened.session, length=5 << 20)
    yield lambda: space.do(close_file, inode.content_id, opened.session, modified=True)
    yield lambda: space.do(truncate, inode.content_id, 6 << 20)
    yield lambda: space.do(set_attributes, path, uid=1000)
    yield lambda: space.do(set_attributes, path, gid=1000)
    yield lambda: space.open(path, truncate=True)
    yield lambda: space.do(put_file, path, b"small")
    yield lambda: space.do(truncate, space.stat(path).content_id, 2)
    appending = space.open(path, append=True)
    yield lambda: space.do(append, appending.inode.content_id, appending.session, AppendStep.INLINE, data=b"more")
    yield lambda: space.do(put_file, PathRef(inode.id), b"by its id")
    unnamed = space.open("", unnamed=True)
    yield lambda: space.do(close_file, unnamed.inode.id, unnamed.session, length=9, publish=path)


def test_a_capability_goes_when_the_content_or_the_owner_changes(space):
    space.file("f", length=1 << 20)
    space.do(set_xattr, "f", b"user.a", b"1")
    for number, change in enumerate(changes(space, "f")):
        space.do(set_xattr, "f", CAPABILITY, b"\1\0\0\2" + bytes(16))
        change()
        assert names(space, "f") == [b"user.a"], number
        assert space.problems() == []


def test_a_capability_stays_when_only_the_mode_or_a_name_changes(space):
    space.file("f")
    space.do(set_xattr, "f", CAPABILITY, b"cap")
    space.do(set_attributes, "f", mode=0o755, mtime_ns=1)
    space.do(link, "f", "g")
    opened = space.open("f")
    space.do(close_file, opened.inode.content_id, opened.session)
    assert space.do(get_xattr, "g", CAPABILITY) == b"cap"
    space.dir("d")
    space.do(set_xattr, "d", CAPABILITY, b"cap")
    space.do(set_attributes, "d", uid=1000)
    assert names(space, "d") == [CAPABILITY]


# --- ACLs -------------------------------------------------------------------------------------------------------------


def test_an_acl_and_the_mode_say_the_same(space):
    space.file("f", mode=0o4640, user=space.alice)
    value = acl(7, 5, 1, mask=6, users=[(space.eve.uid, 6)])
    assert space.do(set_xattr, "f", ACL, value, user=space.alice).mode == 0o4761
    assert space.do(get_xattr, "f", ACL, user=space.eve) == value
    assert names(space, "f", space.eve) == [ACL]
    space.do(set_attributes, "f", mode=0o640, user=space.alice)
    assert space.do(get_xattr, "f", ACL) == acl(6, 5, 0, mask=4, users=[(space.eve.uid, 6)])
    space.do(remove_xattr, "f", ACL, user=space.alice)
    assert space.stat("f").mode == 0o640
    assert names(space, "f") == []
    space.do(remove_xattr, "f", ACL)


def test_a_minimal_acl_is_a_mode(space):
    space.file("f")
    assert space.do(set_xattr, "f", ACL, acl(7, 5, 1)).mode == 0o751
    assert names(space, "f") == []
    space.refused(Code.NO_ATTRIBUTE, get_xattr, "f", ACL)
    space.do(set_xattr, "f", ACL, acl(6, 4, 0, mask=4))
    assert names(space, "f") == [ACL], "a mask is more than a mode says"
    space.do(set_xattr, "f", ACL, b"")
    assert names(space, "f") == []


def test_who_sets_an_acl(space):
    space.file("f", mode=0o777, user=space.alice)
    space.refused(Code.PERMISSION, set_xattr, "f", ACL, acl(7, 7, 7), user=space.bob)
    for name in (ACL, DEFAULT):
        space.refused(Code.PERMISSION, remove_xattr, "f", name, user=space.bob)
    for user in (space.alice, space.bob):
        space.refused(Code.ACCESS, set_xattr, "f", DEFAULT, acl(7, 7, 7), user=user)
    space.do(set_xattr, "f", DEFAULT, b"", user=space.alice)
    space.refused(Code.INVALID, set_xattr, "f", ACL, b"nonsense", user=space.alice)
    many = acl(7, 7, 7, mask=7, users=[(number, 7) for number in range(acl_entries_max - 4)])
    space.do(set_xattr, "f", ACL, many, user=space.alice)
    more = acl(7, 7, 7, mask=7, users=[(number, 7) for number in range(acl_entries_max - 3)])
    space.refused(Code.NO_SPACE, set_xattr, "f", ACL, more, user=space.alice)


def test_who_is_outside_the_group_loses_its_bit_with_an_acl(space):
    space.file("f", user=space.alice)
    space.do(set_attributes, "f", gid=77, mode=0o2770)
    assert space.do(set_xattr, "f", ACL, acl(7, 7, 0)).mode == 0o2770
    assert space.do(set_xattr, "f", ACL, acl(7, 7, 0), user=space.alice).mode == 0o770


def test_directories_of_a_path_are_searched_by_their_acls(space):
    space.dir("d/e", parents=True, user=space.alice)
    space.file("d/e/f", user=space.alice)
    space.do(set_xattr, "d", ACL, acl(7, 0, 0, mask=1, users=[(space.eve.uid, 1)]), user=space.alice)
    assert space.do(stat, "d/e/f", user=space.eve).uid == space.alice.uid
    space.refused(Code.ACCESS, stat, "d/e/f", user=space.bob)
    space.refused(Code.ACCESS, mkdir, "d/new", user=space.eve)
    space.do(set_xattr, "d", ACL, acl(7, 0, 0, mask=0, users=[(space.eve.uid, 1)]), user=space.alice)
    space.refused(Code.ACCESS, stat, "d/e/f", user=space.eve)


def test_supplementary_groups_count(space):
    space.file("f", mode=0o600, user=space.eve)
    space.do(set_xattr, "f", ACL, acl(6, 0, 0, mask=6, groups=[(50, 6)]), user=space.eve)
    assert space.do(open_file, "f", write=True, user=space.bob).session
    assert space.do(open_file, "f", user=space.alice)


DEFAULT_ACL = acl(7, 5, 0, mask=7, users=[(1002, 7)])


def test_a_default_acl_is_inherited_and_the_umask_is_not_taken_off(space):
    space.dir("d", mode=0o777, user=space.alice)
    space.do(set_xattr, "d", DEFAULT, DEFAULT_ACL, user=space.alice)
    assert space.stat("d").mode == 0o777, "it says nothing of the directory itself"
    file = space.open("d/f", create=True, mode=0o666, umask=0o077, user=space.bob).inode
    assert file.mode == 0o660
    assert space.do(get_xattr, "d/f", ACL) == acl(6, 5, 0, mask=6, users=[(1002, 7)])
    made = space.dir("d/e/g", mode=0o777, parents=True, umask=0o077)
    assert made.mode == 0o770
    for path in ("d/e", "d/e/g"):
        assert space.do(get_xattr, path, DEFAULT) == DEFAULT_ACL
        assert space.do(get_xattr, path, ACL) == DEFAULT_ACL
    for path, make in (
        ("d/p", lambda: space.do(put_file, "d/p", b"1", mode=0o600, umask=0o077)),
        ("d/u", lambda: publish(space, space.open("d", unnamed=True, mode=0o600, umask=0o077), "d/u")),
    ):
        assert make().mode == 0o600
        assert space.do(get_xattr, path, ACL) == acl(6, 5, 0, mask=0, users=[(1002, 7)]), path
    space.link("d/s", "f")
    assert space.do(list_xattr, "d/s", follow=False) == []
    deep = space.do(put_file, "d/x/y", b"1", mode=0o666, parents_mode=0o777, umask=0o077)
    assert (deep.mode, space.stat("d/x").mode) == (0o660, 0o770)


def publish(space, opened, path):
    return space.do(close_file, opened.inode.id, opened.session, publish=path)


def test_without_a_default_acl_the_umask_is_taken_off(space):
    assert space.open("f", create=True, mode=0o666, umask=0o027).inode.mode == 0o640
    assert space.do(put_file, "p", b"1", mode=0o666, umask=0o027).mode == 0o640
    assert space.dir("d", mode=0o777, umask=0o027).mode == 0o750
    assert space.dir("x/y", mode=0o777, parents=True, umask=0o777).mode == 0
    assert space.stat("x").mode == 0o300, "who makes directories can go on in them"
    space.do(rename, PathRef(path="f"), PathRef(path="r/f"), parents_mode=0o777, umask=0o022)
    assert space.stat("r").mode == 0o755


def test_a_minimal_default_acl_is_kept_and_gives_a_mode(space):
    space.dir("d")
    space.do(set_xattr, "d", DEFAULT, acl(7, 4, 0))
    assert space.open("d/f", create=True, mode=0o666, umask=0o077).inode.mode == 0o640
    assert names(space, "d/f") == []
    assert names(space, "d") == [DEFAULT]


def test_a_file_that_takes_the_place_of_another_gets_its_acl(space):
    space.dir("d", mode=0o777)
    space.do(put_file, "d/f", b"secret", mode=0o600, user=space.alice)
    value = acl(6, 0, 0, mask=4, users=[(space.bob.uid, 4)])
    space.do(set_xattr, "d/f", ACL, value, user=space.alice)
    space.do(set_xattr, "d/f", b"user.a", b"1", user=space.alice)
    after = space.do(put_file, "d/f", b"mine", mode=0o666, user=space.bob)
    assert (after.uid, after.mode) == (space.bob.uid, 0o640)
    assert names(space, "d/f") == [ACL], "it is another file"
    assert space.do(get_xattr, "d/f", ACL) == value
