"""Files whose bytes are beside their inodes: what changes them, and how they move to storage."""

from functools import partial

import pytest

from fs3.base.status import Code
from fs3.core.files.move_plan import plan_move
from fs3.core.meta import keys
from fs3.core.meta.errors import MoveOutstanding
from fs3.core.meta.inline import begin_move, finish_move
from fs3.core.meta.ops.append import append
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.truncate import truncate
from fs3.model.namespace import PathRef
from fs3.model.requests import AppendStep

INLINE, TAKE = AppendStep.INLINE, AppendStep.TAKE


@pytest.fixture
def file(space):
    return space.do(put_file, "f", b"0123456789")


def appended(space, path, data, client=None):
    opened = space.open(path, create=True, append=True, client=client or space.client)
    return space.do(append, opened.inode.content_id, opened.session, INLINE, data=data, client=client or space.client)


# --- changes that stay ---------------------------------------------------------------------------------------------------


def test_an_append_is_one_transaction(space, file):
    after = appended(space, "f", b"abc")
    assert (after.length, after.change, after.append) == (13, file.change + 1, None)
    assert space.content("f") == b"0123456789abc"


def test_a_file_that_is_created_by_an_append_begins_inline(space):
    assert appended(space, "new", b"abc").length == 3
    assert space.content("new") == b"abc"


def test_an_append_beyond_the_limit_needs_chunks(space, file):
    opened = space.open("f", append=True)
    ask = partial(space.refused, Code.NOT_INLINE, append, file.id, opened.session, INLINE)
    ask(data=b"x" * space.defaults.inline_bytes)
    with pytest.raises(MoveOutstanding):
        space.do(append, file.id, opened.session, TAKE)


def test_an_append_to_a_file_of_chunks_is_refused(space):
    made = space.file("g", length=10)
    opened = space.open("g", append=True)
    space.refused(Code.NOT_INLINE, append, made.id, opened.session, INLINE, data=b"x")


@pytest.mark.parametrize(("length", "expected"), [(0, b""), (4, b"0123"), (12, b"0123456789\0\0")])
def test_a_truncation_is_one_transaction(space, file, length, expected):
    after = space.do(truncate, file.id, length)
    assert (after.length, after.trim, after.inline) == (length, None, True)
    assert space.content("f") == expected


def test_a_truncation_beyond_the_limit_needs_chunks(space, file):
    with pytest.raises(MoveOutstanding):
        space.do(truncate, file.id, space.defaults.inline_bytes + 1)
    assert space.content("f") == b"0123456789"


def test_a_removed_file_lives_on_while_an_appender_has_it_open(space, file):
    opened = space.open("f", append=True)
    space.do(remove, "f")
    space.refused(Code.STALE, append, file.id, opened.session, INLINE, data=b"x")
    assert space.keys_of(keys.DATA)
    space.do(close_file, file.id, opened.session)
    assert not space.keys_of(keys.DATA)
    assert not space.keys_of(keys.GARBAGE)


def test_a_length_is_not_raised_over_what_is_there(space, file):
    opened = space.open("f", append=True)
    with pytest.raises(MoveOutstanding):
        space.do(close_file, file.id, opened.session, length=100)


def test_a_service_that_keeps_nothing_inline_still_has_what_is(space, file):
    space.defaults = type(space.defaults)(space.defaults.table, inline_bytes=0)
    space.refused(Code.NOT_INLINE, put_file, "g", b"1")
    space.refused(Code.NOT_INLINE, put_file, "g", b"")
    assert space.content("f") == b"0123456789"
    assert not space.open("h", create=True, append=True).inode.inline


# --- moving out ----------------------------------------------------------------------------------------------------------


def test_a_writer_has_the_bytes_moved_first(space, file):
    with pytest.raises(MoveOutstanding):
        space.open("f")
    begun, data = space.raw(partial(begin_move, inode=file.id))
    assert (begun.moving, data) == (True, b"0123456789")
    assert space.content("f") == data
    (write,) = plan_move(begun, data)
    assert (bytes(write.data), write.offset, write.chain) == (data, 0, file.layout.chains[0])
    space.raw(partial(finish_move, moved=begun))
    moved = space.stat("f")
    assert (moved.inline, moved.moving, moved.length, moved.change) == (False, False, 10, file.change)
    assert space.content("f") is None
    assert not space.keys_of(keys.DATA)
    assert space.open("f").session


def test_an_empty_file_has_nothing_to_move(space):
    made = space.do(put_file, "e", b"")
    assert space.raw(partial(begin_move, inode=made.id)) is None
    assert not space.stat("e").inline
    assert not space.keys_of(keys.DATA)


def test_bytes_do_not_change_while_they_move(space, file):
    space.raw(partial(begin_move, inode=file.id))
    opened = space.open("f", append=True)
    space.refused(Code.NOT_INLINE, append, file.id, opened.session, INLINE, data=b"x")
    with pytest.raises(MoveOutstanding):
        space.do(truncate, file.id, 3)
    with pytest.raises(MoveOutstanding):
        space.do(append, file.id, opened.session, TAKE)


def test_whoever_moves_the_same_bytes_sends_the_same_update(space, file):
    once, twice = (plan_move(*space.raw(partial(begin_move, inode=file.id)))[0] for _ in range(2))
    assert once.tag == twice.tag
    other = plan_move(*space.raw(partial(begin_move, inode=space.do(put_file, "g", b"1").id)))[0]
    assert other.tag != once.tag


def test_the_end_of_a_move_leaves_other_bytes_alone(space, file):
    begun, _ = space.raw(partial(begin_move, inode=file.id))
    space.do(put_file, "f", b"other")
    space.raw(partial(finish_move, moved=begun))
    assert space.content("f") == b"other"


def test_a_file_that_is_removed_while_it_moves_is_reclaimed_as_one_with_chunks(space, file):
    space.raw(partial(begin_move, inode=file.id))
    space.do(remove, "f")
    assert len(space.keys_of(keys.GARBAGE)) == 1
    assert space.problems() == []
    assert space.by_id(file.id).inline


def test_a_truncating_open_of_a_small_file_gives_an_empty_one(space, file):
    opened = space.open("f", truncate=True)
    assert (opened.inode.length, opened.inode.inline) == (0, False)
    assert not space.keys_of(keys.DATA)


def test_an_inode_may_be_opened_by_its_id(space, file):
    assert space.see(open_file, PathRef(file.id), want_data=True).data == b"0123456789"
