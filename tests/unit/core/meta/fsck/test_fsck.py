"""The check finds each kind of damage, and nothing in a healthy namespace."""

import pytest
from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, ClientId, InodeId, NodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.fsck.namespace_check import NamespaceCheck, TxnSource
from fs3.core.meta.fsck.problems import chunk_name, describe, name_of, parse_chunk_name
from fs3.core.meta.fsck.repair import repair
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.lock import lock
from fs3.core.meta.ops.mknod import mknod
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.rows import Garbage, GarbageKind, NamespaceCounters, ServiceTally
from fs3.model.check import Problem, ProblemKind
from fs3.model.inode import Dirent, FileSession, InodeType
from fs3.model.lock import LOCK_END, ClientLocks, HeldLock, InodeLocks, LockKind, LockOwner, LockStep
from fs3.model.namespace import RemoveKind

LOCKER = ClientId(b"e" * 16)
LOCKS = InodeLocks((HeldLock(LockKind.FLOCK, LockOwner(LOCKER, 1, True), 0, LOCK_END, True, 1),))


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
    space.do(put_file, "small", b"12345")
    space.do(mknod, "device", InodeType.CHARACTER_DEVICE, rdev=0x103)
    space.do(lock, space.stat("small").id, LockStep.TRY, client=LOCKER, seq=1)
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


def stored(key, row):
    return lambda txn, space, inode: txn.put(key, row)


def entry(name, row=None):
    """An entry with a strange name in the directory, of a file that exists."""

    def damage(txn, space, inode):
        txn.put(keys.dirent_key(inode.id, name), row or rows.encode(Dirent(space.stat("d/f").id, InodeType.FILE)))

    return damage


def garbage(kind, *, says=1):
    def damage(txn, space, inode):
        txn.put(Garbage(inode.id, kind, 1).key, rows.encode(Garbage(inode.id, kind, says)))

    return damage


def replaced(damage=lambda txn, file, left: None):
    """A file whose content was replaced, and then damage: of the file, and of the inode that is left with the old content."""

    def replaces(txn, space, inode):
        fresh = replace(inode, id=InodeId(40), nlink=0, content=InodeId(0))
        file, left = replace(inode, content=fresh.id), replace(fresh, content=inode.id)
        rows.put_counters(txn, NamespaceCounters(1000, 12, 2))
        for one in (file, left):
            rows.put_inode(txn, one)
            rows.put_content_owner(txn, one)
        damage(txn, file, left)

    return replaces


def forgets_content(txn, file, left):
    txn.delete(keys.content_key(file.content))


def confuses_content(txn, file, left):
    txn.put(keys.content_key(file.content), rows.encode(left.id))


def garbles_content(txn, file, left):
    txn.put(keys.content_key(file.content), b"\xc1")


def shares_content(txn, file, left):
    rows.put_inode(txn, replace(left, content=file.content))
    txn.delete(keys.content_key(left.content))


def takes_content_back(txn, file, left):
    rows.put_inode(txn, replace(file, content=InodeId(0)))
    txn.delete(keys.content_key(file.content))


def loses_inode(txn, space, inode):
    txn.delete(keys.inode_key(inode.id))


def loses_entry(parent, name):
    return lambda txn, space, inode: txn.delete(keys.dirent_key(parent, name))


def unqueued(txn, space, inode):
    for key, row in space.rows():
        if key.startswith(keys.GARBAGE) and rows.decode_garbage(key, row).kind is GarbageKind.FILE:
            txn.delete(key)


def queued_again(txn, space, inode):
    for key, row in space.rows():
        if key.startswith(keys.GARBAGE):
            twice = replace(rows.decode_garbage(key, row), queued_ns=17)
            txn.put(twice.key, rows.encode(twice))


def loses_data(txn, space, inode):
    txn.delete(keys.data_key(inode.id))


