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
async def open_manager_client(
    addresses: Sequence[str], *, logs_in: bool = True, believes_all: bool = False
) -> AsyncIterator[MgmtdClient]:
    """A client of the managers at "host:port", logged in as this command is to be (`operator_credentials`), where the cluster
    knows of users; with `logs_in` False it is not, and nothing is asked yet. `believes_all`: see `manager_wire`."""
    from fs3.cli.operator_keys import operator_credentials
    from fs3.client.connector import Connector
    from fs3.client.mgmtd.client import MgmtdClient
    from fs3.client.security.session import LoginSession
    from fs3.drivers.os.clock import OsClock

    clock = OsClock()
    session = LoginSession(operator_credentials(addresses), clock) if logs_in else None
    wire, endpoints = manager_wire(addresses, clock, session, believes_all=believes_all)
    connector = Connector([wire], host="")
    client = MgmtdClient(connector, endpoints, clock, session=session)
    try:
        if logs_in:
            await client.log_in()
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


def ask_manager(addresses: Sequence[str], question: ManagerQuestion[T], *, logs_in: bool = True, believes_all: bool = False) -> T:
    """The answer to one question. Raises Unreachable naming the addresses, and what the login and the question raise."""

    async def ask() -> T:
        async with open_manager_client(addresses, logs_in=logs_in, believes_all=believes_all) as client:
            return await question(client)

    return asyncio.run(ask())
