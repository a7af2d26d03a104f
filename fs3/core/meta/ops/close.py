"""Close: the end of a session."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.meta import garbage, rows, sessions, trims
from fs3.core.meta.access import WRITE, has_permission, require_bytes, require_change, require_unlink
from fs3.core.meta.contents import get_by_content, replace_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, with_entry_change, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import with_access_of, without_privileges
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.length import with_truncated_length
from fs3.core.meta.ops.mkdir import resolve_with_parents
from fs3.core.meta.ops.sync import answer_without_session, as_written
from fs3.core.meta.resolve import PathTarget, require_entry
from fs3.core.txn import Txn
from fs3.model.inode import FileSession, Inode, InodeType
from fs3.model.requests import Close


@idempotent("close", Inode)
async def close_file(txn: Txn, ctx: OpContext, request: Close) -> Inode:
    """Ends a session. The file's length becomes at least `length`, the largest end offset its writer had acknowledged.
    `truncations`: those the writer knows of; LengthUnknown when there were more since, and the length would rise. `keep_mtime`:
    the mtime was set after the last write, and stays; `written_ago_ns`: so does one that another client has set since then.

    Unnamed files: `publish` gives the file its name. A file that is there (EXISTS when `exclusive`) and that the caller may write
    gets the new content, and stays what it is: inode, links, owner, mode. It is the answer. A caller that may not write it can
    only put another file in its place, if the directory permits that. None, an empty path, or `discard` queue the unnamed file
    for reclaiming. With `parents_mode` missing directories above the name are made in the same transaction, so no other client
    removes them in between. A publish that is refused leaves the session open.

    `discard` of a file that has a name publishes nothing; it is a truncation to the recorded length, which takes back what was
    written behind it, unless another client has the file open for writing, or may come back to it: then it cuts nothing. Raises
    NO_SESSION when the session is not one of this client's on this content. Session 0, of a read open, changes nothing. Where the
    file was replaced meanwhile, the answer is as that of sync.
    """
    content, length, publish, discard = request.content, request.length, request.publish, request.discard
    names = publish is not None and publish.path != ""
    if not request.session:
        return await answer_without_session(txn, content, length is not None or request.modified or names or discard)
    found = await sessions.find_or_revive(txn, ctx, content, request.session)
    sessions.check_writer(found, length is not None, request.modified, names, discard)
    if not found.unnamed and names:
        raise MetaError(Code.INVALID, f"content {content} has a name already")
    before = await get_by_content(txn, content)
    if discard and not found.unnamed:
        return await _take_back(txn, ctx, found, before)
    after = as_written(ctx, before, request)
    if publish is not None and names and not discard:
        place = await resolve_with_parents(txn, ctx, publish, request.parents_mode, follow=False, umask=request.umask)
        after = await publish_at(txn, ctx, after, require_entry(place, Code.IS_A_DIRECTORY), exclusive=request.exclusive)
    elif after is not before:
        rows.put_inode(txn, after)
    await sessions.end(txn, ctx, found, after)
    return after


async def _take_back(txn: Txn, ctx: OpContext, session: FileSession, before: Inode) -> Inode:
    after = before
    if not await sessions.has_other_writers(txn, session):
        after = with_truncated_length(ctx, before, before.length)
        trims.put_truncated(txn, after)
    await sessions.end(txn, ctx, session, after)
    return after


async def publish_at(txn: Txn, ctx: OpContext, file: Inode, place: PathTarget, *, exclusive: bool, created: int = 0) -> Inode:
    """Gives a file that has no name the one of a place, or its content to the file that is there; see `close_file`. `created`: 1
    when it has just come into being."""
    if place.dirent is None:
        if place.must_be_directory:
            raise MetaError(Code.IS_A_DIRECTORY, "a path with a trailing slash is a directory's", place.path)
        require_change(ctx.user, place.directory, place.path)
        named = with_nlink(ctx, file, 1)
        add_entry(txn, ctx, place, named, created=created)
        return named
    if exclusive:
        raise MetaError(Code.EXISTS, "the name is taken", place.path)
    if place.require_dirent().type is InodeType.DIRECTORY:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", place.path)
    replaced = await rows.get_inode(txn, place.dirent.inode)
    require_bytes(replaced, place.path)
    # What is replaced is the content, not who may read it: what was taken away meanwhile stays away.
    kept = without_privileges(ctx.user, replaced)
    if replaced.type is InodeType.FILE and has_permission(ctx.user, replaced, WRITE):
        return await replace_content(txn, ctx, kept, file)
    require_unlink(ctx.user, place.directory, replaced.uid, place.path)
    await garbage.unlink(txn, ctx, replaced)
    named = with_nlink(ctx, file, 1)
    if replaced.type is InodeType.FILE:
        named = with_access_of(named, kept)
    rows.put_inode(txn, named)
    rows.put_dirent(txn, place.key, named)
    rows.put_inode(txn, with_entry_change(ctx, place.directory))
    return named
