"""The log and the checkpoints of a store: what a crash leaves at any time, what one write costs, and what a full log does."""

import asyncio
import errno
import os
import shutil

import lmdb
import msgspec
import pytest

from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore, checkpoint
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index, IndexNoSpace
from fs3.drivers.chunks.log_records import BlockWrite, LogRecord, PackedRows
from fs3.drivers.chunks.replay import replay
from fs3.drivers.chunks.rows import IndexRow, Version, encode, pack_sums
from fs3.drivers.chunks.sizes import class_for, place_of
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import ChannelRow, UpdateKind, UpdateResult
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    FILL,
    REMOVE,
    WRITE,
    A,
    B,
    C,
    apply,
    bytes_of,
    content,
    noise,
    stage,
    update_of,
    write,
)

CHUNKS = [file_chunk(InodeId(4), number) for number in range(60)]


def open_store(directory, **config):
    config = {
        "disk_reserve_bytes": 0,
        "index_map_bytes": 16 * MIB,
        "block_reuse_delay_ns": 0,
        "checkpoint_interval_ns": 3600 * SECOND,
        "log_segment_bytes": 1 * MIB,
        **config,
    }
    return FileChunkStore.open(directory / "target", TargetId(1), OsClock(), config=ChunkStoreConfig(**config))


def crash(store, directory, number=0, **config):
    """The store as a killed process leaves it: a copy, opened."""
    copy = directory / f"copy-{number}"
    shutil.copytree(store.directory, copy / "target")
    return open_store(copy, **config)


@pytest.fixture
async def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    await store.close()


class TestCosts:
    @pytest.mark.parametrize(("size", "syncs"), [(100, 1), (4096, 1), (64 * KIB, 1), (64 * KIB + 1, 2)])
    async def test_a_small_update_costs_one_sync_and_no_commit_of_the_index(self, store, monkeypatch, size, syncs):
        for chunk in (A, B):
            await write(store, chunk, 0, noise(size))
        calls = []
        real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append(fd) or real(fd))
        monkeypatch.setattr(Index, "write", lambda *args: pytest.fail("the index is written"))
        results = await asyncio.gather(*(stage(store, update_of(chunk, FILL, 0, noise(size, 2))) for chunk in (A, B)))
        assert [result.code for result in results] == [Code.OK, Code.OK]
        assert len(calls) == syncs
        monkeypatch.undo()

    async def test_small_appends_and_overwrites_cost_one_sync_too(self, store, monkeypatch):
        await write(store, A, 0, noise(200_000), 300_000)
        await write(store, B, 0, noise(9000))
        calls = []
        real = os.fdatasync
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", lambda fd: calls.append(fd) or real(fd))
            await write(store, A, 201_000, b"end")
            await write(store, B, 100, b"middle")
        assert len(calls) == 2
        copy = crash(store, store.directory.parent)
        for chunk, wanted in ((A, noise(200_000) + bytes(1000) + b"end"), (B, noise(9000)[:100] + b"middle" + noise(9000)[106:])):
            result = await copy.read_cold(chunk, 0, 1 << 30, pending=copy.get(chunk).pending != 0)
            assert bytes_of(result) == wanted
            copy.release(result.pin)
            assert await content(store, chunk) == wanted
        await copy.close()


