"""Short reads beside bulk reads of the same client: not behind their bytes on a connection, nor behind what is done to them."""

from __future__ import annotations

import asyncio

import pytest

from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.runtime.bulk_work import BulkWork, bulk_slice_bytes, bulk_work_of

BULK = 2 * MIB
DATA = bytes(range(256)) * (BULK // 256)


async def start_bulk(made, help, client):
    """A bulk read whose answer is kept back, and its outcome."""
    made.network.fault = lambda where, method, request: "hold reply" if method.name == "Read" else None
    io = help.read_io(1, BULK)
    reading = asyncio.create_task(client.read([io]))
    await help.until(lambda: bool(made.network.held))
    made.network.fault = lambda where, method, request: None
    return io, reading


def channel_of_last_read(network):
    return [call.channel for call in network.calls if call.method.name == "Read"][-1]


async def test_a_short_read_has_a_connection_of_its_own_while_bulk_bytes_are_on_their_way(cluster, help):
    made = await cluster(nodes=1, chains=1)
    client = made.client()
    await client.update([help.write(1, DATA)])
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    usual = channel_of_last_read(made.network)
    _, bulk = await start_bulk(made, help, client)
    assert channel_of_last_read(made.network) is usual
    for _ in range(2):
        assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
        own = channel_of_last_read(made.network)
        assert own is not usual
        assert own.endpoint == usual.endpoint
    batch = [help.read_io(1, 4096) for _ in range(3)]
    await client.read(batch)
    assert channel_of_last_read(made.network) is own
    made.network.let_go()
    (outcome,) = await bulk
    assert outcome.code is Code.OK
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert channel_of_last_read(made.network) is usual
    made.assert_clean()


@pytest.fixture
def turns(monkeypatch):
    """One more for each slice that has waited for its turn."""
    found = []
    turn = BulkWork.turn

    async def counted(self):
        found.append(1)
        await turn(self)

    monkeypatch.setattr(BulkWork, "turn", counted)
    return found


@pytest.mark.parametrize("count", [1, 2])
async def test_bulk_bytes_are_verified_in_slices_while_a_short_read_is_under_way(cluster, help, count, turns):
    """By one IO in its call, and by several; what is wrong is found all the same, and read elsewhere."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(number, DATA) for number in (1, 2)])
    work = bulk_work_of(asyncio.get_running_loop())
    for fault in (None, "flip a bit"):
        turns.clear()
        if fault is not None:
            made.network.once(fault, "Read")
        work.short_reads += 1
        ios = [help.read_io(number, BULK) for number in (1, 2)[:count]]
        outcomes = await client.read(ios)
        work.short_reads -= 1
        assert [outcome.code for outcome in outcomes] == [Code.OK] * count
        assert all(bytes(io.buffer) == DATA for io in ios)
        assert len(turns) >= count * BULK // bulk_slice_bytes - 1
        assert client.reads.checksum_mismatches == (fault is not None)
    turns.clear()
    assert (await client.read([help.read_io(1, BULK)]))[0].code is Code.OK
    assert not turns


async def test_many_small_ios_are_verified_in_as_many_slices_as_their_bytes_make(cluster, help, turns):
    """Whole pieces, and others, of which each has a part of a checksum of its own."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, DATA)])
    work = bulk_work_of(asyncio.get_running_loop())
    for length in (4096, 4000):
        turns.clear()
        work.short_reads += 1
        ios = [help.read_io(1, length, number * 4096) for number in range(BULK // 4096)]
        outcomes = await client.read(ios)
        work.short_reads -= 1
        assert all(outcome.code is Code.OK for outcome in outcomes)
        assert all(bytes(io.buffer) == DATA[:length] for io in ios)
        assert BULK // bulk_slice_bytes - 2 <= len(turns) <= BULK // bulk_slice_bytes + 2


async def test_a_read_that_is_answered_twice_has_its_buffer_each_time(cluster, help):
    """The wire takes the list that it was given apart."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, DATA)])
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    into = made.network.calls[-1].into
    for length in (4096, 4096, 100, 4096):
        buffers = into(None, length)
        assert sum(map(len, buffers)) == length
        if isinstance(buffers, list):
            buffers.clear()


async def test_a_reader_that_gives_up_between_two_slices_is_done(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, DATA)])
    work = bulk_work_of(asyncio.get_running_loop())
    work.short_reads += 1
    io = help.read_io(1, BULK)
    reading = asyncio.create_task(client.read([io]))
    await help.until(lambda: work._is_scheduled)  # the bytes are there
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    work.short_reads -= 1
    await help.until(lambda: not work.is_sliced)
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])


async def test_short_reads_are_counted_until_they_end(cluster, help):
    """Answered, given up, or with the client."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, DATA)])
    work = bulk_work_of(asyncio.get_running_loop())
    assert await help.get(client, 1, 4096) == (Code.OK, DATA[:4096])
    assert work.short_reads == 0
    made.network.fault = lambda where, method, request: "hold reply" if method.name == "Read" else None
    reads = [asyncio.create_task(client.read([help.read_io(1, length)])) for length in (4 * KIB, 8 * KIB)]
    await help.until(lambda: work.short_reads == 2)
    reads[0].cancel()
    await help.until(lambda: work.short_reads == 1)
    await client.close()
    assert work.short_reads == 0
    reads[1].cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert work.short_reads == 0
