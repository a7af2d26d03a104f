"""Contents of files apart from their inodes: what is replaced keeps its inode, what is replaced is reclaimed."""

import pytest
from msgspec.structs import fields, replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.contents import CONTENT_FIELDS, find_by_content, get_by_content
from fs3.core.meta.errors import MetaError
from fs3.core.meta.garbage import delete_file, next_garbage
from fs3.core.meta.ops.append import append
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.sessions import list_sessions, prune
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import AppendStep

OWN_FIELDS = {
    "id", "type", "mode", "uid", "gid", "nlink", "atime_ns", "ctime_ns", "birth_ns", "change", "parent", "target",
    "dirent_serial", "rdev", "raw_target", "xattr_bytes", "grants", "queued_ns",
}  # fmt: skip
"""What an inode keeps when its content is replaced."""


def put(space, path="f", length=7, **options):
    """A file is written and published as `path`."""
    opened = space.open("", unnamed=True, **options)
    return space.do(close_file, opened.inode.id, opened.session, length=length, modified=True, publish=path, **options)


def owner(space, content):
    return space.kv.read_now(lambda txn: find_by_content(txn, content))


def content_rows(space):
    found = [(key, row) for key, row in space.rows() if key.startswith(keys.CONTENT)]
    return {keys.content_of(key): rows.decode_content_owner(key, row) for key, row in found}


def reclaim(space):
    """What the service does with everything in the queue: the contents whose chunks it removes."""
    found = space.kv.read_now(lambda txn: next_garbage(txn, 100))
    for garbage, _ in found:
        assert space.raw(lambda txn, garbage=garbage: delete_file(txn, garbage))
    return [inode.content_id for _, inode in found]


def test_every_field_is_the_contents_or_the_inodes_own():
    assert {field.name for field in fields(Inode)} == OWN_FIELDS | set(CONTENT_FIELDS) | {"content"}


def test_a_new_file_has_the_content_of_its_own_id(space):
    made = space.file("f")
    assert (made.content, made.content_id) == (0, made.id)
    assert content_rows(space) == {}


def test_what_replaces_a_content_leaves_the_inode_what_it_is(space):
    old = space.file("f", mode=0o640, length=100)
    new = put(space, length=7)
    for name in OWN_FIELDS - {"ctime_ns", "change"}:
        assert getattr(new, name) == getattr(old, name), name
    assert (new.length, new.mtime_ns, new.ctime_ns, new.change > old.change) == (7, space.wall, space.wall, True)
    assert new.layout.chains != old.layout.chains
    assert owner(space, new.content_id) == new


def test_each_content_is_some_inodes_until_it_is_reclaimed(space):
    old = space.file("f", length=100)
    first = put(space, length=1)
    second = put(space, length=2)
    assert second.id == old.id
    assert [owner(space, inode.content_id).length for inode in (old, first, second)] == [100, 1, 2]
    assert sorted(reclaim(space)) == sorted([old.content_id, first.content_id])
    assert owner(space, old.content_id) is None
    assert owner(space, second.content_id) == second
    assert content_rows(space) == {second.content_id: old.id}
    space.do(remove, "f", RemoveKind.FILE)
    assert reclaim(space) == [second.content_id]
    assert content_rows(space) == {}


def test_a_content_whose_writers_go_on_is_kept_for_them(space):
    space.file("f", length=100)
    writer = space.open("f", client=space.other)
    put(space)
    assert reclaim(space) == []
    told = space.do(sync, writer.inode.content_id, writer.session, length=200, modified=True, client=space.other)
    assert (told.id != writer.inode.id, told.nlink, told.length) == (True, 0, 200)
    assert space.stat("f").length == 7
    space.do(close_file, writer.inode.content_id, writer.session, client=space.other)
    assert reclaim(space) == [writer.inode.content_id]
    space.refused(Code.STALE, truncate, writer.inode.content_id, 0)


def test_an_old_content_is_not_truncated_or_appended_to_as_the_new_one(space):
    old = space.file("f", length=100)
    appender = space.open("f", append=True, client=space.other)
    space.do(append, old.id, appender.session, AppendStep.TAKE, client=space.other)
    new = put(space)
    assert new.append is None
    for step in (AppendStep.PUBLISH, AppendStep.TAKE):
        space.refused(Code.STALE, append, old.id, appender.session, step, serial=1, length=110, client=space.other)
    space.refused(Code.STALE, truncate, old.content_id, 0)
    assert space.stat("f") == new
    space.do(close_file, old.id, appender.session, client=space.other)
    assert reclaim(space) == [old.id]