DAMAGE = [
    (*changed("small", inline=False), "data-of-nothing"),
    (*changed("small", length=4), "inline-length"),
    ("small", loses_data, "inline-without-data"),
    (*changed("d/f", inline=True), "inline-without-data"),
    ("", stored(keys.data_key(InodeId(9999)), rows.encode(b"x")), "data-of-nothing"),
    ("small", lambda txn, space, inode: txn.put(keys.data_key(inode.id), b"\xc1"), "unreadable"),
    (*changed("d/f", nlink=1), "wrong-nlink"),
    (*changed("d/f", nlink=0), "wrong-nlink"),
    (*changed("s", nlink=0), "wrong-nlink"),
    (*changed("d", nlink=9), "directory-miscounted"),
    (*changed("d", length=9), "directory-miscounted"),
    (*changed("d/e", length=9), "directory-miscounted"),
    (*changed("d/e", parent=InodeId(ROOT_INODE)), "entry-of-other-parent"),
    (*changed("d/e", nlink=0), "wrong-nlink"),
    (*changed("s", length=2), "symlink-length"),
    (*changed("s", type=InodeType.FILE), "entry-of-other-type"),
    ("d/e", lambda txn, space, inode: txn.put(keys.inode_key(77), rows.encode(inode)), "unreadable miscounted"),
    ("d/f", loses_inode, "entry-without-inode session-of-nothing miscounted"),
    ("d", loses_inode, "entry-without-directory entry-without-inode miscounted"),
    ("d", loses_entry(ROOT_INODE, b"d"), "without-name directory-miscounted"),
    ("s", loses_entry(ROOT_INODE, b"s"), "without-name directory-miscounted"),
    ("device", loses_entry(ROOT_INODE, b"device"), "without-name directory-miscounted"),
    (*changed("device", nlink=0), "wrong-nlink"),
    (*changed("device", type=InodeType.FIFO), "entry-of-other-type"),
    ("d", entry(b".."), "entry-misnamed directory-miscounted wrong-nlink"),
    ("d", entry(b"a/b"), "entry-misnamed directory-miscounted wrong-nlink"),
    ("d", lambda txn, space, inode: txn.put(keys.dirent_key(inode.id, b"loop"), rows.encode(Dirent(inode.id, inode.type))),
     "entry-of-other-parent directory-names directory-miscounted"),
    ("d", lambda txn, space, inode: txn.put(keys.dirent_key(ROOT_INODE, b"d2"), rows.encode(Dirent(inode.id, inode.type))),
     "directory-names directory-miscounted"),
    ("d/f", stored(keys.session_key(99, 2), rows.encode(file_session(99))), "session-of-nothing session-of-nobody"),
    ("d/f", lambda txn, space, inode: txn.delete(keys.client_key(space.client)), "session-of-nobody"),
    ("", stored(keys.client_key(ClientId(b"d" * 16)), b"x"), "unreadable"),
    ("", stored(keys.inode_locks_key(InodeId(9999)), rows.encode(LOCKS)), "locks-of-nothing"),
    ("", lambda txn, space, inode: txn.delete(keys.client_key(LOCKER)), "locks-of-nobody"),
    ("", stored(keys.client_locks_key(ClientId(b"d" * 16)), rows.encode(ClientLocks(5))), "locks-of-nobody"),
    ("", stored(keys.client_locks_key(ClientId(b"d" * 16)), b"x"), "unreadable"),
    ("d/f", lambda txn, space, inode: txn.put(keys.inode_locks_key(inode.id), b"x"), "unreadable"),
    ("", stored(keys.pruned_key(InodeId(1), SessionId(1)), b"x"), "unreadable"),
    ("d/f", stored(keys.session_key(99, 2), rows.encode(file_session(5))), "unreadable"),
    ("d/f", garbage(GarbageKind.FILE), "garbage-in-use miscounted"),
    ("d/f", garbage(GarbageKind.TREE), "garbage-of-nothing miscounted"),
    ("d/f", garbage(GarbageKind.FILE, says=2), "unreadable miscounted"),
    ("", unqueued, "not-queued miscounted"),
    ("", queued_again, "queued-twice miscounted"),
    ("", lambda txn, space, inode: rows.put_counters(txn, NamespaceCounters(1000, 3, 2)), "miscounted"),
    ("", lambda txn, space, inode: rows.put_counters(txn, NamespaceCounters(1000, 8, 9)), "miscounted"),
    ("", lambda txn, space, inode: rows.put_counters(txn, NamespaceCounters(5, 8, 2)), "id-in-use miscounted"),
    ("", lambda txn, space, inode: txn.delete(keys.COUNTERS), "miscounted"),
    ("", stored(keys.COUNTERS, b"x"), "miscounted"),
    ("", stored(keys.tally_key(NodeId(7)), rows.encode(ServiceTally(1000, 2000, 1, 0))), "miscounted"),
    ("", stored(keys.tally_key(NodeId(7)), rows.encode(ServiceTally(0, 0, 0, -1))), "miscounted"),
    ("", stored(keys.tally_key(NodeId(7)), b"x"), "miscounted"),
    ("", stored(keys.tally_key(NodeId(7)), rows.encode(ServiceTally(2, 2000))), "id-in-use"),
    ("", loses_inode, "no-root entry-without-directory miscounted"),
    ("", stored(keys.request_key(b"c" * 16, 1), b"x"), "unreadable"),
    ("", stored(keys.inode_key(3), b"x"), "unreadable"),
    ("", stored(keys.dirent_key(1, b"x"), b"x"), "unreadable directory-miscounted"),
    ("", stored(keys.session_key(1, 1), b"x"), "unreadable"),
    ("", stored(keys.garbage_key(1, 1, 1), b"x"), "unreadable miscounted"),
    ("d/g", replaced(), ""),
    ("d/g", replaced(forgets_content), "content-unlisted"),
    ("d/g", replaced(confuses_content), "content-unlisted content-of-nothing"),
    ("d/g", replaced(garbles_content), "content-unlisted unreadable"),
    ("d/g", replaced(shares_content), "content-shared session-of-nothing not-queued"),
    ("d/g", replaced(takes_content_back), "content-shared"),
    ("", stored(keys.content_key(9), rows.encode(78)), "content-of-nothing"),
    ("", stored(keys.content_key(2000), rows.encode(78)), "content-of-nothing id-in-use"),
    ("", stored(keys.content_key(9), b"\xc1"), "unreadable"),
]  # fmt: skip


