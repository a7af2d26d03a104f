"""Bad chunks: found by readers, by updates and by the scrub, refused meanwhile, and repaired from another replica."""

import asyncio
import random

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind
from fs3.services.storage import StorageConfig

SERVING = PublicState.SERVING


def spoil(made, node, needle):
    """Change the byte before the end of `needle` wherever a disk of the node has it. Returns how often."""
    count = 0
    for file in (made.path / f"node-{node}" / "targets").rglob("*"):
        if not file.is_file() or "index" in file.parts:
            continue
        data = file.read_bytes()
        at = data.find(needle)
        if at >= 0:
            count += 1
            with file.open("r+b") as out:
                out.seek(at + len(needle) - 1)
                out.write(bytes([needle[-1] ^ 0xFF]))
    return count


def pattern(length, seed=1):
    return random.Random(seed).randbytes(length)


async def ask(made, help, node, offset, length, chunk=1, version=1):
    """What one replica answers."""
    request = help.pb.ReadRequest(
        chunks=help.chunk(chunk), chains=[1], chain_versions=[version], offsets=[offset], lengths=[length]
    )
    reply = await made.network.connect(f"fake://{node}").call(help.STORAGE.Read, request)
    return Code(reply.message.codes[0]), bytes(reply.payload or b"")


async def test_a_bad_chunk_that_a_reader_finds_is_repaired_while_everybody_serves(cluster, help):
    made = await cluster(chains=1)
    data = pattern(300 * KIB)
    await made.client().update([help.write(1, data)])
    await made.idle()
    assert spoil(made, 2, data[70_000:71_000])
    code, _ = await ask(made, help, 2, 70_000, 1000)
    assert code is Code.CHECKSUM
    await made.until(lambda: not made.store(1, 2).bad_chunks)
    assert await ask(made, help, 2, 70_000, 1000) == (Code.OK, data[70_000:71_000])
    assert made.services[2].duties.by_target[TargetId(102)].repairer.repaired_chunks == 1
    await made.until(lambda: made.manager.beats[2].targets[0].upkeep.repaired_blocks == 1)
    assert made.manager.routing.chains[1].version == 1
    made.assert_clean()


