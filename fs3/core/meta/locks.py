"""Locks: the algebra of ranges, and the rows that hold it. See docs/protocols/locks.md.

Intuition: the locks of one file are one row, so every question about them is answered in one transaction. The locks of one client
end all at once when the client dies, however many files they are on: each lock names the *epoch* of its client's locks, and
counts only as long as the client's own row has that epoch. Deleting that row therefore releases everything; what is left of
void locks in the rows of files is cleaned up later, by those who meet them and by `purge`.

Who waits has a place in the file's row too. So the order of waiting holds for all services on one store, survives their restarts,
and a ring of owners that wait for each other is found by reading rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from fs3.base.ids import ClientId, InodeId
from fs3.base.limits import check_rows_per_page
from fs3.core.meta import client_liveness as liveness
from fs3.core.meta import keys, rows
from fs3.core.txn import ReadTxn, Txn
from fs3.model.lock import ClientLocks, HeldLock, InodeLocks, LockOwner, LockWait

lock_graph_rows_max = 128
"""Rows that are read to find out whether a wait would never end."""

L = TypeVar("L", bound=HeldLock)
Held = tuple[HeldLock, ...]

# --- ranges ----------------------------------------------------------------------------------------------------------


def set_range(held: Held, lock: HeldLock, *, unlock: bool = False) -> Held:
    """The locks after `lock.owner` got exactly this lock, or with `unlock` none, in the range: what it held there of this kind is
    replaced, cut or split, and locks that touch and are alike become one. Other owners' locks stay as they are."""
    own = [each for each in held if each.kind is lock.kind and each.owner == lock.owner]
    kept = [each for each in held if each.kind is not lock.kind or each.owner != lock.owner]
    parts = [] if unlock else [lock]
    for each in own:
        if each.end <= lock.start or each.start >= lock.end:
            parts.append(each)
            continue
        if each.start < lock.start:
            parts.append(replace(each, end=lock.start))
        if each.end > lock.end:
            parts.append(replace(each, start=lock.end))
    return tuple(kept + _joined(parts))


def _joined(parts: list[HeldLock]) -> list[HeldLock]:
    """Disjoint locks of one owner and kind, in order; neighbours that touch and have the same mode are one."""
    parts.sort(key=lambda part: part.start)
    joined: list[HeldLock] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and last.end == part.start and last.exclusive == part.exclusive:
            joined[-1] = replace(last, end=part.end)
        else:
            joined.append(part)
    return joined


def own_within(held: Held, lock: HeldLock) -> Held:
    """What the owner of `lock` holds of its range and kind, cut to the range."""
    return tuple(
        replace(each, start=max(each.start, lock.start), end=min(each.end, lock.end))
        for each in held
        if each.kind is lock.kind and each.owner == lock.owner and each.start < lock.end and lock.start < each.end
    )


def give_back(held: Held, lock: HeldLock, before: Held) -> Held:
    """The locks after a grant of `lock` is taken back: of its range the owner has what it held both before and now, in the weaker
    of both modes. So it never gets what another owner may have acquired meanwhile."""
    now = own_within(held, lock)
    result = set_range(held, lock, unlock=True)
    for old in before:
        for new in now:
            start, end = max(old.start, new.start), min(old.end, new.end)
            if start < end:
                result = set_range(result, replace(new, start=start, end=end, exclusive=old.exclusive and new.exclusive))
    return result


def do_conflict(one: HeldLock, other: HeldLock) -> bool:
    """These two cannot both be held."""
    return (
        one.kind is other.kind
        and one.start < other.end
        and other.start < one.end
        and (one.exclusive or other.exclusive)
        and one.owner != other.owner
    )


def conflicting(held: Iterable[HeldLock], lock: HeldLock) -> list[HeldLock]:
    """The locks that keep this one from being acquired."""
    return [each for each in held if do_conflict(each, lock)]


# --- rows ------------------------------------------------------------------------------------------------------------

_decode_inode_locks = msgspec.msgpack.Decoder(InodeLocks).decode
_decode_client_locks = msgspec.msgpack.Decoder(ClientLocks).decode
_NO_LOCKS = InodeLocks()


