"""What the planted bugs of locks exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fs3.base.ids import ClientId, InodeId
from fs3.core.meta import keys
from fs3.core.meta.context import OpContext
from fs3.core.meta.idempotency import revoke
from fs3.core.meta.locks import conflicting, get_inode_locks, list_ready, put_inode_locks
from fs3.core.txn import ReadTxn, Txn
from fs3.model.lock import ClientLocks, HeldLock, InodeLocks, Lock, LockAnswer, LockWait
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
