"""What is particular about the chunk store on files: failing disks, limits, locks, caches."""

import asyncio
import dataclasses
import errno
import os
import shutil
import subprocess
import sys

import lmdb
import msgspec
import pytest

from fs3.base.checksum import checksums, crc32c
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore, index
from fs3.drivers.chunks import write_path as updates
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index, IndexNoSpace
from fs3.drivers.chunks.update_log import LogFull, UpdateLog
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import Tag
from fs3.ports.chunk_store import ReadGather, StoreDamaged
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
    has_valid_checksums,
    noise,
    stage,
    update_of,
    write,
)


def open_store(directory, *, target=1, cluster=b"", **config):
    config = {"disk_reserve_bytes": 0, "index_map_bytes": 16 * MIB, "block_reuse_delay_ns": 0, **config}
    return FileChunkStore.open(
        directory / "target", TargetId(target), OsClock(), cluster=cluster, config=ChunkStoreConfig(**config)
    )


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


class TestOpening:
    async def test_a_directory_is_opened_once(self, tmp_path, store):
        with pytest.raises(FS3Error, match=f"pid {os.getpid()}") as caught:
            open_store(tmp_path)
        assert caught.value.code is Code.BUSY
        await store.close()
        store = open_store(tmp_path)
        code = "import sys; from fs3.drivers.chunks import *; FileChunkStore.open(sys.argv[1], 1, None)"
        command = [sys.executable, "-c", code, store.directory]
        other = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert f"in use by another process (pid {os.getpid()})" in other.stderr
        await store.close()

    async def test_another_target_cluster_or_format_is_named(self, tmp_path, monkeypatch):
        await open_store(tmp_path, cluster=b"").close()
        await open_store(tmp_path, cluster=b"\x01\x02").close()
        await open_store(tmp_path, cluster=b"").close()
        with pytest.raises(FS3Error, match="belongs to cluster 0102, not 0103") as caught:
            open_store(tmp_path, cluster=b"\x01\x03")
        assert caught.value.code is Code.WRONG_CLUSTER
        with pytest.raises(FS3Error, match="belongs to target 1, not 2") as caught:
            open_store(tmp_path, target=2)
        assert caught.value.code is Code.CONFIG
        monkeypatch.setattr(index, "FORMAT", 4)
        monkeypatch.setattr(index, "_READABLE", (4,))
        with pytest.raises(FS3Error, match="chunks are in format 3, this is format 4") as caught:
            open_store(tmp_path)
        assert caught.value.code is Code.UNSUPPORTED
        monkeypatch.undo()
        await open_store(tmp_path).close()

    async def test_a_foreign_index_is_refused(self, tmp_path):
        path = tmp_path / "target" / "index"
        path.mkdir(parents=True)
        with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
            txn.put(b"somebody", b"else's")
        with pytest.raises(FS3Error, match="not one of fs3"):
            open_store(tmp_path)
        (path / "data.mdb").write_bytes(b"rubbish" * 1000)
        with pytest.raises(StoreDamaged, match="page 0 is no meta page"):
            open_store(tmp_path)

    @pytest.mark.parametrize("how", ["rotten", "one block twice"])
    async def test_a_damaged_index_is_not_trusted(self, tmp_path, how):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await write(store, B, 0, noise(5000))
        await store.close()
        with lmdb.open(str(tmp_path / "target" / "index"), max_dbs=3) as env:
            rows = env.open_db(b"chunks")
            with env.begin(write=True, db=rows) as txn:
                row = bytearray(txn.get(A))
                if how == "rotten":
                    row[9] ^= 1
                    txn.put(A, bytes(row))
                else:
                    # A row that is sound in itself, under its own key, but refers to the block of A.
                    body = bytes(row[4:])
                    txn.put(C, crc32c(body, crc32c(C)).to_bytes(4, "little") + body)
        with pytest.raises(FS3Error, match="damaged" if how == "rotten" else "two chunks have one block") as caught:
            open_store(tmp_path)
        assert caught.value.code is Code.CHECKSUM
        with pytest.raises(FS3Error):  # and the lock was let go of
            open_store(tmp_path)

    async def test_a_row_that_rots_later_is_noticed_when_it_is_read(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        await store.flush()
        monkeypatch.setattr(DurableIndex, "get_chunk", lambda self, chunk: b"rotten row")
        store._rows._rotate()
        store._rows._rotate()
        with pytest.raises(FS3Error, match=A.hex()):
            store.get(A)
        assert store.read(A, 0, 10).code is Code.CHECKSUM
        assert (await store.read_cold(A, 0, 10)).code is Code.CHECKSUM
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 2, 1)).code is Code.CHECKSUM
        batch = ReadGather([0], [10])
        assert not store.read_many([A], batch, [0], refuse_dirty=True)
        assert batch.codes == [Code.CHECKSUM]


