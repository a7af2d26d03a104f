"""Index rows: what a target stores about one chunk, and its packed form.

    crc u32 | flags u8 | [committed] | [pending | kind u8 | client bytes u8 | client 16 | channel u32 | seq u64]
    version: version u32 | chain version u32 | length u32 | class u8 | slot u32 | sums u32 × blocks | inline bytes

Little-endian. The row's own CRC32C covers the key too: a row that rotted, or that a rotten page shows under another key, is
noticed when it is read. Records are never changed after they are made, but for what is derived from them (`pieces`, `meta`).
"""

from __future__ import annotations

import struct
from array import array

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES, ROW_SUM_BYTES, crc32c, is_sealed, seal_row
from fs3.base.ids import ChunkId, ClientId
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.sizes import INLINE, NOWHERE, SIZES, place_of, split_place
from fs3.model.chunk import ChunkMeta, Tag, UpdateKind

_HEAD = struct.Struct("<IB")
_VERSION = struct.Struct("<IIIBI")
_ONE_SUM = struct.Struct("<I")
_PENDING = struct.Struct("<BB16sIQ")
_HAS_COMMITTED = 1
_HAS_PENDING = 2
_CLASS_NOWHERE = 254
_CLASS_INLINE = 255
_ROW_BYTES = 700
"""What a decoded row costs in memory beyond its sums and inline bytes, roughly."""


class RowDamaged(Exception):
    """An index row is not what was written. `RowCache` and `ChannelTable` make StoreDamaged of it, which names the store."""


