"""Turns to append: who gets one, what ends it, and what the file is afterwards."""

import pytest

from fs3.base.status import Code
from fs3.core.meta.errors import TrimOutstanding
from fs3.core.meta.fsck.pages import inspect_inodes
from fs3.core.meta.fsck.repair import repair
from fs3.core.meta.ops.append import append
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.hold import hold
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.sessions import list_sessions, prune
from fs3.model.check import Problem, ProblemKind
from fs3.model.inode import AppendTurn, FileSession
from fs3.model.requests import AppendStep

TAKE, RENEW, PUBLISH, GIVE_UP, INLINE = AppendStep


class Appender:
    """A session on the file `f`."""

    def __init__(self, space, client=None):
        self.space = space
        self.client = client or space.client
        opened = space.open("f", create=True, append=True, client=self.client)
        self.inode, self.session = opened.inode.id, opened.session

    def ask(self, step, **options):
        return self.space.do(append, self.inode, self.session, step, client=self.client, **options)

    def refused(self, code, step, **options):
        return self.space.refused(code, append, self.inode, self.session, step, client=self.client, **options)


@pytest.fixture
def first(space):
    space.file("f", length=100)
    return Appender(space)


@pytest.fixture
def second(space, first):
    return Appender(space, space.other)


def test_an_append_makes_the_file_longer_when_it_is_published(space, first):
    taken = first.ask(TAKE)
    assert (taken.length, taken.append) == (100, AppendTurn(1, first.session))
    assert space.stat("f").length == 100
    space.wall += 5
    after = first.ask(PUBLISH, serial=1, length=110)
    assert (after.length, after.append, after.appends) == (110, None, 1)
    assert after.mtime_ns == space.wall
    assert after.change == taken.change + 1
    assert space.stat("f") == after
    assert first.ask(TAKE).append == AppendTurn(2, first.session)


def test_one_has_the_turn_at_a_time(first, second):
    first.ask(TAKE)
    second.refused(Code.NOT_ITS_TURN, TAKE)
    second.refused(Code.NOT_ITS_TURN, RENEW, serial=1)
    second.refused(Code.NOT_ITS_TURN, PUBLISH, serial=1, length=110)
    assert second.ask(GIVE_UP, serial=1).append is not None
    first.ask(PUBLISH, serial=1, length=110)
    taken = second.ask(TAKE)
    assert (taken.length, taken.append.serial) == (110, 2)


def test_its_holder_may_take_it_anew(first):
    first.ask(TAKE)
    assert first.ask(TAKE).append.serial == 2
    first.refused(Code.NOT_ITS_TURN, PUBLISH, serial=1, length=110)
    assert first.ask(PUBLISH, serial=2, length=110).length == 110


def test_a_silent_holder_loses_it_to_who_saw_it_silent(first, second):
    first.ask(TAKE)
    assert first.ask(RENEW, serial=1).append == AppendTurn(1, first.session, 1)
    second.refused(Code.NOT_ITS_TURN, TAKE, serial=1, renewals=0)
    taken = second.ask(TAKE, serial=1, renewals=1)
    assert (taken.length, taken.append) == (100, AppendTurn(2, second.session))
    for step in (RENEW, PUBLISH):
        first.refused(Code.NOT_ITS_TURN, step, serial=1, length=110)
    second.ask(PUBLISH, serial=2, length=105)
    first.refused(Code.NOT_ITS_TURN, PUBLISH, serial=1, length=110)


def test_a_turn_that_is_given_up_leaves_nothing(space, first, second):
    before = space.stat("f")
    first.ask(TAKE)
    after = first.ask(GIVE_UP, serial=1)
    assert (after.append, after.length, after.change, after.mtime_ns) == (None, 100, before.change, before.mtime_ns)
    assert second.ask(TAKE).append.serial == 2


@pytest.mark.parametrize("length", [10, 100, 200])
def test_who_moves_the_end_takes_the_turn_away(space, first, length):
    first.ask(TAKE)
    cut = space.do(truncate, first.inode, length)
    assert cut.append is None
    first.refused(Code.NOT_ITS_TURN, PUBLISH, serial=1, length=300)
    if cut.trim is not None:
        with pytest.raises(TrimOutstanding):
            first.ask(TAKE)
        space.finish_trim(cut)
    assert first.ask(TAKE).length == length


