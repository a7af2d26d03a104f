"""A storage node: its disks, its heartbeats, its lease, what it says about itself, and how it stops."""

import asyncio

import msgspec
import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TableId, TargetId
from fs3.base.limits import list_entries_max
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.chain import LocalState, PublicState
from fs3.model.cluster import CacheNamespace
from fs3.services.storage import StorageConfig

SERVING = PublicState.SERVING


# --- targets ---------------------------------------------------------------------------------------------------------


async def test_targets_of_new_chains_are_made(cluster, help):
    made = await cluster(chains=1)
    made.manager.set_chain(help.chain_of(9, 1, {2: SERVING, 3: SERVING}))
    await made.settled()
    assert (made.path / "node-2" / "targets" / "902").is_dir()
    (result,) = await made.client().update([help.write(1, b"x", chain=9)])
    assert result.code is Code.OK
    await help.until(lambda: {report.target for report in made.manager.beats[2].targets} == {102, 902})
    assert {report.state for report in made.manager.beats[2].targets} == {LocalState.UPTODATE}


async def test_a_target_that_was_complete_once_and_is_not_here_comes_back_empty_and_says_so(cluster, help):
    made = await cluster(chains=1, start=False)
    made.manager.born.add(102)
    await made.start()
    await help.until(lambda: 2 in made.manager.beats and made.manager.beats[2].targets)
    (report,) = made.manager.beats[2].targets
    assert report.state == LocalState.ONLINE
    assert "was lost" in report.reason
    assert not made.services[2]._disks.read_note(TargetId(102)).whole
    # It takes no part although the chain says so: it would show holes where there are chunks.
    assert made.shell(1, 2).read_gate(1, help.CLOCK.now())[0] is Code.NOT_SERVING


async def test_a_target_that_cannot_be_opened_does_not_keep_the_others(cluster, help):
    made = await cluster(chains=2)
    await made.client().update([help.write(1, b"x"), help.write(2, b"y", chain=2)])
    await made.stop_node(2)
    target = made.path / "node-2" / "targets" / "102"
    for file in target.iterdir():
        if file.is_file():
            file.write_bytes(b"\xff" * 5000)
        else:
            for inner in file.iterdir():
                inner.write_bytes(b"\xff" * 5000)
    await made.start(2)
    await help.until(lambda: 2 in made.manager.beats and not made.manager.beats[2].leaving)
    reports = {report.target: report for report in made.manager.beats[2].targets}
    assert reports[102].state == LocalState.OFFLINE
    assert reports[102].reason
    assert reports[202].state == LocalState.UPTODATE


async def test_states_follow_the_chain(cluster, help):
    made = await cluster(chains=1)
    shell = made.shell(1, 2)
    for version, state, local in [
        (2, PublicState.LASTSRV, LocalState.UPTODATE),
        (3, PublicState.SYNCING, LocalState.ONLINE),
        (4, PublicState.WAITING, LocalState.ONLINE),
        (5, PublicState.OFFLINE, LocalState.ONLINE),
        (6, PublicState.SERVING, LocalState.UPTODATE),
    ]:
        made.manager.set_chain(help.chain_of(1, version, {1: SERVING, 2: state}))
        await help.until(lambda version=version: shell.replica.chain.version == version)
        assert shell.local_state() is local
        await help.until(lambda version=version: [report.chain_version for report in made.manager.beats[2].targets] == [version])
        assert made.manager.beats[2].targets[0].state == local


# --- heartbeats, lease, configuration --------------------------------------------------------------------------------


async def test_heartbeats_report_space_and_routing(cluster, help):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, bytes(1 * MIB))])
    await help.until(lambda: 2 in made.manager.beats and made.manager.beats[2].targets[0].chunks == 1)
    beat = made.manager.beats[2]
    assert beat.targets[0].used_bytes >= 1 * MIB
    assert beat.targets[0].free_bytes > 0
    assert beat.routing_version == made.manager.routing.version
    seq = beat.seq
    await help.until(lambda: made.manager.beats[2].seq > seq)


async def test_the_lease_counts_from_the_sending_and_runs_out(cluster, help):
    made = await cluster(chains=1)
    service = made.services[1]
    await help.until(lambda: service.may_serve(help.CLOCK.now()))
    made.manager.answer_beats = False
    until = service.member.lease.until
    assert until <= help.CLOCK.now() + 3 * SECOND
    assert service.may_serve(until - 1)
    assert not service.may_serve(until)


