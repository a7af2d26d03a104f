"""Crashes, full disks and late duplicates: nothing acknowledged is lost, and the chain goes on."""

import asyncio
import random

from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.drivers.chunks import ChunkStoreConfig
from fs3.model.chain import LocalState, PublicState
from fs3.model.chunk import UpdateKind
from fs3.ports.chunk_store import StageResult

SERVING, OFFLINE = PublicState.SERVING, PublicState.OFFLINE


async def test_everything_is_there_after_a_clean_restart(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(number, bytes([number]) * 5000, chain=1 + number % 2) for number in range(20)])
    for node in (1, 2, 3):
        await made.stop_node(node)
    await made.start()
    assert all(shell.replica.flights.orphans == {} for service in made.services.values() for shell in service.targets.values())
    for number in range(20):
        assert await help.get(client, number, 5000, chain=1 + number % 2) == (Code.OK, bytes([number]) * 5000)
    made.assert_clean()


async def test_the_boot_counter_rises_and_the_targets_are_reported(cluster, help):
    made = await cluster(chains=1)
    assert made.manager.registered[1].incarnation == 1
    assert list(made.manager.registered[1].targets) == []
    await made.stop_node(1)
    await made.start(1)
    assert made.manager.registered[1].incarnation == 2
    assert list(made.manager.registered[1].targets) == [101]


async def test_pending_updates_are_finished_after_the_whole_chain_crashed(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"old" * 10_000)])
    made.network.hold("Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(client.update([help.write(1, b"new" * 10_000), help.change(2, UpdateKind.REMOVE)]))
    await help.until(lambda: made.network.held)
    for node in (1, 2, 3):
        await made.crash(node)
    made.network.held.clear()
    made.network.fault = lambda endpoint, method, request: None
    await made.start()
    await made.idle()
    # Head and middle had it staged: they send it again, under its own name, so the client's repetition is recognised.
    results = await writing
    assert [result.code for result in results] == [Code.OK, Code.OK]
    assert results[0].version == 2
    await made.idle()
    assert {replica[:3] for replica in made.replicas(1, help.chunk(1))} == {(2, 0, 30_000)}
    for _ in range(3):
        assert await help.get(client, 1, 30_000) == (Code.OK, b"new" * 10_000)
    made.assert_clean()


async def test_a_head_that_restarts_sends_its_large_pending_chunks_again(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    contents = {number: bytes([number]) * (300 * KIB) for number in range(12)}
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(number, data) for number, data in contents.items()]))
    await help.until(lambda: len(made.store(1, 1).list_pending()) == 12)
    await made.crash(1)
    made.network.held.clear()
    made.network.fault = lambda endpoint, method, request: None
    await made.start(1)
    results = await writing
    assert all(result.code is Code.OK and result.version == 1 for result in results)
    await made.idle()
    for number, data in contents.items():
        assert len(set(made.replicas(1, help.chunk(number)))) == 1
        assert await help.get(client, number, len(data)) == (Code.OK, data)
    fills = [request for _, request in made.network.requests("Update") if UpdateKind.FILL in request.kinds]
    assert fills, "what the restart left pending travels as whole chunks"


async def test_a_full_disk_in_the_middle(cluster, help):
    made = await cluster(chains=1, start=False)
    made.store_config[2] = ChunkStoreConfig(capacity_bytes=1 * MIB)
    await made.start()
    client = made.client()
    data = bytes(200 * KIB)
    written = []
    for number in range(20):
        (result,) = await client.update([help.write(number, data)])
        if result.code is not Code.OK:
            break
        written.append(number)
    assert result.code is Code.NO_SPACE
    assert "NO_SPACE" in result.code.name
    assert 3 <= len(written) < 10
    # Nothing is lost, reads go on, and of the refused chunk nobody sees anything.
    for _ in range(3):
        for number in written:
            assert await help.get(client, number, 200 * KIB) == (Code.OK, data)
        assert (await help.get(client, len(written), 10))[0] is Code.NOT_FOUND
    # Room is made; the chunk that was refused can be written.
    results = await client.update([help.change(number, UpdateKind.REMOVE) for number in written[:2]])
    assert [result.code for result in results] == [Code.OK] * 2
    (result,) = await client.update([help.write(len(written), b"y" * 1000)])
    assert result.code is Code.OK
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(len(written))))) == 1
    made.assert_clean()


async def test_a_disk_that_fails_takes_its_target_offline_and_no_other(cluster, help):
    made = await cluster(chains=2)
    client = made.client()
    await client.update([help.write(1, b"safe"), help.write(2, b"other", chain=2)])
    store = made.store(1, 2)
    stage = store.stage

    async def broken(update, version, chain_version, prewritten=None):
        return StageResult(Code.DISK, message="input/output error")

    store.stage = broken
    writing = asyncio.ensure_future(client.update([help.write(1, b"more")]))
    await help.until(lambda: any(report.reason for report in made.manager.beats[2].targets))
    reports = {report.target: report for report in made.manager.beats[2].targets}
    assert reports[102].state == LocalState.OFFLINE
    assert "input/output error" in reports[102].reason
    assert reports[202].state == LocalState.UPTODATE
    assert made.shell(1, 2).read_gate(1, 0)[0] is Code.NOT_SERVING
    # The manager lets the chain go on without it.
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 3: SERVING, 2: OFFLINE}))
    (result,) = await writing
    assert result.code is Code.OK
    assert await help.get(client, 1, 4) == (Code.OK, b"more")
    assert (await client.update([help.write(2, b"fine", chain=2)]))[0].code is Code.OK
    store.stage = stage


