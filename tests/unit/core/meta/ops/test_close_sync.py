"""Close and sync: lengths, times, the end of sessions, publishing unnamed files."""

import pytest

from fs3.base.ids import InodeId, SessionId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.core.meta.garbage import next_garbage
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.model.namespace import PathRef, RemoveKind


def queued(space):
    return [inode.id for _, inode in space.raw(lambda txn: next_garbage(txn, 100))]


def test_close_publishes_length_and_times(space):
    opened = space.open("f", create=True)
    closed = space.do(close_file, opened.inode.id, opened.session, length=100, modified=True)
    assert space.stat("f") == closed
    assert (closed.length, closed.change) == (100, opened.inode.change + 1)
    assert closed.mtime_ns == closed.ctime_ns == space.wall
    assert closed.birth_ns == opened.inode.birth_ns


@pytest.mark.parametrize(
    ("length", "modified", "expected", "advanced"),
    [(None, False, 50, False), (0, False, 50, False), (50, False, 50, False), (49, True, 50, True), (51, False, 51, True),
     (None, True, 50, True), (file_bytes_max, False, file_bytes_max, True)],
)  # fmt: skip
@pytest.mark.parametrize("verb", [close_file, sync])
def test_a_length_only_grows(space, verb, length, modified, expected, advanced):
    before = space.file("f", length=50)
    opened = space.open("f")
    after = space.do(verb, before.id, opened.session, length=length, modified=modified)
    assert after.length == expected
    assert (after != before) == advanced
    assert (after.change > before.change) == advanced
    assert (after.mtime_ns == space.wall) == advanced
    assert space.stat("f") == after


@pytest.mark.parametrize("verb", [close_file, sync])
def test_refusals(space, verb):
    made = space.file("f")
    opened = space.open("f")
    other = space.open("f", client=space.other)
    space.refused(Code.NO_SESSION, verb, made.id, SessionId(999))
    space.refused(Code.NO_SESSION, verb, made.id, other.session)
    space.refused(Code.NO_SESSION, verb, space.file("g").id, opened.session)
    space.refused(Code.STALE, verb, InodeId(1 << 60), opened.session)
    space.refused(Code.NO_SESSION, verb, InodeId(999), opened.session)
    space.refused(Code.INVALID, verb, made.id, opened.session, length=-1)
    space.refused(Code.FILE_TOO_LARGE, verb, made.id, opened.session, length=file_bytes_max + 1)
    space.refused(Code.NO_SESSION, verb, made.id, SessionId(0), length=5)
    space.refused(Code.NO_SESSION, verb, made.id, SessionId(0), modified=True)
    space.refused(Code.STALE, verb, InodeId(999), SessionId(0))
    assert space.do(verb, made.id, SessionId(0)) == made


PAST = 1_000


@pytest.mark.parametrize("verb", [sync, close_file])
@pytest.mark.parametrize(
    ("written_ago_ns", "stays"), [(None, False), (0, False), (1_999, False), (2_000, False), (2_001, True), (1 << 64, True)]
)
def test_an_mtime_that_was_set_after_the_last_write_stays(space, verb, written_ago_ns, stays):
    opened = space.open("f", create=True)
    space.do(set_attributes, "f", mtime_ns=PAST, client=space.other)
    space.wall += 1_000  # and as much by the request
    after = space.do(verb, opened.inode.id, opened.session, modified=True, written_ago_ns=written_ago_ns)
    assert after.mtime_ns == (PAST if stays else after.ctime_ns)
    assert after.ctime_ns == space.wall
    assert after.change > opened.inode.change + 1, "the content changed all the same"


def test_a_clock_that_was_set_back_keeps_no_mtime(space):
    opened = space.open("f", create=True)
    space.do(set_attributes, "f", mtime_ns=PAST)
    space.wall -= 1_000_000
    after = space.do(close_file, opened.inode.id, opened.session, modified=True, written_ago_ns=0)
    assert after.mtime_ns == space.wall


def test_an_mtime_that_was_set_counts_for_the_content_that_had_it(space):
    opened = space.open("f", create=True)
    space.do(set_attributes, "f", mtime_ns=PAST)
    unnamed = space.open("", unnamed=True)
    published = space.do(
        close_file, unnamed.inode.id, unnamed.session, length=1, modified=True, publish="f", written_ago_ns=1_000_000_000
    )
    assert (published.id, published.mtime_ns) == (opened.inode.id, published.ctime_ns)


@pytest.mark.parametrize("verb", [sync, close_file])
def test_a_writer_tells_of_holes(space, verb):
    opened = space.open("f", create=True)
    assert not opened.inode.has_holes
    assert not space.do(sync, opened.inode.id, opened.session, length=100, modified=True).has_holes
    assert space.do(verb, opened.inode.id, opened.session, length=100, modified=True, leaves_holes=True).has_holes
    again = space.open("f", write=True)
    assert space.do(close_file, again.inode.id, again.session, length=200, modified=True).has_holes, "what was told stays"
    assert not space.open("f", write=True, truncate=True).inode.has_holes, "other bytes"


