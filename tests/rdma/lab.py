"""Two ends of a framed connection with RDMA between them: over a network without a device, or over this host's devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.devices import SYSFS, list_addresses
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.drivers.rdma.settings import PathSettings, RdmaHost
from fs3.drivers.rdma.verbs import VerbsError
from fs3.ports.rpc import Bindings
from fs3.sim.conformance.transport_harness import eventually, into
from fs3.sim.fabric import FakeFabric, FakePort, FakeVerbs, write_sysfs
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2


def address(number: int) -> str:
    """10.0.0.`number`, as the kernel writes a GID."""
    return f"0000:0000:0000:0000:0000:ffff:0a00:{number:04x}"


def device_problem() -> str:
    """Why nothing can be tested with a device on this host; "" when it can."""
    found = list_addresses(("any",))
    if not found.usable:
        return "; ".join(found.rejected)
    from fs3.drivers.rdma.pyverbs_binding import load

    try:
        load()
    except VerbsError as problem:
        return str(problem)
    return ""


LABS = [
    "fabric",
    pytest.param("device", marks=pytest.mark.skipif(bool(device_problem()), reason=f"no RDMA device: {device_problem()}")),
]
"""Both kinds, as parameters of tests."""


class FabricLab:
    """Hosts on a `FakeFabric`."""

    def __init__(self, directory: Path, **faults: Any) -> None:
        self.directory = directory
        self.fabric = FakeFabric(**faults)
        self._hosts = 0

    def host(self, *ports: FakePort, load: Callable[[], Any] | None = None, **settings: Any) -> RdmaHost:
        """One with these ports; without any, with one port."""
        self._hosts += 1
        if not ports:
            ports = (FakePort(f"rxe{self._hosts}", address(self._hosts), netdev=f"eth{self._hosts}"),)
        for port in ports:
            self.fabric.add(port)
        sysfs = write_sysfs(self.directory / f"infiniband-{self._hosts}", list(ports))
        return RdmaHost(OsClock(), PathSettings(**settings), load or (lambda: FakeVerbs(self.fabric)), sysfs=sysfs)


class DeviceLab:
    """Hosts on the devices of this one."""

    def host(self, **settings: Any) -> RdmaHost:
        """All of them are this one."""
        from fs3.drivers.rdma.pyverbs_binding import load

        return RdmaHost(OsClock(), PathSettings(stall_ns=5_000_000_000, **settings), load, sysfs=SYSFS)


@asynccontextmanager
async def connected(client: RdmaHost | None, server: RdmaHost | None, bindings: Bindings) -> AsyncIterator[Any]:
    """A channel from one host to another, on which a path was asked for."""

    def transport(host: RdmaHost | None) -> TcpTransport:
        return TcpTransport(OsClock(), paths=None if host is None else RdmaPaths(host))

    bindings = {STORAGE.CacheUsage: lambda call: call.reply(storage_pb2.CacheUsageReply()), **bindings}
    listener = await transport(server).serve("tcp://127.0.0.1:0", bindings)
    channel: Any = transport(client).connect(listener.endpoint)
    try:
        await ask(channel)
        yield channel
    finally:
        await channel.close()
        await listener.close()
    for host in (client, server):
        if host is not None:
            assert host.pool.held_bytes == 0


async def ask(channel: Any) -> None:
    """A call that may carry much, so that a path is asked for if it is time."""
    await channel.call(STORAGE.CacheUsage, storage_pb2.CacheUsageRequest(), into=into())


def path_of(channel: Any) -> Any:
    """The client's end of the path."""
    return channel._connection.offers.path


async def wait_for_path(channel: Any) -> None:
    """Until it is up."""
    await eventually(lambda: bool(path_of(channel).describe()[0]))


async def wait_for_refusal(channel: Any) -> str:
    """Until it is known that there is none: why."""
    path = path_of(channel)
    await eventually(lambda: path.describe()[1] not in ("", _UNANSWERED) and not path._is_agreeing)
    assert not path.describe()[0]
    return path.describe()[1]


_UNANSWERED = "the server has not answered, as one does that knows of no RDMA"
