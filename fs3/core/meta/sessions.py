"""Write sessions: who has which file open for writing.

A file without a name lives on while a session is open on it, as an unlinked or a not yet published file; the end of its last
session queues it for reclaiming. Readers have no session: what they read of a removed file may turn into holes.
"""

from __future__ import annotations

from fs3.base.ids import InodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta import garbage, keys, rows
from fs3.core.meta.access import check_inode_id
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.length import merged
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import FileSession, Inode


def start(txn: Txn, ctx: OpContext, inode: InodeId, session: SessionId, unnamed_in: InodeId | None = None) -> None:
    """Stores a new session; `unnamed_in` is the directory an unnamed file was created for."""
    row = FileSession(session, inode, ctx.client, ctx.wall_ns, unnamed_in is not None, unnamed_in or InodeId(0))
    txn.put(keys.session_key(inode, session), rows.encode(row))


async def find(txn: ReadTxn, ctx: OpContext, inode: InodeId, session: SessionId) -> FileSession:
    """A session of this client. NO_SESSION when there is none: it never was, has ended, or belongs to somebody else."""
    key = keys.session_key(check_inode_id(inode), session)
    row = await txn.get(key)
    if row is not None:
        found = rows.decode_session(key, row)
        if found.client == ctx.client:
            return found
    raise MetaError(Code.NO_SESSION, f"this client has no session {session} on inode {inode}")


async def of_client(txn: ReadTxn, ctx: OpContext, inode: InodeId) -> bool:
    """This client has the file open for writing."""
    begin, end = keys.sessions_range(inode)
    while True:
        found = await txn.scan(begin, end, _page)
        if any(rows.decode_session(key, row).client == ctx.client for key, row in found):
            return True
        if len(found) < _page:
            return False
        begin = found[-1][0] + b"\0"


async def end(txn: Txn, ctx: OpContext, session: FileSession, inode: Inode) -> None:
    """Removes a session; `inode` is its file as it is in this transaction. A file without a name and writers is queued."""
    txn.delete(keys.session_key(session.inode, session.id))
    if inode.nlink == 0:
        await garbage.queue_unless_open(txn, ctx, inode)


async def list_sessions(txn: ReadTxn, after: FileSession | None, limit: int) -> list[FileSession]:
    """At most `limit` sessions of all files that come after one, in a fixed order: for looking for dead clients'."""
    begin = keys.SESSION if after is None else keys.session_key(after.inode, after.id) + b"\0"
    found = await txn.scan(begin, keys.end_of(keys.SESSION), limit)
    return [rows.decode_session(key, row) for key, row in found]


async def prune(txn: Txn, ctx: OpContext, session: FileSession, length: int | None) -> Inode | None:
    """Ends the session of a client that is dead; `length` is what storage has of the file, None when nobody asked.

    None when the session has ended meanwhile. A file that has a name gets at least that length; one without is reclaimed.
    """
    if await txn.get(keys.session_key(session.inode, session.id)) is None:
        return None
    inode = await rows.get_inode(txn, session.inode)
    after = merged(ctx, inode, length, False)
    if after is not inode:
        rows.put_inode(txn, after)
    await end(txn, ctx, session, after)
    return after


_page = 64
