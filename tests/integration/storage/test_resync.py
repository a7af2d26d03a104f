"""Nodes go, come back, lose their disks: chains go on without them and bring them up to date again."""

import asyncio
import shutil

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ClientId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.core.craq.resync.steps import ResyncPhase
from fs3.model.chain import LocalState, PublicState
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.services.storage import StorageConfig

SERVING, SYNCING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE


async def following(cluster, **options):
    """A cluster whose chains follow what is reported."""
    made = await cluster(start=False, **options)
    made.manager.follows = True
    await made.start()
    await all_serve(made)
    return made


async def all_serve(made, *, quiet=True):
    """Every target of every chain serves; with `quiet`, and has heard of it, and nothing is under way."""

    def serve():
        return all(slot.state is SERVING for chain in made.manager.routing.chains.values() for slot in chain.slots)

    await made.until(serve)
    if quiet:
        await made.until(lambda: serve() and all(made._settled(node, service) for node, service in made.services.items()))


def contents(made, node, chain=1):
    """Chunk -> (version, length, checksum) of everything committed, and the channel rows."""
    store = made.store(chain, node)
    chunks = {chunk: (meta.committed, meta.pending, meta.length, meta.checksum) for chunk, meta in store.list(None, 10_000)}
    channels = {key: (row.seq, row.chunk) for key, row in store.list_channels(None, 10_000)}
    return chunks, channels


def filled(made, since=0):
    """Chunks that travelled as fills since a place in the log."""
    return [
        request.chunks[16 * index : 16 * index + 16]
        for _, method, request in made.network.log[since:]
        if method == "Update"
        for index, kind in enumerate(request.kinds)
        if kind == UpdateKind.FILL
    ]


async def test_a_returning_node_is_sent_only_what_it_missed(cluster, help):
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(number, bytes([number % 251]) * 3000) for number in range(400)])
    await made.idle()
    await made.crash(2)
    made.manager.lose(2)
    await client.update([help.write(number, b"changed" * 100) for number in (5, 150, 399)])
    await client.update([help.write(1000, b"new"), help.change(7, UpdateKind.REMOVE)])
    since = len(made.network.log)
    await made.start(2)
    await all_serve(made)
    assert sorted(set(filled(made, since))) == sorted(help.chunk(number) for number in (5, 150, 399, 1000))
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)
    assert made.store(1, 2).get(help.chunk(7)) is None
    for number, data in ((5, b"changed" * 100), (1000, b"new"), (8, bytes([8]) * 10)):
        assert await help.get(client, number, len(data)) == (Code.OK, data)
    made.assert_clean()


async def test_a_new_target_that_serves_fills_its_successor_once_its_birth_is_stored(cluster, help):
    made = await cluster(chains=1, start=False)
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 2: SERVING, 3: SYNCING}))
    made.manager.answer_beats = False
    await made.start()
    assert made.shell(1, 2).source.progress.phase is ResyncPhase.IDLE
    made.manager.answer_beats = made.manager.follows = True
    await all_serve(made)


async def test_a_target_that_is_doubted_is_compared_with_its_chain(cluster, help):
    made = await following(cluster, nodes=2, chains=1)
    client = made.client()
    await client.update([help.write(number, b"right" * 100) for number in range(9)])
    await made.idle()
    store = made.store(1, 2)
    tag = Tag(ClientId(b""), 0, 0)
    await store.stage(Update(help.chunk(5), UpdateKind.REMOVE, ChainId(1), 1, 0, 0, 0, tag), 2, 1)
    store.commit(help.chunk(5), 2, tag, UpdateResult(Code.OK, 2))
    assert contents(made, 1) != contents(made, 2)
    await client.resync(NodeId(2), TargetId(102))
    await made.until(lambda: made.manager.routing.chains[ChainId(1)].slot(TargetId(102)).state is not SERVING)
    with pytest.raises(FS3Error, match="nobody else does") as refused:
        await client.resync(NodeId(1), TargetId(101))
    assert refused.value.code is Code.BUSY
    with pytest.raises(FS3Error, match="no target 77"):
        await client.resync(NodeId(1), TargetId(77))
    await all_serve(made)
    await made.idle()
    assert contents(made, 1) == contents(made, 2)
    assert set(filled(made)) == {help.chunk(5)}
    made.assert_clean()


async def test_an_empty_replacement_disk_is_filled(cluster, help):
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(number, bytes([number % 251]) * 5000) for number in range(300)])
    await made.idle()
    await made.crash(1)
    made.manager.lose(1)
    shutil.rmtree(made.path / "node-1")
    await made.start(1)
    assert made.manager.registered[1].incarnation == 2, "the manager knows how often it was started"
    await all_serve(made)
    assert made.services[1]._disks.read_note(TargetId(101)).whole
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)
    assert len(contents(made, 1)[0]) == 300
    states = [[slot.state for slot in chain.slots] for chain in made.manager.history]
    assert [SERVING, SERVING, SYNCING] in states
    made.assert_clean()


