"""The suite of transports with every payload by one-sided transfers, over a network without a device (`fs3.sim.fabric`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.framed.server import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.drivers.rdma.settings import PathSettings, RdmaHost
from fs3.ports.rpc import Bindings, Channel, Listener, Transport
from fs3.sim.conformance.transport import TransportTests
from fs3.sim.conformance.transport_harness import eventually, into
from fs3.sim.fabric import FakeFabric, FakePort, FakeVerbs, write_sysfs
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2


class TestRdma(TransportTests):
    """Once the path is up, payloads of one byte and more are offered."""

    tells_events = True
    waits_for_path = True

    @pytest.fixture(autouse=True)
    def _fabric(self, tmp_path: Path) -> None:
        self.fabric = FakeFabric(tells_events=self.tells_events)
        port = self.fabric.add(FakePort("rxe0", "0000:0000:0000:0000:0000:ffff:0a00:0001", netdev="eth0"))
        self.sysfs = write_sysfs(tmp_path / "infiniband", [port])

    def make(self, **options: Any) -> Transport:
        if "server_calls_max" in options:
            options["bounds"] = ServerLimits(calls_per_connection_max=options.pop("server_calls_max"))
        clock = OsClock()
        host = RdmaHost(clock, PathSettings(bytes_min=1), lambda: FakeVerbs(self.fabric), sysfs=self.sysfs)
        return TcpTransport(clock, paths=RdmaPaths(host), **options)

    async def test_a_submitted_call_is_called_back(self, tmp_path: Path) -> None:
        """It begins without a connection, and needs no path."""
        self.waits_for_path = False
        await super().test_a_submitted_call_is_called_back(tmp_path)

    def endpoint(self, directory: Path) -> str:
        return "tcp://127.0.0.1:0"

    @asynccontextmanager
    async def serving(self, directory: Path, bindings: Bindings, **bounds: Any) -> AsyncIterator[tuple[Listener, Channel]]:
        bindings = {STORAGE.CacheUsage: lambda call: call.reply(storage_pb2.CacheUsageReply()), **bindings}
        async with super().serving(directory, bindings, **bounds) as (listener, channel):
            if self.waits_for_path:
                await wait_for_path(channel)
            yield listener, channel


class TestRdmaOnUvloop(TestRdma):
    on_uvloop = True


class TestRdmaPolled(TestRdma):
    """Where the library has no descriptor that tells of completions."""

    tells_events = False


async def wait_for_path(channel: Any) -> None:
    """The first call that may carry much asks for a path; then wait until it is proved."""
    await channel.call(STORAGE.CacheUsage, storage_pb2.CacheUsageRequest(), into=into())
    await eventually(lambda: bool(channel._connection.offers.path.describe()[0]))
