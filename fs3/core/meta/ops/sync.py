"""Sync: publish length and times of a file that stays open."""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import rows, sessions, trims
from fs3.core.meta.access import check_inode_id
from fs3.core.meta.contents import find_by_content, get_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.length import with_written_length
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode
from fs3.model.requests import Close, Sync


@idempotent("sync", Inode)
async def sync(txn: Txn, ctx: OpContext, request: Sync) -> Inode:
    """The file's length becomes at least `length`; `modified` advances mtime and change. Errors as in close;
    TrimOutstanding also when nothing rises, since the writer goes on with the truncations it is answered. The answer has another
    id than the file had when it was opened, and no name, when another file was put in its place."""
    content = request.content
    if not request.session:
        return await answer_without_session(txn, content, request.length is not None or request.modified)
    found = await sessions.find_or_revive(txn, ctx, content, request.session)
    sessions.check_writer(found, request.length is not None, request.modified)
    before = await get_by_content(txn, content)
    trims.check_trimmed(before)
    after = as_written(ctx, before, request)
    if after is not before:
        rows.put_inode(txn, after)
    return after


def as_written(ctx: OpContext, before: Inode, request: Sync | Close) -> Inode:
    """The file after its writer told what it wrote: see `with_written_length`."""
    return with_written_length(
        ctx,
        before,
        request.length,
        request.modified,
        request.truncations,
        keep_mtime=request.keep_mtime,
        written_ago_ns=request.written_ago_ns,
        leaves_holes=request.leaves_holes,
    )


async def answer_without_session(txn: ReadTxn, content: InodeId, changes: bool) -> Inode:
    """What a reader's close and sync answer. Raises NO_SESSION when they want to change something."""
    if changes:
        raise MetaError(Code.NO_SESSION, f"only a write session changes content {content}")
    found = await find_by_content(txn, check_inode_id(content))
    if found is None:
        raise MetaError(Code.STALE, f"content {content} is gone")
    return found
