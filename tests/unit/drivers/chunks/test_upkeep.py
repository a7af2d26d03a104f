"""Scrub, repair, marks, channel rows and snapshots of the chunk store on files: what the suite for all stores cannot see."""

import asyncio
import dataclasses
import errno
import gc
import os
import threading

import lmdb
import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId, InodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.chunks import bad_chunks as marks
from fs3.drivers.chunks import channel_table as channels
from fs3.drivers.chunks import verifier as scrubbing
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index, IndexNoSpace
from fs3.drivers.chunks.update_log import LogFull, UpdateLog
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import ChannelRow, UpdateResult
from fs3.ports.chunk_store import StoreDamaged
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    FILL,
    REMOVE,
    TRUNCATE,
    WRITE,
    A,
    B,
    C,
    apply,
    bytes_of,
    commit,
    content,
    noise,
    stage,
    update_of,
    write,
)


def open_store(directory, **config):
    config = {"disk_reserve_bytes": 0, "index_map_bytes": 16 * MIB, "block_reuse_delay_ns": 0, **config}
    return FileChunkStore.open(directory / "target", TargetId(1), OsClock(), config=ChunkStoreConfig(**config))


def fill_disk(monkeypatch):
    """Neither the log nor the index has room for a row."""

    def append(*args):
        raise LogFull

    def write(*args):
        raise IndexNoSpace("No space left on device")

    monkeypatch.setattr(UpdateLog, "append", append)
    monkeypatch.setattr(Index, "write", write)


@pytest.fixture
async def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    await store.close()


def rot(store, chunk, offset):
    where = store.locate(chunk)
    byte = os.pread(where.fd, 1, where.offset + offset)
    os.pwrite(where.fd, bytes((byte[0] ^ 0x40,)), where.offset + offset)


