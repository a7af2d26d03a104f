"""Append: one appender at a time has the turn to write behind the end of a file. See docs/protocols/appends.md."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.status import Code
from fs3.core.meta import inline, keys, rows, sessions, trims
from fs3.core.meta.contents import get_by_content
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent
from fs3.core.meta.length import with_written_length
from fs3.core.txn import Txn
from fs3.model.inode import AppendTurn, Inode
from fs3.model.requests import Append, AppendStep


@idempotent("append", Inode)
async def append(txn: Txn, ctx: OpContext, request: Append) -> Inode:
    """One step of an append, by a write session. From its first turn on one that was opened for writing in place counts as one
    that appends: should its client die, what lies behind the end may be of an append that was given up.

    TAKE gives the session the turn, with the next serial: bytes go to the end that is answered. NOT_ITS_TURN while another
    session has it, unless the request names that very turn, with as many renewals: its holder was silent for long.
    TrimOutstanding while a truncation cuts, MoveOutstanding for an inline file. PUBLISH makes the file `length` bytes long and
    ends the turn; NOT_ITS_TURN when the end was moved since by anybody, or the turn was taken over. STALE when the file has no
    name any more, because it was removed, or replaced by another one, unless the request is `unnamed`. INLINE is the whole append
    of `data` to an inline file that stays small, NOT_INLINE of any other."""
    found = await sessions.find_or_revive(txn, ctx, request.content, request.session)
    sessions.check_writer(found, True)
    before = await get_by_content(txn, found.content)
    if request.step is AppendStep.GIVE_UP:
        after = replace(before, append=None) if _has_turn(before, request) else before
    elif before.nlink == 0 and not request.unnamed:
        raise MetaError(Code.STALE, "the file was removed, or replaced by another one, while it was open for appending")
    elif request.step is AppendStep.INLINE:
        return await inline.append_data(txn, ctx, before, request.data)
    elif request.step is AppendStep.TAKE:
        after = _take(before, request)
        if not found.append:
            txn.put(keys.session_key(found.content, found.id), rows.encode(replace(found, append=True)))
    elif not _has_turn(before, request):
        raise MetaError(Code.NOT_ITS_TURN, f"turn {request.serial} to append to inode {before.id} has ended")
    elif request.step is AppendStep.RENEW:
        assert before.append is not None
        after = replace(before, append=replace(before.append, renewals=before.append.renewals + 1))
    else:
        after = _publish(ctx, before, request.length)
    if after is not before:
        rows.put_inode(txn, after)
    return after


def _has_turn(inode: Inode, request: Append) -> bool:
    turn = inode.append
    return turn is not None and (turn.session, turn.serial) == (request.session, request.serial)


def _take(inode: Inode, request: Append) -> Inode:
    trims.check_trimmed(inode)
    inline.check_moved(inode)
    turn = inode.append
    # A session does one append at a time, so an older turn of its own is one whose answer it never got.
    free = turn is None or turn.session == request.session
    if turn is not None and not free and (turn.serial, turn.renewals) != (request.serial, request.renewals):
        raise MetaError(Code.NOT_ITS_TURN, f"session {turn.session} has the turn to append to inode {inode.id}")
    serial = inode.appends + 1
    return replace(inode, append=AppendTurn(serial, request.session), appends=serial)


def _publish(ctx: OpContext, inode: Inode, length: int) -> Inode:
    if length <= inode.length:
        raise MetaError(Code.INVALID, f"an append to inode {inode.id} ends at {length}, the file at {inode.length}")
    return with_written_length(ctx, inode, length, True)
