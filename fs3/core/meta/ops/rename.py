"""Rename: move an entry."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import ancestors_max
from fs3.base.status import Code
from fs3.core.meta import garbage, rows
from fs3.core.meta.access import WRITE, require, require_change, require_unlink
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import is_empty, with_entry_change, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.ops.mkdir import resolve_with_parents
from fs3.core.meta.resolve import PathTarget, require_entry, resolve_entry
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import RenameMode
from fs3.model.requests import Rename


@idempotent("rename", Inode)
async def rename(txn: Txn, ctx: OpContext, request: Rename) -> Inode:
    """Moves `source` to `target`, by POSIX rules; the inode that was moved. Symlinks in last components are not followed.

    REPLACE: a file replaces anything but a directory, a directory an empty directory; two names of one file stay both.
    With `parents_mode` missing directories above the target are made in the same transaction.
    NOREPLACE: EXISTS when anything has the name. EXCHANGE: both exist and change places, of whatever types they are.
    WOULD_LOOP when a directory would come to lie in itself.
    """
    source, target, mode = request.source, request.target, request.mode
    origin = await resolve_entry(txn, ctx, source)
    moved = await rows.get_inode(txn, origin.require_dirent().inode)
    goal = await resolve_with_parents(txn, ctx, target, request.parents_mode, follow=False, umask=request.umask)
    require_entry(goal)
    if request.parents_mode is not None:
        # Its directory may be the one that got an entry more.
        origin = await resolve_entry(txn, ctx, source)
        moved = await rows.get_inode(txn, origin.require_dirent().inode)
    if mode is RenameMode.EXCHANGE:
        goal.require_dirent()
    if goal.must_be_directory and not _is_directory(moved):
        raise MetaError(Code.NOT_A_DIRECTORY, "a path with a trailing slash is a directory's", target.path)
    if goal.dirent is None:
        require_unlink(ctx.user, origin.directory, moved.uid, source.path)
        require_change(ctx.user, goal.directory, target.path)
        await _check_move(txn, ctx, moved, origin, goal)
        return _move(txn, ctx, moved, None, origin, goal)
    if mode is RenameMode.NOREPLACE:
        raise MetaError(Code.EXISTS, "the name is taken", target.path)
    there = await rows.get_inode(txn, goal.dirent.inode)
    if there.id == moved.id:
        return moved
    require_unlink(ctx.user, origin.directory, moved.uid, source.path)
    require_unlink(ctx.user, goal.directory, there.uid, target.path)
    await _check_move(txn, ctx, moved, origin, goal)
    if mode is RenameMode.EXCHANGE:
        await _check_move(txn, ctx, there, goal, origin)
        return _exchange(txn, ctx, moved, there, origin, goal)
    if _is_directory(there):
        if not _is_directory(moved):
            raise MetaError(Code.IS_A_DIRECTORY, "is a directory", target.path)
        if not await is_empty(txn, there):
            raise MetaError(Code.NOT_EMPTY, "the directory is not empty", target.path)
        await garbage.delete_directory(txn, ctx, there)
    else:
        if _is_directory(moved):
            raise MetaError(Code.NOT_A_DIRECTORY, "not a directory", target.path)
        await garbage.unlink(txn, ctx, there)
    return _move(txn, ctx, moved, there, origin, goal)


async def _check_move(txn: ReadTxn, ctx: OpContext, moved: Inode, origin: PathTarget, goal: PathTarget) -> None:
    """A directory that gets another parent must not come to lie in itself, and its ".." is something to have permission for."""
    if not _is_directory(moved) or origin.directory.id == goal.directory.id:
        return
    require(ctx.user, moved, WRITE, origin.path)
    current = goal.directory
    for _ in range(ancestors_max):
        if current.id == moved.id:
            raise MetaError(Code.WOULD_LOOP, "a directory cannot be moved into itself", goal.path)
        if current.id == ROOT_INODE:
            return
        above = await rows.find_inode(txn, current.parent)
        if above is None or current.nlink == 0:
            raise MetaError(Code.NOT_FOUND, "the directory was removed, with one above it", goal.path)
        current = above
    raise MetaError(Code.NAME_TOO_LONG, f"the directory is more than {ancestors_max} directories deep", goal.path)


def _move(txn: Txn, ctx: OpContext, moved: Inode, replaced: Inode | None, origin: PathTarget, goal: PathTarget) -> Inode:
    txn.delete(origin.key)
    after = _put_at(txn, ctx, moved, goal)
    comes = 1 if _is_directory(moved) else 0
    leaves = 1 if replaced is not None and _is_directory(replaced) else 0
    entries = 0 if replaced is not None else 1
    if origin.directory.id == goal.directory.id:
        rows.put_inode(txn, with_entry_change(ctx, origin.directory, entries=entries - 1, subdirectories=-leaves))
    else:
        rows.put_inode(txn, with_entry_change(ctx, origin.directory, entries=-1, subdirectories=-comes))
        rows.put_inode(txn, with_entry_change(ctx, goal.directory, entries=entries, subdirectories=comes - leaves))
    return after


def _exchange(txn: Txn, ctx: OpContext, moved: Inode, there: Inode, origin: PathTarget, goal: PathTarget) -> Inode:
    after = _put_at(txn, ctx, moved, goal)
    _put_at(txn, ctx, there, origin)
    gain = _is_directory(moved) - _is_directory(there)
    if origin.directory.id == goal.directory.id:
        rows.put_inode(txn, with_entry_change(ctx, origin.directory))
    else:
        rows.put_inode(txn, with_entry_change(ctx, origin.directory, subdirectories=-gain))
        rows.put_inode(txn, with_entry_change(ctx, goal.directory, subdirectories=gain))
    return after


def _put_at(txn: Txn, ctx: OpContext, inode: Inode, place: PathTarget) -> Inode:
    parent = place.directory.id if _is_directory(inode) else InodeId(0)
    after = replace(with_nlink(ctx, inode, inode.nlink), parent=parent)
    rows.put_inode(txn, after)
    rows.put_dirent(txn, place.key, after)
    return after


def _is_directory(inode: Inode) -> bool:
    return inode.type is InodeType.DIRECTORY
