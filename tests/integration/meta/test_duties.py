"""What the service does by itself: chunks of removed files are reclaimed, old requests forgotten, whatever fails meanwhile."""

import asyncio
import contextlib

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, file_chunk
from fs3.base.limits import requests_remembered_ns
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.chain import Chain
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import Mkdir, Open
from fs3.services.meta import MetaConfig
from fs3.services.meta.chunk_client import file_length
from fs3.services.meta.duties.garbage import garbage_chunks_per_step_max, garbage_entries_per_step_max, garbage_files_per_step_max
from fs3.services.meta.duties.requests import requests_per_sweep_max

CHUNK = 65536


async def create(cluster, meta, path, *, length=0, chunks=None):
    """A file of a length, with its chunks (or these) in storage."""
    opened = await meta.open(path, write=True, create=True)
    inode = await meta.close_file(opened.inode.id, opened.session, length=length, modified=True)
    add_chunks(cluster, inode, range(-(-length // CHUNK)) if chunks is None else chunks)
    return inode


def add_chunks(cluster, inode, indices):
    chains = inode.layout.chains
    cluster.chunks.there |= {(file_chunk(inode.id, index), chains[index % len(chains)]) for index in indices}


async def work_off(cluster, steps=200):
    """Steps until there is nothing to do."""
    for _ in range(steps):
        if not await cluster.service.garbage.step():
            return
    raise AssertionError(f"still busy after {steps} steps")


async def reclaimed(meta):
    """Wait until the running duty has nothing left to do."""
    async with asyncio.timeout(20):
        while (await meta.statfs()).garbage:  # noqa: ASYNC110 - the service tells nobody when it is done
            await asyncio.sleep(0.001)


async def test_chunks_of_removed_files_are_removed_and_the_files_forgotten(cluster, meta):
    kept = await create(cluster, meta, "kept", length=5 * CHUNK)
    gone = await create(cluster, meta, "gone", length=7 * CHUNK + 1)
    await create(cluster, meta, "empty")
    await meta.remove("gone")
    await meta.remove("empty")
    assert (await meta.statfs()).garbage == 2
    await work_off(cluster)
    chains = gone.layout.chains
    assert cluster.chunks.removed == [(file_chunk(gone.id, index), chains[index % 3]) for index in range(8)]
    assert {chunk for chunk, _ in cluster.chunks.there} == {file_chunk(kept.id, index) for index in range(5)}
    space = await meta.statfs()
    assert (space.inodes, space.garbage) == (2, 0)
    with pytest.raises(FS3Error) as raised:
        await meta.stat(PathRef(gone.id, ""))
    assert raised.value.code is Code.STALE


async def test_what_is_open_or_young_waits(tmp_path, cluster, meta):
    inode = await create(cluster, meta, "f", length=CHUNK)
    opened = await meta.open("f", write=True)
    await meta.remove("f")
    await work_off(cluster)
    assert cluster.chunks.there, "a writer still has it"
    add_chunks(cluster, inode, [1])
    await meta.close_file(inode.id, opened.session, length=2 * CHUNK)
    cluster.service.garbage._delay_ns = 60_000_000_000
    await work_off(cluster)
    assert cluster.chunks.there, "a reader may still have it"
    cluster.clock.advance(61)
    await work_off(cluster)
    assert not cluster.chunks.there


async def test_failures_of_storage_lose_nothing(cluster, meta, caplog):
    prng = Prng(3)
    for number in range(30):
        await create(cluster, meta, f"f{number}", length=prng.below(20) * CHUNK)
        await meta.remove(f"f{number}")
    cluster.chunks.failures = [
        prng.pick([None, None, Code.DEADLINE, Code.NOT_SERVING, Code.UNAVAILABLE, Code.DISK, Code.NO_SPACE]) for _ in range(400)
    ]
    for _ in range(300):
        await cluster.service.garbage.step()
    assert not cluster.chunks.there
    assert (await meta.statfs()).garbage == 0
    assert (await meta.statfs()).inodes == 1
    assert len([record for record in caplog.records if "wait for their storage" in record.message]) < 60


async def test_a_chain_that_nobody_serves_does_not_hold_up_the_others(cluster, meta):
    stuck = await create(cluster, meta, "stuck", length=CHUNK)
    others = [await create(cluster, meta, f"f{number}", length=CHUNK) for number in range(2 * garbage_files_per_step_max)]
    await meta.remove("stuck")
    for number in range(len(others)):
        await meta.remove(f"f{number}")
    routing = cluster.routing.routing
    dead = {chain: Chain(ChainId(chain), 2, ()) for chain in stuck.layout.chains}
    cluster.routing.set(type(routing)(routing.cluster, 6, routing.nodes, {**routing.chains, **dead}, routing.tables))
    await work_off(cluster)
    served = {inode.id for inode in others if not set(inode.layout.chains) & set(dead)}
    left = {chunk for chunk, _ in cluster.chunks.there}
    assert served
    assert left == {file_chunk(inode.id, 0) for inode in [stuck, *others] if inode.id not in served}
    cluster.routing.set(type(routing)(routing.cluster, 7, routing.nodes, routing.chains, routing.tables))
    await work_off(cluster)
    assert not cluster.chunks.there


async def test_a_large_file_takes_bounded_steps_and_survives_a_restart(cluster, meta):
    count = 3 * garbage_chunks_per_step_max + 100
    inode = await create(cluster, meta, "large", length=count * CHUNK)
    await create(cluster, meta, "small", length=CHUNK)
    await meta.remove("large")
    await meta.remove("small")
    await cluster.service.garbage.step()
    assert 0 < len(cluster.chunks.removed) <= garbage_chunks_per_step_max
    assert cluster.chunks.there
    await cluster.stop()
    await cluster.start()
    await work_off(cluster)
    assert not cluster.chunks.there
    assert (await meta.statfs()).garbage == 0
    assert {chunk for chunk, _ in cluster.chunks.removed} >= {file_chunk(inode.id, index) for index in range(count)}


async def test_a_file_of_holes_is_walked_without_removing_each_hole(cluster, meta):
    places = [0, 5, 9_000, 20_000, 30_000]
    inode = await create(cluster, meta, "holes", length=40_000 * CHUNK, chunks=places)
    await meta.remove("holes")
    await work_off(cluster)
    assert [chunk for chunk, _ in cluster.chunks.removed] == [file_chunk(inode.id, index) for index in places]
    assert (await meta.statfs()).garbage == 0


async def test_chunks_behind_the_recorded_end_are_found_whatever_gap_is_before_them(cluster, meta):
    found = [0, 3, 67, 200, 9_000, 1 << 30, (1 << 44) - 1]
    await create(cluster, meta, "crashed", length=CHUNK, chunks=found)
    await meta.remove("crashed")
    await work_off(cluster)
    assert not cluster.chunks.there
    assert (await meta.statfs()).garbage == 0


async def test_the_length_of_a_file_by_what_storage_has(cluster, meta):
    inode = await create(cluster, meta, "crashed", length=CHUNK + 5, chunks=[0, 1, 700, 90_000])
    assert await file_length(cluster.chunks, inode, timeout_ns=1) == 90_000 * CHUNK + 1
    whole = await create(cluster, meta, "whole", length=CHUNK + 5)
    assert await file_length(cluster.chunks, whole, timeout_ns=1) == CHUNK + 5


async def test_a_discarded_unnamed_file_leaves_no_chunks(cluster, meta):
    opened = await meta.open("", unnamed=True, write=True, create=True)
    add_chunks(cluster, opened.inode, range(10))
    await meta.close_file(opened.inode.id, opened.session, discard=True)
    await work_off(cluster)
    assert not cluster.chunks.there
    assert (await meta.statfs()).inodes == 1


async def test_trees_are_dismantled_in_bounded_steps(cluster, meta):
    wide = garbage_entries_per_step_max + 50
    await meta.batch([Mkdir(PathRef(path="t")), *(Mkdir(PathRef(path=f"t/d{number}")) for number in range(20))])
    await meta.batch([Open(PathRef(path=f"t/d7/{number}"), create=True) for number in range(wide)])
    inode = await create(cluster, meta, "t/d7/data", length=3 * CHUNK)
    await meta.remove("t", RemoveKind.TREE)
    steps = 0
    while await cluster.service.garbage.step():
        steps += 1
    assert 2 <= steps < 60
    assert (await meta.statfs()).inodes == 1
    assert (await meta.statfs()).garbage == 0
    assert (file_chunk(inode.id, 2), inode.layout.chains[2]) in cluster.chunks.removed


async def test_requests_to_storage_are_bounded(cluster, meta):
    await meta.mkdir("d")
    for number in range(200):
        await create(cluster, meta, f"d/{number}", length=30 * CHUNK)
    await meta.remove("d", RemoveKind.TREE)
    await work_off(cluster)
    assert not cluster.chunks.there
    assert cluster.chunks.largest <= garbage_chunks_per_step_max


async def test_the_duty_runs_by_itself_and_stops(cluster, meta):
    await cluster.stop()
    cluster.config = MetaConfig(garbage_delay_ms=0, garbage_interval_ms=1, stripe=3, chunk_size=CHUNK)
    await cluster.start()
    await create(cluster, meta, "f", length=CHUNK)
    cluster.chunks.failures = [Code.NOT_SERVING] * 3
    await meta.remove("f")
    await reclaimed(meta)
    assert not cluster.chunks.there
    await cluster.service.stop()
    await meta.mkdir("still-served")


async def test_a_step_that_fails_is_tried_again(cluster, meta, caplog):
    await cluster.stop()
    cluster.config = MetaConfig(garbage_delay_ms=0, garbage_interval_ms=1, stripe=3, chunk_size=CHUNK)
    await cluster.start()
    failing = 3

    real = cluster.chunks.find_next

    async def find_next(keys, *, timeout_ns=0):
        nonlocal failing
        if failing:
            failing -= 1
            raise RuntimeError("a surprise")
        return await real(keys, timeout_ns=timeout_ns)

    cluster.chunks.find_next = find_next
    await create(cluster, meta, "f", length=CHUNK)
    await meta.remove("f")
    await reclaimed(meta)
    assert cluster.service.garbage.errors == 3
    assert "a surprise" in caplog.text


async def test_old_requests_are_forgotten(cluster):
    clients = [cluster.client() for _ in range(5)]
    for client in clients:
        await client.batch([Mkdir(PathRef(path=f"{id(client)}-{number}")) for number in range(requests_per_sweep_max // 2)])
    cluster.clock.advance(requests_remembered_ns / 1e9 - 60)
    await clients[0].mkdir("young")
    while await cluster.service.requests.step():
        pass
    assert cluster.service.requests.forgotten == 0
    cluster.clock.advance(120)
    steps = 1
    while await cluster.service.requests.step():
        steps += 1
    assert cluster.service.requests.forgotten == 5 * (requests_per_sweep_max // 2)
    assert steps >= 3
    cluster.wire.mishaps = ["lost"]
    with contextlib.suppress(FS3Error):
        await clients[0].mkdir("again")
    assert (await clients[0].stat("again")).id
