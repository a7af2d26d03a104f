"""Damaged stores: whatever has happened to the files of a target, opening it says so, and nothing crashes."""

import os
import random
import shutil
import subprocess
import sys
import textwrap

import lmdb
import msgspec
import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.chunks.index import Index
from fs3.drivers.lmdb.file_check import check_file
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import ChannelRow, UpdateResult
from fs3.ports.chunk_store import StoreDamaged
from fs3.sim.conformance.chunk_tools import CLIENT, REMOVE, A, B, apply, content, noise, update_of, write

PAGE = 4096


def open_store(directory, **config):
    config = {"disk_reserve_bytes": 0, "index_map_bytes": 16 * MIB, "block_reuse_delay_ns": 0, **config}
    return FileChunkStore.open(directory, TargetId(1), OsClock(), config=ChunkStoreConfig(**config))


@pytest.fixture
async def made(tmp_path):
    """The directory of a store with a few pages of everything: chunks of all kinds, channels, marks, free pages."""
    directory = tmp_path / "target"
    store = open_store(directory)
    for number in range(120):
        chunk = file_chunk(InodeId(4), number)
        await write(store, chunk, 0, noise(600 if number % 3 else 9000))
    await write(store, A, 0, noise(100_000))
    await write(store, B, 0, noise(9 * MIB))  # a row that is longer than a page has room for
    for number in range(0, 120, 7):
        await apply(store, update_of(file_chunk(InodeId(4), number), REMOVE))
    result = UpdateResult(Code.OK)
    await store.merge_channels([((CLIENT, number), ChannelRow(1, A, result)) for number in range(200)])
    store.mark_bad(A)
    store.advance_channel_epoch()
    await store.close()
    return directory


def data_of(directory):
    return directory / "index" / "data.mdb"


