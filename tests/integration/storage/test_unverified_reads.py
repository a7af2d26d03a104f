"""Reads that nobody verifies: bytes that lay in a socket while their block was written again are not taken for the right ones."""

import asyncio
import random

import pytest

from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND, SECOND
from fs3.cli.ports import free_ports
from fs3.client.connector import Connector
from fs3.drivers.chunks import ChunkStoreConfig
from fs3.drivers.framed.client import FramedChannel
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.model.chunk import UpdateKind
from fs3.wire.storage import block_lease_of, single_read_request_to_pb

LENGTH = 64 * KIB
"""Left by `sendfile`, and little enough to lie in the sockets as a whole."""
STALL = 1 << 10
"""A reason of this test's for not reading a connection."""


@pytest.fixture(params=["tcp", "local"])
async def stalled(request, cluster, help, tmp_path, monkeypatch):
    """A node, and a reader whose connection can be stalled, as that of a process which is stopped."""
    monkeypatch.setattr("fs3.client.storage.reads.read_attempt_ns", 60 * SECOND)
    monkeypatch.setattr("fs3.client.storage.read_single.read_attempt_ns", 60 * SECOND)
    connections = []
    connected = FramedChannel._on_connected

    def on_connected(channel):
        connections.append(channel._connection)
        connected(channel)

    monkeypatch.setattr(FramedChannel, "_on_connected", on_connected)
    # Nodes and clients of these tests say nothing of their host.
    monkeypatch.setattr(
        Connector, "_candidates", lambda connector, endpoints, _: [(connector._transports[0], name) for name in endpoints]
    )
    tcp = request.param == "tcp"
    endpoint = f"tcp://127.0.0.1:{free_ports(1)}" if tcp else f"local://{tmp_path}/socket"
    made = await cluster(
        start=False,
        nodes=1,
        chains=1,
        transport=lambda node: (TcpTransport if tcp else LocalTransport)(help.CLOCK),
        endpoints={1: endpoint},
    )
    made.store_config[1] = ChunkStoreConfig(block_reuse_delay_ns=300 * MILLISECOND)
    await made.start()
    return made, connections


@pytest.mark.parametrize("count", [1, 2])
async def test_a_block_written_again_while_its_bytes_lie_in_a_socket(stalled, help, count):
    made, connections = stalled
    writer, reader = made.client(), made.client(verify=False)
    old, new = random.Random(1).randbytes(LENGTH), random.Random(2).randbytes(LENGTH)
    assert all(done.code is Code.OK for done in await writer.update([help.write(number, old) for number in range(count)]))
    store = made.store(1, 1)
    places = {store.locate(help.chunk(number)).offset for number in range(count)}
    assert await help.get(reader, 0, LENGTH) == (Code.OK, old)
    assert reader.reads.late == 0
    # The reader stops. The answer to its next read lies in the socket; the block it came from becomes free, and another chunk's.
    connection = connections[-1]
    connection.pause(STALL)
    ios = [help.read_io(number, LENGTH) for number in range(count)]
    reading = asyncio.ensure_future(reader.read(ios))
    await help.until(lambda: connection.unread_bytes > 0 and not store.inspect().pins)
    await writer.update([help.change(number, UpdateKind.REMOVE) for number in range(count)])
    await help.until(lambda: not store.get_space().pinned)
    await writer.update([help.write(10 + number, new) for number in range(count)])
    assert {store.locate(help.chunk(10 + number)).offset for number in range(count)} == places
    connection.resume(STALL)
    assert {outcome.code for outcome in await reading} == {Code.NOT_FOUND}, "bytes of another chunk were taken"
    assert (reader.reads.late, reader.reads.retries) == (1, count)


@pytest.mark.parametrize("count", [1, 2])
async def test_what_comes_late_is_read_again_with_checksums(cluster, help, count):
    made = await cluster(start=False, nodes=1, chains=1)
    made.store_config[1] = ChunkStoreConfig(block_reuse_delay_ns=0)  # its leases have run out when they are granted
    await made.start()
    data = random.Random(1).randbytes(LENGTH)
    await made.client().update([help.write(number, data) for number in range(count)])
    reader = made.client(verify=False)
    ios = [help.read_io(number, LENGTH) for number in range(count)]
    assert [(outcome.code, outcome.length) for outcome in await reader.read(ios)] == [(Code.OK, LENGTH)] * count
    assert all(io.buffer == data for io in ios)
    assert [request.without_checksums for _, request in made.network.requests("Read")] == [True, False]
    assert (reader.reads.late, reader.reads.checksum_mismatches) == (1, 0)
    # What was copied on its way cannot change, and what is verified needs no lease.
    assert await help.get(reader, 0, LENGTH - 1) == (Code.OK, data[:-1])
    assert await help.get(made.client(), 0, LENGTH) == (Code.OK, data)
    assert reader.reads.late == 1
    made.assert_clean()


async def test_a_block_lease_is_granted_where_one_is_needed_and_counts_from_the_arrival(cluster, help, monkeypatch):
    made = await cluster(start=False, nodes=1, chains=1)
    made.store_config[1] = ChunkStoreConfig(block_reuse_delay_ns=7 * SECOND)
    await made.start()
    await made.client().update([help.write(1, bytes(LENGTH))])

    async def lease_of(length, with_checksums):
        request = single_read_request_to_pb(help.chunk(1), 1, 1, 0, length, with_checksums)
        reply = await made.network.connect("fake://1").call(help.STORAGE.Read, request)
        return block_lease_of(reply.message)

    assert await lease_of(LENGTH - 1, False) is None
    assert await lease_of(LENGTH, True) is None
    assert await lease_of(LENGTH, False) >= 7000
    # A read that waits for the disk is answered later, and its lease reaches further.
    store = made.store(1, 1)
    read_cold, asked, disk = store.read_cold, asyncio.Event(), asyncio.Event()

    async def slowly(*args):
        asked.set()
        await disk.wait()
        return await read_cold(*args)

    monkeypatch.setattr(store, "read_cold", slowly)
    monkeypatch.setattr(store, "read_many", lambda chunks, batch, which, refuse_dirty: list(which))
    reading = asyncio.ensure_future(lease_of(LENGTH, False))
    await asked.wait()
    begun = help.CLOCK.now()
    await help.until(lambda: help.CLOCK.now() >= begun + 50 * MILLISECOND)
    disk.set()
    assert await reading >= 7050
