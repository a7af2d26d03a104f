"""Is a namespace whole? Reads every row and says what is wrong. For tests, and for an operator's offline check."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import msgspec

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.core.meta import keys, rows
from fs3.core.meta.errors import MetaError
from fs3.core.meta.rows import Garbage, GarbageKind
from fs3.core.txn import ReadTxn
from fs3.model.inode import Dirent, FileSession, Inode, InodeType

_PAGE = 1024


async def check_namespace(txn: ReadTxn) -> list[str]:
    """One sentence per thing that is wrong; empty when all is well. Holds the whole namespace in memory.

    - every row is readable, and says what its key says
    - an entry's inode exists and has the type the entry says; entries are in directories that exist
    - a file or symlink has as many names as `nlink` says; without a name it is open for writing or queued, not both
    - a directory has one name and the right `parent`, `length` and `nlink`, or is detached and queued as a tree
    - every directory hangs below the root or below a detached tree; no cycles
    - the counters are right, and all ids are below the next one
    """
    found = await _load(txn)
    problems = found.problems
    _check_entries(found)
    _check_files(found)
    _check_directories(found)
    _check_reachable(found)
    await _check_counters(txn, found)
    return problems


class _Rows(msgspec.Struct):
    problems: list[str]
    inodes: dict[InodeId, Inode]
    entries: dict[tuple[InodeId, bytes], Dirent]
    sessions: list[FileSession]
    garbage: list[Garbage]


async def _load(txn: ReadTxn) -> _Rows:
    found = _Rows([], {}, {}, [], [])
    async for key, row in _all(txn, b"", b"\xff"):
        prefix = key[: keys.PREFIX_BYTES]
        try:
            if prefix == keys.INODE:
                inode = rows.decode_inode(key, row)
                _expect(found, key, keys.inode_key(inode.id))
                found.inodes[inode.id] = inode
            elif prefix == keys.DIRENT:
                parent = InodeId(int.from_bytes(key[keys.PREFIX_BYTES : keys.NAME_AT], "big"))
                found.entries[parent, key[keys.NAME_AT :]] = rows.decode_dirent(key, row)
            elif prefix == keys.SESSION:
                session = rows.decode_session(key, row)
                _expect(found, key, keys.session_key(session.inode, session.id))
                found.sessions.append(session)
            elif prefix == keys.GARBAGE:
                found.garbage.append(rows.decode_garbage(key, row))
            elif prefix == keys.REQUEST:
                rows.decode_remembered(key, row)
        except MetaError as error:
            found.problems.append(str(error))
    return found


async def _all(txn: ReadTxn, begin: bytes, end: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
    while page := await txn.scan(begin, end, _PAGE):
        for row in page:
            yield row
        begin = page[-1][0] + b"\0"


def _expect(found: _Rows, key: bytes, expected: bytes) -> None:
    if key != expected:
        found.problems.append(f"row {key!r} says that its key is {expected!r}")


def _check_entries(found: _Rows) -> None:
    for (parent, name), dirent in found.entries.items():
        directory = found.inodes.get(parent)
        if directory is None or directory.type is not InodeType.DIRECTORY:
            found.problems.append(f"entry {name!r} is in inode {parent}, which is no directory")
        inode = found.inodes.get(dirent.inode)
        if inode is None:
            found.problems.append(f"entry {name!r} of inode {parent} names inode {dirent.inode}, which does not exist")
        elif inode.type is not dirent.type:
            found.problems.append(f"entry {name!r} of inode {parent} says {dirent.type.name}, its inode {inode.type.name}")
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            found.problems.append(f"inode {parent} has an entry with the name {name!r}")


def _check_files(found: _Rows) -> None:
    names = Counter(dirent.inode for dirent in found.entries.values())
    sessions = Counter(session.inode for session in found.sessions)
    queued = Counter(garbage.inode for garbage in found.garbage if garbage.kind is GarbageKind.FILE)
    for inode in found.inodes.values():
        if inode.type is InodeType.DIRECTORY:
            continue
        if inode.nlink != names[inode.id]:
            found.problems.append(f"inode {inode.id} has {names[inode.id]} names, its nlink says {inode.nlink}")
        holders = (inode.nlink > 0) + (sessions[inode.id] > 0 and inode.nlink == 0) + queued[inode.id]
        if holders != 1:
            state = f"{inode.nlink} names, {sessions[inode.id]} sessions, {queued[inode.id]} garbage rows"
            found.problems.append(f"inode {inode.id} has {state}")
        if inode.type is InodeType.SYMLINK and (inode.nlink == 0 or inode.length != len(inode.target.encode())):
            found.problems.append(f"symlink {inode.id} has {inode.nlink} names and length {inode.length} of {inode.target!r}")
    for session in found.sessions:
        inode_of = found.inodes.get(session.inode)
        if inode_of is None or inode_of.type is not InodeType.FILE:
            found.problems.append(f"session {session.id} is on inode {session.inode}, which is no file")
    for garbage in found.garbage:
        wanted = InodeType.FILE if garbage.kind is GarbageKind.FILE else InodeType.DIRECTORY
        inode_of = found.inodes.get(garbage.inode)
        if inode_of is None or inode_of.type is not wanted:
            found.problems.append(f"garbage row {garbage} names no {wanted.name}")


def _check_directories(found: _Rows) -> None:
    entries = Counter(parent for parent, _ in found.entries)
    subdirectories: Counter[InodeId] = Counter()
    names: dict[InodeId, list[InodeId]] = {}
    for (parent, _), dirent in found.entries.items():
        if dirent.type is InodeType.DIRECTORY:
            subdirectories[parent] += 1
            names.setdefault(dirent.inode, []).append(parent)
    trees = Counter(garbage.inode for garbage in found.garbage if garbage.kind is GarbageKind.TREE)
    for inode in found.inodes.values():
        if inode.type is not InodeType.DIRECTORY:
            continue
        if inode.length != entries[inode.id]:
            found.problems.append(f"directory {inode.id} has {entries[inode.id]} entries, its length says {inode.length}")
        above = names.get(inode.id, [])
        if inode.id == ROOT_INODE:
            expected, detached = [], False
        else:
            detached = inode.nlink == 0
            expected = [] if detached else [inode.parent]
        if above != expected:
            found.problems.append(f"directory {inode.id} is an entry of {above}, and should be of {expected}")
        if not detached and inode.nlink != 2 + subdirectories[inode.id]:
            problem = f"directory {inode.id} has {subdirectories[inode.id]} subdirectories, its nlink says {inode.nlink}"
            found.problems.append(problem)
        if trees[inode.id] != detached:
            found.problems.append(f"directory {inode.id} has nlink {inode.nlink} and {trees[inode.id]} garbage rows")


def _check_reachable(found: _Rows) -> None:
    below: dict[InodeId, list[InodeId]] = {}
    for (parent, _), dirent in found.entries.items():
        if dirent.type is InodeType.DIRECTORY:
            below.setdefault(parent, []).append(dirent.inode)
    todo = [ROOT_INODE, *(garbage.inode for garbage in found.garbage if garbage.kind is GarbageKind.TREE)]
    reached: set[InodeId] = set()
    while todo:
        inode = todo.pop()
        if inode not in reached:
            reached.add(inode)
            todo += below.get(inode, [])
    for inode_row in found.inodes.values():
        if inode_row.type is InodeType.DIRECTORY and inode_row.id not in reached:
            found.problems.append(f"directory {inode_row.id} hangs below neither the root nor a detached tree")
    if ROOT_INODE not in found.inodes:
        found.problems.append("there is no root directory")


async def _check_counters(txn: ReadTxn, found: _Rows) -> None:
    try:
        counters = await rows.get_counters(txn)
    except MetaError as error:
        found.problems.append(str(error))
        return
    if counters.inodes != len(found.inodes):
        found.problems.append(f"the counters say {counters.inodes} inodes, there are {len(found.inodes)}")
    if counters.garbage != len(found.garbage):
        found.problems.append(f"the counters say {counters.garbage} garbage rows, there are {len(found.garbage)}")
    largest = max([*found.inodes, *(session.id for session in found.sessions)], default=0)
    if largest >= counters.next_id:
        found.problems.append(f"id {largest} is in use, and the next one to be drawn is {counters.next_id}")
