"""Sessions: who has which content open for writing, a file's as it was when it was opened, and who reads what has no name.

A file without a name lives on while a session is open on it, as an unlinked or a not yet published file; the end of its last
session queues it for reclaiming. Readers of files that have a name have no session: see `fs3.core.meta.readers`.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import READER_SESSION, InodeId, SessionId
from fs3.base.limits import requests_remembered_ns
from fs3.base.status import Code
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import garbage, keys, rows
from fs3.core.meta.access import check_inode_id
from fs3.core.meta.contents import find_by_content, get_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.length import with_written_length
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import FileSession, Inode


async def start(
    txn: Txn, ctx: OpContext, content: InodeId, session: SessionId, unnamed_in: InodeId | None = None, *, append: bool = False
) -> None:
    """Stores a new session; `unnamed_in` is the directory an unnamed file was created for."""
    row = FileSession(session, content, ctx.client, ctx.wall_ns, unnamed_in is not None, unnamed_in or InodeId(0), append)
    txn.put(keys.session_key(content, session), rows.encode(row))
    await liveness.register_client(txn, ctx.client, ctx.owner)


async def find_or_revive(txn: Txn, ctx: OpContext, content: InodeId, session: SessionId) -> FileSession:
    """A session of this client. One that was ended because the client was silent is taken up again, if its file is still there.

    NO_SESSION when there is none: it never was, has ended, or is another client's.
    """
    key = keys.session_key(check_inode_id(content), session)
    row = await txn.get(key)
    if row is not None:
        found = rows.decode_session(key, row)
        if found.client == ctx.client:
            return found
    elif (revived := await _revive(txn, ctx, content, session)) is not None:
        return revived
    raise MetaError(Code.NO_SESSION, f"this client has no session {session} on content {content}")


async def _revive(txn: Txn, ctx: OpContext, content: InodeId, session: SessionId) -> FileSession | None:
    key = keys.pruned_key(content, session)
    row = await txn.get(key)
    if row is None:
        return None
    found = rows.decode_pruned_session(key, row).session
    if found.client != ctx.client:
        return None
    file = await find_by_content(txn, content)
    if file is None or file.nlink == 0:
        # It has been queued for reclaiming, and may be gone already.
        what = "was never named" if found.unnamed else "was removed or replaced"
        raise MetaError(Code.NO_SESSION, f"session {session} was ended, its client was silent too long; its file {what}")
    txn.delete(key)
    txn.put(keys.session_key(content, session), rows.encode(found))
    await liveness.register_client(txn, ctx.client, ctx.owner)
    return found


async def is_open_by_client(txn: ReadTxn, ctx: OpContext, content: InodeId, *, reading: bool = False) -> bool:
    """This client has the content open for writing. `reading`: a reader's session will do."""
    begin, end = keys.sessions_range(content)
    while True:
        found = await txn.scan(begin, end, _page)
        for key, row in found:
            session = rows.decode_session(key, row)
            if session.client == ctx.client and (reading or not session.reader):
                return True
        if len(found) < _page:
            return False
        begin = found[-1][0] + b"\0"


def check_writer(session: FileSession, *changes: object) -> None:
    """Raises NO_SESSION when a reader's session is to change anything."""
    if session.reader and any(changes):
        raise MetaError(Code.NO_SESSION, f"session {session.id} on content {session.content} is a reader's")


async def has_other_writers(txn: ReadTxn, session: FileSession) -> bool:
    """Another session is open on the file, or was ended because its client was silent and may be taken up again."""
    # Sessions of readers come behind those of writers.
    begin, end = keys.sessions_range(session.content)[0], keys.session_key(session.content, SessionId(READER_SESSION))
    mine = keys.session_key(session.content, session.id)
    if any(key != mine for key, _ in await txn.scan(begin, end, 2)):
        return True
    begin, end = keys.pruned_range(session.content)
    return bool(await txn.scan(begin, end, 1))


async def end(txn: Txn, ctx: OpContext, session: FileSession, inode: Inode) -> None:
    """Removes a session; `inode` has its content, as it is in this transaction. A file without a name and writers is queued."""
    txn.delete(keys.session_key(session.content, session.id))
    if inode.append is not None and inode.append.session == session.id:
        inode = replace(inode, append=None)
        rows.put_inode(txn, inode)
    if inode.nlink == 0:
        await garbage.queue_unless_open(txn, ctx, inode)


async def list_sessions(txn: ReadTxn, after: FileSession | None, limit: int) -> list[FileSession]:
    """At most `limit` sessions of all files that come after one, in a fixed order: for ending those of dead clients."""
    begin = keys.SESSION if after is None else keys.session_key(after.content, after.id) + b"\0"
    found = await txn.scan(begin, keys.end_of(keys.SESSION), limit)
    return [rows.decode_session(key, row) for key, row in found]


async def prune(
    txn: Txn, ctx: OpContext, session: FileSession, length: int | None, truncations: int | None = None
) -> Inode | None:
    """Ends the session of a client that is presumed dead. `length` is what storage has of the file, None when it was not asked;
    `truncations` those of the inode that it was asked for.

    None when the session has ended meanwhile. A file that has a name gets at least that length; one without is reclaimed.
    LengthUnknown when it was truncated since, TrimOutstanding while that truncation cuts. The session is remembered for a
    while, so that a client that was merely silent still has its later writes counted; see `find_or_revive`.
    """
    if await txn.get(keys.session_key(session.content, session.id)) is None:
        return None
    inode = await get_by_content(txn, session.content)
    after = with_written_length(ctx, inode, length, False, truncations, leaves_holes=True)
    if after is not inode:
        rows.put_inode(txn, after)
    if not session.reader:
        txn.put(keys.pruned_key(session.content, session.id), rows.encode(rows.PrunedSession(session, ctx.wall_ns)))
    await end(txn, ctx, session, after)
    return after


async def forget_pruned(txn: Txn, wall_ns: int, begin: bytes, limit: int) -> tuple[bytes | None, int]:
    """Forgets sessions that were ended long ago, looking at `limit` rows from a key on (b"": the first).

    (key to continue at or None at the end, rows forgotten).
    """
    found = await txn.scan(begin or keys.PRUNED, keys.end_of(keys.PRUNED), limit)
    forgotten = 0
    for key, row in found:
        if rows.decode_pruned_session(key, row).pruned_ns <= wall_ns - requests_remembered_ns:
            txn.delete(key)
            forgotten += 1
    return (found[-1][0] + b"\0" if len(found) == limit else None), forgotten


_page = 64