class TestIndexFile:
    async def test_a_sound_one_is_opened(self, made):
        check_file(data_of(made))
        store = open_store(made)
        assert (store.get_space().chunks, store.channel_count, store.channel_epoch, list(store.bad_chunks)) == (104, 200, 2, [A])
        assert await content(store, B) == noise(9 * MIB)
        await store.close()

    async def test_every_truncation_is_noticed(self, made):
        file = data_of(made)
        whole = file.read_bytes()
        sizes = sorted({*range(0, len(whole), 5 * PAGE), 1, 100, PAGE - 1, PAGE, 2 * PAGE, 2 * PAGE + 1})
        for size in sizes:
            file.write_bytes(whole[:size])
            with pytest.raises(StoreDamaged, match="is gone" if not size else "damaged"):
                open_store(made)
        file.unlink()
        with pytest.raises(StoreDamaged, match="is gone"):
            open_store(made)
        shutil.rmtree(made / "index")
        with pytest.raises(StoreDamaged, match="is gone"):
            open_store(made)
        assert not (made / "index").exists()

    async def test_an_index_that_was_never_begun_is_made(self, tmp_path):
        (tmp_path / "index").mkdir(parents=True)
        data_of(tmp_path).write_bytes(b"")
        store = open_store(tmp_path)
        await write(store, A, 0, b"x")
        await store.close()

    async def test_an_empty_index_where_there_was_one_is_no_new_store(self, made):
        data_of(made).unlink()
        with lmdb.open(str(made / "index")) as env, env.begin(write=True):
            pass
        with pytest.raises(StoreDamaged, match="is empty"):
            open_store(made)

    @pytest.mark.parametrize("how", ["zeros", "noise", "other page"])
    async def test_every_page_that_matters_is_looked_at(self, made, how):
        file = data_of(made)
        whole = file.read_bytes()
        count = len(whole) // PAGE
        prng = random.Random(3)
        refused = 0
        for page in range(count):
            other = {"zeros": bytes(PAGE), "noise": prng.randbytes(PAGE), "other page": whole[-PAGE:]}[how]
            file.write_bytes(whole[: page * PAGE] + other + whole[(page + 1) * PAGE :])
            try:
                store = open_store(made)
            except StoreDamaged:
                refused += 1
            else:
                # A free page, or the same page: nothing of the store is in it.
                assert store.get_space().chunks == 104
                for number in range(1, 120):
                    if number % 7:
                        assert await content(store, file_chunk(InodeId(4), number)) == noise(600 if number % 3 else 9000)
                await store.close()
            # The store that was opened may have written.
            file.write_bytes(whole)
        assert refused > 15

    async def test_flipped_bits_are_noticed_or_do_no_harm(self, made):
        file = data_of(made)
        whole = file.read_bytes()
        prng = random.Random(5)
        used = [page for page in range(len(whole) // PAGE) if any(whole[page * PAGE + 32 : (page + 1) * PAGE])]
        refused = 0
        for _ in range(150):
            rotten = bytearray(whole)
            at = prng.choice(used) * PAGE + (prng.randrange(PAGE) if prng.random() < 0.6 else prng.randrange(200))
            rotten[at] ^= 1 << prng.randrange(8)
            file.write_bytes(rotten)
            try:
                store = open_store(made)
            except StoreDamaged:
                refused += 1
            else:
                assert (store.get_space().chunks, store.channel_count, store.channel_epoch) == (104, 200, 2)
                await store.close()
        assert refused > 25

    @pytest.mark.parametrize("name", [b"chunks", b"channels", b"bad", b"channel epoch", b"target"])
    async def test_a_name_that_has_changed_is_not_made_anew(self, made, name):
        """A bit of it, which leaves the names in order."""
        whole = data_of(made).read_bytes()
        data_of(made).write_bytes(whole.replace(name, name[:-1] + bytes((name[-1] ^ 1,))))
        with pytest.raises(StoreDamaged):
            open_store(made)

    async def test_a_garbage_lock_file_does_no_harm(self, made):
        (made / "index" / "lock.mdb").write_bytes(os.urandom(5000))
        store = open_store(made)
        assert store.get_space().chunks == 104
        await store.close()
        (made / "index" / "lock.mdb").write_bytes(b"")
        await open_store(made).close()

    async def test_the_rows_about_the_store_have_sums_of_their_own(self, made):
        for key, message in ((b"target", "whose the chunk index is"), (b"channel epoch", "epoch is damaged")):
            with lmdb.open(str(made / "index"), max_dbs=3) as env, env.begin(write=True) as txn:
                row = txn.get(key)
                changed = bytearray(row)
                changed[1] ^= 1
                txn.put(key, bytes(changed))
            with pytest.raises(StoreDamaged, match=message):
                open_store(made)
            with lmdb.open(str(made / "index"), max_dbs=3) as env, env.begin(write=True) as txn:
                txn.put(key, row)
        await open_store(made).close()

    async def test_a_channel_row_that_rotted_is_noticed(self, made):
        with lmdb.open(str(made / "index"), max_dbs=3) as env:
            rows = env.open_db(b"channels")
            with env.begin(write=True, db=rows) as txn:
                key = CLIENT + (7).to_bytes(4, "big")
                row = bytearray(txn.get(key))
                row[-3] ^= 1
                txn.put(key, bytes(row))
        with pytest.raises(StoreDamaged, match=f"channel 7 of client {CLIENT.hex()}"):
            open_store(made)

    def test_a_crash_cannot_happen(self, tmp_path):
        """The same damage in a process of its own that goes on to use what it could open: it ends by itself."""
        script = textwrap.dedent("""
            import asyncio, random, shutil, sys
            from pathlib import Path
            from fs3.base.errors import FS3Error
            from fs3.base.ids import InodeId, TargetId, file_chunk
            from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
            from fs3.drivers.os.clock import OsClock
            from fs3.sim.conformance.chunk_tools import REMOVE, apply, noise, update_of, write

            def opened(path):
                config = ChunkStoreConfig(disk_reserve_bytes=0, index_map_bytes=1 << 24)
                return FileChunkStore.open(path, TargetId(1), OsClock(), config=config)

            async def main(root):
                store = opened(root / "made")
                for number in range(150):
                    await write(store, file_chunk(InodeId(4), number), 0, noise(600))
                for number in range(0, 150, 2):
                    await apply(store, update_of(file_chunk(InodeId(4), number), REMOVE))
                await store.close()
                prng = random.Random(9)
                whole = (root / "made" / "index" / "data.mdb").read_bytes()
                for _ in range(40):
                    rotten = bytearray(whole)
                    at = prng.randrange(len(whole) // 4096) * 4096
                    choice = prng.randrange(3)
                    if choice == 0:
                        at += prng.randrange(40)
                        rotten[at : at + 4] = prng.randbytes(4)
                    elif choice == 1:
                        rotten[at : at + 4096] = prng.randbytes(4096)
                    else:
                        del rotten[at:]
                    (root / "made" / "index" / "data.mdb").write_bytes(rotten)
                    try:
                        store = opened(root / "made")
                    except FS3Error as why:
                        continue
                    store.list(None, 1000)
                    for number in range(60):
                        await write(store, file_chunk(InodeId(5), number), 0, noise(600))
                    await store.close()
                print("the end")

            asyncio.run(main(Path(sys.argv[1])))
        """)
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr

    def test_what_lmdb_writes_is_found_sound(self, tmp_path):
        """Random commits to trees of all shapes, with readers that keep pages from being used again."""
        prng = random.Random(11)
        with lmdb.open(str(tmp_path), map_size=1 << 28, max_dbs=3, sync=False) as env:
            trees = [env.open_db(name) for name in (b"chunks", b"channels", b"bad")]
            live = [set(), set(), set()]
            reader = None
            for step in range(400):
                shrinking = step % 100 > 60
                if prng.random() < 0.1:
                    if reader is not None:
                        reader.abort()
                    reader = env.begin() if reader is None else None
                with env.begin(write=True) as txn:
                    for _ in range(prng.choice((1, 10, 60))):
                        which = prng.choice((0, 0, 1, 2))
                        if live[which] and (shrinking or prng.random() < 0.3):
                            key = live[which].pop()
                            txn.delete(key, db=trees[which])
                        else:
                            key = prng.getrandbits(20).to_bytes(20 if which == 1 else 16, "big")
                            live[which].add(key)
                            size = prng.choice((5, 60, 300, 2100, 4700, 9400) if which == 0 else (40, 100, 220))
                            txn.put(key, prng.randbytes(size), db=trees[which])
                check_file(tmp_path / "data.mdb")
            if reader is not None:
                reader.abort()
        assert (tmp_path / "data.mdb").stat().st_size > 100 * PAGE


class TestBlockFiles:
    async def test_a_file_that_is_shorter_than_its_rows_say(self, made):
        file = made / "blocks-104k"
        assert file.exists()
        os.truncate(file, 99_999)
        with pytest.raises(StoreDamaged, match="has 99999 bytes, the index refers to 100000") as caught:
            open_store(made)
        assert "blocks-104k" in str(caught.value)
        file.unlink()
        with pytest.raises(StoreDamaged, match="has 0 bytes"):
            open_store(made)

    async def test_a_file_that_shrinks_or_goes_while_it_is_used(self, made):
        store = open_store(made)
        await write(store, A, 0, noise(100_000))
        os.truncate(made / "blocks-104k", 50_000)
        warm = store.read(A, 0, 100_000)
        assert warm is None or warm.code is Code.CHECKSUM
        assert (await store.read_cold(A, 90_000, 100)).code is Code.CHECKSUM
        assert list(store.bad_chunks) == [A]
        assert await store.repair(A, store.get(A).committed, memoryview(noise(100_000)))
        assert await content(store, A) == noise(100_000)
        os.truncate(made / "blocks-104k", 0)
        assert not await store.verify(A)
        meta = store.get(B)
        (made / "blocks-9216k").unlink()
        assert not await store.verify(B)
        assert store.get(B) == meta
        await store.close()


class TestOldFormat:
    async def test_a_store_without_epochs_and_marks_opens(self, tmp_path):
        directory = tmp_path / "target"
        store = open_store(directory)
        await write(store, A, 0, noise(5000))
        row = store.get_channel(CLIENT, 3)
        await store.close()
        (directory / "made").unlink()
        with lmdb.open(str(directory / "index"), max_dbs=3) as env:
            channels = env.open_db(b"channels")
            with env.begin(write=True) as txn:
                txn.put(CLIENT + (3).to_bytes(4, "big"), msgspec.msgpack.encode(row), db=channels)
                txn.put(b"target", msgspec.msgpack.encode((1, 1, b"")))
                txn.drop(env.open_db(b"bad", txn=txn))
        store = open_store(directory)
        assert (store.get_channel(CLIENT, 3), store.channel_count, store.channel_epoch) == (row, 1, 1)
        assert store.list_channels(None, 10) == [((CLIENT, 3), row)]
        assert await content(store, A) == noise(5000)
        store.mark_bad(A)
        store.advance_channel_epoch()
        await store.flush()
        assert store.channel_count == 0
        await store.close()
        store = open_store(directory)
        assert (list(store.bad_chunks), store.channel_epoch, store.channel_count) == ([A], 2, 0)
        await store.close()


def test_damage_is_told_apart_from_other_reasons(tmp_path):
    why = StoreDamaged("it is damaged", str(tmp_path))
    assert isinstance(why, FS3Error)
    assert why.code is Code.CHECKSUM
    assert type(why.__reduce__()[0](*why.__reduce__()[1])) is StoreDamaged


def test_an_index_that_is_as_it_should_be_is_opened_without_writing_to_it(tmp_path):
    """So that it opens on a full disk."""
    for _ in range(2):
        index = Index(tmp_path, TargetId(1), b"c" * 16, 1 << 20, 1 << 20, 1 << 20)
        newest = index._env.info()["last_txnid"]
        index.close()
    again = Index(tmp_path, TargetId(1), b"c" * 16, 1 << 20, 1 << 20, 1 << 20)
    assert again._env.info()["last_txnid"] == newest
    again.close()
