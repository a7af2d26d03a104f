"""The disks of a simulated storage node: chunk stores that take their time, lose power, go bad, fill up, and are replaced.

The bytes and their rules are those of `MemoryChunkStore`. Added is what time does: a stage becomes durable at some moment within
its call, so a crash meanwhile leaves it there or not, and with it what was committed before the call; reads are warm or cold as
drawn; a slow disk is slow for every target on it.
"""

from __future__ import annotations

import asyncio
import copy
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fs3.base.checksum import PIECE_BYTES, checksums
from fs3.base.errors import error
from fs3.base.ids import ChunkId, TargetId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import GIB, SECOND
from fs3.core.craq.change_board import OwnerMark
from fs3.core.craq.reads import answer
from fs3.drivers.memory.chunk_store import MemoryChunkStore, MemoryPrewritten
from fs3.drivers.memory.chunk_versions import MemoryChunk
from fs3.drivers.memory.unsynced import BarrierMark
from fs3.model.chunk import ChannelKey, ChannelRow, Tag, Update, UpdateResult
from fs3.model.cluster import DiskSpace
from fs3.ports.chunk_store import BlockPlace, Prewritten, ReadGather, ReadResult, StageResult
from fs3.ports.disks import TargetNote
from fs3.runtime.tasks import TaskSet
from fs3.sim.ring2.host_files import SimHostFiles
from fs3.sim.ring2.loop import SimLoop


@dataclass(frozen=True)
class DiskOptions:
    """Times in nanoseconds, chances in parts of 1024 per access."""

    access_ns_min: int
    access_ns_max: int
    tail_ns: int
    tail_chance: int
    cold_chance: int
    """Of a read, to need the disk."""


DISK_BYTES = 64 * GIB
"""Of each of several disks."""

DISK_PATHS = ("/disk/a", "/disk/b")
"""Of a node with several disks."""

OnCommit = Callable[[TargetId, ChunkId, int, Tag], None]
"""Told of every commit: (target, chunk, version, tag)."""


class SimDisk:
    """How long accesses take, for all targets of a node."""

    def __init__(self, loop: SimLoop, prng: Prng, options: DiskOptions) -> None:
        self.options = options
        self.prng = prng
        self.slow_ns = 0
        """Added to every access."""
        self._loop = loop

    async def access(self) -> None:
        """Wait as an access does."""
        options, prng = self.options, self.prng
        wait = prng.between(options.access_ns_min, options.access_ns_max) + self.slow_ns
        if options.tail_chance and prng.below(1024) < options.tail_chance:
            wait += options.tail_ns >> prng.below(8)
        await asyncio.sleep(wait / SECOND)

    def is_cold(self) -> bool:
        """Draw whether a read needs the disk."""
        return self.prng.below(1024) < self.options.cold_chance


