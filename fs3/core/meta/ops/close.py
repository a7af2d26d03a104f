"""Close: the end of a session."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta import garbage, rows, sessions, trims
from fs3.core.meta.access import WRITE, has_permission, require_change, require_unlink, without_set_ids
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import add_entry, with_entry_change, with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.length import with_truncated_length, with_written_length
from fs3.core.meta.ops.mkdir import make_directories
from fs3.core.meta.ops.sync import answer_without_session
from fs3.core.meta.resolve import PathTarget, resolve_entry
from fs3.core.txn import Txn
from fs3.model.inode import FileSession, Inode, InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import Close


@idempotent("close", Inode)
async def close_file(txn: Txn, ctx: OpContext, request: Close) -> Inode:
    """Ends a session. The file's length becomes at least `length`, the largest end offset its writer had acknowledged.
    `truncations`: those the writer knows of; LengthUnknown when there were more since, and the length would rise.

    Unnamed files: `publish` gives the file its name, replacing the content of a file that is there (or failing with EXISTS when
    `exclusive`): its mode, owner and time of birth, as they are now, become those of the new one. None, an empty path, or
    `discard` queue it for reclaiming. With `parents_mode` missing directories above the name are made in the same transaction, so
    no other client removes them in between. A publish that is refused leaves the session open.

    `discard` of a file that has a name publishes nothing; it is a truncation to the recorded length, which takes back what was
    written behind it, unless another client has the file open for writing, or may come back to it: then it cuts nothing. Raises
    NO_SESSION when the session is not one of this client's on this inode. Session 0, of a read open, changes nothing.
    """
    inode, length, publish, discard = request.inode, request.length, request.publish, request.discard
    names = publish is not None and publish.path != ""
    if not request.session:
        return await answer_without_session(txn, inode, length is not None or request.modified or names or discard)
    found = await sessions.find_or_revive(txn, ctx, inode, request.session)
    if not found.unnamed and names:
        raise MetaError(Code.INVALID, f"inode {inode} has a name already")
    before = await rows.get_inode(txn, inode)
    if discard and not found.unnamed:
        return await _take_back(txn, ctx, found, before)
    after = with_written_length(ctx, before, length, request.modified, request.truncations)
    if publish is not None and names and not discard:
        if request.parents_mode is not None:
            await make_parents(txn, ctx, publish, request.parents_mode)
        place = await resolve_entry(txn, ctx, publish, Code.IS_A_DIRECTORY)
        after = await publish_at(txn, ctx, after, place, exclusive=request.exclusive)
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


async def make_parents(txn: Txn, ctx: OpContext, path: PathRef, mode: int) -> None:
    """Makes the directories that are missing above a name."""
    try:
        await resolve_entry(txn, ctx, path, Code.IS_A_DIRECTORY)
    except MetaError as error:
        above = path.path.rstrip("/").rpartition("/")[0]
        if error.code is not Code.NOT_FOUND or not above:
            raise
        await make_directories(txn, ctx, PathRef(path.parent, above), mode)


def _with_attributes_of(ctx: OpContext, named: Inode, replaced: Inode) -> Inode:
    """The content is replaced, not who may read it: what was taken away meanwhile stays away. Who may not write the old file
    could only replace it, as the directory permits: the new one is theirs."""
    mode = replaced.mode if ctx.user.uid == 0 else without_set_ids(replaced.mode)
    if not has_permission(ctx.user, replaced, WRITE):
        return replace(named, mode=mode)
    return replace(named, mode=mode, uid=replaced.uid, gid=replaced.gid, birth_ns=replaced.birth_ns)


async def publish_at(txn: Txn, ctx: OpContext, file: Inode, place: PathTarget, *, exclusive: bool, created: int = 0) -> Inode:
    """Gives a file that has no name the one of a place, or its content to the file that is there; see `close_file`. `created`: 1
    when it has just come into being."""
    named = with_nlink(ctx, file, 1)
    if place.dirent is None:
        if place.must_be_directory:
            raise MetaError(Code.IS_A_DIRECTORY, "a path with a trailing slash is a directory's", place.path)
        require_change(ctx.user, place.directory, place.path)
        add_entry(txn, ctx, place, named, created=created)
        return named
    if exclusive:
        raise MetaError(Code.EXISTS, "the name is taken", place.path)
    if place.require_dirent().type is InodeType.DIRECTORY:
        raise MetaError(Code.IS_A_DIRECTORY, "is a directory", place.path)
    replaced = await rows.get_inode(txn, place.dirent.inode)
    require_unlink(ctx.user, place.directory, replaced.uid, place.path)
    await garbage.unlink(txn, ctx, replaced)
    if replaced.type is InodeType.FILE:
        named = _with_attributes_of(ctx, named, replaced)
    rows.put_inode(txn, named)
    rows.put_dirent(txn, place.key, named)
    rows.put_inode(txn, with_entry_change(ctx, place.directory))
    return named
