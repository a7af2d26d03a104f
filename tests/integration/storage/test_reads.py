"""Reads: warm and cold, small and large, through writes that are under way, past replicas that fail or lie."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.core.files.read_plan import ReadIO
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind

SERVING = PublicState.SERVING


def pattern(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


async def test_ranges_of_every_shape(cluster, help):
    made = await cluster()
    client = made.client()
    data = pattern(1 * MIB + 777)
    await client.update([help.write(1, data)])
    for offset, length in [(0, 10), (5, 4096), (4096, 4096), (60_000, 10_000), (0, 65_536), (65_536, 262_144), (1, 900_001),
                           (1 * MIB, 777), (0, len(data))]:  # fmt: skip
        assert await help.get(client, 1, length, offset) == (Code.OK, data[offset : offset + length]), (offset, length)
    # Past the end there is less, then nothing.
    assert await help.get(client, 1, 4096, len(data) - 100) == (Code.OK, data[-100:])
    assert await help.get(client, 1, 4096, len(data) + 5) == (Code.OK, b"")
    assert client.reads.checksum_mismatches == 0
    made.assert_clean()


async def test_a_batch_over_several_chains_is_few_frames(cluster, help):
    made = await cluster()
    client = made.client()
    datas = {number: pattern(5000, number) for number in range(64)}
    await client.update([help.write(number, data, chain=1 + number % 2) for number, data in datas.items()])
    made.network.log.clear()
    ios = [help.read_io(number, 4096, 100, chain=1 + number % 2) for number in range(64)]
    outcomes = await client.read(ios)
    assert all(outcome.code is Code.OK and outcome.length == 4096 and outcome.version == 1 for outcome in outcomes)
    assert all(bytes(io.buffer) == datas[number][100:4196] for number, io in enumerate(ios))
    assert len(made.network.requests("Read")) == 1, "small reads go to one node that has all the chains"
    made.assert_clean()


async def test_holes_short_chunks_and_data_in_one_batch(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"short"), help.write(3, b"x" * 100_000)])
    ios = [help.read_io(1, 100), help.read_io(2, 100), help.read_io(3, 100_000), help.read_io(4, 10)]
    outcomes = await client.read(ios)
    assert [(outcome.code, outcome.length) for outcome in outcomes] == [
        (Code.OK, 5),
        (Code.NOT_FOUND, 0),
        (Code.OK, 100_000),
        (Code.NOT_FOUND, 0),
    ]
    assert bytes(ios[0].buffer) == b"short" + bytes(95), "the rest of the buffer is untouched"
    assert bytes(ios[2].buffer) == b"x" * 100_000


async def test_one_io_may_fill_several_buffers(cluster, help):
    made = await cluster()
    client = made.client()
    data = pattern(200_064)
    await client.update([help.write(1, data, kind=UpdateKind.PUT)])
    buffers = tuple(memoryview(bytearray(size)) for size in (100_000, 100_000, 64, 50))
    (outcome,) = await client.read([ReadIO(help.chunk(1), ChainId(1), 0, buffers)])
    assert (outcome.code, outcome.length) == (Code.OK, 200_064)
    assert b"".join(bytes(buffer) for buffer in buffers) == data + bytes(50)
    # And when the page cuts the buffers short.
    (outcome,) = await client.read([ReadIO(help.chunk(1), ChainId(1), 200_000, buffers)])
    assert (outcome.length, bytes(buffers[0][:64])) == (64, data[-64:])


async def test_large_batches_are_cut_into_frames(cluster, help):
    made = await cluster()
    client = made.client()
    data = pattern(4 * MIB)
    await client.update([help.write(number, data) for number in range(6)])
    made.network.log.clear()
    ios = [help.read_io(number, 4 * MIB) for number in range(6)]
    outcomes = await client.read(ios)
    assert all(outcome.length == 4 * MIB for outcome in outcomes)
    assert all(io.buffer == data for io in ios)
    frames = made.network.requests("Read")
    assert len(frames) >= 3
    assert all(sum(request.lengths) <= 8 * MIB for _, request in frames)
    assert len({endpoint for endpoint, _ in frames}) == 3, "large reads use every replica"
    made.assert_clean()


async def test_a_call_of_many_small_ranges_is_two_requests_to_an_idle_node(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(256 * KIB)
    await client.update([help.write(1, data)])

    def ios(count):
        return [help.read_io(1, 1000, 1000 * index) for index in range(count)]

    async def lengths_of(*calls):
        made.network.log.clear()
        for outcomes, call in zip(await asyncio.gather(*map(client.read, calls)), calls, strict=True):
            assert [outcome.length for outcome in outcomes] == [1000] * len(call)
            assert b"".join(io.buffer for io in call) == data[: 1000 * len(call)]
        return [len(request.lengths) for _, request in made.network.requests("Read")]

    assert await lengths_of(ios(127)) == [127]
    assert await lengths_of(ios(129)) == [64, 65]
    assert await lengths_of(ios(2), ios(128)) == [2, 128], "it has something to do already"
    made.network.fault = lambda endpoint, method, request: "flip a bit" if len(request.lengths) == 65 else None
    assert await lengths_of(ios(129)) == [64, 65, 1], "what was bad, and nothing else, is read elsewhere"
    made.assert_clean()


async def test_clients_begin_at_different_replicas_and_stay_there(cluster, help):
    made = await cluster()
    clients = [made.client() for _ in range(3)]
    await clients[0].update([help.write(1, b"data")])
    made.network.log.clear()
    for client in clients * 3:
        await help.get(client, 1, 4)
    asked = [endpoint for endpoint, _ in made.network.requests("Read")]
    assert Counter(asked) == {"fake://1": 3, "fake://2": 3, "fake://3": 3}
    assert asked[:3] == asked[3:6] == asked[6:]


async def test_a_dirty_replica_sends_the_reader_to_the_tail(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"old")])
    made.network.hold("Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(client.update([help.write(1, b"new")]))
    await help.until(lambda: made.network.held)
    made.network.log.clear()
    readers = [made.client() for _ in range(3)]
    for reader in readers:
        assert await help.get(reader, 1, 3) == (Code.OK, b"old")
    asked = [endpoint for endpoint, _ in made.network.requests("Read")]
    assert len(asked) == 5, "two of them were told DIRTY first, and then asked the tail"
    assert asked.count("fake://3") == 3
    made.network.let_go()
    (result,) = await writing
    assert result.code is Code.OK
    for reader in readers:
        assert await help.get(reader, 1, 3) == (Code.OK, b"new")


async def test_what_was_read_once_is_never_unread(cluster, help):
    """The tail has committed, the acknowledgement has not come back: everybody must see the new version or ask the tail."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"old")])
    # The tail's answer to the middle is on its way: head and middle have the version pending.
    made.network.once("hold reply", "Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(client.update([help.write(1, b"new")]))
    await help.until(lambda: made.network.held)
    assert [replica[:2] for replica in made.replicas(1, help.chunk(1))] == [(1, 2), (1, 2), (2, 0)]
    for _ in range(6):
        assert await help.get(client, 1, 3) == (Code.OK, b"new")
    made.network.let_go()
    assert (await writing)[0].code is Code.OK


async def test_dirty_pages_are_not_found_as_holes(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    made.network.hold("Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(client.update([help.write(1, b"page", kind=UpdateKind.PUT)]))
    await help.until(lambda: made.network.held)
    outcomes = [(await made.client().find([(help.chunk(1), ChainId(1))]))[0] for _ in range(3)]
    assert {outcome.code for outcome in outcomes} == {Code.NOT_FOUND}, "the tail has not got it: it is not there"
    for _ in range(3):
        assert await made.client().contains([help.chunk(1)], [0], [ChainId(1)]) == ([0], {})
    made.network.let_go()
    await writing
    outcomes = [(await made.client().find([(help.chunk(1), ChainId(1))]))[0] for _ in range(3)]
    assert [(outcome.code, outcome.length) for outcome in outcomes] == [(Code.OK, 4)] * 3


@pytest.mark.parametrize("length", [4 * KIB, 1 * MIB])
async def test_a_replica_that_dies_is_replaced_by_another(cluster, help, length):
    made = await cluster()
    client = made.client()
    data = pattern(length)
    await client.update([help.write(1, data)])
    await made.idle()
    await made.crash(2)
    for _ in range(4):
        assert await help.get(client, 1, length) == (Code.OK, data)
    assert client.reads.retries >= 1


async def test_a_replica_that_hangs_is_left_for_another(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.client.storage.reads.read_attempt_ns", SECOND // 20)
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"data")])
    made.network.fault = lambda endpoint, method, request: "lose request" if endpoint == "fake://2" else None
    for _ in range(3):
        assert await help.get(client, 1, 4) == (Code.OK, b"data")
    assert client.reads.retries == 1, "a node that was silent once is not asked again at once"


async def test_bytes_changed_on_the_wire_are_read_again(cluster, help):
    made = await cluster()
    client = made.client()
    data = pattern(300_000)
    await client.update([help.write(1, data)])
    done = made.network.once("flip a bit", "Read")
    assert await help.get(client, 1, 300_000) == (Code.OK, data)
    assert done
    assert client.reads.checksum_mismatches == 1


async def test_without_verification_nothing_is_checked(cluster, help):
    made = await cluster()
    await made.client().update([help.write(1, b"data")])
    client = made.client(verify=False)
    made.network.once("flip a bit", "Read")
    code, data = await help.get(client, 1, 4)
    assert (code, data) == (Code.OK, b"eata")
    assert all(request.without_checksums for _, request in made.network.requests("Read"))


def spoil(directory: Path, data: bytes) -> int:
    """Change a byte of every copy of some bytes below a directory. How many there were."""
    found = 0
    for file in directory.rglob("*"):
        if not file.is_file() or file.stat().st_size < len(data):
            continue
        content = file.read_bytes()
        at = content.find(data)
        if at >= 0:
            found += 1
            with file.open("r+b") as out:
                out.seek(at)
                out.write(bytes((content[at] ^ 0xFF,)))
    return found


@pytest.mark.parametrize("length", [3 * KIB, 16 * KIB, 200 * KIB])
async def test_a_spoiled_block_is_read_from_another_replica(cluster, help, length):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(length)
    await client.update([help.write(1, data)])
    await made.idle()
    assert spoil(made.path / "node-2" / "targets", data[:1000]) >= 1
    for _ in range(6):
        assert await help.get(client, 1, length) == (Code.OK, data)
    assert client.reads.retries >= 1


async def test_spoiled_everywhere_is_an_error_and_not_data(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(200 * KIB)
    await client.update([help.write(1, data)])
    await made.idle()
    for node in (1, 2, 3):
        spoil(made.path / f"node-{node}" / "targets", data[:1000])
    (outcome,) = await client.read([help.read_io(1, 1000)])
    assert outcome.code is Code.CHECKSUM
    assert all(made.store(1, node).bad_chunks for node in (1, 2, 3))


async def test_cold_reads_wait_for_memory_in_turn(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.reads.cold_read_bytes_max", 300 * KIB)
    made = await cluster(chains=1)
    client = made.client()
    data = {number: pattern(200 * KIB, number) for number in range(8)}
    await client.update([help.write(number, content) for number, content in data.items()])
    peak = 0
    for node, service in made.services.items():
        store = made.store(1, node)
        monkeypatch.setattr(store, "read_many", lambda chunks, batch, which, refuse_dirty: list(which))
        read_cold = store.read_cold

        async def watched(*where, service=service, read_cold=read_cold, **options):
            nonlocal peak
            peak = max(peak, service.held().cold_bytes)
            return await read_cold(*where, **options)

        monkeypatch.setattr(store, "read_cold", watched)
    got = await asyncio.gather(*(help.get(client, number, 200 * KIB) for number in data))
    assert got == [(Code.OK, content) for content in data.values()]
    assert 200 * KIB <= peak <= 300 * KIB
    # One request that needs more than there may be is let in when it is alone.
    outcomes = await client.read([help.read_io(number, 200 * KIB) for number in data])
    assert all(outcome.length == 200 * KIB for outcome in outcomes)
    made.assert_clean()


async def test_too_many_cold_reads_are_refused_with_busy(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.reads.cold_reads_max", 2)
    made = await cluster(chains=1)
    await made.client().update([help.write(number, b"data") for number in range(5)])
    monkeypatch.setattr(made.store(1, 1), "read_many", lambda chunks, batch, which, refuse_dirty: list(which))
    request = help.pb.ReadRequest(
        chunks=b"".join(help.chunk(number) for number in range(5)),
        chains=[1] * 5,
        chain_versions=[1] * 5,
        offsets=[0] * 5,
        lengths=[4] * 5,
    )
    reply = await made.network.connect("fake://1").call(help.STORAGE.Read, request)
    assert [Code(code) for code in reply.message.codes] == [Code.OK] * 2 + [Code.BUSY] * 3
    made.assert_clean()


async def test_a_wrong_chain_version_is_refused_and_refreshed(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"data")])
    old = made.manager.routing
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 2: SERVING, 3: SERVING}))
    await made.settled()
    client._router._routing, client._router._candidates = old, {}
    made.network.log.clear()
    assert await help.get(client, 1, 4) == (Code.OK, b"data")
    assert [list(request.chain_versions) for _, request in made.network.requests("Read")] == [[1], [2]]


