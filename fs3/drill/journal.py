"""What a load wrote and was promised, kept in a journal outside the cluster, and what every later read may therefore show.

Contents describe themselves (whose, which, the how-manieth, checksum), so that any bytes found anywhere can be judged. A register
is one chunk with one writer, who writes the next number only once the last one was acknowledged. A read of it may show nothing
older than what was acknowledged, or seen by anybody, before the read began, and nothing newer than what was sent before it ended:
for one writer that is linearizability. Its version rises by one with each write: an update applied twice shows there.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fs3.base.checksum import crc32c
from fs3.base.ids import ChunkId, InodeId, file_chunk

_HEAD = struct.Struct("<8sIQII")
_MAGIC = b"fs3-reg1"
REGISTER_INODE = 0x5EED << 32
"""Registers are chunks of files that no metadata service knows: nobody else touches them."""


class WrongBytes(AssertionError):
    """A read showed what it must not show."""


def contents(name: str, size: int) -> bytes:
    """The bytes of a file or page of this name."""
    return hashlib.shake_128(name.encode()).digest(size)


def register_chunk(register: int) -> ChunkId:
    """The chunk a register is."""
    return file_chunk(InodeId(REGISTER_INODE + register), 0)


def register_bytes(register: int, seq: int, size: int) -> bytes:
    """What write number `seq` of a register writes: `size` bytes, at least a header."""
    body = contents(f"register {register} {seq}", size - _HEAD.size)
    return _HEAD.pack(_MAGIC, register, seq, size, crc32c(body)) + body


def register_seq(register: int, data: bytes | bytearray | memoryview) -> int:
    """Which write of a register these bytes are, whole. WrongBytes when they are none."""
    if len(data) < _HEAD.size:
        raise WrongBytes(f"register {register}: {len(data)} bytes are no content")
    magic, whose, seq, size, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC or whose != register:
        raise WrongBytes(f"register {register}: bytes of somebody else, they begin with {bytes(data[:32])!r}")
    if size != len(data):
        raise WrongBytes(f"register {register}: write {seq} was of {size} bytes, {len(data)} are there")
    if crc32c(memoryview(data)[_HEAD.size :]) != checksum:
        raise WrongBytes(f"register {register}: the bytes of write {seq} are mixed with others")
    return int(seq)


@dataclass
class Register:
    """What is known of one register."""

    number: int
    size: int
    acknowledged_seq: int = 0
    """The newest write that was acknowledged; 0 none."""
    sent_seq: int = 0
    """The newest write that was sent."""
    seen_seq: int = 0
    """The newest write any finished read has shown."""
    chunk_version: int = 0
    """Of the chunk, after the newest acknowledged write; 0 unknown."""
    is_uncertain: bool = False
    """A write got no answer: it may happen at any time, so nobody writes here any more."""

    @property
    def floor(self) -> int:
        """Nothing older may be shown by a read that begins now."""
        return max(self.acknowledged_seq, self.seen_seq)

    def check_read(self, data: bytes | bytearray | memoryview | None, floor: int) -> int:
        """The number of the write a read shows that began when the floor was `floor`; None: it found no chunk. WrongBytes."""
        seq = 0 if data is None else register_seq(self.number, data)
        if not floor <= seq <= self.sent_seq:
            raise WrongBytes(
                f"register {self.number}: a read shows write {seq}; when it began {floor} was acknowledged or seen, "
                f"and {self.sent_seq} was the newest sent"
            )
        self.seen_seq = max(self.seen_seq, seq)
        return seq

    def acknowledge(self, seq: int, version: int) -> None:
        """A write was acknowledged as the chunk's version. WrongBytes when that is not the next one."""
        if self.chunk_version and version != self.chunk_version + 1:
            raise WrongBytes(
                f"register {self.number}: write {seq} made version {version}, the one before it made {self.chunk_version}: "
                "each must happen once"
            )
        self.chunk_version = version
        self.acknowledged_seq = seq


@dataclass
class Journal:
    """Everything a journal says."""

    registers: dict[int, Register] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    """Path -> size of every file whose close was acknowledged and that nobody has begun to remove."""
    pages: list[str] = field(default_factory=list)
    """Keys whose pages were acknowledged."""
    page_bytes: int = 0
    timeline: list[tuple[str, int, int]] = field(default_factory=list)
    """(kind, begun, ended), monotonic nanoseconds, of every operation that ended well."""
    wrong: list[str] = field(default_factory=list)
    """What reads showed during the load that they must not show."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(kind, why) of operations that ended in an error."""

    def longest(self, kind: str, since: int = 0, until: int = 1 << 62) -> float:
        """Seconds of the longest operation of a kind that was under way at some time between `since` and `until`."""
        spans = (end - begin for what, begin, end in self.timeline if what == kind and end > since and begin < until)
        return max(spans, default=0) / 1e9

    def count(self, kind: str, since: int = 0, until: int = 1 << 62) -> int:
        """How many operations of a kind ended in a time."""
        return sum(what == kind and since < end <= until for what, _, end in self.timeline)


class JournalWriter:
    """An append-only file; every line is in the kernel's hands before the next thing happens, so a killed load loses nothing."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, *record: Any) -> None:
        """Append one record."""
        os.write(self._fd, json.dumps(record, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """End it."""
        os.close(self._fd)


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[list[Any], int]]:
    """(record, offset behind it) of a journal from an offset on; a line that is not complete yet is left for later."""
    with path.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def read_journal(path: Path) -> Journal:
    """Everything a journal says so far."""
    journal = Journal()
    for record, _ in read_records(path):
        apply_record(journal, record)
    return journal


def apply_record(journal: Journal, record: list[Any]) -> None:
    """Take one record in."""
    match record:
        case ["register", number, size]:
            journal.registers[number] = Register(number, size)
        case ["send", number, seq]:
            journal.registers[number].sent_seq = seq
        case ["ack", number, seq, version]:
            register = journal.registers[number]
            register.acknowledged_seq, register.chunk_version = seq, version
        case ["uncertain", number]:
            journal.registers[number].is_uncertain = True
        case ["seen", number, seq]:
            journal.registers[number].seen_seq = max(seq, journal.registers[number].seen_seq)
        case ["file", name, size]:
            journal.files[name] = size
        case ["remove", name]:
            journal.files.pop(name, None)
        case ["pages", size]:
            journal.page_bytes = size
        case ["page", key]:
            journal.pages.append(key)
        case ["time", kind, begin, end]:
            journal.timeline.append((kind, begin, end))
        case ["wrong", text]:
            journal.wrong.append(text)
        case ["failed", kind, why]:
            journal.failed.append((kind, why))
        case _:
            raise ValueError(f"a journal does not have such records: {record}")
