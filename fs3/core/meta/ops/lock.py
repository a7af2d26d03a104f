"""Lock: acquire a lock on a file, wait for it, or give it up. See docs/protocols/locks.md."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from msgspec.structs import replace

from fs3.base.ids import CLIENT_ID_BYTES, ClientId, InodeId
from fs3.base.status import Code
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import keys, rows, sessions
from fs3.core.meta.access import READ, WRITE, check_inode_id, has_permission
from fs3.core.meta.allocation import allocate_ids
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import idempotent, revoke
from fs3.core.meta.locks import (
    LockValidity,
    conflicting,
    find_client_locks,
    get_inode_locks,
    give_back,
    own_within,
    put_client_locks,
    put_inode_locks,
    set_range,
    waits_ahead,
    would_deadlock,
)
from fs3.core.txn import ReadTxn, Txn
from fs3.model.lock import (
    LOCK_END,
    ClientLocks,
    FoundLock,
    GetLock,
    HeldLock,
    InodeLocks,
    Lock,
    LockAnswer,
    LockKind,
    LockOwner,
    LockProcess,
    LockStep,
    LockWait,
    WaitPlace,
)

locks_per_inode_max = 1024
"""Locks that one file may have; further ones are NO_LOCKS."""
lock_waits_per_inode_max = 1024
"""Owners that may wait for locks of one file."""
locks_per_client_max = 65_536
"""Locks that one client may hold."""
lock_waits_per_client_max = 4096
"""Owners of one client that may wait."""

_NONE = ClientLocks(0)


@idempotent("lock", LockAnswer, lambda answer: answer.granted)
async def lock(txn: Txn, ctx: OpContext, request: Lock) -> LockAnswer:
    """One step about a lock.

    TRY acquires it, or is LOCKED while another owner holds what conflicts. WAIT acquires it in the order of waiting, or gives the
    owner a place in the queue, and is not granted then; DEADLOCK when an owner by number would wait for itself. Either replaces
    what the owner holds of the range, once it is granted and not before. UNLOCK, RELEASE_OWNER and RELEASE_CLIENT give up what
    there is. WITHDRAW ends a wait whose outcome its client does not know: what was granted is given back.

    LOCKS_LOST when the client names an epoch of its locks that has ended. NO_LOCKS beyond a limit. STALE when the file is gone.
    """
    if request.step is LockStep.RELEASE_CLIENT:
        return await _release_client(txn, ctx)
    own = await find_client_locks(txn, ctx.client)
    if request.step is LockStep.RELEASE_OWNER:
        return await _release_owner(txn, ctx, request, own)
    if request.step is LockStep.WITHDRAW:
        return await _withdraw(txn, ctx, request, own)
    check_epoch(request.epoch, own)
    check_lock_range(request)
    if request.step is LockStep.UNLOCK:
        return await _unlock(txn, ctx, request, own)
    return await _acquire(txn, ctx, request, own)


async def get_lock(txn: ReadTxn, ctx: OpContext, request: GetLock) -> FoundLock | None:
    """The first lock, by its start, that keeps this one from being acquired, with the process of its owner where that is one of
    the `pid_space` that the request names. LOCKS_LOST and STALE as `lock`."""
    own = await find_client_locks(txn, ctx.client)
    check_epoch(request.epoch, own)
    check_lock_range(request)
    await _check_lockable(txn, ctx, request.inode, is_for_writing=False)
    locks = await get_inode_locks(txn, request.inode)
    wanted = _lock_of(ctx, request, 0)
    found = await LockValidity(txn).select(conflicting(locks.held, wanted))
    first = min(found, key=lambda each: each.start, default=None)
    if first is None:
        return None
    process = 0
    for each in locks.processes:
        if each.owner == first.owner and request.pid_space and each.pid_space == request.pid_space:
            process = each.process
    holder = replace(first.owner, client=_veil(first.owner.client))
    return FoundLock(first.kind, holder, first.start, first.end, first.exclusive, first.epoch, process)


def _veil(client: ClientId) -> ClientId:
    """What others are told of a client, to tell it from further ones. Who knows its id can ask in its name: end its locks, learn
    what it was answered, use up the numbers of its updates."""
    return ClientId(blake2b(client, digest_size=CLIENT_ID_BYTES, person=b"fs3 lock owner").digest())


def check_epoch(epoch: int, own: ClientLocks | None) -> None:
    """Raises LOCKS_LOST when the client believes in an epoch of its locks that has ended."""
    if epoch and (own is None or own.epoch != epoch):
        raise MetaError(Code.LOCKS_LOST, "the locks of this client were released: it was silent for too long")


def check_lock_range(request: Lock | GetLock) -> None:
    """Raises INVALID for a range that no lock has."""
    if not 0 <= request.start < request.end <= LOCK_END:
        raise MetaError(Code.INVALID, f"a lock from {request.start} to {request.end} is not within 0 and 2^63")
    if request.kind is LockKind.FLOCK and (request.start, request.end) != (0, LOCK_END):
        raise MetaError(Code.INVALID, "a lock of kind FLOCK is of the whole file")


async def _check_lockable(txn: ReadTxn, ctx: OpContext, number: InodeId, *, is_for_writing: bool) -> None:
    """Raises STALE for a file that is gone, ACCESS when the caller may not open it so, and has it not open: a lock keeps others
    waiting."""
    inode = await rows.find_inode(txn, check_inode_id(number))
    if inode is None:
        raise MetaError(Code.STALE, f"inode {number} is gone")
    user = ctx.user
    allowed = user.uid in (0, inode.uid) or has_permission(user, inode, WRITE)
    if not allowed and not is_for_writing:
        allowed = has_permission(user, inode, READ)
    if not allowed and not await sessions.is_open_by_client(txn, ctx, inode.content_id):
        raise MetaError(Code.ACCESS, f"inode {number} may not be locked by a user who may not open it so")


def _lock_of(ctx: OpContext, request: Lock | GetLock, epoch: int) -> HeldLock:
    owner = LockOwner(ctx.client, request.owner, request.by_handle)
    return HeldLock(request.kind, owner, request.start, request.end, request.exclusive, epoch)


# --- acquiring -------------------------------------------------------------------------------------------------------


async def _acquire(txn: Txn, ctx: OpContext, request: Lock, own: ClientLocks | None) -> LockAnswer:
    is_for_writing = request.kind is LockKind.RANGE and request.exclusive
    await _check_lockable(txn, ctx, request.inode, is_for_writing=is_for_writing)
    known = await get_inode_locks(txn, request.inode)
    epoch = 0 if own is None else own.epoch
    wanted = _lock_of(ctx, request, epoch)
    validity = LockValidity(txn)
    if request.passing:
        waiting = tuple(each for each in known.waiting if (each.owner.client, each.wait) not in request.passing)
        known = replace(known, waiting=waiting)
    holders = await validity.select(conflicting(known.held, wanted))
    ahead: Sequence[LockWait] = ()
    if not holders and request.step is LockStep.WAIT:
        ahead = await validity.select(waits_ahead(known, wanted, request.wait))
        # Who waits in line only, and would wait for itself over those in front, is let through: nothing it needs is held.
        if ahead and await would_deadlock(txn, wanted.owner, ahead):
            ahead = ()
    if not holders and not ahead:
        return await _grant(txn, ctx, request, known, own, wanted)
    if request.step is LockStep.TRY:
        raise MetaError(Code.LOCKED, f"another owner has locked inode {request.inode}")
    if any(each.owner.client == ctx.client and each.wait == request.wait and each.epoch == epoch for each in known.waiting):
        return LockAnswer(epoch, False)
    if holders and request.kind is LockKind.RANGE and not request.by_handle and await would_deadlock(txn, wanted.owner, holders):
        raise MetaError(Code.DEADLOCK, f"waiting for a lock of inode {request.inode} would never end")
    return await _enqueue(txn, ctx, request, known, own, wanted)


async def _grant(
    txn: Txn, ctx: OpContext, request: Lock, known: InodeLocks, own: ClientLocks | None, wanted: HeldLock
) -> LockAnswer:
    own = await _with_epoch(txn, ctx, own)
    wanted = replace(wanted, epoch=own.epoch)
    before = own_within(known.held, wanted)
    # What is left of earlier epochs of this client is void, and must not become valid by being joined to what is not.
    held = tuple(each for each in known.held if each.owner.client != ctx.client or each.epoch == own.epoch)
    after = set_range(held, wanted)
    places = tuple(place for place in own.waits if place.wait != request.wait)
    count = own.locks + len(after) - len(held)
    _put_client(txn, ctx, ClientLocks(own.epoch, count, places))
    processes = tuple(each for each in known.processes if each.owner != wanted.owner)
    if request.process:
        processes += (LockProcess(wanted.owner, request.process, request.pid_space),)
    waiting = _without_wait(ctx, known.waiting, request.wait)
    await _put_within_limits(txn, request.inode, InodeLocks(after, waiting, processes))
    return LockAnswer(own.epoch, True, tuple(each for each in before if each.epoch == own.epoch))


async def _enqueue(
    txn: Txn, ctx: OpContext, request: Lock, known: InodeLocks, own: ClientLocks | None, wanted: HeldLock
) -> LockAnswer:
    own = await _with_epoch(txn, ctx, own)
    place = LockWait(wanted.kind, wanted.owner, wanted.start, wanted.end, wanted.exclusive, own.epoch, request.wait)
    others = (each for each in own.waits if each.wait != request.wait)
    places = (*others, WaitPlace(request.owner, request.by_handle, request.inode, request.wait))
    if len(places) > lock_waits_per_client_max:
        raise MetaError(Code.NO_LOCKS, f"{lock_waits_per_client_max} owners of a client may wait")
    _put_client(txn, ctx, replace(own, waits=places))
    waiting = (*_without_wait(ctx, known.waiting, request.wait), place)
    await _put_within_limits(txn, request.inode, replace(known, waiting=waiting))
    return LockAnswer(own.epoch, False)


async def _with_epoch(txn: Txn, ctx: OpContext, own: ClientLocks | None) -> ClientLocks:
    """The client's row, with a new epoch when it has none; from now on it is looked after whether the client lives."""
    if own is not None:
        await liveness.register_client(txn, ctx.client, ctx.owner)
        return own
    await liveness.renew_client(txn, ctx.client, ctx.owner)
    return ClientLocks(await allocate_ids(txn, ctx, inodes=0, others=1))


