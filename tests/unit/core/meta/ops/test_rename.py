"""Rename: replace, NOREPLACE, EXCHANGE, loops, and everything that must follow a directory that moves."""

import pytest

from fs3.base import limits
from fs3.base.status import Code
from fs3.core.meta.garbage import dismantle, next_garbage
from fs3.core.meta.ops import rename as module
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.resolve import path_depth_max
from fs3.model.inode import InodeType
from fs3.model.namespace import PathRef, RemoveKind, RenameMode

REPLACE, NOREPLACE, EXCHANGE = RenameMode


@pytest.fixture
def some(space):
    """d (empty), e (empty), full/{in/deep, f}, f, g, h = second name of f, s -> f, to-full -> full."""
    space.dir("d")
    space.dir("e")
    space.dir("full/in/deep", parents=True)
    for path in ("full/f", "f", "g"):
        space.file(path)
    space.do(link, "f", "h")
    space.link("s", "f")
    space.link("to-full", "full")
    return space


@pytest.mark.parametrize(
    ("source", "target", "replace", "noreplace", "exchange"),
    [
        # Nothing there yet.
        ("f", "new", None, None, Code.NOT_FOUND),
        ("f", "d/new", None, None, Code.NOT_FOUND),
        ("f", "new/", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_FOUND),
        ("d", "new/", None, None, Code.NOT_FOUND),
        ("d/", "new", None, None, Code.NOT_FOUND),
        ("full", "d/new", None, None, Code.NOT_FOUND),
        ("s", "d/new", None, None, Code.NOT_FOUND),
        ("f", "to-full/new", None, None, Code.NOT_FOUND),
        # Something there.
        ("f", "g", None, Code.EXISTS, None),
        ("f", "s", None, Code.EXISTS, None),
        ("s", "f", None, Code.EXISTS, None),
        ("f", "full/f", None, Code.EXISTS, None),
        ("f", "d", Code.IS_A_DIRECTORY, Code.EXISTS, None),
        ("d", "f", Code.NOT_A_DIRECTORY, Code.EXISTS, None),
        ("d", "s", Code.NOT_A_DIRECTORY, Code.EXISTS, None),
        ("s", "d", Code.IS_A_DIRECTORY, Code.EXISTS, None),
        ("d", "e", None, Code.EXISTS, None),
        ("d/", "e/", None, Code.EXISTS, None),
        ("full", "d", None, Code.EXISTS, None),
        ("d", "full", Code.NOT_EMPTY, Code.EXISTS, None),
        ("d", "full/in", Code.NOT_EMPTY, Code.EXISTS, None),
        ("d", "full/in/deep", None, Code.EXISTS, None),
        ("f", "d/", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        # The same.
        ("f", "f", None, Code.EXISTS, None),
        ("d", "d", None, Code.EXISTS, None),
        ("d", "d/", None, Code.EXISTS, None),
        ("f", "h", None, Code.EXISTS, None),
        ("f", "./d/../f", None, Code.EXISTS, None),
        # Into itself.
        ("full", "full/new", Code.WOULD_LOOP, Code.WOULD_LOOP, Code.NOT_FOUND),
        ("full", "full/in", Code.WOULD_LOOP, Code.EXISTS, Code.WOULD_LOOP),
        ("full", "full/f", Code.WOULD_LOOP, Code.EXISTS, Code.WOULD_LOOP),
        ("full", "full/in/deep/new", Code.WOULD_LOOP, Code.WOULD_LOOP, Code.NOT_FOUND),
        ("full", "to-full/in/new", Code.WOULD_LOOP, Code.WOULD_LOOP, Code.NOT_FOUND),
        ("full/in", "full", Code.NOT_EMPTY, Code.EXISTS, Code.WOULD_LOOP),
        ("full/in/deep", "full", Code.NOT_EMPTY, Code.EXISTS, Code.WOULD_LOOP),
        ("full/f", "full", Code.IS_A_DIRECTORY, Code.EXISTS, Code.WOULD_LOOP),
        # Not there, or no name.
        ("missing", "new", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("missing", "f", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("f", "missing/new", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("f/", "new", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("to-full/", "new", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("f", "g/new", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("d/.", "new", Code.INVALID, Code.INVALID, Code.INVALID),
        ("d/..", "new", Code.INVALID, Code.INVALID, Code.INVALID),
        ("/", "new", Code.INVALID, Code.INVALID, Code.INVALID),
        ("d", ".", Code.INVALID, Code.INVALID, Code.INVALID),
        ("d", "full/..", Code.INVALID, Code.INVALID, Code.INVALID),
        ("d", "", Code.INVALID, Code.INVALID, Code.INVALID),
        ("f", "n" * 256, Code.NAME_TOO_LONG, Code.NAME_TOO_LONG, Code.NAME_TOO_LONG),
        ("f", "a\0", Code.INVALID, Code.INVALID, Code.INVALID),
    ],
)
@pytest.mark.parametrize("mode", list(RenameMode))
def test_cases(some, source, target, replace, noreplace, exchange, mode):
    expected = {REPLACE: replace, NOREPLACE: noreplace, EXCHANGE: exchange}[mode]
    if expected is not None:
        assert some.refused(expected, rename, source, target, mode).path in (source, target)
        return
    moved = some.stat(source.rstrip("/"))
    there = some.stat(target.rstrip("/")) if mode is EXCHANGE else None
    rows = some.rows()
    answer = some.do(rename, source, target, mode)
    assert some.stat(target.rstrip("/")) == answer
    assert answer.id == moved.id
    if there is not None:
        assert some.stat(source.rstrip("/")).id == there.id
    if some.rows() == rows:  # two names of one file
        assert there is None or there.id == moved.id
        assert answer == moved
    else:
        assert (answer.ctime_ns, answer.mtime_ns, answer.change) == (some.wall, moved.mtime_ns, moved.change + 1)
        assert some.stat("").mtime_ns == some.wall or "/" in target.strip("/")


def test_a_directory_that_moves_takes_everything_along(some):
    full = some.stat("full")
    some.do(rename, "full", "d/moved")
    assert some.stat("d/moved/in/deep").type is InodeType.DIRECTORY
    assert some.stat("d/moved/..") == some.stat("d")
    assert some.stat("d/moved").parent == some.stat("d").id
    assert some.stat(PathRef(full.id, "../..")) == some.stat("")
    assert (some.stat("d").nlink, some.stat("").nlink) == (3, 4)


def test_parents_follow_an_exchange(some):
    some.do(rename, "full/in", "f", EXCHANGE)
    assert (some.stat("full/in").type, some.stat("f").type) == (InodeType.FILE, InodeType.DIRECTORY)
    assert some.stat("f").parent == 1
    assert (some.stat("full").nlink, some.stat("full").length) == (2, 2)
    some.do(rename, "d", "f/deep", EXCHANGE)
    assert some.stat("f/deep").parent == some.stat("f").id
    assert some.stat("d").parent == 1


def test_what_is_replaced_is_given_up(some):
    old = some.stat("g")
    some.do(rename, "full/f", "g")
    some.do(rename, "f", "s")
    some.do(rename, "h", "g")
    queued = [inode.id for _, inode in some.raw(lambda txn: next_garbage(txn, 9))]
    assert queued[0] == old.id
    assert len(queued) == 2


def test_a_replaced_file_keeps_its_other_names(some):
    some.do(rename, "g", "h")
    assert some.stat("f").nlink == 1
    assert some.raw(lambda txn: next_garbage(txn, 9)) == []


def test_permission(space):
    space.dir("mine", 0o755, user=space.alice)
    space.dir("shared", 0o777)
    space.file("mine/f", user=space.alice)
    space.file("shared/f", user=space.alice)
    space.dir("shared/d", 0o755, user=space.alice)
    space.refused(Code.ACCESS, rename, "mine/f", "shared/new", user=space.eve)
    space.refused(Code.ACCESS, rename, "shared/f", "mine/new", user=space.eve)
    space.refused(Code.ACCESS, rename, "shared/f", "mine/f", user=space.eve)
    # A directory that gets another parent has its ".." changed, for which one must be able to write it.
    space.dir("elsewhere", 0o777)
    space.refused(Code.ACCESS, rename, "shared/d", "elsewhere/d", user=space.eve)
    space.file("elsewhere/x", user=space.eve)
    space.refused(Code.ACCESS, rename, "elsewhere/x", "shared/d", EXCHANGE, user=space.eve)
    space.do(rename, "shared/d", "shared/e", user=space.eve)
    space.do(rename, "shared/e", "elsewhere/d", user=space.alice)
    space.do(rename, "shared/f", "shared/g", user=space.eve)


def test_sticky(space):
    space.dir("tmp", 0o1777)
    space.dir("open", 0o777)
    space.file("tmp/alice", user=space.alice)
    space.file("tmp/bob", user=space.bob)
    space.file("open/bob", user=space.bob)
    space.refused(Code.PERMISSION, rename, "tmp/alice", "tmp/x", user=space.bob)
    space.refused(Code.PERMISSION, rename, "tmp/alice", "open/x", user=space.bob)
    space.refused(Code.PERMISSION, rename, "open/bob", "tmp/alice", user=space.bob)
    space.refused(Code.PERMISSION, rename, "tmp/bob", "tmp/alice", EXCHANGE, user=space.bob)
    space.do(rename, "tmp/bob", "tmp/x", user=space.bob)
    space.do(rename, "open/bob", "tmp/y", user=space.bob)
    space.do(rename, "tmp/alice", "tmp/x", user=space.root)


def test_into_and_out_of_detached_trees(space):
    space.dir("t/in/deep", parents=True)
    space.file("t/in/f")
    space.dir("d")
    top, inside = space.stat("t").id, space.stat("t/in").id
    space.do(remove, "t", RemoveKind.TREE)
    space.refused(Code.NOT_FOUND, rename, "d", PathRef(top, "d"))
    space.refused(Code.NOT_FOUND, rename, "d", PathRef(inside, "d"))
    space.refused(Code.NOT_FOUND, rename, "d", PathRef(inside, "deep"), EXCHANGE)
    # Whoever still stands in it may save what it holds, until it is dismantled.
    space.do(rename, PathRef(inside, "f"), "saved")
    while space.do(dismantle, 10):
        pass
    assert space.tree() == {"d/", "saved"}


def test_the_search_for_loops_is_limited(space, monkeypatch):
    monkeypatch.setattr(module, "ancestors_max", 5)
    assert limits.ancestors_max > path_depth_max
    space.dir("a/b/c/d/e/f", parents=True)
    space.dir("m")
    space.refused(Code.NAME_TOO_LONG, rename, "m", "a/b/c/d/e/f/m")
    space.do(rename, "m", "a/b/c/d/m")
    space.file("x")
    space.do(rename, "x", "a/b/c/d/e/f/x")


def test_a_repetition_moves_nothing_more(space):
    space.file("a")
    moved = space.do(rename, "a", "b", seq=5)
    assert space.do(rename, "a", "b", seq=5) == moved
    again = space.file("a")
    assert space.do(rename, "a", "b", seq=5) == moved
    assert space.stat("a") == again
