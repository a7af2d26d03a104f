"""Power fails at every dangerous moment of every barrier, and any part of what was not synced reaches the disk all the same.

The disk is watched through the system calls: what was written is *loose* until its file is synced. At each crash point a
directory is made from what is synced, a random part of what is loose (in sectors), and the index as it is; the store that
opens there must show exactly what the last index commit said, and every byte must have its sum.
"""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.chunks.index import Index
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import Tag, UpdateResult
from fs3.sim.conformance.chunk_tools import CLIENT, FILL, REMOVE, TRUNCATE, WRITE, bytes_of, expected_content, noise, update_of

CHUNKS = [file_chunk(InodeId(5), index) for index in range(4)]
SECTOR = 512
HOUR = 3_600_000_000_000


def open_store(directory):
    config = ChunkStoreConfig(disk_reserve_bytes=0, index_map_bytes=1 * MIB, block_reuse_delay_ns=0, commit_sync_ns=HOUR)
    return FileChunkStore.open(directory, TargetId(1), OsClock(), config=config)


class Disk:
    """What of the block files is synced, and what is loose."""

    def __init__(self, monkeypatch, directory, prng, after):
        self.directory = directory
        self.synced = {}
        self.loose = {}
        self.prng = prng
        self.after = after
        """Called with a directory: what a crash would leave."""
        self.repaired = 0
        self._pwrite, self._pwritev, self._fdatasync = os.pwrite, os.pwritev, os.fdatasync
        self._write = Index.write
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "pwritev", self.pwritev)
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)
        monkeypatch.setattr(Index, "write", lambda index, *rows: self.commit(index, rows))

    def name_of(self, fd):
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        return path.name if path.parent == self.directory and path.name.startswith("blocks-") else ""

    def pwrite(self, fd, data, offset):
        if name := self.name_of(fd):
            self.loose.setdefault(name, []).append((offset, bytes(data)))
        return self._pwrite(fd, data, offset)

    def pwritev(self, fd, parts, offset):
        if name := self.name_of(fd):
            self.loose.setdefault(name, []).append((offset, b"".join(parts)))
        return self._pwritev(fd, parts, offset)

    def fdatasync(self, fd):
        self.crash()
        name = self.name_of(fd)
        for offset, data in self.loose.pop(name, ()):
            put(self.synced.setdefault(name, bytearray()), offset, data)
        return self._fdatasync(fd)

    def commit(self, index, rows):
        self.crash()
        self._write(index, *rows)
        self.committed()
        self.crash()

    def committed(self):
        """Replaced by the test: the index says something else now."""

    def crash(self):
        copy = self.directory.parent / "after"
        copy.mkdir()
        shutil.copytree(self.directory / "index", copy / "index")
        for name in {*self.synced, *self.loose}:
            image = bytearray(self.synced.get(name, b""))
            keep = self.prng.pick((0, 1, 1, 2))  # nothing, half of the sectors, everything
            for offset, data in self.loose.get(name, ()):
                for at in range(0, len(data), SECTOR):
                    if keep == 2 or (keep == 1 and self.prng.chance(1, 2)):
                        put(image, offset + at, data[at : at + SECTOR])
            (copy / name).write_bytes(image)
        self.after(copy)
        shutil.rmtree(copy)


def put(image, offset, data):
    image.extend(bytes(max(offset + len(data) - len(image), 0)))
    image[offset : offset + len(data)] = data


class Model:
    """(committed, pending) content by chunk, as the loop sees it and as the index has it. A pending REMOVE is REMOVE."""

    def __init__(self):
        self.now = dict.fromkeys(CHUNKS, (None, None))
        self.durable = dict(self.now)

    def check(self, directory):
        asyncio.run(self.check_store(open_store(directory)))

    async def check_store(self, store):
        for chunk, (committed, pending) in self.durable.items():
            meta = store.get(chunk)
            assert (meta is None) == (committed is None and pending is None)
            found = await store.read_cold(chunk, 0, 1 << 30)
            assert found.code is (Code.NOT_FOUND if committed is None else Code.OK), found.message
            assert bytes_of(found) == (committed or b"")
            store.release(found.pin)
            found = await store.read_cold(chunk, 0, 1 << 30, pending=True)
            assert found.code is (Code.NOT_FOUND if pending is None else Code.OK), found.message
            assert bytes_of(found) == (b"" if pending in (None, REMOVE) else pending)
            store.release(found.pin)
        await store.close()


def settle(store, model, prng, chunk, seed):
    """Commit or drop what is pending."""
    committed, pending = model.now[chunk]
    if pending is None:
        return
    if prng.chance(1, 3):
        store.drop_pending(chunk)
        model.now[chunk] = (committed, None)
    else:
        store.commit(chunk, store.get(chunk).pending, Tag(CLIENT, 3, seed), UpdateResult(Code.OK))
        model.now[chunk] = (None if pending is REMOVE else pending, None)


async def work(store, disk, model, prng, steps):
    for seed in range(steps):
        updates = []
        staged = {}
        for chunk in CHUNKS:
            if prng.chance(2, 3):
                settle(store, model, prng, chunk, seed)
            if prng.chance(1, 2):
                committed, _ = model.now[chunk]
                size = len(committed or b"")
                kind = prng.pick((WRITE, WRITE, WRITE, WRITE, TRUNCATE, REMOVE, FILL))
                offset = 0 if kind in (FILL, REMOVE) else prng.pick((0, size, size, size, size, size // 2, size + 3000))
                data = b"" if kind in (TRUNCATE, REMOVE) else noise(1 + prng.below(prng.pick((300, 9000, 90_000))), seed)
                meta = store.get(chunk)
                updates.append((update_of(chunk, kind, offset, data), (meta.committed if meta else 0) + 1))
                staged[chunk] = (committed, REMOVE if kind is REMOVE else expected_content(kind, committed or b"", offset, data))
        if not updates:
            continue
        after = {**model.now, **staged}

        def committed(after=after):
            model.durable = dict(after)

        disk.committed = committed
        # Of chunks nothing is staged for, some are repaired, which changes nothing but the block.
        repairs = [
            store.repair(chunk, store.get(chunk).committed, memoryview(content))
            for chunk, (content, _) in model.now.items()
            if content is not None and chunk not in staged and prng.chance(1, 2)
        ]
        repairing = asyncio.gather(*repairs)
        staging = asyncio.gather(*(store.stage(update, version, 3) for update, version in updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.inspect().is_barrier_running
        # The barrier is under way: what changes in memory now, it does not take along.
        model.now = dict(after)
        for chunk in CHUNKS:
            if chunk not in staged and prng.chance(1, 2):
                settle(store, model, prng, chunk, seed)
        assert {result.code for result in await staging} == {Code.OK}
        disk.repaired += sum(await repairing)


@pytest.mark.parametrize("seed", range(4))
def test_power_loss_finds_what_the_index_says(tmp_path, monkeypatch, seed):
    prng = Prng(seed)
    model = Model()
    crashes = []

    def after(directory):
        model.check(directory)
        crashes.append(directory)

    async def run():
        store = open_store(tmp_path / "target")
        disk = Disk(monkeypatch, tmp_path / "target", prng, after)
        store._files.may_punch = False  # a hole is no system call this test watches
        await work(store, disk, model, prng, 30)
        monkeypatch.undo()
        await store.close()
        assert disk.repaired > 0

    asyncio.run(run())
    assert len(crashes) > 60
