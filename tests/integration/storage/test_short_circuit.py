"""Short-circuit reads with real stores, files and services: a client on the host of the nodes reads what they would answer."""

import asyncio
import os

import msgspec
import pytest

from fs3.base.status import Code
from fs3.drivers.os.host_files import OsHostFiles
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind
from fs3.model.routing import Routing
from fs3.services.storage import StorageConfig
from fs3.sim.conformance.chunk_tools import noise

HOST = "one host"
DATA = noise(40_000)


@pytest.fixture
def made(cluster, needs_reads_at_once):
    """A cluster on one host, which shares files."""

    async def make(**options):
        made = await cluster(start=False, **options)
        made.host, made.files = HOST, OsHostFiles()
        routing = made.manager.routing
        nodes = {number: msgspec.structs.replace(node, host=HOST) for number, node in routing.nodes.items()}
        made.manager.set(Routing(routing.cluster, routing.version + 1, nodes, routing.chains, routing.tables))
        await made.start()
        return made

    return make


def client_of(made):
    return made.client(host=HOST, files=OsHostFiles())


async def warm(help, client, number=1, offset=0):
    """Read a chunk until that needs no node."""
    short = client.short_circuit
    async with asyncio.timeout(20):
        while True:
            before = short.reads
            code, data = await help.get(client, number, 4096, offset)
            assert code is Code.OK
            if short.reads > before:
                return data


