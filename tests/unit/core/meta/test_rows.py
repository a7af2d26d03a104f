"""A row that is not what it should be gives one clear error, wherever it is met."""

import msgspec
import pytest

from fs3.base.ids import ClientId, InodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.garbage import unlink
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.stat import stat
from fs3.model.inode import FileSession, Inode, InodeType, Layout
from fs3.model.namespace import PathRef


@pytest.fixture
def damaged(space):
    """Writes a row as it is; everything is put back at the end."""
    space.file("f")
    before = []

    def write(key, value):
        before.append((key, dict(space.rows()).get(key)))

        async def op(txn):
            txn.put(key, value)

        space.raw(op)
        return space

    yield write

    async def restore(txn):
        for key, value in reversed(before):
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)

    space.raw(restore)


def test_rows_round_trip():
    inode = Inode(InodeId(7), InodeType.SYMLINK, 0o777, 1, 2, 1, 3, -4, 5, 6, 7, 8, InodeId(0), Layout(1, 2, 3, (4, 5)), "ü", 9)
    assert rows.decode_inode(b"k", rows.encode(inode)) == inode


def test_an_older_row_gets_the_defaults_of_newer_fields():
    inode = Inode(InodeId(7), InodeType.FILE, 0o644, 1, 2, 1, 3, 4, 5, 6, 7, 8, InodeId(0), Layout(1, 2, 3))
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(rows.encode(inode))[:14])
    assert rows.decode_inode(b"k", older) == inode


def test_older_rows_of_sessions_and_garbage():
    session = FileSession(SessionId(5), InodeId(7), ClientId(bytes(16)), 9, append=True)
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(rows.encode(session))[:7])
    assert rows.decode_session(b"k", older) == session
    garbage = rows.Garbage(InodeId(7), rows.GarbageKind.FILE, 9)
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(rows.encode(garbage))[:3])
    assert rows.decode_garbage(garbage.key, older) == garbage


def test_an_inode_named_by_its_id(damaged, space):
    key = keys.inode_key(space.stat("f").id)
    damaged(key, b"\x91\x01")
    assert repr(key) in space.refused(Code.INTERNAL, stat, PathRef(InodeId(2)), True).message


def test_a_remembered_answer_that_is_none(damaged, space):
    key = keys.request_key(space.client, 5)
    damaged(key, rows.encode(rows.RequestRecord("mkdir", 1, msgspec.Raw(rows.encode("no inode")))))
    assert repr(key) in space.refused(Code.INTERNAL, mkdir, "d", seq=5).message
    damaged(key, b"\xc1")
    assert repr(key) in space.refused(Code.INTERNAL, mkdir, "d", seq=5).message


def test_a_file_without_a_name_cannot_lose_one(space):
    nameless = Inode(InodeId(7), InodeType.FILE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, InodeId(0), Layout(0, 0, 0))
    assert "with 0 names" in space.refused(Code.INTERNAL, unlink, nameless).message
