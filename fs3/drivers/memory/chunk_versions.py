"""Versions and chunks as `fs3.drivers.memory.chunk_store` keeps them."""

from __future__ import annotations

from fs3.base.checksum import BLOCK_BYTES, checksums, digest_of, piece_count
from fs3.base.status import Code
from fs3.model.chunk import FILLS, ChunkMeta, Tag, Update, UpdateKind
from fs3.ports.chunk_store import StageResult


class MemoryVersion:
    """Bytes and the sums they had when they were written."""

    __slots__ = ("chain_version", "content", "sums", "version")

    def __init__(self, version: int, chain_version: int, content: bytes, sums: tuple[int, ...] | None = None) -> None:
        """`sums`: those that damaged bytes should have; None: those they have."""
        self.version = version
        self.chain_version = chain_version
        self.content = content
        self.sums = tuple(checksums(memoryview(content))) if sums is None else sums

    def is_sound(self, start: int, stop: int) -> bool:
        """The blocks that hold a range are what was written."""
        first = start // BLOCK_BYTES
        last = -(-stop // BLOCK_BYTES)
        blocks = memoryview(self.content)[first * BLOCK_BYTES : last * BLOCK_BYTES]
        return tuple(checksums(blocks)) == self.sums[first:last]

    def keeps_sound(self, update: Update, length: int) -> bool:
        """Blocks of which an update to `length` bytes leaves some are what was written: a new sum must not hide that they are
        not."""
        end = update.offset + update.length
        for start in range(0, min(len(self.content), length), BLOCK_BYTES):
            stop = min(start + BLOCK_BYTES, len(self.content))
            covered = update.length and update.offset <= start and min(start + BLOCK_BYTES, length) <= end
            if not covered and not self.is_sound(start, stop):
                return False
        return True

    def sums_of(self, start: int, stop: int) -> list[int] | None:
        """Sums of a range cut at BLOCK_BYTES: whole blocks have the sums they were written with, unseen; only blocks that are cut
        are verified. None: those have rotted."""
        first = -(-start // BLOCK_BYTES)
        last = -(-stop // BLOCK_BYTES) if stop == len(self.content) else stop // BLOCK_BYTES
        content = memoryview(self.content)
        sums = list(self.sums[first:last])
        for begin, end in ((start, min(first * BLOCK_BYTES, stop)), (max(last * BLOCK_BYTES, start), stop)):
            if begin < end:
                if not self.is_sound(begin, end):
                    return None
                cut = checksums(content[begin:end], begin)
                sums = cut + sums if begin == start else sums + cut
        return sums


class MemoryChunk:
    """Immutable: a change makes another."""

    __slots__ = ("_meta", "committed", "kind", "pending", "tag")

    def __init__(
        self,
        committed: MemoryVersion | None = None,
        pending: MemoryVersion | None = None,
        kind: UpdateKind = UpdateKind.WRITE,
        tag: Tag | None = None,
    ) -> None:
        self.committed = committed
        self.pending = pending
        self.kind = kind
        self.tag = tag
        self._meta: ChunkMeta | None = None

    @property
    def exists(self) -> bool:
        """There is a version of either kind."""
        return self.committed is not None or self.pending is not None

    @property
    def content(self) -> bytes:
        """Of the committed version; none without."""
        return self.committed.content if self.committed is not None else b""

    @property
    def meta(self) -> ChunkMeta:
        """What the store tells of it."""
        if self._meta is None:
            self._meta = self._describe()
        return self._meta

    def _describe(self) -> ChunkMeta:
        committed, pending = self.committed, self.pending
        newest = pending or committed
        assert newest is not None
        return ChunkMeta(
            committed=committed.version if committed else 0,
            pending=pending.version if pending else 0,
            chain_version=newest.chain_version,
            length=len(committed.content) if committed else 0,
            checksum=digest_of(committed.sums) if committed else 0,
            pending_kind=self.kind,
            pending_tag=self.tag,
            pending_length=len(pending.content) if pending else 0,
            pending_checksum=digest_of(pending.sums) if pending else 0,
        )


def bytes_of(chunk: MemoryChunk) -> int:
    """Bytes of content of both versions."""
    return sum(len(version.content) for version in (chunk.committed, chunk.pending) if version is not None)


def has_its_sums(update: Update) -> bool:
    """The data of an update are what its checksums say. True also of one without data."""
    return update.data is None or tuple(checksums(update.data, update.offset)) == update.checksums


def check_update(update: Update, version: int, chunk: MemoryChunk) -> StageResult | None:
    """What is wrong with an update of a chunk; None: nothing."""
    size = len(update.data) if update.data is not None else 0
    whole = update.kind is UpdateKind.PUT or update.kind in FILLS
    without = update.kind in (UpdateKind.TRUNCATE, UpdateKind.REMOVE)
    sums = () if without else update.checksums
    if version < 1 or update.offset < 0 or size != update.length or (without and size) or (whole and update.offset):
        return StageResult(Code.INVALID, message=f"update of chunk {update.chunk.hex()} contradicts itself")
    if len(sums) != piece_count(update.offset, update.length):
        return StageResult(Code.INVALID, message=f"update of chunk {update.chunk.hex()} has {len(sums)} checksums")
    if update.kind is UpdateKind.PUT and chunk.committed is not None:
        return StageResult(Code.EXISTS, len(chunk.committed.content), digest_of(chunk.committed.sums))
    if update.kind is not UpdateKind.FILL_BAD and not has_its_sums(update):
        return StageResult(Code.CHECKSUM, message=f"data for chunk {update.chunk.hex()} do not have the sums they came with")
    return None
