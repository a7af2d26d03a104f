"""What the planted bugs of replaced contents exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.api.client_refresh import RefreshCalls
from fs3.api.file import File
from fs3.base.ids import InodeId
from fs3.core.meta import contents, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.ops import append as append_op
from fs3.core.meta.ops import close as close_op
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Stat
from fs3.sim.ring2.service_bug import ServiceBug


async def queue_nothing(txn: Txn, ctx: OpContext, inode: Inode) -> None:
    """What was replaced is not queued for reclaiming."""


async def replace_and_reclaim_new(txn: Txn, ctx: OpContext, file: Inode, fresh: Inode) -> Inode:
    """What is left to be reclaimed is the new content."""
    after = await _real_replace(txn, ctx, file, fresh)
    left = await rows.get_inode(txn, fresh.id)
    rows.put_inode(txn, replace(left, content=after.content_id))
    return after


_real_replace = contents.replace_content


async def get_by_inode(txn: ReadTxn, content: InodeId) -> Inode:
    """A session is on the inode, whatever that has by now."""
    return await rows.get_inode(txn, content)


async def refresh_whatever_it_has(self: RefreshCalls, file: File) -> None:
    """A handle goes on with the inode as it is now, and does not look which content that has."""
    file.inode = await self.meta.ask(Stat(PathRef(file.inode.id, ""), follow=False))


REPLACE_BUGS: dict[str, ServiceBug] = {
    "keeps_replaced": ServiceBug(
        "a content that was replaced is not reclaimed",
        [(contents, "queue_unless_open", queue_nothing)],
        scene="two_writers_replace_a_file",
    ),
    "reclaims_new": ServiceBug(
        "what is reclaimed when a content was replaced is the new one",
        [(close_op, "replace_content", replace_and_reclaim_new)],
        scene="two_writers_replace_a_file",
    ),
    "reads_replaced": ServiceBug(
        "a reader of a content that was replaced and reclaimed reads zeros",
        [(RefreshCalls, "_refresh", refresh_whatever_it_has)],
        scene="read_what_was_replaced",
    ),
    "closes_replaced": ServiceBug(
        "the length that a writer of a replaced content tells counts for the new one",
        [(close_op, "get_by_content", get_by_inode)],
        scene="write_what_was_replaced",
    ),
    "appends_to_replaced": ServiceBug(
        "an appender of a replaced content appends to the new one",
        [(append_op, "get_by_content", get_by_inode)],
        scene="append_to_what_was_replaced",
    ),
}
