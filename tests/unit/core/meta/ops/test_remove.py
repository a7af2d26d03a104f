"""Remove: unlink, rmdir, whole trees, and what is left to reclaim."""

import pytest

from fs3.base.status import Code
from fs3.core.meta.garbage import next_garbage
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.stat import stat
from fs3.model.namespace import PathRef, RemoveKind

FILE, DIRECTORY, TREE = RemoveKind


@pytest.fixture
def some(space):
    space.dir("d")
    space.file("f")
    space.dir("full/in", parents=True)
    space.file("full/f")
    space.link("to-d", "d")
    space.link("to-f", "f")
    space.link("dangling", "nowhere")
    return space


@pytest.mark.parametrize(
    ("path", "file", "directory", "tree"),
    [
        ("f", None, Code.NOT_A_DIRECTORY, None),
        ("f/", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("d", Code.IS_A_DIRECTORY, None, None),
        ("d/", Code.IS_A_DIRECTORY, None, None),
        ("full", Code.IS_A_DIRECTORY, Code.NOT_EMPTY, None),
        ("full/", Code.IS_A_DIRECTORY, Code.NOT_EMPTY, None),
        ("to-d", None, Code.NOT_A_DIRECTORY, None),
        ("to-d/", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("to-f", None, Code.NOT_A_DIRECTORY, None),
        ("dangling", None, Code.NOT_A_DIRECTORY, None),
        ("missing", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("missing/x", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("f/x", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("d/.", Code.INVALID, Code.INVALID, Code.INVALID),
        ("d/..", Code.INVALID, Code.INVALID, Code.INVALID),
        (".", Code.INVALID, Code.INVALID, Code.INVALID),
        ("/", Code.INVALID, Code.INVALID, Code.INVALID),
        ("", Code.INVALID, Code.INVALID, Code.INVALID),
        ("missing/.", Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND),
        ("n" * 256, Code.NAME_TOO_LONG, Code.NAME_TOO_LONG, Code.NAME_TOO_LONG),
    ],
)
@pytest.mark.parametrize("kind", list(RemoveKind))
def test_kinds(some, path, file, directory, tree, kind):
    expected = {FILE: file, DIRECTORY: directory, TREE: tree}[kind]
    if expected is not None:
        assert some.refused(expected, remove, path, kind).path == path
        return
    before, victim, root = some.tree(), some.stat(path.rstrip("/")), some.stat("")
    assert some.do(remove, path, kind) == victim.id
    name = path.rstrip("/")
    assert some.tree() == {entry for entry in before if entry.rstrip("/") != name and not entry.startswith(name + "/")}
    after = some.stat("")
    assert (after.length, after.mtime_ns, after.change) == (root.length - 1, some.wall, root.change + 1)
    assert root.nlink - after.nlink == (1 if victim.type == 2 else 0)
    if kind is not TREE:
        some.refused(Code.NOT_FOUND, stat, name, False)


def test_a_file_with_several_names(space):
    made = space.file("a", length=9)
    space.do(link, "a", "b")
    space.do(remove, "a", FILE)
    left = space.stat("b")
    assert (left.id, left.nlink, left.length) == (made.id, 1, 9)
    assert left.ctime_ns == space.wall
    assert left.mtime_ns == made.mtime_ns
    assert space.raw(lambda txn: next_garbage(txn, 9)) == []
    space.do(remove, "b", FILE)
    assert [inode.id for _, inode in space.raw(lambda txn: next_garbage(txn, 9))] == [made.id]
    assert space.by_id(made.id).nlink == 0


def test_symlinks_and_empty_directories_are_gone_at_once(space):
    ids = [space.link("s", "x").id, space.dir("d").id]
    space.do(remove, "s", FILE)
    space.do(remove, "d", DIRECTORY)
    for inode in ids:
        space.refused(Code.STALE, stat, PathRef(inode), False)


def test_permission_of_the_directory_decides(space):
    space.dir("d", 0o755, user=space.alice)
    space.file("d/f", 0o777, user=space.alice)
    space.dir("d/e", 0o777, user=space.alice)
    space.refused(Code.ACCESS, remove, "d/f", FILE, user=space.eve)
    space.refused(Code.ACCESS, remove, "d/e", DIRECTORY, user=space.eve)
    space.refused(Code.ACCESS, remove, "d/e", TREE, user=space.eve)
    space.dir("open", 0o777)
    space.file("open/f", 0, user=space.alice)
    space.do(remove, "open/f", FILE, user=space.eve)


def test_sticky(space):
    space.dir("tmp", 0o1777)
    for user in (space.alice, space.bob):
        space.file(f"tmp/{user.uid}", user=user)
        space.dir(f"tmp/d{user.uid}", user=user)
    space.refused(Code.PERMISSION, remove, "tmp/1000", FILE, user=space.bob)
    space.refused(Code.PERMISSION, remove, "tmp/d1000", DIRECTORY, user=space.bob)
    space.refused(Code.PERMISSION, remove, "tmp/d1000", TREE, user=space.bob)
    space.do(remove, "tmp/1000", FILE, user=space.alice)
    space.do(remove, "tmp/d1000", DIRECTORY, user=space.alice)
    space.do(remove, "tmp/1001", FILE, user=space.root)


def test_who_may_remove_a_tree(space):
    space.dir("share", 0o777)
    space.dir("share/t", 0o777, user=space.alice)
    space.dir("share/t/in", 0o700, user=space.bob)
    space.file("share/t/in/f", user=space.bob)
    space.dir("share/mine", 0o577, user=space.alice)
    space.file("share/mine/f")
    space.refused(Code.PERMISSION, remove, "share/t", TREE, user=space.bob)
    space.refused(Code.ACCESS, remove, "share/mine", TREE, user=space.alice)
    space.do(remove, "share/t", TREE, user=space.alice)
    space.do(remove, "share/mine", TREE, user=space.root)
    # Empty, it is an ordinary rmdir, for which owning it is not necessary.
    space.dir("share/empty", 0o700, user=space.alice)
    space.do(remove, "share/empty", TREE, user=space.eve)
    assert space.tree() == {"share/"}


def test_detaching_costs_the_same_however_much_is_below(space):
    written = []
    for width in (1, 200):
        space.dir(f"t{width}")
        for number in range(width):
            space.file(f"t{width}/{number}")
        before = dict(space.rows())
        space.do(remove, f"t{width}", TREE)
        after = dict(space.rows())
        written.append(sum(before.get(key) != after.get(key) for key in {*before, *after}))
    assert written[0] == written[1] <= 6


def test_a_repetition_removes_nothing_more(space):
    first = space.file("f").id
    assert space.do(remove, "f", FILE, seq=7) == first
    second = space.file("f")
    assert space.do(remove, "f", FILE, seq=7) == first
    assert space.stat("f") == second
