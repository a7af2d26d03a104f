"""A read by itself has a path of its own: it must end as the same read does among others, whatever happens to it."""

import asyncio

import pytest

from fs3.base.status import Code
from fs3.client.storage import client as storage_client

DATA = bytes(range(250)) * 40
TROUBLES = ("none", "break", "lose request", "flip a bit", "hold reply", "refused", "hole", "short", "cancel", "no time")


async def not_alone(*_):
    return None


async def end_of(made, help, trouble):
    """(outcome or exception, bytes, requests, counters) of one read under a trouble."""
    network = made.network
    client = made.client()
    client._router.choice._favourite = 0
    network.log.clear()
    asked_first = []

    def fault(endpoint, method, request):
        if method.name != "Read":
            return None
        if not asked_first:
            asked_first.append(endpoint)
        return trouble if endpoint == asked_first[0] else None

    if trouble in ("break", "lose request", "flip a bit", "hold reply"):
        network.fault = fault
    elif trouble == "cancel":
        network.fault = lambda endpoint, method, request: "hold reply" if method.name == "Read" else None
    elif trouble == "no time":
        network.fault = lambda endpoint, method, request: "lose request" if method.name == "Read" else None
    io = help.read_io(
        2 if trouble == "hole" else 1, 20_000 if trouble == "short" else len(DATA), chain=9 if trouble == "refused" else 1
    )
    timeout_ns = 50_000_000 if trouble in ("no time", "refused") else 0
    reading = asyncio.ensure_future(client.read([io], timeout_ns=timeout_ns))
    if trouble == "cancel":
        await help.until(lambda: network.held)
        reading.cancel()
    (end,) = await asyncio.gather(reading, return_exceptions=True)
    received = bytes(io.buffer)
    network.let_go()
    for _ in range(5):
        await asyncio.sleep(0)
    assert bytes(io.buffer) == received, "nothing arrives late"
    left = (client._router.choice._outstanding, len(client._router.liveness))
    assert left == ({}, 0)
    counted = (client.reads.ios, client.reads.retries, client.reads.checksum_mismatches, client.reads.requests)
    what = [(outcome.code, outcome.length) for outcome in end] if isinstance(end, list) else type(end)
    if timeout_ns:
        return what, received  # how often it was tried until then is a matter of time
    return what, received, len(network.requests("Read")), counted


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_it_ends_as_among_others(cluster, help, monkeypatch, trouble):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, DATA)])
    alone = await end_of(made, help, trouble)
    monkeypatch.setattr(storage_client, "read_single", not_alone)
    assert await end_of(made, help, trouble) == alone
    if trouble in ("none", "break", "lose request", "flip a bit", "hold reply"):
        assert alone[0] == [(Code.OK, len(DATA))]
