"""Noting which clients were heard of, so that whoever looks for dead ones sees it."""

from __future__ import annotations

from itertools import islice

from fs3.base.ids import ClientId
from fs3.base.limits import contacts_max, contacts_per_step_max
from fs3.core.meta.liveness import beat
from fs3.core.txn import Txn
from fs3.ports.kv import KV
from fs3.services.meta.duties.duty import Duty


class ContactsDuty(Duty):
    """Every service has its own: a client's requests go to any of them. However many files a client has open and however often
    it asks, it costs one small row per interval, in a commit that all clients share."""

    name = "contacts"

    def __init__(self, kv: KV, interval_ms: int) -> None:
        super().__init__(interval_ms)
        self._kv = kv
        self._heard: set[ClientId] = set()

    def heard(self, client: ClientId) -> None:
        """The client has asked for something."""
        if len(self._heard) < contacts_max:
            self._heard.add(client)

    async def step(self) -> bool:
        """One transaction."""
        clients = list(islice(self._heard, contacts_per_step_max))
        if not clients:
            return False

        async def op(txn: Txn) -> int:
            return await beat(txn, clients)

        await self._kv.transact(op)
        self._heard.difference_update(clients)
        return bool(self._heard)
