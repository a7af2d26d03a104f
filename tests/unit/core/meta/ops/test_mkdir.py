"""Mkdir: one directory, or all that are missing."""

import pytest

from fs3.base.ids import TableId
from fs3.base.status import Code
from fs3.core.meta.ops.mkdir import mkdir
from fs3.model.inode import InodeType, Layout, User
from fs3.model.namespace import PathRef


def test_a_directory(space):
    made = space.dir("d", 0o1750, user=space.alice)
    assert (made.type, made.mode, made.nlink, made.length, made.parent, made.uid) == (InodeType.DIRECTORY, 0o1750, 2, 0, 1, 1000)
    assert space.stat("d") == made
    root = space.stat("")
    assert (root.nlink, root.length, root.mtime_ns) == (3, 1, made.birth_ns)
    inner = space.dir("d/e/")
    assert (space.stat("d").nlink, inner.parent) == (3, made.id)


@pytest.fixture
def some(space):
    space.dir("d", 0o777)
    space.file("f")
    space.link("to-d", "d")
    space.link("to-f", "f")
    space.link("dangling", "nowhere")
    space.link("to-root", "/")
    space.link("loop", "loop")
    return space


@pytest.mark.parametrize(
    ("path", "plain", "parents"),
    [
        ("d", Code.EXISTS, None),
        ("d/", Code.EXISTS, None),
        ("d/.", Code.EXISTS, None),
        ("", Code.EXISTS, None),
        ("/", Code.EXISTS, None),
        (".", Code.EXISTS, None),
        ("..", Code.EXISTS, None),
        ("d/..", Code.EXISTS, None),
        ("f", Code.EXISTS, Code.EXISTS),
        ("f/x", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("f/..", Code.NOT_A_DIRECTORY, Code.NOT_A_DIRECTORY),
        ("to-d", Code.EXISTS, None),
        ("to-root", Code.EXISTS, None),
        ("to-f", Code.EXISTS, Code.EXISTS),
        ("dangling", Code.EXISTS, Code.EXISTS),
        ("dangling/x", Code.NOT_FOUND, Code.NOT_FOUND),
        ("loop", Code.EXISTS, Code.TOO_MANY_SYMLINKS),
        ("loop/x", Code.TOO_MANY_SYMLINKS, Code.TOO_MANY_SYMLINKS),
        ("x/.", Code.NOT_FOUND, {"x/"}),
        ("x/y", Code.NOT_FOUND, {"x/", "x/y/"}),
        ("x/y/", Code.NOT_FOUND, {"x/", "x/y/"}),
        ("x/../y", Code.NOT_FOUND, {"x/", "y/"}),
        ("to-d/x/y", Code.NOT_FOUND, {"d/x/", "d/x/y/"}),
        ("to-root/x/y", Code.NOT_FOUND, {"x/", "x/y/"}),
        ("../../x", {"x/"}, {"x/"}),
        ("d/x//", {"d/x/"}, {"d/x/"}),
        ("n" * 256, Code.NAME_TOO_LONG, Code.NAME_TOO_LONG),
        ("x/" + "n" * 256, Code.NOT_FOUND, Code.NAME_TOO_LONG),
        ("a\0b", Code.INVALID, Code.INVALID),
        ("x/\ud800", Code.INVALID, Code.INVALID),
    ],
)
@pytest.mark.parametrize("with_parents", [False, True])
def test_paths(some, path, plain, parents, with_parents):
    expected = parents if with_parents else plain
    before = some.tree()
    if isinstance(expected, Code):
        assert some.refused(expected, mkdir, path, parents=with_parents).path == path
        return
    made = some.do(mkdir, path, parents=with_parents)
    assert made == some.stat(path, follow=True)
    assert some.tree() - before == (expected or set())


def test_a_name_that_is_taken_is_refused_also_with_missing_parents_made(some):
    some.do(mkdir, "a/b/c", mode=0o750, parents_mode=0o711)
    assert [some.stat(path).mode for path in ("a/b", "a/b/c")] == [0o711, 0o750]
    for taken in ("a/b", "f", "dangling"):
        some.refused(Code.EXISTS, mkdir, taken, parents_mode=0o755)
    some.refused(Code.NOT_A_DIRECTORY, mkdir, "f/x/y", parents_mode=0o755)
    assert some.problems() == []


def test_parents_get_a_mode_that_lets_the_path_be_created(space):
    made = space.dir("a/b/c", 0o055, user=space.alice, parents=True)
    assert made.mode == 0o055
    assert (space.stat("a").mode, space.stat("a/b").mode) == (0o355, 0o355)


def test_permission(space):
    space.dir("d", 0o755, user=space.alice)
    space.dir("blind", 0o722)
    for path in ("d/x", "blind/x"):
        for parents in (False, True):
            space.refused(Code.ACCESS, mkdir, path, parents=parents, user=space.eve)
    # What exists already needs no permission to create it.
    assert space.do(mkdir, "d", parents=True, user=space.eve) == space.stat("d")


def test_relative_to_an_inode(space):
    directory = space.dir("d")
    file = space.file("f")
    assert space.do(mkdir, PathRef(directory.id, "x/y"), parents=True) == space.stat("d/x/y")
    assert space.do(mkdir, PathRef(directory.id), parents=True) == space.stat("d")
    for parents in (False, True):
        space.refused(Code.NOT_A_DIRECTORY, mkdir, PathRef(file.id, "x"), parents=parents)
    space.refused(Code.NOT_A_DIRECTORY, mkdir, PathRef(file.id), parents=True)
    space.refused(Code.EXISTS, mkdir, PathRef(file.id))


def test_set_group_id_is_inherited(space):
    space.dir("d", 0o2777, user=space.alice)
    made = space.dir("d/x/y", user=User(7, 7), parents=True)
    assert (made.gid, made.uid, made.mode) == (1000, 7, 0o2755)


def test_layouts_are_inherited_when_a_directory_is_made(space):
    space.dir("d", layout=Layout(TableId(2), 1 << 17, 2))
    plain = space.dir("d/plain")
    own = space.dir("d/x/own", parents=True, layout=Layout(TableId(1), 0, 5))
    assert plain.layout == space.stat("d/x").layout == Layout(TableId(2), 1 << 17, 2)
    assert own.layout == Layout(TableId(1), 1 << 17, 5)
    assert space.dir("e").layout == Layout(TableId(0), 0, 0)


def test_a_repetition_makes_nothing_more(space):
    first = space.do(mkdir, "a/b", parents=True, seq=1)
    space.dir("a/b/c")
    assert space.do(mkdir, "a/b", parents=True, seq=1) == first
    assert space.do(mkdir, "x", seq=2) == space.do(mkdir, "x", seq=2)
    space.refused(Code.EXISTS, mkdir, "x", seq=3)