async def test_an_enforced_lease_stops_reads_and_writes(cluster, help):
    made = await cluster(chains=1, start=False)
    await made.start(config=StorageConfig(enforce_lease=True))
    client = made.client()
    await help.until(lambda: all(service.may_serve(help.CLOCK.now()) for service in made.services.values()))
    await client.update([help.write(1, b"data")])
    made.manager.answer_beats = False
    for service in made.services.values():
        service.member.lease.until = 0
    request = help.pb.ReadRequest(chunks=help.chunk(1), chains=[1], chain_versions=[1], offsets=[0], lengths=[4])
    reply = await made.network.connect("fake://1").call(help.STORAGE.Read, request)
    assert Code(reply.message.codes[0]) is Code.LEASE
    (result,) = await client.update([help.write(1, b"more")], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE
    assert "LEASE" in result.message
    made.manager.answer_beats = True
    assert await help.get(client, 1, 4) == (Code.OK, b"data")


async def test_configuration_is_applied_while_running(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    made.manager.config = (1, "read_only = true\n")
    await help.until(lambda: all(service.config.read_only for service in made.services.values()))
    (result,) = await client.update([help.write(1, b"x")])
    assert result.code is Code.PERMISSION
    # A mistake is named in the log and changes nothing.
    made.manager.config = (2, "read_only = 5\n")
    await help.until(lambda: all(beat.config_version == 2 for beat in made.manager.beats.values()))
    assert made.services[1].config.read_only
    made.manager.config = (3, "")
    await help.until(lambda: not any(service.config.read_only for service in made.services.values()))
    assert (await client.update([help.write(1, b"x")]))[0].code is Code.OK


async def test_a_node_the_manager_forgot_registers_again(cluster, help):
    made = await cluster(chains=1)
    manager = made.manager
    answer = manager.heartbeat
    forgot = []

    async def heartbeat(request, timeout_ns=SECOND, attempt_ns=0):
        if request.node == 1 and not forgot:
            forgot.append(manager.registered.pop(1))
            raise FS3Error(Code.UNKNOWN_NODE, "who?")
        return await answer(request, timeout_ns)

    manager.heartbeat = heartbeat
    await help.until(lambda: forgot and 1 in manager.registered)
    assert manager.registered[1].incarnation == forgot[0].incarnation


async def test_a_node_that_registers_again_says_which_cluster_it_was_of(cluster, help):
    """What was removed since it first came, with an empty directory, is no new node."""
    made = await cluster(chains=1)
    manager = made.manager
    answer = manager.heartbeat
    first = manager.registered[1]

    async def heartbeat(request, timeout_ns=SECOND, attempt_ns=0):
        if request.node == 1 and manager.registered[1] is first:
            raise FS3Error(Code.UNKNOWN_NODE, "who?")
        return await answer(request, timeout_ns)

    manager.heartbeat = heartbeat
    await help.until(lambda: manager.registered[1] is not first)
    assert (first.cluster, manager.registered[1].cluster) == (b"", manager.cluster)


async def test_a_superseded_process_stops_serving(cluster, help):
    made = await cluster(chains=1)
    answer = made.manager.heartbeat

    async def heartbeat(request, timeout_ns=SECOND, attempt_ns=0):
        if request.node == 1:
            raise FS3Error(Code.OLD_INCARNATION, "started elsewhere")
        return await answer(request, timeout_ns)

    made.manager.heartbeat = heartbeat
    await help.until(lambda: made.services[1].member.is_superseded)
    with pytest.raises(FS3Error) as caught:
        await made.network.connect("fake://1").call(help.STORAGE.Find, help.pb.FindRequest())
    assert caught.value.code is Code.SHUTTING_DOWN
    assert not made.services[1].may_serve(help.CLOCK.now())


# --- life ------------------------------------------------------------------------------------------------------------


async def test_before_it_has_started_a_node_says_so(cluster, help):
    made = await cluster(chains=1, start=False)
    disks = DataDirectories([made.path / "node-1"], "storage-1")
    from fs3.services.storage import StorageService

    service = StorageService(disks, None, help.CLOCK, made.manager, None, StorageConfig())
    made.network.servers["fake://1"] = service.bindings()
    with pytest.raises(FS3Error, match="is starting") as caught:
        await made.network.connect("fake://1").call(help.STORAGE.Find, help.pb.FindRequest())
    assert caught.value.code is Code.NOT_SERVING


async def test_a_clean_stop_finishes_what_is_under_way_and_hands_over(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(1, b"last words")]))
    await help.until(lambda: made.network.held)
    service = made.services[1]
    stopping = asyncio.ensure_future(service.stop())
    await help.until(lambda: made.manager.beats[1].leaving)
    with pytest.raises(FS3Error) as caught:
        await made.network.connect("fake://1").call(help.STORAGE.Find, help.pb.FindRequest())
    assert caught.value.code is Code.SHUTTING_DOWN
    made.network.let_go()
    await stopping
    assert (await writing)[0].code is Code.OK
    assert made.manager.beats[1].leaving
    assert not service.may_serve(help.CLOCK.now())


