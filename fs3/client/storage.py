"""The storage client: chunks read, changed and looked for, on whatever nodes hold them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, ClientId
from fs3.base.limits import call_timeout_ns
from fs3.base.status import Code
from fs3.client.chunk_alone import read_alone
from fs3.client.chunk_finds import FindBatch, FindOutcome
from fs3.client.chunk_reads import ReadBatch, ReadCounters, ReadOutcome
from fs3.client.chunk_routes import ChunkRoutes
from fs3.client.chunk_updates import Channels, UpdateBatch, UpdateCounters
from fs3.client.connect import Connector
from fs3.client.routing import RoutingSource
from fs3.core.files.channel_pool import ChannelPool
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateResult
from fs3.model.routing import Role, Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

__all__ = ["FindOutcome", "ReadIO", "ReadOutcome", "StorageClient", "WriteIO"]


class StorageClient:
    """Chunk IO for one client. Belongs to one event loop; any number of calls may be under way at once.

    No method raises for what happens to a single IO: each has its own outcome. Every call ends by its deadline.
    """

    def __init__(
        self,
        routing: RoutingSource,
        connector: Connector,
        clock: Clock,
        client_id: ClientId,
        *,
        verify: bool = True,
        host: str = "",
        timeout_ns: int = call_timeout_ns,
    ) -> None:
        """`client_id`: 16 random bytes of this client's life. `verify`: check every byte read against its checksum.
        `host`: identity of this host, so that replicas on it are preferred; "" unknown."""
        self.reads = ReadCounters()
        self.updates = UpdateCounters()
        self._routes = ChunkRoutes(routing, connector, clock, host, int.from_bytes(client_id[:8], "little"))
        self._clock = clock
        self._client_id = client_id
        self._verify = verify
        self._timeout_ns = timeout_ns
        self._channels = Channels(ChannelPool())
        self._updating: dict[UpdateBatch, None] = {}
        self._closed = False
        routing.on_change(self._routing_changed)

    async def read(self, ios: Sequence[ReadIO], *, timeout_ns: int = 0) -> list[ReadOutcome]:
        """Fill the buffers of these reads, one frame per node. On anything but OK a buffer's content is undefined.

        OK with a `length` below the buffer's size: the chunk ends there; the rest of the buffer is untouched.
        """
        deadline = self._begin(timeout_ns)
        self.reads.ios += len(ios)
        if len(ios) == 1:
            alone = await read_alone(self._routes, self._clock, self.reads, ios[0], deadline, self._verify)
            if isinstance(alone, ReadOutcome):
                return [alone]
            return await ReadBatch(self._routes, self._clock, self.reads, ios, deadline, self._verify).run(alone)
        return await ReadBatch(self._routes, self._clock, self.reads, ios, deadline, self._verify).run()

    async def update(self, writes: Sequence[WriteIO], *, timeout_ns: int = 0) -> list[UpdateResult]:
        """Apply these updates, each exactly once when it is tagged; they are independent of each other.

        OK: durable on every replica. EXISTS: a PUT of a chunk that is already there. DEADLINE: it may or may not have happened,
        or may yet.
        """
        batch = UpdateBatch(
            self._routes, self._clock, self.updates, self._channels, self._client_id, writes, self._begin(timeout_ns)
        )
        self._updating[batch] = None
        try:
            return await batch.run()
        finally:
            del self._updating[batch]

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """Which of these chunks are there, and how long: one request per node."""
        return await FindBatch(self._routes, self._clock, keys, self._begin(timeout_ns)).run()

    async def space(self, *, timeout_ns: int = 0) -> list[pb.TargetSpace]:
        """Room and use of every target that answers; nodes that do not are left out."""
        deadline = self._begin(timeout_ns)
        calls: list[asyncio.Future[Reply]] = []
        for node in self._routes.routing.nodes.values():
            if node.role is Role.STORAGE and node.alive:
                try:
                    left = deadline - self._clock.now()
                    calls.append(self._routes.channel(node.id).start(STORAGE.GetSpace, pb.GetSpaceRequest(), timeout_ns=left))
                except FS3Error:
                    continue
        found: list[pb.TargetSpace] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, Reply):
                found += answer.message.targets
            elif not isinstance(answer, FS3Error):
                raise answer
        return found

    async def close(self) -> None:
        """Take no more calls. The channels belong to the connector."""
        self._closed = True

    def _begin(self, timeout_ns: int) -> int:
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the storage client is closed")
        return self._clock.now() + (timeout_ns or self._timeout_ns)

    def _routing_changed(self, routing: Routing) -> None:
        for batch in self._updating:
            batch.moved()