def decode_locks(key: bytes, row: bytes) -> InodeLocks | ClientLocks:
    """A row about locks, of a file or of a client. Raises MetaError INTERNAL when it cannot be read."""
    try:
        return _decode_inode_locks(row) if keys.is_inode_locks(key) else _decode_client_locks(row)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


async def get_inode_locks(txn: ReadTxn, inode: InodeId) -> InodeLocks:
    """The locks of a file, void ones too."""
    key = keys.inode_locks_key(inode)
    row = await txn.get(key)
    if row is None:
        return _NO_LOCKS
    try:
        return _decode_inode_locks(row)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


def put_inode_locks(txn: Txn, inode: InodeId, locks: InodeLocks) -> None:
    """Store the locks of a file, with the processes of those who hold some; a row without any is deleted."""
    if locks.held or locks.waiting:
        if locks.processes:
            holders = {each.owner for each in locks.held}
            locks = replace(locks, processes=tuple(each for each in locks.processes if each.owner in holders))
        txn.put(keys.inode_locks_key(inode), rows.encode(locks))
    else:
        txn.delete(keys.inode_locks_key(inode))


async def find_client_locks(txn: ReadTxn, client: ClientId) -> ClientLocks | None:
    """The row of a client's locks; None: it holds none."""
    key = keys.client_locks_key(client)
    row = await txn.get(key)
    if row is None:
        return None
    try:
        return _decode_client_locks(row)
    except msgspec.MsgspecError as error:
        rows.raise_malformed(key, error)


def put_client_locks(txn: Txn, client: ClientId, locks: ClientLocks) -> None:
    """Store what is known of a client's locks."""
    txn.put(keys.client_locks_key(client), rows.encode(locks))


class LockValidity:
    """Which locks count, in one transaction: each client's row is read once, and only when it matters."""

    def __init__(self, txn: ReadTxn) -> None:
        self._txn = txn
        self._epochs: dict[ClientId, int] = {}

    async def is_valid(self, lock: HeldLock) -> bool:
        """The lock, or the wait, is of the present epoch of its client's locks."""
        client = lock.owner.client
        if client not in self._epochs:
            found = await find_client_locks(self._txn, client)
            self._epochs[client] = 0 if found is None else found.epoch
        return self._epochs[client] == lock.epoch

    async def select(self, locks: Sequence[L]) -> list[L]:
        """Those that count."""
        return [lock for lock in locks if await self.is_valid(lock)]


# --- who comes next --------------------------------------------------------------------------------------------------


def waits_ahead(locks: InodeLocks, lock: HeldLock, wait: int) -> list[LockWait]:
    """The waits that `lock`, itself the wait of this number or a new one, has to let go first.

    An owner that holds something of the file already is let through: who waits may be waiting for just that."""
    if any(each.kind is lock.kind and each.owner == lock.owner and each.epoch == lock.epoch for each in locks.held):
        return []
    ahead: list[LockWait] = []
    for each in locks.waiting:
        if each.wait == wait and each.owner.client == lock.owner.client:
            break
        if do_conflict(each, lock):
            ahead.append(each)
    return ahead


async def list_ready(txn: ReadTxn, inode: InodeId, passing: frozenset[tuple[ClientId, int]] = frozenset()) -> list[LockWait]:
    """The waits for which nothing is in the way any more, in order; as if those of `passing` were not there."""
    locks = await get_inode_locks(txn, inode)
    validity = LockValidity(txn)
    waiting = tuple(each for each in locks.waiting if (each.owner.client, each.wait) not in passing)
    known = replace(locks, waiting=waiting)
    ready = []
    for each in waiting:
        if not await validity.is_valid(each):
            continue
        if await _is_any_valid(validity, conflicting(locks.held, each)):
            continue
        if not await _is_any_valid(validity, waits_ahead(known, each, each.wait)):
            ready.append(each)
    return ready


async def _is_any_valid(validity: LockValidity, locks: Sequence[HeldLock]) -> bool:
    for lock in locks:
        if await validity.is_valid(lock):
            return True
    return False


