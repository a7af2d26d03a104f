"""SetAttr and truncate."""

import pytest

from fs3.base.ids import ChainId, InodeId, TableId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.truncate import truncate
from fs3.model.inode import Layout, User
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import TIME_NOW


def test_nothing_asked_changes_nothing(space):
    made = space.file("f")
    rows = space.rows()
    assert space.do(set_attributes, "f") == made
    assert space.rows() == rows


def test_ctime_and_change_advance(space):
    made = space.file("f")
    after = space.do(set_attributes, "f", mode=0o600)
    assert space.stat("f") == after
    assert (after.ctime_ns, after.change, after.mtime_ns, after.mode) == (space.wall, made.change + 1, made.mtime_ns, 0o600)


@pytest.mark.parametrize(
    ("user", "mode", "expected"),
    [
        ("alice", 0o600, 0o600),
        ("alice", 0o7777, 0o7777),
        ("alice", 0o100644, 0o644),
        ("root", 0o2755, 0o2755),
        ("bob", 0o600, Code.PERMISSION),
        ("eve", 0o600, Code.PERMISSION),
    ],
)
def test_chmod(space, user, mode, expected):
    for path in ("f", "d"):
        space.file(path, 0o777, user=space.alice) if path == "f" else space.dir(path, 0o777, user=space.alice)
        if isinstance(expected, Code):
            space.refused(expected, set_attributes, path, mode=mode, user=getattr(space, user))
        else:
            assert space.do(set_attributes, path, mode=mode, user=getattr(space, user)).mode == expected


def test_set_group_id_needs_the_group(space):
    space.file("f", user=space.alice)
    space.do(set_attributes, "f", gid=77)
    assert space.do(set_attributes, "f", mode=0o2755, user=space.alice).mode == 0o755
    assert space.do(set_attributes, "f", mode=0o2755).mode == 0o2755


@pytest.mark.parametrize(
    ("user", "uid", "gid", "code"),
    [
        ("root", 5, 6, None),
        ("root", 5, None, None),
        ("alice", 1000, None, None),
        ("alice", None, 50, None),
        ("alice", 1000, 50, None),
        ("alice", None, 1000, None),
        ("alice", None, 77, Code.PERMISSION),
        ("alice", 1001, None, Code.PERMISSION),
        ("alice", 1001, 50, Code.PERMISSION),
        ("bob", 1001, None, Code.PERMISSION),
        ("bob", None, 50, Code.PERMISSION),
        ("bob", 1000, 1000, Code.PERMISSION),
    ],
)
def test_chown(space, user, uid, gid, code):
    space.file("f", 0o6755, user=space.alice)
    space.dir("d", 0o2755, user=space.alice)
    if code:
        space.refused(code, set_attributes, "f", uid=uid, gid=gid, user=getattr(space, user))
        return
    after = space.do(set_attributes, "f", uid=uid, gid=gid, user=getattr(space, user))
    assert (after.uid, after.gid, after.mode) == (1000 if uid is None else uid, 1000 if gid is None else gid, 0o755)
    assert space.do(set_attributes, "d", uid=uid, gid=gid, user=getattr(space, user)).mode == 0o2755


def test_chown_and_chmod_together(space):
    space.file("f", 0o4755, user=space.alice)
    assert space.do(set_attributes, "f", gid=50, mode=0o4711, user=space.alice).mode == 0o4711
    # Whoever gives a file away may still say in the same breath what its mode is to be.
    after = space.do(set_attributes, "f", uid=1001, mode=0o600)
    assert (after.uid, after.mode) == (1001, 0o600)


def test_times(space):
    made = space.file("f", user=space.alice)
    after = space.do(set_attributes, "f", atime_ns=-5, mtime_ns=7, user=space.alice)
    assert (after.atime_ns, after.mtime_ns, after.ctime_ns) == (-5, 7, space.wall)
    after = space.do(set_attributes, "f", mtime_ns=TIME_NOW, user=space.alice)
    assert (after.atime_ns, after.mtime_ns) == (-5, space.wall)
    assert after.birth_ns == made.birth_ns
    for value in (1 << 63, -(1 << 63) - 1):
        space.refused(Code.INVALID, set_attributes, "f", mtime_ns=value, user=space.alice)
        space.refused(Code.INVALID, set_attributes, "f", atime_ns=value, user=space.alice)


@pytest.mark.parametrize(
    ("mode", "user", "explicit", "now"),
    [
        (0o644, "alice", None, None),
        (0o444, "alice", None, None),
        (0o646, "eve", Code.PERMISSION, None),
        (0o644, "eve", Code.PERMISSION, Code.ACCESS),
        (0o000, "root", None, None),
    ],
)
def test_who_sets_times(space, mode, user, explicit, now):
    space.file("f", mode, user=space.alice)
    cases = [
        ({"mtime_ns": 5}, explicit),
        ({"atime_ns": 5, "mtime_ns": TIME_NOW}, explicit),
        ({"atime_ns": TIME_NOW}, now),
        ({"atime_ns": TIME_NOW, "mtime_ns": TIME_NOW}, now),
    ]
    for options, code in cases:
        if code:
            space.refused(code, set_attributes, "f", user=getattr(space, user), **options)
        else:
            space.do(set_attributes, "f", user=getattr(space, user), **options)


