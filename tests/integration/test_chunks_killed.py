"""A process is killed while it writes chunks: what it acknowledged is there, every byte of it, and nothing is there by halves."""

import asyncio
import signal
import subprocess
import sys
import textwrap

import pytest

from fs3.base.ids import ClientId, InodeId, TargetId, file_chunk
from fs3.base.limits import block_bytes_max
from fs3.base.status import Code
from fs3.drivers.chunks import FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import UpdateKind
from fs3.sim.conformance.chunk_tools import bytes_of, noise, update_of

CHUNKS = [file_chunk(InodeId(3), index) for index in range(12)]

# Chunk i is one byte pattern per version, so that content follows from the version: whole when the version is even, else with
# something appended. A line is printed when a version is staged, and when it is committed.
WRITER = textwrap.dedent("""
    import asyncio, os, sys
    from fs3.base.ids import InodeId, TargetId, file_chunk
    from fs3.drivers.chunks import FileChunkStore
    from fs3.drivers.os.clock import OsClock
    from fs3.model.chunk import Tag, UpdateKind, UpdateResult
    from fs3.base.status import Code
    from fs3.sim.conformance.chunk_tools import CLIENT, noise, update_of

    async def writer(store, index):
        chunk = file_chunk(InodeId(3), index)
        while True:
            meta = store.get(chunk)
            version = meta.committed + 1 if meta else 1
            if meta is None or not meta.pending:
                if version % 2:
                    update = update_of(chunk, UpdateKind.FILL, 0, noise(index * 9000 + 100, version), seq=version)
                else:
                    update = update_of(chunk, UpdateKind.WRITE, meta.length, noise(index * 500 + 1, version), seq=version)
                result = await store.stage(update, version, 1)
                assert result.code is Code.OK, result
                os.write(1, b"S %d %d\\n" % (index, version))
            store.commit(chunk, version, Tag(CLIENT, index, version), UpdateResult(Code.OK, version))
            os.write(1, b"C %d %d\\n" % (index, version))

    async def main():
        store = FileChunkStore.open(sys.argv[1], TargetId(1), OsClock())
        await asyncio.gather(*(writer(store, index) for index in range(12)))

    asyncio.run(main())
""")


def content_of(index, version):
    content = noise(index * 9000 + 100, version - 1 if version % 2 == 0 else version)
    return content + noise(index * 500 + 1, version) if version % 2 == 0 else content


async def check(directory, staged, committed):
    store = FileChunkStore.open(directory, TargetId(1), OsClock())
    for index, chunk in enumerate(CHUNKS):
        meta = store.get(chunk)
        newest = max(meta.committed, meta.pending) if meta else 0
        assert staged.get(index, 0) <= newest <= staged.get(index, 0) + 1
        for version, pending in ((meta.committed, False), (meta.pending, True)) if meta else ():
            if version:
                result = await store.read_cold(chunk, 0, block_bytes_max, pending=pending)
                assert result.code is Code.OK, result.message
                assert bytes_of(result) == content_of(index, version)
                store.release(result.pin)
        # A commit may be undone, but only the last one, and then it is pending.
        assert not meta or meta.committed >= committed.get(index, 0) - 1
        assert not meta or meta.committed >= committed.get(index, 0) or meta.pending == committed[index]
    await store.close()


@pytest.mark.processes
def test_acknowledged_chunks_survive_kill_9(tmp_path):
    staged: dict[int, int] = {}
    committed: dict[int, int] = {}
    for life in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "target")], stdout=subprocess.PIPE)
        lines = [writer.stdout.readline() for _ in range(150 + 67 * life)]
        writer.send_signal(signal.SIGKILL)
        lines += [line for line in writer.stdout if line.endswith(b"\n")]
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        for line in lines:
            kind, index, version = line.split()
            (staged if kind == b"S" else committed)[int(index)] = int(version)
        asyncio.run(check(tmp_path / "target", staged, committed))
    assert max(committed.values()) > 4


