"""Open: who may open what, creation, truncation, unnamed files."""

import pytest

from fs3.base.ids import InodeId, SessionId, TableId
from fs3.base.status import Code
from fs3.core.meta.garbage import next_garbage
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.sessions import list_sessions
from fs3.model.inode import InodeType, Layout
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import Open


def queued(space):
    return [inode.id for _, inode in space.raw(lambda txn: next_garbage(txn, 100))]


def open_sessions(space):
    return [(row.content, row.id) for row in space.raw(lambda txn: list_sessions(txn, None, 100))]


def test_create_and_write(space):
    space.dir("d")
    opened = space.open("d/f", create=True, mode=0o640, user=space.root)
    inode = opened.inode
    assert space.stat("d/f") == inode
    assert (inode.type, inode.mode, inode.nlink, inode.length) == (InodeType.FILE, 0o640, 1, 0)
    assert open_sessions(space) == [(inode.id, opened.session)]
    directory = space.stat("d")
    assert (directory.length, directory.nlink, directory.dirent_serial, directory.change) == (1, 2, 1, 2)
    assert directory.mtime_ns == directory.ctime_ns == inode.birth_ns


def test_create_without_writing_opens_no_session(space):
    opened = space.open("f", create=True, write=False)
    assert opened.session == 0
    assert open_sessions(space) == []
    assert space.stat("f") == opened.inode


def test_create_of_what_exists_opens_it(space):
    made = space.file("f", 0o600, length=7)
    again = space.open("f", create=True, mode=0o777, layout=Layout(TableId(2), 0, 0))
    assert again.inode == made
    assert again.session > 0
    assert space.stat("").length == 1


def test_sessions_are_distinct(space):
    space.file("f")
    sessions = {space.open("f", client=client).session for client in (space.client, space.other) for _ in range(5)}
    assert len(sessions) == 10


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        ("missing", {"write": True}, Code.NOT_FOUND),
        ("missing", {}, Code.NOT_FOUND),
        ("d", {}, Code.IS_A_DIRECTORY),
        ("d", {"write": True}, Code.IS_A_DIRECTORY),
        ("d", {"write": True, "create": True}, Code.IS_A_DIRECTORY),
        ("d/", {"create": True}, Code.IS_A_DIRECTORY),
        ("", {"create": True}, Code.IS_A_DIRECTORY),
        ("d/..", {"create": True, "write": True}, Code.IS_A_DIRECTORY),
        ("d/.", {"create": True, "write": True}, Code.IS_A_DIRECTORY),
        ("d", {"create": True, "exclusive": True}, Code.EXISTS),
        ("f", {"create": True, "exclusive": True}, Code.EXISTS),
        ("to-f", {"create": True, "exclusive": True}, Code.EXISTS),
        ("dangling", {"create": True, "exclusive": True}, Code.EXISTS),
        ("new/", {"create": True}, Code.IS_A_DIRECTORY),
        ("new/", {"create": True, "exclusive": True, "write": True}, Code.IS_A_DIRECTORY),
        ("new/x", {"create": True}, Code.NOT_FOUND),
        ("f/x", {"create": True}, Code.NOT_A_DIRECTORY),
        ("f/", {}, Code.NOT_A_DIRECTORY),
        ("f/", {"create": True}, Code.NOT_A_DIRECTORY),
        ("f", {"truncate": True}, Code.INVALID),
        ("loop", {"create": True}, Code.TOO_MANY_SYMLINKS),
        ("f", {"unnamed": True}, Code.NOT_A_DIRECTORY),
        ("missing", {"unnamed": True}, Code.NOT_FOUND),
        ("n" * 256, {"create": True}, Code.NAME_TOO_LONG),
        ("a\0", {"create": True}, Code.INVALID),
    ],
)
def test_refusals(space, path, options, code):
    space.dir("d")
    space.file("f")
    space.link("to-f", "f")
    space.link("dangling", "nowhere")
    space.link("loop", "loop")
    assert space.refused(code, open_file, path, **options).path == path


def test_reading_needs_only_a_snapshot(space):
    made = space.file("f", 0o640, user=space.alice)
    space.link("s", "f")
    ctx = space.context(space.alice)
    for path in ("f", "s", "./f"):
        opened = space.kv.read_now(lambda txn, path=path: open_file(txn, ctx, Open(PathRef(path=path))))
        assert (opened.inode, opened.session) == (made, 0)
    assert space.open("f", write=False).inode == made
    space.refused(Code.ACCESS, open_file, "f", user=space.eve)
    space.refused(Code.IS_A_DIRECTORY, open_file, "")
    space.refused(Code.NOT_FOUND, open_file, "x")


@pytest.mark.parametrize(
    ("mode", "read", "write"), [(0o640, True, False), (0o620, False, True), (0o600, False, False), (0o660, True, True)]
)
def test_permission_on_the_file(space, mode, read, write):
    space.file("f", mode, user=space.alice)
    group_member = type(space.bob)(1001, 1000)
    for allowed, options in [(read, {"write": False}), (write, {"write": True}), (write, {"write": True, "truncate": True})]:
        if allowed:
            assert space.open("f", user=group_member, **options)
        else:
            space.refused(Code.ACCESS, open_file, "f", user=group_member, **options)


