"""Every kind of update over a chain of three, and what retries make of it."""

import asyncio

import pytest

from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.core.files.write_plan import WriteIO
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind

WRITE, PUT, TRUNCATE, REMOVE = UpdateKind.WRITE, UpdateKind.PUT, UpdateKind.TRUNCATE, UpdateKind.REMOVE


@pytest.fixture(params=["files", "memory"])
async def cluster(request, cluster):
    """On real files, and on a store that answers at once: events then come in another order."""

    async def make(**options):
        return await cluster(memory=request.param == "memory", **options)

    return make


async def test_a_write_is_on_every_replica_when_it_is_answered(cluster, help):
    made = await cluster()
    client = made.client()
    (result,) = await client.update([help.write(1, b"hello")])
    assert (result.code, result.version, result.length) == (Code.OK, 1, 5)
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    assert made.replicas(1, help.chunk(1))[0][:3] == (1, 0, 5)
    assert await help.get(client, 1, 10) == (Code.OK, b"hello")
    made.assert_clean()


async def test_every_kind_of_update(cluster, help):
    made = await cluster()
    client = made.client()
    results = await client.update([help.write(1, b"x" * 100_000), help.write(2, b"page", kind=PUT)])
    assert [result.code for result in results] == [Code.OK, Code.OK]
    (result,) = await client.update([help.write(1, b"YY", offset=10)])
    assert (result.version, result.length) == (2, 100_000)
    (result,) = await client.update([help.write(1, b"end", offset=100_005)])
    assert result.length == 100_008
    (result,) = await client.update([help.change(1, TRUNCATE, 100_006)])
    assert result.length == 100_006
    expected = b"x" * 10 + b"YY" + b"x" * 99_988 + bytes(5) + b"e"
    assert await help.get(client, 1, 200_000) == (Code.OK, expected)
    (result,) = await client.update([help.write(2, b"other", kind=PUT)])
    assert result.code is Code.EXISTS
    assert await help.get(client, 2, 10) == (Code.OK, b"page")
    assert [result.code for result in await client.update([help.change(1, REMOVE), help.change(2, REMOVE)])] == [Code.OK] * 2
    assert (await help.get(client, 1, 10))[0] is Code.NOT_FOUND
    await made.idle()
    assert made.replicas(1, help.chunk(1)) == [None] * 3
    (result,) = await client.update([help.change(1, REMOVE, tagged=False)])
    assert result.code is Code.OK
    made.assert_clean()


async def test_data_in_several_buffers_is_one_update(cluster, help):
    made = await cluster()
    client = made.client()
    parts = (memoryview(b"a" * 70_000), memoryview(b"b" * 60_001), memoryview(b"c" * 64))
    (result,) = await client.update([WriteIO(help.chunk(1), ChainId(1), PUT, 0, parts, 131_000)])
    assert (result.code, result.length) == (Code.OK, 130_065)
    assert (await help.get(client, 1, 200_000))[1] == b"".join(bytes(part) for part in parts)


async def test_many_small_updates_to_several_chains_travel_together(cluster, help):
    made = await cluster()
    client = made.client()
    writes = [help.write(number, bytes([number]) * 1000, chain=1 + number % 2) for number in range(100)]
    results = await client.update(writes)
    assert all(result.code is Code.OK for result in results)
    from_client = [request for _, request in made.network.requests("Update") if not request.from_target]
    assert len(from_client) == 2, "one frame per head"
    assert sorted(len(request.chains) for request in from_client) == [50, 50]
    for number in (0, 41, 99):
        assert await help.get(client, number, 1000, chain=1 + number % 2) == (Code.OK, bytes([number]) * 1000)
    made.assert_clean()


async def test_forwards_of_one_turn_leave_together(cluster, help):
    made = await cluster()
    await made.client().update([help.write(number, b"small") for number in range(64)])
    forwarded = [len(request.chains) for _, request in made.network.requests("Update") if request.from_target == 101]
    assert sum(forwarded) == 64
    assert len(forwarded) <= 4


async def test_large_updates_travel_alone_and_several_are_under_way(cluster, help):
    made = await cluster()
    client = made.client()
    writes = [help.write(number, bytes([number]) * (2 * MIB)) for number in range(4)]
    assert all(result.code is Code.OK for result in await client.update(writes))
    from_client = [request for _, request in made.network.requests("Update") if not request.from_target]
    assert [len(request.chains) for request in from_client] == [1] * 4
    first_forward = next(
        index for index, (_, name, request) in enumerate(made.network.log) if name == "Update" and request.from_target
    )
    assert first_forward >= 4, "all were sent before the first was stored"
    assert await help.get(client, 3, 2 * MIB) == (Code.OK, b"\x03" * (2 * MIB))
    made.assert_clean()


