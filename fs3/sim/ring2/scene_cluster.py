"""A quiet cluster for scenes, and what its clients are told to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fs3.api.client import Client
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.cluster_run import ClusterRun
from fs3.sim.ring2.loop import SimTask
from fs3.sim.ring2.network import SimLinks
from fs3.sim.ring2.workloads.chunks import shared_chunks

T = TypeVar("T")

TIMEOUT_NS = 20 * SECOND
POLL_SECONDS = 0.001
POLLS_MAX = 5000


class SceneCluster:
    """A quiet cluster on which a scene is played, and one chunk of it."""

    def __init__(self, world: ClusterRun) -> None:
        self.cluster: Cluster = world.cluster
        routing = next(iter(self.cluster.clients.values())).manager.routing
        chains = list(routing.tables[min(routing.tables)].chains)
        self.chunk, self.chain = shared_chunks(1, chains)[0]
        self._hosts = {node.id: node.name for node in routing.nodes.values()}
        self.initial_order = self.serving_hosts()
        """Hosts of the chain in the beginning, head first."""

    def serving_hosts(self) -> list[str]:
        """Hosts that serve the chain now, head first."""
        return [self._hosts[slot.node] for slot in self.cluster.chains[self.chain].serving_slots()]

    def current_chain_version(self) -> int:
        """Of the chain."""
        return self.cluster.chains[self.chain].version

    def write(self, client: str, data: bytes) -> SimTask[UpdateResult]:
        """Begin to write the chunk."""
        host = self.cluster.hosts[client]
        assert host.process is not None
        return self.cluster.loop.spawn(host.process, _write(self, client, data))

    async def call(self, client: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """What a client is asked to do, done by its process."""
        host = self.cluster.hosts[client]
        assert host.process is not None
        return await self.cluster.loop.spawn(host.process, work(self.cluster.clients[client]))

    def start(self, client: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> SimTask[T]:
        """The same, under way."""
        host = self.cluster.hosts[client]
        assert host.process is not None
        return self.cluster.loop.spawn(host.process, work(self.cluster.clients[client]))

    async def try_read(self, client: str, length: int = 1000) -> bytes:
        """The content of the chunk if somebody shows it soon, else b""."""
        buffer = bytearray(length)
        io = ReadIO(self.chunk, self.chain, 0, memoryview(buffer))
        (outcome,) = await self.cluster.clients[client].storage.read([io], timeout_ns=SECOND)
        return bytes(buffer[: outcome.length]) if outcome.code is Code.OK else b""

    async def read(self, client: str) -> bytes:
        """The content of the chunk, as a client sees it."""
        buffer = bytearray(1000)
        io = ReadIO(self.chunk, self.chain, 0, memoryview(buffer))
        (outcome,) = await self.cluster.clients[client].storage.read([io], timeout_ns=TIMEOUT_NS)
        assert outcome.code in (Code.OK, Code.NOT_FOUND), outcome
        return bytes(buffer[: outcome.length])

    async def wait_until_read(self, client: str, data: bytes) -> None:
        """Read until that is what there is."""
        for _ in range(POLLS_MAX):
            if await self.read(client) == data:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError(f"{client} never reads {data!r}")


async def _write(stage: SceneCluster, client: str, data: bytes) -> UpdateResult:
    io = WriteIO(stage.chunk, stage.chain, UpdateKind.WRITE, 0, memoryview(data))
    (result,) = await stage.cluster.clients[client].storage.update([io], timeout_ns=TIMEOUT_NS)
    return result


class SlowLinks:
    """What some hosts send to some others takes longer."""

    def __init__(self, links: SimLinks, source: str, target: str, by_ms: int) -> None:
        """`source`, `target`: beginnings of names."""
        self._links = links
        self._source = source
        self._target = target
        self._by_ns = by_ms * MILLISECOND

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        verdict = self._links.carry(source, target, size)
        meant = source.startswith(self._source) and target.startswith(self._target)
        return verdict + self._by_ns if meant and verdict > 0 else verdict
