"""Truncations that have not cut all chunks yet: what they hold up, and how they end."""

import msgspec
import pytest

from fs3.core.meta import keys, rows
from fs3.core.meta.errors import TrimOutstanding
from fs3.core.meta.fsck.pages import inspect_inodes
from fs3.core.meta.fsck.repair import repair
from fs3.core.meta.garbage import delete_file, next_garbage
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.sessions import list_sessions, prune
from fs3.core.meta.trims import list_trims
from fs3.model.check import Problem, ProblemKind
from fs3.model.inode import Inode, Trim
from fs3.model.namespace import PathRef, RemoveKind


def outstanding(space):
    return space.raw(lambda txn: list_trims(txn, None, 10))


def refused(space, op, *args, **options):
    before = space.rows()
    with pytest.raises(TrimOutstanding):
        space.do(op, *args, **options)
    assert space.rows() == before


@pytest.mark.parametrize(("length", "trim"), [(0, Trim(1, 0)), (49, Trim(1, 49)), (50, Trim(1, 50)), (51, None)])
def test_a_truncation_leaves_what_is_to_be_cut(space, length, trim):
    made = space.file("f", length=50)
    after = space.do(truncate, made.id, length)
    assert (after.trim, after.truncations, after.length) == (trim, int(trim is not None), length)
    assert outstanding(space) == ([made.id] if trim else [])


def test_it_ends_once_and_whoever_looked_meanwhile_looked_at_something_else(space):
    cut = space.do(truncate, space.file("f", length=50).id, 10)
    done = space.finish_trim(cut)
    assert done.trim is None
    assert (done.length, done.mtime_ns, done.ctime_ns, done.truncations) == (cut.length, cut.mtime_ns, cut.ctime_ns, 1)
    assert done.change == cut.change + 1
    assert outstanding(space) == []
    assert space.finish_trim(cut) == done
    assert space.stat("f") == done


def test_a_late_end_does_not_end_a_later_truncation(space):
    first = space.do(truncate, space.file("f", length=50).id, 10)
    second = space.do(truncate, first.id, 5)
    assert second.trim == Trim(2, 5)
    assert space.finish_trim(first) == second
    assert outstanding(space) == [first.id]
    assert space.finish_trim(second).trim is None


def test_nobody_makes_the_file_longer_meanwhile(space):
    opened = space.open("f", create=True)
    space.do(sync, opened.inode.id, opened.session, length=50)
    (session,) = space.raw(lambda txn: list_sessions(txn, None, 10))
    cut = space.do(truncate, opened.inode.id, 10)
    for op in (sync, close_file):
        refused(space, op, opened.inode.id, opened.session, length=11, truncations=cut.truncations)
        refused(space, op, opened.inode.id, opened.session, length=11, truncations=0)
        refused(space, op, opened.inode.id, opened.session, length=11)
    refused(space, truncate, opened.inode.id, 11)
    refused(space, prune, session, 11, cut.truncations)
    assert space.do(truncate, opened.inode.id, 9).length == 9
    space.finish_trim(space.stat("f"))
    assert space.do(truncate, opened.inode.id, 60).length == 60
    assert space.do(close_file, opened.inode.id, opened.session, length=70, truncations=2).length == 70


def test_no_writer_learns_of_a_truncation_that_is_still_cutting(space):
    opened = space.open("f", create=True)
    cut = space.do(truncate, opened.inode.id, 0)
    refused(space, sync, opened.inode.id, opened.session)
    refused(space, open_file, PathRef(path="f"), write=True)
    assert space.do(open_file, PathRef(path="f")).inode == cut, "a reader does not wait"
    space.finish_trim(cut)
    assert space.do(sync, opened.inode.id, opened.session).truncations == 1
    assert space.do(open_file, PathRef(path="f"), write=True).inode.truncations == 1


def test_a_check_believes_storage_neither_while_it_cuts_nor_what_it_saw_before(space):
    cut = space.do(truncate, space.file("f", length=50).id, 0)
    (facts,) = space.raw(lambda txn: inspect_inodes(txn, [cut.id])).facts
    assert facts.open, "a check that compares lengths passes over it"
    problem = Problem(ProblemKind.TOO_SHORT, cut.id, change=cut.change, found=0, expected=50)
    refused(space, repair, problem)
    space.finish_trim(cut)
    assert not space.do(repair, problem).done
    assert space.stat("f").length == 0


def test_a_fresh_content_has_nothing_to_cut(space):
    made = space.file("f", length=50)
    fresh = space.open("f", truncate=True)
    assert fresh.inode.content_id != made.id
    assert fresh.inode.trim is None
    assert outstanding(space) == []


def test_a_file_that_is_gone_leaves_no_row(space):
    cut = space.do(truncate, space.file("f").id, 0)
    space.do(remove, "f", RemoveKind.FILE)
    space.raw(lambda txn: _forget(txn, cut.id))
    assert outstanding(space) == []
    assert space.finish_trim(cut) is None


async def _forget(txn, inode):
    ((garbage, _),) = await next_garbage(txn, 10)
    await delete_file(txn, garbage)


def test_pages_of_them(space):
    ids = [space.do(truncate, space.file(f"f{number}").id, 0).id for number in range(5)]
    assert space.raw(lambda txn: list_trims(txn, None, 2)) == ids[:2]
    assert space.raw(lambda txn: list_trims(txn, ids[1], 9)) == ids[2:]


def test_rows_from_before_there_were_trims_are_readable(space):
    made = space.file("f", length=3)
    fields = msgspec.msgpack.decode(rows.encode(made))
    trim = Inode.__struct_fields__.index("trim")
    assert fields[trim] is None
    old = msgspec.msgpack.encode(fields[:trim])
    assert rows.decode_inode(keys.inode_key(made.id), old) == made
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields[: trim - 1]), type=Inode).truncations == 0


# --- close with discard -----------------------------------------------------------------------------------------------


def test_discard_takes_back_what_nobody_has_published(space):
    space.file("f", length=50)
    opened = space.open("f")
    after = space.do(close_file, opened.inode.id, opened.session, length=90, modified=True, discard=True)
    assert (after.length, after.trim) == (50, Trim(1, 50))
    assert outstanding(space) == [after.id]


def test_discard_cuts_behind_what_others_have_published_meanwhile(space):
    space.file("f", length=50)
    opened = space.open("f")
    other = space.open("f", client=space.other)
    space.do(close_file, other.inode.id, other.session, length=200, client=space.other)
    after = space.do(close_file, opened.inode.id, opened.session, discard=True)
    assert (after.length, after.trim) == (200, Trim(1, 200))


@pytest.mark.parametrize("silent", [False, True])
def test_discard_cuts_nothing_beside_another_writer(space, silent):
    space.file("f", length=50)
    opened = space.open("f")
    other = space.do(open_file, PathRef(path="f"), write=True, client=space.other)
    if silent:
        session = next(each for each in space.raw(lambda txn: list_sessions(txn, None, 10)) if each.id == other.session)
        space.do(prune, session, None)
    after = space.do(close_file, opened.inode.id, opened.session, length=90, discard=True)
    assert (after.length, after.trim, after.truncations) == (50, None, 0)
    assert outstanding(space) == []
