"""GetXattr: the value of an extended attribute."""

from __future__ import annotations

from fs3.core.meta import xattrs
from fs3.core.meta.context import OpContext
from fs3.core.meta.resolve import resolve_inode
from fs3.core.txn import ReadTxn
from fs3.model.requests import GetXattr


async def get_xattr(txn: ReadTxn, ctx: OpContext, request: GetXattr) -> bytes:
    """The value. NO_ATTRIBUTE where there is none, or none that the user may know of; UNSUPPORTED for an unknown namespace."""
    path, name = request.path.path, request.name
    xattrs.check_name(name, path)
    inode = await resolve_inode(txn, ctx, request.path, follow=request.follow)
    xattrs.require_read(ctx.user, inode, name, path)
    value = await xattrs.find_value(txn, inode, name)
    if value is None:
        raise xattrs.no_attribute(name, path)
    return value
