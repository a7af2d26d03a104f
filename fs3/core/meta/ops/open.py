"""Open: read opens, write sessions, creation, unnamed files."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta import inline, rows, sessions, trims
from fs3.core.meta.access import READ, WRITE, require, require_bytes, require_change
from fs3.core.meta.allocation import allocate_ids, file_layout
from fs3.core.meta.contents import replace_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, new_inode
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import without_privileges
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.ops.mkdir import make_directories, resolve_with_parents
from fs3.core.meta.resolve import PathTarget, load_inode, resolve_directory
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import OpenResult
from fs3.model.requests import Open

NO_SESSION = SessionId(0)


@idempotent("open", OpenResult)
async def open_file(txn: Txn, ctx: OpContext, request: Open) -> OpenResult:
    """Opens a file, or creates it. Directories are not opened: IS_A_DIRECTORY.

    A request that does not mutate (`Open.mutates`) reads only, so a snapshot will do for its `txn`. What has no name any more is
    opened by its id, and by a client that has a session on it.

    `truncate` gives the file a fresh content, which is empty; the old one is reclaimed, and its writers are told that it was
    replaced. `unnamed` creates a file without a name for the directory `path`; its session's close publishes it. With
    `parents_mode` a creation makes missing directories in the same transaction. TrimOutstanding for a write session while a
    truncation cuts, MoveOutstanding for one on an inline file. `layout` is for a new file, fields of 0 are inherited. `append`:
    the session is for `fs3.core.meta.ops.append` only.
    """
    path, write, truncate = request.path, request.write, request.truncate
    if request.unnamed:
        return await _create_unnamed(txn, ctx, request)
    if truncate and not write:
        raise MetaError(Code.INVALID, "a file is truncated by opening it for writing", path.path)
    if request.append and (truncate or not write):
        raise MetaError(Code.INVALID, "a file is appended to by opening it for writing, with what is in it", path.path)
    exclusive = request.create and request.exclusive
    parents_mode = request.parents_mode if request.create else None
    place = await resolve_with_parents(txn, ctx, path, parents_mode, follow=not exclusive, umask=request.umask)
    if place.name and place.dirent is None and request.create:
        return await _create(txn, ctx, place, request)
    if exclusive:
        raise MetaError(Code.EXISTS, "the name is taken", path.path)
    inode = await load_inode(txn, place)
    if inode.nlink or truncate or not await sessions.is_open_by_client(txn, ctx, inode.content_id, reading=True):
        _require_named(inode, path.path)
    _require_open(ctx, inode, WRITE if write else READ, path.path)
    if not write:
        data = await inline.get_data(txn, inode) if request.want_data and inode.inline else None
        return OpenResult(inode, NO_SESSION, data)
    if truncate:
        return await _open_fresh(txn, ctx, inode)
    if not request.append:
        inline.check_moved(inode)
        trims.check_trimmed(inode)
    session = SessionId(await allocate_ids(txn, ctx, inodes=0, others=1))
    await sessions.start(txn, ctx, inode.content_id, session, append=request.append)
    return OpenResult(inode, session)


def _require_open(ctx: OpContext, inode: Inode, want: int, path: str) -> None:
    if inode.type is InodeType.DIRECTORY:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", path)
    if inode.type is InodeType.SYMLINK:
        raise MetaError(Code.TOO_MANY_SYMLINKS, "is a symbolic link", path)
    require_bytes(inode, path)
    require(ctx.user, inode, want, path)


def _require_named(inode: Inode, path: str) -> None:
    if inode.nlink == 0 and inode.type is InodeType.FILE:
        raise MetaError(Code.STALE, "the file was removed", path)


async def _create(txn: Txn, ctx: OpContext, place: PathTarget, request: Open) -> OpenResult:
    write = request.write
    if place.must_be_directory:
        raise MetaError(Code.IS_A_DIRECTORY, "a path with a trailing slash is a directory's", place.path)
    directory = place.directory
    require_change(ctx.user, directory, place.path)
    chosen = file_layout(ctx, directory, request.layout, place.path)
    first = await allocate_ids(txn, ctx, inodes=1, others=1 if write else 0)
    inode = new_inode(ctx, first, InodeType.FILE, request.mode, directory, chosen, umask=request.umask)
    if ctx.defaults.inline_bytes and (request.append or not write):
        # Nobody writes its chunks before it is opened for that.
        inode = replace(inode, inline=True)
        inline.put_data(txn, inode, b"")
    add_entry(txn, ctx, place, inode, created=1)
    if not write:
        return OpenResult(inode, NO_SESSION)
    session = SessionId(first + 1)
    await sessions.start(txn, ctx, inode.id, session, append=request.append)
    return OpenResult(inode, session)


async def _open_fresh(txn: Txn, ctx: OpContext, file: Inode) -> OpenResult:
    # Storage need not be asked for anything, and clients that read the old content go on undisturbed for a while.
    first = await allocate_ids(txn, ctx, inodes=1, others=1)
    now, kept = ctx.wall_ns, without_privileges(ctx.user, file)
    owner = kept.uid, kept.gid
    fresh = Inode(InodeId(first), InodeType.FILE, kept.mode, *owner, 0, 0, now, now, now, now, 1, InodeId(0), file.layout)
    inode = await replace_content(txn, ctx, kept, fresh)
    session = SessionId(first + 1)
    await sessions.start(txn, ctx, inode.content_id, session)
    return OpenResult(inode, session)


async def _create_unnamed(txn: Txn, ctx: OpContext, request: Open) -> OpenResult:
    path = request.path
    try:
        directory = await resolve_directory(txn, ctx, path)
    except MetaError as error:
        if request.parents_mode is None or error.code is not Code.NOT_FOUND:
            raise
        directory = await make_directories(txn, ctx, path, request.parents_mode, umask=request.umask)
    require_change(ctx.user, directory, path.path)
    chosen = file_layout(ctx, directory, request.layout, path.path)
    first = await allocate_ids(txn, ctx, inodes=1, others=1)
    inode = new_inode(ctx, first, InodeType.FILE, request.mode, directory, chosen, umask=request.umask, nlink=0)
    session = SessionId(first + 1)
    rows.put_inode(txn, inode)
    rows.put_inode(txn, replace(directory, dirent_serial=directory.dirent_serial + 1))
    await sessions.start(txn, ctx, inode.id, session, unnamed_in=directory.id)
    return OpenResult(inode, session)
