"""A process is killed while it writes chunks: what it acknowledged is there, every byte of it, and nothing is there by halves."""

import asyncio
import signal
import subprocess
import sys
import textwrap

import pytest

from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.limits import block_bytes_max
from fs3.base.status import Code
from fs3.drivers.chunks import FileChunkStore
from fs3.drivers.os_clock import OsClock
from fs3.sim.conformance.chunk_tools import bytes_of, noise

CHUNKS = [file_chunk(InodeId(3), index) for index in range(12)]

# Chunk i is one byte pattern per version, so that content follows from the version: whole when the version is even, else with
# something appended. A line is printed when a version is staged, and when it is committed.
WRITER = textwrap.dedent("""
    import asyncio, os, sys
    from fs3.base.ids import InodeId, TargetId, file_chunk
    from fs3.drivers.chunks import FileChunkStore
    from fs3.drivers.os_clock import OsClock
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