def test_a_longer_length_makes_a_hole_and_no_length_ends_all(space):
    file = space.file("f", length=100)
    assert not space.do(truncate, file.id, 50).has_holes
    space.finish_trim(space.by_id(file.id))
    assert space.do(truncate, file.id, 200).has_holes
    assert space.do(truncate, file.id, 10).has_holes
    space.finish_trim(space.by_id(file.id))
    assert not space.do(truncate, file.id, 0).has_holes


def test_closing_twice(space):
    opened = space.open("f", create=True)
    closed = space.do(close_file, opened.inode.id, opened.session, length=1, seq=9)
    assert space.do(close_file, opened.inode.id, opened.session, length=1, seq=9) == closed
    space.refused(Code.NO_SESSION, close_file, opened.inode.id, opened.session, length=1, seq=10)


def test_sync_keeps_the_session(space):
    opened = space.open("f", create=True)
    for length in (10, 20):
        space.do(sync, opened.inode.id, opened.session, length=length, modified=True)
        assert space.stat("f").length == length
    space.do(close_file, opened.inode.id, opened.session, length=30)
    space.refused(Code.NO_SESSION, sync, opened.inode.id, opened.session)


def test_writers_of_one_file_keep_the_largest_length(space):
    space.file("f")
    first, second = space.open("f"), space.open("f", client=space.other)
    space.do(close_file, first.inode.id, first.session, length=1000, modified=True)
    space.do(close_file, second.inode.id, second.session, length=10, modified=True, client=space.other)
    assert space.stat("f").length == 1000


def test_writing_ends_set_ids_except_for_root(space):
    for user, expected in [(space.alice, 0o755), (space.root, 0o6755)]:
        space.user = user
        opened = space.open("f", create=True, mode=0o6755)
        space.do(sync, opened.inode.id, opened.session, length=0)
        assert space.stat("f").mode == 0o6755
        space.do(close_file, opened.inode.id, opened.session, length=1, modified=True)
        assert space.stat("f").mode == expected
        space.do(remove, "f", RemoveKind.FILE)


def test_a_file_removed_while_it_is_written_lives_until_the_last_close(space):
    first = space.open("f", create=True)
    second = space.open("f", client=space.other)
    space.do(remove, "f", RemoveKind.FILE)
    assert queued(space) == []
    assert space.do(sync, first.inode.id, first.session, length=5).length == 5
    assert space.do(truncate, first.inode.id, 3).length == 3
    space.do(close_file, first.inode.id, first.session)
    assert queued(space) == []
    closed = space.do(close_file, second.inode.id, second.session, client=space.other)
    assert (closed.nlink, queued(space)) == (0, [first.inode.id])


def test_a_file_with_another_name_is_not_given_up(space):
    opened = space.open("f", create=True)
    space.do(link, "f", "g")
    space.do(remove, "f", RemoveKind.FILE)
    space.do(close_file, opened.inode.id, opened.session)
    assert queued(space) == []
    assert space.stat("g").nlink == 1


# --- unnamed files ----------------------------------------------------------------------------------------------------


def unnamed(space, **options):
    return space.open("d", unnamed=True, **options)


def test_publish(space):
    space.dir("d")
    opened = unnamed(space)
    closed = space.do(close_file, opened.inode.id, opened.session, length=9, modified=True, publish="d/f")
    assert space.stat("d/f") == closed
    assert (closed.id, closed.nlink, closed.length) == (opened.inode.id, 1, 9)
    assert space.stat("d").length == 1
    assert space.stat("d").mtime_ns == space.wall


def test_publish_elsewhere_and_through_symlinked_directories(space):
    space.dir("d")
    space.dir("e")
    space.link("to-e", "e")
    opened = unnamed(space)
    space.do(close_file, opened.inode.id, opened.session, publish="to-e/f")
    assert space.tree() == {"d/", "e/", "e/f", "to-e"}


def test_publish_replaces(space):
    space.dir("d")
    old = space.file("d/f", length=5)
    space.link("d/s", "f")
    for path in ("d/f", "d/s"):
        opened = unnamed(space)
        closed = space.do(close_file, opened.inode.id, opened.session, publish=path)
        assert space.stat(path) == closed
    assert space.stat("d/f").id == old.id
    assert space.stat("d/s").id == opened.inode.id
    (left,) = queued(space)
    assert space.by_id(left).content_id == old.id
    assert space.names("d") == ["f", "s"]


