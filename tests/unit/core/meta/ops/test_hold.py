"""What is read and has no name any more is kept for its readers, until they let go or it is too late."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.ids import InodeId, reader_session
from fs3.base.status import Code
from fs3.core.meta import garbage, keys, rows, sessions
from fs3.core.meta.allocation import adjust_counts
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.hold import find_unnamed, hold
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.rows import GarbageKind
from fs3.core.txn import Txn
from fs3.model.inode import FileSession
from fs3.model.namespace import PathRef
from fs3.model.requests import KeepAlive, Open, Put, Remove, Rename


def reading(space: Any, record: Any, operation: Any, *contents: InodeId) -> Any:
    """A request of a client that has these contents open for reading."""
    space.wall += 1000
    ctx: OpContext = space.context()
    ctx.open_contents = frozenset(contents)
    return space.kv.transact_now(lambda txn: operation(txn, ctx, record))


def queued(space: Any) -> list[InodeId]:
    return [inode.id for _, inode in space.raw(lambda txn: garbage.next_garbage(txn, 100))]


def sessions_of(space: Any) -> list[FileSession]:
    return space.raw(lambda txn: sessions.list_sessions(txn, None, 100))  # type: ignore[no-any-return]


def begin_reclaim(space: Any) -> set[InodeId]:
    async def op(txn: Txn) -> set[InodeId]:
        return await garbage.begin_reclaim(txn, [one for one, _ in await garbage.next_garbage(txn, 100)])

    return space.raw(op)  # type: ignore[no-any-return]


MINE = reader_session(b"client-number-01")  # type: ignore[arg-type]


def test_what_the_client_reads_is_kept_by_the_removal_itself(space: Any) -> None:
    file = space.file("f", length=10)
    reading(space, Remove(PathRef.of("f")), remove, InodeId(77), file.id)
    assert queued(space) == []
    (session,) = sessions_of(space)
    assert (session.content, session.id, session.reader) == (file.id, MINE, True)
    assert space.problems() == []
    space.do(close_file, file.id, MINE)
    assert queued(space) == [file.id]
    assert sessions_of(space) == []


def test_a_file_that_has_another_name_needs_no_session(space: Any) -> None:
    file = space.file("f", length=10)
    space.do(rename, PathRef.of("f"), PathRef.of("g"))
    other = space.file("f", length=5)
    reading(space, Rename(PathRef.of("g"), PathRef.of("h")), rename, file.id)
    assert sessions_of(space) == []
    reading(space, Rename(PathRef.of("f"), PathRef.of("h")), rename, file.id, other.id)
    assert [session.content for session in sessions_of(space)] == [file.id]
    space.do(close_file, file.id, MINE)


def test_the_old_bytes_of_a_file_that_gets_others_are_kept(space: Any) -> None:
    file = space.file("f", length=10)
    after = reading(space, Put(PathRef.of("f"), b"new"), put_file, file.id)
    assert after.id == file.id
    assert [session.content for session in sessions_of(space)] == [file.id]
    held = space.do(hold, file.id)
    assert (held.inode.content_id, held.inode.length, held.inode.nlink) == (file.id, 10, 0)
    opened = reading(space, Open(PathRef.of("f"), write=True, truncate=True), open_file, after.content_id)
    assert space.do(hold, after.content_id).data == b"new", "an inline file is kept with its bytes"
    for content, session in ((file.id, MINE), (after.content_id, MINE), (opened.inode.content_id, opened.session)):
        space.do(close_file, content, session)
    assert len(queued(space)) == 1, "only one of the two had chunks"


def test_another_clients_reader_takes_it_off_the_queue(space: Any) -> None:
    file = space.file("f", length=10)
    assert space.do(hold, file.id, client=space.other).session == 0, "it has a name"
    space.do(remove, "f")
    assert queued(space) == [file.id]
    assert space.raw(lambda txn: find_unnamed(txn, KeepAlive((InodeId(999), file.id)))) == [file.id]
    held = space.do(hold, file.id, client=space.other)
    assert held.session == reader_session(space.other)
    assert held.inode.queued_ns is None
    assert queued(space) == []
    assert begin_reclaim(space) == set()
    assert space.problems() == []
    space.do(hold, file.id)
    space.do(close_file, file.id, held.session, client=space.other)
    assert queued(space) == [], "the first client reads on"
    space.do(close_file, file.id, MINE)
    assert queued(space) == [file.id]


def test_it_is_too_late_when_its_chunks_are_being_removed(space: Any) -> None:
    file = space.file("f", length=10)
    space.do(remove, "f")
    assert begin_reclaim(space) == {file.id}
    assert begin_reclaim(space) == {file.id}, "a service that goes on with it"
    space.refused(Code.STALE, hold, file.id)
    assert space.problems() == []
    (row,) = space.keys_of(keys.GARBAGE)
    (waiting,) = space.raw(lambda txn: garbage.next_garbage(txn, 1))
    assert waiting[0].begun
    assert waiting[0].key == row
    assert space.raw(lambda txn: garbage.delete_file(txn, waiting[0]))
    space.refused(Code.STALE, hold, file.id)


def test_what_older_software_has_queued_is_not_kept(space: Any) -> None:
    file = space.file("f", length=10)
    space.do(remove, "f")

    async def forget(txn: Txn) -> None:
        rows.put_inode(txn, replace(await rows.get_inode(txn, file.id), queued_ns=None))

    space.raw(forget)
    space.refused(Code.STALE, hold, file.id)


def test_what_was_queued_by_mistake_is_not_reclaimed_under_a_session(space: Any) -> None:
    file = space.file("f", length=10)
    opened = space.open("f")
    space.do(remove, "f")

    async def queue(txn: Txn) -> None:
        row = rows.Garbage(file.id, GarbageKind.FILE, 5)
        txn.put(row.key, rows.encode(row))
        await adjust_counts(txn, garbage=1)

    space.raw(queue)
    assert begin_reclaim(space) == set()
    assert queued(space) == []
    space.do(close_file, file.id, opened.session)
    assert queued(space) == [file.id]


def test_a_readers_session_changes_nothing(space: Any) -> None:
    file = space.file("f", length=10)
    reading(space, Remove(PathRef.of("f")), remove, file.id)
    for options in ({"length": 50}, {"modified": True}, {"publish": "g"}, {"discard": True}):
        space.refused(Code.NO_SESSION, close_file, file.id, MINE, **options)
    space.refused(Code.NO_SESSION, sync, file.id, MINE, length=50)
    assert space.do(sync, file.id, MINE).length == 10
    space.refused(Code.STALE, truncate, file.id, 5)
    space.refused(Code.NO_SESSION, close_file, file.id, MINE, client=space.other)
    space.do(close_file, file.id, MINE)
    space.refused(Code.NO_SESSION, close_file, file.id, MINE)


def test_keeping_needs_the_permission_to_read(space: Any) -> None:
    file = space.file("f", mode=0o600, user=space.alice, length=10)
    space.do(remove, "f")
    with pytest.raises(MetaError) as caught:
        space.do(hold, file.id, user=space.eve)
    assert caught.value.code is Code.ACCESS
    space.do(hold, file.id, user=space.alice)
    space.do(close_file, file.id, MINE)


def test_the_session_of_a_reader_that_died_is_not_remembered(space: Any) -> None:
    file = space.file("f", length=10)
    reading(space, Remove(PathRef.of("f")), remove, file.id)
    (session,) = sessions_of(space)
    space.raw(lambda txn: sessions.prune(txn, space.context(), session, None))
    assert space.keys_of(keys.PRUNED) == []
    assert queued(space) == [file.id]
    held = space.do(hold, file.id)
    assert held.session == MINE, "it comes back in time"
    space.do(close_file, file.id, MINE)


def test_ids_are_not_drawn_for_readers(space: Any) -> None:
    file = space.file("f", length=10)
    reading(space, Remove(PathRef.of("f")), remove, file.id)
    assert space.problems() == [], "the largest session id is not taken for one that was drawn"
    space.do(close_file, file.id, MINE)


def test_who_keeps_a_file_may_write_it(space: Any) -> None:
    file = space.file("f", length=10)
    reading(space, Remove(PathRef.of("f")), remove, file.id)
    opened = space.do(open_file, PathRef(file.id), write=True)
    assert space.do(sync, file.id, opened.session, length=50, modified=True).length == 50
    space.do(close_file, file.id, MINE)
    assert queued(space) == []
    assert space.do(truncate, file.id, 5).length == 5
    space.do(close_file, file.id, opened.session)
    assert queued(space) == [file.id]


def test_who_keeps_a_file_opens_it_again(space: Any) -> None:
    file = space.do(put_file, "f", b"small")
    reading(space, Remove(PathRef.of("f")), remove, file.id)
    opened = space.see(open_file, PathRef(file.id), want_data=True)
    assert (opened.data, opened.session) == (b"small", 0)
    space.refused(Code.STALE, open_file, PathRef(file.id), client=space.other)
    space.refused(Code.STALE, open_file, PathRef(file.id), client=space.other, write=True)
    space.refused(Code.STALE, open_file, PathRef(file.id), write=True, truncate=True)
    space.do(close_file, file.id, MINE)
    space.refused(Code.STALE, open_file, PathRef(file.id))
