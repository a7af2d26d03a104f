"""One run of ring 0: a store is worked with while power fails at every dangerous moment, and each image is looked at.

The store that opens on an image must show exactly what the last record of the log said, and every byte must have its sum; a
record that is being written may be there as a whole or not at all. Of some images the store goes on: power fails again when it
has just taken over what the log has, and one update later. Only chunks are changed whose last change has come through, and some
change while a barrier is under way: those it does not take along.

The log is so small that it fills up all the time. Checkpoints run on the disk thread, so that a run is the same every time: some
are begun while a barrier is under way, and some are overtaken by the next one.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, InodeId, TargetId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import Prewritten
from fs3.runtime.worker_threads import BoundCall, Call, WorkerThreads
from fs3.sim.conformance.chunk_tools import CLIENT, FILL, REMOVE, TRUNCATE, WRITE, bytes_of, expected_content, noise, update_of
from fs3.sim.ring import Outcome, Tell
from fs3.sim.ring0.disk import PowerLossDisk

P = ParamSpec("P")
T = TypeVar("T")

STEPS = 30
CHANNEL = 3
CHUNKS = [file_chunk(InodeId(5), index) for index in range(4)]
CONFIG = ChunkStoreConfig(
    disk_reserve_bytes=0,
    index_map_bytes=1 * MIB,
    log_segment_bytes=24 * KIB,
    log_segments_max=2,
    logged_bytes_max=4 * KIB,
    checkpoint_interval_ns=3600 * SECOND,
    row_cache_bytes=4 * KIB,
    block_reuse_delay_ns=0,
    commit_sync_ns=3600 * SECOND,
)
"""Nothing is done by the clock, all updates of a step fit into one record, and the cache of rows is so small that most are asked
of the index."""

_AGAIN = noise(6000, 77)

Content = bytes | UpdateKind | None
"""Of a version; a pending REMOVE is that."""


@dataclass(frozen=True)
class StoreModel:
    """What a store must show."""

    chunks: dict[ChunkId, tuple[bytes | None, Content]] = field(default_factory=lambda: dict.fromkeys(CHUNKS, (None, None)))
    """Chunk -> committed and pending content."""
    channel_seq: int = 0
    """Of the last commit."""

    def with_chunk(self, chunk: ChunkId, committed: bytes | None, pending: Content) -> StoreModel:
        """One chunk is something else."""
        return replace(self, chunks={**self.chunks, chunk: (committed, pending)})


async def explain_difference(store: FileChunkStore, model: StoreModel) -> str:
    """How a store differs from what it must show; "" not at all."""
    row = store.get_channel(CLIENT, CHANNEL)
    if (row.seq if row is not None else 0) != model.channel_seq:
        return f"the channel is at {row.seq if row is not None else 0}, not {model.channel_seq}"
    for chunk, (committed, pending) in model.chunks.items():
        name = f"chunk {CHUNKS.index(chunk)}"
        meta = store.get(chunk)
        if (meta is None) != (committed is None and pending is None):
            return f"{name} {'is missing' if meta is None else 'has come back'}"
        for is_pending, content in ((False, committed), (True, pending)):
            found = await store.read_cold(chunk, 0, 1 << 30, pending=is_pending)
            what = f"the {'pending' if is_pending else 'committed'} version of {name}"
            try:
                if found.code is not (Code.NOT_FOUND if content is None else Code.OK):
                    return f"{what} is answered {found.code.name}: {found.message}"
                if bytes_of(found) != (content if isinstance(content, bytes) else b""):
                    return f"{what} has other bytes"
            finally:
                store.release(found.pin)
    return ""


class CheckpointQueue(Executor):
    """Has checkpoints run on the disk thread. Some wait, while barriers overtake them, until the run or a full log wants them."""

    def __init__(self, disk: WorkerThreads, prng: Prng) -> None:
        self._disk = disk
        self._prng = prng
        self._held: list[tuple[Future[Any], BoundCall]] = []
        self.is_patient = True
        """Some wait."""

    @property
    def has_held(self) -> bool:
        """One waits."""
        return bool(self._held)

    def submit(self, fn: Call[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """`Executor.submit`."""
        if not self.is_patient or self._prng.chance(1, 4):
            return self._disk.submit(fn, *args, **kwargs)
        future: Future[T] = Future()
        self._held.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run_held(self) -> None:
        """What waits is next on the disk thread."""
        for future, call in self._held:
            self._disk.submit(_complete, future, call)
        self._held.clear()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """`Executor.shutdown`: the disk thread is another's."""


def _complete(future: Future[Any], call: BoundCall) -> None:
    future.set_result(call())


