"""Calls are counted on both sides, by method and by how they ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Metric
from fs3.ports.rpc import FileRange
from fs3.wire.methods import STORAGE


class Readings:
    """What counts say, by metric and labels."""

    def __init__(self, counts: RpcCounts) -> None:
        self.found = {(sample.metric, sample.labels): sample.value for sample in counts.samples()}

    def calls(self, metric: Metric, *labels: str) -> int:
        reading = self.found.get((metric, labels))
        return sum(reading.counts) if isinstance(reading, HistogramReading) else 0


NETWORK = MemoryNetwork(OsClock())


def in_memory(clock: OsClock, counts: RpcCounts) -> MemoryTransport:
    return MemoryTransport(NETWORK, counts=counts)


@pytest.mark.parametrize("make", [TcpTransport, GrpcTransport, in_memory])
async def test_both_sides_count_a_call(make) -> None:
    clock = OsClock()
    served, called = RpcCounts(clock), RpcCounts(clock)
    transport = make(clock, counts=served)
    scheme = transport.scheme

    def space(call) -> None:
        call.reply(STORAGE.GetSpace.reply())

    def push(call) -> None:
        call.fail(Code.BUSY, "not now")

    arrived = asyncio.Event()
    bindings = {STORAGE.GetSpace: space, STORAGE.Push: push, STORAGE.Find: lambda call: arrived.set()}
    listener = await transport.serve(f"{scheme}://127.0.0.1:0", bindings)
    channel = make(clock, counts=called).connect(listener.endpoint)
    try:
        for _ in range(3):
            await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        with pytest.raises(FS3Error, match="not now"):
            await channel.call(STORAGE.Push, STORAGE.Push.request(), [b"x" * 5000])
        with pytest.raises(FS3Error):
            await channel.call(STORAGE.Scrub, STORAGE.Scrub.request())
        waiting = channel.start(STORAGE.Find, STORAGE.Find.request())
        await arrived.wait()
        assert Readings(called).found[catalogue.CALLED_IN_FLIGHT, ("Storage", "Find")] == 1
        assert Readings(served).found[catalogue.SERVED_IN_FLIGHT, ("Storage", "Find")] == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        client, server = Readings(called), Readings(served)
        assert client.calls(catalogue.CALLED_SECONDS, "Storage", "GetSpace", "OK") == 3
        assert server.calls(catalogue.SERVED_SECONDS, "Storage", "GetSpace", "OK") == 3
        assert client.calls(catalogue.CALLED_SECONDS, "Storage", "Push", "BUSY") == 1
        assert server.calls(catalogue.SERVED_SECONDS, "Storage", "Push", "BUSY") == 1
        assert client.found[catalogue.CALLED_SENT, ("Storage", "Push")] == 5000
        assert server.found[catalogue.SERVED_RECEIVED, ("Storage", "Push")] == 5000
        assert client.calls(catalogue.CALLED_SECONDS, "Storage", "Find", "CANCELLED") == 1
        assert client.found[catalogue.CALLED_IN_FLIGHT, ("Storage", "Find")] == 0
        if make is TcpTransport:
            assert server.found[catalogue.REFUSED, ("UNSUPPORTED",)] == 1
            assert server.found[catalogue.CONNECTIONS, ()] == 1
            assert server.calls(catalogue.SERVED_WAIT, "Storage", "Push") == 1
    finally:
        await channel.close()
        await listener.close()
    if make is TcpTransport:
        assert Readings(served).found[catalogue.CONNECTIONS, ()] == 0


async def test_bytes_that_a_client_copies_from_the_page_cache_count_as_received(tmp_path: Path) -> None:
    clock, counts = OsClock(), RpcCounts(OsClock())
    data = os.urandom(512 * 1024)
    (tmp_path / "blocks").write_bytes(data)
    with (tmp_path / "blocks").open("rb") as file:
        reply = STORAGE.Read.reply(codes=[0], lengths=[len(data)])
        bindings = {STORAGE.Read: lambda call: call.reply(reply, [FileRange(file.fileno(), 0, len(data))])}
        listener = await LocalTransport(clock).serve(f"local://{tmp_path}/s", bindings)
        channel = LocalTransport(clock, counts=counts).connect(listener.endpoint)
        for _ in range(3):
            answer = await channel.call(STORAGE.Read, STORAGE.Read.request(lengths=[len(data)]))
            assert answer.payload == data
        await channel.close()
        await listener.close()
    found = Readings(counts)
    assert found.calls(catalogue.CALLED_SECONDS, "Storage", "Read", "OK") == 3
    assert found.found[catalogue.CALLED_IN_FLIGHT, ("Storage", "Read")] == 0
    assert found.found[catalogue.CALLED_RECEIVED, ("Storage", "Read")] == 3 * len(data)


async def test_without_counts_nothing_is_counted() -> None:
    clock = OsClock()
    listener = await TcpTransport(clock).serve(
        "tcp://127.0.0.1:0", {STORAGE.GetSpace: lambda call: call.reply(STORAGE.GetSpace.reply())}
    )
    channel = TcpTransport(clock).connect(listener.endpoint)
    assert (await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())).message is not None
    await channel.close()
    await listener.close()
