"""Put: a small file in one request and one transaction, its bytes beside its inode."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import inline
from fs3.core.meta.access import WRITE, require, require_bytes
from fs3.core.meta.allocation import allocate_ids, file_layout
from fs3.core.meta.contents import replace_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import new_inode
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import without_privileges
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.ops.close import publish_at
from fs3.core.meta.ops.mkdir import resolve_with_parents
from fs3.core.meta.resolve import resolve_start
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.requests import Put


@idempotent("put", Inode)
async def put_file(txn: Txn, ctx: OpContext, request: Put) -> Inode:
    """Creates a file with all its bytes, or gives them to the file that has the name, as `fs3.core.meta.ops.close` publishes an
    unnamed one (EXISTS instead, when `exclusive`). A symlink in the last component is followed, unless `exclusive`.

    NOT_INLINE for more bytes than a file may have inline; nothing has happened then. The layout is chosen all the same: the file
    may grow. An empty path gives the bytes to the file with the inode id that it starts at; with `change` only while nothing of
    that file has changed since, NOT_INLINE otherwise: then others may have written what the bytes do not have.
    """
    path, data = request.path, request.data
    inline.check_size(ctx, len(data), path.path)
    if not path.path:
        return await _replace(txn, ctx, request)
    place = await resolve_with_parents(txn, ctx, path, request.parents_mode, follow=not request.exclusive, umask=request.umask)
    if not place.name:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", path.path)
    directory = place.directory
    layout = file_layout(ctx, directory, request.layout, path.path)
    first = InodeId(await allocate_ids(txn, ctx, inodes=1))
    fresh = new_inode(ctx, first, InodeType.FILE, request.mode, directory, layout, umask=request.umask, nlink=0)
    fresh = replace(fresh, length=len(data), inline=True)
    inline.put_data(txn, fresh, data)
    return await publish_at(txn, ctx, fresh, place, exclusive=request.exclusive, created=1)


async def _replace(txn: Txn, ctx: OpContext, request: Put) -> Inode:
    file = await resolve_start(txn, request.path)
    require_bytes(file, "")
    if file.type is not InodeType.FILE:
        raise MetaError(Code.IS_A_DIRECTORY, f"inode {file.id} is not a file")
    if file.nlink == 0:
        raise MetaError(Code.STALE, f"inode {file.id} was removed")
    if request.exclusive:
        raise MetaError(Code.EXISTS, f"inode {file.id} is there")
    require(ctx.user, file, WRITE, "")
    if request.change and (file.change != request.change or not file.inline or file.moving):
        raise MetaError(Code.NOT_INLINE, f"inode {file.id} is at change {file.change}, not {request.change}, or has chunks")
    now, kept = ctx.wall_ns, without_privileges(ctx.user, file)
    fresh = Inode(
        InodeId(await allocate_ids(txn, ctx, inodes=1)), InodeType.FILE, kept.mode, file.uid, file.gid, 0, len(request.data),
        now, now, now, now, 1, InodeId(0), file.layout, inline=True,
    )  # fmt: skip
    inline.put_data(txn, fresh, request.data)
    return await replace_content(txn, ctx, kept, fresh)
