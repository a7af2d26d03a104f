"""What clients read and others removed, across restarts of the service and with several services on one store."""

import asyncio

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId, file_chunk, reader_session
from fs3.base.status import Code
from fs3.model.requests import Close, Hold, KeepAlive
from fs3.services.meta import MetaConfig, MetaService

CHUNK = 65536


async def create(cluster, meta, path, count=3):
    opened = await meta.open(path, write=True, create=True)
    inode = await meta.close_file(opened.inode.id, opened.session, length=count * CHUNK, modified=True)
    chains = inode.layout.chains
    cluster.chunks.there |= {(file_chunk(inode.id, index), chains[index % len(chains)]) for index in range(count)}
    return inode


async def work_off(service):
    for _ in range(50):
        if not await service.garbage.step():
            return
    raise AssertionError("the garbage does not end")


def reader_of(meta):
    return reader_session(ClientId(meta._caller.client_id))


@pytest.fixture
def remover(cluster):
    return cluster.client()


async def test_what_is_kept_stands_in_rows(cluster, meta, remover):
    kept, gone = await create(cluster, meta, "kept"), await create(cluster, meta, "gone")
    await remover.remove("kept")
    await remover.remove("gone")
    assert sorted(await meta.ask(KeepAlive((kept.id, gone.id, 999)))) == [kept.id, gone.id]
    held = await meta.ask(Hold(kept.id))
    assert (held.session, held.inode.length, held.inode.nlink) == (reader_of(meta), 3 * CHUNK, 0)
    await cluster.stop()
    await cluster.start()
    await work_off(cluster.service)
    assert {chunk[:8] for chunk, _ in cluster.chunks.there} == {kept.id.to_bytes(8, "big")}
    assert await meta.ask(KeepAlive((kept.id, gone.id))) == [kept.id]
    with pytest.raises(FS3Error) as caught:
        await meta.ask(Hold(gone.id))
    assert caught.value.code is Code.STALE
    await meta.ask(Close(kept.id, held.session))
    await work_off(cluster.service)
    assert cluster.chunks.there == set()
    assert (await meta.statfs()).garbage == 0


async def test_a_file_is_not_kept_once_its_chunks_are_being_removed(cluster, meta, remover):
    """Also when the service that began with it is restarted in the middle, or another one goes on."""
    inode = await create(cluster, meta, "f")
    await remover.remove("f")
    cluster.chunks.failures = [None, Code.BUSY, Code.BUSY]
    await cluster.service.garbage.step()
    assert 0 < len(cluster.chunks.there) < 3
    await cluster.stop()
    await cluster.start()
    with pytest.raises(FS3Error, match="reclaimed") as caught:
        await meta.ask(Hold(inode.id))
    assert caught.value.code is Code.STALE
    await work_off(cluster.service)
    assert cluster.chunks.there == set()


async def test_another_service_does_not_reclaim_what_is_kept(cluster, meta, remover):
    config = MetaConfig(garbage_delay_ms=0, garbage_interval_ms=3_600_000, stripe=3, chunk_size=CHUNK)
    other = MetaService(cluster.kv, cluster.clock, cluster.routing, cluster.chunks, config, lambda count: b"\xee" * count)
    await other.start()
    inode = await create(cluster, meta, "f")
    await remover.remove("f")
    # It has looked at the queue when the reader comes.
    read = other.garbage._kv.read
    seen = asyncio.Event()

    async def read_slowly(op):
        page = await read(op)
        if page:
            seen.set()
            await meta.ask(Hold(inode.id))
        return page

    other.garbage._kv = SlowKV(cluster.kv, read_slowly)
    await other.garbage.step()
    assert seen.is_set()
    assert len(cluster.chunks.there) == 3
    await meta.ask(Close(inode.id, reader_of(meta)))
    await other.stop()


class SlowKV:
    """A store with another way to read."""

    def __init__(self, kv, read):
        self._kv = kv
        self.read = read
        self.transact = kv.transact


async def test_the_session_of_a_reader_is_ended_with_its_client(cluster, meta, remover):
    inode = await create(cluster, meta, "f")
    await remover.remove("f")
    await meta.ask(Hold(inode.id))
    sessions = cluster.service.sessions
    await sessions.step()
    cluster.clock.advance(25)
    await sessions.step()
    cluster.clock.advance(25)
    await sessions.step()
    cluster.clock.advance(25)
    await sessions.step()
    assert sessions.pruned == 1
    await work_off(cluster.service)
    assert cluster.chunks.there == set()


@pytest.mark.parametrize("count", [512, 513])
async def test_a_keep_alive_tells_of_so_many_contents(meta, count):
    request = KeepAlive(tuple(range(1, count + 1)))
    if count == 512:
        assert await meta.ask(request) == []
        return
    with pytest.raises(FS3Error, match="open_contents"):
        await meta.ask(request)
