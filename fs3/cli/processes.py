"""All processes of a cluster, each asked the same: for `fs3 top` and `fs3 slow`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from fs3.api.tls import manager_wire
from fs3.base.errors import FS3Error
from fs3.base.units import SECOND
from fs3.model.method import Method
from fs3.ports.rpc import Reply

answer_timeout_ns = 3 * SECOND
"""A process that does not answer within so long is shown as one that does not."""


class ClusterProcess(NamedTuple):
    """One of them."""

    name: str
    role: str
    endpoints: tuple[str, ...]
    host: str


class ClusterProcesses:
    """The managers and all nodes that are alive; `async with` it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """`addresses`: "host:port" of the managers, or the "embedded://" endpoint of one that is embedded in a process."""
        from fs3.cli.operator_keys import operator_credentials
        from fs3.client.connector import Connector
        from fs3.client.mgmtd.client import MgmtdClient
        from fs3.client.security.session import LoginSession
        from fs3.drivers.framed.local import EmbeddedTransport
        from fs3.drivers.os.clock import OsClock

        clock = OsClock()
        if addresses[0].startswith(f"{EmbeddedTransport.scheme}://"):
            self._connector = Connector([EmbeddedTransport(clock)], host="")
            self.manager = MgmtdClient(self._connector, addresses, clock)
            return
        session = LoginSession(operator_credentials(addresses), clock)
        wire, endpoints = manager_wire(addresses, clock, session)
        self._connector = Connector([wire], host="")
        self.manager = MgmtdClient(self._connector, endpoints, clock, session=session)

    async def __aenter__(self) -> Self:
        await self.manager.log_in()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.manager.close()
        await self._connector.close()

    async def list(self) -> list[ClusterProcess]:
        """Those there are now. Raises Unreachable naming the addresses."""
        status = await self.manager.status()
        found = [ClusterProcess(manager.name, "mgmtd", manager.endpoints, "") for manager in status.managers]
        nodes = sorted((node for node in status.routing.nodes.values() if node.alive), key=lambda node: (node.role, node.name))
        return found + [ClusterProcess(node.name, node.role.name.lower(), node.endpoints, node.host) for node in nodes]

    async def ask(self, processes: Sequence[ClusterProcess], method: Method, request: Any) -> Mapping[str, Reply | FS3Error]:
        """What each answers, or why not, by name. All are asked at once."""

        async def ask_one(process: ClusterProcess) -> Reply | FS3Error:
            try:
                return await self._connector.channel(process.endpoints).call(method, request, timeout_ns=answer_timeout_ns)
            except FS3Error as why:
                return why

        answers = await asyncio.gather(*(ask_one(process) for process in processes))
        return {process.name: answer for process, answer in zip(processes, answers, strict=True)}
