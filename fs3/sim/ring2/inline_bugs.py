"""What the planted bugs of small files exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.core.files.move_plan import plan_move
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import inline, rows
from fs3.core.meta.context import OpContext
from fs3.core.txn import Txn
from fs3.model.inode import Inode


def move_nothing(inode: Inode, data: bytes) -> list[WriteIO]:
    """Storage is given nothing."""
    return []


def move_without_tag(inode: Inode, data: bytes) -> list[WriteIO]:
    """Each service sends the bytes under a name of its own."""
    return [replace(write, tag=None) for write in plan_move(inode, data)]


async def begin_by_finishing(txn: Txn, inode: InodeId) -> tuple[Inode, bytes] | None:
    """The row goes first, the chunk comes later."""
    begun = await inline.begin_move(txn, inode)
    if begun is not None:
        await inline.finish_move(txn, begun[0])
    return begun


async def finish_without_flag(txn: Txn, moved: Inode) -> None:
    """The row goes, and the file still says that it is there."""
    found = await rows.find_inode(txn, moved.id)
    if found is not None and found.moving:
        inline.delete_data(txn, found)
        rows.put_inode(txn, replace(found, moving=False))


async def append_while_moving(txn: Txn, ctx: OpContext, inode: Inode, data: bytes) -> Inode:
    """An append does not care whether storage is getting the bytes just now."""
    after = await _real_append(txn, ctx, replace(inode, moving=False), data)
    if inode.moving:
        after = replace(after, moving=True)
        rows.put_inode(txn, after)
    return after


_real_append = inline.append_data


def delete_nothing(txn: Txn, inode: Inode) -> None:
    """The row of bytes that are given up stays."""
