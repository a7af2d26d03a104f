"""Hold: a client that reads a content keeps it, although it has no name any more."""

from __future__ import annotations

from fs3.base.ids import InodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta import garbage, inline, readers
from fs3.core.meta.access import READ, check_inode_id, require
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.txn import ReadTxn, Txn
from fs3.model.namespace import OpenResult
from fs3.model.requests import Hold, KeepAlive


@idempotent("hold", OpenResult)
async def hold(txn: Txn, ctx: OpContext, request: Hold) -> OpenResult:
    """The inode that has a content, and the session by which the client keeps it from now on: `fs3.core.meta.readers`. A content
    that has a name needs none, and session 0 is answered.

    STALE when it is gone, or may be partly gone. Needs read permission.
    """
    content = request.content
    inode = await find_by_content(txn, check_inode_id(content))
    if inode is None:
        raise MetaError(Code.STALE, f"content {content} is gone")
    if inode.nlink:
        return OpenResult(inode, SessionId(0))
    require(ctx.user, inode, READ, "")
    after = await garbage.unqueue(txn, ctx, inode)
    session = await readers.start(txn, ctx, content)
    return OpenResult(after, session.id, await inline.get_data(txn, after) if after.inline else None)


async def find_unnamed(txn: ReadTxn, request: KeepAlive) -> list[InodeId]:
    """Of the contents that a client has open for reading, those that have no name any more and are not gone."""
    found = []
    for content in request.open_contents:
        inode = await find_by_content(txn, content)
        if inode is not None and inode.nlink == 0:
            found.append(content)
    return found