class StoreRun:
    """One seed."""

    def __init__(self, seed: int, home: Path, tell: Tell | None) -> None:
        self._tell = tell or (lambda line: None)
        self._prng = Prng(seed)
        self._seq = 0
        self.now = StoreModel()
        """What the store shows."""
        self.durable = StoreModel()
        """What the log and the index have."""
        self._committing = StoreModel()
        """What they have once the barrier that is under way is over."""
        self._is_writing_record = False
        """They may have that already."""
        self.failures: list[str] = []
        self.images = 0
        self.operations = 0
        self.fingerprint = 0
        # A generator of its own: images are made on the disk thread, while this one goes on.
        self._disk = PowerLossDisk(home, Prng(seed + (1 << 32)), self)
        self._repeats = Prng(seed + (2 << 32))
        """Of which images the store goes on; drawn on the disk thread as well."""
        self._timing = Prng(seed + (3 << 32))
        """When checkpoints run."""
        self._ahead = Prng(seed + (4 << 32))
        """What is written ahead."""

    def run(self) -> None:
        """All of it."""
        with self._disk.watch():
            store = _open(self._disk.root)  # not on a loop: images are looked at on loops of their own
            asyncio.run(self._work(store))

    def on_record(self) -> None:
        """`DiskObserver.on_record`."""
        self._is_writing_record = True

    def on_record_refused(self) -> None:
        """`DiskObserver.on_record_refused`."""
        self._is_writing_record = False
        self._checkpoints.is_patient = False
        self._checkpoints.run_held()

    def on_durable(self) -> None:
        """`DiskObserver.on_durable`."""
        self._is_writing_record = False
        self._checkpoints.is_patient = True
        self.durable = self._committing

    def on_moment(self, name: str) -> None:
        """`DiskObserver.on_moment`: power fails now. What opens afterwards?"""
        if self.failures:
            return
        self.images += 1
        with self._disk.make_image() as image:
            names = " ".join(sorted(path.name for path in image.rglob("*")))
            self.fingerprint = crc32c(f"{name} {names}".encode(), self.fingerprint)
            try:
                problem = asyncio.run(self._look_at(image))
            except FS3Error as failure:
                problem = f"it does not open: {failure.strerror}"
        if problem:
            self.failures.append(f"power: lost {name}: {problem}")
        self._tell(f"{self.images:5} {name}: {problem or 'whole'}")

    async def _look_at(self, image: Path) -> str:
        store = _open(image)
        try:
            found = self.durable
            problem = await explain_difference(store, found)
            if problem and self._is_writing_record:
                found = self._committing
                problem = problem if await explain_difference(store, found) else ""
            if problem or not self._repeats.chance(1, 8):
                return problem
            if problem := await _look_at_copy(image, found):
                return f"the second time, {problem}"
            chunk = CHUNKS[0]
            meta = store.get(chunk)
            await store.stage(update_of(chunk, FILL, 0, _AGAIN), (meta.committed if meta is not None else 0) + 1, 3)
            if problem := await _look_at_copy(image, found.with_chunk(chunk, found.chunks[chunk][0], _AGAIN)):
                return f"one update later, {problem}"
            return ""
        finally:
            await store.close()

    # --- work --------------------------------------------------------------------------------------------------------

    async def _work(self, store: FileChunkStore) -> None:
        store._files.may_punch = False  # see `fs3.sim.ring0.disk`
        checkpoints = store._checkpointer
        checkpoints.thread.shutdown()
        self._checkpoints = CheckpointQueue(store._write_path._disk, self._timing)
        checkpoints.thread = self._checkpoints
        try:
            for step in range(STEPS):
                if not self.failures:
                    await self._step(store, step)
        finally:
            checkpoints.thread = store._write_path._disk
            self._checkpoints.run_held()
            self._committing = self.now
            await store.close()

    async def _step(self, store: FileChunkStore, step: int) -> None:
        prng = self._prng
        if self._checkpoints.has_held and self._timing.chance(1, 8):
            self._checkpoints.run_held()
            await self._wait_for_checkpoint(store)
        updates: list[tuple[Update, int]] = []
        staged: dict[ChunkId, tuple[bytes | None, Content]] = {}
        for chunk in CHUNKS:
            if prng.chance(2, 3):
                self._settle(store, chunk)
            if prng.chance(1, 2):
                committed, _ = self.now.chunks[chunk]
                kind, offset, data = self._draw_update(committed or b"", step)
                meta = store.get(chunk)
                updates.append((update_of(chunk, kind, offset, data), (meta.committed if meta is not None else 0) + 1))
                staged[chunk] = (committed, REMOVE if kind is REMOVE else expected_content(kind, committed or b"", offset, data))
        if not updates:
            return
        self.operations += len(updates)
        prewritten = {update.chunk: await self._prewrite(store, update) for update, _ in updates}
        after = replace(self.now, chunks={**self.now.chunks, **staged})
        self._committing = after
        # Of chunks nothing is staged for, some are repaired, which changes nothing but the block.
        repairs = [
            store.repair(chunk, meta.committed, memoryview(content))
            for chunk, (content, _) in self.now.chunks.items()
            if content is not None and chunk not in staged and prng.chance(1, 2) and (meta := store.get(chunk)) is not None
        ]
        repairing = asyncio.gather(*repairs)
        staging = asyncio.gather(*(store.stage(update, version, 3, prewritten[update.chunk]) for update, version in updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.inspect().is_barrier_running
        if store._index.has_fresh_rows and not store._checkpointer.is_running and self._timing.chance(1, 8):
            self._checkpoints.is_patient = False  # a log that is full by then would wait for it
            store._checkpointer.begin()
            self._checkpoints.is_patient = True
        # The barrier is under way: what changes in memory now, it does not take along.
        self.now = after
        for chunk in CHUNKS:
            if chunk not in staged and prng.chance(1, 2):
                self._settle(store, chunk)
        results = await staging
        await repairing
        await self._wait_for_checkpoint(store)
        if codes := {result.code.name for result in results if result.code is not Code.OK}:
            self.failures.append(f"answers: a stage is answered {', '.join(sorted(codes))}")
        elif problem := await explain_difference(store, self.now):
            self.failures.append(f"memory: {problem}")

    async def _prewrite(self, store: FileChunkStore, update: Update) -> Prewritten | None:
        """Write some updates ahead that are all of their chunk; and some that never come, which changes nothing."""
        committed, _ = self.now.chunks[update.chunk]
        is_whole = update.kind is FILL or (update.kind is WRITE and not update.offset and update.length >= len(committed or b""))
        if update.data is None or not is_whole or self._ahead.chance(1, 3):
            return None
        block = await store.prewrite(update.data, 0)
        if block is not None and self._ahead.chance(1, 4):
            store.discard(block)
            return None
        return block

    async def _wait_for_checkpoint(self, store: FileChunkStore) -> None:
        """Until none is under way but one that is held."""
        while (done := store._checkpointer.done) is not None and not self._checkpoints.has_held:
            await done

    def _draw_update(self, old: bytes, step: int) -> tuple[UpdateKind, int, bytes]:
        prng, size = self._prng, len(old)
        kind = prng.pick((WRITE, WRITE, WRITE, WRITE, TRUNCATE, REMOVE, FILL))
        offset = 0 if kind in (FILL, REMOVE) else prng.pick((0, size, size, size, size, size // 2, size + 3000))
        data = b"" if kind in (TRUNCATE, REMOVE) else noise(1 + prng.below(prng.pick((300, 9000, 90_000))), step)
        return kind, offset, data

    def _settle(self, store: FileChunkStore, chunk: ChunkId) -> None:
        """Commit or drop what is pending."""
        committed, pending = self.now.chunks[chunk]
        if pending is None:
            return
        if self._prng.chance(1, 3):
            store.drop_pending(chunk)
            self.now = self.now.with_chunk(chunk, committed, None)
            return
        self._seq += 1
        meta = store.get(chunk)
        assert meta is not None
        store.commit(chunk, meta.pending, Tag(CLIENT, CHANNEL, self._seq), UpdateResult(Code.OK))
        self.now = replace(
            self.now.with_chunk(chunk, pending if isinstance(pending, bytes) else None, None), channel_seq=self._seq
        )


async def _look_at_copy(image: Path, model: StoreModel) -> str:
    """Open what a killed process would leave of the store that has been opened on an image."""
    copy = image.with_name("copy")
    shutil.copytree(image, copy)
    try:
        store = _open(copy)
        try:
            return await explain_difference(store, model)
        finally:
            await store.close()
    except FS3Error as failure:
        return f"it does not open: {failure.strerror}"
    finally:
        shutil.rmtree(copy)


def _open(disk: Path) -> FileChunkStore:
    return FileChunkStore.open(disk / "target", TargetId(1), OsClock(), config=CONFIG)


def run_seed(seed: int, tell: Tell | None = None) -> Outcome:
    """One run in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="fs3-ring0-") as home:
        run = StoreRun(seed, Path(home), tell)
        try:
            run.run()
        except (AssertionError, ValueError, FS3Error) as failure:
            run.failures.append(f"process: {failure!r}")
    return Outcome(seed, f"{run.fingerprint:08x}", run.failures, run.images, run.operations, {"images": run.images})
