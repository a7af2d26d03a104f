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
from fs3.services.meta import inline_mover
from fs3.sim.ring2.service_bug import ServiceBug


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


INLINE_BUGS: dict[str, ServiceBug] = {
    "growth_loses_bytes": ServiceBug(
        "a small file that grows leaves its row, and its bytes are not given to storage",
        [(inline_mover, "plan_move", move_nothing)],
        scene="append_at_the_limit_of_a_small_file",
    ),
    "moves_in_view": ServiceBug(
        "a small file leaves its row before storage has its bytes",
        [(inline_mover, "begin_move", begin_by_finishing)],
        scene="move_while_updates_of_a_service_are_late",
    ),
    "flag_without_row": ServiceBug(
        "a small file that has grown still says that its bytes are in a row",
        [(inline_mover, "finish_move", finish_without_flag)],
        scene="append_at_the_limit_of_a_small_file",
    ),
    "moves_untagged": ServiceBug(
        "services that move the bytes of one small file do so under different names",
        [(inline_mover, "plan_move", move_without_tag)],
        scene="move_while_updates_of_a_service_are_late",
    ),
    "appends_while_moving": ServiceBug(
        "bytes are appended to a row while storage gets what was in it before",
        [(inline, "append_data", append_while_moving)],
        scene="move_while_a_service_does_not_learn_of_it",
    ),
    "keeps_rows": ServiceBug(
        "the bytes of a small file that was replaced stay in the store",
        [(inline, "delete_data", delete_nothing)],
        scene="append_at_the_limit_of_a_small_file",
    ),
}
