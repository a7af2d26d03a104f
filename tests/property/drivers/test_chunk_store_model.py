"""FileChunkStore does what MemoryChunkStore does: random updates in random bursts, with readers, and the store reopened."""

import asyncio
import tempfile

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.limits import block_bytes_max
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import Tag, UpdateKind, UpdateResult
from fs3.sim.conformance.chunk_tools import CLIENT, bytes_of, has_valid_checksums, noise, update_of

CHUNKS = [file_chunk(InodeId(5), index) for index in range(4)]
WHICH = st.integers(0, len(CHUNKS) - 1)
SIZES = st.one_of(st.integers(1, 9000), st.integers(60_000, 70_000), st.sampled_from((1, 2048, 4096, 65_536, 131_072, 200_000)))
STAGE = st.tuples(
    st.sampled_from([*UpdateKind, UpdateKind.WRITE, UpdateKind.WRITE]),
    st.sampled_from(("start", "end", "middle", "beyond", "block")),
    SIZES,
    st.sampled_from((0, 0, 300_000)),
    st.sampled_from((False, False, False, False, True)),
)
STEP = st.one_of(
    st.dictionaries(WHICH, STAGE, min_size=1).map(lambda updates: ("stage", updates)),
    st.dictionaries(WHICH, STAGE, min_size=1).map(lambda updates: ("stage", updates)),
    st.lists(WHICH, min_size=1, max_size=4).map(lambda chunks: ("commit", chunks)),
    st.lists(WHICH, min_size=1, max_size=4).map(lambda chunks: ("commit", chunks)),
    WHICH.map(lambda chunk: ("drop", chunk)),
    st.tuples(st.just("read"), WHICH, st.integers(0, 300_000), SIZES),
    st.tuples(st.just("pin"), WHICH),
    st.just(("flush",)),
    st.just(("reopen",)),
)


def open_files(directory):
    config = ChunkStoreConfig(disk_reserve_bytes=0, index_map_bytes=256 * KIB, block_reuse_delay_ns=0, row_cache_bytes=4 * KIB)
    return FileChunkStore.open(directory, TargetId(1), OsClock(), config=config)


def make_update(chunk, meta, plan, seed):
    kind, where, size, reserve, wrong = plan
    length = meta.length if meta else 0
    offset = {"start": 0, "end": length, "middle": length // 2, "beyond": length + 5000, "block": 65_536}[where]
    if kind in (UpdateKind.PUT, UpdateKind.FILL, UpdateKind.REMOVE):
        offset = 0
    data = b"" if kind in (UpdateKind.TRUNCATE, UpdateKind.REMOVE) else noise(size, seed)
    update = update_of(chunk, kind, offset, data, seq=seed, reserve=reserve)
    if wrong and data:
        update = msgspec.structs.replace(update, checksums=(update.checksums[0] ^ 1, *update.checksums[1:]))
    return update


async def view(store, chunk):
    """Everything a store shows of a chunk."""
    shown = [store.get(chunk)]
    for pending in (False, True):
        result = await store.read_cold(chunk, 0, block_bytes_max, pending=pending)
        assert has_valid_checksums(result, 0)
        shown += [result.code, result.version, result.length, bytes_of(result)]
        store.release(result.pin)
    return shown


async def follow(steps, directory):
    files, memory = open_files(directory), MemoryChunkStore()
    pinned = []
    try:
        for seed, step in enumerate(steps, 1):
            match step:
                case ("stage", updates):
                    plans = [(CHUNKS[which], memory.get(CHUNKS[which]), plan) for which, plan in updates.items()]
                    made = [
                        (make_update(chunk, meta, plan, seed), (meta.committed if meta else 0) + 1) for chunk, meta, plan in plans
                    ]
                    found = await asyncio.gather(*(files.stage(update, version, 3) for update, version in made))
                    for (update, version), result in zip(made, found, strict=True):
                        wanted = await memory.stage(update, version, 3)
                        assert (result.code, result.length, result.checksum) == (wanted.code, wanted.length, wanted.checksum)
                case ("commit", which):
                    for chunk in (CHUNKS[index] for index in which):
                        meta = memory.get(chunk)
                        if meta is not None and meta.pending:
                            result = UpdateResult(Code.OK, meta.pending, meta.pending_length, meta.pending_checksum)
                            for store in (files, memory):
                                store.commit(chunk, meta.pending, Tag(CLIENT, 3, seed), result)
                case ("drop", which):
                    files.drop_pending(CHUNKS[which])
                    memory.drop_pending(CHUNKS[which])
                case ("read", which, offset, length):
                    wanted = await memory.read_cold(CHUNKS[which], offset, length)
                    for result in (
                        files.read(CHUNKS[which], offset, length),
                        await files.read_cold(CHUNKS[which], offset, length),
                    ):
                        if result is not None:
                            assert (result.code, result.version, bytes_of(result)) == (
                                wanted.code,
                                wanted.version,
                                bytes_of(wanted),
                            )
                            assert list(result.checksums) == list(wanted.checksums)
                            files.release(result.pin)
                case ("pin", which):
                    result = await files.read_cold(CHUNKS[which], 0, block_bytes_max)
                    pinned.append((result, bytes_of(result)))
                case ("flush",):
                    await files.flush()
                case ("reopen",):
                    release(files, pinned)
                    await files.close()
                    files = open_files(directory)
            for result, was in pinned:
                assert bytes_of(result) == was
            for chunk in CHUNKS:
                assert await view(files, chunk) == await view(memory, chunk)
            assert files.list(None, 9) == memory.list(None, 9)
            assert sorted(files.list_pending()) == memory.list_pending()
            assert files.get_channel(CLIENT, 3) == memory.get_channel(CLIENT, 3)
            assert files.get_space().chunks == memory.get_space().chunks
        release(files, pinned)
        for chunk in CHUNKS:
            meta = files.get(chunk)
            if meta is not None:
                files.drop_pending(chunk)
                await files.stage(update_of(chunk, UpdateKind.REMOVE), meta.committed + 1, 3)
                files.commit(chunk, meta.committed + 1, Tag(CLIENT, 3, 0), UpdateResult(Code.OK))
        await files.flush()
        files.get_space()
        assert (files.get_space().used, files.get_space().pinned, files.get_space().chunks) == (0, 0, 0)
    finally:
        await files.close()


def release(files, pinned):
    for result, was in pinned:
        assert bytes_of(result) == was
        files.release(result.pin)
    pinned.clear()


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=14))
def test_the_store_on_files_is_the_store_in_memory(steps):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(follow(steps, f"{directory}/target"))
