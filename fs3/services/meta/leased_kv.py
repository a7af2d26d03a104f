"""The store, as the parts of a metadata service use it: the outcome of a change is told when no client remembers what was before.

Every transaction of the service passes here. Which inodes it changes is seen from the rows that it writes: each change of a file
or directory, of its names, bytes or attributes writes its inode's row, and a change of a name that of its directory as well.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic, Self, TypeVar

from fs3.base.ids import ClientId, InodeId
from fs3.core.meta import keys
from fs3.core.meta.lease_giver import revoke_others
from fs3.core.txn import Txn
from fs3.model.remembered import inodes_dropped
from fs3.model.requests import Request
from fs3.ports.kv import KV, OnDone, ReadOp, RoomMaker, WriteOp, future_callback
from fs3.services.meta.attribute_leases import AttributeLeases

T = TypeVar("T")

_PREFIX = keys.PREFIX_BYTES


class ClientOp(Generic[T]):
    """A write operation that a client has asked for. `makes_room`: see `RoomMaker`."""

    __slots__ = ("_op", "client", "makes_room", "request")

    def __init__(self, op: WriteOp[T], client: ClientId, request: Request[T], *, makes_room: bool) -> None:
        self._op = op
        self.client = client
        self.request = request
        self.makes_room = makes_room

    def __call__(self, txn: Txn) -> Awaitable[T]:
        """The operation."""
        return self._op(txn)


class LeasedKV:
    """`fs3.ports.kv.KV` on another one."""

    def __init__(self, kv: KV, leases: AttributeLeases) -> None:
        self._kv = kv
        self._leases = leases

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """See `KV.submit_read`."""
        self._kv.submit_read(op, done)

    async def read(self, op: ReadOp[T]) -> T:
        """`submit_read`, awaited."""
        return await self._kv.read(op)

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """See `KV.submit`."""
        leases, changed = self._leases, set[InodeId]()
        client = op.client if isinstance(op, ClientOp) else None
        has_revoked = False

        async def run(txn: Txn) -> T:
            nonlocal has_revoked
            changed.clear()
            has_revoked = await revoke_others(txn, leases.name)
            return await op(_RecordingTxn(txn, changed) if leases.is_recording else txn)

        def settled(answer: T | None, why: BaseException | None) -> None:
            if why is not None:
                done(answer, why)
                return
            if has_revoked:
                leases.on_revoked()
            dropped = inodes_dropped(op.request, answer) if isinstance(op, ClientOp) else set()
            leases.tell(changed, client, lambda: done(answer, None), changed if dropped is None else dropped)

        makes_room = op.makes_room if isinstance(op, ClientOp) else isinstance(op, RoomMaker)
        self._kv.submit(RoomMaker(run) if makes_room else run, settled)

    async def transact(self, op: WriteOp[T]) -> T:
        """`submit`, awaited."""
        future, done = future_callback()
        self.submit(op, done)
        result: T = await future
        return result

    async def close(self) -> None:
        """See `KV.close`."""
        await self._kv.close()


class _RecordingTxn:
    """A transaction that notes which inodes it changes."""

    __slots__ = ("_changed", "_txn", "get", "get_many", "scan")

    def __init__(self, txn: Txn, changed: set[InodeId]) -> None:
        self._txn = txn
        self._changed = changed
        self.get = txn.get
        self.get_many = txn.get_many
        self.scan = txn.scan

    def put(self, key: bytes, value: bytes) -> None:
        """See `Txn.put`."""
        if key[:_PREFIX] == keys.INODE:
            self._changed.add(InodeId(int.from_bytes(key[_PREFIX:], "big")))
        self._txn.put(key, value)

    def delete(self, key: bytes) -> None:
        """See `Txn.delete`."""
        if key[:_PREFIX] == keys.INODE:
            self._changed.add(InodeId(int.from_bytes(key[_PREFIX:], "big")))
        self._txn.delete(key)

    def tolerant(self) -> Self:
        """See `ReadTxn.tolerant`."""
        return type(self)(self._txn.tolerant(), self._changed)
