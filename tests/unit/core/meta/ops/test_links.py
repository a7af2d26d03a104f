"""Symlink and link."""

import pytest

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta.ops import link as module
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.resolve import path_bytes_max
from fs3.model.inode import InodeType
from fs3.model.namespace import PathRef, RemoveKind


@pytest.fixture
def some(space):
    space.dir("d")
    space.file("f")
    space.link("to-f", "f")
    space.link("dangling", "nowhere")
    space.dir("shut", 0o755)
    return space


NEW = [
    ("new", None),
    ("d/new", None),
    ("f", Code.EXISTS),
    ("d", Code.EXISTS),
    ("d/", Code.EXISTS),
    ("d/.", Code.EXISTS),
    ("/", Code.EXISTS),
    ("d/..", Code.EXISTS),
    ("", Code.EXISTS),
    ("to-f", Code.EXISTS),
    ("dangling", Code.EXISTS),
    ("new/", Code.NOT_FOUND),
    ("new/x", Code.NOT_FOUND),
    ("f/x", Code.NOT_A_DIRECTORY),
    ("n" * 256, Code.NAME_TOO_LONG),
    ("a\0", Code.INVALID),
    ("\ud800", Code.INVALID),
]


@pytest.mark.parametrize(("path", "code"), NEW)
def test_where_a_symlink_can_be(some, path, code):
    if code:
        assert some.refused(code, symlink, path, target="f").path == path
    else:
        made = some.do(symlink, path, target="somewhere/else")
        assert some.stat(path) == made
        assert (made.type, made.target, made.length, made.nlink) == (InodeType.SYMLINK, "somewhere/else", 14, 1)


@pytest.mark.parametrize(("path", "code"), NEW)
def test_where_a_link_can_be(some, path, code):
    if code:
        assert some.refused(code, link, "f", path).path == path
    else:
        before = some.stat("f")
        made = some.do(link, "f", path)
        assert some.stat(path) == some.stat("f") == made
        assert (made.nlink, made.ctime_ns, made.mtime_ns) == (2, some.wall, before.mtime_ns)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("", Code.NOT_FOUND),
        ("a\0", Code.INVALID),
        ("\ud800", Code.INVALID),
        ("x" * (path_bytes_max + 1), Code.NAME_TOO_LONG),
        ("é" * (path_bytes_max // 2 + 1), Code.NAME_TOO_LONG),
    ],
)
def test_what_a_symlink_cannot_say(space, target, code):
    space.refused(code, symlink, "s", target=target)


@pytest.mark.parametrize("target", ["x", "/", "..", ".", "a//b/", "x" * path_bytes_max, "😀", "s", "n" * 300])
def test_what_a_symlink_can_say(space, target):
    assert space.link("s", target).target == target
    assert space.stat("s").length == len(target.encode())


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("d", Code.PERMISSION),
        ("", Code.PERMISSION),
        ("missing", Code.NOT_FOUND),
        ("f/", Code.NOT_A_DIRECTORY),
        ("f/x", Code.NOT_A_DIRECTORY),
    ],
)
def test_what_cannot_be_linked(some, source, code):
    some.refused(code, link, source, "new")


def test_a_symlink_itself_is_linked(some):
    some.do(link, "to-f", "other")
    assert some.stat("other").id == some.stat("to-f").id != some.stat("f").id
    some.do(remove, "to-f", RemoveKind.FILE)
    assert some.stat("other").target == "f"


def test_links_by_inode(space):
    made = space.file("f")
    space.do(link, PathRef(made.id), "g")
    assert space.stat("g").nlink == 2
    opened = space.open("", unnamed=True)
    space.refused(Code.NOT_FOUND, link, PathRef(opened.inode.id), "h")
    space.refused(Code.STALE, link, PathRef(InodeId(99)), "h")


def test_a_file_without_a_name_gets_one_while_it_is_open(space):
    opened = space.open("", unnamed=True)
    source = PathRef(opened.inode.id)
    space.file("taken")
    space.refused(Code.NO_SESSION, link, source, "f", session=opened.session + 9)
    space.refused(Code.NO_SESSION, link, source, "f", session=opened.session, client=space.other)
    space.refused(Code.EXISTS, link, source, "taken", session=opened.session)
    linked = space.do(link, source, "f", session=opened.session)
    assert (linked.nlink, space.stat("f").id) == (1, opened.inode.id)
    space.do(link, source, "g")
    space.refused(Code.INVALID, close_file, opened.inode.id, opened.session, publish="h")
    closed = space.do(close_file, opened.inode.id, opened.session, length=9)
    assert (closed.nlink, closed.length) == (2, 9)


def test_a_file_that_has_lost_its_name_gets_none_again(space):
    opened = space.open("", unnamed=True)
    source = PathRef(opened.inode.id)
    space.do(link, source, "f", session=opened.session)
    space.do(remove, "f", RemoveKind.FILE)
    space.refused(Code.NOT_FOUND, link, source, "g", session=opened.session)
    named = space.file("named")
    opened_again = space.open("named")
    space.do(remove, "named", RemoveKind.FILE)
    space.refused(Code.NOT_FOUND, link, PathRef(named.id), "g", session=opened_again.session)


def test_links_are_limited(space, monkeypatch):
    monkeypatch.setattr(module, "links_per_file_max", 3)
    space.file("f")
    space.do(link, "f", "g")
    space.do(link, "f", "h")
    space.refused(Code.TOO_MANY_LINKS, link, "g", "i")


def test_permission(some):
    for verb, args, options in [(symlink, ("shut/s",), {"target": "x"}), (link, ("f", "shut/g"), {})]:
        some.refused(Code.ACCESS, verb, *args, user=some.eve, **options)


def test_a_repetition_makes_nothing_more(space):
    first = space.do(symlink, "s", target="x", seq=1)
    assert space.do(symlink, "s", target="x", seq=1) == first
    space.file("f")
    second = space.do(link, "f", "g", seq=2)
    assert space.do(link, "f", "g", seq=2) == second
    assert space.stat("f").nlink == 2
