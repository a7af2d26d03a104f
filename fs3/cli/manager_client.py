"""Asking the managers of a cluster something, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from fs3.client.mgmtd.client import MgmtdClient

T = TypeVar("T")
ManagerQuestion: TypeAlias = Callable[["MgmtdClient"], Awaitable[T]]
"""What a manager is asked, through a client."""


@asynccontextmanager
async def open_manager_client(addresses: Sequence[str]) -> AsyncIterator[MgmtdClient]:
    """A client of the managers at "host:port"; nothing is asked yet."""
    from fs3.client.connector import Connector
    from fs3.client.mgmtd.client import MgmtdClient
    from fs3.drivers.framed.tcp import TcpTransport
    from fs3.drivers.os.clock import OsClock

    clock = OsClock()
    connector = Connector([TcpTransport(clock)], host="")
    client = MgmtdClient(connector, [f"tcp://{address}" for address in addresses], clock)
    try:
        yield client
    finally:
        await client.close()
        await connector.close()


def ask_manager(addresses: Sequence[str], question: ManagerQuestion[T]) -> T:
    """The answer to one question. Raises Unreachable naming the addresses, and what the question raises."""

    async def ask() -> T:
        async with open_manager_client(addresses) as client:
            return await question(client)

    return asyncio.run(ask())