async def test_a_machine_that_fails_is_not_asked_again(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    machine = made.shell(1, 1)._machine

    def broken(now, event):
        raise AssertionError("planted")

    machine.step = broken
    (result,) = await client.update([help.write(1, b"x")], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE
    assert "planted" in result.message
    assert "planted" in made.shell(1, 1).failure
    await help.until(lambda: any("planted" in report.reason for report in made.manager.beats[1].targets))


async def test_a_late_duplicate_of_a_forward_changes_nothing(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"first")])
    endpoint, request = next(item for item in made.network.requests("Update") if item[1].from_target == 101)
    await client.update([help.write(1, b"second")])
    await client.update([help.change(1, UpdateKind.REMOVE)])
    await made.idle()
    reply = await made.network.connect(endpoint).call(help.STORAGE.Update, request, [b"first"])
    assert Code(reply.message.codes[0]) is Code.STALE_UPDATE
    await made.idle()
    assert made.replicas(1, help.chunk(1)) == [None] * 3


async def test_updates_under_way_survive_many_chain_changes(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    done = 0

    async def writer(number):
        nonlocal done
        for round_ in range(15):
            (result,) = await client.update([help.write(number, bytes([round_]) * 2000)])
            assert result.code is Code.OK
            assert result.version == round_ + 1, "applied exactly once"
            done += 1

    writers = asyncio.gather(*(writer(number) for number in range(6)))
    version = 1
    while not writers.done():
        # A new version of the same chain, each time somebody has got a little further.
        before = done
        await help.until(lambda before=before: done > before + 3 or writers.done())
        version += 1
        made.manager.set_chain(help.chain_of(1, version, {1: SERVING, 2: SERVING, 3: SERVING}))
    await writers
    await made.settled()
    assert version > 5
    for number in range(6):
        assert len(set(made.replicas(1, help.chunk(number)))) == 1
        assert await help.get(client, number, 2000) == (Code.OK, bytes([14]) * 2000)
    made.assert_clean()


async def test_a_payload_is_within_lease_until_nobody_uses_it(cluster, help):
    """The target leaves the chain while its disk works: the buffer must not go back before the disk is done."""
    made = await cluster(chains=1)
    client = made.client()
    store = made.store(1, 1)
    stage = store.stage
    gate = asyncio.Event()
    seen = []

    async def slow(update, version, chain_version, prewritten=None):
        await gate.wait()
        seen.append(bytes(update.data))
        return await stage(update, version, chain_version)

    store.stage = slow
    writing = asyncio.ensure_future(client.update([help.write(1, b"precious")]))
    await help.until(lambda: made.shell(1, 1).waiter_count == 1)
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 3: SERVING, 1: OFFLINE}))
    await help.until(lambda: made.shell(1, 1).replica.chain.version == 2)
    (call,) = [call for call in made.network.calls if call.method.name == "Update" and not call.request.from_target][:1]
    assert not call.released
    gate.set()
    await help.until(lambda: call.released)
    assert seen[0] == b"precious"
    assert (await writing)[0].code is Code.OK
    assert ChainId(1) in made.manager.routing.chains


async def test_a_disk_that_fails_at_the_head_does_not_fail_the_write(cluster, help):
    made = await cluster(chains=1)
    client = made.client()

    async def broken(update, version, chain_version, prewritten=None):
        return StageResult(Code.DISK, message="input/output error")

    made.store(1, 1).stage = broken
    writing = asyncio.ensure_future(client.update([help.write(1, b"data")]))
    await help.until(lambda: made.shell(1, 1).failure)
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 3: SERVING, 1: OFFLINE}))
    assert (await writing)[0].code is Code.OK
    assert await help.get(client, 1, 4) == (Code.OK, b"data")


async def test_a_chain_of_one_says_that_its_disk_failed(cluster, help):
    made = await cluster(nodes=1, chains=1)

    async def broken(update, version, chain_version, prewritten=None):
        return StageResult(Code.DISK, message="input/output error")

    made.store(1, 1).stage = broken
    (result,) = await made.client().update([help.write(1, b"data")])
    assert result.code is Code.DISK


