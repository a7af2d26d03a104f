"""How much room files have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fs3.base.errors import FS3Error
from fs3.base.ids import TableId
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.routing import RoutingSource
from fs3.model.trace import CallSpan
from fs3.ports.clock import Clock
from fs3.runtime.tracing import within_request
from fs3.services.meta.chunk_client import ChunkClient

log = logging.getLogger("fs3.meta")

OnCapacity = Callable[[int, int], None]
"""Called with (total bytes, free bytes)."""
_TIMEOUT_NS = 2 * SECOND


class CapacityCache:
    """Asks storage for its space, at most once per `age_ms`; all statfs requests that wait meanwhile share the answer.

    A chain holds as much as its fullest target still takes. Chains whose targets do not answer count as full.
    """

    def __init__(self, clock: Clock, routing: RoutingSource, storage: ChunkClient, age_ms: int) -> None:
        self._clock = clock
        self._routing = routing
        self._storage = storage
        self._age_ns = age_ms * MILLISECOND
        self._asked_at: int | None = None
        self._waiting: list[tuple[TableId, OnCapacity]] = []
        self._task: asyncio.Task[None] | None = None
        self._targets: dict[int, tuple[int, int]] = {}

    def set_age(self, age_ms: int) -> None:
        """How long an answer is good for, from now on."""
        self._age_ns = age_ms * MILLISECOND

    def ask(self, table: TableId, ready: OnCapacity, span: CallSpan | None = None) -> None:
        """Call back with the space of a table's chains, now or when storage has answered. What storage is asked is a part of
        `span`, of the request that is the first to wait for it."""
        if self._asked_at is not None and self._clock.now() - self._asked_at < self._age_ns:
            ready(*self._of(table))
            return
        self._waiting.append((table, ready))
        if self._task is None:
            with within_request(span):
                self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def stop(self) -> None:
        """Leave unanswered the requests that wait for storage."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh(self) -> None:
        try:
            found = await self._storage.space(timeout_ns=_TIMEOUT_NS)
            self._targets = {space.target_id: (space.used_bytes + space.free_bytes, space.free_bytes) for space in found}
            self._asked_at = self._clock.now()
        except FS3Error as why:
            log.warning("storage does not say how much space it has: %s", why)
        finally:
            self._task = None
        waiting, self._waiting = self._waiting, []
        for table, ready in waiting:
            ready(*self._of(table))

    def _of(self, table: TableId) -> tuple[int, int]:
        routing = self._routing.routing
        total = free = 0
        for chain in routing.tables[table].chains if table in routing.tables else ():
            slots = routing.chains[chain].serving_slots() if chain in routing.chains else ()
            spaces = [self._targets.get(slot.target, (0, 0)) for slot in slots]
            total += min((space[0] for space in spaces), default=0)
            free += min((space[1] for space in spaces), default=0)
        return total, free
