"""The chunk store of a target on files: blocks by size class, an LMDB index, one barrier at a time.

Who does what
    The loop owns everything that is in memory: rows, free blocks, pins. It plans a barrier, hands it to the disk thread, and
    takes its outcome back; the next one gathers meanwhile. The disk thread writes blocks and the log. The checkpoint thread syncs
    blocks and writes the index (`fs3.drivers.chunks.checkpoint`). Reader threads wait for cold reads; they only read blocks
    that the loop has pinned for them.

Why a crash never finds a wrong byte
    D is what a crash leaves: the rows of the durable index, and over them those of the records that the log has more. Every
    row of D refers to blocks that hold what its sums say, or whose bytes the log has, because
    1. a barrier writes blocks, syncs them or has a copy of their bytes in its record, and the rows that refer to them are in the
       same record, which is whole or absent;
    2. a barrier writes to blocks that D does not refer to, or, appending in place, behind every byte D refers to;
    3. a checkpoint syncs the blocks whose bytes the log has before it commits their rows; LMDB commits whole transactions, and a
       record is overwritten only when the durable index has all that it has.
    Opening writes the bytes that the log has to their blocks again, in the order of the records, and only those that a row of D
    still refers to (`fs3.drivers.chunks.replay`). So a block may be used again as soon as D does not refer to it.
    For 2: a block becomes free when the last reference to it has left D. A row only ever drops a block on the loop (commit, drop,
    replacement); the changed row is unsynced from then on, and the block is on the list that the next barrier to *begin*
    takes along with it. A barrier that was under way at that moment may still write an older row that refers to the block, but
    it has not taken the block along. When the record of the barrier that has done so is durable, D has the changed row or a later
    one, none of which refers to the block. If it fails, rows and list go to the one after it. Nor can D come to refer to a block
    later without a stage having written it: commit and drop only remove references. Behind the committed length of a block there
    may be bytes D refers to all the same: those of a pending version appended in place, or of a longer version that a TRUNCATE
    cut without copying. Such a block is guarded: nothing is appended to it in place until the version in question has become the
    committed one, or is gone from D (`fs3.drivers.chunks.reclaimer`). Hence replacing an appended pending version goes to a fresh
    block, and a crash in the middle finds the old one intact. An append shares the file system page of the last committed bytes.
    A page that is torn by power loss has, in either half, the same committed bytes; only a sector that becomes unreadable loses
    them, and then their sum says so.

    A commit is not synced by itself. Until a barrier takes it along, D shows the version as pending, with its tag: nothing is
    lost, and the chain knows what became of it.

Readers see a block as it was: it is not reused while it is pinned, and committed bytes are never written over.

A repair is a barrier's job like any other: it writes the bytes of the committed version to a fresh block and the row that refers
to it. The chunk may be committed or dropped meanwhile; then the next barrier writes the later row, and the new block is retired.

Memory: one byte per block, the pending set, the bad chunks, and `row_cache_bytes` of decoded rows; nothing per idle chunk.
(LMDB's pages are file-backed and the system's to drop.) Opening looks at all pages and rows of the index once, about 3 µs a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fs3.base.errors import error
from fs3.base.ids import ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.core.craq.change_board import OwnerMark
from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_places import BlockFinder
from fs3.drivers.chunks.change_count import ChangeCount
from fs3.drivers.chunks.channel_table import ChannelTable
from fs3.drivers.chunks.checkpoint import Checkpointer
from fs3.drivers.chunks.config import ChunkStoreConfig
from fs3.drivers.chunks.disk_counts import DiskCounts
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import BlockFiles, path_of
from fs3.drivers.chunks.index import Index
from fs3.drivers.chunks.pending_changes import PendingChanges
from fs3.drivers.chunks.pinned_versions import PinnedVersions
from fs3.drivers.chunks.planner import Planner
from fs3.drivers.chunks.prewriter import Prewriter, PrewrittenBlock
from fs3.drivers.chunks.read_path import ReadPath
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.replay import replay
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import RowDamaged, parse_places
from fs3.drivers.chunks.sizes import SIZES
from fs3.drivers.chunks.state import ChunkStoreState
from fs3.drivers.chunks.update_log import UpdateLog
from fs3.drivers.chunks.verifier import ChunkVerifier
from fs3.drivers.chunks.write_path import WritePath
from fs3.drivers.os.directory_lock import DirectoryLock
from fs3.model.chunk import ChannelKey, ChannelRow, ChunkMeta, Tag, Update, UpdateResult
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.ports.chunk_store import (
    BlockPlace,
    OnChange,
    OnStaged,
    Prewritten,
    ReadGather,
    ReadResult,
    ScrubStep,
    StageResult,
    StoreDamaged,
    StoreSpace,
)
from fs3.ports.clock import Clock
from fs3.ports.rpc import FileRange
from fs3.runtime.durable_files import sync_directory


class FileChunkStore:
    """`fs3.ports.chunk_store.ChunkStore` in a directory."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        target: TargetId,
        clock: Clock,
        *,
        cluster: bytes = b"",
        config: ChunkStoreConfig = ChunkStoreConfig(),  # noqa: B008 - it is frozen
    ) -> FileChunkStore:
        """Open the directory of a target; create it when absent. Reads the whole index once, so call it before serving.

        Raises FS3Error: BUSY naming the process that has the directory; UNSUPPORTED, CONFIG or WRONG_CLUSTER when it is of
        another format, target or cluster; DISK when it cannot be read; NO_SPACE when there is no room for what the log has;
        StoreDamaged when the index or the log is gone or not what was written, or when block files are shorter than the index
        says.
        """
        directory = Path(path)
        fresh = not directory.exists()
        lock = DirectoryLock(directory)
        files = BlockFiles(directory)
        try:
            index = Index(
                directory, target, cluster, config.index_map_bytes, config.index_map_bytes_max, config.log_segment_bytes
            )
            try:
                if fresh:
                    sync_directory(directory.parent)
                sync_directory(directory)
                update_log = UpdateLog(directory, index.log_position, config.log_segments_max)
                try:
                    return cls(directory, clock, config, lock, files, index, update_log, None if fresh else clock.now())
                except BaseException:
                    update_log.close()
                    raise
            except BaseException:
                index.close()
                raise
        except BaseException:
            files.close()
            lock.release()
            raise

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        config: ChunkStoreConfig,
        lock: DirectoryLock,
        files: BlockFiles,
        index: Index,
        update_log: UpdateLog,
        opened_at: int | None,
    ) -> None:
        """`opened_at`: since when the lock is held; None: the directory is new. Takes over what the log has."""
        self.counts = DiskCounts()
        """What its disk does."""
        self._directory = directory
        self._clock = clock
        self._config = config
        self._lock = lock
        self._files = files
        self._log = update_log
        replayed = replay(update_log.recover(), files)
        self._index = DurableIndex(index, replayed.rows)
        changes = ChangeCount()
        self._rows = RowCache(self._index, files, config.row_cache_bytes)
        self._allocator = BlockAllocator()
        self._reclaimer = BlockReclaimer(self._allocator, config.block_reuse_delay_ns, opened_at)
        self._channels = ChannelTable(self._index, config.channels_max)
        self._bad_chunks = BadChunks(self._rows, changes)
        self._pending_changes = PendingChanges(self._rows, self._reclaimer, self._channels, self._bad_chunks, changes)
        self._planner = Planner(config, self._rows, self._bad_chunks, self._allocator, self._reclaimer, files)
        self._checkpointer = Checkpointer(self._index, update_log, files, replayed, clock, config.checkpoint_interval_ns)
        self._write_path = WritePath(
            config.commit_sync_ns,
            config.logged_bytes_max,
            clock,
            update_log,
            self._checkpointer,
            files,
            self._rows,
            self._allocator,
            self._reclaimer,
            self._planner,
            self._pending_changes,
            self.counts,
        )
        self._prewriter = Prewriter(files, self._allocator, self._planner)
        self._read_path = ReadPath(
            self._rows, self._reclaimer, self._bad_chunks, clock, directory.name, config.cold_readers, self.counts
        )
        self._locator = BlockFinder(directory, self._rows, self._bad_chunks)
        self._pinned_versions = PinnedVersions(self._rows, self._read_path, self._reclaimer, clock)
        self._verifier = ChunkVerifier(directory, self._index, self._rows, self._bad_chunks, self._read_path)
        self._closing = False
        self._closed = False
        self._load_index()

    def _load_index(self) -> None:
        claim = self._allocator.claim
        count = 0
        ends: dict[int, int] = {}
        add_key = self._rows.keys.add
        for chunk, packed in self._index.scan(None):
            add_key(chunk)
            try:
                committed, pending, is_pending = parse_places(chunk, packed, ends)
                if is_pending:
                    self._pending_changes.pending_chunks[chunk] = None
                    row = self._rows.decode(chunk, packed)
                    if row.committed and row.pending and committed == pending and row.pending.length > row.committed.length:
                        self._reclaimer.guard(committed)
            except RowDamaged as why:
                raise StoreDamaged(str(why), str(self._directory)) from why
            sound = committed < 0 or claim(committed)
            if pending >= 0 and pending != committed:
                sound = claim(pending) and sound
            if not sound:
                raise StoreDamaged(f"two chunks have one block, one of them is {chunk.hex()}", str(self._directory))
            count += 1
        for class_number, block_size in enumerate(SIZES):
            path = path_of(self._directory, class_number)
            size = path.stat().st_size if path.exists() else 0
            end = ends.get(class_number, 0)
            if size < end:
                raise StoreDamaged(f"the file has {size} bytes, the index refers to {end}", str(path))
            self._allocator.extend(class_number, -(-size // block_size))
        self._channels.check()
        self._pending_changes.chunk_count = count
        self._allocator.finish_claims()
        self._reclaimer.free_due(self._clock.now())
        self._bad_chunks.load(self._index)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """`ChunkStore.get`. Raises StoreDamaged."""
        row = self._rows.young.get(chunk) or self._rows.find(chunk)
        if row is None:
            return None
        return row.meta or row.describe()

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """`ChunkStore.get_channel`. Raises StoreDamaged."""
        return self._channels.find((client, channel)) if client else None

    def list_channels(self, after: ChannelKey | None, limit: int) -> list[tuple[ChannelKey, ChannelRow]]:
        """`ChunkStore.list_channels`. Raises StoreDamaged."""
        return self._channels.page(after, limit)

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """`ChunkStore.merge_channels`."""
        await self._write_path.merge_channels(rows)

    @property
    def channel_room(self) -> int:
        """`ChunkStore.channel_room`."""
        return self._channels.room

    @property
    def channel_count(self) -> int:
        """`ChunkStore.channel_count`."""
        return self._channels.count

    @property
    def channel_epoch(self) -> int:
        """`ChunkStore.channel_epoch`."""
        return self._channels.epoch

    def advance_channel_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`."""
        self._write_path.advance_channel_epoch()

    def list_pending(self) -> Sequence[ChunkId]:
        """`ChunkStore.list_pending`."""
        return list(self._pending_changes.pending_chunks)

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """`ChunkStore.list`. Raises StoreDamaged."""
        # Rows that were removed but not durably are in the snapshot still, and a row is never first unsynced and then new
        # to the index: a stage makes it durable before any caller sees it. So the snapshot has all keys.
        found: list[tuple[ChunkId, ChunkMeta]] = []
        peek = self._rows.peek
        for chunk, packed in self._index.scan(after, limit):
            if len(found) >= limit or (until is not None and chunk >= until):
                break
            meta = peek(chunk, packed)
            if meta is not None:
                found.append((chunk, meta))
        return found

    # --- bad chunks --------------------------------------------------------------------------------------------------

    @property
    def on_bad(self) -> Callable[[ChunkId], None] | None:
        """`ChunkStore.on_bad`."""
        return self._bad_chunks.on_bad

    @on_bad.setter
    def on_bad(self, callback: Callable[[ChunkId], None] | None) -> None:
        self._bad_chunks.on_bad = callback

    @property
    def on_change(self) -> OnChange | None:
        """`ChunkStore.on_change`."""
        return self._rows.on_change

    @on_change.setter
    def on_change(self, callback: OnChange | None) -> None:
        self._rows.on_change = callback

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """`ChunkStore.bad_chunks`."""
        return MappingProxyType(self._bad_chunks.reasons)

    def mark_bad(self, chunk: ChunkId, why: str = "") -> None:
        """`ChunkStore.mark_bad`."""
        self._bad_chunks.mark(chunk, why or f"bytes of chunk {chunk.hex()} are said to be wrong")

    async def verify(self, chunk: ChunkId) -> bool:
        """`ChunkStore.verify`. Raises StoreDamaged; SHUTTING_DOWN when the store is being closed."""
        self._check_open()
        return await self._verifier.verify(chunk)

    async def scrub(self, after: ChunkId | None, limit_bytes: int) -> ScrubStep:
        """`ChunkStore.scrub`. Raises StoreDamaged; SHUTTING_DOWN when the store is being closed."""
        self._check_open()
        return await self._verifier.scrub(after, limit_bytes)

    async def repair(self, chunk: ChunkId, version: int, data: memoryview) -> bool:
        """`ChunkStore.repair`."""
        return await self._write_path.repair(chunk, version, data)

    def _check_open(self) -> None:
        if self._closing:
            raise error(Code.SHUTTING_DOWN, f"{self._directory} is being closed", str(self._directory))

    def locate(self, chunk: ChunkId) -> FileRange | None:
        """Where the committed bytes are, for tools. None when they are in the index, or when there are none."""
        row = self._rows.find(chunk)
        version = row.committed if row is not None else None
        if version is None or version.place < 0:
            return None
        return FileRange(version.fd, version.base, version.length)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    def inspect(self) -> ChunkStoreState:
        """Its counters now."""
        return ChunkStoreState(
            pins=self._reclaimer.pin_count,
            cold_reads=self._read_path.cold_count,
            is_barrier_running=self._write_path.is_barrier_running,
            rows_cached=self._rows.row_count,
            rows_unsynced=len(self._rows.unsynced),
            vacant_bytes=self._allocator.vacant_bytes,
            may_punch=self._files.may_punch,
            index_map_bytes=self._index.index.map_bytes,
            rows_in_log=self._index.rows_in_log,
        )

    def samples(self, target: TargetId) -> Iterator[Sample]:
        """Its readings, as a `MetricSource` says them."""
        yield from self.counts.samples(str(target))
        yield Sample(catalogue.ROWS_CACHED, (str(target),), self._rows.row_count)
        yield Sample(catalogue.ROWS_LOGGED, (str(target),), self._index.rows_in_log)

    def get_space(self) -> StoreSpace:
        """`ChunkStore.get_space`. `used` includes `pinned`: blocks no chunk refers to that are not free yet."""
        self._reclaimer.free_due(self._clock.now())
        return StoreSpace(
            self._allocator.used_bytes,
            self._planner.free_bytes,
            self._pending_changes.chunk_count,
            self._reclaimer.retired_bytes + self._prewriter.bytes,
        )

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def block_reuse_delay_ns(self) -> int:
        """`ChunkStore.block_reuse_delay_ns`."""
        return self._config.block_reuse_delay_ns

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """`ChunkStore.read`."""
        return self._read_path.read(chunk, offset, length)

    def read_many(
        self, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """`ChunkStore.read_many`."""
        return self._read_path.read_many(self, chunks, batch, which, refuse_dirty)

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """`ChunkStore.read_cold`."""
        return await self._read_path.read_cold(chunk, offset, length, pending)

    async def read_damaged(self, chunk: ChunkId, *, pending: bool = False) -> ReadResult:
        """`ChunkStore.read_damaged`."""
        return await self._read_path.read_damaged(chunk, pending)

    def release(self, pin: int) -> None:
        """`ChunkStore.release`."""
        if pin:
            self._read_path.release(pin)
            if self._closed and not self._reclaimer.pin_count:
                self._release_files()

    @property
    def owner_mark(self) -> OwnerMark | None:
        """`ChunkStore.owner_mark`."""
        return self._lock.mark if self._lock.mark.content else None

    def locate_block(self, chunk: ChunkId) -> BlockPlace | None:
        """`ChunkStore.locate_block`. Raises StoreDamaged."""
        return self._locator.locate(chunk)

    def pin_version(self, chunk: ChunkId) -> int:
        """`ChunkStore.pin_version`. Raises StoreDamaged."""
        return self._pinned_versions.pin(chunk)

    async def read_pinned(self, pins: Sequence[int], length: int) -> Sequence[bytes | None]:
        """`ChunkStore.read_pinned`. Raises SHUTTING_DOWN when the store is being closed."""
        self._check_open()
        return await self._pinned_versions.read(pins, length)

    def unpin(self, pins: Sequence[int]) -> None:
        """`ChunkStore.unpin`."""
        self._pinned_versions.unpin(pins)

    # --- changes -----------------------------------------------------------------------------------------------------

    async def prewrite(self, data: memoryview, reserve: int) -> PrewrittenBlock | None:
        """`ChunkStore.prewrite`."""
        block = await self._prewriter.prewrite(data, reserve)
        if self._prewriter.failure:
            self._write_path.fail(self._prewriter.failure)
        return block

    def discard(self, prewritten: Prewritten) -> None:
        """`ChunkStore.discard`."""
        assert isinstance(prewritten, PrewrittenBlock)
        self._prewriter.discard(prewritten)

    async def stage(self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None) -> StageResult:
        """`ChunkStore.stage`."""
        if prewritten is None:
            return await self._write_path.stage(update, version, chain_version)
        assert isinstance(prewritten, PrewrittenBlock)
        if not self._prewriter.take(prewritten):
            return StageResult(Code.BUSY, message=f"what was written ahead for chunk {update.chunk.hex()} was discarded")
        return await self._write_path.stage(update, version, chain_version, prewritten)

    def submit(self, updates: Sequence[Update], on_staged: OnStaged) -> None:
        """`ChunkStore.submit`."""
        self._write_path.submit(updates, on_staged)

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending."""
        self._pending_changes.commit(chunk, version, tag, result)

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        self._pending_changes.drop_pending(chunk)

    async def flush(self) -> None:
        """`ChunkStore.flush`. Raises FS3Error NO_SPACE or DISK naming the directory when it cannot be done."""
        await self._write_path.flush()

    async def checkpoint(self) -> None:
        """Have everything that is durable in the index, and nothing in the log. Raises FS3Error NO_SPACE or DISK."""
        await self._write_path.checkpoint()

    async def close(self) -> None:
        """`ChunkStore.close`. Files that readers have pinned are closed by the last `release`."""
        if self._closing:
            return
        self._closing = True
        try:
            await self._prewriter.close()
            await self._write_path.close()
        finally:
            await self._read_path.close()
            self._pinned_versions.unpin_all()
            self._verifier.close()
            self._closed = True
            self._index.index.close()
            self._log.close()
            if not self._reclaimer.pin_count:
                self._release_files()

    def _release_files(self) -> None:
        self._files.close()
        self._lock.release()