class TestFailingDisks:
    def fail(self, monkeypatch, name, number, when=lambda *args: True):
        real = getattr(os, name)

        def failing(*args):
            if when(*args):
                raise OSError(number, os.strerror(number))
            return real(*args)

        monkeypatch.setattr(os, name, failing)

    @pytest.mark.parametrize(
        ("number", "code"), [(errno.ENOSPC, Code.NO_SPACE), (errno.EDQUOT, Code.NO_SPACE), (errno.EIO, Code.DISK)]
    )
    async def test_a_write_that_fails_spoils_no_other(self, store, monkeypatch, number, code):
        for chunk in (A, B, C):
            await write(store, chunk, 0, noise(100_000), 300_000)
        used, before = store.get_space().used, store.get(A)
        bad = noise(100_000, 2)
        with monkeypatch.context() as patch:
            self.fail(patch, "pwrite", number, lambda fd, data, offset: bytes(data[:100]) == bad[:100])
            results = await asyncio.gather(
                stage(store, update_of(A, WRITE, 0, bad)),
                stage(store, update_of(B, WRITE, 100_000, bad)),
                stage(store, update_of(C, WRITE, 0, noise(100_000, 3), reserve=300_000)),
            )
        assert [result.code for result in results] == [code, code, Code.OK]
        assert A.hex() in results[0].message
        assert os.strerror(number) in results[0].message
        assert store.get(A) == before
        for chunk in (A, B):
            assert await content(store, chunk) == noise(100_000)
            await write(store, chunk, 100_000, bad)
        commit(store, update_of(C, WRITE), results[2])
        await store.flush()
        assert store.get_space().used == used
        assert await content(store, A) == noise(100_000) + bad

    async def test_small_blocks_written_together_fail_one_by_one(self, store, monkeypatch):
        bad = noise(4096, 2)
        self.fail(monkeypatch, "pwritev", errno.ENOSPC, lambda fd, parts, offset: bad in [bytes(part) for part in parts])
        chunks = [file_chunk(InodeId(4), number) for number in range(5)]
        made = [update_of(chunk, WRITE, 0, bad if number == 2 else noise(4000, 3)) for number, chunk in enumerate(chunks)]
        results = await asyncio.gather(*(stage(store, update) for update in made))
        assert [result.code for result in results] == [Code.OK, Code.OK, Code.NO_SPACE, Code.OK, Code.OK]
        for update, result in zip(made, results, strict=True):
            if result.code is Code.OK:
                commit(store, update, result)
                assert await content(store, update.chunk) == noise(4000, 3)

    async def test_no_room_when_syncing_concerns_that_file_only(self, store, monkeypatch):
        await write(store, A, 0, noise(100_000))
        await write(store, B, 0, noise(200_000))
        where = store.locate(A).fd
        with monkeypatch.context() as patch:
            self.fail(patch, "fdatasync", errno.ENOSPC, lambda fd: fd == where)
            results = await asyncio.gather(
                stage(store, update_of(A, WRITE, 0, noise(101_000, 2))),
                stage(store, update_of(B, WRITE, 0, noise(200_000, 2))),
                stage(store, update_of(C, WRITE, 0, noise(5000))),
            )
        assert [result.code for result in results] == [Code.NO_SPACE, Code.OK, Code.OK]
        assert await content(store, A) == noise(100_000)
        await write(store, A, 0, noise(101_000, 2))

    @pytest.mark.parametrize("size", [6000, 100_000], ids=["of the log", "of a block file"])
    async def test_after_a_failed_sync_nothing_is_written_any_more(self, tmp_path, monkeypatch, size):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await store.flush()
        with monkeypatch.context() as patch:
            self.fail(patch, "fdatasync", errno.EIO)
            assert (await stage(store, update_of(A, WRITE, 0, noise(size, 2)))).code is Code.DISK
            patch.setattr(Index, "write", lambda *args: pytest.fail("the log may have what blocks have lost"))
            with pytest.raises(FS3Error, match="opened again"):
                await store.checkpoint()
        refused = await stage(store, update_of(B, WRITE, 0, b"x"))
        assert refused.code is Code.DISK
        assert "opened again" in refused.message
        assert await content(store, A) == noise(5000)
        await store.close()
        store = open_store(tmp_path)
        # A record that could not be synced may be there or not; its caller has been told that nobody knows.
        assert list(store.list_pending()) == ([A] if size == 6000 else [])
        assert await content(store, A) == noise(5000)
        store.drop_pending(A)
        await write(store, A, 0, noise(6000, 2))
        await store.close()

    async def test_a_checkpoint_that_cannot_sync_blocks_ends_writing_and_the_log_has_the_data(self, tmp_path, monkeypatch):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        logs = os.open(tmp_path / "target" / "log", os.O_RDONLY)
        real = os.fdatasync

        def lose(fd):
            if not os.path.sameopenfile(fd, logs):
                raise OSError(errno.EIO, "Input/output error")
            real(fd)

        await store.flush()
        where = store.locate(A)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", lose)
            with pytest.raises(FS3Error, match="data could not be synced") as caught:
                await store.checkpoint()
            assert caught.value.code is Code.DISK
        os.close(logs)
        os.pwrite(where.fd, bytes(5000), where.offset)  # the system has dropped what it could not write
        assert (await stage(store, update_of(B, WRITE, 0, b"x"))).code is Code.DISK
        await store.close()
        store = open_store(tmp_path)
        assert await content(store, A) == noise(5000)
        await store.close()

    async def test_an_index_that_cannot_be_written_ends_writing(self, tmp_path, monkeypatch):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await apply(store, update_of(B, FILL, 0, noise(5000)))
        await apply(store, update_of(B, REMOVE))
        await store.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Index, "write", lambda *args: _panic())
            with pytest.raises(FS3Error, match="mdb_txn_commit") as caught:
                await store.checkpoint()
            assert caught.value.code is Code.DISK
            for _ in range(2):
                assert (await stage(store, update_of(A, WRITE, 0, noise(6000, 2)))).code is Code.DISK
            # What is on the disk is unknown now: blocks that look free must be left alone, however little room there is.
            patch.setattr(BlockFiles, "punch", lambda *args: pytest.fail("a block was emptied"))
            store._planner.disk_free_bytes = -1
            assert store.inspect().vacant_bytes > 0
            await store.flush()
        assert (await stage(store, update_of(A, WRITE, 0, noise(6000, 2)))).code is Code.DISK
        assert await content(store, A) == noise(5000)
        await store.close()

    async def test_no_room_for_the_index(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        used = store.get_space().used
        fill_disk(monkeypatch)
        refused = await stage(store, update_of(B, WRITE, 0, noise(5000)))
        assert refused.code is Code.NO_SPACE
        assert "index" in refused.message
        assert store.get(B) is None
        assert await content(store, A) == noise(5000)
        assert store.get_space().used == used
        with pytest.raises(FS3Error, match="commits cannot be made durable"):
            await store.flush()
        monkeypatch.undo()
        await store.checkpoint()
        await write(store, B, 0, noise(5000))

    async def test_an_index_at_its_limit_refuses_and_recovers(self, tmp_path):
        store = open_store(tmp_path, index_map_bytes=64 * KIB, index_map_bytes_max=256 * KIB, log_segment_bytes=64 * KIB)
        chunks = [file_chunk(InodeId(4), number) for number in range(400)]
        kept = []
        for chunk in chunks:
            update = update_of(chunk, WRITE, 0, noise(2000))
            result = await stage(store, update)
            if result.code is not Code.OK:
                assert result.code is Code.NO_SPACE
                break
            commit(store, update, result)
            kept.append(chunk)
        assert 20 < len(kept) < 200
        assert store.inspect().index_map_bytes == 256 * KIB
        for chunk in kept:
            assert await content(store, chunk) == noise(2000)
        await store.close()
        store = open_store(tmp_path, index_map_bytes=1 * MIB)
        assert [chunk for chunk, _ in store.list(None, 1000)] == kept
        await write(store, chunks[-1], 0, noise(2000))
        await store.close()


class TestRoom:
    async def test_the_disk_keeps_a_reserve_of_which_fills_may_use_half(self, store, monkeypatch):
        store._planner._config = dataclasses.replace(store._config, disk_reserve_bytes=100 * MIB)
        store._files.may_punch = False
        monkeypatch.setattr(BlockFiles, "free_bytes", lambda self: 60 * MIB)
        store._planner.disk_free_bytes = 60 * MIB
        refused = await stage(store, update_of(A, WRITE, 0, noise(5000)))
        assert refused.code is Code.NO_SPACE
        assert "100.0 MiB stay free" in refused.message
        await apply(store, update_of(A, FILL, 0, noise(5000)))
        store._planner.disk_free_bytes = 60 * MIB
        await apply(store, update_of(A, TRUNCATE, 4000))
        await apply(store, update_of(A, REMOVE))

    async def test_a_disk_that_somebody_else_has_freed_takes_writes_again(self, store, monkeypatch):
        store._planner._config = dataclasses.replace(store._config, disk_reserve_bytes=100 * MIB)
        free = 60 * MIB
        monkeypatch.setattr(BlockFiles, "free_bytes", lambda self: free)
        store._planner.disk_free_bytes = 60 * MIB
        assert (await stage(store, update_of(A, WRITE, 0, noise(5000)))).code is Code.NO_SPACE
        free = 900 * MIB
        assert (await stage(store, update_of(A, WRITE, 0, noise(5000)))).code is Code.OK

    async def test_part_of_the_capacity_is_for_fills(self, tmp_path):
        store = open_store(tmp_path, capacity_bytes=256 * KIB, repair_reserve_bytes=128 * KIB)
        await write(store, A, 0, noise(128 * KIB))
        assert store.get_space().free == 0
        refused = await stage(store, update_of(B, WRITE, 0, noise(64 * KIB)))
        assert refused.code is Code.NO_SPACE
        assert "256.0 KiB" in refused.message
        await apply(store, update_of(B, FILL, 0, noise(128 * KIB)))
        assert (await stage(store, update_of(C, FILL, 0, noise(64 * KIB)))).code is Code.NO_SPACE
        await store.close()

    async def test_space_of_free_blocks_goes_back_when_the_disk_runs_low(self, store, monkeypatch):
        await write(store, A, 0, noise(8 * MIB))
        fd = store.locate(A).fd
        await apply(store, update_of(A, REMOVE))
        await store.flush()
        assert os.fstat(fd).st_blocks * 512 >= 8 * MIB

        def free(self):
            return 10 * MIB - os.fstat(fd).st_blocks * 512

        monkeypatch.setattr(BlockFiles, "free_bytes", free)
        store._planner.disk_free_bytes = free(None)
        await write(store, B, 0, noise(4 * MIB))
        assert os.fstat(fd).st_blocks * 512 < 8 * MIB
        assert await content(store, B) == noise(4 * MIB)

    async def test_a_file_system_that_cannot_punch_is_asked_once(self, store, monkeypatch):
        await write(store, A, 0, noise(MIB))
        await apply(store, update_of(A, REMOVE))
        await store.flush()
        monkeypatch.setattr(BlockFiles, "punch", lambda self, place: False)
        monkeypatch.setattr(BlockFiles, "free_bytes", lambda self: 0)
        store._planner.disk_free_bytes = 0
        assert (await stage(store, update_of(B, WRITE, 0, noise(MIB)))).code is Code.NO_SPACE
        assert not store.inspect().may_punch

    async def test_too_many_waiting_updates_are_refused(self, store, monkeypatch):
        monkeypatch.setattr(updates, "batch_items_max", 2)
        results = await asyncio.gather(*(stage(store, update_of(chunk, WRITE, 0, b"x")) for chunk in (A, B, C)))
        assert [result.code for result in results] == [Code.OK, Code.OK, Code.BUSY]

    async def test_a_barrier_takes_a_limited_number(self, store, monkeypatch):
        monkeypatch.setattr(updates, "stages_per_barrier_max", 2)
        chunks = [file_chunk(InodeId(4), number) for number in range(7)]
        results = await asyncio.gather(*(stage(store, update_of(chunk, WRITE, 0, noise(5000))) for chunk in chunks))
        assert {result.code for result in results} == {Code.OK}
        assert list(store.list_pending()) == chunks


class TestBlocks:
    async def test_appends_stay_in_their_block_and_overwrites_do_not(self, store):
        await write(store, A, 0, noise(5000), 4 * MIB)
        where = store.locate(A)
        for step in range(1, 4):
            await write(store, A, 5000 * step, noise(5000))
            assert (store.locate(A).fd, store.locate(A).offset) == (where.fd, where.offset)
        await write(store, A, 100, b"x", 4 * MIB)
        assert store.locate(A).fd == where.fd
        assert store.locate(A).offset != where.offset

    async def test_an_append_does_not_touch_what_a_dropped_one_left_until_that_is_durable(self, store):
        await write(store, A, 0, noise(5000), 64 * KIB)
        where = store.locate(A)
        await stage(store, update_of(A, WRITE, 5000, noise(100)))
        store.drop_pending(A)
        await write(store, A, 5000, noise(100), 64 * KIB)
        assert store.locate(A).offset != where.offset
        await write(store, B, 0, noise(5000), 64 * KIB)
        where = store.locate(B)
        await stage(store, update_of(B, WRITE, 5000, noise(100)))
        store.drop_pending(B)
        await store.flush()
        await write(store, B, 5000, noise(100))
        assert store.locate(B).offset == where.offset

    async def test_small_chunks_in_large_neighbouring_blocks(self, store):
        made = [update_of(chunk, WRITE, 0, noise(5000, seed), reserve=MIB) for seed, chunk in enumerate((A, B, C), 1)]
        results = await asyncio.gather(*(stage(store, update) for update in made))
        for update, result in zip(made, results, strict=True):
            commit(store, update, result)
        for seed, chunk in enumerate((A, B, C), 1):
            assert await content(store, chunk) == noise(5000, seed)

    async def test_versions_and_tags_that_fit_no_row_are_refused(self, store):
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 1 << 32, 1)).code is Code.INVALID
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 1, -1)).code is Code.INVALID
        for tag in (Tag(b"short", 1, 1), Tag(CLIENT, 1 << 32, 1), Tag(CLIENT, 1, 1 << 64)):
            update = msgspec.structs.replace(update_of(A, WRITE, 0, b"x"), tag=tag)
            assert (await store.stage(update, 1, 1)).code is Code.INVALID

    async def test_one_chunk_is_not_changed_twice_at_once(self, store):
        await write(store, A, 0, b"x")
        staging = asyncio.ensure_future(stage(store, update_of(A, WRITE, 0, b"y")))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="being staged already"):
            await stage(store, update_of(A, WRITE, 0, b"z"))
        with pytest.raises(ValueError, match="while an update of it is being staged"):
            store.drop_pending(A)
        assert (await staging).code is Code.OK

    async def test_a_caller_that_is_cancelled_leaves_the_update_staged(self, store):
        staging = asyncio.ensure_future(stage(store, update_of(A, WRITE, 0, noise(5000))))
        await asyncio.sleep(0)
        staging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staging
        await stage(store, update_of(B, WRITE, 0, b"x"))
        assert set(store.list_pending()) == {A, B}


