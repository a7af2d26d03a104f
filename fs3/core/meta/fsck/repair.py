"""Repairing what a check of the namespace found: one small transaction per problem.

Each begins by asking again for what made it a problem; when that is no longer so, nothing is done. A repair keeps what there
is: what has lost its name gets one in /lost+found, and only rows that name nothing are deleted. One repair may bring another
problem to light (an entry that is deleted leaves a directory that counts one too many); checking and repairing again ends that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import check_rows_per_page
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import garbage, keys, locks, rows, xattrs
from fs3.core.meta.allocation import adjust_counts, allocate_ids
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import empty_root, is_entry_name, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.counters import counters_row, parse_counters, parse_tally
from fs3.core.meta.fsck.damaged_inode import ROOT_MODE, repair_inode
from fs3.core.meta.fsck.lost_found import LOST_FOUND, find_names, reconnect, remove_entry
from fs3.core.meta.fsck.pages import (
    ROW_DECODERS,
    data_has_file,
    find_content_problem,
    find_garbage_problem,
    find_loop,
    find_unknown_clients,
    owns_content,
    session_has_file,
)
from fs3.core.meta.fsck.readable import find_readable_inode
from fs3.core.meta.fsck.xattrs import repair_miscount, repair_mode, repair_row
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.inline import get_data
from fs3.core.meta.length import with_written_length
from fs3.core.txn import ReadTxn, Txn
from fs3.model.check import Problem, ProblemKind, RepairResult
from fs3.model.inode import Dirent, Inode, InodeType
from fs3.model.lock import ClientLocks, InodeLocks

_DIRECTORY = InodeType.DIRECTORY
_GONE = RepairResult(False, "it is no longer so")


@idempotent("repair", RepairResult)
async def repair(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """Repairs one problem of the namespace. Raises MetaError INVALID for a kind that is none of the namespace's."""
    run = _REPAIRS.get(problem.kind)
    if run is None:
        raise MetaError(Code.INVALID, f"{problem.kind.name} is not repaired by the metadata service")
    return await run(txn, ctx, problem)


# --- entries ---------------------------------------------------------------------------------------------------------


