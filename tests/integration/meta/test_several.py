"""Several metadata services on one store: clients change over, one of them does the duties, dead writers are noticed by all."""

import asyncio

import pytest
from msgspec.structs import replace

from fs3.base.errors import Exists, FS3Error
from fs3.base.ids import file_chunk
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.meta import hedged_request
from fs3.client.meta.keepalive import SessionKeepAlive
from fs3.client.routing import StaticRouting
from fs3.core.meta import rows
from fs3.core.meta.bootstrap import FORMAT
from fs3.core.meta.client_liveness import list_clients
from fs3.core.meta.sessions import list_sessions
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.namespace import PathRef, RemoveKind
from fs3.services.meta import MetaConfig, MetaService
from fs3.sim.conformance.kv import puts, read_all_rows

FIRST, SECOND_ONE = "tcp://meta-1:1", "tcp://meta-2:1"
CHUNK = 65536


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    # Enough for a service that works: one that was merely slow on a busy machine would be suspected, and not asked again.
    monkeypatch.setattr(hedged_request, "meta_read_hedge_ns", SECOND // 10)
    monkeypatch.setattr(hedged_request, "meta_change_hedge_ns", SECOND // 10)


@pytest.fixture
async def pair(cluster, make_routing_with, monkeypatch):
    """A second service; `cluster.held[endpoint]` keeps what is sent there until it is let through."""
    config = MetaConfig(garbage_delay_ms=0, garbage_interval_ms=3_600_000, stripe=3, chunk_size=CHUNK)
    other = MetaService(cluster.kv, cluster.clock, cluster.routing, cluster.chunks, config, lambda count: b"\xee" * count)
    await other.start()
    cluster.other = other
    cluster.wire.bindings[SECOND_ONE] = other.bindings()
    cluster.routing.set(make_routing_with(metas=(FIRST, SECOND_ONE), version=6))
    yield cluster
    await other.stop()


def stop_answering(cluster, endpoint):
    """The service takes requests and does not look at them, as a stopped process does; the list of what it will do later."""
    held = []
    bindings = cluster.wire.bindings[endpoint]

    def hold(handler):
        return lambda call: held.append(lambda: handler(call))

    cluster.wire.bindings[endpoint] = {method: hold(handler) for method, handler in bindings.items()}
    return held


def own_endpoint(cluster):
    return cluster.wire.calls[-1][0]


async def test_clients_are_spread_over_the_services(pair):
    for _ in range(8):
        client = pair.client()
        client._nodes._turn = pair.clients
        await client.stat("")
    asked = [endpoint for endpoint, _ in pair.wire.calls]
    assert asked.count(FIRST) == asked.count(SECOND_ONE) == 4


@pytest.mark.parametrize("change", [False, True])
async def test_a_silent_service_is_not_waited_for(pair, change):
    meta = pair.client()
    await meta.stat("")
    first = own_endpoint(pair)
    held = stop_answering(pair, first)
    await (meta.mkdir("d") if change else meta.stat(""))
    assert own_endpoint(pair) != first
    assert len(held) == 1
    pair.wire.calls.clear()
    await meta.stat("")
    await meta.mkdir("e")
    assert {endpoint for endpoint, _ in pair.wire.calls} == {own_endpoint(pair)} != {first}, "it is remembered"
    for late in held:
        late()
    await meta.stat("e")
    assert [entry.name for entry in (await meta.list("")).entries] == (["d", "e"] if change else ["e"])


async def test_a_dead_service_costs_one_refused_request(pair):
    meta = pair.client()
    await meta.stat("")
    first = own_endpoint(pair)
    pair.wire.bindings.pop(first)
    pair.wire.calls.clear()
    for number in range(5):
        await meta.mkdir(f"d{number}")
    assert [endpoint == first for endpoint, _ in pair.wire.calls] == [True] + [False] * 5


async def test_when_services_come_back_clients_go_home(pair, make_routing_with):
    meta = pair.client()
    await meta.stat("")
    home = own_endpoint(pair)
    bindings = pair.wire.bindings.pop(home)
    await meta.stat("")
    away = own_endpoint(pair)
    assert away != home
    pair.wire.bindings[home] = bindings
    pair.routing.set(make_routing_with(metas=(away,), version=7))
    await meta.stat("")
    pair.routing.set(make_routing_with(metas=(FIRST, SECOND_ONE), version=8))
    await meta.stat("")
    assert own_endpoint(pair) == home


async def test_a_change_that_was_refused_does_not_happen_later(pair):
    """The first sending is on its way for long; the second one is refused, and told; what refused it goes away."""
    meta, others = pair.client(), pair.client()
    await meta.stat("")
    first = own_endpoint(pair)
    held = stop_answering(pair, first)
    await others.mkdir("d")
    with pytest.raises(Exists):
        await meta.mkdir("d")
    await others.remove("d", RemoveKind.DIRECTORY)
    assert held
    for late in held:
        late()
    await others.mkdir("marker")
    assert [entry.name for entry in (await others.list("")).entries] == ["marker"]


async def test_a_change_that_has_happened_is_not_refused_by_its_repetition(pair):
    """It happened at one service whose answer was lost, and is repeated at the other: in every order of the two."""
    meta = pair.client()
    await meta.stat("")
    pair.wire.mishaps = ["lost"]
    await meta.mkdir("d")
    pair.wire.mishaps = ["lost"]
    await meta.remove("d", RemoveKind.DIRECTORY)
    with pytest.raises(FS3Error):
        await meta.stat("d")


async def held_by(pair):
    async with asyncio.timeout(20):
        while pair.service.lease.is_held is pair.other.lease.is_held:  # noqa: ASYNC110 - nobody is told who is elected
            await asyncio.sleep(0.001)
    return pair.service if pair.service.lease.is_held else pair.other


async def test_one_service_does_the_duties_and_leaves_them_when_it_stops(pair):
    doing = await held_by(pair)
    resting = pair.other if doing is pair.service else pair.service
    assert doing.garbage.may_work()
    assert not resting.garbage.may_work()
    assert resting.last_seen.may_work(), "each notes whom it hears of"
    await doing.stop()
    assert not doing.lease.is_held
    pair.clock.advance(2)
    async with asyncio.timeout(20):
        while not resting.lease.is_held:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await doing.start()
    assert resting.lease.is_held


async def test_a_store_of_another_cluster_or_program_is_refused(cluster, make_routing_with, tmp_path):
    def service(kv, cluster_id):
        routing = make_routing_with()
        source = StaticRouting(type(routing)(cluster_id, 5, routing.nodes, routing.chains, routing.tables))
        return MetaService(kv, cluster.clock, source, cluster.chunks, MetaConfig(), lambda count: b"\xee" * count)

    with pytest.raises(FS3Error, match="belongs to cluster 6363") as refused:
        await service(cluster.kv, b"x" * 16).start()
    assert refused.value.code is Code.WRONG_CLUSTER
    kv = MemoryKV()
    await kv.transact(puts({b"mgmtd/cluster": b"1"}))
    with pytest.raises(FS3Error, match="something else than a namespace") as refused:
        await service(kv, b"c" * 16).start()
    assert refused.value.code is Code.UNSUPPORTED
    assert await read_all_rows(kv) == [(b"mgmtd/cluster", b"1")]
    newer = MemoryKV()
    await newer.transact(puts({b"CLUS": rows.encode(rows.StoreIdent(FORMAT + 1, b"c" * 16))}))
    with pytest.raises(FS3Error, match="of format") as refused:
        await service(newer, b"c" * 16).start()
    assert refused.value.code is Code.UNSUPPORTED


# --- dead writers ----------------------------------------------------------------------------------------------------


def add_chunks(cluster, inode, indices):
    chains = inode.layout.chains
    cluster.chunks.there |= {(file_chunk(inode.id, index), chains[index % len(chains)]) for index in indices}


async def look(cluster, seconds):
    """Time passes, with a look every ten seconds."""
    for _ in range(seconds // 10):
        cluster.clock.advance(10)
        await cluster.service.sessions.step()


async def sessions_of(cluster):
    return await cluster.kv.read(lambda txn: list_sessions(txn, None, 100))


async def test_a_dead_writers_file_gets_the_length_that_storage_has(cluster, meta, caplog):
    named = await meta.open("f", write=True, create=True)
    unnamed = await meta.open("", write=True, create=True, unnamed=True)
    add_chunks(cluster, named.inode, [0, 1, 7])
    add_chunks(cluster, unnamed.inode, [0])
    await look(cluster, 60)
    assert len(await sessions_of(cluster)) == 2
    await look(cluster, 20)
    assert await sessions_of(cluster) == []
    assert (await meta.stat("f")).length == 7 * CHUNK + 1
    assert (await meta.statfs()).garbage == 1
    assert "silent for too long" in caplog.text
    await look(cluster, 10)
    assert await cluster.kv.read(lambda txn: list_clients(txn, None, 10)) == []
    assert (await meta.close_file(named.inode.id, named.session, length=9 * CHUNK)).length == 9 * CHUNK, "it was merely silent"


@pytest.mark.parametrize("sign", ["change", "keep alive", "keep alive elsewhere"])
async def test_a_client_that_is_heard_of_keeps_its_sessions(pair, sign):
    meta = pair.client()
    opened = await meta.open("f", write=True, create=True)
    for turn in range(30):
        if sign == "change":
            await meta.setattr("f", mode=0o600 + turn % 2)
        else:
            if sign == "keep alive elsewhere":
                meta._nodes._turn += 1
                meta._nodes._current = None
            await meta._keep_alive()
        await pair.service.last_seen.step()
        await pair.other.last_seen.step()
        await look(pair, 10)
    assert [session.id for session in await sessions_of(pair)] == [opened.session]


async def test_a_client_that_wakes_up_in_time_keeps_what_is_left(cluster, meta):
    """It was presumed_dead, but storage did not say how long one of its files is; then it was heard of."""
    kept = await meta.open("kept", write=True, create=True)
    silent = cluster.chunks.find_next

    async def fails(keys, *, timeout_ns=0):
        raise FS3Error(Code.UNAVAILABLE, "no answer")

    cluster.chunks.find_next = fails
    await look(cluster, 80)
    assert len(await sessions_of(cluster)) == 1
    await meta._keep_alive()
    await cluster.service.last_seen.step()
    cluster.chunks.find_next = silent
    await look(cluster, 50)
    assert [session.id for session in await sessions_of(cluster)] == [kept.session]
    await look(cluster, 30)
    assert await sessions_of(cluster) == []


async def test_sessions_of_an_older_version_get_a_row(cluster, meta):
    opened = await meta.open("f", write=True, create=True)
    ((client, _),) = await cluster.kv.read(lambda txn: list_clients(txn, None, 10))

    async def forget(txn):
        txn.delete(b"LIFE" + client)

    await cluster.kv.transact(forget)
    await look(cluster, 100)
    assert await sessions_of(cluster) == []
    assert (await meta.stat(PathRef(opened.inode.id))).length == 0


async def test_a_length_from_before_somebody_elses_truncation_counts_as_far_as_storage_has_it(cluster, meta):
    other = cluster.client()
    opened = await meta.open("f", write=True, create=True)
    await meta.sync(opened.inode.id, opened.session, length=5 * CHUNK, truncations=0)
    await other.truncate(opened.inode.id, 0)
    synced = await meta.sync(opened.inode.id, opened.session, length=5 * CHUNK, truncations=0)
    assert synced.length == 0, "what it wrote before that is gone"
    assert synced.truncations == 1
    add_chunks(cluster, opened.inode, [2])
    assert (await meta.sync(opened.inode.id, opened.session, length=5 * CHUNK, truncations=0)).length == 2 * CHUNK + 1
    add_chunks(cluster, opened.inode, [4])
    answers = await meta.batch([_close(opened, 5 * CHUNK)])
    assert answers[0].length == 4 * CHUNK + 1, "what it wrote since counts, in a batch too"


def _close(opened, length):
    from fs3.model.requests import Close

    return Close(opened.inode.id, opened.session, length, truncations=0)


async def test_a_close_waits_for_a_storage_that_does_not_say(cluster, meta, monkeypatch):
    opened = await meta.open("f", write=True, create=True)
    await meta.sync(opened.inode.id, opened.session, length=CHUNK)
    await cluster.client().truncate(opened.inode.id, 0)
    answers = cluster.chunks.find_next
    refusals = [Code.UNAVAILABLE, Code.DEADLINE]

    async def fails(keys, *, timeout_ns=0):
        if refusals:
            raise FS3Error(refusals.pop(), "no answer")
        return await answers(keys, timeout_ns=timeout_ns)

    cluster.chunks.find_next = fails
    assert (await meta.close_file(opened.inode.id, opened.session, length=CHUNK, truncations=0)).length == 0
    assert not refusals


# --- the client's side ------------------------------------------------------------------------------------------------


async def test_one_keep_alive_per_client_and_only_when_it_is_silent(cluster):
    told = asyncio.Queue()

    async def send():
        await told.put(len(sessions._open))

    sessions = SessionKeepAlive(cluster.clock, send, SECOND // 1000)
    assert told.empty()
    for session in range(5):
        sessions.on_open(session)
    cluster.clock.advance(1)
    for _ in range(3):
        assert await told.get() == 5
        cluster.clock.advance(1)
    for session in range(5):
        sessions.on_close(session)
    await sessions.stop()


async def test_a_client_with_sessions_tells_and_one_without_does_not(cluster, meta):
    meta._sessions._interval_ns = SECOND // 1000
    idle = cluster.client()
    idle._sessions._interval_ns = SECOND // 1000
    await idle.mkdir("d")
    opened = await meta.open("f", write=True, create=True)
    cluster.clock.advance(1)
    async with asyncio.timeout(20):
        while ("tcp://meta-1:1", "KeepAlive") not in cluster.wire.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await meta.close_file(opened.inode.id, opened.session)
    assert not meta._sessions._open
    assert idle._sessions._timer is None
    await meta.close()


# --- directories that have owners --------------------------------------------------------------------------------------


@pytest.fixture
def owned(pair, make_routing_with):
    """Both services write to a remote engine, as far as clients are told."""
    routing = make_routing_with(metas=(FIRST, SECOND_ONE), version=7)
    nodes = {number: replace(node, by_directory=True) for number, node in routing.nodes.items()}
    pair.routing.set(replace(routing, nodes=nodes))
    return pair


@pytest.fixture
def much_patience(monkeypatch):
    """A service that is merely slow is waited for."""
    monkeypatch.setattr(hedged_request, "meta_read_hedge_ns", 60 * SECOND)
    monkeypatch.setattr(hedged_request, "meta_change_hedge_ns", 60 * SECOND)


def asked(cluster, since):
    return {endpoint for endpoint, _ in cluster.wire.calls[since:]}


async def test_what_is_about_a_directory_goes_to_its_owner(owned, much_patience):
    everyone = [owned.client() for _ in range(3)]
    at = {}
    for name in ("d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"):
        await everyone[0].mkdir(name)
        since = len(owned.wire.calls)
        for number, meta in enumerate(everyone):
            opened = await meta.open(f"{name}/f{number}", write=True, create=True)
            await meta.close_file(opened.inode.id, opened.session, length=0)
            await meta.stat(f"{name}/f0")
            assert len((await meta.list(name)).entries) == number + 1
        (at[name],) = asked(owned, since)
    assert set(at.values()) == {FIRST, SECOND_ONE}


async def test_another_service_answers_for_an_owner_that_does_not(owned):
    meta = owned.client()
    await meta.mkdir("d")
    since = len(owned.wire.calls)
    await meta.stat("d/.")
    (owner,) = asked(owned, since)
    held = stop_answering(owned, owner)
    since = len(owned.wire.calls)
    await meta.stat("d/.")
    assert asked(owned, since) == {FIRST, SECOND_ONE}
    since = len(owned.wire.calls)
    await meta.stat("d/.")
    assert owner not in asked(owned, since), "it is suspected"
    assert len(held) == 1


async def test_an_owner_that_the_manager_takes_for_dead_is_not_asked(owned, much_patience):
    meta = owned.client()
    await meta.stat("/.")
    owner = own_endpoint(owned)
    routing = owned.routing.routing
    nodes = {number: replace(node, alive=node.alive and owner not in node.endpoints) for number, node in routing.nodes.items()}
    owned.routing.set(replace(routing, version=routing.version + 1, nodes=nodes))
    await meta.stat("/.")
    assert own_endpoint(owned) != owner


async def test_on_an_embedded_engine_a_client_stays_with_one_service(pair, much_patience):
    meta = pair.client()
    for number in range(8):
        await meta.mkdir(f"d{number}")
        await meta.stat(f"d{number}/.")
    assert len(asked(pair, 0)) == 1
