"""Asking the managers of a cluster something, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from fs3.api.tls import manager_wire
from fs3.base.limits import manager_probe_ns

if TYPE_CHECKING:
    from fs3.client.mgmtd.client import MgmtdClient
    from fs3.model.cluster import ClusterInfo

T = TypeVar("T")
ManagerQuestion: TypeAlias = Callable[["MgmtdClient"], Awaitable[T]]
"""What a manager is asked, through a client."""


@asynccontextmanager
async def open_manager_client(addresses: Sequence[str]) -> AsyncIterator[MgmtdClient]:
    """A client of the managers at "host:port"; nothing is asked yet."""
    from fs3.client.connector import Connector
    from fs3.client.mgmtd.client import MgmtdClient
    from fs3.drivers.os.clock import OsClock

    clock = OsClock()
    wire, endpoints = manager_wire(addresses, clock)
    connector = Connector([wire], host="")
    client = MgmtdClient(connector, endpoints, clock)
    try:
        yield client
    finally:
        await client.close()
        await connector.close()


async def ask_cluster_of(address: str) -> ClusterInfo:
    """What the manager at "host:port" says of its cluster, whether it is the primary or not. Raises FS3Error when it does not
    answer as one."""
    from fs3.client.connector import Connector
    from fs3.client.mgmtd.selector import ask_cluster
    from fs3.drivers.os.clock import OsClock

    wire, endpoints = manager_wire([address], OsClock())
    connector = Connector([wire], host="")
    try:
        return await ask_cluster(connector.channel(endpoints), manager_probe_ns)
    finally:
        await connector.close()


def ask_manager(addresses: Sequence[str], question: ManagerQuestion[T]) -> T:
    """The answer to one question. Raises Unreachable naming the addresses, and what the question raises."""

    async def ask() -> T:
        async with open_manager_client(addresses) as client:
            return await question(client)

    return asyncio.run(ask())
