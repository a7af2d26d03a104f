"""Link: another name for a file."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import keys, rows, sessions
from fs3.core.meta.access import require_change
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, require_absent, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.resolve import resolve_entry, resolve_inode
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType
from fs3.model.requests import Link

links_per_file_max = 65_535


@idempotent("link", Inode)
async def link(txn: Txn, ctx: OpContext, request: Link) -> Inode:
    """Makes `target` another name of the file `source`; a symlink in the last component of `source` is not followed.

    A file that was created without a name gets its first one when `session` is the one that it was created with: from now on it
    is a file as others are, and the session a writer's of a file that has a name. One that has lost its name gets none again.
    """
    source, target = request.source, request.target
    inode = await resolve_inode(txn, ctx, source, follow=False)
    if inode.type is InodeType.DIRECTORY:
        raise MetaError(Code.PERMISSION, "a directory has one name only", source.path)
    if inode.nlink == 0:
        await _name_session(txn, ctx, inode, request)
    if inode.nlink >= links_per_file_max:
        raise MetaError(Code.TOO_MANY_LINKS, f"the file has {inode.nlink} names already", source.path)
    place = await resolve_entry(txn, ctx, target, Code.EXISTS)
    require_absent(place)
    require_change(ctx.user, place.directory, target.path)
    after = with_nlink(ctx, inode, inode.nlink + 1)
    add_entry(txn, ctx, place, after)
    return after


async def _name_session(txn: Txn, ctx: OpContext, inode: Inode, request: Link) -> None:
    refused = MetaError(Code.NOT_FOUND, "the file was removed, or is not published yet", request.source.path)
    if not request.session:
        raise refused
    session = await sessions.find_or_revive(txn, ctx, inode.content_id, request.session)
    if not session.unnamed:
        raise refused
    named = replace(session, unnamed=False, parent=InodeId(0))
    txn.put(keys.session_key(session.content, session.id), rows.encode(named))
