"""Remove: unlink, rmdir, and detaching a whole tree."""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import garbage, rows
from fs3.core.meta.access import EXECUTE, READ, WRITE, require, require_owner, require_unlink
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import is_empty, with_entry_change
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_entry
from fs3.core.txn import Txn
from fs3.model.inode import InodeType
from fs3.model.namespace import RemoveKind
from fs3.model.requests import Remove


@idempotent("remove", InodeId)
async def remove(txn: Txn, ctx: OpContext, request: Remove) -> InodeId:
    """Removes an entry; a symlink itself, not what it points to. The id of what had the name.

    TREE takes anything. A directory with entries is detached at once, in one small transaction, and dismantled later; only
    its owner (with all permissions on it) and root may do so, because the permissions below are not looked at.
    """
    path, kind = request.path, request.kind
    place = await resolve_entry(txn, ctx, path)
    inode = await rows.get_inode(txn, place.require_dirent().inode)
    require_unlink(ctx.user, place.directory, inode.uid, path.path)
    is_directory = inode.type is InodeType.DIRECTORY
    if is_directory and kind is RemoveKind.FILE:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", path.path)
    if not is_directory and kind is RemoveKind.DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, "not a directory", path.path)
    if not is_directory:
        await garbage.unlink(txn, ctx, inode)
    elif await is_empty(txn, inode):
        await garbage.delete_directory(txn, ctx, inode)
    elif kind is RemoveKind.TREE:
        require_owner(ctx.user, inode, path.path)
        require(ctx.user, inode, READ | WRITE | EXECUTE, path.path)
        await garbage.detach(txn, ctx, inode)
    else:
        raise MetaError(Code.NOT_EMPTY, "the directory is not empty", path.path)
    txn.delete(place.key)
    rows.put_inode(txn, with_entry_change(ctx, place.directory, entries=-1, subdirectories=-1 if is_directory else 0))
    return inode.id
