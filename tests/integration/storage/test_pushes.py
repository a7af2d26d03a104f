"""Bytes of large updates go down the chain ahead of them; rows and answers come in the order they always had."""

import asyncio

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.model.chain import Chain, PublicState
from fs3.model.chunk import UpdateKind
from fs3.services.storage import StorageConfig
from fs3.services.storage.forwarding.pushes import pushes_held_max
from fs3.wire.methods import STORAGE
from fs3.wire.storage_push import Push, push_request_to_pb

PUT = UpdateKind.PUT
LENGTH = 200_000
DATA = bytes(range(250)) * (LENGTH // 250)
HEAD, MIDDLE, TAIL = 1, 2, 3


@pytest.fixture(params=["files", "memory"])
async def cluster(request, cluster):
    """On real files, and on a store that answers at once: events then come in another order."""

    async def make(least=65_536):
        made = await cluster(start=False, memory=request.param == "memory")
        await made.start(config=StorageConfig(push_bytes_min=least))
        return made

    return make


class Gate:
    """Keeps the stages of one store back."""

    def __init__(self, store):
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        stage = store.stage

        async def gated(*arguments):
            self.reached.set()
            await self.open.wait()
            return await stage(*arguments)

        store.stage = gated


def forwards(made):
    """Requests that carry updates from target to target."""
    return [request for _, request in made.network.requests("Update") if request.from_target]


def pushed_bytes(made):
    """What the targets of chain 1 hold of pushes."""
    return [len(made.shell(1, node).pushes) for node in (HEAD, MIDDLE, TAIL)]


@pytest.mark.parametrize("kind", [UpdateKind.WRITE, PUT])
async def test_bytes_of_large_updates_travel_once_and_ahead(cluster, help, kind):
    made = await cluster()
    client = made.client()
    (result,) = await client.update([help.write(1, DATA, kind=kind)])
    assert (result.code, result.version, result.length) == (Code.OK, 1, LENGTH)
    assert [endpoint for endpoint, _ in made.network.requests("Push")] == ["fake://2", "fake://3"]
    assert [len(request.pushed) for request in forwards(made)] == [1, 1]
    assert made.replicas(1, help.chunk(1)) == made.replicas(1, help.chunk(1))[:1] * 3
    assert await help.get(client, 1, LENGTH) == (Code.OK, DATA)
    assert pushed_bytes(made) == [0, 0, 0]
    made.assert_clean()


async def test_small_updates_and_parts_of_chunks_are_not_pushed(cluster, help):
    made = await cluster()
    client = made.client()
    for io in (help.write(1, DATA[:1000]), help.write(1, DATA, offset=1000), help.write(1, DATA), help.write(2, b"", kind=PUT)):
        (result,) = await client.update([io])
        assert result.code is Code.OK
    assert not made.network.requests("Push")
    assert await help.get(client, 1, 300_000) == (Code.OK, DATA + DATA[-1000:])
    made.assert_clean()


async def test_nothing_is_pushed_when_the_operator_says_so(cluster, help):
    made = await cluster(least=0)
    (result,) = await made.client().update([help.write(1, DATA)])
    assert result.code is Code.OK
    assert not made.network.requests("Push")


async def test_no_target_has_staged_what_one_before_it_has_not(cluster, help):
    """The bytes are everywhere while the head still works on them; the update is not: each target waits for the one before."""
    made = await cluster()
    gates = [Gate(made.store(1, node)) for node in (HEAD, MIDDLE, TAIL)]
    writing = asyncio.ensure_future(made.client().update([help.write(1, DATA)]))
    await help.until(lambda: pushed_bytes(made) == [0, 1, 1])
    for gate, behind in zip(gates, (2, 1, 0), strict=True):
        await gate.reached.wait()
        assert made.replicas(1, help.chunk(1))[3 - behind - 1 :] == [None] * (behind + 1)
        assert not any(later.reached.is_set() for later in gates[3 - behind :])
        gate.open.set()
    (result,) = await writing
    assert result.code is Code.OK
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    made.assert_clean()


async def test_the_update_brings_the_bytes_when_the_push_has_failed(cluster, help):
    made = await cluster()
    client = made.client()
    made.network.once("break", "Push", endpoint="fake://2")
    gate = Gate(made.store(1, HEAD))
    writing = asyncio.ensure_future(client.update([help.write(1, DATA)]))
    await help.until(lambda: any(call.method is STORAGE.Push and call.released for call in made.network.calls))
    await help.until(lambda: not made.shell(1, HEAD)._forwarder.push_sender._usable)
    gate.open.set()
    (result,) = await writing
    assert result.code is Code.OK
    assert not forwards(made)[0].pushed
    (result,) = await client.update([help.write(2, DATA)])
    assert result.code is Code.OK
    pushed_by_head = [endpoint for endpoint, _ in made.network.requests("Push") if endpoint == "fake://2"]
    assert len(pushed_by_head) == 1, "it is tried again at once"
    assert await help.get(client, 1, LENGTH) == (Code.OK, DATA)


async def test_a_successor_without_room_for_pushes_gets_the_bytes_with_the_update(cluster, help):
    made = await cluster()

    async def no_room(data, reserve):
        return None

    made.store(1, MIDDLE).prewrite = no_room
    client = made.client()
    for number in (1, 2):
        (result,) = await client.update([help.write(number, DATA)])
        assert result.code is Code.OK
        assert len(set(made.replicas(1, help.chunk(number)))) == 1
    assert len([endpoint for endpoint, _ in made.network.requests("Push") if endpoint == "fake://2"]) == 1
    assert pushed_bytes(made)[:2] == [0, 0]
    made.assert_clean()


async def test_what_was_pushed_is_dropped_when_the_chain_changes(cluster, help):
    made = await cluster()
    client = made.client()
    gate = Gate(made.store(1, HEAD))
    writing = asyncio.ensure_future(client.update([help.write(1, DATA)]))
    await help.until(lambda: pushed_bytes(made) == [0, 1, 1])
    before = made.manager.routing.chains[ChainId(1)]
    made.manager.set_chain(Chain(before.id, before.version + 1, before.slots))
    await help.until(lambda: pushed_bytes(made) == [0, 0, 0])
    gate.open.set()
    (result,) = await writing
    assert result.code is Code.OK
    assert not [request for endpoint, request in made.network.requests("Update") if endpoint == "fake://2" and request.pushed]
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    assert [made.store(1, node).get_space().pinned for node in (MIDDLE, TAIL)] == [0, 0]
    made.assert_clean()


async def test_what_was_staged_with_pushed_bytes_is_sent_again_from_the_store(cluster, help):
    made = await cluster()
    gate = Gate(made.store(1, TAIL))
    writing = asyncio.ensure_future(made.client().update([help.write(1, DATA)]))
    await gate.reached.wait()
    before = made.manager.routing.chains[ChainId(1)]
    made.manager.set_chain(Chain(before.id, before.version + 1, before.slots))
    await help.until(lambda: made.shell(1, MIDDLE).replica.chain.version == before.version + 1)
    gate.open.set()
    (result,) = await writing
    assert result.code is Code.OK
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    assert await help.get(made.client(), 1, LENGTH) == (Code.OK, DATA)
    made.assert_clean()


async def test_a_push_whose_update_does_not_come_is_dropped_in_time(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.forwarding.pushes.flight_deadline_ns", 1)
    made = await cluster()
    gate = Gate(made.store(1, HEAD))
    writing = asyncio.ensure_future(made.client().update([help.write(1, DATA)]))
    await help.until(lambda: len(made.network.requests("Push")) == 2)
    await help.until(lambda: pushed_bytes(made) == [0, 0, 0])
    gate.open.set()
    (result,) = await writing  # refused by the successor, sent again with its bytes
    assert result.code is Code.OK
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    made.assert_clean()


async def test_a_target_that_stops_drops_what_was_pushed_to_it(cluster, help):
    made = await cluster()
    gate = Gate(made.store(1, HEAD))
    writing = asyncio.ensure_future(made.client().update([help.write(1, DATA)]))
    await help.until(lambda: pushed_bytes(made) == [0, 1, 1])
    store = made.store(1, TAIL)
    await made.stop_node(TAIL)
    assert not store.list_pending()
    slots = {HEAD: PublicState.SERVING, MIDDLE: PublicState.SERVING, TAIL: PublicState.OFFLINE}
    made.manager.set_chain(help.chain_of(1, 2, slots))
    gate.open.set()
    (result,) = await writing
    assert result.code is Code.OK


@pytest.mark.parametrize(
    ("chain", "version", "source", "code"),
    [(1, 1, 103, Code.WRONG_CHAIN_VERSION), (1, 2, 101, Code.WRONG_CHAIN_VERSION), (7, 1, 101, Code.NO_SUCH_TARGET)],
)
async def test_a_stranger_pushes_nothing(cluster, chain, version, source, code):
    made = await cluster()
    push = Push(ChainId(chain), version, TargetId(source), 5, [1], 0)
    with pytest.raises(FS3Error) as caught:
        await made.network.connect("fake://2").call(STORAGE.Push, push_request_to_pb(push), (b"x" * 5000,))
    assert caught.value.code is code
    made.assert_clean()


async def test_pushes_are_bounded_and_a_number_counts_once(cluster):
    made = await cluster()
    channel = made.network.connect("fake://2")

    def push(number):
        request = push_request_to_pb(Push(ChainId(1), 1, TargetId(101), number, [1], 0))
        return channel.call(STORAGE.Push, request, (b"x" * 5000,))

    for number in range(1, pushes_held_max + 1):
        await push(number)
    for number in (1, pushes_held_max + 1):
        with pytest.raises(FS3Error) as caught:
            await push(number)
        assert caught.value.code is Code.BUSY
    assert pushed_bytes(made)[1] == pushes_held_max
    made.shell(1, MIDDLE).pushes.clear()
    assert made.store(1, MIDDLE).get_space().pinned == 0
