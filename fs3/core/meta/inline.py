"""Small files whose bytes are a row beside the inode: written, read and removed by one transaction.

A DATA row has all bytes of a file, and `Inode.inline` says that there is one. No chunk has any of them, so such a file knows
neither truncations that cut nor lengths that storage has to be asked for. Before a client may write chunks of it, the service
moves the bytes out, in three steps:

1. `begin_move` sets `Inode.moving`: from now on the bytes do not change. What wants to change them waits for the third step.
2. The bytes become chunk 0, by an update that has the same name whichever service sends it (`fs3.core.files.move_plan`).
3. `finish_move` takes away the row and both flags.

Readers find the row until the third step and the chunk from then on. What a service has left at the second step need not be
finished: the file goes on being read from its row, and the next request that needs chunks has it moved. What is removed meanwhile
goes the way of files with chunks. See docs/protocols/small-files.md.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError, MoveOutstanding
from fs3.core.meta.grants import without_privileges
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode


def put_data(txn: Txn, inode: Inode, data: bytes) -> None:
    """Stores the bytes of an inline file; the caller stores `inode`, whose length is theirs."""
    txn.put(keys.data_key(inode.content_id), rows.encode(data))


async def get_data(txn: ReadTxn, inode: Inode) -> bytes:
    """The bytes of an inline file. Raises MetaError INTERNAL when they are not there."""
    key = keys.data_key(inode.content_id)
    row = await txn.get(key)
    if row is None:
        rows.raise_malformed(key, f"it is missing, but inode {inode.id} says that its bytes are there")
    return rows.decode_data(key, row)


def delete_data(txn: Txn, inode: Inode) -> None:
    """Takes away the bytes of a file that is given up or has got others."""
    if inode.inline:
        txn.delete(keys.data_key(inode.content_id))


def has_chunks(inode: Inode) -> bool:
    """Storage may have chunks of a file, so it is reclaimed when it has no name any more."""
    return not inode.inline or inode.moving


def check_size(ctx: OpContext, size: int, path: str = "") -> None:
    """Raises NOT_INLINE for more bytes than a file may have inline: they belong into chunks."""
    if size > ctx.defaults.inline_bytes or not ctx.defaults.inline_bytes:
        raise MetaError(Code.NOT_INLINE, f"{size} bytes are not kept inline, at most {ctx.defaults.inline_bytes} are", path)


def check_moved(inode: Inode) -> None:
    """Raises MoveOutstanding for an inline file."""
    if inode.inline:
        raise MoveOutstanding(inode.id)


def with_data(ctx: OpContext, inode: Inode, length: int) -> Inode:
    """An inline file after its bytes changed, of which there are so many now. Its `moving` is not set."""
    inode = without_privileges(ctx.user, inode)
    return replace(inode, length=length, mtime_ns=ctx.wall_ns, ctime_ns=ctx.wall_ns, change=inode.change + 1)


async def append_data(txn: Txn, ctx: OpContext, inode: Inode, data: bytes) -> Inode:
    """An inline file with bytes behind its end. NOT_INLINE when it is none, or would become too large."""
    if not inode.inline or inode.moving:
        raise MetaError(Code.NOT_INLINE, f"inode {inode.id} is not inline")
    check_size(ctx, inode.length + len(data))
    after = with_data(ctx, inode, inode.length + len(data))
    put_data(txn, after, await get_data(txn, inode) + data)
    rows.put_inode(txn, after)
    return after


async def cut_data(txn: Txn, ctx: OpContext, inode: Inode, length: int) -> Inode:
    """An inline file, truncated: shorter, or longer by zeros. MoveOutstanding when it would become too large."""
    if inode.moving or length > ctx.defaults.inline_bytes:
        raise MoveOutstanding(inode.id)
    after = with_data(ctx, inode, length)
    put_data(txn, after, (await get_data(txn, inode))[:length].ljust(length, b"\0"))
    rows.put_inode(txn, after)
    return after


async def begin_move(txn: Txn, inode: InodeId) -> tuple[Inode, bytes] | None:
    """The first step: the file with the bytes that storage has to get. None: it is not inline (any more)."""
    found = await rows.find_inode(txn, inode)
    if found is None or not found.inline:
        return None
    data = await get_data(txn, found)
    if not data:
        rows.put_inode(txn, replace(found, inline=False, moving=False))
        delete_data(txn, found)
        return None
    if not found.moving:
        found = replace(found, moving=True)
        rows.put_inode(txn, found)
    return found, data


async def finish_move(txn: Txn, moved: Inode) -> None:
    """The third step: storage has the bytes of `moved`. Nothing happens when the file has others by now, or is gone."""
    found = await rows.find_inode(txn, moved.id)
    if found is not None and found.moving and found.content_id == moved.content_id:
        delete_data(txn, found)
        rows.put_inode(txn, replace(found, inline=False, moving=False))
