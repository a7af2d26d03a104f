"""Reads that take longer than nearly all others: another replica is asked as well, and the first answer counts."""

from __future__ import annotations

import asyncio

from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.core.files.hedging import hedge_burst_max, hedge_samples_min

DATA = bytes(range(256)) * 16


async def warm(made, help, length: int = len(DATA), pieces: int = 1):
    """A client that knows how long reads take, and the node it asks."""
    client = made.client()
    await client.update([help.write(number, DATA) for number in range(1, 1 + pieces)])
    for _ in range(hedge_samples_min + 10):
        await client.read([help.read_io(number, length) for number in range(1, 1 + pieces)])
    ((endpoint, _), *_) = made.network.requests("Read")
    made.network.log.clear()
    client._router.hedger.sent = client._router.hedger.won = 0  # a busy machine was late itself
    return client, endpoint


def hold(network, endpoint, name="Read"):
    network.fault = lambda where, method, request: "hold reply" if where == endpoint and method.name == name else None


async def test_a_late_read_is_answered_by_another_replica(cluster, help):
    made = await cluster(chains=1)
    client, slow = await warm(made, help)
    hold(made.network, slow)
    io = help.read_io(1, len(DATA))
    (outcome,) = await client.read([io])
    assert (outcome.code, bytes(io.buffer)) == (Code.OK, DATA)
    first, second = [endpoint for endpoint, _ in made.network.requests("Read")]
    assert first == slow != second
    assert (client._router.hedger.sent, client._router.hedger.won) == (1, 1)
    assert client.reads.retries == 0  # it was no failure
    # The node is slow, not silent: it is asked again, and first (another one too where this machine takes longer than usual).
    made.network.log.clear()
    made.network.let_go()
    await help.get(client, 1, 10)
    assert made.network.requests("Read")[0][0] == slow


async def test_a_batch_is_hedged_as_a_whole(cluster, help):
    made = await cluster(chains=1)
    client, slow = await warm(made, help, pieces=30)
    hold(made.network, slow)
    ios = [help.read_io(number, len(DATA) + 100) for number in range(1, 41)]
    for _ in range(hedge_samples_min):
        client._router.hedger._policy.on_answered(40 * (len(DATA) + 100), 1)
    outcomes = await client.read(ios)
    assert [outcome.code for outcome in outcomes] == [Code.OK] * 30 + [Code.NOT_FOUND] * 10
    assert all(bytes(io.buffer[: len(DATA)]) == DATA for io in ios[:30])
    assert client._router.hedger.won == 1


async def test_what_the_slow_replica_says_later_is_written_nowhere(cluster, help):
    made = await cluster(chains=1)
    client, slow = await warm(made, help)
    hold(made.network, slow)
    io = help.read_io(1, len(DATA))
    await client.read([io])
    io.buffer[:] = bytes(len(DATA))  # the caller uses it for something else
    made.network.let_go()
    await help.get(client, 1, 10)
    assert bytes(io.buffer) == bytes(len(DATA))


async def test_a_second_answer_that_fails_leaves_the_first_one_to_count(cluster, help):
    made = await cluster(chains=1)
    client, slow = await warm(made, help)
    held = asyncio.Event()

    def fault(where, method, request):
        if method.name != "Read":
            return None
        if where == slow:
            held.set()
            return "hold reply"
        return Code.BUSY

    made.network.fault = fault
    io = help.read_io(1, len(DATA))
    reading = asyncio.create_task(client.read([io]))
    await held.wait()
    await help.until(lambda: client._router.hedger.sent == 1)
    made.network.let_go()
    (outcome,) = await reading
    assert (outcome.code, bytes(io.buffer)) == (Code.OK, DATA)
    assert client._router.hedger.won == 0


async def test_hedges_are_bounded_while_everything_is_slow(cluster, help):
    made = await cluster(chains=1)
    client, _ = await warm(made, help)
    made.network.fault = lambda where, method, request: "hold reply" if method.name == "Read" else None
    ios = [help.read_io(1, len(DATA)) for _ in range(50)]
    reads = [asyncio.create_task(client.read([io])) for io in ios]
    await help.until(lambda: client._router.hedger.sent >= hedge_burst_max)
    await asyncio.sleep(0)
    assert client._router.hedger.sent <= hedge_burst_max + 1
    made.network.let_go()
    outcomes = await asyncio.gather(*reads)
    assert all(outcome.code is Code.OK for (outcome,) in outcomes)
    assert all(bytes(io.buffer) == DATA for io in ios)


async def test_bulk_reads_are_not_hedged(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, bytes(600 * KIB))])
    for _ in range(hedge_samples_min + 5):
        await help.get(client, 1, 600 * KIB)
    assert not client._router.hedger._policy._estimates