async def test_a_stop_does_not_wait_for_ever(cluster, help):
    made = await cluster(chains=1, start=False)
    await made.start(config=StorageConfig(stop_grace_ms=10))
    client = made.client()
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(1, b"too late")]))
    await help.until(lambda: made.network.held)
    await made.services[1].stop()
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 3: SERVING, 1: PublicState.OFFLINE}))
    made.network.let_go()
    assert (await writing)[0].code is Code.OK


# --- namespaces ------------------------------------------------------------------------------------------------------


async def test_the_namespaces_are_known_when_routing_tells_of_them(cluster, help):
    made = await cluster(chains=1)
    first = CacheNamespace(1, "a", 1000, 3, TableId(1), budget_bytes=5000)
    made.manager.set_namespaces(first, next_id=2)
    tables = [made.services[node].namespaces for node in (1, 2, 3)]
    await help.until(lambda: all(table.get(1) == first for table in tables))
    assert not any(table.is_deleted(1) or table.is_deleted(2) for table in tables)
    cleared = msgspec.structs.replace(first, id=2, first_id=1, budget_bytes=7000)
    made.manager.set_namespaces(cleared, next_id=3)
    await help.until(lambda: all(table.get(2) == cleared and table.is_deleted(1) for table in tables))
    made.manager.set_namespaces(next_id=3)
    await help.until(lambda: all(table.is_deleted(2) for table in tables))
    # A node that starts has to hear of it before it knows.
    await made.stop_node(1)
    await made.start(1)
    await help.until(lambda: made.services[1].namespaces.is_deleted(2))


# --- what it says about itself ---------------------------------------------------------------------------------------


async def test_chunks_are_listed_by_pages(cluster, help):
    made = await cluster(chains=1)
    await made.client().update([help.write(number, bytes(number + 1)) for number in range(25)])
    channel = made.network.connect("fake://3")
    listed = []
    after = b""
    while True:
        request = help.pb.ListChunksRequest(target_id=103, after=after, limit=10)
        reply = (await channel.call(help.STORAGE.ListChunks, request)).message
        listed += reply.chunks
        if not reply.more:
            break
        after = listed[-1].chunk
    assert [info.chunk for info in listed] == [help.chunk(number) for number in range(25)]
    assert [info.length for info in listed] == [number + 1 for number in range(25)]
    assert all(info.committed_version == 1 and not info.pending_version for info in listed)
    assert len((await channel.call(help.STORAGE.ListChunks, help.pb.ListChunksRequest(target_id=103))).message.chunks) == 25
    assert list_entries_max >= 25
    with pytest.raises(FS3Error, match="has no target 5") as caught:
        await channel.call(help.STORAGE.ListChunks, help.pb.ListChunksRequest(target_id=5))
    assert caught.value.code is Code.NO_SUCH_TARGET
    with pytest.raises(ValueError, match=r"^after: "):
        await channel.call(help.STORAGE.ListChunks, help.pb.ListChunksRequest(target_id=103, after=b"x"))


async def test_space_of_all_nodes(cluster, help):
    made = await cluster(chains=2)
    client = made.client()
    await client.update([help.write(1, bytes(1 * MIB))])
    await made.idle()
    found = await client.space()
    assert sorted(space.target_id for space in found) == [101, 102, 103, 201, 202, 203]
    assert {space.chunks for space in found if space.target_id < 200} == {1}
    assert all(space.used_bytes >= MIB for space in found if space.target_id < 200)
    await made.crash(2)
    assert sorted(space.target_id for space in await client.space()) == [101, 103, 201, 203]
    reply = (await made.network.connect("fake://1").call(help.STORAGE.GetSpace, help.pb.GetSpaceRequest())).message
    assert reply.resident_bytes > MIB
    assert reply.buffer_bytes == 0
    assert ChainId(1) in made.manager.routing.chains
