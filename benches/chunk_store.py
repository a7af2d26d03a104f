"""The chunk store alone, beside the bare system calls: `python -m benches.chunk_store [--runs 7] [--directory DIR] [--save]`.

Store and bare calls take turns, so that both see the same disk. Both write to fresh places, and both sync.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benches import record
from fs3.base.checksum import checksums
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.drivers.chunks import FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ReadGather

BATCH = 64
CLIENT = ClientId(b"bench of a store")
Figure = Callable[[], Awaitable[float]]


class Bench:
    """A store with some chunks, and a bare file beside it."""

    def __init__(self, directory: Path) -> None:
        self.store = FileChunkStore.open(directory / "target", TargetId(1), OsClock())
        self.fd = os.open(directory / "bare", os.O_RDWR | os.O_CREAT)
        self.data = memoryview(os.urandom(4 * MIB))
        self.sums = {size: tuple(checksums(self.data[:size])) for size in (4 * KIB, 4 * MIB)}
        self.inode = 1
        self.end = 0
        """Of the bare file."""
        self.warm: list[ChunkId] = []
        self.draw = random.Random(1)

    async def stage(self, chunk: ChunkId, size: int) -> None:
        """Stage and commit a new chunk."""
        tag = Tag(CLIENT, 1, 1)
        update = Update(chunk, UpdateKind.WRITE, ChainId(1), 1, 1, 0, size, tag, self.sums[size], size, self.data[:size])
        staged = await self.store.stage(update, 1, 1)
        assert staged.code is Code.OK, staged.message
        self.store.commit(chunk, 1, tag, UpdateResult(Code.OK, 1, staged.length, staged.checksum))

    async def prepare(self, count: int) -> None:
        """Chunks of 4 MiB in the page cache, and as much of the bare file."""
        self.warm = [file_chunk(InodeId(1), index) for index in range(count)]
        for chunk in self.warm:
            await self.stage(chunk, 4 * MIB)
            self.bare_write(4 * MIB)

    def bare_write(self, size: int) -> None:
        os.pwrite(self.fd, self.data[:size], self.end)
        self.end += size

    async def read_batches(self) -> float:
        """4 KiB reads/s in batches of 64, each at a random place of a random chunk."""
        count = 300
        wanted = [4 * KIB] * BATCH
        requests = [
            (self.draw.choices(self.warm, k=BATCH), [self.draw.randrange(1024) * 4 * KIB for _ in range(BATCH)])
            for _ in range(count)
        ]
        began = time.perf_counter()
        for chunks, offsets in requests:
            batch = ReadGather(offsets, wanted)
            for index in self.store.read_many(chunks, batch, range(BATCH), refuse_dirty=True):
                batch.put(index, self.store, await self.store.read_cold(chunks[index], offsets[index], 4 * KIB))
            assert batch.codes == [0] * BATCH
        return count * BATCH / (time.perf_counter() - began)

    async def bare_read_batches(self) -> float:
        """The same with nothing but preadv into slices of a buffer."""
        count = 300
        places = [[self.draw.randrange(self.end // (4 * KIB)) * 4 * KIB for _ in range(BATCH)] for _ in range(count)]
        began = time.perf_counter()
        for offsets in places:
            view = memoryview(bytearray(BATCH * 4 * KIB))
            for index, offset in enumerate(offsets):
                os.preadv(self.fd, (view[index * 4096 : index * 4096 + 4096],), offset)
        return count * BATCH / (time.perf_counter() - began)

    async def read_singly(self) -> float:
        """4 KiB reads/s, one call each."""
        count = 5000
        picked = [(self.draw.choice(self.warm), self.draw.randrange(1024) * 4 * KIB) for _ in range(count)]
        began = time.perf_counter()
        for chunk, offset in picked:
            self.store.read(chunk, offset, 4 * KIB)
        return count / (time.perf_counter() - began)

    def new_chunks(self, count: int) -> list[ChunkId]:
        self.inode += 1
        return [file_chunk(InodeId(self.inode), index) for index in range(count)]

    async def stage_large(self) -> float:
        """MiB/s of new 4 MiB chunks, two under way."""
        chunks = self.new_chunks(8)
        began = time.perf_counter()
        for index in range(0, len(chunks), 2):
            await asyncio.gather(*(self.stage(chunk, 4 * MIB) for chunk in chunks[index : index + 2]))
        return 4 * len(chunks) / (time.perf_counter() - began)

    async def bare_large(self) -> float:
        """MiB/s of pwrite of twice 4 MiB and fdatasync."""
        began = time.perf_counter()
        for _ in range(4):
            self.bare_write(4 * MIB)
            self.bare_write(4 * MIB)
            os.fdatasync(self.fd)
        return 32 / (time.perf_counter() - began)

    async def stage_small(self) -> float:
        """New 4 KiB chunks/s, 64 under way."""
        rounds = 10
        began = time.perf_counter()
        for _ in range(rounds):
            await asyncio.gather(*(self.stage(chunk, 4 * KIB) for chunk in self.new_chunks(BATCH)))
        return rounds * BATCH / (time.perf_counter() - began)

    async def bare_small(self) -> float:
        """pwrites/s of 4 KiB with an fdatasync after each 64."""
        rounds = 10
        began = time.perf_counter()
        for _ in range(rounds):
            for _ in range(BATCH):
                self.bare_write(4 * KIB)
            os.fdatasync(self.fd)
        return rounds * BATCH / (time.perf_counter() - began)

    async def bare_barriers(self) -> float:
        """Like `bare_small`, with the three syncs that a data file and a crash-safe index of it need: one and two."""
        rounds = 10
        index = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR)
        try:
            began = time.perf_counter()
            for _ in range(rounds):
                for _ in range(BATCH):
                    self.bare_write(4 * KIB)
                os.fdatasync(self.fd)
                for _ in range(2):
                    os.pwrite(index, self.data[: 4 * KIB], 0)
                    os.fdatasync(index)
            return rounds * BATCH / (time.perf_counter() - began)
        finally:
            os.close(index)


async def measure(directory: Path, runs: int) -> list[record.Row]:
    """All figures."""
    bench = Bench(directory)
    try:
        await bench.prepare(64)
        return [
            await row("4 KiB reads, batches of 64", "reads/s", bench.read_batches, "bare preadv", bench.bare_read_batches, runs),
            await row("4 KiB reads, one by one", "reads/s", bench.read_singly, "bare preadv", bench.bare_read_batches, runs),
            await row("4 MiB stages", "MiB/s", bench.stage_large, "pwrite + fdatasync", bench.bare_large, runs),
            await row("4 KiB stages, 64 under way", "stages/s", bench.stage_small, "pwrites + fdatasync", bench.bare_small, runs),
            await row("4 KiB stages, 64 under way", "stages/s", bench.stage_small, "with 3 syncs", bench.bare_barriers, runs),
        ]
    finally:
        await bench.store.close()
        os.close(bench.fd)


async def row(name: str, unit: str, figure: Figure, limit_name: str, limit: Figure, runs: int) -> record.Row:
    """A figure and its limit, measured in turns."""
    figures, limits = [], []
    for _ in range(runs):
        limits.append(await limit())
        figures.append(await figure())
    return record.Row("chunk store", name, unit, record.Spread.of(figures), limit_name, record.Spread.of(limits))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benches.chunk_store", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="measurements of each figure; the median is reported")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--save", action="store_true", help="append to benches/results")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fs3-bench-", dir=options.directory))
    try:
        rows = asyncio.run(measure(work, options.runs))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for each in rows:
        assert each.limit is not None
        value, limit = each.value, each.limit
        print(
            f"{each.figure:28} {value.median:10,.0f} {each.unit} ({value.low:,.0f} to {value.high:,.0f})   "
            f"{each.limit_name} {limit.median:,.0f} ({limit.low:,.0f} to {limit.high:,.0f})   ratio {each.ratio:.2f}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    if options.save:
        record.save(rows)


if __name__ == "__main__":
    main()
