"""What a node may say once its lease may be over, at whatever point it was stopped."""

import asyncio

import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.model.chain import PublicState
from fs3.services.storage import StorageConfig

SERVING, OFFLINE = PublicState.SERVING, PublicState.OFFLINE


def end_lease(made, node):
    """As if the process had been stopped, here and now, until its lease was over; nothing else has happened yet."""
    made.manager.answer_beats = False
    made.services[node].member.lease.until = 0


async def ask(made, help, node, version=1, length=4, chunk=1):
    request = help.pb.ReadRequest(chunks=help.chunk(chunk), chains=[1], chain_versions=[version], offsets=[0], lengths=[length])
    reply = await made.network.connect(f"fake://{node}").call(help.STORAGE.Read, request)
    return Code(reply.message.codes[0]), bytes(reply.payload or b"")


async def test_a_node_without_any_lease_yet_serves_nothing(cluster, help):
    made = await cluster(chains=1, start=False)
    made.manager.answer_beats = False
    await made.start()
    # Its targets are new as well: none takes its place before the manager has stored that it is there.
    assert (await ask(made, help, 1))[0] is Code.NOT_SERVING
    (result,) = await made.client().update([help.write(1, b"data")], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE
    assert "LEASE" in result.message
    made.manager.answer_beats = True
    assert (await made.client().update([help.write(1, b"data")]))[0].code is Code.OK


async def test_a_target_that_the_manager_was_not_told_of_does_not_serve(cluster, help):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"data")])
    service = made.services[2]
    await help.until(lambda: TargetId(102) in service.member.leased_targets)
    service.member.leased_targets = frozenset()
    assert (await ask(made, help, 2))[0] is Code.LEASE
    await help.until(lambda: TargetId(102) in service.member.leased_targets)
    assert await ask(made, help, 2) == (Code.OK, b"data")


@pytest.mark.parametrize("what", ["Read", "Find", "Contains"])
async def test_stopped_between_the_check_and_the_look(cluster, help, monkeypatch, what):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"data")])
    await made.idle()
    store = made.store(1, 2)
    read_many, get = store.read_many, store.get

    def stopped(*where, **options):
        end_lease(made, 2)
        return read_many(*where, **options)

    def stopped_too(chunk):
        end_lease(made, 2)
        return get(chunk)

    monkeypatch.setattr(store, "read_many", stopped)
    monkeypatch.setattr(store, "get", stopped_too)
    if what == "Read":
        assert await ask(made, help, 2) == (Code.LEASE, b"")
    elif what == "Contains":
        request = help.pb.ContainsRequest(chunks=help.chunk(1), places=bytes(2), chains=[1], chain_versions=[1])
        reply = (await made.network.connect("fake://2").call(help.STORAGE.Contains, request)).message
        assert (reply.present, reply.refused[:], reply.codes[:]) == (bytes(1), [0], [Code.LEASE])
    else:
        request = help.pb.FindRequest(chunks=help.chunk(1), chains=[1], chain_versions=[1])
        reply = (await made.network.connect("fake://2").call(help.STORAGE.Find, request)).message
        assert (Code(reply.codes[0]), reply.lengths[0]) == (Code.LEASE, 0)
    made.assert_clean()


async def cold(made, node, monkeypatch):
    """Every read of the node waits for its disk, which waits for the event."""
    store = made.store(1, node)
    gate = asyncio.Event()
    begun = []
    read_cold = store.read_cold

    async def slow(*where, **options):
        begun.append(where)
        await gate.wait()
        return await read_cold(*where, **options)

    monkeypatch.setattr(store, "read_many", lambda chunks, batch, which, refuse_dirty: list(which))
    monkeypatch.setattr(store, "read_cold", slow)
    return gate, begun


async def test_a_lease_that_ends_while_the_disk_is_waited_for(cluster, help, monkeypatch):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"data")])
    gate, begun = await cold(made, 2, monkeypatch)
    reading = asyncio.ensure_future(ask(made, help, 2))
    await help.until(lambda: begun)
    end_lease(made, 2)
    gate.set()
    assert await reading == (Code.LEASE, b"")
    made.assert_clean()


async def test_a_chain_that_changes_while_the_disk_is_waited_for(cluster, help, monkeypatch):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"data")])
    gate, begun = await cold(made, 2, monkeypatch)
    reading = asyncio.ensure_future(ask(made, help, 2))
    await help.until(lambda: begun)
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 3: SERVING, 2: PublicState.WAITING}))
    await help.until(lambda: made.shell(1, 2).replica.chain.version == 2)
    gate.set()
    assert await reading == (Code.WRONG_CHAIN_VERSION, b"")
    made.assert_clean()


async def test_reads_that_wait_their_turn_hear_at_once_that_the_target_has_left(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.reads.cold_read_bytes_max", 1)
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"data")])
    gate, begun = await cold(made, 2, monkeypatch)
    first = asyncio.ensure_future(ask(made, help, 2))
    await help.until(lambda: begun)
    others = [asyncio.ensure_future(ask(made, help, 2)) for _ in range(5)]
    await help.until(lambda: made.services[2].held().cold_reads == 5)
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 3: SERVING, 2: OFFLINE}))
    codes = {code for code, _ in await asyncio.gather(*others)}
    assert codes <= {Code.WRONG_CHAIN_VERSION, Code.NOT_SERVING}
    assert not first.done(), "the disk still has that one"
    gate.set()
    assert (await first)[0] is not Code.OK
    made.assert_clean()


async def test_forwarded_updates_are_fenced_by_the_chain_version_and_not_by_the_lease(cluster, help):
    """The head and everybody behind it have the update under one version: the client may be told."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"base")])
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(1, b"more", offset=4)]))
    await help.until(lambda: made.network.held)
    made.manager.answer_beats = False
    for service in made.services.values():
        service.member.lease.until = 0
    made.network.let_go()
    (result,) = await writing
    assert (result.code, result.version, result.length) == (Code.OK, 2, 8)
    made.assert_clean()


async def test_a_head_that_is_alone_answers_within_its_lease_only(cluster, help):
    made = await cluster(nodes=1, chains=1)
    client = made.client()
    store = made.store(1, 1)
    stage = store.stage
    gate = asyncio.Event()

    async def slow(update, version, chain_version, prewritten=None):
        await gate.wait()
        return await stage(update, version, chain_version)

    store.stage = slow
    writing = asyncio.ensure_future(client.update([help.write(1, b"once")]))
    await help.until(lambda: made.shell(1, 1).replica.flights.lanes)
    end_lease(made, 1)
    gate.set()
    await help.until(lambda: client.updates.retries > 0)
    assert not writing.done()
    made.manager.answer_beats = True
    (result,) = await writing
    assert (result.code, result.version) == (Code.OK, 1), "applied once, although it was asked for twice"


async def test_leases_that_are_not_enforced_stop_nobody(cluster, help):
    made = await cluster(chains=1, start=False)
    await made.start(config=StorageConfig(enforce_lease=False))
    for node in made.services:
        end_lease(made, node)
    assert (await made.client().update([help.write(1, b"x" * 100 * KIB)]))[0].code is Code.OK
    assert (await ask(made, help, 2))[0] in (Code.OK, Code.DIRTY)
