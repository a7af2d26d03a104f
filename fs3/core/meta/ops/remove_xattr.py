"""RemoveXattr: remove an extended attribute."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.core.meta import rows, xattrs
from fs3.core.meta.context import OpContext
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_inode
from fs3.core.txn import Txn
from fs3.model.inode import Inode
from fs3.model.requests import RemoveXattr


@idempotent("removexattr", Inode)
async def remove_xattr(txn: Txn, ctx: OpContext, request: RemoveXattr) -> Inode:
    """Removes an attribute. Without its access ACL an inode keeps its mode. NO_ATTRIBUTE where there is none; that an ACL is not
    there is fine, as on Linux. Else errors as of set_xattr."""
    path, name = request.path.path, request.name
    xattrs.check_name(name, path)
    inode = await resolve_inode(txn, ctx, request.path, follow=request.follow)
    xattrs.require_write(ctx.user, inode, name, path)
    before = await xattrs.find_value(txn, inode, name)
    if before is None:
        if xattrs.is_acl(name):
            return inode
        raise xattrs.no_attribute(name, path)
    after = xattrs.without_value(txn, inode, name, before)
    after = replace(after, ctime_ns=ctx.wall_ns, change=inode.change + 1)
    rows.put_inode(txn, after)
    return after