async def test_writes_go_on_while_a_target_is_brought_up_to_date(cluster, help):
    made = await following(cluster, chains=1)
    clients = [made.client() for _ in range(3)]
    await clients[0].update([help.write(number, bytes([1]) * 4000) for number in range(200)])
    await made.crash(3)
    made.manager.lose(3)
    shutil.rmtree(made.path / "node-3")
    done = {}
    stop = asyncio.Event()

    async def writer(client, first):
        round_ = 0
        while not stop.is_set():
            round_ += 1
            for number in range(first, 200, 20):
                (result,) = await client.update([help.write(number, bytes([1 + round_ % 250]) * 4000)])
                assert result.code is Code.OK
                done[number] = round_

    writers = asyncio.gather(*(writer(client, index) for index, client in enumerate(clients)))
    await made.start(3, settle=False)
    await all_serve(made, quiet=False)
    before = dict(done)
    await made.until(lambda: all(done[number] > before.get(number, 0) for number in range(0, 200, 20)))
    stop.set()
    await writers
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)
    for number, round_ in done.items():
        assert await help.get(clients[0], number, 4000) == (Code.OK, bytes([1 + round_ % 250]) * 4000)
    made.assert_clean()


async def test_a_resync_that_another_chain_change_interrupts_goes_on(cluster, help):
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(number, bytes([2]) * 20_000) for number in range(100)])
    await made.idle()
    await made.crash(3)
    made.manager.lose(3)
    await client.update([help.write(number, bytes([3]) * 20_000) for number in range(100)])
    # Slowly enough that it is under way when the next node goes.
    made.manager.config = (1, "resync_bytes_per_second = 1000000\n")
    await made.until(lambda: all(service.config.resync_bytes_per_second for service in made.services.values()))
    since = len(made.network.log)
    await made.start(3)
    await made.until(lambda: len(filled(made, since)) >= 10)
    await made.crash(1)
    made.manager.lose(1)
    before = len(made.network.log)
    moved = set(filled(made, since))
    assert len(moved) < 100
    made.manager.config = (2, "")
    await made.until(lambda: made.manager.routing.chains[ChainId(1)].slots[1].state is SERVING)
    again = filled(made, before)
    assert len(set(again)) <= 100 - len(moved) + 70, "what was moved is found equal by its digest"
    assert set(again) | moved == {help.chunk(number) for number in range(100)}
    await made.start(1)
    await all_serve(made)
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)


async def test_the_channels_of_clients_are_handed_over(cluster, help):
    """A client whose answer was lost asks again after everybody who knew has gone: it gets the first result."""
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(1, b"base")])
    await made.idle()
    (request,) = [request for _, request in made.network.requests("Update") if not request.from_target]
    await made.crash(2)
    made.manager.lose(2)
    shutil.rmtree(made.path / "node-2")
    await made.start(2)
    await all_serve(made)
    for node in (1, 3):
        await made.crash(node)
        made.manager.lose(node)
    await made.until(lambda: made.shell(1, 2).replica.position.is_last)
    version = made.manager.routing.chains[ChainId(1)].version
    request.chain_versions[:] = [version]
    reply = (await made.network.connect("fake://2").call(help.STORAGE.Update, request, [b"base"])).message
    assert (list(reply.codes), list(reply.versions)) == ([0], [1])
    assert made.store(1, 2).get(help.chunk(1)).committed == 1


async def test_all_were_lost_and_whoever_is_back_first_goes_on(cluster, help):
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(number, b"kept") for number in range(20)])
    await made.idle()
    nodes = (1, 2, 3)
    for node in nodes:
        await made.crash(node)
    for node in nodes:
        made.manager.dead.add(node)
    made.manager.follow()
    chain = made.manager.routing.chains[ChainId(1)]
    assert {slot.state for slot in chain.slots} == {PublicState.LASTSRV}
    await made.start(3)
    await made.until(lambda: made.manager.routing.chains[ChainId(1)].slots[0].state is SERVING)
    assert (await client.update([help.write(50, b"alone")]))[0].code is Code.OK
    await made.start(1, 2)
    await all_serve(made)
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)
    assert await help.get(client, 7, 4) == (Code.OK, b"kept")
    assert await help.get(client, 50, 5) == (Code.OK, b"alone")