def test_following(space):
    space.file("f", 0o600)
    space.link("s", "f")
    assert space.do(set_attributes, "s", mode=0o640).id == space.stat("f").id
    space.refused(Code.UNSUPPORTED, set_attributes, "s", mode=0o600, follow=False)
    assert space.do(set_attributes, "s", uid=9, follow=False).id == space.stat("s").id
    assert (space.stat("s").uid, space.stat("f").uid) == (9, 0)
    assert space.do(set_attributes, PathRef(space.stat("f").id), mode=0o611) == space.stat("f")
    space.refused(Code.NOT_FOUND, set_attributes, "missing", mode=0)


def test_one_refusal_refuses_everything(space):
    space.file("f", user=space.alice)
    space.refused(Code.PERMISSION, set_attributes, "f", mode=0o600, uid=1001, user=space.alice)
    space.refused(Code.NOT_A_DIRECTORY, set_attributes, "f", mode=0o600, layout=Layout(TableId(0), 0, 0))


def test_the_layout_of_a_directory(space):
    space.dir("d", user=space.alice)
    space.dir("d/before", user=space.alice)
    old = space.file("d/old", user=space.alice)
    asked = Layout(TableId(2), 1 << 18, 1)
    assert space.do(set_attributes, "d", layout=asked, user=space.alice).layout == asked
    new = space.file("d/new", user=space.alice).layout
    assert (new.table, new.chunk_size, new.stripe) == (2, 1 << 18, 1)
    assert space.stat("d/old").layout == old.layout
    assert space.stat("d/before").layout == Layout(TableId(0), 0, 0)
    space.do(set_attributes, "d", layout=Layout(TableId(0), 0, 0), user=space.alice)
    assert space.file("d/default", user=space.alice).layout.table == 1
    space.refused(Code.PERMISSION, set_attributes, "d", layout=asked, user=space.bob)
    space.refused(Code.NO_TABLE, set_attributes, "d", layout=Layout(TableId(9), 0, 0))
    space.refused(Code.INVALID, set_attributes, "d", layout=Layout(TableId(0), 100_000, 0))
    space.refused(Code.INVALID, set_attributes, "d", layout=Layout(TableId(0), 0, 0, (ChainId(101),)))


# --- truncate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 50, 1000, file_bytes_max])
def test_truncate(space, length):
    made = space.file("f", length=50)
    after = space.do(truncate, made.id, length)
    assert space.stat("f") == after
    assert (after.length, after.mtime_ns, after.ctime_ns, after.change) == (length, space.wall, space.wall, made.change + 1)


def test_truncate_is_refused(space):
    made = space.file("f", 0o640, user=space.alice)
    space.refused(Code.INVALID, truncate, made.id, -1)
    space.refused(Code.FILE_TOO_LARGE, truncate, made.id, file_bytes_max + 1)
    space.refused(Code.STALE, truncate, InodeId(99), 0)
    space.refused(Code.STALE, truncate, InodeId(0), 0)
    space.refused(Code.IS_A_DIRECTORY, truncate, InodeId(1), 0)
    space.refused(Code.INVALID, truncate, space.link("s", "f").id, 0)
    space.refused(Code.ACCESS, truncate, made.id, 0, user=space.bob)
    space.do(remove, "f", RemoveKind.FILE)
    space.refused(Code.STALE, truncate, made.id, 0, user=space.alice)


def test_a_writer_may_truncate_what_it_could_not_open_again(space):
    space.file("f", user=space.alice)
    for _ in range(70):  # more than one page of sessions before its own
        space.open("f", client=space.other)
    opened = space.open("f", user=space.alice)
    space.do(set_attributes, "f", mode=0o444)
    assert space.do(truncate, opened.inode.id, 5, user=space.alice).length == 5
    space.refused(Code.ACCESS, truncate, opened.inode.id, 0, user=space.alice, client=b"client-number-99")
    space.do(remove, "f", RemoveKind.FILE)
    assert space.do(truncate, opened.inode.id, 6, user=space.alice).length == 6
    space.do(close_file, opened.inode.id, opened.session)
    space.refused(Code.STALE, truncate, opened.inode.id, 0)


def test_truncating_ends_set_ids(space):
    made = space.file("f", 0o6777, user=space.alice)
    assert space.do(truncate, made.id, 0, user=User(5, 5)).mode == 0o777


def test_a_repetition_changes_nothing_more(space):
    made = space.file("f", length=5)
    first = space.do(truncate, made.id, 3, seq=1)
    space.finish_trim(first)
    space.do(truncate, made.id, 9, seq=2)
    assert space.do(truncate, made.id, 3, seq=1) == first
    assert space.stat("f").length == 9
    changed = space.do(set_attributes, "f", mode=0o600, seq=3)
    assert space.do(set_attributes, "f", mode=0o600, seq=3) == changed


def test_the_time_of_birth_stays(space):
    made = space.file("f")
    assert made.birth_ns <= made.ctime_ns
    space.do(set_attributes, "f", mode=0o600, atime_ns=1, mtime_ns=1)
    space.do(truncate, made.content_id, 3)
    assert space.stat("f").birth_ns == made.birth_ns
