"""What the planted bugs of locks exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fs3.base.ids import ClientId, InodeId
from fs3.core.meta import keys, locks
from fs3.core.meta.context import OpContext
from fs3.core.meta.idempotency import revoke
from fs3.core.meta.locks import conflicting, get_inode_locks, list_ready, put_inode_locks
from fs3.core.meta.ops import lock as lock_op
from fs3.core.txn import ReadTxn, Txn
from fs3.model.lock import ClientLocks, HeldLock, InodeLocks, Lock, LockAnswer, LockWait
from fs3.services.meta import lock_queue
from fs3.sim.ring2.service_bug import ServiceBug
from fs3.sim.ring2.swarm import ClusterSwarm


def busy_with_locks(swarm: ClusterSwarm) -> ClusterSwarm:
    """Many locks, and clients that die with some."""
    return replace(swarm, clients=3, lock_operations=60, client_crashes=2)


async def end_nothing(txn: Txn, client: ClientId, heartbeats: int) -> bool:
    """Of a client that is presumed dead, only the sessions are ended."""
    return True


def conflicting_with_strangers(held: Iterable[HeldLock], lock: HeldLock) -> list[HeldLock]:
    """An owner that has a lock already gets more of it, even if others have it."""
    held = list(held)
    if any(each.owner == lock.owner and each.kind is lock.kind for each in held):
        return []
    return conflicting(held, lock)


async def withdraw_the_wait_only(txn: Txn, ctx: OpContext, request: Lock, own: ClientLocks | None) -> LockAnswer:
    """A grant that came at the same time stays."""
    locks = await get_inode_locks(txn, request.inode)
    left = tuple(each for each in locks.waiting if each.owner.client != ctx.client or each.wait != request.wait)
    put_inode_locks(txn, request.inode, InodeLocks(locks.held, left))
    return LockAnswer(0 if own is None else own.epoch)


async def give_back_once(txn: Txn, ctx: OpContext, seq: int, verb: str, result: type[LockAnswer]) -> LockAnswer | None:
    """What was granted is given back, and a sending that is still on its way is not thought of."""
    row = await txn.get(keys.request_key(ctx.client, seq))
    return None if row is None else await revoke(txn, ctx, seq, verb, result)


async def list_all(txn: ReadTxn, inode: InodeId, passing: frozenset[tuple[ClientId, int]] = frozenset()) -> list[LockWait]:
    """Who does not come when it is its turn is waited for."""
    return await list_ready(txn, inode)


def check_nothing(epoch: int, own: ClientLocks | None) -> None:
    """A client that lost its locks is not told."""


LOCK_BUGS: dict[str, ServiceBug] = {
    "locks_outlive_clients": ServiceBug(
        "the locks of a client that is presumed dead are not released",
        [(locks, "end_epoch", end_nothing)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "locks_for_two": ServiceBug(
        "an owner that has a lock of a file gets more of it, or exclusively, even if others have it",
        [(lock_op, "conflicting", conflicting_with_strangers)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "withdrawn_and_granted": ServiceBug(
        "a wait is withdrawn, and the lock that it was granted at the same time stays",
        [(lock_op, "_withdraw", withdraw_the_wait_only)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "granted_after_withdrawal": ServiceBug(
        "a request for a lock that arrives after it was withdrawn is granted",
        [(lock_op, "revoke", give_back_once)],
        scene="a_lock_is_withdrawn_while_its_request_is_late",
    ),
    "lost_in_silence": ServiceBug(
        "a client is not told that its locks were released",
        [(lock_op, "check_epoch", check_nothing)],
        scene="a_lock_while_its_holder_is_cut_off",
    ),
    "waits_for_the_dead": ServiceBug(
        "a lock stays free while the first that waits for it does not come",
        [(lock_queue, "list_ready", list_all)],
        scene="a_lock_while_its_waiters_die",
    ),
}