def test_counts_are_the_contents(space):
    old = space.file("f", length=100)
    space.finish_trim(space.do(truncate, old.id, 5))
    session = space.open("f", append=True).session
    space.do(append, old.id, session, AppendStep.TAKE)
    assert (space.stat("f").truncations, space.stat("f").appends) == (1, 1)
    new = put(space)
    assert (new.truncations, new.appends) == (0, 0)
    left = owner(space, old.content_id)
    assert (left.truncations, left.appends, left.append.session) == (1, 1, session)
    space.do(close_file, old.content_id, session)
    assert reclaim(space) == [old.content_id]


def test_a_truncation_that_still_cuts_goes_where_its_content_goes(space):
    old = space.file("f", length=100)
    cut = space.do(truncate, old.id, 0)
    fresh = space.open("", unnamed=True)
    space.do(sync, fresh.inode.id, fresh.session, length=50)
    cut_too = space.do(truncate, fresh.inode.id, 0)
    assert cut_too.trim == cut.trim
    new = space.do(close_file, fresh.inode.id, fresh.session, publish="f")
    # Whoever has cut the old content says so of the inode, which has another one with the same truncation now.
    assert space.finish_trim(cut).trim is not None
    assert space.finish_trim(new).trim is None
    left = owner(space, old.content_id)
    assert space.finish_trim(left).trim is None
    assert not [key for key, _ in space.rows() if key.startswith(keys.TRIM)]


def test_names_that_come_and_go_meanwhile(space):
    """What counts is what has the name when the writer closes."""
    old = space.file("f", length=100)
    opened = [space.open("", unnamed=True) for _ in range(4)]

    def publish(number):
        return space.do(close_file, opened[number].inode.id, opened[number].session, length=number, modified=True, publish="f")

    space.do(link, "f", "g")
    space.do(set_attributes, "f", mode=0o600)
    assert (publish(1).id, space.stat("g").length, space.stat("g").mode) == (old.id, 1, 0o600)
    space.do(rename, "f", "h")
    assert publish(2).id == opened[2].inode.id
    assert (space.stat("h").id, space.stat("g").length) == (old.id, 1)
    space.do(remove, "f", RemoveKind.FILE)
    assert publish(3).id == opened[3].inode.id
    space.do(rename, "h", "f")
    assert space.stat("f").id == old.id
    assert publish(0).id == old.id


def test_a_dead_writer_of_an_old_content_is_buried_with_it(space):
    old = space.file("f", length=100)
    writer = space.open("f", client=space.other)
    new = put(space)
    (session,) = [one for one in space.raw(lambda txn: list_sessions(txn, None, 100)) if one.id == writer.session]
    space.do(prune, session, 500, 0)
    assert space.stat("f") == new
    with pytest.raises(MetaError, match="removed or replaced"):
        space.do(sync, old.id, writer.session, length=9, client=space.other)
    assert reclaim(space) == [old.id]


def test_a_session_can_be_taken_up_again_on_the_content_it_was_opened_on(space):
    space.file("f", length=100)
    new = put(space)
    writer = space.open("f")
    (session,) = space.raw(lambda txn: list_sessions(txn, None, 100))
    assert session.content == new.content_id
    space.do(prune, session, None, 0)
    assert space.do(close_file, new.content_id, writer.session, length=90).id == new.id
    assert space.stat("f").length == 90


def test_a_repeated_publish_answers_what_the_first_did(space):
    space.file("f", length=100)
    opened = space.open("", unnamed=True)
    options = {"length": 7, "modified": True, "publish": "f", "seq": 9}
    first = space.do(close_file, opened.inode.id, opened.session, **options)
    put(space, length=8)
    assert space.do(close_file, opened.inode.id, opened.session, **options) == first
    assert space.stat("f").length == 8


def test_a_content_that_a_session_needs_and_no_inode_has_is_said(space):
    with pytest.raises(MetaError, match="no inode has the content"):
        space.kv.read_now(lambda txn: get_by_content(txn, InodeId(999)))


def test_a_row_that_names_an_inode_with_another_content_is_said(space):
    made = space.file("f")
    wrong = replace(made, content=InodeId(900))

    async def damage(txn):
        rows.put_content_owner(txn, wrong)

    space.raw(damage)
    with pytest.raises(MetaError, match="which has content"):
        owner(space, InodeId(900))

    async def mend(txn):
        txn.delete(keys.content_key(InodeId(900)))

    space.raw(mend)


def test_a_file_opened_by_its_id_has_the_content_it_has_now(space):
    old = space.file("f")
    new = put(space)
    assert space.do(open_file, PathRef(old.id), write=True).inode == new