def test_so_does_a_writer_whose_bytes_count_now(space, first):
    writer = space.open("f")
    first.ask(TAKE)
    space.do(close_file, writer.inode.id, writer.session, length=150, modified=True)
    first.refused(Code.NOT_ITS_TURN, PUBLISH, serial=1, length=110)
    assert first.ask(TAKE).length == 150


def test_one_that_changes_bytes_within_the_file_does_not(space, first):
    writer = space.open("f")
    first.ask(TAKE)
    space.do(close_file, writer.inode.id, writer.session, length=90, modified=True)
    assert first.ask(PUBLISH, serial=1, length=110).length == 110


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_has_no_name_any_more_is_not_appended_to(space, first, replaced):
    first.ask(TAKE)
    if replaced:
        space.file("other")
        space.do(rename, "other", "f")
    else:
        space.do(remove, "f")
    assert "removed, or replaced" in first.refused(Code.STALE, PUBLISH, serial=1, length=110).message
    first.refused(Code.STALE, TAKE)
    first.ask(GIVE_UP, serial=1)
    space.do(close_file, first.inode, first.session)
    assert space.problems() == []


def test_the_end_of_a_session_ends_its_turn(space, first, second):
    first.ask(TAKE)
    space.do(close_file, first.inode, first.session)
    assert second.ask(TAKE).append.serial == 2
    session = FileSession(second.session, second.inode, space.other, 0, append=True)
    space.raw(lambda txn: prune(txn, space.context(), session, None))
    assert space.stat("f").append is None
    assert space.stat("f").length == 100


def test_only_write_sessions_of_the_client_append(space, first):
    space.refused(Code.NO_SESSION, append, first.inode, first.session, TAKE, client=space.other)
    space.refused(Code.INVALID, open_file, "f", write=False, append=True)
    space.refused(Code.INVALID, open_file, "f", write=True, append=True, truncate=True)


def test_a_publish_has_bytes(first):
    first.ask(TAKE)
    first.refused(Code.INVALID, PUBLISH, serial=1, length=100)
    first.refused(Code.FILE_TOO_LARGE, PUBLISH, serial=1, length=1 << 63)


def test_a_repeated_step_has_the_first_answer(space, first, second):
    taken = first.ask(TAKE, seq=7)
    assert first.ask(TAKE, seq=7) == taken
    after = first.ask(PUBLISH, serial=1, length=110, seq=8)
    second.ask(TAKE)
    assert first.ask(PUBLISH, serial=1, length=110, seq=8) == after
    assert space.stat("f").append.serial == 2


def test_what_lies_behind_the_end_is_no_problem_of_the_file(space, first):
    space.do(close_file, first.inode, first.session)
    first = Appender(space)
    first.ask(TAKE)
    space.do(close_file, first.inode, first.session)
    (facts,) = space.raw(lambda txn: inspect_inodes(txn, [first.inode])).facts
    assert facts.open
    problem = Problem(ProblemKind.TOO_SHORT, first.inode, change=space.stat("f").change, found=100, expected=200)
    assert not space.raw(lambda txn: repair(txn, space.context(), problem)).done
    assert space.stat("f").length == 100


def test_a_writer_in_place_appends_as_well_and_counts_as_an_appender_then(space, first):
    opened = space.open("f")
    before = space.do(append, first.inode, opened.session, TAKE)
    assert before.append.session == opened.session
    first.refused(Code.NOT_ITS_TURN, TAKE)
    assert space.do(append, first.inode, opened.session, PUBLISH, serial=1, length=130).length == 130
    (session,) = [one for one in space.raw(lambda txn: list_sessions(txn, None, 9)) if one.id == opened.session]
    assert session.append
    assert space.do(sync, first.inode, opened.session, length=140).length == 140, "it writes in place still"
    assert space.do(close_file, first.inode, opened.session, length=150).length == 150


def test_a_file_without_a_name_is_appended_to_by_who_wants_that(space, first):
    space.do(remove, "f")
    first.refused(Code.STALE, TAKE)
    assert first.ask(TAKE, unnamed=True).append.serial == 1
    assert first.ask(RENEW, serial=1, unnamed=True).append.renewals == 1
    first.refused(Code.STALE, PUBLISH, serial=1, length=110)
    assert first.ask(PUBLISH, serial=1, length=110, unnamed=True).length == 110


def test_a_reader_does_not_append(space, first):
    space.do(close_file, first.inode, first.session)
    space.do(remove, "f")
    held = space.do(hold, first.inode)
    space.refused(Code.NO_SESSION, append, first.inode, held.session, TAKE, unnamed=True)
    space.do(close_file, first.inode, held.session)