@pytest.mark.parametrize("what", ["lose reply", "break"])
async def test_an_update_whose_answer_was_lost_is_applied_once(cluster, help, what, monkeypatch):
    monkeypatch.setattr("fs3.client.storage.updates.update_attempt_ns", SECOND // 5)
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"base")])
    done = made.network.once(what, "Update", lambda request: not request.from_target)
    (result,) = await client.update([help.write(1, b"more", offset=4)])
    assert done
    assert (result.code, result.version, result.length) == (Code.OK, 2, 8)
    # The first write may have been sent twice as well, where the machine was slow for a moment.
    requests = [request for _, request in made.network.requests("Update") if not request.from_target]
    sent = [request for request in requests if request.offsets[0] == 4]
    assert len(sent) >= 2
    assert {(request.channels[0], request.seqs[0]) for request in sent} == {(sent[0].channels[0], sent[0].seqs[0])}
    assert {replica[:3] for replica in made.replicas(1, help.chunk(1))} == {(2, 0, 8)}


async def test_a_lost_request_is_sent_again(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.client.storage.updates.update_attempt_ns", SECOND // 5)
    made = await cluster()
    made.network.once("lose request", "Update")
    (result,) = await made.client().update([help.write(1, b"once")])
    assert (result.code, result.version) == (Code.OK, 1)


@pytest.mark.parametrize("hop", [101, 102])
async def test_a_forward_whose_answer_was_lost_is_repeated_by_the_replica(cluster, help, hop):
    made = await cluster()
    client = made.client()
    done = made.network.once("break", "Update", lambda request: request.from_target == hop)
    (result,) = await client.update([help.write(1, b"through")])
    assert done
    assert (result.code, result.version) == (Code.OK, 1)
    await made.idle()
    assert {replica[:3] for replica in made.replicas(1, help.chunk(1))} == {(1, 0, 7)}
    made.assert_clean()


async def test_concurrent_writers_of_one_chunk(cluster, help):
    made = await cluster()
    clients = [made.client() for _ in range(4)]

    async def writer(client, letter):
        for _ in range(10):
            (result,) = await client.update([help.write(1, letter * 5000)])
            assert result.code is Code.OK

    await asyncio.gather(*(writer(client, letter) for client, letter in zip(clients, (b"a", b"b", b"c", b"d"), strict=True)))
    replicas = made.replicas(1, help.chunk(1))
    assert len(set(replicas)) == 1
    assert replicas[0][:3] == (40, 0, 5000)
    code, data = await help.get(clients[0], 1, 5000)
    assert code is Code.OK
    assert len(set(data)) == 1, "no write is torn"
    made.assert_clean()


async def test_two_writes_of_one_call_to_one_chunk_are_both_applied(cluster, help):
    made = await cluster()
    results = await made.client().update([help.write(1, b"a", offset=0), help.write(1, b"b", offset=1)])
    assert sorted(result.version for result in results) == [1, 2]
    assert (await help.get(made.client(), 1, 5))[1] == b"ab"


async def test_a_client_with_an_old_chain_version_finds_the_new_one(cluster, help):
    made = await cluster()
    client = made.client()
    router = client._router
    old = made.manager.routing
    made.manager.set_chain(help.chain_of(1, 2, {1: PublicState.SERVING, 2: PublicState.SERVING, 3: PublicState.SERVING}))
    await made.settled()
    router._routing, router._candidates = old, {}  # as if the push had not reached this client
    (result,) = await client.update([help.write(1, b"late")])
    assert result.code is Code.OK
    versions = [list(request.chain_versions) for _, request in made.network.requests("Update") if not request.from_target]
    assert versions == [[1], [2]]


async def test_the_head_is_another_one_after_a_failover(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"before")])
    await made.crash(1)
    writing = asyncio.ensure_future(client.update([help.write(1, b"after!"), help.write(2, b"new")]))
    await help.until(lambda: client.updates.retries > 0)
    assert not writing.done()
    made.manager.set_chain(help.chain_of(1, 2, {2: PublicState.SERVING, 3: PublicState.SERVING, 1: PublicState.OFFLINE}))
    results = await writing
    assert [result.code for result in results] == [Code.OK, Code.OK]
    assert (await help.get(client, 1, 6))[1] == b"after!"
    assert {replica[:3] for replica in made.replicas(1, help.chunk(1))} == {(2, 0, 6)}


async def test_a_middle_that_dies_does_not_lose_the_update(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"before")])
    await made.crash(2)
    writing = asyncio.ensure_future(client.update([help.write(1, b"after!")]))
    await help.until(lambda: made.shell(1, 1).replica.flights.lanes)
    assert not writing.done()
    made.manager.set_chain(help.chain_of(1, 2, {1: PublicState.SERVING, 3: PublicState.SERVING, 2: PublicState.OFFLINE}))
    (result,) = await writing
    assert (result.code, result.version) == (Code.OK, 2)
    assert {replica[:3] for replica in made.replicas(1, help.chunk(1))} == {(2, 0, 6)}
    made.assert_clean()