async def test_reads_are_done_without_a_node(made, help):
    made = await made(chains=1)
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    assert await warm(help, client) == DATA[:4096]
    made.network.log.clear()
    before = client.short_circuit.reads
    for offset, length in ((0, 4096), (1, 10), (4000, 9000), (39_000, 5000), (0, 40_000)):
        assert await help.get(client, 1, length, offset) == (Code.OK, DATA[offset : offset + length])
    ios = [help.read_io(1, 100, 7), help.read_io(2, 100), help.read_io(1, 70_000)]
    assert [(end.code, end.length) for end in await client.read(ios)] == [(Code.OK, 100), (Code.NOT_FOUND, 0), (Code.OK, 40_000)]
    assert bytes(ios[2].buffer[:40_000]) == DATA
    assert client.short_circuit.reads == before + 7
    assert [[len(request.chunks) // 16] for _, request in made.network.requests("Read")] == [[1]], "what is not there"
    io = help.read_io(1, 4096, 8192)
    assert await asyncio.to_thread(client.read_directly, io)
    assert bytes(io.buffer) == DATA[8192:12_288]
    found = {sample.metric.name: sample.value for sample in client.samples() if "short_circuit" in sample.metric.name}
    assert found["fs3_short_circuit_reads_total"] == client.short_circuit.reads
    await client.close()


@pytest.mark.parametrize("nodes", [1, 3])
async def test_every_change_is_seen_at_once(made, help, nodes):
    made = await made(chains=1, nodes=nodes)
    reader, writer = client_of(made), made.client()
    data = DATA
    await writer.update([help.write(1, data)])
    for version in range(12):
        assert await warm(help, reader) == data[:4096]
        changed = noise(4096, version + 2)
        (result,) = await writer.update([help.write(1, changed, 0)])
        assert result.code is Code.OK
        data = changed + data[4096:]
        assert await help.get(reader, 1, 4096) == (Code.OK, changed)
        assert await help.get(reader, 1, 40_000) == (Code.OK, data)
    assert await warm(help, reader) == data[:4096]
    await writer.update([help.change(1, UpdateKind.TRUNCATE, 3000)])
    assert await help.get(reader, 1, 4096) == (Code.OK, data[:3000])
    await warm(help, reader)
    await writer.update([help.change(1, UpdateKind.REMOVE)])
    assert await help.get(reader, 1, 4096) == (Code.NOT_FOUND, b"")
    await reader.close()


async def test_no_read_is_older_than_one_that_has_ended(made, help):
    """Readers and writers at the same time: what a reader gets is at least what was acknowledged, or read by another one, before
    it began."""
    made = await made(chains=1)
    readers, writer = [client_of(made) for _ in range(3)], made.client()
    seen = 0

    def content(number):
        return number.to_bytes(4, "little") * 1500

    async def write():
        nonlocal seen
        for number in range(1, 60):
            (result,) = await writer.update([help.write(1, content(number))])
            assert result.code is Code.OK
            seen = max(seen, number)
            await asyncio.sleep(0.005 if number % 7 == 0 else 0)

    async def read(client):
        nonlocal seen
        while not writing.done():
            floor = seen
            code, data = await help.get(client, 1, 6000)
            assert code is Code.OK
            number = int.from_bytes(data[:4], "little")
            assert data == content(number), "torn"
            assert number >= floor
            seen = max(seen, number)
            await asyncio.sleep(0)

    await writer.update([help.write(1, content(0))])
    for client in readers:
        await warm(help, client)
    writing = asyncio.ensure_future(write())
    await asyncio.gather(*map(read, readers), writing)
    assert await help.get(readers[0], 1, 6000) == (Code.OK, content(59))
    for client in readers:
        await client.close()


async def test_bytes_that_changed_on_the_disk_are_never_returned(made, help):
    made = await made(chains=1)
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    await warm(help, client)
    for node in (1, 2):
        where = made.store(1, node).locate(help.chunk(1))
        (byte,) = os.pread(where.fd, 1, where.offset + 5000)
        os.pwrite(where.fd, bytes((byte ^ 1,)), where.offset + 5000)
    for offset, length in ((4096, 4096), (5000, 1), (0, 40_000)):
        assert await help.get(client, 1, length, offset) == (Code.OK, DATA[offset : offset + length])
    await client.close()


async def test_a_node_that_withdraws_serves_no_reader(made, help):
    made = await made(chains=1)
    client, writer = client_of(made), made.client()
    made.manager.follows = True
    await client.update([help.write(1, DATA)])
    await warm(help, client)
    (block,) = client.short_circuit._blocks.values()
    node = next(n for n in made.services if str(made.shell(1, n).store.owner_mark.path) == block.target.told.mark.path)
    before = client.short_circuit.reads
    assert made.shell(1, node).leave_chain("a test wants it")
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert client.short_circuit.reads == before
    (result,) = await writer.update([help.write(1, noise(4096, 5))])
    assert result.code is Code.OK
    assert await help.get(client, 1, 4096) == (Code.OK, noise(4096, 5))
    await client.close()


async def test_a_node_that_is_started_anew_is_not_read_by_its_former_board(made, help):
    made = await made(chains=1, nodes=1)
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    await warm(help, client)
    await made.crash(1)
    await made.start(1)
    before = client.short_circuit.reads
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert client.short_circuit.reads == before
    assert await warm(help, client) == DATA[:4096]
    await client.close()


async def test_a_chain_that_changes_goes_on_without_asking(made, help):
    made = await made(chains=1)
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    await warm(help, client)
    chain = made.manager.routing.chains[1]
    states = {slot.node: PublicState.SERVING for slot in chain.slots}
    made.manager.set_chain(help.chain_of(1, chain.version + 1, states))
    await made.settled()
    assert await warm(help, client) == DATA[:4096]
    await client.close()


async def test_a_node_that_shares_nothing_is_asked(made, help):
    made = await made(chains=1, nodes=1)
    await made.stop_node(1)
    await made.start(1, config=StorageConfig(short_circuit=False))
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    for _ in range(20):
        assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert len(made.network.requests("LocateBlocks")) == 1
    assert client.short_circuit.reads == 0
    assert client.short_circuit.is_idle
    await client.close()


async def test_a_client_elsewhere_asks(made, help):
    made = await made(chains=1, nodes=1)
    client = made.client(host="another host", files=OsHostFiles())
    await client.update([help.write(1, DATA)])
    for _ in range(20):
        assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert made.network.requests("LocateBlocks") == []
    await client.close()


async def test_a_client_that_does_not_verify_asks(made):
    made = await made(chains=1, nodes=1)
    assert made.client(host=HOST, files=OsHostFiles(), verify=False).short_circuit is None


async def test_after_a_stop_nothing_is_read_by_the_board(made, help):
    made = await made(chains=1, nodes=1)
    client = client_of(made)
    await client.update([help.write(1, DATA)])
    await warm(help, client)
    before = client.short_circuit.reads
    await made.stop_node(1)
    io = help.read_io(1, 4096)
    (outcome,) = await client.read([io], timeout_ns=50_000_000)
    assert outcome.code is not Code.OK
    assert client.short_circuit.reads == before
    await client.close()