# Chunks are marked bad and repaired over and over, some of them with a pending version beside, while channel rows are merged and
# forgotten. A line is printed when a merge has returned, and when a repair has.
REPAIRER = textwrap.dedent("""
    import asyncio, os, sys
    from fs3.base.ids import ClientId, InodeId, TargetId, file_chunk
    from fs3.drivers.chunks import FileChunkStore
    from fs3.drivers.os.clock import OsClock
    from fs3.model.chunk import ChannelRow, UpdateKind, UpdateResult
    from fs3.base.status import Code
    from fs3.sim.conformance.chunk_tools import noise, update_of, write

    async def repairer(store, index):
        chunk = file_chunk(InodeId(3), index)
        data = noise(index * 9000 + 3000, index)
        if store.get(chunk) is None:
            await write(store, chunk, 0, data, 200_000)
            if index % 3 == 0:
                await store.stage(update_of(chunk, UpdateKind.FILL, 0, noise(5000, index)), 2, 1)
        while True:
            store.mark_bad(chunk)
            assert await store.repair(chunk, 1, memoryview(data))
            os.write(1, b"R %d 0\\n" % index)
            if index % 3 == 1:
                await store.stage(update_of(chunk, UpdateKind.FILL, 0, noise(5000, index)), 2, 1)
                store.drop_pending(chunk)

    async def merger(store, number):
        client = ClientId(bytes((number,)) * 16)
        row = store.get_channel(client, 1)
        seq = row.seq if row is not None else 0
        while True:
            seq += 1
            new = ChannelRow(seq, file_chunk(InodeId(3), 0), UpdateResult(Code.OK, seq))
            await store.merge_channels([((client, channel), new) for channel in range(9)])
            os.write(1, b"M %d %d\\n" % (number, seq))
            if seq % 50 == 0:
                store.advance_channel_epoch()

    async def main():
        store = FileChunkStore.open(sys.argv[1], TargetId(1), OsClock())
        await asyncio.gather(*(repairer(store, index) for index in range(12)), *(merger(store, number) for number in (1, 2)))

    asyncio.run(main())
""")


async def check_repaired(directory, merged):
    store = FileChunkStore.open(directory, TargetId(1), OsClock())
    for index, chunk in enumerate(CHUNKS):
        meta = store.get(chunk)
        if meta is not None and meta.committed:
            result = await store.read_cold(chunk, 0, block_bytes_max)
            # A mark that was taken away may be back, but the bytes are right all the same.
            assert (result.code is Code.CHECKSUM) == (chunk in store.bad_chunks)
            store.release(result.pin)
            assert await store.verify(chunk)
            result = await store.read_cold(chunk, 0, block_bytes_max)
            assert bytes_of(result) == noise(index * 9000 + 3000, index)
            store.release(result.pin)
        if meta is not None and meta.pending == 2:
            result = await store.read_cold(chunk, 0, block_bytes_max, pending=True)
            assert bytes_of(result) == noise(5000, index)
            store.release(result.pin)
        elif meta is not None and meta.committed and index % 3 == 0:
            # Killed between the two updates that begin: then nobody stages the second any more.
            await store.stage(update_of(chunk, UpdateKind.FILL, 0, noise(5000, index)), 2, 1)
        elif meta is not None and not meta.committed:
            store.drop_pending(chunk)
    for number, seq in merged.items():
        found = [store.get_channel(ClientId(bytes((number,)) * 16), channel) for channel in range(9)]
        assert len({row.seq for row in found}) == 1  # a merge of few rows is there as a whole
        assert seq <= found[0].seq <= seq + 1
    await store.close()


@pytest.mark.processes
def test_merges_and_repairs_survive_kill_9(tmp_path):
    merged: dict[int, int] = {}
    repaired: set[int] = set()
    for life in range(4):
        process = subprocess.Popen([sys.executable, "-c", REPAIRER, str(tmp_path / "target")], stdout=subprocess.PIPE)
        lines = [process.stdout.readline() for _ in range(150 + 67 * life)]
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout if line.endswith(b"\n")]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        for line in lines:
            kind, index, seq = line.split()
            if kind == b"M":
                merged[int(index)] = int(seq)
            else:
                repaired.add(int(index))
        asyncio.run(check_repaired(tmp_path / "target", merged))
    assert len(merged) == 2
    assert len(repaired) == 12