def _without_wait(ctx: OpContext, waiting: Sequence[LockWait], wait: int) -> tuple[LockWait, ...]:
    return tuple(each for each in waiting if each.owner.client != ctx.client or each.wait != wait)


def _put_client(txn: Txn, ctx: OpContext, locks: ClientLocks) -> None:
    if locks.locks > locks_per_client_max:
        raise MetaError(Code.NO_LOCKS, f"a client may hold {locks_per_client_max} locks")
    put_client_locks(txn, ctx.client, locks)


async def _put_within_limits(txn: Txn, inode: InodeId, locks: InodeLocks) -> None:
    """Store the locks of a file; without void ones, where it would have too many. NO_LOCKS when it still has."""
    if len(locks.held) > locks_per_inode_max or len(locks.waiting) > lock_waits_per_inode_max:
        validity = LockValidity(txn)
        held, waits = await validity.select(locks.held), await validity.select(locks.waiting)
        locks = replace(locks, held=tuple(held), waiting=tuple(waits))
    if len(locks.held) > locks_per_inode_max:
        raise MetaError(Code.NO_LOCKS, f"inode {inode} has {locks_per_inode_max} locks already")
    if len(locks.waiting) > lock_waits_per_inode_max:
        raise MetaError(Code.NO_LOCKS, f"{lock_waits_per_inode_max} owners wait for locks of inode {inode} already")
    put_inode_locks(txn, inode, locks)