class SimChunkStore(MemoryChunkStore):
    """`fs3.ports.chunk_store.ChunkStore` on a simulated disk."""

    disk: SimDisk
    target: TargetId
    on_commit: OnCommit | None
    files: SimHostFiles | None = None
    """What the host shares with clients on it; None: nothing."""
    mark: OwnerMark | None = None

    def attach(self, disk: SimDisk, target: TargetId, on_commit: OnCommit | None) -> None:
        """Where it is and whose."""
        self.disk = disk
        self.target = target
        self.on_commit = on_commit
        self._staging: dict[ChunkId, tuple[Update, int, int, Prewritten | None, BarrierMark]] = {}

    @property
    def records(self) -> Mapping[ChunkId, MemoryChunk]:
        """See `fs3.sim.checkers.stores.ComparedStore`."""
        return self.chunks

    @property
    def rows(self) -> Mapping[ChannelKey, ChannelRow]:
        """See `fs3.sim.checkers.stores.ComparedStore`."""
        return self.channel_rows

    async def prewrite(self, data: memoryview, reserve: int) -> MemoryPrewritten | None:
        """See `ChunkStore.prewrite`."""
        await self.disk.access()
        return await super().prewrite(data, reserve)

    async def stage(self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None) -> StageResult:
        """See `ChunkStore.stage`."""
        mark = self.begin_barrier()
        self._staging[update.chunk] = (update, version, chain_version, prewritten, mark)
        await self.disk.access()
        result = self._finish_stage(update, version, chain_version, prewritten, mark)
        del self._staging[update.chunk]
        return result

    def _finish_stage(
        self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None, mark: BarrierMark
    ) -> StageResult:
        """The barrier is on the disk: what was committed after it began is not."""
        result = self.stage_within(update, version, chain_version, prewritten)
        if result.code is Code.OK:
            self.end_barrier(mark)
        return result

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """See `ChunkStore.commit`."""
        super().commit(chunk, version, tag, result)
        if self.on_commit is not None:
            self.on_commit(self.target, chunk, version, tag)

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """See `ChunkStore.read`."""
        return None if self.disk.is_cold() else super().read(chunk, offset, length)

    def read_many(
        self, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """See `ChunkStore.read_many`."""
        cold = []
        for index in which:
            chunk = chunks[index]
            if answer(self.get(chunk), refuse_dirty, is_bad=chunk in self.bad_chunks) is Code.DIRTY:
                batch.refuse(index, Code.DIRTY)
                continue
            result = self.read(chunk, batch.offsets[index], batch.wanted[index])
            if result is None:
                cold.append(index)
            else:
                batch.put(index, self, result)
        return cold

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """See `ChunkStore.read_cold`: what the chunk is at some moment within the call."""
        before = await super().read_cold(chunk, offset, length, pending=pending) if self.disk.prng.chance(1, 2) else None
        await self.disk.access()
        return before or await super().read_cold(chunk, offset, length, pending=pending)

    async def read_pinned(self, pins: Sequence[int], length: int) -> Sequence[bytes | None]:
        """See `ChunkStore.read_pinned`."""
        try:
            await self.disk.access()
            return await super().read_pinned(pins, length)
        finally:
            self.unpin(pins)

    async def read_damaged(self, chunk: ChunkId, *, pending: bool = False) -> ReadResult:
        """See `ChunkStore.read_damaged`: what the chunk is at some moment within the call."""
        await self.disk.access()
        return await super().read_damaged(chunk, pending=pending)

    def open_for(self, files: SimHostFiles | None) -> None:
        """A process opens it, on a host that shares these."""
        self.files = files
        self.mark = files.mark(self.target) if files is not None else None

    @property
    def owner_mark(self) -> OwnerMark | None:
        """See `ChunkStore.owner_mark`."""
        return self.mark

    def locate_block(self, chunk: ChunkId) -> BlockPlace | None:
        """See `ChunkStore.locate_block`."""
        found = self.chunks.get(chunk)
        version = found.committed if found is not None else None
        if version is None or self.files is None or chunk in self.bad_chunks or not self.verify_now(chunk):
            return None
        sums = array("q", checksums(memoryview(version.content), 0, PIECE_BYTES))
        path = self.files.show(self.target, chunk, version)
        return BlockPlace(path, 0, len(version.content), version.version, sums)

    async def flush(self) -> None:
        """See `ChunkStore.flush`."""
        mark = self.begin_barrier()
        await self.disk.access()
        self.end_barrier(mark)

    def reopen_after_crash(self, prng: Prng) -> SimChunkStore:
        """The store that a restarted process finds; what was being staged is there or is not."""
        self.on_change = None  # the process that would count is no more
        for update, version, chain_version, prewritten, mark in list(self._staging.values()):
            if prng.chance(1, 2):
                self._finish_stage(update, version, chain_version, prewritten, mark)
        return self._again(self.crash(prng))

    def reopen(self) -> SimChunkStore:
        """The store after a clean stop."""
        return self._again(self)

    def duplicate(self) -> SimChunkStore:
        """Another store with the same content; no process uses this one."""
        shared = (self.disk, self.on_commit, self._stagings, self.on_change, self.files, self.mark)
        other = SimChunkStore()
        other.__dict__.update(copy.deepcopy(vars(self), {id(each): each for each in shared}))
        other._stagings = TaskSet()
        return other

    def _again(self, state: MemoryChunkStore) -> SimChunkStore:
        other = SimChunkStore()
        other.__dict__.update(vars(state))
        other.attach(self.disk, self.target, self.on_commit)
        other.on_bad = None
        other.on_change = None
        other.is_full = False
        other._pins = {}
        other._pinned_versions = {}
        other._stagings = TaskSet()
        other._closed = False
        return other


@dataclass(frozen=True)
class DiskCopy:
    """A copy of everything on a node's disks."""

    stores: dict[TargetId, SimChunkStore]
    notes: dict[TargetId, TargetNote]
    lost: dict[TargetId, str]
    boots: int
    is_new: bool
    cluster: bytes


class SimDisks:
    """`fs3.drivers.os.data_directories.Disks` of one node. Outlives its processes."""

    def __init__(self, name: str, disk: SimDisk, on_commit: OnCommit | None = None) -> None:
        self.name = name
        self.cluster = b""
        self.disk = disk
        self.stores: dict[TargetId, SimChunkStore] = {}
        self.quarantined = 0
        self._on_commit = on_commit
        self._boots = 0
        self._is_new = False
        self._notes: dict[TargetId, TargetNote] = {}
        self._recency: dict[TargetId, bytes] = {}
        self._lost: dict[TargetId, str] = {}
        self._is_full = False
        self._copies = 0
        self._place = name
        self._tokens = 0
        self.files: SimHostFiles | None = None
        """What its host shares with clients there; None: nothing."""
        self.paths: tuple[str, ...] = ()
        """Of several disks; none: there is one, of which nothing is told."""
        self._homes: dict[TargetId, str] = {}
        """On which of them each target is."""
        self._drained: frozenset[str] = frozenset()

    @property
    def directory(self) -> str:
        """See `Disks`: another one once a copy has been put back."""
        return f"{self._place}/{self._copies}"

    @property
    def is_full(self) -> bool:
        """No store takes another block."""
        return self._is_full

    @is_full.setter
    def is_full(self, value: bool) -> None:
        self._is_full = value
        for store in self.stores.values():
            store.is_full = value

    # --- Disks --------------------------------------------------------------------------------------------------------

    def next_incarnation(self) -> int:
        """See `Disks.next_incarnation`."""
        self._drained = frozenset()  # a process that begins has not been told
        if self._is_new:
            return 0
        self._boots += 1
        return self._boots

    def store_incarnation(self, incarnation: int) -> None:
        """See `Disks.adopt`."""
        self._boots = incarnation
        self._is_new = False

    def join(self, cluster: bytes) -> None:
        """See `Disks.join`."""
        if self.cluster not in (b"", cluster):
            raise error(Code.WRONG_CLUSTER, f"the data of node {self.name} belongs to another cluster")
        self.cluster = cluster

    def targets(self) -> list[TargetId]:
        """See `Disks.targets`."""
        return sorted(self.stores)

    def lost_targets(self) -> dict[TargetId, str]:
        """See `Disks.lost`."""
        return dict(self._lost)

    def failed_targets(self) -> dict[TargetId, str]:
        """See `Disks.failed`."""
        return {}

    def make(self, target: TargetId, *, whole: bool) -> None:
        """See `Disks.make`."""
        self._lost.pop(target, None)
        if self.paths:
            usable = [path for path in self.paths if path not in self._drained] or self.paths
            self._homes[target] = min(usable, key=lambda path: len(self.targets_on(path)))
        self.stores[target] = self._new_store(target)
        self._notes[target] = TargetNote(whole=whole)

    def read_note(self, target: TargetId) -> TargetNote:
        """See `Disks.note`."""
        return self._notes[target]

    def write_note(self, target: TargetId, note: TargetNote) -> None:
        """See `Disks.write_note`."""
        self._notes[target] = note

    async def read_recency(self, target: TargetId) -> bytes:
        """See `Disks.read_recency`."""
        return self._recency.get(target, b"")

    async def write_recency(self, target: TargetId, content: bytes) -> None:
        """See `Disks.write_recency`."""
        self._recency[target] = content

    def quarantine(self, target: TargetId) -> str:
        """See `Disks.quarantine`."""
        del self.stores[target]
        self.quarantined += 1
        self._lost[target] = f"the data of target {target} was moved away"
        return f"quarantine {self.quarantined}"

    async def discard(self, target: TargetId) -> None:
        """See `Disks.discard`."""
        self.stores.pop(target, None)
        self._notes.pop(target, None)
        self._recency.pop(target, None)
        self._lost.pop(target, None)

    def draw_token(self) -> bytes:
        """See `Disks.draw_token`: never the same again, whatever is put back."""
        self._tokens += 1
        return self._tokens.to_bytes(8, "big")

    def measure_space(self) -> list[DiskSpace]:
        """See `Disks.measure_space`: nothing is known unless there are several disks (`split`)."""
        return [
            DiskSpace(path, DISK_BYTES, DISK_BYTES, 1 + index, self.targets_on(path), path in self._drained)
            for index, path in enumerate(self.paths)
        ]

    def leave_unused(self, paths: Sequence[str]) -> bool:
        """See `Disks.leave_unused`."""
        before, self._drained = self._drained, frozenset(paths)
        return self._drained != before

    def split(self, paths: tuple[str, ...]) -> None:
        """What is here is on so many disks, by turns."""
        self.paths = paths
        self._homes = {target: paths[index % len(paths)] for index, target in enumerate(sorted(self.stores))}

    def home_of(self, target: TargetId) -> str:
        """The disk that a target is on, of several."""
        return self._homes[target]

    def targets_on(self, path: str) -> tuple[TargetId, ...]:
        """What is on one of several disks."""
        return tuple(sorted(target for target in self.stores if self._homes.get(target) == path))

    def pull(self, path: str) -> None:
        """The operator takes one of several disks out, while the process is down."""
        for target in self.targets_on(path):
            del self.stores[target]
            self._notes.pop(target, None)
            self._lost[target] = f"target {target} was on {path}"
        self.paths = tuple(each for each in self.paths if each != path)

    async def open_store(self, target: TargetId) -> SimChunkStore:
        """The store factory."""
        await self.disk.access()
        if target not in self.stores:
            self.make(target, whole=True)
        store = self.stores[target]
        store.open_for(self.files)
        return store

    # --- disasters ----------------------------------------------------------------------------------------------------

    def crash(self, prng: Prng) -> None:
        """The node's process or its power is gone."""
        for target, store in sorted(self.stores.items()):
            self.stores[target] = store.reopen_after_crash(prng)
        self.is_full = self._is_full
        self._forget_shared()

    def _forget_shared(self) -> None:
        if self.files is not None:
            self.files.on_process_death()

    def reopen(self) -> None:
        """The node's process has ended well."""
        for target, store in sorted(self.stores.items()):
            self.stores[target] = store.reopen()
        self.is_full = self._is_full
        self._forget_shared()

    def wipe(self) -> None:
        """The operator has put in another, empty disk."""
        self.stores.clear()
        self._notes.clear()
        self._recency.clear()
        self._lost.clear()
        self.cluster = b""
        self._is_new = True

    def copy(self) -> DiskCopy:
        """What is on the disks now, while no process uses them."""
        stores = {target: store.duplicate() for target, store in self.stores.items()}
        return DiskCopy(stores, dict(self._notes), dict(self._lost), self._boots, self._is_new, self.cluster)

    def put_back(self, copy: DiskCopy) -> None:
        """The operator puts a copy in the place of what is on the disks."""
        self.stores = {target: store.duplicate() for target, store in copy.stores.items()}
        self._notes, self._lost = dict(copy.notes), dict(copy.lost)
        self._boots, self._is_new, self.cluster = copy.boots, copy.is_new, copy.cluster
        self._copies += 1

    def fork(self, directory: str) -> SimDisks:
        """A copy of the disks as they are now, of the same node, elsewhere."""
        other = SimDisks(self.name, self.disk, self._on_commit)
        other.put_back(self.copy())
        other._place = directory
        other._tokens = 1 << 32
        return other

    def _new_store(self, target: TargetId) -> SimChunkStore:
        store = SimChunkStore()
        store.attach(self.disk, target, self._on_commit)
        store.is_full = self._is_full
        return store