async def test_a_clean_stop_hands_over_and_the_return_moves_nothing(cluster, help):
    made = await following(cluster, chains=2)
    client = made.client()
    await client.update([help.write(number, b"x" * 500, chain=1 + number % 2) for number in range(100)])
    await made.idle()
    version = made.manager.routing.chains[ChainId(1)].version
    await made.stop_node(1)
    assert made.manager.routing.chains[ChainId(1)].version > version, "the chain went on before the node had stopped"
    assert (await client.update([help.write(3, b"y" * 500, chain=2)]))[0].code is Code.OK
    since = len(made.network.log)
    await made.start(1)
    await all_serve(made)
    assert filled(made, since) == [help.chunk(3)]
    made.assert_clean()


async def test_several_targets_at_once_and_no_more_than_allowed(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.resync.scheduler.resync_targets_max", 2)
    made = await following(cluster, nodes=2, chains=5)
    client = made.client()
    await client.update([help.write(number, b"x" * 2000, chain=1 + number % 5) for number in range(200)])
    await made.idle()
    await made.crash(2)
    made.manager.lose(2)
    shutil.rmtree(made.path / "node-2")
    scheduler = made.services[1]._scheduler
    most = []
    set_paces = scheduler._set_paces

    def watch():
        set_paces()
        most.append(sum(source._pace.fills_max > 1 for source in scheduler._sources))

    scheduler._set_paces = watch
    await made.start(2)
    await all_serve(made)
    assert max(most) == 2
    for chain in range(1, 6):
        assert contents(made, 1, chain) == contents(made, 2, chain)


async def test_progress_is_reported(cluster, help):
    made = await following(cluster, nodes=2, chains=1)
    client = made.client()
    await client.update([help.write(number, bytes(50_000)) for number in range(40)])
    await made.idle()
    await made.crash(2)
    made.manager.lose(2)
    shutil.rmtree(made.path / "node-2")
    made.manager.config = (1, "resync_bytes_per_second = 1500000\n")
    await made.until(lambda: made.services[1].config.resync_bytes_per_second)
    await made.start(2)
    seen = []

    def look():
        told = [report.upkeep for report in made.manager.beats[1].targets]
        seen.extend(upkeep for upkeep in told if upkeep.resync_target_id and upkeep.resync_bytes)
        return len(seen) > 3 and seen[-1].resync_bytes > seen[0].resync_bytes and seen[-1].resync_bytes_per_second

    await made.until(look)
    assert seen[-1].resync_target_id == 102
    assert 0 < seen[-1].resync_done_chunks <= seen[-1].resync_total_chunks == 40
    made.manager.config = (2, "")
    await all_serve(made)


async def test_a_damaged_store_is_replaced_while_others_serve(cluster, help):
    made = await following(cluster, chains=2)
    client = made.client()
    await client.update([help.write(number, b"x" * 3000, chain=1 + number % 2) for number in range(100)])
    await made.stop_node(2)
    index = made.path / "node-2" / "targets" / "102" / "index" / "data.mdb"
    index.write_bytes(b"\xff" * 8192)
    await made.start(2)
    await all_serve(made)
    await made.idle()
    assert contents(made, 1) == contents(made, 2) == contents(made, 3)
    kept = made.path / "node-2" / "targets" / "102.damaged-1" / "index" / "data.mdb"
    assert kept.read_bytes() == b"\xff" * 8192


async def test_a_disk_that_fails_takes_only_its_own_targets(cluster, help):
    made = await cluster(start=False, chains=6)
    made.manager.follows = True
    made.disks = 2
    await made.start()
    await all_serve(made)
    client = made.client()
    await client.update([help.write(number, b"x" * 2000, chain=1 + number % 6) for number in range(60)])
    await made.stop_node(2)
    second = made.path / "node-2-disk-2"
    broken = {int(home.name) for home in (second / "targets").iterdir()}
    assert 0 < len(broken) < 6
    second.rename(made.path / "pulled out")
    second.write_text("not a directory")
    await made.start(2, settle=False)
    good = {chain * 100 + 2 for chain in range(1, 7)} - broken

    def states():
        beat = made.manager.beats.get(2)
        return {report.target: LocalState(report.state) for report in beat.targets} if beat is not None else {}

    await made.until(
        lambda: states() == {**dict.fromkeys(good, LocalState.UPTODATE), **dict.fromkeys(broken, LocalState.OFFLINE)}
    )
    reasons = {report.reason for report in made.manager.beats[2].targets if report.target in broken}
    assert all("node-2-disk-2" in reason for reason in reasons)
    # The disk is back: its targets come back with what they have.
    await made.stop_node(2)
    second.unlink()
    (made.path / "pulled out").rename(second)
    await made.start(2)
    await all_serve(made)
    for chain in range(1, 7):
        assert contents(made, 1, chain) == contents(made, 2, chain) == contents(made, 3, chain)


async def test_a_damaged_store_that_is_the_only_one_is_left_alone(cluster, help):
    made = await following(cluster, nodes=1, chains=1)
    client = made.client()
    await client.update([help.write(1, b"precious")])
    await made.stop_node(1)
    index = made.path / "node-1" / "targets" / "101" / "index" / "data.mdb"
    good = index.read_bytes()
    index.write_bytes(b"\xff" * 8192)
    await made.start(1)
    await made.until(lambda: 1 in made.manager.beats and made.manager.beats[1].targets)
    (report,) = made.manager.beats[1].targets
    assert report.state == LocalState.OFFLINE
    assert report.reason
    assert index.read_bytes() == b"\xff" * 8192
    # The operator has a copy.
    await made.stop_node(1)
    index.write_bytes(good)
    await made.start(1)
    await all_serve(made)
    assert await help.get(client, 1, 8) == (Code.OK, b"precious")


async def test_a_head_that_wakes_up_after_its_lease_says_nothing_stale(cluster, help):
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(1, b"old")])
    await made.idle()
    head = made.services[1]
    # It is stopped: nothing reaches it, and its clock, which went on, says that the lease is over.
    made.manager._callbacks.remove(head._on_routing_changed)
    head.member._heartbeat_task.cancel()
    await asyncio.gather(head.member._heartbeat_task, return_exceptions=True)
    head.member.lease.until = help.CLOCK.now()
    made.manager.lose(1)
    await made.until(lambda: made.manager.routing.chains[ChainId(1)].version > 1)
    assert (await client.update([help.write(1, b"new")]))[0].code is Code.OK
    # It wakes up, and still believes in the chain it knew.
    channel = made.network.connect("fake://1")
    request = help.pb.ReadRequest(chunks=help.chunk(1), chains=[1], chain_versions=[1], offsets=[0], lengths=[3])
    reply = (await channel.call(help.STORAGE.Read, request)).message
    assert Code(reply.codes[0]) is Code.LEASE
    find = help.pb.FindRequest(chunks=help.chunk(1), chains=[1], chain_versions=[1])
    reply = (await channel.call(help.STORAGE.Find, find)).message
    assert Code(reply.codes[0]) is Code.LEASE
    update = next(request for _, request in made.network.requests("Update") if not request.from_target)
    reply = (await channel.call(help.STORAGE.Update, update, [b"old"])).message
    assert Code(reply.codes[0]) is Code.LEASE
    for _ in range(5):
        assert await help.get(client, 1, 3) == (Code.OK, b"new")
    made.manager.on_change(head._on_routing_changed)


