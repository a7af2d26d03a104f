"""ListXattr: the names of extended attributes."""

from __future__ import annotations

from fs3.core.meta import xattrs
from fs3.core.meta.context import OpContext
from fs3.core.meta.resolve import resolve_inode
from fs3.core.txn import ReadTxn
from fs3.model.requests import ListXattr


async def list_xattr(txn: ReadTxn, ctx: OpContext, request: ListXattr) -> list[bytes]:
    """The names that the user may know of, in the order of their bytes. No permission on the inode itself is needed."""
    inode = await resolve_inode(txn, ctx, request.path, follow=request.follow)
    return [name for name in await xattrs.list_names(txn, inode) if xattrs.is_visible(ctx.user, name)]