def survey(space, per_page=3):
    async def op(txn):
        found = NamespaceCheck(TxnSource(txn, per_page), per_pass=4)
        await found.run()
        return found

    return space.kv.read_now(op)


def kinds(space, per_page=3):
    found = survey(space, per_page)
    assert not found.unsettled
    assert all(describe(problem) for problem in found.problems)
    return {name_of(problem) for problem in found.problems}


@pytest.mark.parametrize("number", range(len(DAMAGE)))
def test_damage_is_found_exactly_and_repaired(healthy, number):
    path, damage, expected = DAMAGE[number]
    inode = healthy.stat(path)
    inodes = sum(key.startswith(keys.INODE) for key, _ in healthy.rows()) - (damage is loses_inode)

    async def op(txn):
        damage(txn, healthy, inode)

    healthy.raw(op)
    assert kinds(healthy) == set(expected.split()), kinds(healthy)
    assert kinds(healthy, per_page=1000) == set(expected.split())
    assert len(healthy.problems()) >= len(expected.split())
    if "cannot be repaired" in str(repaired(healthy)):
        return
    assert kinds(healthy) == set()
    assert sum(key.startswith(keys.INODE) for key, _ in healthy.rows()) >= inodes, "a repair loses nothing that was there"


def repaired(space, rounds=6):
    """Check and repair until nothing is done any more."""
    for _ in range(rounds):
        done = [space.do(repair, problem).done for problem in survey(space).problems]
        if not any(done):
            return "cannot be repaired" if done else "clean"
    raise AssertionError("repairs do not end")


def test_an_unreadable_directory_is_made_again_around_its_entries(healthy):
    before, below = healthy.stat("d"), healthy.tree("d")
    healthy.raw(spoil(before.id))
    found = kinds(healthy)
    assert found == {"unreadable"}, found
    assert repaired(healthy) == "clean"
    after = healthy.stat("d")
    assert healthy.tree("d") == below
    assert (after.id, after.parent, after.length, after.nlink) == (before.id, ROOT_INODE, before.length, before.nlink)
    assert after.change > before.change
    assert after.mode & 0o077 == 0


def test_an_unreadable_root_is_made_again(healthy):
    below = healthy.tree("")
    healthy.raw(spoil(ROOT_INODE))
    assert repaired(healthy) == "clean"
    assert healthy.tree("") == below


def test_an_unreadable_symlink_goes_with_its_name(healthy):
    healthy.raw(spoil(healthy.stat("s").id))
    assert repaired(healthy) == "clean"
    assert "s" not in healthy.tree("")


def test_an_unreadable_special_file_goes_with_its_name(healthy):
    healthy.raw(spoil(healthy.stat("device").id))
    said = [describe(problem) for problem in survey(healthy).problems]
    assert any("names character device" in each for each in said)
    assert repaired(healthy) == "clean"
    assert "device" not in healthy.tree("")


