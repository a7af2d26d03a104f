"""Records of the log: what one barrier makes durable, and its packed form.

    magic u32 | crc u32 | seq u64 | body bytes u32 | data bytes u32 | body | data | zeros up to the next 4 KiB

Little-endian. The body is msgpack: rows of chunks, channels and bad chunks, the channel epoch, and what was written to blocks.
The CRC32C covers everything behind it but the zeros, and before that the name of the log and the record's place in it. So a
record of another log, a copy of one among the data of a chunk, and what is left of the last round of a segment are none of this
log.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from fs3.base.checksum import crc32c
from fs3.base.units import KIB

RECORD_ALIGNMENT = 4 * KIB
"""A record begins at a multiple: what is written never shares a page with what is durable already."""

_MAGIC = 0x4C334653
_HEAD = struct.Struct("<IIQII")
_SUMMED = struct.Struct("<QII")
_SUMMED_AT = 8

Packed = dict[bytes, bytes | None]
"""Packed rows by packed key; None: the row goes."""


@dataclass(slots=True)
class PackedRows:
    """Rows as the index keeps them."""

    chunks: Packed = field(default_factory=dict)
    channels: Packed = field(default_factory=dict)
    bad_chunks: Packed = field(default_factory=dict)
    channel_epoch: int = 0
    """0: as it was."""

    def __bool__(self) -> bool:
        return bool(self.chunks or self.channels or self.bad_chunks or self.channel_epoch)

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.chunks) + len(self.channels) + len(self.bad_chunks)

    def add(self, later: PackedRows) -> None:
        """What came afterwards."""
        self.chunks.update(later.chunks)
        self.channels.update(later.channels)
        self.bad_chunks.update(later.bad_chunks)
        self.channel_epoch = later.channel_epoch or self.channel_epoch


class BlockWrite(msgspec.Struct):
    """The bytes of a block are new from `start` on, whatever the log has of them before."""

    place: int
    start: int
    data: memoryview | None
    """Those that the log has; None: they were synced in the block before the record was written."""


@dataclass(slots=True)
class LogRecord:
    """One record that was found in the log."""

    seq: int
    rows: PackedRows
    writes: list[BlockWrite]
    size: int
    """Bytes of the log it takes."""


class _Body(msgspec.Struct, array_like=True):
    chunks: list[tuple[bytes, bytes | None]]
    channels: list[tuple[bytes, bytes | None]]
    bad_chunks: list[tuple[bytes, bytes | None]]
    channel_epoch: int
    writes: list[tuple[int, int, int]]
    """(place, start, bytes in the log)"""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def encode_body(rows: PackedRows, writes: Sequence[BlockWrite]) -> bytes:
    """What of a record is not data."""
    return _encoder.encode(
        _Body(
            list(rows.chunks.items()),
            list(rows.channels.items()),
            list(rows.bad_chunks.items()),
            rows.channel_epoch,
            [(write.place, write.start, len(write.data) if write.data is not None else 0) for write in writes],
        )
    )


def size_of(body_bytes: int, data_bytes: int) -> int:
    """Bytes of the log a record takes."""
    return -(-(_HEAD.size + body_bytes + data_bytes) // RECORD_ALIGNMENT) * RECORD_ALIGNMENT


def pack_head(seq: int, body: bytes, data: Sequence[memoryview], salt: int) -> bytes:
    """What comes before the body. `salt`: the sum of the log's name and of the record's place."""
    summed = _SUMMED.pack(seq, len(body), sum(map(len, data)))
    total = crc32c(body, crc32c(summed, salt))
    for part in data:
        total = crc32c(part, total)
    return _MAGIC.to_bytes(4, "little") + total.to_bytes(4, "little") + summed


def parse_record(segment: memoryview, at: int, salt: int) -> LogRecord | None:
    """The record that begins `at` bytes into a segment; None: there is no whole one."""
    if len(segment) - at < _HEAD.size:
        return None
    magic, total, seq, body_bytes, data_bytes = _HEAD.unpack_from(segment, at)
    begin = at + _HEAD.size
    end = begin + body_bytes + data_bytes
    if magic != _MAGIC or end > len(segment):
        return None
    if crc32c(segment[begin:end], crc32c(segment[at + _SUMMED_AT : begin], salt)) != total:
        return None
    try:
        body = _decoder.decode(segment[begin : begin + body_bytes])
    except msgspec.DecodeError:
        return None
    rows = PackedRows(dict(body.chunks), dict(body.channels), dict(body.bad_chunks), body.channel_epoch)
    writes = []
    begin += body_bytes
    for place, start, length in body.writes:
        writes.append(BlockWrite(place, start, segment[begin : begin + length] if length else None))
        begin += length
    return LogRecord(seq, rows, writes, size_of(body_bytes, data_bytes))