async def test_targets_that_do_not_serve_refuse(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"data")])
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 3: SERVING, 2: PublicState.OFFLINE}))
    await made.settled()
    request = help.pb.ReadRequest(chunks=help.chunk(1), chains=[1], chain_versions=[2], offsets=[0], lengths=[4])
    reply = await made.network.connect("fake://2").call(help.STORAGE.Read, request)
    assert Code(reply.message.codes[0]) is Code.NOT_SERVING
    request.chains[0] = 55
    reply = await made.network.connect("fake://2").call(help.STORAGE.Read, request)
    assert Code(reply.message.codes[0]) is Code.NO_SUCH_TARGET
    for _ in range(4):
        assert await help.get(client, 1, 4) == (Code.OK, b"data")


async def test_a_read_that_nobody_answers_ends_at_its_deadline(cluster, help):
    made = await cluster()
    client = made.client()
    made.network.fault = lambda endpoint, method, request: "lose request"
    io = help.read_io(1, 10)
    (outcome,) = await client.read([io], timeout_ns=SECOND // 10)
    assert outcome.code is Code.DEADLINE
    (found,) = await client.find([(help.chunk(1), ChainId(1))], timeout_ns=SECOND // 10)
    assert found.code is Code.DEADLINE
    assert client._router.choice._outstanding == {}


async def test_a_cancelled_read_leaves_the_buffer_alone(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(1, b"data")])
    made.network.hold("Read")
    io = help.read_io(1, 4)
    reading = asyncio.ensure_future(client.read([io]))
    await help.until(lambda: made.network.held)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    made.network.let_go()
    assert await help.get(client, 1, 4) == (Code.OK, b"data")
    assert bytes(io.buffer) == bytes(4)
    assert client._router.choice._outstanding == {}


async def test_all_frames_of_a_cancelled_read_are_given_up(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(number, b"\xff" * (4 * MIB)) for number in range(4)])
    made.network.hold("Read")
    ios = [help.read_io(number, 4 * MIB) for number in range(4)]
    reading = asyncio.ensure_future(client.read(ios))
    await help.until(lambda: len(made.network.held) > 1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    made.network.let_go()
    assert await help.get(client, 3, 4) == (Code.OK, b"\xff" * 4)
    assert not any(any(io.buffer[:: 64 * KIB]) for io in ios)
    assert client._router.choice._outstanding == {}


async def test_find_asks_one_node_once(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(number, bytes(number), chain=1 + number % 2) for number in range(1, 200, 2)])
    made.network.log.clear()
    outcomes = await client.find([(help.chunk(number), ChainId(1 + number % 2)) for number in range(200)])
    assert [(outcome.code, outcome.length) for outcome in outcomes] == [
        (Code.OK, number) if number % 2 else (Code.NOT_FOUND, 0) for number in range(200)
    ]
    assert len(made.network.requests("Find")) == 1
    await made.crash(1)
    for _ in range(3):
        assert (await client.find([(help.chunk(1), ChainId(2))]))[0].length == 1