# --- giving up -------------------------------------------------------------------------------------------------------


async def _unlock(txn: Txn, ctx: OpContext, request: Lock, own: ClientLocks | None) -> LockAnswer:
    if own is None:
        return LockAnswer(0)
    gone = _lock_of(ctx, request, own.epoch)
    known = await get_inode_locks(txn, request.inode)
    if own_within(known.held, gone):
        await _put_changed(txn, ctx, request.inode, known, own, set_range(known.held, gone, unlock=True))
    return LockAnswer(own.epoch)


async def _release_owner(txn: Txn, ctx: OpContext, request: Lock, own: ClientLocks | None) -> LockAnswer:
    if own is None:
        return LockAnswer(0)
    owner = LockOwner(ctx.client, request.owner, request.by_handle)
    known = await get_inode_locks(txn, request.inode)
    held = tuple(each for each in known.held if each.owner != owner)
    waiting = tuple(each for each in known.waiting if each.owner != owner)
    if held != known.held or waiting != known.waiting:
        here = (owner.number, owner.by_handle, request.inode)
        places = tuple(place for place in own.waits if (place.number, place.by_handle, place.inode) != here)
        await _put_changed(txn, ctx, request.inode, replace(known, waiting=waiting), replace(own, waits=places), held)
    return LockAnswer(own.epoch)


async def _release_client(txn: Txn, ctx: OpContext) -> LockAnswer:
    """Ends the epoch. What is left in the rows of files is void."""
    txn.delete(keys.client_locks_key(ctx.client))
    return LockAnswer(0)


async def _withdraw(txn: Txn, ctx: OpContext, request: Lock, own: ClientLocks | None) -> LockAnswer:
    granted = await revoke(txn, ctx, request.asked, "lock", LockAnswer)
    if own is None:
        return LockAnswer(0)
    known = await get_inode_locks(txn, request.inode)
    held = known.held
    if granted is not None and granted.granted and granted.epoch == own.epoch:
        held = give_back(held, _lock_of(ctx, request, own.epoch), granted.before)
    waiting = _without_wait(ctx, known.waiting, request.wait)
    places = tuple(place for place in own.waits if place.wait != request.wait)
    if held != known.held or waiting != known.waiting or places != own.waits:
        await _put_changed(txn, ctx, request.inode, replace(known, waiting=waiting), replace(own, waits=places), held)
    return LockAnswer(own.epoch)


async def _put_changed(
    txn: Txn, ctx: OpContext, inode: InodeId, known: InodeLocks, own: ClientLocks, held: tuple[HeldLock, ...]
) -> None:
    """Store that the file has these locks now. Only locks of the caller are others than before."""

    def count(locks: tuple[HeldLock, ...]) -> int:
        return sum(each.owner.client == ctx.client and each.epoch == own.epoch for each in locks)

    _put_client(txn, ctx, replace(own, locks=max(0, own.locks + count(held) - count(known.held))))
    await _put_within_limits(txn, inode, replace(known, held=held))
