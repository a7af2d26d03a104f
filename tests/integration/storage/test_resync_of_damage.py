"""A file's chunk is damaged on every target that serves: the resync ends, and the chunk is as damaged where it was brought."""

import os
import random
import shutil

import pytest

from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.drivers.chunks import salvage
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind

SERVING, SYNCING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE
BYTES = 200 * KIB


def pattern(seed, length=BYTES):
    return random.Random(seed).randbytes(length)


def rot(made, node, chunk, at):
    """The disk of a node changes a byte of a chunk."""
    where = made.store(1, node).locate(chunk)
    byte = os.pread(where.fd, 1, where.offset + at)
    os.pwrite(where.fd, bytes((byte[0] ^ 0x40,)), where.offset + at)


async def ask(made, help, node, number):
    """What one replica answers to a reader of a chunk's first bytes."""
    version = made.manager.routing.chains[1].version
    request = help.pb.ReadRequest(chunks=help.chunk(number), chains=[1], chain_versions=[version], offsets=[0], lengths=[100])
    reply = await made.network.connect(f"fake://{node}").call(help.STORAGE.Read, request)
    return Code(reply.message.codes[0]), bytes(reply.payload or b"")


async def all_serve(made):
    def serve():
        slots = made.manager.routing.chains[1].slots
        return all(slot.state is SERVING for slot in slots) and all(
            made._settled(node, service) for node, service in made.services.items()
        )

    await made.until(serve)


async def following(cluster, **options):
    made = await cluster(start=False, chains=1, **options)
    made.manager.follows = True
    await made.start()
    await all_serve(made)
    return made


async def replace_disk(made, node, *, damage, keep=""):
    """The chain goes on without a node; then its other copies of chunk 1 are damaged, and it comes back with an empty disk.
    `keep`: where its directory goes instead of being lost."""
    await made.crash(node)
    made.manager.lose(node)
    damage()
    directory = made.path / f"node-{node}"
    if keep:
        shutil.copytree(directory, made.path / keep)
    shutil.rmtree(directory / "targets")
    await made.start(node, settle=False)


async def test_a_resync_ends_although_a_chunk_is_damaged_everywhere(cluster, help, caplog):
    made = await following(cluster)
    client = made.client()
    await client.update([help.write(number, pattern(number)) for number in range(1, 30)])
    await made.idle()

    def damage():
        for node, at in ((1, 10), (2, 70_000)):
            rot(made, node, help.chunk(1), at)

    await replace_disk(made, 3, damage=damage)
    await all_serve(made)
    for number in range(2, 30):
        assert await ask(made, help, 3, number) == (Code.OK, pattern(number)[:100])
    for node in (1, 2, 3):
        assert await ask(made, help, node, 1) == (Code.CHECKSUM, b"")
        await made.until(lambda node=node: help.chunk(1).hex() in made.manager.beats[node].targets[0].reason)
        assert "overwrite, empty or remove it" in made.manager.beats[node].targets[0].reason
        assert made.manager.beats[node].targets[0].upkeep.bad_blocks == 1
    assert "target 102: 1 chunks are damaged on every target that serves, and now on target 103" in caplog.text
    source, carried = (made.store(1, node).get(help.chunk(1)) for node in (2, 3))
    assert (source.committed, source.length, source.checksum) == (carried.committed, carried.length, carried.checksum)
    (refused,) = await client.update([help.write(1, b"part", offset=50)])
    assert refused.code is Code.CHECKSUM
    (read,) = await client.read([help.read_io(1, 1000)])
    assert read.code is Code.CHECKSUM
    made.assert_clean()


@pytest.mark.parametrize("how", ["overwritten", "cut", "removed"])
async def test_it_is_healed_by_whoever_replaces_it(cluster, help, how):
    made = await following(cluster, nodes=2)
    client = made.client()
    await client.update([help.write(1, pattern(1)), help.write(2, b"fine")])
    await made.idle()
    await replace_disk(made, 2, damage=lambda: rot(made, 1, help.chunk(1), 10))
    await all_serve(made)
    assert await ask(made, help, 2, 1) == (Code.CHECKSUM, b"")
    data = pattern(9, 300 * KIB)
    change = {
        "overwritten": help.write(1, data),
        "cut": help.change(1, UpdateKind.TRUNCATE),
        "removed": help.change(1, UpdateKind.REMOVE),
    }[how]
    assert (await client.update([change]))[0].code is Code.OK
    await made.until(lambda: not any(made.store(1, node).bad_chunks for node in (1, 2)))
    await made.idle()
    code, found = await help.get(client, 1, 300 * KIB)
    assert (code, found) == {"overwritten": (Code.OK, data), "cut": (Code.OK, b""), "removed": (Code.NOT_FOUND, b"")}[how]
    assert len(set(made.replicas(1, help.chunk(1)))) == 1