def test_entries_that_are_not_utf8_are_sound_and_shown_escaped(healthy):
    raw = "caf\udce9"
    healthy.dir(raw)
    healthy.link(f"{raw}/{raw}", raw)
    healthy.file(f"{raw}/\udcff")
    assert healthy.problems() == []
    lost = healthy.stat(f"{raw}/\udcff").id
    healthy.raw(damage_of(keys.inode_key(lost)))
    assert any(r"entry '\udcff' of directory" in describe(problem) for problem in survey(healthy).problems)
    assert repaired(healthy) == "clean"
    assert healthy.names(raw) == [raw]


def damage_of(key):
    async def op(txn):
        txn.delete(key)

    return op


def test_an_unreadable_file_stays_with_its_name(healthy):
    """What says where its bytes are may be in a copy; without the row, its chunks would be removed as nobody's."""
    f = healthy.stat("d/f")
    below = healthy.tree("d")
    healthy.raw(spoil(f.id))
    assert repaired(healthy) == "cannot be repaired"
    assert kinds(healthy) == {"unreadable"}
    said = [describe(problem) for problem in survey(healthy).problems]
    assert f"entry 'f' of directory {healthy.stat('d').id} names file {f.id}, whose row cannot be read" in said
    assert healthy.tree("d") == below


def spoil(inode):
    async def op(txn):
        txn.put(keys.inode_key(inode), b"x")

    return op


def test_a_loop_is_found_once_and_broken(healthy):
    d, e = healthy.stat("d"), healthy.stat("d/e")

    async def op(txn):
        txn.delete(keys.dirent_key(ROOT_INODE, b"d"))
        rows.put_dirent(txn, keys.dirent_key(e.id, b"d"), d)
        rows.put_inode(txn, replace(d, parent=e.id))
        rows.put_inode(txn, replace(e, length=1, nlink=3))
        root = healthy.stat("")
        rows.put_inode(txn, replace(root, length=root.length - 1, nlink=root.nlink - 1))

    healthy.raw(op)
    (problem,) = survey(healthy).problems
    assert name_of(problem) == "directory-loop"
    assert "loop of 2" in describe(problem)
    assert repaired(healthy) == "clean"
    assert healthy.tree("lost+found") == {f"lost+found/#{d.id}{below}" for below in ("/", "/e/", "/f", "/g")}


def test_a_repair_whose_premise_is_gone_does_nothing(healthy):
    f = healthy.stat("d/f")

    async def op(txn):
        rows.put_inode(txn, replace(f, nlink=7))

    healthy.raw(op)
    (problem,) = survey(healthy).problems
    healthy.do(link, "d/f", "d/h")
    before = healthy.rows()
    assert not healthy.do(repair, problem).done
    assert healthy.rows() == before
    assert repaired(healthy) == "clean"
    assert healthy.stat("d/f").nlink == 3


def test_a_repair_that_is_repeated_answers_the_same(healthy):
    async def op(txn):
        rows.put_inode(txn, replace(healthy.stat("d/f"), nlink=7))

    healthy.raw(op)
    (problem,) = survey(healthy).problems
    first = healthy.do(repair, problem, seq=77)
    rows_now = healthy.rows()
    assert first.done
    assert healthy.do(repair, problem, seq=77) == first
    assert healthy.rows() == rows_now
    assert not healthy.do(repair, problem, seq=78).done


def test_problems_of_storage_are_not_the_namespaces_to_repair(healthy):
    healthy.refused(Code.INVALID, repair, Problem(ProblemKind.ORPHAN_CHUNK))


@pytest.mark.parametrize("chunk", ["1/0", "72057594037927935/18446744073709551615", "80" + "ab" * 15])
def test_chunk_names_go_back_and_forth(chunk):
    assert chunk_name(parse_chunk_name(chunk)) == chunk


@pytest.mark.parametrize("wrong", ["", "x", "1", "1/", "/1", "0/1", f"{1 << 56}/0", f"1/{1 << 64}", "ab" * 15, "-1/0"])
def test_what_is_no_chunk_name_is_refused(wrong):
    with pytest.raises(ValueError, match="is not a chunk"):
        parse_chunk_name(wrong)


def test_creating_the_root_again_changes_nothing(healthy):
    before = healthy.rows()
    assert healthy.do(ensure_root, mode=0o700, user=healthy.alice) == healthy.stat("")
    assert healthy.rows() == before