async def _entry_without_inode(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    dirent = await _entry(txn, problem)
    if dirent is None or await txn.get(keys.inode_key(dirent.inode)) is not None:
        return _GONE
    return await _delete_entry(txn, ctx, problem, dirent)


async def _entry_without_directory(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    dirent = await _entry(txn, problem)
    if dirent is None:
        return _GONE
    parent = await rows.find_inode(txn, InodeId(problem.parent))
    if parent is not None and parent.type is _DIRECTORY:
        return _GONE
    return await _delete_entry(txn, ctx, problem, dirent)


async def _entry_misnamed(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    dirent = await _entry(txn, problem)
    if dirent is None or is_entry_name(problem.name):
        return _GONE
    return await _delete_entry(txn, ctx, problem, dirent)


async def _entry_type(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    dirent = await _entry(txn, problem)
    inode = None if dirent is None else await find_readable_inode(txn, dirent.inode)
    if dirent is None or inode is None or dirent.type is inode.type:
        return _GONE
    rows.put_dirent(txn, keys.dirent_key(InodeId(problem.parent), problem.name), inode)
    return RepairResult(True, f"the entry says {inode.type.name.lower()} now")


async def _entry_parent(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """The directory's own parent is right if there is an entry for it there; then this entry is one too many."""
    dirent = await _entry(txn, problem)
    inode = None if dirent is None else await find_readable_inode(txn, dirent.inode)
    if dirent is None or inode is None or inode.type is not _DIRECTORY or inode.parent == problem.parent:
        return _GONE
    if await find_names(txn, inode.parent, inode.id):
        return await _delete_entry(txn, ctx, problem, dirent)
    moved = replace(with_nlink(ctx, inode, inode.nlink), parent=InodeId(problem.parent))
    rows.put_inode(txn, moved)
    if await find_loop(txn, moved):
        raise MetaError(Code.WOULD_LOOP, "with that parent the directory would lie in itself")
    return RepairResult(True, f"its parent is inode {problem.parent} now")


# --- directories -----------------------------------------------------------------------------------------------------


async def _miscounted_directory(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.type is not _DIRECTORY:
        return _GONE
    rows.put_inode(txn, replace(with_nlink(ctx, inode, problem.expected_too), length=problem.expected))
    return RepairResult(True, f"it has {problem.expected} entries and nlink {problem.expected_too} now")


async def _loop(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    if inode is None or inode.type is not _DIRECTORY or inode.id not in await find_loop(txn, inode):
        return _GONE
    for name in await find_names(txn, inode.parent, inode.id):
        await remove_entry(txn, ctx, inode.parent, name, _DIRECTORY)
    # Taking its name away has changed the directory above, which in a loop of one is the directory itself.
    inode = await rows.get_inode(txn, inode.id)
    given = await reconnect(txn, ctx, with_nlink(ctx, inode, inode.nlink))
    return RepairResult(True, f"it is /{LOST_FOUND}/{given} now")


async def _directory_names(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.type is not _DIRECTORY:
        return _GONE
    keep = int(inode.id != ROOT_INODE)
    names = (await find_names(txn, inode.parent, inode.id))[keep:]
    if not names:
        return RepairResult(False, "the other names are in other directories, whose entries are repaired first")
    for name in names:
        await remove_entry(txn, ctx, inode.parent, name, _DIRECTORY)
    now = await rows.get_inode(txn, inode.id)
    rows.put_inode(txn, with_nlink(ctx, now, now.nlink))
    return RepairResult(True, f"{len(names)} names of it were removed")


async def _no_root(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    if await txn.get(keys.inode_key(ROOT_INODE)) is not None:
        return _GONE
    rows.put_inode(txn, empty_root(ctx, ROOT_MODE))
    return RepairResult(True, f"there is a root directory again, owned by user {ctx.user.uid}")


# --- inodes ----------------------------------------------------------------------------------------------------------


async def _without_name(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.id == ROOT_INODE:
        return _GONE
    name = await reconnect(txn, ctx, with_nlink(ctx, inode, inode.nlink if inode.type is _DIRECTORY else 1))
    return RepairResult(True, f"it is /{LOST_FOUND}/{name} now")


async def _wrong_nlink(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None:
        return _GONE
    names = 2 if inode.type is _DIRECTORY else problem.expected
    rows.put_inode(txn, with_nlink(ctx, inode, names))
    return RepairResult(True, f"its nlink is {names} now")


async def _symlink_length(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.type is not InodeType.SYMLINK:
        return _GONE
    size = len(to_bytes(inode.link_target))
    rows.put_inode(txn, replace(with_nlink(ctx, inode, inode.nlink), length=size))
    return RepairResult(True, f"its length is {size} now")


async def _not_queued(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.nlink:
        return _GONE
    if inode.type not in (InodeType.FILE, _DIRECTORY):
        await xattrs.delete_all(txn, inode)
        await locks.forget_inode(txn, inode.id)
        txn.delete(keys.inode_key(inode.id))
        await adjust_counts(txn, ctx.tally, inodes=-1)
        return RepairResult(True, "it was removed")
    # With another `change`, so that a second check that saw the same does not queue it again.
    after = with_nlink(ctx, inode, 0)
    if inode.type is _DIRECTORY:
        await garbage.detach(txn, ctx, after)
    else:
        rows.put_inode(txn, after)
        await garbage.queue_unless_open(txn, ctx, after)
    return RepairResult(True, "it is queued for reclaiming")


async def _too_short(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or inode.type is not InodeType.FILE or inode.length >= problem.expected:
        return _GONE
    if await txn.scan(*keys.sessions_range(inode.content_id), 1):
        return RepairResult(False, "somebody has it open for writing")
    if inode.appends:
        return RepairResult(False, "it was appended to, and what lies behind its end may be an append that was given up")
    rows.put_inode(txn, with_written_length(ctx, inode, problem.expected, False))
    return RepairResult(True, f"its length is {problem.expected} now")


async def _inline_without_data(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or not inode.inline or await txn.get(keys.data_key(inode.content_id)) is not None:
        return _GONE
    rows.put_inode(txn, replace(with_nlink(ctx, inode, inode.nlink), length=0, inline=False, moving=False))
    return RepairResult(True, "its bytes are lost: it is empty now")


async def _inline_length(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _unchanged(txn, problem)
    if inode is None or not inode.inline:
        return _GONE
    size = len(await get_data(txn, inode))
    rows.put_inode(txn, replace(with_nlink(ctx, inode, inode.nlink), length=size))
    return RepairResult(True, f"its length is {size} now")


async def _data_of_nothing(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    is_data = problem.key.startswith(keys.DATA)
    if not is_data or await txn.get(problem.key) is None or await data_has_file(txn, problem.key):
        return _GONE
    txn.delete(problem.key)
    return RepairResult(True, "the row was deleted")


# --- rows ------------------------------------------------------------------------------------------------------------


async def _unreadable(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    key = problem.key
    row = await txn.get(key)
    prefix = key[: keys.PREFIX_BYTES]
    if row is None or _is_readable(prefix, key, row):
        return _GONE
    if prefix not in ROW_DECODERS:
        return await repair_inode(txn, ctx, problem)
    txn.delete(key)
    if prefix == keys.GARBAGE:
        await adjust_counts(txn, ctx.tally, garbage=-1)
    return RepairResult(True, "the row was deleted")


async def _delete_garbage(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await txn.get(problem.key)
    if row is None or not problem.key.startswith(keys.GARBAGE):
        return _GONE
    found = await find_garbage_problem(txn, rows.decode_garbage(problem.key, row))
    if found is None:
        return _GONE
    txn.delete(problem.key)
    await adjust_counts(txn, ctx.tally, garbage=-1)
    return RepairResult(True, "it is no longer queued")


async def _queued_twice(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    row = await txn.get(problem.key)
    if row is None or inode is None or not problem.key.startswith(keys.GARBAGE):
        return _GONE
    kind = rows.decode_garbage(problem.key, row).kind
    # The other row, which stays, has the same kind; it is looked for, because the queue may have been worked off meanwhile.
    begin, end = keys.garbage_range(kind)
    while page := await txn.scan(begin, end, check_rows_per_page):
        for key, other in page:
            if key != problem.key and rows.decode_garbage(key, other).inode == inode.id:
                txn.delete(problem.key)
                await adjust_counts(txn, ctx.tally, garbage=-1)
                return RepairResult(True, "one of its rows was deleted")
        begin = page[-1][0] + b"\0"
    return _GONE


async def _session_of_nothing(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await txn.get(problem.key)
    if row is None or not problem.key.startswith(keys.SESSION):
        return _GONE
    if await session_has_file(txn, rows.decode_session(problem.key, row).content):
        return _GONE
    txn.delete(problem.key)
    return RepairResult(True, "the session was ended")


async def _session_of_nobody(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await txn.get(problem.key)
    if row is None or not problem.key.startswith(keys.SESSION):
        return _GONE
    client = rows.decode_session(problem.key, row).client
    if await txn.get(keys.client_key(client)) is not None:
        return _GONE
    await liveness.register_client(txn, client)
    return RepairResult(True, "its client is waited for now: if nothing is heard of it, its sessions are ended")


async def _locks_of_nothing(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await _lock_row(txn, problem)
    if row is None or not keys.is_inode_locks(problem.key):
        return _GONE
    if await txn.get(keys.inode_key(keys.inode_of_locks(problem.key))) is not None:
        return _GONE
    await locks.forget_inode(txn, keys.inode_of_locks(problem.key))
    return RepairResult(True, "the row was deleted")


async def _locks_of_nobody(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await _lock_row(txn, problem)
    clients = [] if row is None else await find_unknown_clients(txn, problem.key, row)
    for client in clients:
        await liveness.register_client(txn, client)
    if not clients:
        return _GONE
    return RepairResult(True, f"{len(clients)} clients are waited for now: if nothing is heard of them, their locks are released")


async def _lock_row(txn: ReadTxn, problem: Problem) -> InodeLocks | ClientLocks | None:
    row = await txn.get(problem.key) if problem.key.startswith(keys.LOCK) else None
    return None if row is None else locks.decode_locks(problem.key, row)


async def _content_unlisted(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    inode = await _with_content_problem(txn, problem)
    if inode is None:
        return _GONE
    rows.put_content_owner(txn, inode)
    return RepairResult(True, f"content {inode.content} is known to be its own now")


async def _content_of_nothing(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    row = await txn.get(problem.key)
    if row is None or not problem.key.startswith(keys.CONTENT):
        return _GONE
    if await owns_content(txn, rows.decode_content_owner(problem.key, row), keys.content_of(problem.key)):
        return _GONE
    txn.delete(problem.key)
    return RepairResult(True, "the row was deleted")


async def _content_shared(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """Whatever is done to the one file would be done to the other: chunks that one gives up are the other's too."""
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    other = await find_readable_inode(txn, InodeId(problem.found))
    content = InodeId(problem.expected)
    if inode is None or other is None or inode.id == other.id or not inode.content_id == other.content_id == content:
        return _GONE
    if await rows.find_content_owner(txn, content) == inode.id:
        txn.delete(keys.content_key(content))
    txn.delete(keys.trim_key(inode.id))
    fresh = InodeId(await allocate_ids(txn, ctx, inodes=0, others=1))
    emptied = replace(with_nlink(ctx, inode, inode.nlink), content=fresh, length=0, trim=None, append=None)
    rows.put_inode(txn, emptied)
    rows.put_content_owner(txn, emptied)
    return RepairResult(True, f"it is empty now, the content is inode {other.id}'s")


async def _id_in_use(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    for key, row in await rows.find_tallies(txn):
        tally = parse_tally(key, row)
        if tally is not None and tally.next_id <= problem.inode < tally.end_id:
            txn.put(key, rows.encode(replace(tally, next_id=0, end_id=0)))
            return RepairResult(True, f"the service takes new ids, none from {tally.next_id} to {tally.end_id - 1}")
    counters = await rows.get_counters(txn)
    if counters.next_id > problem.inode:
        return _GONE
    rows.put_counters(txn, replace(counters, next_id=problem.inode + 1))
    return RepairResult(True, f"the next id is {problem.inode + 1} now")


async def _miscounted(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    if await counters_row(txn) != problem.key:
        return _GONE
    counters = parse_counters(await txn.get(keys.COUNTERS) or b"")
    for key, row in await rows.find_tallies(txn):
        tally = parse_tally(key, row)
        if counters is None or tally is None:
            txn.delete(key)
        else:
            txn.put(key, rows.encode(replace(tally, inodes=0, garbage=0)))
    next_id = problem.change if counters is None else counters.next_id
    rows.put_counters(txn, rows.NamespaceCounters(next_id, problem.expected, problem.expected_too))
    return RepairResult(True, f"the counters say {problem.expected} inodes and {problem.expected_too} garbage rows now")


_REPAIRS: dict[ProblemKind, Callable[[Txn, OpContext, Problem], Awaitable[RepairResult]]] = {
    ProblemKind.UNREADABLE: _unreadable,
    ProblemKind.NO_ROOT: _no_root,
    ProblemKind.ENTRY_WITHOUT_INODE: _entry_without_inode,
    ProblemKind.ENTRY_WITHOUT_DIRECTORY: _entry_without_directory,
    ProblemKind.ENTRY_OF_OTHER_TYPE: _entry_type,
    ProblemKind.ENTRY_MISNAMED: _entry_misnamed,
    ProblemKind.ENTRY_OF_OTHER_PARENT: _entry_parent,
    ProblemKind.DIRECTORY_MISCOUNTED: _miscounted_directory,
    ProblemKind.DIRECTORY_LOOP: _loop,
    ProblemKind.DIRECTORY_NAMES: _directory_names,
    ProblemKind.WITHOUT_NAME: _without_name,
    ProblemKind.WRONG_NLINK: _wrong_nlink,
    ProblemKind.SYMLINK_LENGTH: _symlink_length,
    ProblemKind.NOT_QUEUED: _not_queued,
    ProblemKind.QUEUED_TWICE: _queued_twice,
    ProblemKind.GARBAGE_OF_NOTHING: _delete_garbage,
    ProblemKind.GARBAGE_IN_USE: _delete_garbage,
    ProblemKind.SESSION_OF_NOTHING: _session_of_nothing,
    ProblemKind.SESSION_OF_NOBODY: _session_of_nobody,
    ProblemKind.ID_IN_USE: _id_in_use,
    ProblemKind.MISCOUNTED: _miscounted,
    ProblemKind.TOO_SHORT: _too_short,
    ProblemKind.INLINE_WITHOUT_DATA: _inline_without_data,
    ProblemKind.INLINE_LENGTH: _inline_length,
    ProblemKind.DATA_OF_NOTHING: _data_of_nothing,
    ProblemKind.XATTRS_MISCOUNTED: repair_miscount,
    ProblemKind.XATTR_OF_NOTHING: repair_row,
    ProblemKind.MODE_DIFFERS_FROM_ACL: repair_mode,
    ProblemKind.LOCKS_OF_NOTHING: _locks_of_nothing,
    ProblemKind.LOCKS_OF_NOBODY: _locks_of_nobody,
    ProblemKind.CONTENT_UNLISTED: _content_unlisted,
    ProblemKind.CONTENT_OF_NOTHING: _content_of_nothing,
    ProblemKind.CONTENT_SHARED: _content_shared,
}

# --- pieces ----------------------------------------------------------------------------------------------------------


def _is_readable(prefix: bytes, key: bytes, row: bytes) -> bool:
    try:
        decode = ROW_DECODERS.get(prefix)
        if decode is None:
            return prefix != keys.INODE or keys.inode_key(rows.decode_inode(key, row).id) == key
        decode(key, row)
        if prefix == keys.SESSION:
            session = rows.decode_session(key, row)
            return keys.session_key(session.content, session.id) == key
    except MetaError:
        return False
    return True


async def _entry(txn: ReadTxn, problem: Problem) -> Dirent | None:
    """The entry a problem is about; None when it is gone or names another inode."""
    if not problem.name and problem.kind is not ProblemKind.ENTRY_MISNAMED:
        return None
    dirent = await rows.find_dirent(txn, keys.dirent_key(InodeId(problem.parent), problem.name))
    return dirent if dirent is not None and dirent.inode == problem.inode else None


async def _with_content_problem(txn: ReadTxn, problem: Problem) -> Inode | None:
    """The inode a problem with its content is about; None when it is gone or the problem another one."""
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    if inode is None or not inode.content:
        return None
    return inode if await find_content_problem(txn, inode) == problem else None


async def _unchanged(txn: ReadTxn, problem: Problem) -> Inode | None:
    """The inode a problem is about; None when it is gone or has changed since."""
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    return inode if inode is not None and inode.change == problem.change else None


async def _delete_entry(txn: Txn, ctx: OpContext, problem: Problem, dirent: Dirent) -> RepairResult:
    await remove_entry(txn, ctx, InodeId(problem.parent), problem.name, dirent.type)
    return RepairResult(True, "the entry was removed")
