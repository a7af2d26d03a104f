"""The same services and clients over real sockets: bytes arrive where they should, full buffers do not stop a ring of nodes."""

import asyncio
import random

import pytest

from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.cli.ports import free_ports
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.rpc.receive_pool import ReceivePool


@pytest.fixture
async def over_tcp(cluster, help):
    pools = []

    async def make(pool_bytes=96 * MIB, chains=3):
        first = free_ports(3)
        endpoints = {node: f"tcp://127.0.0.1:{first + node - 1}" for node in (1, 2, 3)}
        transports = {}

        def transport(node):
            if node not in transports:
                pool = ReceivePool(pool_bytes)
                pools.append(pool)
                transports[node] = TcpTransport(help.CLOCK, pool=pool)
            return transports[node]

        return await cluster(chains=chains, transport=transport, endpoints=endpoints)

    yield make
    for pool in pools:
        assert pool.held_bytes == 0


async def test_small_and_large_updates_and_reads(over_tcp, help):
    made = await over_tcp()
    client = made.client()
    prng = random.Random(3)
    contents = {number: prng.randbytes(prng.choice((1, 5000, 64 * KIB, 300_001, 4 * MIB))) for number in range(40)}
    writes = [help.write(number, data, chain=1 + number % 3) for number, data in contents.items()]
    assert all(result.code is Code.OK for result in await client.update(writes))
    for _ in range(2):
        ios = [help.read_io(number, len(data), chain=1 + number % 3) for number, data in contents.items()]
        outcomes = await client.read(ios)
        assert all(outcome.code is Code.OK for outcome in outcomes)
        assert all(io.buffer == contents[number] for number, io in enumerate(ios))
    assert client.reads.checksum_mismatches == 0
    batch = [help.read_io(number, 4096, 4096, chain=1 + number % 3) for number, data in contents.items() if len(data) > 8192]
    outcomes = await client.read(batch)
    assert all(outcome.length == 4096 for outcome in outcomes)
    made.assert_clean()


async def test_a_read_that_is_cancelled_half_way_spoils_nothing(over_tcp, help):
    made = await over_tcp()
    client = made.client()
    data = random.Random(4).randbytes(4 * MIB)
    await client.update([help.write(1, data)])
    for turns in range(1, 12):
        io = help.read_io(1, 4 * MIB)
        reading = asyncio.ensure_future(client.read([io]))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        seen = bytes(io.buffer)
        assert await help.get(client, 1, 4 * MIB) == (Code.OK, data)
        if reading.cancelled():
            assert bytes(io.buffer) == seen, "nobody writes to the buffer of a call that has ended"


async def test_nodes_whose_buffers_are_full_do_not_wait_for_each_other(over_tcp, help, monkeypatch):
    """Each node is head, middle and tail; there is less room than the clients send. Nothing may have to time out."""
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.lent_bytes_max", 1 * MIB)
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.parked_bytes_max", 1 * MIB)
    made = await over_tcp(pool_bytes=4 * MIB)
    clients = [made.client() for _ in range(3)]
    data = random.Random(5).randbytes(1 * MIB)
    writes = [clients[number % 3].update([help.write(number, data[number:], chain=1 + number % 3)]) for number in range(60)]
    for (result,) in await asyncio.gather(*writes):
        assert result.code is Code.OK
    assert sum(client.updates.retries for client in clients) == 0
    for number in (0, 31, 59):
        assert await help.get(clients[0], number, 1 * MIB, chain=1 + number % 3) == (Code.OK, data[number:])
    await made.idle()
    made.assert_clean()