async def test_a_client_never_sees_it(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(200 * KIB)
    await client.update([help.write(1, data)])
    await made.idle()
    for node in (1, 3):
        assert spoil(made, node, data[:5000])
    for _ in range(6):
        assert await help.get(client, 1, 1000) == (Code.OK, data[:1000])
    await made.until(lambda: not made.store(1, 1).bad_chunks and not made.store(1, 3).bad_chunks)


async def test_a_partial_overwrite_of_a_bad_chunk_goes_through(cluster, help):
    """The head finds that the bytes it would have to keep are wrong; it is repaired, and the update is applied once."""
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(200 * KIB)
    await client.update([help.write(1, data)])
    await made.idle()
    assert spoil(made, 1, data[:1000])
    (result,) = await client.update([help.write(1, b"zz", offset=5000)])
    assert (result.code, result.version) == (Code.OK, 2)
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    expected = data[:5000] + b"zz" + data[5002:]
    assert await help.get(client, 1, 200 * KIB) == (Code.OK, expected)


async def test_a_chunk_that_is_bad_everywhere_stays_bad_and_is_named(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(200 * KIB)
    await client.update([help.write(1, data), help.write(2, b"fine")])
    await made.idle()
    for node in (1, 2, 3):
        assert spoil(made, node, data[:1000])
    (outcome,) = await client.read([help.read_io(1, 1000)])
    assert outcome.code is Code.CHECKSUM
    await made.until(lambda: help.chunk(1).hex() in made.manager.beats[1].targets[0].reason)
    assert made.manager.beats[1].targets[0].upkeep.bad_blocks == 1
    assert await help.get(client, 2, 4) == (Code.OK, b"fine")
    # Whoever writes it anew heals it.
    assert (await client.update([help.write(1, pattern(300 * KIB, 2), kind=UpdateKind.WRITE)]))[0].code is Code.OK
    await made.idle()
    assert await help.get(client, 1, 300 * KIB) == (Code.OK, pattern(300 * KIB, 2))
    await made.until(lambda: not any(made.store(1, node).bad_chunks for node in (1, 2, 3)))


async def test_the_scrub_finds_what_nobody_reads(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    contents = {number: pattern(150 * KIB, number) for number in range(40)}
    await client.update([help.write(number, data) for number, data in contents.items()])
    await made.idle()
    for number in (3, 17, 38):
        assert spoil(made, 2, contents[number][40_000:41_000])
    channel = made.network.connect("fake://2")

    async def scrub(**options):
        return (await channel.call(help.STORAGE.Scrub, help.pb.ScrubRequest(**options))).message.targets[0]

    status = await scrub()
    assert (status.target_id, status.running, status.passes) == (102, False, 0)
    await scrub(begin=True)
    duties = made.services[2].duties.by_target[TargetId(102)]
    await made.until(lambda: duties[2].passes == 1 and duties[1].repaired_chunks == 3)
    status = await scrub(target_id=102)
    assert (status.running, status.passes, status.bad_chunks, status.repaired_chunks) == (False, 1, 0, 3)
    assert status.bytes >= 40 * 150 * KIB
    for number in (3, 17, 38):
        assert await ask(made, help, 2, 40_000, 1000, number) == (Code.OK, contents[number][40_000:41_000])
    with pytest.raises(FS3Error, match="no target 9") as caught:
        await scrub(target_id=9)
    assert caught.value.code is Code.NO_SUCH_TARGET


async def test_a_scrub_goes_on_where_a_restart_interrupted_it(cluster, help, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.upkeep.scrub.scrub_step_bytes", 1 * MIB)
    monkeypatch.setattr("fs3.services.storage.upkeep.scrub.scrub_note_ns", 0)
    made = await cluster(chains=1, start=False)
    await made.start(config=StorageConfig(scrub_bytes_per_second=20 * MIB))
    client = made.client()
    await client.update([help.write(number, pattern(256 * KIB, number)) for number in range(64)])
    await made.idle()
    scrubber = made.services[1].duties.by_target[TargetId(101)].scrubber
    scrubber.begin()
    disks = made.services[1]._disks
    await made.until(lambda: disks.read_note(TargetId(101)).scrub_after)
    await made.stop_node(1)
    reached = disks.read_note(TargetId(101)).scrub_after
    await made.start(1)
    scrubber = made.services[1].duties.by_target[TargetId(101)].scrubber
    await made.until(lambda: scrubber.passes == 1)
    left = sum(help.chunk(number) > reached for number in range(64))
    assert scrubber.done_chunks == left < 64


async def test_a_client_reports_what_arrived_wrong(cluster, help):
    made = await cluster(chains=1)
    data = pattern(256 * KIB)
    await made.client().update([help.write(1, data)])
    await made.idle()
    assert spoil(made, 3, data[100_000:101_000])
    report = help.pb.ReportBadRequest(chunks=help.chunk(1) + help.chunk(77), chains=[1, 1])
    await made.network.connect("fake://3").call(help.STORAGE.ReportBad, report)
    await made.until(lambda: made.services[3].duties.by_target[TargetId(103)].repairer.repaired_chunks == 1)
    with pytest.raises(FS3Error, match="chunks: 3 bytes") as caught:
        await made.network.connect("fake://3").call(help.STORAGE.ReportBad, help.pb.ReportBadRequest(chunks=b"abc", chains=[1]))
    assert caught.value.code is Code.INVALID


async def test_channels_of_which_nothing_is_remembered_wait_when_there_are_too_many(cluster, help, monkeypatch):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"known")])
    monkeypatch.setattr(type(made.store(1, 1)), "channel_room", property(lambda self: 0))
    assert (await client.update([help.write(1, b"still")]))[0].code is Code.OK
    (result,) = await made.client().update([help.write(2, b"new")], timeout_ns=SECOND // 10)
    assert result.code is Code.DEADLINE
    assert "too many clients" in result.message
    monkeypatch.undo()
    assert (await made.client().update([help.write(2, b"new")]))[0].code is Code.OK


async def test_a_pending_version_that_cannot_be_read_back_holds_nobody_up(cluster, help):
    """The head has lost the commit in a crash, and then the bytes: it steps down, and is filled by those who have them."""
    made = await cluster(chains=1, start=False)
    made.manager.follows = True
    await made.start()
    client = made.client()
    data = pattern(200 * KIB)
    made.network.hold("Update", lambda request: request.from_target == 101)
    writing = asyncio.ensure_future(client.update([help.write(1, data)]))
    await made.until(lambda: made.network.held)
    await made.crash(1)
    assert spoil(made, 1, data[:1000])
    made.network.let_go()
    await made.start(1, settle=False)
    async with asyncio.timeout(20):
        assert (await writing)[0].code is Code.OK

    def healed():
        chain = made.manager.routing.chains[1]
        return chain.version > 1 and all(slot.state is SERVING for slot in chain.slots)

    await made.until(healed)
    await made.idle()
    assert len(set(made.replicas(1, help.chunk(1)))) == 1
    version = made.manager.routing.chains[1].version
    await made.until(lambda: made.shell(1, 1).replica.position.serves)
    assert await ask(made, help, 1, 0, 1000, version=version) == (Code.OK, data[:1000])


async def test_the_only_one_that_serves_is_repaired_by_one_that_does_not(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = pattern(200 * KIB)
    await client.update([help.write(1, data)])
    await made.idle()
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 2: PublicState.WAITING, 3: PublicState.OFFLINE}))
    await made.until(lambda: made.shell(1, 1).replica.chain.version == 2)
    assert spoil(made, 1, data[:1000])
    assert (await ask(made, help, 1, 0, 1000, version=2))[0] is Code.CHECKSUM
    await made.until(lambda: not made.store(1, 1).bad_chunks)
    assert await ask(made, help, 1, 0, 1000, version=2) == (Code.OK, data[:1000])