class TestCommits:
    async def test_a_commit_becomes_durable_by_itself(self, tmp_path, monkeypatch):
        store = open_store(tmp_path, commit_sync_ns=1 * MILLISECOND)
        update = update_of(A, WRITE, 0, noise(5000))
        result = await stage(store, update)
        loop, written, real = asyncio.get_running_loop(), asyncio.Event(), UpdateLog.append

        def append(self, *args):
            seq = real(self, *args)
            loop.call_soon_threadsafe(written.set)
            return seq

        monkeypatch.setattr(UpdateLog, "append", append)
        commit(store, update, result)
        await written.wait()
        shutil.copytree(tmp_path / "target", tmp_path / "copy" / "target")
        copy = open_store(tmp_path / "copy")
        assert (copy.get(A).committed, copy.get(A).pending) == (1, 0)
        assert copy.get_channel(CLIENT, 3) is not None
        for each in (copy, store):
            await each.close()

    async def test_a_store_that_was_not_used_closes(self, tmp_path):
        store = open_store(tmp_path)
        await store.flush()
        await store.close()

    async def test_close_finishes_what_waits(self, tmp_path):
        store = open_store(tmp_path)
        staging = asyncio.gather(*(stage(store, update_of(chunk, WRITE, 0, noise(5000))) for chunk in (A, B)))
        await asyncio.sleep(0)
        await store.close()
        assert {result.code for result in await staging} == {Code.OK}
        store = open_store(tmp_path)
        assert sorted(store.list_pending()) == [A, B]
        await store.close()

    async def test_readers_outlive_close(self, tmp_path):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(200_000))
        result = await store.read_cold(A, 0, 200_000)
        await store.close()
        assert bytes_of(result) == noise(200_000)
        with pytest.raises(FS3Error, match="already open"):
            open_store(tmp_path)
        fd = result.parts[0].fd
        store.release(result.pin)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        await open_store(tmp_path).close()

    async def test_a_block_that_left_by_sendfile_rests(self, tmp_path):
        store = open_store(tmp_path, block_reuse_delay_ns=3600 * SECOND)
        await write(store, A, 0, noise(200_000))
        where = store.locate(A)
        result = await store.read_cold(A, 0, 200_000)
        store.release(result.pin)
        for seed in range(3):
            await write(store, A, 0, noise(200_000, seed))
            await store.flush()
            assert store.locate(A).offset != where.offset
        assert store.get_space().pinned > 0
        await store.close()