class TestCrashes:
    async def test_what_only_the_log_has_is_there_after_a_crash_and_after_the_next(self, store, tmp_path):
        for number, chunk in enumerate(CHUNKS[:20]):
            await write(store, chunk, 0, noise(500 + 300 * number, number))
        await apply(store, update_of(CHUNKS[3], REMOVE))
        await store.merge_channels([((CLIENT, 9), ChannelRow(5, A, UpdateResult(Code.OK)))])
        store.mark_bad(CHUNKS[4])
        store.advance_channel_epoch()
        await store.flush()
        assert store.inspect().rows_in_log > 20
        for file in store.directory.glob("blocks-*"):  # blocks are not synced
            os.truncate(file, 0)
        copy = crash(store, tmp_path, 1)
        again = crash(copy, tmp_path, 2)
        for each in (copy, again):
            assert [chunk for chunk, _ in each.list(None, 100)] == CHUNKS[:3] + CHUNKS[4:20]
            for number, chunk in enumerate(CHUNKS[:20]):
                if number not in (3, 4):
                    assert await content(each, chunk) == noise(500 + 300 * number, number)
            assert list(each.bad_chunks) == [CHUNKS[4]]
            assert (each.get_channel(CLIENT, 9).seq, each.channel_epoch) == (5, 2)
            assert each.channel_count == store.channel_count
            await each.close()
        # A store that was closed has nothing to take over.
        again = open_store(tmp_path / "copy-2")
        assert again.inspect().rows_in_log == 0
        await again.close()

    async def test_a_crash_during_a_checkpoint(self, store, tmp_path, monkeypatch):
        """Rows that it writes, and those that came afterwards."""
        await write(store, A, 0, noise(5000))
        await store.flush()
        real = Index.write
        copies = []

        def copy_then_write(*args):
            shutil.copytree(store.directory, tmp_path / "before" / "target")
            real(*args)
            shutil.copytree(store.directory, tmp_path / "after" / "target")
            copies.extend(("before", "after"))

        monkeypatch.setattr(Index, "write", copy_then_write)
        await store.checkpoint()
        monkeypatch.undo()
        for name, rows in zip(copies, (1, 0), strict=True):
            copy = open_store(tmp_path / name)
            assert (copy.inspect().rows_in_log > 0) == rows
            assert await content(copy, A) == noise(5000)
            await copy.close()

    async def test_rows_in_both_layers_are_listed_once_and_in_order(self, store, monkeypatch):
        """Those of the index, those a checkpoint writes, and those that came since."""
        for number in range(0, 30, 3):
            await write(store, CHUNKS[number], 0, b"index")
        await store.checkpoint()
        for number in range(1, 30, 3):
            await write(store, CHUNKS[number], 0, b"moving")
        await apply(store, update_of(CHUNKS[3], REMOVE))
        await store.flush()
        store._index.begin_checkpoint()
        for number in range(2, 30, 3):
            await write(store, CHUNKS[number], 0, b"fresh")
        await apply(store, update_of(CHUNKS[4], REMOVE))
        await write(store, CHUNKS[3], 0, b"again")
        await apply(store, update_of(CHUNKS[6], REMOVE))
        await store.flush()
        wanted = [chunk for number, chunk in enumerate(CHUNKS[:30]) if number not in (4, 6)]
        for limit in (1, 3, 7, 100):
            found, after = [], None
            while page := store.list(after, limit):
                found += [chunk for chunk, _ in page]
                after = page[-1][0]
            assert found == wanted
        assert [chunk for chunk, _ in store._index.scan(CHUNKS[10], 2)] == [chunk for chunk in wanted if chunk > CHUNKS[10]]
        store._index.undo_checkpoint()
        await store.checkpoint()
        assert [chunk for chunk, _ in store.list(None, 100)] == wanted
        assert store.inspect().rows_in_log == 0


