"""A faulty network between processes on loopback: every process is advertised at an address on which a proxy listens.

A process listens at 127.0.0.1:P and is advertised as 127.0.0.2:P, where the proxy takes its connections. Who connects is found
out from the kernel's table of sockets, so that a link between two processes can be cut while everybody else reaches both. A cut
link keeps its connections open and carries nothing, as a pulled cable does; what was sent meanwhile is carried after healing, or
never when the connection was given up. A cut may be one-way. Links can be slow, and connections can be broken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

ADVERTISED = "127.0.0.2"
REAL = "127.0.0.1"
OUTSIDE = "client"
"""The name of whoever is no process of the cluster."""
_PIECE = 256 * 1024

T = TypeVar("T")


@dataclass(eq=False)
class _Relay:
    """One relayed connection: `source` connected to `target`."""

    source: str
    target: str
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class FaultyNetwork:
    """Proxies before processes, on a thread of their own; its methods may be called from any other thread."""

    def __init__(self, ports: Mapping[str, tuple[int, ...]], pids: Callable[[], Mapping[str, int]]) -> None:
        """`ports`: those each process is advertised at, by its name. `pids`: the processes that run at the moment."""
        self._ports = dict(ports)
        self._pids = pids
        self._cut: set[tuple[str, str]] = set()
        """(from, to): bytes do not travel this way."""
        self._delays: dict[tuple[str, str], float] = {}
        self._relays: set[_Relay] = set()
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-network", daemon=True)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> FaultyNetwork:
        self._thread.start()
        self._run_on_loop(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run_on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- faults --------------------------------------------------------------------------------------------------------

    def cut(self, one: str, other: str, *, both_ways: bool = True) -> None:
        """From now on nothing travels from one process to another (nor back), on connections old and new."""
        self._change_faults(lambda: self._cut.update({(one, other), (other, one)} if both_ways else {(one, other)}))

    def isolate(self, name: str) -> None:
        """Cut a process off from everybody else, clients too."""
        others = [*self._ports, OUTSIDE]
        self._change_faults(lambda: self._cut.update(pair for other in others for pair in ((name, other), (other, name))))

    def heal(self) -> None:
        """Everything travels again, without delay."""

        def clear() -> None:
            self._cut.clear()
            self._delays.clear()

        self._change_faults(clear)

    def delay(self, one: str, other: str, seconds: float) -> None:
        """Every piece from one process to another takes so long."""
        self._change_faults(lambda: self._delays.__setitem__((one, other), seconds))

    def drop_connections(self, one: str, other: str) -> int:
        """End every connection between two processes; how many there were."""

        async def end() -> int:
            links = [link for link in self._relays if {link.source, link.target} == {one, other}]
            for link in links:
                for task in link.tasks:
                    task.cancel()
            return len(links)

        return self._run_on_loop(end())

    def count_connections(self, one: str, other: str) -> int:
        """How many connections there are between two processes."""

        async def count() -> int:
            return sum({link.source, link.target} == {one, other} for link in self._relays)

        return self._run_on_loop(count())

    # --- relaying ------------------------------------------------------------------------------------------------------

    def _run_on_loop(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(30)

    def _change_faults(self, change: Callable[[], None]) -> None:
        async def apply() -> None:
            change()
            self._changed.set()
            self._changed = asyncio.Event()

        self._run_on_loop(apply())

    async def _open(self) -> None:
        for name, ports in self._ports.items():
            for port in ports:
                server = await asyncio.start_server(self._make_acceptor(name, port), ADVERTISED, port, backlog=256)
                self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for link in self._relays for task in link.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_acceptor(self, target: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            source = owner_of(writer.get_extra_info("peername")[1], self._pids())
            link = _Relay(source, target)
            self._relays.add(link)
            try:
                # A connection across a cut is not made: the first packet would not arrive.
                await self._wait_passable(source, target)
                onward_reader, onward_writer = await asyncio.open_connection(REAL, port)
            except OSError:
                self._relays.discard(link)
                writer.transport.abort()
                return
            link.tasks = [
                asyncio.ensure_future(self._carry(source, target, reader, onward_writer)),
                asyncio.ensure_future(self._carry(target, source, onward_reader, writer)),
            ]
            await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in link.tasks:
                task.cancel()
            for end in (writer, onward_writer):
                end.transport.abort()
            self._relays.discard(link)

        return accept

    async def _wait_passable(self, source: str, target: str) -> None:
        while (source, target) in self._cut:
            await self._changed.wait()

    async def _carry(self, source: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of a connection, until it ends. The end of a connection does not cross a cut either."""
        with contextlib.suppress(OSError):
            while True:
                data = await reader.read(_PIECE)
                await self._wait_passable(source, target)
                if not data:
                    return
                delay = self._delays.get((source, target), 0.0)
                if delay:
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        await self._wait_passable(source, target)


def owner_of(port: int, pids: Mapping[str, int]) -> str:
    """Whose socket has a local port on loopback: the name of a process, or `OUTSIDE`."""
    inode = _inode_of(port)
    if inode:
        wanted = f"socket:[{inode}]"
        for name, pid in pids.items():
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"/proc/{pid}/fd/{fd}") == wanted:
                            return name
    return OUTSIDE


def _inode_of(port: int) -> str:
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{family}") as table:
            next(table)
            for line in table:
                columns = line.split()
                if int(columns[1].rpartition(":")[2], 16) == port and columns[9] != "0":
                    return columns[9]
    return ""


def is_supported() -> bool:
    """This system has the second loopback address and the tables that are needed."""
    if not os.path.exists("/proc/net/tcp"):
        return False
    with socket.socket() as probe:
        try:
            probe.bind((ADVERTISED, 0))
        except OSError:
            return False
    return True
