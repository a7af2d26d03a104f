"""SetAttr: mode, owner, times, layout of a directory."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta import rows
from fs3.core.meta.access import READ, SET_GID, WRITE, has_permission, is_in_group, require, require_owner, without_set_ids
from fs3.core.meta.access_time import is_access_due
from fs3.core.meta.allocation import check_layout
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import CAPABILITY, with_grant, with_mode
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_inode
from fs3.core.txn import Txn
from fs3.model.inode import MODE_BITS, Inode, InodeType, Layout, User
from fs3.model.requests import TIME_NOW, SetAttributes


@idempotent("setattr", Inode)
async def set_attributes(txn: Txn, ctx: OpContext, request: SetAttributes) -> Inode:
    """Changes what is not None, by POSIX rules.

    `layout` is for directories: it replaces what files created in it from now on get, fields of 0 being the cluster's
    default. Existing files and subdirectories keep theirs. `accessed` is no change of attributes, so neither ctime nor `change`
    moves; a user who may read the content is enough for it.
    """
    path, uid, gid = request.path.path, request.uid, request.gid
    inode = await resolve_inode(txn, ctx, request.path, follow=request.follow)
    if request.accessed:
        require(ctx.user, inode, READ, path)
        if not is_access_due(inode, ctx.wall_ns):
            return inode
        after = replace(inode, atime_ns=ctx.wall_ns)
        rows.put_inode(txn, after)
        return after
    after = inode
    if uid is not None or gid is not None:
        after = _with_owner(ctx.user, after, inode.uid if uid is None else uid, inode.gid if gid is None else gid, path)
    if request.mode is not None:
        after = _with_mode(ctx.user, after, inode, request.mode, path)
    if request.atime_ns is not None or request.mtime_ns is not None:
        after = _with_times(ctx, after, inode, request.atime_ns, request.mtime_ns, path)
    if request.layout is not None:
        after = _with_layout(ctx, after, inode, request.layout, path)
    if after is inode:
        return inode
    after = replace(after, ctime_ns=ctx.wall_ns, change=inode.change + 1)
    rows.put_inode(txn, after)
    return after


def _with_owner(user: User, inode: Inode, uid: int, gid: int, path: str) -> Inode:
    require_owner(user, inode, path)
    if user.uid and uid != inode.uid:
        raise MetaError(Code.PERMISSION, "only root gives files away", path)
    if user.uid and gid != inode.gid and not is_in_group(user, gid):
        raise MetaError(Code.PERMISSION, f"the owner is not in group {gid}", path)
    if inode.type is InodeType.DIRECTORY:
        return replace(inode, uid=uid, gid=gid)
    after = with_grant(inode, CAPABILITY, b"")
    return replace(after, uid=uid, gid=gid, mode=without_set_ids(inode.mode))


def _with_mode(user: User, inode: Inode, before: Inode, mode: int, path: str) -> Inode:
    require_owner(user, before, path)
    if inode.type is InodeType.SYMLINK:
        raise MetaError(Code.UNSUPPORTED, "a symbolic link has no permissions to change", path)
    mode &= MODE_BITS
    if user.uid and not is_in_group(user, inode.gid):
        mode &= ~SET_GID
    return with_mode(inode, mode)


def _with_times(ctx: OpContext, inode: Inode, before: Inode, atime_ns: int | None, mtime_ns: int | None, path: str) -> Inode:
    for name, value in (("atime_ns", atime_ns), ("mtime_ns", mtime_ns)):
        if value is not None and not -(1 << 63) <= value < 1 << 63:
            raise MetaError(Code.INVALID, f"{name} {value} does not fit in 64 bits", path)
    if any(value not in (None, TIME_NOW) for value in (atime_ns, mtime_ns)):
        require_owner(ctx.user, before, path)
    elif ctx.user.uid != before.uid and not has_permission(ctx.user, before, WRITE):
        raise MetaError(Code.ACCESS, "only the owner and who may write set the times to now", path)
    after = replace(inode, atime_ns=_time(ctx, atime_ns, inode.atime_ns), mtime_ns=_time(ctx, mtime_ns, inode.mtime_ns))
    is_content_time = mtime_ns is not None and inode.type is InodeType.FILE
    return replace(after, mtime_set_ns=ctx.wall_ns) if is_content_time else after


def _time(ctx: OpContext, asked: int | None, before: int) -> int:
    if asked is None:
        return before
    return ctx.wall_ns if asked == TIME_NOW else asked


def _with_layout(ctx: OpContext, inode: Inode, before: Inode, layout: Layout, path: str) -> Inode:
    if inode.type is not InodeType.DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, "the layout of a file cannot change", path)
    require_owner(ctx.user, before, path)
    check_layout(ctx, layout, path)
    return replace(inode, layout=layout)