class TestCheckpoints:
    async def test_a_full_log_forces_checkpoints_and_hangs_nobody(self, tmp_path):
        store = open_store(tmp_path, log_segment_bytes=64 * KIB, log_segments_max=1)
        for _ in range(3):
            await asyncio.gather(*(write(store, chunk, 0, noise(9000, number)) for number, chunk in enumerate(CHUNKS)))
        assert (tmp_path / "target" / "log").stat().st_size == 4 * KIB + 64 * KIB
        copy = crash(store, tmp_path)
        for number, chunk in enumerate(CHUNKS):
            assert await content(store, chunk) == noise(9000, number)
            meta = copy.get(chunk)
            assert meta.committed + (meta.pending != 0) == 3
        await copy.close()
        await store.close()

    async def test_a_record_larger_than_a_segment_goes_to_the_index(self, tmp_path):
        store = open_store(tmp_path, log_segment_bytes=32 * KIB)
        result = UpdateResult(Code.OK)
        rows = [((CLIENT, number), ChannelRow(1, A, result)) for number in range(1000)]
        await store.merge_channels(rows)
        assert store.inspect().rows_in_log == 0
        await write(store, A, 0, b"x")
        copy = crash(store, store.directory.parent)
        assert copy.channel_count >= 1000
        await copy.close()
        await store.close()

    async def test_many_rows_make_one_due(self, store, monkeypatch):
        monkeypatch.setattr(checkpoint, "checkpoint_rows_max", 10)
        for chunk in CHUNKS[:9]:
            await write(store, chunk, 0, b"x")
        await store._checkpointer.wait()
        assert store.inspect().rows_in_log < 10

    async def test_time_makes_one_due(self, tmp_path, monkeypatch):
        loop, written, real = asyncio.get_running_loop(), asyncio.Event(), Index.write

        def write_index(self, *args):
            real(self, *args)
            loop.call_soon_threadsafe(written.set)

        store = open_store(tmp_path, checkpoint_interval_ns=1 * MILLISECOND)
        monkeypatch.setattr(Index, "write", write_index)
        await write(store, A, 0, b"x")
        await written.wait()
        await store.close()

    async def test_an_index_without_room_keeps_the_log_for_what_makes_room(self, store, monkeypatch):
        for chunk in (A, B):
            await write(store, chunk, 0, noise(5000))
        with monkeypatch.context() as patch:
            patch.setattr(Index, "write", _no_space)
            with pytest.raises(FS3Error, match="No space left") as caught:
                await store.checkpoint()
            assert caught.value.code is Code.NO_SPACE
            refused = await stage(store, update_of(C, WRITE, 0, noise(5000)))
            assert refused.code is Code.NO_SPACE
            assert "No space left" in refused.message
            await apply(store, update_of(A, REMOVE))
            await store.flush()
            assert await content(store, B) == noise(5000)
        await store.checkpoint()
        await write(store, C, 0, noise(5000))
        assert store.get(A) is None

    async def test_a_store_of_an_index_without_room_closes_and_its_log_is_taken_over(self, tmp_path, monkeypatch):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        with monkeypatch.context() as patch:
            patch.setattr(Index, "write", _no_space)
            await store.close()
        store = open_store(tmp_path)
        assert await content(store, A) == noise(5000)
        await store.close()

    async def test_a_mistake_in_a_checkpoint_ends_writing(self, store, monkeypatch):
        await write(store, A, 0, noise(5000))
        with monkeypatch.context() as patch:
            patch.setattr(Index, "write", lambda *args: 1 // 0)
            with pytest.raises(FS3Error, match="internal error"):
                await store.checkpoint()
        assert (await stage(store, update_of(B, WRITE, 0, b"x"))).code is Code.DISK


class TestFormats:
    async def test_a_store_without_a_log_gets_one(self, tmp_path):
        store = open_store(tmp_path)
        await write(store, A, 0, noise(5000))
        await store.close()
        with lmdb.open(str(tmp_path / "target" / "index"), max_dbs=3) as env, env.begin(write=True) as txn:
            row = [2, *msgspec.msgpack.decode(txn.get(b"target"))[1:3]]
            txn.put(b"target", msgspec.msgpack.encode([*row, crc32c(msgspec.msgpack.encode([*row, 0]))]))
            txn.delete(b"log")
        (tmp_path / "target" / "log").unlink()
        for _ in range(2):
            store = open_store(tmp_path)
            assert await content(store, A) == noise(5000)
            await store.close()
        (tmp_path / "target" / "log").unlink()
        with pytest.raises(FS3Error, match="the log is gone"):
            open_store(tmp_path)

    async def test_the_row_about_the_log_has_a_sum(self, tmp_path):
        await open_store(tmp_path).close()
        with lmdb.open(str(tmp_path / "target" / "index"), max_dbs=3) as env, env.begin(write=True) as txn:
            packed = bytearray(txn.get(b"log"))
            packed[9] ^= 1
            txn.put(b"log", bytes(packed))
        with pytest.raises(FS3Error, match="where the log begins is damaged"):
            open_store(tmp_path)


class TestReplay:
    PLACE = place_of(class_for(16 * KIB), 2)

    @pytest.fixture
    def files(self, tmp_path):
        files = BlockFiles(tmp_path)
        yield files
        files.close()

    def record(self, files, chunk, version, start, data, *, logged=True, length=8000):
        made = Version(version, 1, length, self.PLACE, pack_sums([0]), None, files)
        rows = PackedRows({chunk: encode(chunk, IndexRow(made, None, UpdateKind.WRITE, None))})
        return LogRecord(version, rows, [BlockWrite(self.PLACE, start, memoryview(data) if logged else None)], 4096)

    def look(self, files):
        fd, at = files.locate(self.PLACE)
        return os.pread(fd, 8000, at)

    def test_later_bytes_of_a_block_win(self, files):
        replayed = replay([self.record(files, A, 1, 0, b"a" * 8000), self.record(files, A, 2, 3000, b"b" * 2000)], files)
        assert self.look(files) == b"a" * 3000 + b"b" * 2000
        assert replayed.classes == {class_for(16 * KIB)}
        assert list(replayed.rows.chunks) == [A]

    def test_bytes_that_were_synced_in_the_block_are_left_alone(self, files):
        fd, at = files.locate(self.PLACE)
        os.pwrite(fd, b"s" * 8000, at)
        replay([self.record(files, A, 1, 0, b"a" * 8000), self.record(files, B, 2, 3000, b"", logged=False)], files)
        assert self.look(files) == b"a" * 3000 + b"s" * 5000

    def test_bytes_no_row_refers_to_are_not_written(self, files):
        dropped = self.record(files, A, 2, 0, b"")
        dropped.rows.chunks[A] = None
        dropped.writes.clear()
        replayed = replay([self.record(files, A, 1, 0, b"a" * 8000), dropped], files)
        assert self.look(files) == b""
        assert not replayed.classes

    @pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, Code.NO_SPACE), (errno.EIO, Code.DISK)])
    def test_a_disk_that_does_not_take_the_bytes(self, files, monkeypatch, number, code):
        def fail(*args):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(FS3Error, match="cannot take over what the log has") as caught:
            replay([self.record(files, A, 1, 0, b"a" * 8000)], files)
        assert caught.value.code is code

    def test_a_damaged_row_is_no_row(self, files):
        record = self.record(files, A, 1, 0, b"a" * 8000)
        record.rows.chunks[A] = b"rotten row"
        with pytest.raises(FS3Error, match=A.hex()):
            replay([record], files)


def _no_space(*args):
    raise IndexNoSpace("No space left on device")
