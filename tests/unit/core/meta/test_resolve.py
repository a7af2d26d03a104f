"""Paths: what they name, and what they are refused with."""

import pytest

from fs3.base.ids import InodeId
from fs3.base.limits import name_bytes_max, symlinks_followed_max
from fs3.base.status import Code
from fs3.core.meta import keys
from fs3.core.meta.errors import MetaError
from fs3.core.meta.garbage import dismantle
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.stat import batch_stat, stat
from fs3.core.meta.resolve import path_bytes_max, path_depth_max
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import Stat


@pytest.fixture
def places(space):
    """a/b/f (file), a/link -> b, a/up -> ../a/b/f, root -> /, abs -> /a/b, dangling -> nowhere, x1 -> x2 -> x1."""
    space.dir("a")
    space.dir("a/b")
    space.file("a/b/f")
    for path, target in {
        "a/link": "b",
        "a/up": "../a/b/f",
        "root": "/",
        "abs": "/a/b",
        "a/b/abs": "/a",
        "slashed": "a/b/",
        "file-slashed": "a/b/f/",
        "dangling": "nowhere",
        "x1": "x2",
        "x2": "x1",
        "self": "self/self",
    }.items():
        space.link(path, target)
    return space


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("", "/"),
        ("/", "/"),
        ("///", "/"),
        (".", "/"),
        ("..", "/"),
        ("../../..", "/"),
        ("a", "/a"),
        ("/a", "a"),
        ("a/", "a"),
        ("a/.", "a"),
        ("./a//./b///f", "a/b/f"),
        ("a/..", "/"),
        ("a/b/..", "a"),
        ("a/b/../b/f", "a/b/f"),
        ("a/../../../a/b", "a/b"),
        ("a/link/f", "a/b/f"),
        ("a/link/..", "a"),
        ("a/link/", "a/b"),
        ("a/link/.", "a/b"),
        ("a/up", "a/b/f"),
        ("root/a/b", "a/b"),
        ("root/root/root/a", "a"),
        ("abs/f", "a/b/f"),
        ("a/b/abs", "a"),
        ("a/b/abs/b/abs/b/f", "a/b/f"),
        ("abs/../b", "a/b"),
        ("slashed", "a/b"),
        ("slashed/f", "a/b/f"),
        ("root", "/"),
    ],
)
def test_paths_that_name_the_same(places, path, same):
    assert places.stat(path, follow=True) == places.stat(same)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing", Code.NOT_FOUND),
        ("a/missing", Code.NOT_FOUND),
        ("missing/x", Code.NOT_FOUND),
        ("missing/..", Code.NOT_FOUND),
        ("a/missing/../b", Code.NOT_FOUND),
        ("a/b/f/", Code.NOT_A_DIRECTORY),
        ("a/b/f/.", Code.NOT_A_DIRECTORY),
        ("a/b/f/..", Code.NOT_A_DIRECTORY),
        ("a/b/f/x", Code.NOT_A_DIRECTORY),
        ("a/b/f/../f", Code.NOT_A_DIRECTORY),
        ("file-slashed", Code.NOT_A_DIRECTORY),
        ("dangling", Code.NOT_FOUND),
        ("dangling/x", Code.NOT_FOUND),
        ("x1", Code.TOO_MANY_SYMLINKS),
        ("x1/y", Code.TOO_MANY_SYMLINKS),
        ("self", Code.TOO_MANY_SYMLINKS),
        ("a\0b", Code.INVALID),
        ("a/\ud800", Code.INVALID),
        ("n" * (name_bytes_max + 1), Code.NAME_TOO_LONG),
        ("é" * (name_bytes_max // 2 + 1), Code.NAME_TOO_LONG),
        ("a/" + "n" * (name_bytes_max + 1) + "/b", Code.NAME_TOO_LONG),
        ("./" * (path_bytes_max // 2) + "a", Code.NAME_TOO_LONG),
        ("é" * (path_bytes_max // 2 + 1), Code.NAME_TOO_LONG),
        ("/".join("a" * (path_depth_max + 1)), Code.NAME_TOO_LONG),
    ],
)
def test_paths_that_name_nothing(places, path, code):
    places.refused(code, stat, path, True)


def test_errors_name_the_whole_path(places):
    assert places.refused(Code.NOT_FOUND, stat, "a/missing/x", True).path == "a/missing/x"
    assert str(places.refused(Code.NOT_FOUND, stat, "a/missing", True)) == "no such file or directory: 'a/missing'"


def test_lookup_and_stat_do_not_follow_a_last_symlink_unless_asked(places):
    assert places.stat("a/link").target == "b"
    assert places.do(lookup, "a/link").inode == places.stat("a/link").id
    assert places.stat("dangling").target == "nowhere"
    # A trailing slash asks for the directory behind it, whoever says "do not follow".
    assert places.stat("a/link/") == places.stat("a/b")
    places.refused(Code.NOT_A_DIRECTORY, lookup, "a/link/")


def test_a_name_of_the_longest_length_and_any_script(space):
    for name in ["n" * name_bytes_max, "文" * (name_bytes_max // 3), "😀", " ", "...", "-rf", "\n", "\x01", "a\\b", "~"]:
        made = space.file(name)
        assert space.stat(name) == made
        assert name in space.names()


def test_a_path_of_the_greatest_depth(space):
    path = "/".join("d" * path_depth_max)
    made = space.dir(path, parents=True)
    assert space.stat(path) == made
    assert space.stat(PathRef(made.id, "/".join([".."] * (path_depth_max - 1)))) == space.stat("d")


def test_exactly_as_many_symlinks_as_allowed(space):
    space.file("l0")
    for number in range(1, symlinks_followed_max + 2):
        space.link(f"l{number}", f"l{number - 1}")
    assert space.stat(f"l{symlinks_followed_max}", follow=True) == space.stat("l0")
    space.refused(Code.TOO_MANY_SYMLINKS, stat, f"l{symlinks_followed_max + 1}", True)


def test_search_permission_is_needed_on_every_directory_of_the_path(space):
    space.dir("open", 0o777)
    space.dir("open/shut", 0o750, user=space.alice)
    space.dir("open/shut/in", 0o755, user=space.alice)
    space.file("open/shut/in/f", user=space.alice)
    for path in ["open/shut/in", "open/shut/in/f", "open/shut/..", "open/shut/missing"]:
        space.refused(Code.ACCESS, stat, path, True, user=space.eve)
    assert space.do(stat, "open/shut", True, user=space.eve).mode == 0o750
    assert space.do(stat, "open/shut/in/f", True, user=space.alice)
    # Naming an inode by its id is like having it open: what is above it does not matter any more.
    inside = space.stat("open/shut/in").id
    assert space.do(stat, PathRef(inside, "f"), True, user=space.eve)
    # Search without read is enough for a path.
    space.dir("blind", 0o711)
    space.file("blind/f")
    assert space.do(stat, "blind/f", True, user=space.eve)


def test_starting_at_an_inode(space):
    b = space.dir("a/b", parents=True)
    f = space.file("a/b/f")
    assert space.stat(PathRef(b.id, "f")) == f
    assert space.stat(PathRef(b.id, "..")) == space.stat("a")
    assert space.stat(PathRef(b.id, "/f")) == f
    assert space.stat(PathRef(f.id)) == f
    assert space.stat(PathRef(InodeId(0), "a")) == space.stat("a")
    for path in ["x", ".", "/", ".."]:
        space.refused(Code.NOT_A_DIRECTORY, stat, PathRef(f.id, path), True)


def test_an_inode_that_is_gone_is_stale_and_nothing_is_found_in_it(space):
    space.dir("d")
    gone = space.stat("d").id
    space.do(remove, "d", RemoveKind.DIRECTORY)
    space.refused(Code.STALE, stat, PathRef(gone), True)
    space.refused(Code.STALE, list_directory, PathRef(gone))
    for path in ["x", "x/y", "..", ".", "/"]:
        space.refused(Code.NOT_FOUND, stat, PathRef(gone, path), True)
        space.refused(Code.NOT_FOUND, open_file, PathRef(gone, path), write=True, create=True)
        space.refused(Code.NOT_FOUND, mkdir, PathRef(gone, path), parents=True)
        space.refused(Code.NOT_FOUND, remove, PathRef(gone, path))
        space.refused(Code.NOT_FOUND, rename, PathRef(gone, path), "new")
        assert space.see(batch_stat, gone, [path, "x"], follow=True) == [Code.NOT_FOUND, Code.NOT_FOUND]
    for inode in [InodeId(1 << 56), InodeId(-1), InodeId((1 << 64) - 1)]:
        space.refused(Code.STALE, stat, PathRef(inode, "x"), True)


def test_inside_a_detached_tree(space):
    space.dir("t/in/deep", parents=True)
    top, inside = space.stat("t").id, space.stat("t/in").id
    space.do(remove, "t", RemoveKind.TREE)
    # Whoever stands in it can still look around until it is dismantled, and can create nothing in what is already removed.
    assert space.stat(PathRef(inside, "deep"))
    assert space.stat(PathRef(inside, "..")).id == top
    space.refused(Code.NOT_FOUND, open_file, PathRef(top, "new"), write=True, create=True)


def test_the_directory_above_went_first(space):
    space.dir("t/in", parents=True)
    space.file("t/in/f")
    inside = space.stat("t/in").id
    space.do(remove, "t", RemoveKind.TREE)
    space.do(dismantle, 10)
    assert space.stat(PathRef(inside)).nlink == 0
    space.refused(Code.NOT_FOUND, stat, PathRef(inside, ".."), True)


def test_a_row_that_cannot_be_read_names_itself(space):
    space.dir("d")
    space.file("d/f")
    inode, dirent = space.stat("d/f").id, space.stat("d").id
    before = dict(space.rows())

    async def spoil(txn, key, value):
        txn.put(key, value) if value is not None else txn.delete(key)

    for key in [keys.inode_key(inode), keys.dirent_key(dirent, b"f")]:
        for bad in [b"", b"\x00", b"\x92\x01\x09", b"garbage"]:
            space.raw(lambda txn, key=key, bad=bad: spoil(txn, key, bad))
            assert repr(key) in space.refused(Code.INTERNAL, stat, "d/f", True).message
            assert space.problems()
        space.raw(lambda txn, key=key: spoil(txn, key, before[key]))
    space.raw(lambda txn: spoil(txn, keys.inode_key(inode), None))
    assert repr(keys.inode_key(inode)) in space.refused(Code.INTERNAL, stat, "d/f", True).message
    space.raw(lambda txn: spoil(txn, keys.inode_key(inode), before[keys.inode_key(inode)]))


def test_a_store_without_a_namespace():
    kv = MemoryKV()
    with pytest.raises(MetaError, match="missing"):
        kv.read_now(lambda txn: stat(txn, None, Stat(PathRef(path="a"))))