class TestReads:
    async def test_what_is_cold_is_said_to_be(self, store, monkeypatch):
        """No read on the loop may wait: with an empty page cache every one of them says so, and the disk's thread reads."""
        data = noise(300_000)
        await write(store, A, 0, data)
        real = os.preadv
        for known in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(os, "preadv", lambda fd, into, at, flags=0: _again() if flags else real(fd, into, at))
                for offset, length in ((4096, 4096), (5, 10), (0, 65_536), (100, 200_000)):
                    assert store.read(A, offset, length) is None
                    result = await store.read_cold(A, offset, length)
                    assert bytes_of(result) == data[offset : offset + length]
                    assert has_valid_checksums(result, offset)
                    store.release(result.pin)
                batch = ReadGather([4096, 8192, 0], [4096, 100, 200_000])
                assert list(store.read_many([A] * 3, batch, range(3), refuse_dirty=True)) == [0, 1, 2]
            if not known:
                # With a file system that can tell, these were warm and their sums are known from here on.
                store.read(A, 4096, 4096)

    async def test_the_last_page_may_be_missing(self, store, monkeypatch):
        await write(store, A, 0, noise(300_000))
        monkeypatch.setattr(os, "preadv", lambda fd, into, at, flags=0: 0)
        assert store.read(A, 0, 4096) is None
        assert store.read(A, 0, 300_000) is None
        for offset, length in ((0, 4096), (0, 300_000), (70_000, 80_000)):
            result = await store.read_cold(A, offset, length)
            assert result.code is Code.CHECKSUM
            assert "missing" in result.message

    async def test_a_disk_that_does_not_answer(self, store, monkeypatch):
        await write(store, A, 0, noise(300_000))
        monkeypatch.setattr(os, "preadv", lambda *args: _fail())
        assert store.read(A, 0, 4096) is None
        result = await store.read_cold(A, 0, 4096)
        assert result.code is Code.DISK
        assert A.hex() in result.message

    async def test_a_cancelled_cold_read_lets_go_of_its_block(self, store):
        await write(store, A, 0, noise(300_000))
        reading = asyncio.ensure_future(store.read_cold(A, 0, 300_000))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        while store.inspect().cold_reads:  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.001)
        assert store.inspect().pins == 0

    async def test_the_row_cache_is_bounded_and_only_a_cache(self, tmp_path):
        store = open_store(tmp_path, row_cache_bytes=32 * KIB)
        chunks = [file_chunk(InodeId(6), number) for number in range(300)]
        made = [update_of(chunk, WRITE, 0, noise(3000, seed)) for seed, chunk in enumerate(chunks)]
        for update, result in zip(made, await asyncio.gather(*(stage(store, update) for update in made)), strict=True):
            commit(store, update, result)
        for _ in range(2):
            for seed, chunk in enumerate(chunks):
                batch = ReadGather([0], [4096])
                if not store.read_many([chunk], batch, [0], refuse_dirty=True):
                    assert bytes(batch.view[: batch.lengths[0]]) == noise(3000, seed)
                    assert list(batch.checksums[0]) == checksums(memoryview(noise(3000, seed)), 0, 4096)
                assert store.inspect().rows_cached < 60
            await store.flush()
        assert store.inspect().rows_unsynced == 0
        await store.close()


def _again():
    raise BlockingIOError(errno.EAGAIN, "not now")


def _panic():
    raise lmdb.Error("mdb_txn_commit: Input/output error")


def _fail():
    raise OSError(errno.EIO, "Input/output error")