async def test_a_good_copy_that_comes_back_heals_all(cluster, help):
    """One replica is away with a good copy while another one is filled; it comes back, and is asked like any other."""
    made = await following(cluster)
    client = made.client()
    await client.update([help.write(1, pattern(1)), help.write(2, b"fine")])
    await made.idle()
    await made.crash(2)
    made.manager.lose(2)
    await replace_disk(made, 3, damage=lambda: rot(made, 1, help.chunk(1), 10))
    await made.until(lambda: made.manager.routing.chains[1].slot(103).state is SERVING)
    assert help.chunk(1) in made.store(1, 3).bad_chunks
    await made.start(2, settle=False)
    await all_serve(made)
    await made.until(lambda: not any(made.store(1, node).bad_chunks for node in (1, 2, 3)))
    for node in (1, 2, 3):
        assert await ask(made, help, node, 1) == (Code.OK, pattern(1)[:100])
    made.assert_clean()


async def test_two_that_sync_get_the_damage_one_after_the_other(cluster, help):
    made = await following(cluster)
    client = made.client()
    await client.update([help.write(1, pattern(1)), help.write(2, b"fine")])
    await made.idle()
    for node in (2, 3):
        await made.crash(node)
        made.manager.lose(node)
        shutil.rmtree(made.path / f"node-{node}" / "targets")
    rot(made, 1, help.chunk(1), 10)
    await made.start(2, 3, settle=False)
    await all_serve(made)
    for node in (1, 2, 3):
        assert await ask(made, help, node, 1) == (Code.CHECKSUM, b"")
        assert await ask(made, help, node, 2) == (Code.OK, b"fine")


async def test_more_damaged_chunks_than_are_filled_at_once(cluster, help):
    """They leave the fills to the others; old versions that the returning target has of them are gone."""
    made = await following(cluster, nodes=2)
    client = made.client()
    numbers = range(1, 101)
    await client.update([help.write(number, pattern(number, 5000)) for number in numbers])
    await made.idle()
    await made.crash(2)
    made.manager.lose(2)
    await client.update([help.write(number, pattern(number + 1000, 5000)) for number in numbers])
    await made.idle()
    for number in numbers:
        if number % 10:
            rot(made, 1, help.chunk(number), 10)
    await made.start(2, settle=False)
    await all_serve(made)
    for number in numbers:
        wanted = (Code.CHECKSUM, b"") if number % 10 else (Code.OK, pattern(number + 1000, 5000)[:100])
        assert await ask(made, help, 2, number) == wanted


async def test_what_the_disk_does_not_give_travels_as_zeros_and_is_shown_to_nobody(cluster, help, monkeypatch):
    made = await following(cluster, nodes=2)
    client = made.client()
    data = pattern(1, 3 * MIB)
    await client.update([help.write(1, data)])
    await made.idle()
    read_all = salvage.read_all

    def fail(fd, into, offset):
        start = offset - made.store(1, 1).locate(help.chunk(1)).offset
        if start <= 2 * MIB < start + len(into):
            raise OSError(5, "Input/output error")
        return read_all(fd, into, offset)

    monkeypatch.setattr(salvage, "read_all", fail)
    await replace_disk(made, 2, damage=lambda: made.store(1, 1).mark_bad(help.chunk(1), "a test said so"))
    await all_serve(made)
    assert await ask(made, help, 2, 1) == (Code.CHECKSUM, b"")
    monkeypatch.undo()
    found = await made.store(1, 2).read_damaged(help.chunk(1))
    expected = data[: 2 * MIB] + bytes(64 * KIB) + data[2 * MIB + 64 * KIB :]
    assert b"".join(bytes(part) for part in found.parts) == expected
