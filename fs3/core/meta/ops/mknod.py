"""Mknod: special files, and empty regular ones."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta import inline
from fs3.core.meta.access import require_change
from fs3.core.meta.allocation import allocate_ids, file_layout
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, new_inode, require_absent
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_entry
from fs3.core.txn import Txn
from fs3.model.inode import DEVICES, NO_LAYOUT, SPECIAL_FILES, Inode, InodeType
from fs3.model.requests import Mknod

rdev_max: Final = (1 << 32) - 1
"""The kernel of Linux has 12 bits for a major number and 20 for a minor one."""


@idempotent("mknod", Inode)
async def mknod(txn: Txn, ctx: OpContext, request: Mknod) -> Inode:
    """Creates a special file at a path where nothing is, which is not followed; or a regular file without bytes, and without a
    session. PERMISSION for devices, unless root asks, and for directories, which have a verb of their own. INVALID for other
    types, and for the number of a device that is none.
    """
    path, kind = request.path, request.type
    if kind is InodeType.DIRECTORY:
        raise MetaError(Code.PERMISSION, "a directory is made by mkdir", path.path)
    if kind is not InodeType.FILE and kind not in SPECIAL_FILES:
        raise MetaError(Code.INVALID, f"{kind.name.lower()} is no type of a file that can be made so", path.path)
    if not 0 <= request.rdev <= (rdev_max if kind in DEVICES else 0):
        raise MetaError(Code.INVALID, f"rdev {request.rdev} is not the number of a device", path.path)
    place = await resolve_entry(txn, ctx, path, Code.EXISTS)
    require_absent(place)
    directory = place.directory
    require_change(ctx.user, directory, path.path)
    if kind in DEVICES and ctx.user.uid:
        raise MetaError(Code.PERMISSION, "only root makes devices", path.path)
    is_file = kind is InodeType.FILE
    layout = file_layout(ctx, directory, None, path.path) if is_file else NO_LAYOUT
    number = await allocate_ids(txn, ctx, inodes=1)
    inode = new_inode(ctx, number, kind, request.mode, directory, layout, umask=request.umask)
    if request.rdev:
        inode = replace(inode, rdev=request.rdev)
    if is_file and ctx.defaults.inline_bytes:
        inode = replace(inode, inline=True)
        inline.put_data(txn, inode, b"")
    add_entry(txn, ctx, place, inode, created=int(is_file))
    return inode