def test_publish_keeps_what_the_replaced_file_is_by_then(space):
    space.dir("d", mode=0o777)
    space.file("d/f", mode=0o664, user=space.alice)
    opened = space.open("d", unnamed=True, user=space.bob)
    old = space.do(set_attributes, "d/f", mode=0o4620, gid=50, user=space.alice)
    closed = space.do(close_file, opened.inode.id, opened.session, publish="d/f", user=space.bob)
    assert (closed.mode, closed.uid, closed.gid, closed.birth_ns) == (0o620, 1000, 50, old.birth_ns)
    assert (closed.id, closed.content_id) == (old.id, opened.inode.id)
    assert space.stat("d/f") == closed


def test_who_may_not_write_the_replaced_file_owns_the_new_one(space):
    space.dir("d", mode=0o777)
    old = space.file("d/f", mode=0o640, length=5, user=space.alice)
    space.do(link, "d/f", "d/g")
    opened = space.open("d", unnamed=True, user=space.eve)
    closed = space.do(close_file, opened.inode.id, opened.session, publish="d/f", user=space.eve)
    assert (closed.mode, closed.uid, closed.gid) == (0o640, 1002, 1002)
    assert closed.id == opened.inode.id
    # Under its other name the file is what it was: its content is not eve's to change.
    assert (space.stat("d/g").id, space.stat("d/g").length) == (old.id, 5)


def test_of_two_writers_the_later_one_replaces_all_and_keeps_what_was_changed_between(space):
    space.dir("d")
    old = space.file("d/f", mode=0o644, length=5)
    first, second = unnamed(space), unnamed(space)
    space.do(close_file, second.inode.id, second.session, length=7, modified=True, publish="d/f")
    space.do(set_attributes, "d/f", mode=0o600)
    closed = space.do(close_file, first.inode.id, first.session, length=3, modified=True, publish="d/f")
    assert (closed.id, closed.content_id, closed.length, closed.mode) == (old.id, first.inode.id, 3, 0o600)
    assert space.problems() == []


def test_every_name_of_a_file_shows_what_replaced_its_content(space):
    space.dir("d")
    space.file("d/f", length=5)
    space.do(link, "d/f", "d/g")
    opened = unnamed(space)
    space.do(close_file, opened.inode.id, opened.session, publish="d/f")
    assert space.stat("d/g") == space.stat("d/f")
    assert (space.stat("d/g").length, space.stat("d/g").nlink) == (0, 2)


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        ("d/f", {"exclusive": True}, Code.EXISTS),
        ("d/s", {"exclusive": True}, Code.EXISTS),
        ("d/dir", {"exclusive": True}, Code.EXISTS),
        ("d/dir", {}, Code.IS_A_DIRECTORY),
        ("d/dir/", {}, Code.IS_A_DIRECTORY),
        ("d/new/", {}, Code.IS_A_DIRECTORY),
        ("d/f/", {}, Code.NOT_A_DIRECTORY),
        ("/", {}, Code.IS_A_DIRECTORY),
        ("d/..", {}, Code.IS_A_DIRECTORY),
        ("x/f", {}, Code.NOT_FOUND),
        ("d/f/x", {}, Code.NOT_A_DIRECTORY),
        ("d/" + "n" * 256, {}, Code.NAME_TOO_LONG),
        ("shut/f", {}, Code.ACCESS),
        ("sticky/f", {}, Code.PERMISSION),
    ],
)
def test_a_refused_publish_leaves_the_session_open(space, path, options, code):
    space.dir("d", 0o777)
    space.file("d/f")
    space.link("d/s", "f")
    space.dir("d/dir")
    space.dir("shut", 0o755)
    space.dir("sticky", 0o1777)
    space.file("sticky/f")
    opened = unnamed(space, user=space.alice)
    refused = space.refused(code, close_file, opened.inode.id, opened.session, publish=path, user=space.alice, seq=3, **options)
    assert refused.path == path
    space.do(close_file, opened.inode.id, opened.session, publish="d/other", user=space.alice, seq=4)
    assert space.stat("d/other").id == opened.inode.id


@pytest.mark.parametrize(
    "options",
    [{}, {"discard": True}, {"publish": PathRef()}, {"publish": PathRef(path="d/f"), "discard": True}, {"length": 8}],
)
def test_discard(space, options):
    space.dir("d")
    opened = unnamed(space)
    closed = space.do(close_file, opened.inode.id, opened.session, **options)
    assert closed.nlink == 0
    assert space.names("d") == []
    assert queued(space) == [opened.inode.id]


def test_only_unnamed_files_are_published(space):
    opened = space.open("f", create=True)
    space.refused(Code.INVALID, close_file, opened.inode.id, opened.session, publish="g")


def test_publish_into_a_removed_directory(space):
    space.dir("d")
    opened = unnamed(space)
    directory = space.stat("d").id
    space.do(remove, "d", RemoveKind.DIRECTORY)
    space.refused(Code.NOT_FOUND, close_file, opened.inode.id, opened.session, publish="d/f")
    space.refused(Code.NOT_FOUND, close_file, opened.inode.id, opened.session, publish=PathRef(directory, "f"))
    space.do(close_file, opened.inode.id, opened.session, publish="f")