def test_creating_needs_permission_on_the_directory_not_on_the_file(space):
    space.dir("d", 0o755, user=space.alice)
    space.refused(Code.ACCESS, open_file, "d/f", create=True, write=True, user=space.bob)
    space.refused(Code.ACCESS, open_file, "d", unnamed=True, user=space.bob)
    opened = space.open("d/f", create=True, mode=0, user=space.alice)
    assert opened.session
    space.refused(Code.ACCESS, open_file, "d/f", write=True, user=space.alice)


def test_creating_through_a_symlink_creates_what_it_points_to(space):
    space.dir("d")
    space.link("s", "d/new")
    made = space.open("s", create=True).inode
    assert space.stat("d/new") == made
    assert space.stat("s").type is InodeType.SYMLINK


def test_set_group_id_directories(space):
    space.dir("d", 0o2777, user=space.alice)
    made = space.open("d/f", create=True, user=space.eve).inode
    assert (made.uid, made.gid) == (1002, 1000)


def test_by_inode_id(space):
    made = space.file("f")
    again = space.open(PathRef(made.id))
    assert again.inode == made
    space.link("s", "f")
    space.refused(Code.TOO_MANY_SYMLINKS, open_file, PathRef(space.stat("s").id), write=True)
    space.do(remove, "f", RemoveKind.FILE)
    space.refused(Code.STALE, open_file, PathRef(made.id), client=space.other, write=True)
    space.refused(Code.STALE, open_file, PathRef(made.id), client=space.other)
    assert space.open(PathRef(made.id), write=False).inode.id == made.id, "its client has it open"
    assert space.open(PathRef(made.id)).session
    space.refused(Code.STALE, open_file, PathRef(InodeId(12345)), write=True)


# --- truncation -------------------------------------------------------------------------------------------------------


def test_truncation_gives_the_file_a_fresh_content(space):
    old = space.file("f", 0o4755, user=space.alice, length=1000)
    root = space.stat("")
    opened = space.open("f", truncate=True, user=space.alice)
    fresh = opened.inode
    assert space.stat("f") == fresh
    assert fresh.id == old.id != fresh.content_id
    assert (fresh.length, fresh.nlink, fresh.layout, fresh.uid, fresh.birth_ns) == (0, 1, old.layout, 1000, old.birth_ns)
    assert fresh.mode == 0o755
    assert fresh.change > old.change
    assert fresh.mtime_ns == fresh.ctime_ns == space.wall
    assert [space.by_id(left).content_id for left in queued(space)] == [old.id]
    # The directory did not change: it has the same names.
    assert space.stat("") == root


def test_truncation_while_somebody_writes_waits_for_the_writer(space):
    space.file("f", length=5)
    writing = space.open("f", client=space.other)
    truncated = space.open("f", truncate=True)
    assert queued(space) == []
    closed = space.do(close_file, writing.inode.id, writing.session, length=99, modified=True, client=space.other)
    # The writer sees by the id that it has written to a content which is no longer the file's.
    assert closed.id != writing.inode.id
    assert (closed.nlink, closed.content_id) == (0, writing.inode.id)
    assert queued(space) == [closed.id]
    assert space.stat("f") == truncated.inode
    assert space.stat("f").length == 0


def test_truncation_through_a_symlink_empties_what_it_points_to(space):
    old = space.file("f", length=5)
    space.link("s", "f")
    fresh = space.open("s", truncate=True).inode
    assert space.stat("f") == fresh
    assert (fresh.id, fresh.length) == (old.id, 0)
    assert space.stat("s").target == "f"


def test_truncation_of_a_file_with_two_names_empties_both(space):
    made = space.file("f", length=5)
    space.do(link, "f", "g")
    for path in ("f", PathRef(made.id)):
        opened = space.open(path, truncate=True)
        assert (opened.inode.id, opened.inode.nlink, opened.inode.length) == (made.id, 2, 0)
        assert opened.session
        assert space.stat("g") == opened.inode


def test_create_with_truncation(space):
    assert space.open("f", create=True, truncate=True).inode.length == 0
    assert space.open("f", create=True, truncate=True).inode.length == 0
    assert len(queued(space)) == 0  # the first one is still open for writing
    assert space.stat("").length == 1


# --- unnamed files ----------------------------------------------------------------------------------------------------


def test_an_unnamed_file_is_seen_by_nobody(space):
    directory = space.dir("d")
    opened = space.open("d", unnamed=True, mode=0o600)
    assert opened.session
    assert (opened.inode.nlink, opened.inode.mode) == (0, 0o600)
    assert space.names("d") == []
    after = space.stat("d")
    assert (after.mtime_ns, after.change, after.length) == (directory.mtime_ns, directory.change, 0)
    assert space.open("d", unnamed=True).inode.layout.chains != opened.inode.layout.chains
    space.refused(Code.STALE, open_file, PathRef(opened.inode.id), client=space.other, write=True)
    assert queued(space) == []


def test_a_repetition_opens_nothing_more(space):
    first = space.open("f", create=True, seq=4)
    again = space.open("f", create=True, exclusive=True, seq=4)
    assert again == first
    assert isinstance(again.session, int)
    assert open_sessions(space) == [(first.inode.id, SessionId(first.session))]