class TestScrub:
    async def test_it_reads_the_disk_and_not_the_page_cache(self, store, monkeypatch):
        """Bytes that are wrong on the disk only are found, and bytes that are wrong in the cache only are not."""
        await write(store, A, 0, noise(3 * MIB))
        real, cached = os.preadv, store.locate(A).fd
        read = []

        def preadv(fd, into, at, flags=0):
            found = real(fd, into, at, flags)
            (view,) = into
            read.append(fd)
            if (fd == cached) == (wrong == "cache"):
                memoryview(view)[0] ^= 1
            return found

        monkeypatch.setattr(os, "preadv", preadv)
        wrong = "cache"
        assert list((await store.scrub(None, 1 << 30)).bad_chunks) == []
        assert cached not in read
        wrong = "disk"
        assert list((await store.scrub(None, 1 << 30)).bad_chunks) == [A]

    @pytest.mark.parametrize("where", ["open", "read"])
    async def test_a_file_system_without_direct_reads(self, store, monkeypatch, where):
        await write(store, A, 0, noise(3 * MIB))
        await write(store, B, 0, noise(200_000))
        rot(store, B, 150_000)
        real_open, real_read = os.open, os.preadv
        direct = set()

        def no_open(path, flags, mode=0o777):
            if flags & os.O_DIRECT and where == "open":
                raise OSError(errno.EINVAL, "Invalid argument")
            fd = real_open(path, flags, mode)
            direct.update({fd} if flags & os.O_DIRECT else ())
            return fd

        def no_read(fd, into, at, flags=0):
            if fd in direct:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real_read(fd, into, at, flags)

        forgotten = []
        monkeypatch.setattr(os, "open", no_open)
        monkeypatch.setattr(os, "preadv", no_read)
        monkeypatch.setattr(os, "posix_fadvise", lambda fd, at, length, advice: forgotten.append(advice))
        for _ in range(2):
            step = await store.scrub(None, 1 << 30)
        assert list(store.bad_chunks) == [B]
        assert step.bytes == 3 * MIB
        assert set(forgotten) == {os.POSIX_FADV_DONTNEED}

    async def test_what_only_the_page_cache_has_wrong_is_dropped_from_it(self, store, monkeypatch):
        await write(store, A, 0, noise(200_000))
        real, cached = os.preadv, store.locate(A).fd
        rotten = True

        def preadv(fd, into, at, flags=0):
            found = real(fd, into, at, flags)
            if fd == cached and rotten:
                memoryview(into[0])[0] ^= 1
            return found

        def forget(fd, at, length, advice):
            nonlocal rotten
            assert (fd, length, advice) == (cached, 200_000, os.POSIX_FADV_DONTNEED)
            rotten = False

        monkeypatch.setattr(os, "preadv", preadv)
        monkeypatch.setattr(os, "posix_fadvise", forget)
        assert await store.verify(A)
        assert not rotten
        assert not store.bad_chunks

    async def test_sums_that_have_rotted_in_memory_are_read_again(self, store):
        await write(store, A, 0, noise(200_000))
        await store.flush()
        for look in (True, False):
            version = store._rows.find(A).committed
            version.sums = bytes(len(version.sums))
            assert (await store.read_cold(A, 0, 4096)).code is Code.CHECKSUM
            assert list(store.bad_chunks) == [A]
            if look:
                assert await store.verify(A)
            else:
                assert await store.repair(A, 1, memoryview(noise(200_000)))
            assert not store.bad_chunks
            assert await content(store, A) == noise(200_000)

    async def test_an_unreadable_sector_is_a_bad_chunk(self, store, monkeypatch):
        await write(store, A, 0, noise(200_000))
        monkeypatch.setattr(os, "preadv", lambda *args: _fail(errno.EIO))
        assert not await store.verify(A)
        assert "cannot be read: Input/output error" in store.bad_chunks[A]

    async def test_bytes_in_the_index_are_verified_too(self, store):
        await write(store, A, 0, b"small")
        row = store._rows.find(A)
        row.committed.inline = b"smell"
        store._rows.unsynced[A] = row
        assert not await store.verify(A)
        assert "have changed in the index" in store.bad_chunks[A]
        del store._rows.unsynced[A]

    async def test_a_damaged_row_stops_a_scrub(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        await store.flush()
        monkeypatch.setattr(DurableIndex, "scan", lambda self, after, step=1: iter([(A, b"rotten row")]))
        with pytest.raises(StoreDamaged, match=A.hex()):
            await store.scrub(None, 1)

    async def test_one_buffer_for_all_and_no_wait_for_the_disk_thread(self, store, monkeypatch):
        sizes, threads = set(), set()
        real = scrubbing.verify_blocks

        def verify(version, chunk, first, view):
            sizes.add(len(view))
            threads.add(threading.current_thread().name)
            return real(version, chunk, first, view)

        await write(store, A, 0, noise(5 * MIB + 1))
        monkeypatch.setattr(scrubbing, "verify_blocks", verify)
        await store.scrub(None, 1 << 30)
        assert sizes == {1 * MIB, 1}
        assert all("read" in name for name in threads)

    async def test_a_block_is_not_used_again_while_it_is_looked_at(self, store, monkeypatch):
        await write(store, A, 0, noise(200_000))
        where = store.locate(A)
        looking, go_on = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), scrubbing.verify_blocks

        def verify(*args):
            loop.call_soon_threadsafe(looking.set)
            go_on.wait(30)
            return real(*args)

        monkeypatch.setattr(scrubbing, "verify_blocks", verify)
        scrub = asyncio.ensure_future(store.scrub(None, 1 << 30))
        await looking.wait()
        try:
            for seed in range(2, 5):
                await write(store, A, 0, noise(200_000, seed))
                await store.flush()
                assert store.locate(A).offset != where.offset
            scrub.cancel()
            assert store.get_space().pinned > 0
        finally:
            go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await scrub
        while store.inspect().cold_reads:  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.001)
        assert (store.get_space().pinned, dict(store.bad_chunks)) == (0, {})

    async def test_a_version_that_is_gone_is_not_marked(self, store, monkeypatch):
        await write(store, A, 0, noise(200_000))
        rot(store, A, 5)
        looking, go_on = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), scrubbing.verify_blocks

        def verify(*args):
            loop.call_soon_threadsafe(looking.set)
            go_on.wait(30)
            return real(*args)

        monkeypatch.setattr(scrubbing, "verify_blocks", verify)
        scrub = asyncio.ensure_future(store.scrub(None, 1 << 30))
        await looking.wait()
        await write(store, A, 0, noise(200_000, 2))
        go_on.set()
        assert list((await scrub).bad_chunks) == [A]
        assert not store.bad_chunks

    async def test_a_closed_store_is_not_scrubbed(self, tmp_path):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await store.close()
        for refused in (store.scrub(None, 1), store.verify(A), store.repair(A, 1, memoryview(b"")), store.merge_channels([])):
            with pytest.raises(FS3Error) as caught:
                await refused
            assert caught.value.code is Code.SHUTTING_DOWN