async def would_deadlock(txn: ReadTxn, owner: LockOwner, blockers: Sequence[HeldLock]) -> bool:
    """`owner` would wait for these, which wait, directly or over others, for it. False as well when that would take more than
    `lock_graph_rows_max` rows to find out."""
    validity = LockValidity(txn)
    looked_at: set[LockOwner] = set()
    left = list(blockers)
    budget = lock_graph_rows_max
    while left:
        blocker = left.pop()
        if blocker.owner == owner:
            return True
        if blocker.owner in looked_at or not await validity.is_valid(blocker):
            continue
        looked_at.add(blocker.owner)
        client = await find_client_locks(txn, blocker.owner.client)
        for place in () if client is None else client.waits:
            if (place.number, place.by_handle) != (blocker.owner.number, blocker.owner.by_handle):
                continue
            budget -= 1
            if budget < 0:
                return False
            locks = await get_inode_locks(txn, place.inode)
            for each in locks.waiting:
                if each.wait == place.wait and each.owner == blocker.owner:
                    left += conflicting(locks.held, each)
                    left += waits_ahead(locks, each, each.wait)
    return False


# --- the end of locks ------------------------------------------------------------------------------------------------


async def forget_inode(txn: Txn, inode: InodeId) -> None:
    """The inode is deleted, and its locks with it."""
    key = keys.inode_locks_key(inode)
    if await txn.get(key) is None:
        return
    locks = await get_inode_locks(txn, inode)
    validity = LockValidity(txn)
    gone: dict[ClientId, int] = {}
    for lock in (*locks.held, *locks.waiting):
        if await validity.is_valid(lock):
            gone[lock.owner.client] = gone.get(lock.owner.client, 0) + (not isinstance(lock, LockWait))
    for client, count in gone.items():
        found = await find_client_locks(txn, client)
        assert found is not None, "a valid lock has no client"
        waits = tuple(place for place in found.waits if place.inode != inode)
        put_client_locks(txn, client, replace(found, locks=max(0, found.locks - count), waits=waits))
    txn.delete(key)


async def end_epoch(txn: Txn, client: ClientId, heartbeats: int) -> bool:
    """Releases all locks of a client that is presumed dead. False when it was heard of meanwhile."""
    if not await liveness.is_presumed_dead(txn, client, heartbeats):
        return False
    txn.delete(keys.client_locks_key(client))
    return True


async def end_all_epochs(txn: Txn) -> None:
    """Releases all locks of all clients. For a store that was put back from a copy: who holds what has changed since."""
    after: ClientId | None = None
    while page := await list_locking_clients(txn, after, check_rows_per_page):
        for client in page:
            txn.delete(keys.client_locks_key(client))
        after = page[-1]


async def list_locking_clients(txn: ReadTxn, after: ClientId | None, limit: int) -> list[ClientId]:
    """At most `limit` clients that have a row for their locks and come after `after` (None: from the first)."""
    begin = keys.client_locks_key(ClientId(b"")) if after is None else keys.client_locks_key(after) + b"\0"
    return [keys.client_of_locks(key) for key, _ in await txn.scan(begin, keys.end_of(keys.LOCK), limit)]


async def purge(txn: Txn, begin: bytes, limit: int) -> tuple[bytes | None, int]:
    """Cleans void locks and waits out of `limit` rows of files from a key on (b"": the first).

    (key to continue at or None at the end, how many were removed).
    """
    first, end = keys.inode_locks_range()
    found = await txn.scan(begin or first, end, limit)
    validity = LockValidity(txn)
    removed = 0
    for key, _ in found:
        inode = keys.inode_of_locks(key)
        locks = await get_inode_locks(txn, inode)
        valid = {"held": tuple(await validity.select(locks.held)), "waiting": tuple(await validity.select(locks.waiting))}
        after = replace(locks, **valid)
        gone = len(locks.held) + len(locks.waiting) - len(after.held) - len(after.waiting)
        if gone:
            put_inode_locks(txn, inode, after)
            removed += gone
    return (found[-1][0] + b"\0" if len(found) == limit else None), removed
