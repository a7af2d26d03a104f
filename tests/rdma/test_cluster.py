"""A cluster of three nodes whose payloads travel by RDMA: over a network without a device, and over this host's devices, if
it has any."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.io.dma_buf import DmaBuf
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import Unreachable
from fs3.base.ids import ClientId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.cli.wiring import chunk_store_factory
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.core.membership.config import MgmtdConfig
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.data_directories import DataDirectories
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.drivers.rdma.settings import RdmaHost
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind
from fs3.model.routing import Role
from fs3.runtime.incarnation import GivenIncarnation
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.service import MetaService
from fs3.services.mgmtd.service import MgmtdService
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService
from fs3.sim.conformance.transport_harness import pattern
from tests.dma_bufs import FakeDmaBufs, RealDmaBufs, real_dma_buf_problem
from tests.rdma.lab import LABS, DeviceLab, FabricLab

NODES = 3
SIZE = 256 * KIB + 7


class Cluster:
    """Services on one loop, each node with a transport of its own, so that they are different hosts to each other."""

    def __init__(self, directory: Path, lab: Any, stack: AsyncExitStack, *, is_mixed: bool = False) -> None:
        """`is_mixed`: every other process has no RDMA."""
        self.directory = directory
        self.lab = lab
        self._is_mixed = is_mixed
        self._made = 0
        self.hosts: list[RdmaHost] = []
        self._stack = stack
        self._clock = OsClock()
        self._nodes: dict[int, AsyncExitStack] = {}
        self.manager: str
        self.mgmtd: MgmtdClient

    def transport(self) -> tuple[TcpTransport, Connector]:
        """Of one process more."""
        self._made += 1
        if self._is_mixed and self._made % 2 == 0:
            return (transport := TcpTransport(self._clock)), Connector([transport], host="")
        host = self.lab.host()
        self.hosts.append(host)
        transport = TcpTransport(self._clock, paths=RdmaPaths(host))
        return transport, Connector([transport], host="")

    async def start(self) -> None:
        plain = TcpTransport(self._clock)
        # An emulated processor may take seconds for what the services of a cluster do at once, all of them on one loop here.
        config = MgmtdConfig(storage_nodes=NODES, replicas=NODES, targets_per_node=1, lease_ns=30 * SECOND)
        service = MgmtdService(MemoryKV(), self._clock, config, os.urandom, sole=True)
        await service.start()
        listener = await plain.serve("tcp://127.0.0.1:0", service.bindings())
        self.manager = listener.endpoint
        self._stack.push_async_callback(listener.close)
        self._stack.push_async_callback(service.stop)
        service.announce([listener.endpoint])
        control = Connector([plain], host="")
        self._stack.push_async_callback(control.close)
        self.mgmtd = MgmtdClient(control, [listener.endpoint], self._clock)
        self._stack.push_async_callback(self.mgmtd.close)
        await self.mgmtd.start()
        await asyncio.gather(*(self.start_node(number) for number in range(1, NODES + 1)))
        await self.mgmtd.wait_routing(lambda routing: bool(routing.tables), 60 * SECOND)
        transport, connector = self.transport()
        self._stack.push_async_callback(connector.close)
        chunks = StorageClient(self.mgmtd, connector, self._clock, ClientId(os.urandom(16)))
        self._stack.push_async_callback(chunks.close)
        meta = MetaService(MemoryKV(), self._clock, self.mgmtd, chunks, MetaConfig(), os.urandom)
        await meta.start()
        listener = await transport.serve("tcp://127.0.0.1:0", meta.bindings())
        self._stack.push_async_callback(listener.close)
        self._stack.push_async_callback(meta.stop)
        member = Member(self.mgmtd, self._clock, GivenIncarnation(1), name="meta", role=Role.META)
        await member.register(self.mgmtd.cluster, [listener.endpoint], "", os.getpid())
        member.start()
        self._stack.push_async_callback(member.stop)

    async def start_node(self, number: int) -> None:
        """A storage node, with what its directory has."""
        stack = self._nodes[number] = AsyncExitStack()
        transport, connector = self.transport()
        stack.push_async_callback(connector.close)
        name = f"storage-{number}"
        disks = DataDirectories([self.directory / name], name)
        settings = StorageConfig(stop_grace_ms=0, resync_fills_max=2)  # so that they are not all sent before there is a path
        node = StorageService(disks, chunk_store_factory(disks, self._clock), self._clock, self.mgmtd, connector, settings)
        listener = await transport.serve("tcp://127.0.0.1:0", node.bindings())
        stack.push_async_callback(listener.close)
        stack.push_async_callback(node.stop)
        await node.start([listener.endpoint], "")

    async def stop_node(self, number: int) -> None:
        """Stop it in good order."""
        await self._nodes.pop(number).aclose()

    async def stop(self) -> None:
        for number in list(self._nodes):
            await self.stop_node(number)

    def client(self) -> StorageClient:
        """A client of the nodes."""
        _, connector = self.transport()
        self._stack.push_async_callback(connector.close)
        client = StorageClient(self.mgmtd, connector, self._clock, ClientId(os.urandom(16)))
        self._stack.push_async_callback(client.close)
        return client

    async def wait_serving(self) -> None:
        """Until every target of every chain serves."""
        await self.mgmtd.wait_routing(
            lambda routing: all(
                len(chain.slots) == NODES and all(slot.state is PublicState.SERVING for slot in chain.slots)
                for chain in routing.chains.values()
            ),
            120 * SECOND,
        )


@pytest.fixture(params=LABS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return FabricLab(tmp_path) if request.param == "fabric" else DeviceLab()


@pytest.fixture
async def cluster(lab: Any, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        made = Cluster(tmp_path, lab, stack)
        stack.push_async_callback(made.stop)
        await made.start()
        await made.wait_serving()
        yield made


def _place(cluster: Cluster, number: int) -> tuple[Any, Any]:
    chains = sorted(cluster.mgmtd.routing.chains)
    return file_chunk(7, number), chains[number % len(chains)]


async def write(cluster: Cluster, client: StorageClient, numbers: range) -> None:
    """Chunks that can be told apart. What an emulated processor does not answer in time is written again."""
    left = list(numbers)
    while left:
        ios = [WriteIO(*_place(cluster, number), UpdateKind.WRITE, 0, memoryview(pattern(SIZE, number))) for number in left]
        outcomes = await client.update(ios)
        assert {outcome.code for outcome in outcomes} <= {Code.OK, Code.DEADLINE}
        left = [number for number, outcome in zip(left, outcomes, strict=True) if outcome.code is not Code.OK]


async def compare(cluster: Cluster, client: StorageClient, numbers: range) -> None:
    """Every byte is as it was written. What is not answered in time is read again."""
    left = list(numbers)
    while left:
        ios = [ReadIO(*_place(cluster, number), 0, memoryview(bytearray(SIZE))) for number in left]
        outcomes = await client.read(ios)
        assert {outcome.code for outcome in outcomes} <= {Code.OK, Code.DEADLINE}
        found = list(zip(left, ios, outcomes, strict=True))
        assert all(io.buffer == pattern(SIZE, number) for number, io, outcome in found if outcome.code is Code.OK)
        left = [number for number, _, outcome in found if outcome.code is not Code.OK]


async def test_updates_reads_and_resync(cluster: Cluster) -> None:
    client = cluster.client()
    mine = cluster.hosts[-1]
    for numbers in (range(6), range(6, 12)):  # the first of them ask for the paths
        await write(cluster, client, numbers)
        await compare(cluster, client, numbers)
    assert mine.fetched_bytes >= SIZE
    nodes = cluster.hosts[:NODES]
    assert all(host.fetched_bytes >= SIZE for host in nodes), "updates, and what nodes forward"
    await cluster.stop_node(3)
    await write(cluster, client, range(4, 16))
    await cluster.start_node(3)
    back = cluster.hosts[-1]
    await cluster.wait_serving()
    assert back.fetched_bytes >= SIZE, "what it had missed"
    await cluster.stop_node(1)
    await cluster.stop_node(2)
    await compare(cluster, client, range(16))


async def test_a_cluster_of_which_some_have_no_rdma(tmp_path: Path) -> None:
    """Nodes 1 and 3 have it, node 2 has not; of the clients one has it and one has not."""
    async with AsyncExitStack() as stack:
        cluster = Cluster(tmp_path, FabricLab(tmp_path), stack, is_mixed=True)
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        await cluster.wait_serving()
        assert len(cluster.hosts) == 2
        clients = [cluster.client(), cluster.client()]
        assert len(cluster.hosts) == 3
        # The first of them ask for the paths. Whichever node is the head, one with RDMA has updates from one that has it; which
        # node a client reads from is its own choice.
        while not sum(host.fetched_bytes for host in cluster.hosts[:2]):
            for client in clients:
                await write(cluster, client, range(6))
                for reader in clients:
                    await compare(cluster, reader, range(6))


async def test_a_link_that_goes_down_in_the_middle(cluster: Cluster, lab: Any) -> None:
    if isinstance(lab, DeviceLab) and not os.environ.get("FS3_GUEST"):
        pytest.skip("the links of this host are not for tests to take down")
    client = cluster.client()
    await write(cluster, client, range(6))
    await compare(cluster, client, range(6))
    before = sum(host.fetched_bytes for host in cluster.hosts)
    writing = asyncio.ensure_future(write(cluster, client, range(6, 18)))
    reading = asyncio.ensure_future(compare(cluster, client, range(6)))
    while sum(host.fetched_bytes for host in cluster.hosts) == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    set_link(lab, up=False)
    try:
        await asyncio.gather(writing, reading)
        await compare(cluster, client, range(18))
    finally:
        set_link(lab, up=True)
    assert client.reads.checksum_mismatches == 0


def set_link(lab: Any, *, up: bool) -> None:
    """Every port loses its link, or has it again."""
    if isinstance(lab, FabricLab):
        for port in lab.fabric.ports:
            port.is_connected = up
        return
    commands = ["ip link set fs3a up", "ip addr replace 10.77.0.1/24 dev fs3a"] if up else ["ip link set fs3a down"]
    for command in commands:
        subprocess.run(command.split(), check=True)


async def test_pages_arrive_in_registered_memory(cluster: Cluster, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"page {number}".encode() for number in range(8)]
    memory = bytearray(SIZE * len(keys))
    async with cached_pages(cluster, lab, monkeypatch) as (host, cache):
        with cache.register_buffer(memory):
            views = [memoryview(memory)[SIZE * number : SIZE * (number + 1)] for number in range(len(keys))]
            for number, view in enumerate(views):
                view[:] = pattern(SIZE, number)
            for _ in range(2):
                await until_done(lambda: cache.put_from(keys, views))
                memory[:] = bytes(len(memory))
                await until_done(lambda: cache.get_into(keys, views))
                assert all(view == pattern(SIZE, number) for number, view in enumerate(views))
        assert host.fetched_bytes >= SIZE


async def test_pages_of_a_dma_buf(cluster: Cluster, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine's kernel, if it makes any."""
    if real_dma_buf_problem():
        kernel: Any = FakeDmaBufs()
        monkeypatch.setattr("fs3.api.io.dma_buf._kernel", kernel)
    else:
        kernel = RealDmaBufs()
    keys = [f"page {number}".encode() for number in range(4)]
    pages = b"".join(pattern(SIZE, number) for number in range(4))
    fd = kernel.make(pages)
    async with cached_pages(cluster, lab, monkeypatch) as (host, cache):
        with DmaBuf(fd) as buffer, cache.register_buffer(buffer):
            parts = [buffer[SIZE * number : SIZE * (number + 1)] for number in range(4)]
            await until_done(lambda: cache.put_from(keys, parts))
            for _ in range(2):  # the first of them may ask for the paths
                kernel.store(fd, bytes(len(pages)))
                await until_done(lambda: cache.get_into(keys, parts))
                assert kernel.load(fd, len(pages)) == pages
        assert host.fetched_bytes >= SIZE
    os.close(fd)


async def until_done(call: Callable[[], Awaitable[list[Status]]]) -> None:
    """Again and again, until it is done for each key: an emulated processor may answer too late."""
    statuses = await call()
    while not all(status.ok for status in statuses):
        assert {status for status in statuses if not status.ok} <= {Status.TIMEOUT, Status.ERROR}
        statuses = await call()


async def connect_in_time(manager: str) -> Client:
    """A client, once a manager answers it as soon as managers do."""
    while True:
        try:
            return await connect(manager, transport="tcp")
        except Unreachable as trouble:
            if "did not answer" not in str(trouble):
                raise


@asynccontextmanager
async def cached_pages(cluster: Cluster, lab: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RdmaHost, KVCache]]:
    """Pages of a client, and the host whose paths it has."""
    host = lab.host()
    monkeypatch.setattr("fs3.drivers.rdma.paths.rdma_paths", lambda clock, allowed: RdmaPaths(host))
    client = await connect_in_time(cluster.manager.removeprefix("tcp://"))
    try:
        cache = await KVCache.of(client, namespace="m@r/tp1", page_bytes=SIZE, timeout=60)
        yield host, cache
        await cache.close()
    finally:
        await client.aclose()
