"""SetXattr: set an extended attribute."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta import rows, xattrs
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_inode
from fs3.core.txn import Txn
from fs3.model.inode import Inode
from fs3.model.requests import SetXattr, XattrMode


@idempotent("setxattr", Inode)
async def set_xattr(txn: Txn, ctx: OpContext, request: SetXattr) -> Inode:
    """Sets an attribute by the rules of xattr(7). An access ACL is the new mode as well; one without entries removes the ACL.

    EXISTS and NO_ATTRIBUTE as `mode` says; UNSUPPORTED for a name of an unknown namespace, ATTRIBUTE_TOO_LARGE for too long a
    value, NO_SPACE beyond what one inode has of them; INVALID for what is not an ACL.
    """
    path, name, value = request.path.path, request.name, request.value
    xattrs.check_name(name, path)
    xattrs.check_value(name, value, path)
    inode = await resolve_inode(txn, ctx, request.path, follow=request.follow)
    xattrs.require_write(ctx.user, inode, name, path, value)
    before = await xattrs.find_value(txn, inode, name)
    if request.mode is XattrMode.CREATE and before is not None:
        raise MetaError(Code.EXISTS, "the extended attribute is there", path)
    if request.mode is XattrMode.REPLACE and before is None:
        raise xattrs.no_attribute(name, path)
    after = await xattrs.with_value(txn, ctx.user, inode, name, value, before, path)
    after = replace(after, ctime_ns=ctx.wall_ns, change=inode.change + 1)
    rows.put_inode(txn, after)
    return after