async def test_a_head_that_hangs_is_left_as_soon_as_it_is_no_head_any_more(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    made.network.fault = lambda endpoint, method, request: "lose request" if endpoint == "fake://1" else None
    writing = asyncio.ensure_future(client.update([help.write(1, b"data"), help.write(2, b"x" * (2 * MIB))]))
    await help.until(lambda: len(made.network.requests("Update")) == 2)
    made.manager.set_chain(help.chain_of(1, 2, {2: PublicState.SERVING, 3: PublicState.SERVING, 1: PublicState.OFFLINE}))
    async with asyncio.timeout(5):  # an attempt waits for six seconds
        assert [result.code for result in await writing] == [Code.OK] * 2


async def test_a_middle_that_hangs_is_left_as_soon_as_it_is_no_successor_any_more(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    made.network.fault = lambda endpoint, method, request: "lose request" if endpoint == "fake://2" else None
    writing = asyncio.ensure_future(client.update([help.write(1, b"data")]))
    await help.until(lambda: len(made.network.requests("Update")) == 2)
    made.manager.set_chain(help.chain_of(1, 2, {1: PublicState.SERVING, 3: PublicState.SERVING, 2: PublicState.OFFLINE}))
    async with asyncio.timeout(2.8):  # a forward waits for three
        assert (await writing)[0].code is Code.OK
    made.assert_clean()


async def test_an_update_for_a_chain_nobody_has_ends_at_its_deadline(cluster, help):
    made = await cluster()
    (result,) = await made.client().update([help.write(1, b"x", chain=77)], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE
    assert "NOT_SERVING" in result.message
    assert "chain 77" in result.message


async def test_a_node_without_the_chain_says_so(cluster, help):
    made = await cluster()
    client = made.client()
    client._router._candidates[ChainId(9)] = client._router.candidates(ChainId(1))
    (result,) = await client.update([help.write(1, b"x", chain=9)], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE


async def test_cancelling_an_update_retires_its_channel(cluster, help):
    made = await cluster()
    client = made.client()
    made.network.fault = lambda endpoint, method, request: "lose request" if method.name == "Update" else None
    writing = asyncio.ensure_future(client.update([help.write(1, b"x")]))
    await help.until(lambda: len(made.network.requests("Update")) > 0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    made.network.fault = lambda endpoint, method, request: None
    await client.update([help.write(1, b"y")])
    channels = [request.channels[0] for _, request in made.network.requests("Update") if not request.from_target]
    assert channels == [1, 2]


async def test_channels_are_used_again(cluster, help):
    made = await cluster()
    client = made.client()
    for number in range(5):
        await client.update([help.write(number, b"x"), help.write(number + 100, b"x")])
    sent = [request for _, request in made.network.requests("Update") if not request.from_target]
    assert {channel for request in sent for channel in request.channels} == {1, 2}


async def test_more_updates_than_channels_go_in_waves(cluster, help):
    made = await cluster()
    client = made.client()
    client._channels._pool._channels_max = 3
    results = await asyncio.gather(
        client.update([help.write(number, b"x") for number in range(10)]),
        client.update([help.write(number, b"y") for number in range(100, 105)]),
    )
    assert all(result.code is Code.OK for part in results for result in part)
    assert client._channels._pool.in_use == 0


@pytest.mark.parametrize("chain", [1, 2])
async def test_bad_columns_are_refused_by_name(cluster, help, chain):
    made = await cluster()
    channel = made.network.connect("fake://1")
    with pytest.raises(ValueError, match=r"^kinds: ") as caught:
        await channel.call(help.STORAGE.Update, help.pb.UpdateRequest(chains=[chain]))
    assert caught.value.code is Code.INVALID
    with pytest.raises(ValueError, match=r"^chunks: "):
        await channel.call(help.STORAGE.Read, help.pb.ReadRequest(chains=[chain], chain_versions=[1], offsets=[0], lengths=[1]))
    with pytest.raises(ValueError, match=r"^chain_versions: "):
        await channel.call(help.STORAGE.Find, help.pb.FindRequest(chains=[chain]))
    made.assert_clean()


async def test_an_empty_request_is_answered(cluster, help):
    made = await cluster()
    channel = made.network.connect("fake://1")
    assert list((await channel.call(help.STORAGE.Update, help.pb.UpdateRequest())).message.codes) == []
    assert list((await channel.call(help.STORAGE.Read, help.pb.ReadRequest())).message.codes) == []
    client = made.client()
    assert await client.read([]) == []
    assert await client.update([]) == []
    assert await client.find([]) == []


async def test_an_update_with_wrong_checksums_is_refused_and_leaves_nothing(cluster, help):
    made = await cluster()
    client = made.client()
    (result,) = await client.update([help.write(1, b"data", checksums=(1,))])
    assert result.code is Code.CHECKSUM
    assert made.replicas(1, help.chunk(1)) == [None] * 3
    (result,) = await client.update([help.write(1, b"data")])
    assert result.code is Code.OK
    made.assert_clean()


async def test_a_stranger_may_not_forward(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"x")])
    _, request = next(item for item in made.network.requests("Update") if item[1].from_target == 101)
    request.from_target = 999
    reply = await made.network.connect("fake://3").call(help.STORAGE.Update, request, [b"x"])
    assert Code(reply.message.codes[0]) in (Code.NOT_HEAD, Code.WRONG_CHAIN_VERSION)
