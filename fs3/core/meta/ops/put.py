"""Put: a small file in one request and one transaction, its bytes beside its inode."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import inline
from fs3.core.meta.allocation import allocate_ids, file_layout
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import new_inode
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.ops.close import make_parents, publish_at
from fs3.core.meta.resolve import resolve_path
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.requests import Put


@idempotent("put", Inode)
async def put_file(txn: Txn, ctx: OpContext, request: Put) -> Inode:
    """Creates a file with all its bytes, or gives them to the file that has the name, as `fs3.core.meta.ops.close` publishes an
    unnamed one (EXISTS instead, when `exclusive`). A symlink in the last component is followed, unless `exclusive`.

    NOT_INLINE for more bytes than a file may have inline; nothing has happened then. The layout is chosen all the same: the file
    may grow.
    """
    path, data = request.path, request.data
    inline.check_size(ctx, len(data), path.path)
    if request.parents_mode is not None:
        await make_parents(txn, ctx, path, request.parents_mode)
    place = await resolve_path(txn, ctx, path, follow=not request.exclusive)
    if not place.name:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", path.path)
    directory = place.directory
    layout = file_layout(ctx, directory, request.layout, path.path)
    first = InodeId(await allocate_ids(txn, inodes=1))
    fresh = new_inode(ctx, first, InodeType.FILE, request.mode, directory, layout, nlink=0)
    fresh = replace(fresh, length=len(data), inline=True)
    inline.put_data(txn, fresh, data)
    return await publish_at(txn, ctx, fresh, place, exclusive=request.exclusive, created=1)