async def test_presence_asks_one_node_once(cluster, help):
    made = await cluster()
    client = made.client()
    await client.update([help.write(number, bytes(4 + number % 4 // 3), chain=1 + number % 2) for number in range(1, 200, 2)])
    made.network.log.clear()
    chunks = [help.chunk(number) for number in range(200)]
    places = [number % 2 for number in range(200)]
    wanted = [4 + number % 4 // 3 if number % 2 else 0 for number in range(200)]
    assert await client.contains(chunks, places, [ChainId(1), ChainId(2)]) == (wanted, {})
    assert len(made.network.requests("Contains")) == 1
    assert not made.network.requests("Find")
    assert await client.contains([], [], [ChainId(1)]) == ([], {})
    await made.crash(1)
    for _ in range(3):
        assert await client.contains(chunks, places, [ChainId(1), ChainId(2)]) == (wanted, {})


async def test_presence_that_one_replica_does_not_know_is_asked_of_another(cluster, help):
    made = await cluster(chains=1)
    await made.client().update([help.write(1, b"old")])
    made.network.once("hold reply", "Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(made.client().update([help.write(1, b"longer")]))
    await help.until(lambda: made.network.held)
    assert [replica[:2] for replica in made.replicas(1, help.chunk(1))] == [(1, 2), (1, 2), (2, 0)]
    made.network.log.clear()
    for _ in range(6):  # clients that prefer different replicas
        found = await made.client().contains([help.chunk(1), help.chunk(2)], [0, 0], [ChainId(1)])
        assert found == ([6, 0], {})
    assert made.network.requests("Find"), "some were told DIRTY"
    made.network.let_go()
    assert (await writing)[0].code is Code.OK
    unknown = await made.client().contains([help.chunk(1)], [0], [ChainId(99)], timeout_ns=SECOND // 20)
    assert unknown == ([0], {0: Code.DEADLINE}), "there is no such chain, and it is not said that nothing is there"


async def test_a_closed_client_says_so(cluster, help):
    made = await cluster()
    client = made.client()
    await client.close()
    with pytest.raises(FS3Error) as caught:
        await client.read([help.read_io(1, 4)])
    assert caught.value.code is Code.SHUTTING_DOWN
