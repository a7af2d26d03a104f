"""A small file in one transaction."""

import pytest

from fs3.base.status import Code
from fs3.core.meta import keys
from fs3.core.meta.inline import get_data
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.setattr import set_attributes
from fs3.model.namespace import PathRef


def test_a_file_is_there_with_its_bytes_after_one_transaction(space):
    made = space.do(put_file, "f", b"hello", mode=0o640, user=space.alice)
    assert (made.length, made.inline, made.nlink, made.mode, made.uid) == (5, True, 1, 0o640, space.alice.uid)
    assert made.layout.chains, "it may grow"
    assert space.stat("f") == made
    assert space.content("f") == b"hello"
    assert not space.keys_of(keys.SESSION)


def test_bytes_come_only_when_they_are_asked_for(space):
    space.do(put_file, "f", b"hello")
    assert space.see(open_file, "f").data is None
    space.file("g", length=5)
    assert space.content("g") is None


def test_an_empty_file_has_an_empty_row(space):
    space.do(put_file, "f", b"")
    assert space.content("f") == b""
    assert len(space.keys_of(keys.DATA)) == 1


def test_a_file_that_has_the_name_gets_the_bytes_and_keeps_its_mode(space):
    before = space.do(put_file, "f", b"old", mode=0o600, user=space.alice)
    after = space.do(put_file, "f", b"newer", mode=0o644)
    assert space.content("f") == b"newer"
    assert (after.mode, after.uid, after.birth_ns) == (0o600, space.alice.uid, before.birth_ns)
    assert len(space.keys_of(keys.DATA)) == 1
    assert not space.keys_of(keys.GARBAGE)


def test_chunks_of_the_file_that_is_replaced_are_reclaimed(space):
    space.file("f", length=1 << 21)
    space.do(put_file, "f", b"small")
    assert space.content("f") == b"small"
    assert len(space.keys_of(keys.GARBAGE)) == 1


def test_exclusive_is_refused_where_something_is(space):
    space.do(put_file, "f", b"1", exclusive=True)
    space.refused(Code.EXISTS, put_file, "f", b"2", exclusive=True)
    space.link("s", "nowhere")
    space.refused(Code.EXISTS, put_file, "s", b"2", exclusive=True)


def test_a_symlink_is_followed(space):
    space.dir("d")
    space.link("s", "d/f")
    space.do(put_file, "s", b"1")
    assert space.content("d/f") == b"1"
    space.do(put_file, "s", b"2")
    assert space.content("d/f") == b"2"
    assert space.names("") == ["d", "s"]


def test_missing_directories_are_made_when_asked_for(space):
    space.refused(Code.NOT_FOUND, put_file, "a/b/f", b"1")
    space.do(put_file, "a/b/f", b"1", parents_mode=0o750)
    assert space.stat("a").mode == 0o750
    assert space.content("a/b/f") == b"1"


def test_a_file_that_is_named_by_its_inode_gets_the_bytes(space):
    made = space.file("f", length=1 << 21)
    after = space.do(put_file, PathRef(made.id), b"small")
    assert (after.id, after.nlink, after.inline) == (made.id, 1, True)
    assert space.content("f") == b"small"
    assert len(space.keys_of(keys.GARBAGE)) == 1
    space.refused(Code.ACCESS, put_file, PathRef(made.id), b"x", user=space.alice)
    space.refused(Code.EXISTS, put_file, PathRef(made.id), b"x", exclusive=True)
    space.do(remove, "f")
    space.refused(Code.STALE, put_file, PathRef(made.id), b"x")


def test_bytes_that_were_made_of_an_older_change_are_refused(space):
    made = space.do(put_file, "f", b"1")
    after = space.do(put_file, PathRef(made.id), b"2", change=made.change)
    assert (after.change, after.mtime_ns >= made.mtime_ns) == (made.change + 1, True)
    space.refused(Code.NOT_INLINE, put_file, PathRef(made.id), b"3", change=made.change)
    assert space.content("f") == b"2"
    chunked = space.file("g", length=1 << 21)
    space.refused(Code.NOT_INLINE, put_file, PathRef(chunked.id), b"3", change=chunked.change)


def test_a_file_with_several_names_keeps_them_all(space):
    before = space.do(put_file, "f", b"1")
    space.do(link, "f", "g")
    after = space.do(put_file, "f", b"2")
    assert (after.id, after.nlink) == (before.id, 2)
    assert space.content("g") == b"2"
    assert len(space.keys_of(keys.DATA)) == 1
    space.do(put_file, "g", b"3")
    assert space.content("f") == b"3"


@pytest.mark.parametrize("path", ["d", "d/", "", "d/new/"])
def test_a_directory_is_not_replaced(space, path):
    space.dir("d")
    space.refused(Code.IS_A_DIRECTORY, put_file, path, b"1")


def test_who_may_not_change_the_directory_is_refused(space):
    space.dir("d", 0o755)
    space.refused(Code.ACCESS, put_file, "d/f", b"1", user=space.alice)


def test_more_bytes_than_the_limit_are_refused(space):
    limit = space.defaults.inline_bytes
    space.do(put_file, "f", b"x" * limit)
    space.refused(Code.NOT_INLINE, put_file, "g", b"x" * (limit + 1))


def test_a_repetition_has_the_first_answer_and_no_effect(space):
    first = space.do(put_file, "f", b"1", seq=7)
    space.do(put_file, "f", b"2", seq=8)
    assert space.do(put_file, "f", b"1", seq=7) == first
    assert space.content("f") == b"2"


def test_attributes_and_names_leave_the_bytes_where_they_are(space):
    space.do(put_file, "f", b"1")
    before = space.keys_of(keys.DATA)
    space.do(set_attributes, "f", mode=0o600)
    space.do(link, "f", "g")
    space.do(remove, "f")
    assert space.keys_of(keys.DATA) == before
    assert space.content("g") == b"1"


def test_the_last_name_takes_the_bytes_along_and_leaves_nothing_to_reclaim(space):
    made = space.do(put_file, "f", b"1")
    space.do(remove, "f")
    assert not space.keys_of(keys.DATA)
    assert not space.keys_of(keys.GARBAGE)
    space.refused(Code.STALE, open_file, PathRef(made.id), want_data=True)


def test_a_damaged_row_is_no_empty_file(space):
    made = space.do(put_file, "f", b"1")

    async def damage(txn):
        row = await txn.get(keys.data_key(made.content_id))
        txn.delete(keys.data_key(made.content_id))
        return row

    row = space.raw(damage)
    space.refused(Code.INTERNAL, open_file, "f", want_data=True)

    async def mend(txn):
        txn.put(keys.data_key(made.content_id), row)
        return await get_data(txn, made)

    assert space.raw(mend) == b"1"
