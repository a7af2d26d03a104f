"""Noting which clients were heard of, for the service that looks for dead ones."""

from __future__ import annotations

from itertools import islice

from fs3.base.ids import ClientId
from fs3.core.meta.client_liveness import record_heartbeats
from fs3.core.txn import Txn
from fs3.ports.kv import KV
from fs3.services.meta.duties.duty import Duty

last_seen_per_step_max = 512

last_seen_clients_max = 65_536
"""Clients a service remembers to have heard of; the others are heard of again."""


class LastSeenDuty(Duty):
    """Every service has its own: a client's requests go to any of them. However many files a client has open and however often
    it asks, it costs one small row per interval, in a commit that all clients share."""

    name = "last_seen"

    def __init__(self, kv: KV, interval_ms: int) -> None:
        super().__init__(None, interval_ms)
        self._kv = kv
        self._clients: dict[ClientId, None] = {}
        """In the order in which they were heard of, so that each gets its turn."""

    def record(self, client: ClientId) -> None:
        """The client has asked for something."""
        if len(self._clients) < last_seen_clients_max:
            self._clients[client] = None

    async def step(self) -> bool:
        """One transaction."""
        clients = list(islice(self._clients, last_seen_per_step_max))
        if not clients:
            return False

        async def op(txn: Txn) -> int:
            return await record_heartbeats(txn, clients)

        await self._kv.transact(op)
        for client in clients:
            self._clients.pop(client, None)
        return bool(self._clients)
