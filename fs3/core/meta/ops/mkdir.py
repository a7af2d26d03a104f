"""Mkdir: create a directory."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.meta.access import EXECUTE, WRITE, require_change
from fs3.core.meta.allocation import directory_layout
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import make_directory
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import PathTarget, load_inode, require_entry, resolve_path, resolve_start, split_path
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType, Layout
from fs3.model.namespace import PathRef
from fs3.model.requests import Mkdir


@idempotent("mkdir", Inode)
async def mkdir(txn: Txn, ctx: OpContext, request: Mkdir) -> Inode:
    """Creates a directory, with `parents` also the missing ones above it, and is then content with an existing directory. With
    `parents_mode` the missing ones above it are made with that mode, and a name that is taken is refused.

    A directory starts with the layout of the one it is in; `layout` overrides that, field by field, for the last one only.
    """
    path, mode, layout = request.path, request.mode, request.layout
    if request.parents:
        return await make_directories(txn, ctx, path, mode, layout, umask=request.umask)
    place = await resolve_with_parents(txn, ctx, path, request.parents_mode, follow=False, umask=request.umask)
    require_entry(place, Code.EXISTS)
    if place.dirent is not None:
        raise MetaError(Code.EXISTS, "the name is taken", path.path)
    require_change(ctx.user, place.directory, path.path)
    chosen = directory_layout(ctx, place.directory.layout, layout, path.path)
    return await make_directory(txn, ctx, place, mode, chosen, umask=request.umask)


async def resolve_with_parents(
    txn: Txn, ctx: OpContext, path: PathRef, mode: int | None, *, follow: bool, umask: int = 0
) -> PathTarget:
    """`resolve_path`; missing directories above the name are made with `mode`, unless that is None. It is the transaction of the
    operation that needs them, so no other client removes them in between. `umask`: as in `Open`."""
    try:
        return await resolve_path(txn, ctx, path, follow=follow)
    except MetaError as error:
        above = path.path.rstrip("/").rpartition("/")[0]
        if mode is None or error.code is not Code.NOT_FOUND or not above:
            raise
    await make_directories(txn, ctx, PathRef(path.parent, above), mode, umask=umask)
    return await resolve_path(txn, ctx, path, follow=follow)


async def make_directories(
    txn: Txn, ctx: OpContext, path: PathRef, mode: int, layout: Layout | None = None, *, umask: int = 0
) -> Inode:
    """A directory and the missing ones above it; content with what is there already. `layout` is of the last one."""
    try:
        return await _with_parents(txn, ctx, path, mode, layout, umask)
    except MetaError as error:
        # The steps know their own component only.
        raise MetaError(error.code, error.message, path.path) from None


async def _with_parents(txn: Txn, ctx: OpContext, path: PathRef, mode: int, layout: Layout | None, umask: int) -> Inode:
    todo, _ = split_path(path.path, path.path)
    current = await resolve_start(txn, path)
    if current.type is not InodeType.DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, "the path does not start at a directory")
    while todo:
        name = todo.pop()
        place = await resolve_path(txn, ctx, PathRef(current.id, name), follow=True)
        if place.name and place.dirent is None:
            if place.directory.id != current.id or place.name != name:
                raise MetaError(Code.NOT_FOUND if todo else Code.EXISTS, "a symbolic link of the path leads nowhere")
            require_change(ctx.user, current)
            chosen = directory_layout(ctx, current.layout, None if todo else layout, path.path)
            # The user who creates the directory above must be able to create the next one in it, whatever mode the last one gets.
            needed = (WRITE | EXECUTE) << 6 if todo else 0
            current = await make_directory(txn, ctx, place, mode | needed, chosen, umask=umask & ~needed)
        else:
            current = await load_inode(txn, place)
            if current.type is not InodeType.DIRECTORY:
                raise MetaError(Code.NOT_A_DIRECTORY if todo else Code.EXISTS, "not a directory")
    return current