class TestMarks:
    async def test_they_are_durable_with_the_next_barrier(self, tmp_path):
        store = open_store(tmp_path)
        for chunk in (A, B):
            await write(store, chunk, 0, noise(5000))
            store.mark_bad(chunk, "π" * 500)
        await apply(store, update_of(B, REMOVE))
        await store.close()
        store = open_store(tmp_path)
        assert list(store.bad_chunks) == [A]
        assert set(store.bad_chunks[A]) == {"π"}
        assert await store.repair(A, 1, memoryview(noise(5000)))
        await store.close()
        store = open_store(tmp_path)
        assert not store.bad_chunks
        await store.close()

    async def test_a_mark_without_its_version_is_forgotten(self, tmp_path):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await store.close()
        env = lmdb.open(str(tmp_path / "target" / "index"), max_dbs=3)
        with env, env.begin(write=True, db=env.open_db(b"bad")) as txn:
            txn.put(B, b"?")
        store = open_store(tmp_path)
        assert not store.bad_chunks
        await write(store, B, 0, noise(5000))
        await store.close()
        store = open_store(tmp_path)
        assert not store.bad_chunks
        await store.close()

    @pytest.mark.parametrize("update", [update_of(A, WRITE, 200_000, b"more"), update_of(A, TRUNCATE, 190_000)])
    async def test_a_marked_chunk_is_not_changed_in_place(self, store, update):
        """Where there is room for that too: another replica may have to copy, and finds the damage."""
        await write(store, A, 0, noise(200_000), 1 * MIB)
        rot(store, A, 5)
        assert not await store.verify(A)
        refused = await stage(store, update)
        assert (refused.code, list(store.bad_chunks)) == (Code.CHECKSUM, [A])
        assert await store.repair(A, 1, memoryview(noise(200_000)))
        await apply(store, update)
        assert await content(store, A) == (noise(200_000) + b"more" if update.length else noise(190_000))

    async def test_what_is_cut_off_may_be_damaged(self, store):
        await write(store, A, 0, noise(200_000), 1 * MIB)
        rot(store, A, 150_000)
        assert not await store.verify(A)
        await apply(store, update_of(A, TRUNCATE, 65_536))
        assert not store.bad_chunks
        assert await content(store, A) == noise(200_000)[:65_536]

    async def test_there_is_a_limit(self, store, monkeypatch):
        monkeypatch.setattr(marks, "bad_chunks_max", 1)
        for chunk in (A, B):
            await write(store, chunk, 0, noise(200_000))
            rot(store, chunk, 5)
            assert (await store.read_cold(chunk, 0, 100)).code is Code.CHECKSUM
        assert list(store.bad_chunks) == [A]
        assert (await store.read_cold(B, 0, 100)).code is Code.CHECKSUM

    async def test_a_barrier_that_fails_loses_no_mark(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        store.mark_bad(A)
        store.advance_channel_epoch()
        fill_disk(monkeypatch)
        with pytest.raises(FS3Error, match="commits cannot be made durable"):
            await store.flush()
        monkeypatch.undo()
        await store.flush()
        assert [chunk for chunk, _ in store._index.scan_bad_chunks()] == [A]
        assert store._index.read_channel_epoch() == 2


class TestRepair:
    async def test_it_goes_to_another_block_of_the_same_size(self, store):
        await write(store, A, 0, noise(5000), 1 * MIB)
        where = store.locate(A)
        store.mark_bad(A)
        assert await store.repair(A, 1, memoryview(noise(5000)))
        assert store.locate(A).fd == where.fd
        assert store.locate(A).offset != where.offset
        await write(store, A, 5000, noise(5000, 2))
        assert await content(store, A) == noise(5000) + noise(5000, 2)

    async def test_a_pending_version_in_the_same_block_comes_first(self, store):
        await write(store, A, 0, noise(5000), 1 * MIB)
        update = update_of(A, WRITE, 5000, b"more")
        staged = await stage(store, update)
        assert not await store.repair(A, 1, memoryview(noise(5000)))
        commit(store, update, staged)
        assert await store.repair(A, 2, memoryview(noise(5000) + b"more"))

    async def test_not_while_an_update_is_staged(self, store):
        await write(store, A, 0, noise(5000))
        staging = asyncio.ensure_future(stage(store, update_of(A, FILL, 0, noise(6000))))
        await asyncio.sleep(0)
        assert not await store.repair(A, 1, memoryview(noise(5000)))
        assert (await staging).code is Code.OK

    async def test_it_may_use_what_is_reserved_for_fills(self, tmp_path):
        store = open_store(tmp_path, capacity_bytes=256 * KIB, repair_reserve_bytes=128 * KIB)
        await write(store, A, 0, noise(128 * KIB))
        assert (await stage(store, update_of(B, WRITE, 0, noise(64 * KIB)))).code is Code.NO_SPACE
        assert await store.repair(A, 1, memoryview(noise(128 * KIB)))
        await store.flush()
        await apply(store, update_of(B, FILL, 0, noise(128 * KIB)))
        with pytest.raises(FS3Error, match=r"256\.0 KiB") as caught:
            await store.repair(A, 1, memoryview(noise(128 * KIB)))
        assert caught.value.code is Code.NO_SPACE
        assert await content(store, A) == noise(128 * KIB)
        await apply(store, update_of(B, REMOVE))
        await store.flush()
        assert await store.repair(A, 1, memoryview(noise(128 * KIB)))
        await store.close()

    async def test_a_disk_below_its_reserve_still_repairs_fills_and_removes(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        await write(store, B, 0, noise(5000))
        store._planner._config = dataclasses.replace(store._config, disk_reserve_bytes=100 * MIB)
        store._files.may_punch = False
        monkeypatch.setattr(BlockFiles, "free_bytes", lambda self: store._planner.disk_free_bytes)
        store._planner.disk_free_bytes = 60 * MIB
        assert (await stage(store, update_of(C, WRITE, 0, noise(5000)))).code is Code.NO_SPACE
        assert await store.repair(A, 1, memoryview(noise(5000)))
        store._planner.disk_free_bytes = 60 * MIB
        await apply(store, update_of(C, FILL, 0, noise(5000)))
        store._planner.disk_free_bytes = 0
        await apply(store, update_of(B, REMOVE))
        with pytest.raises(FS3Error, match="stay free"):
            await store.repair(A, 1, memoryview(noise(5000)))
        await store.merge_channels([((CLIENT, 9), ChannelRow(1, A, UpdateResult(Code.OK)))])

    async def test_a_repair_that_cannot_be_written_changes_nothing(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        store.mark_bad(A)
        used = store.get_space().used
        fill_disk(monkeypatch)
        with pytest.raises(FS3Error, match="index") as caught:
            await store.repair(A, 1, memoryview(noise(5000)))
        assert caught.value.code is Code.NO_SPACE
        monkeypatch.undo()
        await store.checkpoint()
        real, blocks = os.pwritev, store.locate(A).fd
        monkeypatch.setattr(os, "pwritev", lambda fd, *args: _fail(errno.EIO) if fd == blocks else real(fd, *args))
        with pytest.raises(FS3Error, match="Input/output error") as caught:
            await store.repair(A, 1, memoryview(noise(5000)))
        assert caught.value.code is Code.DISK
        monkeypatch.undo()
        assert list(store.bad_chunks) == [A]
        assert store.get_space().used == used
        assert await store.repair(A, 1, memoryview(noise(5000)))

    async def test_a_cancelled_repair_is_finished(self, store):
        await write(store, A, 0, noise(5000))
        store.mark_bad(A)
        repairing = asyncio.ensure_future(store.repair(A, 1, memoryview(noise(5000))))
        await asyncio.sleep(0)
        repairing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await repairing
        staged = await stage(store, update_of(A, WRITE, 0, b"x"))
        assert staged.code is Code.OK
        assert not store.bad_chunks

    async def test_a_stage_that_is_cancelled_while_it_waits_for_a_repair(self, store):
        await write(store, A, 0, noise(5000))
        repairing = asyncio.ensure_future(store.repair(A, 1, memoryview(noise(5000))))
        await asyncio.sleep(0)
        staging = asyncio.ensure_future(stage(store, update_of(A, WRITE, 0, b"x")))
        await asyncio.sleep(0)
        staging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staging
        assert await repairing
        assert (await stage(store, update_of(A, WRITE, 0, b"x"))).code is Code.OK

    async def test_a_store_may_be_closed_during_a_repair(self, tmp_path):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        rot(store, A, 5)
        repairing = asyncio.ensure_future(store.repair(A, 1, memoryview(noise(5000))))
        await asyncio.sleep(0)
        staging = asyncio.ensure_future(stage(store, update_of(A, WRITE, 0, b"x")))
        await asyncio.sleep(0)
        await store.close()
        assert await repairing
        assert (await staging).code in (Code.SHUTTING_DOWN, Code.OK)
        store = open_store(tmp_path)
        assert bytes_of(await store.read_cold(A, 0, 1 << 30)) == noise(5000)
        await store.close()


class TestChannels:
    async def test_old_rows_go_a_page_at_a_time(self, tmp_path, monkeypatch):
        store = open_store(tmp_path, commit_sync_ns=1 * MILLISECOND)
        monkeypatch.setattr(channels, "channels_per_sweep_max", 10)
        result = UpdateResult(Code.OK)
        rows = [((CLIENT, number), ChannelRow(1, A, result)) for number in range(95)]
        await store.merge_channels(rows)
        store.advance_channel_epoch()
        await store.merge_channels(rows[::2])
        counts = []
        real = channels.ChannelTable.sweep
        swept = asyncio.Event()

        def sweep(self):
            before = self.count
            real(self)
            counts.append(before - self.count)
            if not self.needs_sweep:
                swept.set()

        monkeypatch.setattr(channels.ChannelTable, "sweep", sweep)
        store.advance_channel_epoch()
        await swept.wait()  # by itself, with nobody asking for anything
        assert max(counts) <= 10
        assert sum(counts) == 47
        await store.flush()
        assert [key for key, _ in store.list_channels(None, 100)] == [key for key, _ in rows[::2]]
        assert store.channel_count == 48
        await store.close()
        store = open_store(tmp_path)
        assert (store.channel_count, store.channel_epoch) == (48, 3)
        await store.close()

    async def test_a_row_that_is_used_again_while_it_is_dropped(self, store):
        key = (ClientId(b"another-client!!"), 1)
        for seq in range(1, 4):
            await store.merge_channels([(key, ChannelRow(seq, A, UpdateResult(Code.OK)))])
            store.advance_channel_epoch()
            await store.flush()
            store.advance_channel_epoch()
            store._channels.sweep()
            assert (store.get_channel(*key), store.channel_count, store.list_channels(None, 5)) == (None, 0, [])
            store._channels.record(key, ChannelRow(seq, B, UpdateResult(Code.OK)))
            assert (store.get_channel(*key).chunk, store.channel_count) == (B, 1)
            await store.flush()
            assert (store.get_channel(*key).chunk, store.channel_count) == (B, 1)
            assert store._index.count_channels() == 1


class TestSnapshots:
    async def test_a_scan_that_is_left_half_done_keeps_no_reader_slot(self, store):
        """A slot of LMDB is given back when the transaction object dies, so nothing may keep old ones alive."""
        for number in range(4):
            await write(store, file_chunk(InodeId(4), number), 0, b"x")
        left = []
        for number in range(300):
            for scan in (store._index.scan(None, 1), store._index.scan_channels(None, 1)):
                next(scan)
                left.append(scan)
            await write(store, file_chunk(InodeId(4), number % 4), 0, b"y")
            await store.flush()
            await store.checkpoint()
        assert len(store._index.index._env.readers().splitlines()) <= 4

    async def test_a_snapshot_that_cannot_be_had_breaks_writes_and_nothing_hangs(self, store):
        await write(store, A, 0, noise(5000))
        await store.flush()
        env = store._index.index._env
        taken = []
        while len(taken) < 126 and (txn := _begun(env)) is not None:
            taken.append(txn)
        assert len(taken) > 100
        with pytest.raises(FS3Error, match="cannot be read any more") as caught:
            await store.checkpoint()
        assert caught.value.code is Code.DISK
        assert (await stage(store, update_of(B, WRITE, 0, noise(5000)))).code is Code.DISK
        assert await content(store, A) == noise(5000)
        assert (await stage(store, update_of(C, WRITE, 0, noise(5000)))).code is Code.DISK
        for txn in taken:
            txn.abort()
        taken.clear()
        gc.collect()


def _begun(env):
    try:
        return env.begin()
    except lmdb.ReadersFullError:
        return None


def _fail(number):
    raise OSError(number, os.strerror(number))
