"""The suite of transports with every payload by one-sided transfers, over a network without a device (`fs3.sim.fabric`).

`tests/rdma/test_device.py` runs it over the devices of a host that has any."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma import pair_reads
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.ports.rpc import Bindings, Call, Channel, Listener, Transport
from fs3.sim.conformance.transport import TransportTests
from fs3.sim.conformance.transport_harness import PULL, PUSH, pattern, summing, sums
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2
from tests.rdma.lab import FabricLab, ask, path_of, wait_for_path


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

    async def test_payloads_around_the_mtu_and_the_longest_read(self, tmp_path: Path) -> None:
        longest = pair_reads.piece_bytes_max

        def pulled(call: Call) -> None:
            call.reply(storage_pb2.ReadReply(), (pattern(call.request.lengths[0], 7),))

        async with self.serving(tmp_path, {PUSH: summing, PULL: pulled}) as (_, channel):
            mtu = path_of(channel)._mtu
            borders = [mtu, 2 * mtu, longest, 2 * longest]
            for length in sorted({1, *(border + step for border in borders for step in (-1, 0, 1))}):
                data = pattern(length, 7)
                reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (data,))
                assert sums(reply.message) == (length, zlib.crc32(data))
                reply = await channel.call(PULL, storage_pb2.ReadRequest(lengths=[length]))
                assert reply.payload == data
            assert path_of(channel).describe()[0], "they travelled by it"

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