class Version:
    """One version of a chunk: how long it is, where its bytes are, what they sum up to."""

    __slots__ = ("base", "chain_version", "digest", "fd", "inline", "length", "pieces", "place", "sums", "version")

    def __init__(
        self, version: int, chain_version: int, length: int, place: int, sums: bytes, inline: bytes | None, files: BlockFiles
    ) -> None:
        self.version = version
        self.chain_version = chain_version
        self.length = length
        self.place = place
        self.sums = sums
        """CRC32C of each 64 KiB block, 4 bytes little-endian each."""
        self.digest = crc32c(sums)
        """As `fs3.base.checksum.digest_of`, which packs sums just so."""
        self.inline = inline
        self.fd, self.base = files.locate(place)
        """Descriptor and byte offset of the block."""
        self.pieces: array[int] | None = None
        """CRC32C of each 4 KiB piece, derived from bytes that matched the stored sum of their 64 KiB block; -1 unknown."""

    def sum_of(self, block: int) -> int:
        """Stored sum of a 64 KiB block."""
        return int.from_bytes(self.sums[4 * block : 4 * block + 4], "little")

    def sums_of(self, first: int, last: int) -> list[int]:
        """Stored sums of the blocks first <= i < last."""
        return list(struct.unpack(f"<{last - first}I", self.sums[4 * first : 4 * last]))

    def reserve_piece_sums(self) -> int:
        """Make room for piece sums. Returns the bytes it takes, 0 when there was room already."""
        if self.pieces is not None:
            return 0
        self.pieces = array("q", (-1,)) * -(-self.length // PIECE_BYTES)
        return 8 * len(self.pieces)


def pack_sums(sums: tuple[int, ...] | list[int]) -> bytes:
    """Sums as `Version` keeps them."""
    if len(sums) == 1:
        return _ONE_SUM.pack(sums[0])
    return struct.pack(f"<{len(sums)}I", *sums)


class IndexRow:
    """A chunk: its committed and its pending version. Neither: it is absent (a row that is to be deleted)."""

    __slots__ = ("committed", "kind", "meta", "pending", "tag")

    def __init__(self, committed: Version | None, pending: Version | None, kind: UpdateKind, tag: Tag | None) -> None:
        self.committed = committed
        self.pending = pending
        self.kind = kind
        """Of the update that made the pending version."""
        self.tag = tag
        self.meta: ChunkMeta | None = None
        """Made by `describe` when first asked for."""

    @property
    def exists(self) -> bool:
        """There is a version of either kind."""
        return self.committed is not None or self.pending is not None

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly."""
        weight = _ROW_BYTES
        for version in (self.committed, self.pending):
            if version is not None:
                weight += len(version.sums)
                if version.inline is not None:
                    weight += len(version.inline)
                if version.pieces is not None:
                    weight += 8 * len(version.pieces)
        return weight

    def describe(self) -> ChunkMeta:
        """What the world may know of it."""
        if self.meta is None:
            committed, pending = self.committed, self.pending
            newest = pending or committed
            assert newest is not None
            self.meta = ChunkMeta(
                committed=committed.version if committed else 0,
                pending=pending.version if pending else 0,
                chain_version=newest.chain_version,
                length=committed.length if committed else 0,
                checksum=committed.digest if committed else 0,
                pending_kind=self.kind,
                pending_tag=self.tag,
                pending_length=pending.length if pending else 0,
                pending_checksum=pending.digest if pending else 0,
            )
        return self.meta


def encode(chunk: ChunkId, row: IndexRow) -> bytes:
    """The packed form."""
    body = b""
    flags = 0
    if row.committed is not None:
        flags |= _HAS_COMMITTED
        body += _encode_version(row.committed)
    if row.pending is not None:
        flags |= _HAS_PENDING
        body += _encode_version(row.pending)
        assert row.tag is not None
        client = row.tag.client
        body += _PENDING.pack(row.kind, len(client), client, row.tag.channel, row.tag.seq)
    return seal_row(chunk, bytes((flags,)) + body)


def _encode_version(version: Version) -> bytes:
    if version.place >= 0:
        class_number, slot = split_place(version.place)
    else:
        class_number, slot = (_CLASS_INLINE if version.place == INLINE else _CLASS_NOWHERE), 0
    head = _VERSION.pack(version.version, version.chain_version, version.length, class_number, slot)
    return head + version.sums + (version.inline or b"")


def check(chunk: bytes, packed: bytes) -> int:
    """The flags of a packed row. Raises RowDamaged when it is not as it was written."""
    if len(packed) < _HEAD.size or not is_sealed(chunk, packed):
        raise RowDamaged(f"the index row of chunk {chunk.hex()} is damaged")
    return packed[ROW_SUM_BYTES]


def decode(chunk: ChunkId, packed: bytes, files: BlockFiles) -> IndexRow:
    """The row. Raises RowDamaged."""
    flags = check(chunk, packed)
    at = _HEAD.size
    committed = pending = None
    kind, tag = UpdateKind.WRITE, None
    if flags & _HAS_COMMITTED:
        committed, at = _decode_version(packed, at, files)
    if flags & _HAS_PENDING:
        pending, at = _decode_version(packed, at, files)
        number, client_bytes, client, channel, seq = _PENDING.unpack_from(packed, at)
        kind, tag = UpdateKind(number), Tag(ClientId(client[:client_bytes]), channel, seq)
    return IndexRow(committed, pending, kind, tag)


def _decode_version(packed: bytes, at: int, files: BlockFiles) -> tuple[Version, int]:
    version, chain_version, length, class_number, slot = _VERSION.unpack_from(packed, at)
    at += _VERSION.size
    end = at + 4 * -(-length // BLOCK_BYTES)
    sums = packed[at:end]
    place, inline = place_of(class_number, slot), None
    if class_number == _CLASS_NOWHERE:
        place = NOWHERE
    elif class_number == _CLASS_INLINE:
        place, inline = INLINE, packed[end : end + length]
        end += length
    return Version(version, chain_version, length, place, sums, inline, files), end


def describe(chunk: ChunkId, packed: bytes) -> ChunkMeta:
    """What `decode(...).describe()` says, at a fraction of the cost: whole stores are listed. Raises RowDamaged."""
    flags = check(chunk, packed)
    at = _HEAD.size
    committed = pending = chain_version = length = digest = pending_length = pending_digest = 0
    if flags & _HAS_COMMITTED:
        committed, chain_version, length, class_number, _ = _VERSION.unpack_from(packed, at)
        at += _VERSION.size
        end = at + 4 * -(-length // BLOCK_BYTES)
        digest = crc32c(packed[at:end])
        at = end + length if class_number == _CLASS_INLINE else end
    if not flags & _HAS_PENDING:
        return ChunkMeta(committed, 0, chain_version, length, digest)
    pending, chain_version, pending_length, class_number, _ = _VERSION.unpack_from(packed, at)
    at += _VERSION.size
    end = at + 4 * -(-pending_length // BLOCK_BYTES)
    pending_digest = crc32c(packed[at:end])
    kind, client_bytes, client, channel, seq = _PENDING.unpack_from(
        packed, end + pending_length if class_number == _CLASS_INLINE else end
    )
    tag = Tag(ClientId(client[:client_bytes]), channel, seq)
    return ChunkMeta(committed, pending, chain_version, length, digest, UpdateKind(kind), tag, pending_length, pending_digest)


def parse_places(chunk: bytes, packed: bytes, ends: dict[int, int]) -> tuple[int, int, bool]:
    """(committed place, pending place, is there a pending version), for opening a target. Raises RowDamaged.

    `ends` learns, by class, how long its file must at least be. The cheap part of `decode`: a target may have millions of rows.
    """
    flags = check(chunk, packed)
    at = _HEAD.size
    committed = pending = NOWHERE
    if flags & _HAS_COMMITTED:
        _, _, length, class_number, slot = _VERSION.unpack_from(packed, at)
        at += _VERSION.size + 4 * -(-length // BLOCK_BYTES) + (length if class_number == _CLASS_INLINE else 0)
        if class_number < _CLASS_NOWHERE:
            committed = class_number << 32 | slot
            end = slot * SIZES[class_number] + length
            if end > ends.get(class_number, 0):
                ends[class_number] = end
    if not flags & _HAS_PENDING:
        return committed, NOWHERE, False
    _, _, length, class_number, slot = _VERSION.unpack_from(packed, at)
    if class_number < _CLASS_NOWHERE:
        pending = class_number << 32 | slot
        ends[class_number] = max(ends.get(class_number, 0), slot * SIZES[class_number] + length)
    return committed, pending, True
