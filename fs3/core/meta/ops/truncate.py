"""Truncate: set the length of a file."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.meta import inline, sessions, trims
from fs3.core.meta.access import WRITE, check_inode_id, has_permission
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.length import check_length, with_truncated_length
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.requests import Truncate


@idempotent("truncate", Inode)
async def truncate(txn: Txn, ctx: OpContext, request: Truncate) -> Inode:
    """Sets the length: the first of three steps, `fs3.core.meta.trims` has the others. Growing a file makes a hole. A file that
    is inline and stays small is truncated at once.

    STALE when no file has the content any more. Needs write permission on the file, or a write session of this client on it.
    """
    content, length = request.content, request.length
    before = await find_by_content(txn, check_inode_id(content))
    if before is None:
        raise MetaError(Code.STALE, f"content {content} is gone")
    if before.type is InodeType.DIRECTORY:
        raise MetaError(Code.IS_A_DIRECTORY, f"inode {before.id} is a directory")
    if before.type is not InodeType.FILE:
        raise MetaError(Code.INVALID, f"inode {before.id} is a {before.type.name.lower()}, which has no length to set")
    if not (before.nlink and has_permission(ctx.user, before, WRITE)) and not await sessions.is_open_by_client(txn, ctx, content):
        if before.nlink == 0:
            raise MetaError(Code.STALE, f"content {content} was removed or replaced")
        raise MetaError(Code.ACCESS, f"permission denied to write inode {before.id}")
    check_length(length, before.id)
    if before.inline:
        return await inline.cut_data(txn, ctx, before, length)
    after = with_truncated_length(ctx, before, length)
    trims.put_truncated(txn, after)
    return after
