"""Forgetting requests that no client repeats any more."""

from __future__ import annotations

from fs3.base.ids import CLIENT_ID_BYTES, ClientId
from fs3.core.meta.idempotency import sweep
from fs3.core.txn import Txn
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, RoomMaker
from fs3.services.meta.duties.duty import Duty
from fs3.services.meta.duties.lease import DutyLease

requests_per_sweep_max = 512
"""Remembered requests one transaction of the sweep looks at."""

_FIRST = ClientId(bytes(CLIENT_ID_BYTES))


class RequestsDuty(Duty):
    """Walks over the remembered requests of all clients, in small transactions between those of requests."""

    name = "requests"

    def __init__(self, lease: DutyLease | None, kv: KV, clock: Clock, interval_ms: int, first_pause_ns: int = 0) -> None:
        super().__init__(lease, interval_ms, first_pause_ns)
        self._kv = kv
        self._clock = clock
        self._next = _FIRST
        self.forgotten = 0
        """Rows removed since the start."""

    async def step(self) -> bool:
        """One transaction. False at the end of a walk."""
        wall_ns, client = self._clock.wall(), self._next

        async def op(txn: Txn) -> tuple[ClientId | None, int]:
            return await sweep(txn, wall_ns, client, requests_per_sweep_max)

        following, count = await self._kv.transact(RoomMaker(op))
        self.forgotten += count
        self._next = _FIRST if following is None else following
        return following is not None
