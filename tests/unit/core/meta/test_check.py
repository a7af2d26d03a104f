"""The check finds each kind of damage, and nothing in a healthy namespace."""

import pytest
from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, ClientId, InodeId, SessionId
from fs3.core.meta import keys, rows
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.rows import Counters, Garbage, GarbageKind
from fs3.model.inode import Dirent, FileSession, InodeType
from fs3.model.namespace import RemoveKind


@pytest.fixture
def healthy(space):
    space.dir("d/e", parents=True)
    space.file("d/f")
    space.link("s", "d/f")
    space.do(link, "d/f", "d/g")
    space.open("d/f")
    space.open("d", unnamed=True)
    space.file("removed")
    space.do(remove, "removed", RemoveKind.FILE)
    space.dir("t/in", parents=True)
    space.do(remove, "t", RemoveKind.TREE, seq=3)
    assert space.problems() == []
    before = space.rows()
    yield space

    async def restore(txn):
        for key, _ in await txn.scan(b"", b"\xff", 1000):
            txn.delete(key)
        for key, value in before:
            txn.put(key, value)

    space.raw(restore)


def changed(path, **fields):
    def damage(txn, space, inode):
        rows.put_inode(txn, replace(inode, **fields))

    return path, damage


def file_session(inode):
    return FileSession(SessionId(2), InodeId(inode), ClientId(b"c" * 16), 0)


@pytest.mark.parametrize(
    ("path", "damage", "says"),
    [
        (*changed("d/f", nlink=1), "has 2 names, its nlink says 1"),
        (*changed("d/f", nlink=0), "nlink says 0"),
        (*changed("d", nlink=9), "1 subdirectories, its nlink says 9"),
        (*changed("d", length=9), "has 3 entries, its length says 9"),
        (*changed("d/e", parent=InodeId(ROOT_INODE)), "is an entry of"),
        (*changed("d/e", nlink=0), "0 garbage rows"),
        ("d/e", lambda txn, space, inode: txn.put(keys.inode_key(77), rows.encode(inode)), "says that its key is"),
        (*changed("s", length=2), "length 2 of 'd/f'"),
        (*changed("s", type=InodeType.FILE), "says SYMLINK, its inode FILE"),
        ("d/f", lambda txn, space, inode: txn.delete(keys.inode_key(inode.id)), "does not exist"),
        ("d", lambda txn, space, inode: txn.delete(keys.inode_key(inode.id)), "which is no directory"),
        ("d", lambda txn, space, inode: txn.delete(keys.dirent_key(ROOT_INODE, b"d")), "hangs below neither"),
        ("d", lambda txn, space, inode: txn.put(keys.dirent_key(inode.id, b".."), b"\x92\x01\x02"), "with the name b'..'"),
        ("d", lambda txn, space, inode: txn.put(keys.dirent_key(inode.id, b"a/b"), b"\x92\x01\x02"), "with the name b'a/b'"),
        ("d", lambda txn, space, inode: txn.put(keys.dirent_key(inode.id, b"loop"), rows.encode(Dirent(inode.id, inode.type))),
         "is an entry of"),
        ("d/f", lambda txn, space, inode: txn.put(keys.session_key(99, 2), rows.encode(file_session(99))), "which is no file"),
        ("d/f", lambda txn, space, inode: txn.put(keys.session_key(99, 2), rows.encode(file_session(5))), "says that its key is"),
        ("d/f", lambda txn, space, inode: txn.put(Garbage(inode.id, GarbageKind.FILE, 1).key,
                                                  rows.encode(Garbage(inode.id, GarbageKind.FILE, 1))), "1 garbage rows"),
        ("d/f", lambda txn, space, inode: txn.put(Garbage(inode.id, GarbageKind.TREE, 1).key,
                                                  rows.encode(Garbage(inode.id, GarbageKind.TREE, 1))), "names no DIRECTORY"),
        ("d/f", lambda txn, space, inode: txn.put(Garbage(inode.id, GarbageKind.FILE, 1).key,
                                                  rows.encode(Garbage(inode.id, GarbageKind.FILE, 2))), "is malformed"),
        ("", lambda txn, space, inode: rows.put_counters(txn, Counters(1000, 3, 2)), "3 inodes"),
        ("", lambda txn, space, inode: rows.put_counters(txn, Counters(1000, 8, 9)), "9 garbage rows"),
        ("", lambda txn, space, inode: rows.put_counters(txn, Counters(5, 8, 2)), "the next one to be drawn is 5"),
        ("", lambda txn, space, inode: txn.delete(keys.COUNTERS), "missing"),
        ("", lambda txn, space, inode: txn.put(keys.COUNTERS, b"x"), "malformed"),
        ("", lambda txn, space, inode: txn.delete(keys.inode_key(ROOT_INODE)), "no root directory"),
        ("", lambda txn, space, inode: txn.put(keys.request_key(b"c" * 16, 1), b"x"), "malformed"),
        ("", lambda txn, space, inode: txn.put(keys.inode_key(3), b"x"), "malformed"),
        ("", lambda txn, space, inode: txn.put(keys.dirent_key(1, b"x"), b"x"), "malformed"),
        ("", lambda txn, space, inode: txn.put(keys.session_key(1, 1), b"x"), "malformed"),
        ("", lambda txn, space, inode: txn.put(keys.garbage_key(1, 1, 1), b"x"), "malformed"),
    ],
)  # fmt: skip
def test_damage_is_found(healthy, path, damage, says):
    inode = healthy.stat(path)

    async def op(txn):
        damage(txn, healthy, inode)

    healthy.raw(op)
    problems = healthy.problems()
    assert any(says in problem for problem in problems), problems


def test_a_cycle_is_found(healthy):
    d, e = healthy.stat("d"), healthy.stat("d/e")

    async def op(txn):
        txn.delete(keys.dirent_key(ROOT_INODE, b"d"))
        rows.put_dirent(txn, keys.dirent_key(e.id, b"d"), d)
        rows.put_inode(txn, replace(d, parent=e.id))
        rows.put_inode(txn, replace(e, length=1, nlink=3))
        root = healthy.stat("")
        rows.put_inode(txn, replace(root, length=root.length - 1, nlink=root.nlink - 1))

    healthy.raw(op)
    assert [problem for problem in healthy.problems() if "hangs below" not in problem] == []
    assert len(healthy.problems()) == 2


def test_creating_the_root_again_changes_nothing(healthy):
    before = healthy.rows()
    assert healthy.do(ensure_root, mode=0o700, user=healthy.alice) == healthy.stat("")
    assert healthy.rows() == before
