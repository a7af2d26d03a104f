"""The suite of transports with every payload by one-sided transfers, over a network without a device (`fs3.sim.fabric`).

`tests/rdma/test_device.py` runs it over the devices of a host that has any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.ports.rpc import Bindings, Channel, Listener, Transport
from fs3.sim.conformance.transport import TransportTests
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2
from tests.rdma.lab import FabricLab, ask, wait_for_path


class TestOverFabric(TransportTests):
    """Once the path is up, payloads of one byte and more are offered."""

    faults: dict[str, Any] = {}
    bounds = ServerLimits()
    waits_for_path = True

    @pytest.fixture(autouse=True)
    def _lab(self, tmp_path: Path) -> None:
        self.lab: Any = FabricLab(tmp_path, **self.faults)

    def make(self, **options: Any) -> Transport:
        calls_max = options.pop("server_calls_max", self.bounds.calls_per_connection_max)
        bounds = replace(self.bounds, calls_per_connection_max=calls_max)
        return TcpTransport(OsClock(), paths=RdmaPaths(self.lab.host(bytes_min=1)), **{"bounds": bounds, **options})

    def endpoint(self, directory: Path) -> str:
        return "tcp://127.0.0.1:0"

    async def test_a_submitted_call_is_called_back(self, tmp_path: Path) -> None:
        """It begins without a connection, and needs no path."""
        self.waits_for_path = False
        await super().test_a_submitted_call_is_called_back(tmp_path)

    @asynccontextmanager
    async def serving(self, directory: Path, bindings: Bindings, **bounds: Any) -> AsyncIterator[tuple[Listener, Channel]]:
        bindings = {STORAGE.CacheUsage: lambda call: call.reply(storage_pb2.CacheUsageReply()), **bindings}
        async with super().serving(directory, bindings, **bounds) as (listener, channel):
            if self.waits_for_path:
                await ask(channel)
                await wait_for_path(channel)
            yield listener, channel


class TestOverFabricOnUvloop(TestOverFabric):
    on_uvloop = True


class TestOverFabricPolled(TestOverFabric):
    """Where the library has no descriptor that tells of completions."""

    faults = {"tells_events": False}
