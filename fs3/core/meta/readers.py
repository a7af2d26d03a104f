"""Sessions of readers: they keep the bytes of a file that has no name any more.

A read open stores nothing, so that a loader may open thousands of files for nothing. Only when a file loses its last name, or a
name gets other bytes, does a client that reads it get a session on what it has open:

- in the transaction that does it, when it is the client's own request, which says what the client has open
  (`OpContext.open_contents`);
- with its next keep-alive, when another client did it: that tells what the client has had open for a while, and is answered with
  what has no name any more (`fs3.core.meta.ops.hold.find_unnamed`). The queue of what is to be reclaimed waits for longer than
  that takes.

From then on it is a session as those of writers are: it goes when the client closes it, or is presumed dead. See docs/posix.md.
"""

from __future__ import annotations

from fs3.base.ids import InodeId, reader_session
from fs3.base.status import Code
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import FileSession


async def start(txn: Txn, ctx: OpContext, content: InodeId) -> FileSession:
    """The reader session of the client on a content, which begins now if there is none yet."""
    session = FileSession(reader_session(ctx.client), content, ctx.client, ctx.wall_ns, reader=True)
    key = keys.session_key(content, session.id)
    row = await txn.get(key)
    if row is None:
        txn.put(key, rows.encode(session))
        await liveness.register_client(txn, ctx.client, ctx.owner)
    elif rows.decode_session(key, row).client != ctx.client:
        raise MetaError(Code.INTERNAL, f"two clients have the same session {session.id} on content {content}")
    return session


async def is_started(txn: ReadTxn, ctx: OpContext, content: InodeId) -> bool:
    """The client has one."""
    return await txn.get(keys.session_key(content, reader_session(ctx.client))) is not None
