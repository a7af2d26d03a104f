"""Service and client over the memory transport: the semantics of a real wire, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.cluster import RegisterNode
from fs3.model.routing import Role
from fs3.services.mgmtd import MgmtdConfig, MgmtdService

ENDPOINT = "memory://mgmtd"
WAIT = 10 * SECOND


def registration(name: str, role: Role) -> RegisterNode:
    return RegisterNode(name, role, b"", 1, (f"memory://{name}",), "")


async def test_a_cluster_forms_and_survives_a_restart_of_its_manager() -> None:
    clock = OsClock()
    network = MemoryNetwork(clock)
    kv = MemoryKV()
    entropy: Callable[[int], bytes] = lambda count: b"c" * count  # noqa: E731

    async def serve() -> tuple[MgmtdService, Any]:
        service = MgmtdService(kv, clock, MgmtdConfig(), entropy)
        await service.start()
        return service, await MemoryTransport(network).serve(ENDPOINT, service.bindings())

    connectors = [Connector([MemoryTransport(network)], "") for _ in range(20)]
    clients = [MgmtdClient(connector, [ENDPOINT], clock) for connector in connectors]
    service, listener = await serve()
    await asyncio.gather(*(client.start() for client in clients))
    for number in range(1, 4):
        await clients[0].register(registration(f"storage-{number}", Role.STORAGE))
    for client in clients:
        routing = await client.wait_routing(lambda routing: bool(routing.tables), WAIT)
        assert routing == clients[0].routing

    await service.stop()
    await listener.close()
    service, listener = await serve()
    assert (await clients[0].register(registration("meta-1", Role.META))).node == 4
    for client in clients:
        routing = await client.wait_routing(lambda routing: len(routing.nodes) == 4, WAIT)
        assert routing == clients[0].routing

    await asyncio.gather(*(client.close() for client in clients))
    await asyncio.gather(*(connector.close() for connector in connectors))
    await service.stop()
    await listener.close()