@pytest.mark.parametrize("node", [1, 2, 3])
async def test_a_silent_node_holds_nobody_up_once_the_chain_has_changed(cluster, help, node):
    """It neither answers nor closes its connections; more is under way to it than it may have at once."""
    made = await following(cluster, chains=1)
    client = made.client()
    await client.update([help.write(0, b"x")])
    made.network.fault = lambda endpoint, method, request: "lose request" if endpoint == f"fake://{node}" else None
    writing = asyncio.gather(*(client.update([help.write(number, b"y" * 100 * KIB)]) for number in range(60)))
    await made.until(lambda: len(made.network.requests("Update")) > 10)
    made.manager.lose(node)
    async with asyncio.timeout(2):
        results = await writing
    assert all(result.code is Code.OK for (result,) in results)


async def test_a_node_under_load_brings_its_successor_up_to_date_slowly(cluster, help):
    made = await following(cluster, nodes=2, chains=1, memory=True)
    scheduler = made.services[1]._scheduler
    source = made.shell(1, 1).source
    scheduler.add(source)
    made.services[1]._foreground.touch()
    scheduler.reschedule()
    assert source._pace.fills_max < StorageConfig().resync_fills_max
    made.services[1]._foreground._last_ns = 0
    scheduler.reschedule()
    assert source._pace.fills_max == StorageConfig().resync_fills_max


async def test_a_target_without_room_says_so_and_tries_again(cluster, help):
    from fs3.drivers.chunks import ChunkStoreConfig

    made = await cluster(start=False, chains=1)
    made.manager.follows = True
    await made.start()
    await all_serve(made)
    client = made.client()
    await client.update([help.write(number, bytes([number]) * 200 * KIB) for number in range(40)])
    await made.crash(2)
    made.manager.lose(2)
    shutil.rmtree(made.path / "node-2")
    made.store_config[2] = ChunkStoreConfig(capacity_bytes=2 * MIB)
    await made.start(2)
    await made.until(
        lambda: 2 in made.manager.beats and any(report.state == LocalState.OFFLINE for report in made.manager.beats[2].targets)
    )
    (report,) = made.manager.beats[2].targets
    assert report.reason
    # The chain serves on without it.
    assert (await client.update([help.write(100, b"fine")]))[0].code is Code.OK
    await made.until(lambda: [slot.state for slot in made.manager.routing.chains[ChainId(1)].slots][2] is OFFLINE)