async def test_buffers_go_back_while_the_successor_is_slow(cluster, help, monkeypatch):
    """What waits for a successor is not kept in request buffers: they go back, and the store has the bytes."""
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.lent_bytes_max", 1 * MIB)
    made = await cluster(chains=1)
    client = made.client()
    contents = {number: random.Random(number).randbytes(300 * KIB) for number in range(20)}
    made.network.hold("Update", lambda request: request.from_target)
    writing = asyncio.gather(*(client.update([help.write(number, data)]) for number, data in contents.items()))
    head = made.services[1]
    await help.until(lambda: len(made.store(1, 1).list_pending()) == 20 and head.held().payload_bytes <= 1 * MIB)
    assert head.held().lent_bytes <= 1 * MIB
    assert head.held().jobs == 20
    made.network.let_go()
    assert all(result.code is Code.OK and result.version == 1 for (result,) in await writing)
    await made.idle()
    for number, data in contents.items():
        assert len(set(made.replicas(1, help.chunk(number)))) == 1
        assert await help.get(client, number, len(data)) == (Code.OK, data)
    made.assert_clean()


async def test_nothing_lent_at_all_still_works(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.lent_bytes_max", 0)
    made = await cluster()
    client = made.client()
    image = bytearray(300_000)
    prng = random.Random(5)
    for _ in range(30):
        offset = prng.randrange(200_000)
        data = prng.randbytes(prng.choice((1, 100, 5000, 70_000)))
        image[offset : offset + len(data)] = data
        (result,) = await client.update([help.write(1, data, offset=offset)])
        assert result.code is Code.OK
    await made.idle()
    length = made.replicas(1, help.chunk(1))[0][2]
    assert await help.get(client, 1, 300_000) == (Code.OK, bytes(image[:length]))
    kinds = {kind for _, request in made.network.requests("Update") for kind in request.kinds}
    assert kinds == {UpdateKind.WRITE}, "they travel as what they were"
    made.assert_clean()


async def test_an_update_resent_after_its_buffer_went_back_comes_from_the_store(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.lent_bytes_max", 0)
    made = await cluster(chains=1)
    client = made.client()
    data = random.Random(1).randbytes(100_000)
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(1, data)]))
    await help.until(lambda: made.network.held)
    assert made.services[1].held().payload_bytes == 0
    made.network.held.clear()
    made.network.fault = lambda endpoint, method, request: None
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 3: SERVING, 2: OFFLINE}))
    assert (await writing)[0].code is Code.OK
    assert await help.get(client, 1, 100_000) == (Code.OK, data)


async def test_only_so_much_waits_behind_a_busy_chunk(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.parked_bytes_max", 100_000)
    made = await cluster(chains=1)
    clients = [made.client() for _ in range(6)]
    made.network.hold("Update", lambda request: request.from_target == 101)
    first = asyncio.ensure_future(clients[0].update([help.write(1, b"0" * 40_000)]))
    await help.until(lambda: made.network.held)
    others = asyncio.gather(*(client.update([help.write(1, b"%d" % n * 40_000)]) for n, client in enumerate(clients[1:])))
    await help.until(lambda: sum(client.updates.retries for client in clients) > 3)
    assert made.services[1].held().parked_bytes == 80_000
    made.network.let_go()
    assert (await first)[0].code is Code.OK
    assert all(result.code is Code.OK for (result,) in await others)
    await made.idle()
    assert made.replicas(1, help.chunk(1))[0][:3] == (6, 0, 40_000)
    made.assert_clean()


async def test_a_machine_that_fails_keeps_the_bytes_the_disk_is_working_on(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    shell = made.shell(1, 1)
    stage, step = shell.store.stage, shell._machine.step
    gate = asyncio.Event()
    seen = []

    async def slow(update, version, chain_version, prewritten=None):
        await gate.wait()
        seen.append(bytes(update.data))
        return await stage(update, version, chain_version)

    def broken(now, event):
        raise AssertionError("planted")

    shell.store.stage = slow
    first = asyncio.ensure_future(client.update([help.write(1, b"precious")], timeout_ns=SECOND // 5))
    await help.until(lambda: len(shell.staging))
    shell._machine.step = broken
    second = asyncio.ensure_future(client.update([help.write(2, b"x")], timeout_ns=SECOND // 5))
    await help.until(lambda: shell.failure)
    call = next(call for call in made.network.calls if call.method.name == "Update")
    assert not call.released
    gate.set()
    await help.until(lambda: call.released)
    assert seen == [b"precious"]
    shell._machine.step = step
    assert {result.code for (result,) in await asyncio.gather(first, second)} == {Code.DEADLINE}
    assert made.services[1].held().payload_bytes == 0


async def test_writers_of_one_chunk_whose_bytes_come_from_the_store(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.forwarding.payloads.lent_bytes_max", 0)
    made = await cluster(chains=1)
    clients = [made.client() for _ in range(4)]
    results = await asyncio.gather(*(client.update([help.write(1, b"%d" % n * 90_000)]) for n, client in enumerate(clients * 5)))
    assert sorted(result.version for (result,) in results) == list(range(1, 21))
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    code, data = await help.get(clients[0], 1, 200_000)
    assert code is Code.OK
    assert len(set(data[:90_000])) <= 2, "the last write is whole"
    made.assert_clean()
