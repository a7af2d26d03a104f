"""What waits to be reclaimed: rows of one shared queue per kind, written by the operation that gives something up.

- FILE: a file without a name and without a writer, which may have chunks. The service takes `next_garbage`, removes the chunks
  from storage, then calls `delete_file`. A file that is unlinked while a client writes it has no row before its last session
  ends. The old content of a file that was replaced is such a file as well (`fs3.core.meta.contents`).
- TREE: a directory that was detached with all below it. `dismantle` takes it apart in small transactions; what it finds is
  unlinked, or queued as the next tree, so neither deep nor wide trees need more than `limit` entries at once.

A file that a client reads still is taken off the queue, when that client says so (`unqueue`), and comes back to it with
the end of the last session. Once a service has begun to remove its chunks (`begin_reclaim`) it is too late for that.

The queue has no owner: any service may take any row at any time, and two that take the same one do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from fs3.base.ids import InodeId, NodeId
from fs3.base.status import Code
from fs3.core.meta import inline, keys, locks, readers, rows, xattrs
from fs3.core.meta.allocation import adjust_counts
from fs3.core.meta.context import NO_TALLY, OpContext
from fs3.core.meta.entries import is_empty, with_entry_change, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.rows import Garbage, GarbageKind
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode, InodeType

attribute_rows_max = 2048
"""Rows of extended attributes after which one step of taking a tree apart ends."""


async def unlink(txn: Txn, ctx: OpContext, inode: Inode) -> Inode:
    """Takes one name away from anything but a directory; with the last one a symlink or special file is gone, and a file is given
    up: an inline one is gone as well, as soon as no session is open on it, any other waits for its chunks to be removed."""
    if inode.type is InodeType.DIRECTORY or inode.nlink <= 0:
        rows.raise_malformed(
            keys.inode_key(inode.id), f"a name leads to it, but it is a {inode.type.name} with {inode.nlink} names"
        )
    after = with_nlink(ctx, inode, inode.nlink - 1)
    if after.nlink == 0 and inode.type is not InodeType.FILE:
        await _delete_inode(txn, inode, ctx.tally)
        return after
    rows.put_inode(txn, after)
    if after.nlink == 0:
        await queue_unless_open(txn, ctx, after)
    return after


async def queue_unless_open(txn: Txn, ctx: OpContext, inode: Inode) -> None:
    """Queues a file that has no name, unless a session is open on it: then the end of its last session does. A client that reads
    it, as its request says, gets one. A file that has no chunks is removed instead of queued."""
    if inode.content_id in ctx.open_contents:
        await readers.start(txn, ctx, inode.content_id)
        return
    if await txn.scan(*keys.sessions_range(inode.content_id), 1):
        return
    if inline.has_chunks(inode):
        await _queue(txn, ctx, inode, GarbageKind.FILE)
    else:
        inline.delete_data(txn, inode)
        if inode.content:
            txn.delete(keys.content_key(inode.content))
        await _delete_inode(txn, inode, ctx.tally)


async def unqueue(txn: Txn, ctx: OpContext, inode: Inode) -> Inode:
    """A file without a name that is not to be reclaimed now: a session on it begins in this transaction. Raises STALE when it may
    be partly gone."""
    if inode.queued_ns is None:
        if not await txn.scan(*keys.sessions_range(inode.content_id), 1):
            raise MetaError(Code.STALE, f"content {inode.content_id} was removed")
        return inode
    key = keys.garbage_key(GarbageKind.FILE, inode.queued_ns, inode.id)
    row = await txn.get(key)
    if row is not None:
        if rows.decode_garbage(key, row).begun:
            raise MetaError(Code.STALE, f"content {inode.content_id} was removed, and is being reclaimed")
        txn.delete(key)
        await adjust_counts(txn, ctx.tally, garbage=-1)
    after = replace(inode, queued_ns=None)
    rows.put_inode(txn, after)
    return after


async def begin_reclaim(txn: Txn, queued: Iterable[Garbage]) -> set[InodeId]:
    """The chunks of these files are about to be removed: from now on no reader can keep them. Those that are still to be
    reclaimed."""
    begun = set()
    for garbage in queued:
        row = await txn.get(garbage.key)
        if row is None:
            continue
        inode = await rows.get_inode(txn, garbage.inode)
        if await txn.scan(*keys.sessions_range(inode.content_id), 1):
            # Queued by mistake: the end of that session queues it.
            txn.delete(garbage.key)
            await adjust_counts(txn, garbage=-1)
            continue
        if not rows.decode_garbage(garbage.key, row).begun:
            txn.put(garbage.key, rows.encode(replace(garbage, begun=True)))
        begun.add(garbage.inode)
    return begun


async def detach(txn: Txn, ctx: OpContext, directory: Inode) -> None:
    """Queues a directory whose entry is being removed; from now on nothing can be created in it."""
    rows.put_inode(txn, with_nlink(ctx, directory, 0))
    await _queue(txn, ctx, directory, GarbageKind.TREE)


async def delete_directory(txn: Txn, ctx: OpContext, directory: Inode) -> None:
    """Removes the inode of an empty directory."""
    await _delete_inode(txn, directory, ctx.tally)


async def next_garbage(
    txn: ReadTxn, limit: int, *, after: Garbage | None = None, queued_until_ns: int | None = None
) -> list[tuple[Garbage, Inode]]:
    """At most `limit` files to reclaim, oldest first, with their inodes (layout and length say where chunks can be).

    `after`: continue behind this one, for instance because its storage does not answer now. `queued_until_ns`: only those
    queued until then, which leaves readers of a removed file some time.
    """
    begin, end = keys.garbage_range(GarbageKind.FILE)
    if after is not None:
        begin = after.key + b"\0"
    if queued_until_ns is not None:
        end = min(end, keys.garbage_key(GarbageKind.FILE, _unsigned(queued_until_ns + 1), InodeId(0)))
    found = []
    for key, row in await txn.scan(begin, end, limit):
        garbage = rows.decode_garbage(key, row)
        found.append((garbage, await rows.get_inode(txn, garbage.inode)))
    return found


async def delete_file(txn: Txn, garbage: Garbage) -> bool:
    """The chunks of a file are gone: forget it. False when that was done already."""
    if garbage.kind is not GarbageKind.FILE:
        raise MetaError(Code.INVALID, f"inode {garbage.inode} is a tree; dismantle takes it apart")
    if await txn.get(garbage.key) is None:
        return False
    inode = await rows.get_inode(txn, garbage.inode)
    inline.delete_data(txn, inode)
    txn.delete(garbage.key)
    txn.delete(keys.trim_key(garbage.inode))
    if inode.content:
        txn.delete(keys.content_key(inode.content))
    await _delete_inode(txn, inode, garbage=1)
    return True


async def dismantle(txn: Txn, ctx: OpContext, limit: int) -> int:
    """Takes at most `limit` entries out of the oldest detached tree, fewer where extended attributes have many rows. How much was
    done; 0 when no tree waits."""
    waiting = await txn.scan(*keys.garbage_range(GarbageKind.TREE), 1)
    if not waiting:
        return 0
    garbage = rows.decode_garbage(*waiting[0])
    directory = await rows.get_inode(txn, garbage.inode)
    found = await txn.scan(*keys.dirents_range(directory.id), limit)
    taken = attributes = 0
    for key, row in found:
        dirent = rows.decode_dirent(key, row)
        inode = await rows.get_inode(txn, dirent.inode)
        txn.delete(key)
        if inode.type is not InodeType.DIRECTORY:
            await unlink(txn, ctx, inode)
        elif await is_empty(txn, inode):
            await delete_directory(txn, ctx, inode)
        else:
            await detach(txn, ctx, inode)
        taken += 1
        attributes += xattrs.rows_at_most(inode)
        if attributes > attribute_rows_max:
            break
    if taken == len(found) < limit:
        txn.delete(garbage.key)
        await delete_directory(txn, ctx, directory)
        await adjust_counts(txn, ctx.tally, garbage=-1)
    else:
        rows.put_inode(txn, with_entry_change(ctx, directory, entries=-taken))
    return taken + 1


async def _delete_inode(txn: Txn, inode: Inode, tally_of: NodeId = NO_TALLY, *, garbage: int = 0) -> None:
    """With its extended attributes and locks. `garbage`: rows of the queue that went as well."""
    await xattrs.delete_all(txn, inode)
    await locks.forget_inode(txn, inode.id)
    txn.delete(keys.inode_key(inode.id))
    await adjust_counts(txn, tally_of, inodes=-1, garbage=-garbage)


async def _queue(txn: Txn, ctx: OpContext, inode: Inode, kind: GarbageKind) -> None:
    garbage = Garbage(inode.id, kind, _unsigned(ctx.wall_ns))
    if kind is GarbageKind.FILE:
        rows.put_inode(txn, replace(inode, queued_ns=garbage.queued_ns))
    txn.put(garbage.key, rows.encode(garbage))
    await adjust_counts(txn, ctx.tally, garbage=1)


def _unsigned(wall_ns: int) -> int:
    return min(max(wall_ns, 0), (1 << 64) - 1)
