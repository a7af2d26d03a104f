"""The services of a cluster inside this process, on a directory: what `fsspec.filesystem("fs3", path=…)` runs on.

The same mgmtd, meta and storage services on the same stores, with one copy of everything. Among each other they call through
memory; clients, which are on other event loops, through sockets that only this process's user may open.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from fs3.base.units import SECOND
from fs3.cli.call_observer import CallObserver
from fs3.cli.directory import ClusterDirectory, acquire_process_lock
from fs3.cli.wiring import chunk_store_factory
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.client.storage.client import StorageClient
from fs3.core.files.file_clients import draw_client_id
from fs3.core.membership.config import MgmtdConfig
from fs3.drivers.framed.local import EmbeddedTransport
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.routing import Role
from fs3.ports.rpc import Bindings
from fs3.runtime.incarnation import IncarnationFile
from fs3.runtime.store_scrub import StoreScrub
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.service import MetaService
from fs3.services.mgmtd.service import MgmtdService
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService

READY_NS = 30 * SECOND


class LaunchedServices:
    """Running services, and how to reach them. Belongs to the event loop it was launched on."""

    def __init__(self, stack: AsyncExitStack, addresses: list[str]) -> None:
        self._stack = stack
        self.addresses = addresses
        """Of the manager, for clients in other threads of this process."""

    async def close(self) -> None:
        """Stop the services, flush everything, let go of the directory."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def launch(path: Path) -> LaunchedServices:
    """Start the services on a directory, making it when it is missing.

    FS3Error BUSY naming the process that has the directory open, or what is wrong with the data in it.
    """
    async with AsyncExitStack() as stack:
        stack.callback(os.close, acquire_process_lock(ClusterDirectory(path).embedded_lock_path))
        clock = OsClock()
        network = MemoryNetwork(clock)
        sockets = ClusterDirectory(path)

        async def listen(role: Role, name: str, bindings: Bindings) -> list[str]:
            """Serve other services and clients; the endpoints."""
            inner, outer = f"memory://{name}", f"embedded://{sockets.socket_path(name)}"
            observer = CallObserver(role.name.lower(), name, clock)
            observer.start(stack)
            inside, outside = MemoryTransport(network, counts=observer.counts), EmbeddedTransport(clock, counts=observer.counts)
            bindings = {**bindings, **observer.bindings()}
            stack.push_async_callback((await inside.serve(inner, bindings)).close)
            stack.push_async_callback((await outside.serve(outer, bindings)).close)
            return [inner, outer]

        connector = Connector([MemoryTransport(network)], host="")
        stack.push_async_callback(connector.close)

        state = LmdbKV.open(path / "mgmtd", clock=clock)
        stack.push_async_callback(state.close)
        state_scrub = StoreScrub(state, clock)
        stack.push_async_callback(state_scrub.stop)
        state_scrub.start()
        config = MgmtdConfig(storage_nodes=1, replicas=1, targets_per_node=1)
        manager = MgmtdService(state, clock, config, os.urandom, sole=True)
        await manager.start()
        addresses = await listen(Role.MGMTD, "mgmtd", manager.bindings())
        stack.push_async_callback(manager.stop)
        manager.announce(addresses)

        mgmtd = MgmtdClient(connector, addresses[:1], clock)
        stack.push_async_callback(mgmtd.close)
        await mgmtd.start()

        disks = DataDirectories([path / "storage"], "storage-1")
        storage = StorageService(disks, chunk_store_factory(disks, clock), clock, mgmtd, connector, StorageConfig())
        endpoints = await listen(Role.STORAGE, "storage", storage.bindings())
        stack.push_async_callback(storage.stop)
        await storage.start(endpoints, "")
        # The first start makes the chain table; files cannot be created before it is there.
        await mgmtd.wait_routing(lambda routing: bool(routing.tables), READY_NS)

        rows = LmdbKV.open(path / "meta", clock=clock)
        stack.push_async_callback(rows.close)
        scrub = StoreScrub(rows, clock)
        stack.push_async_callback(scrub.stop)
        scrub.start()
        chunks = StorageClient(mgmtd, connector, clock, draw_client_id(os.urandom))
        stack.push_async_callback(chunks.close)
        meta = MetaService(rows, clock, mgmtd, chunks, MetaConfig(), os.urandom)
        await meta.start()
        endpoints = await listen(Role.META, "meta", meta.bindings())
        stack.push_async_callback(meta.stop)
        starts = IncarnationFile(path / "meta" / "incarnation")
        member = Member(mgmtd, clock, starts, name="meta", role=Role.META, configured=meta, kept=scrub)
        await member.register(mgmtd.cluster, endpoints, "", os.getpid())
        member.start()
        stack.push_async_callback(member.stop)
        return LaunchedServices(stack.pop_all(), addresses[1:])
