"""Symlink: create a symbolic link."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.meta.access import require_change
from fs3.core.meta.allocation import allocate_ids
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, new_inode, require_absent
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import check_text, resolve_entry
from fs3.core.txn import Txn
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.model.requests import Symlink


@idempotent("symlink", Inode)
async def symlink(txn: Txn, ctx: OpContext, request: Symlink) -> Inode:
    """Creates a symbolic link at `path` that says `target`, which need not exist."""
    path, target = request.path, request.target
    if not target:
        raise MetaError(Code.NOT_FOUND, "the target of a symbolic link cannot be empty", path.path)
    check_text(target, path.path)
    place = await resolve_entry(txn, ctx, path, Code.EXISTS)
    require_absent(place)
    require_change(ctx.user, place.directory, path.path)
    number = await allocate_ids(txn, ctx, inodes=1)
    inode = new_inode(ctx, number, InodeType.SYMLINK, 0o777, place.directory, NO_LAYOUT, target=target)
    add_entry(txn, ctx, place, inode)
    return inode
