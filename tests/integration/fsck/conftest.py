"""A whole cluster on one loop, whose rows and chunks can be damaged behind its back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.fsck.cluster import Fsck, Report
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.client.storage.client import StorageClient
from fs3.core.membership.config import MgmtdConfig
from fs3.core.meta.fsck.problems import describe, name_of
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.check import Problem
from fs3.model.inode import User
from fs3.model.routing import Role
from fs3.runtime.incarnation import GivenIncarnation
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.service import MetaService
from fs3.services.mgmtd.service import MgmtdService
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService

ROOT = User(0, 0)
STORAGE = 3
CHUNK = 1 << 16


class Cluster:
    """The services, their stores, and clients."""

    def __init__(self, clock: OsClock, connector: Connector, mgmtd: MgmtdClient) -> None:
        self.clock = clock
        self.connector = connector
        self.mgmtd = mgmtd
        self.rows = MemoryKV()
        self.meta: MetaService
        self.stores: dict[TargetId, MemoryChunkStore] = {}

    def client(self, user: User = ROOT) -> Client:
        """Another client."""
        identity = ClientId(os.urandom(16))
        meta = MetaClient(self.mgmtd, self.connector, self.clock, identity, user)
        storage = StorageClient(self.mgmtd, self.connector, self.clock, identity)

        async def nothing() -> None:
            await storage.close()

        return Client(self.mgmtd, meta, storage, nothing)

    def holders(self, chunk: ChunkId) -> list[TargetId]:
        """The targets that have a chunk, in chain order."""
        slots = [slot.target for chain in self.mgmtd.routing.chains.values() for slot in chain.slots]
        return [target for target in slots if self.stores[target].get(chunk) is not None]

    def chain_of(self, target: TargetId) -> ChainId:
        return next(chain.id for chain in self.mgmtd.routing.chains.values() if chain.slot(target))

    async def damage(self, change: Callable[[Any], Awaitable[Any]]) -> Any:
        """Change rows as no operation would."""
        return self.rows.transact_now(change)

    async def check(self, client: Client, **options: bool) -> Report:
        return await Fsck(client.meta, client.storage, self.mgmtd).check(**options)

    async def problems(self, client: Client, **options: bool) -> list[Problem]:
        report = await self.check(client, **options)
        assert not report.more
        assert all(describe(problem) for problem in report.problems)
        return report.problems

    async def kinds(self, client: Client, **options: bool) -> list[str]:
        return sorted(name_of(problem) for problem in await self.problems(client, **options))

    async def repair(self, client: Client, rounds: int = 6) -> list[str]:
        """Check and repair until nothing changes any more: the kinds that are left."""
        fsck = Fsck(client.meta, client.storage, self.mgmtd)
        for _ in range(rounds):
            report = await fsck.check()
            if not any([(await fsck.repair(problem)).done for problem in report.problems]):
                return sorted(name_of(problem) for problem in report.problems)
        raise AssertionError("repairs do not end")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        clock = OsClock()
        transport = MemoryTransport(MemoryNetwork(clock))
        connector = Connector([transport], host="")
        stack.push_async_callback(connector.close)
        config = MgmtdConfig(storage_nodes=STORAGE, replicas=STORAGE, targets_per_node=2)
        manager = MgmtdService(MemoryKV(), clock, config, os.urandom, sole=True)
        await manager.start()
        stack.push_async_callback((await transport.serve("memory://mgmtd", manager.bindings())).close)
        stack.push_async_callback(manager.stop)
        manager.announce(["memory://mgmtd"])
        mgmtd = MgmtdClient(connector, ["memory://mgmtd"], clock)
        stack.push_async_callback(mgmtd.close)
        await mgmtd.start()
        made = Cluster(clock, connector, mgmtd)

        async def open_store(target: TargetId) -> MemoryChunkStore:
            return made.stores.setdefault(target, MemoryChunkStore())

        starting = []
        for number in range(1, STORAGE + 1):
            where = f"memory://storage-{number}"
            disks = DataDirectories([tmp_path / f"storage-{number}"], f"storage-{number}")
            storage = StorageService(disks, open_store, clock, mgmtd, connector, StorageConfig(stop_grace_ms=0))
            stack.push_async_callback((await transport.serve(where, storage.bindings())).close)
            stack.push_async_callback(storage.stop)
            starting.append(storage.start([where], ""))
        await asyncio.gather(*starting)
        await mgmtd.wait_routing(lambda routing: bool(routing.tables), 30 * SECOND)
        chunks = StorageClient(mgmtd, connector, clock, ClientId(os.urandom(16)))
        stack.push_async_callback(chunks.close)
        settings = MetaConfig(chunk_size=CHUNK, stripe=2, garbage_delay_ms=0, garbage_interval_ms=20)
        meta = MetaService(made.rows, clock, mgmtd, chunks, settings, os.urandom, owner=ROOT)
        made.meta = meta
        await meta.start()
        stack.push_async_callback((await transport.serve("memory://meta", meta.bindings())).close)
        stack.push_async_callback(meta.stop)
        member = Member(mgmtd, clock, GivenIncarnation(1), name="meta", role=Role.META)
        await member.register(mgmtd.cluster, ["memory://meta"], "", os.getpid())
        member.start()
        stack.push_async_callback(member.stop)
        yield made


@pytest.fixture
def a(cluster: Any) -> Client:
    """One client of the cluster."""
    return cluster.client()  # type: ignore[no-any-return]


@pytest.fixture
def b(cluster: Any) -> Client:
    """Another one."""
    return cluster.client()  # type: ignore[no-any-return]
