"""A file with all rows of some stores: what `fs3 admin kv export` writes and `import` reads.

    fs3-kv-export 1\n
    kind(1) length(4) sum(4) payload      as often as needed; big-endian

Payloads are msgpack. The sum of a block is the CRC32C of all payloads up to it, so a block that is altered, missing or in another
place is noticed where it is. A file without its last block was cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import msgspec

from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.ports.kv import KVRow
from fs3.runtime.durable_files import sync_directory

ROW_FILE_FORMAT: Final = 1
_MAGIC: Final = b"fs3-kv-export "
_HEAD: Final = Struct(">cLL")
_STORE, _ROWS, _STORE_END, _FILE_END = b"S", b"R", b"E", b"Z"
row_file_block_bytes_max = 8 * MIB
"""Of a payload: a block ends with the row that takes it beyond half of that."""

_WRITE_ANEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
"""For the owner alone: there are keys and contents of files in it."""

_encode = msgspec.msgpack.Encoder().encode


class StoreHead(msgspec.Struct, frozen=True):
    """What the rows that follow are."""

    role: str
    """Of the processes whose store it is: mgmtd, meta."""
    cluster: str
    """Hexadecimal."""
    made_at_ns: int
    """Wall clock."""
    software: str


class _StoreEnd(msgspec.Struct, frozen=True):
    rows: int


class RowFileWriter:
    """Writes one file, which has its name only once it is whole and durable."""

    def __init__(self, path: Path) -> None:
        """FS3Error EXISTS when there is something of that name."""
        if path.exists():
            raise error(Code.EXISTS, "an export is written to a new file, and this one exists", str(path))
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._out: BinaryIO = os.fdopen(os.open(self._part, _WRITE_ANEW, 0o600), "wb")
        self._sum = 0
        self._rows = 0
        self._waiting: list[KVRow] = []
        self._waiting_bytes = 0
        self._out.write(_MAGIC + b"%d\n" % ROW_FILE_FORMAT)

    def begin(self, head: StoreHead) -> None:
        """Rows of this store follow."""
        self._rows = 0
        self._block(_STORE, _encode(head))

    def add(self, rows: Sequence[KVRow]) -> None:
        """The next rows, in the order of their keys."""
        for row in rows:
            self._waiting.append(row)
            self._waiting_bytes += len(row[0]) + len(row[1])
            if self._waiting_bytes >= row_file_block_bytes_max // 2:
                self._flush()

    def end(self) -> int:
        """That were all rows of the store: how many."""
        self._flush()
        self._block(_STORE_END, _encode(_StoreEnd(self._rows)))
        return self._rows

    def _flush(self) -> None:
        rows, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if rows:
            self._rows += len(rows)
            self._block(_ROWS, _encode(rows))

    def _block(self, kind: bytes, payload: bytes) -> None:
        self._sum = crc32c(payload, self._sum)
        self._out.write(_HEAD.pack(kind, len(payload), self._sum) + payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._block(_FILE_END, b"")
                self._out.flush()
                os.fsync(self._out.fileno())
                self._out.close()
                os.rename(self._part, self._path)
                sync_directory(self._path.parent)
        finally:
            self._out.close()
            with suppress(FileNotFoundError):
                self._part.unlink()


def read_row_file(path: Path) -> Iterator[StoreHead | list[KVRow]]:
    """Of each store its head, then its rows. FS3Error: NOT_FOUND; INVALID for some other file; UNSUPPORTED for one of another
    version; DATA_LOSS, saying where, for one that was cut or altered, once what is before that place has been given."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise error(Code.NOT_FOUND, "there is no such file", str(path)) from None
    with source:
        version = source.readline(64)
        if not version.startswith(_MAGIC):
            raise error(Code.INVALID, "this is no export of fs3", str(path))
        if version != _MAGIC + b"%d\n" % ROW_FILE_FORMAT:
            found = version.removeprefix(_MAGIC).strip().decode(errors="replace")
            raise error(Code.UNSUPPORTED, f"the export has version {found!r}, this software reads {ROW_FILE_FORMAT}", str(path))
        yield from _read_blocks(source, path)


def _read_blocks(source: BinaryIO, path: Path) -> Iterator[StoreHead | list[KVRow]]:
    total = rows = 0
    is_open = False
    while True:
        at = source.tell()
        head = source.read(_HEAD.size)
        kind, length, expected = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
        if not kind or length > row_file_block_bytes_max:
            raise _damaged(path, at, "it was cut" if not kind else f"a block of {length} bytes")
        payload = source.read(length)
        if len(payload) < length:
            raise _damaged(path, at, "it was cut")
        total = crc32c(payload, total)
        if total != expected:
            raise _damaged(path, at, "it is not what was written")
        if kind == _STORE and not is_open:
            is_open, rows = True, 0
            yield _decode(StoreHead, payload, path, at)
        elif kind == _ROWS and is_open:
            found = _decode(list[tuple[bytes, bytes]], payload, path, at)
            rows += len(found)
            yield found
        elif kind == _STORE_END and is_open:
            is_open = False
            if _decode(_StoreEnd, payload, path, at).rows != rows:
                raise _damaged(path, at, "rows are missing")
        elif kind == _FILE_END and not is_open:
            if source.read(1):
                raise _damaged(path, at, "something follows its end")
            return
        else:
            raise _damaged(path, at, f"a block of kind {kind!r} in the wrong place")


def _decode(kind: Any, payload: bytes, path: Path, at: int) -> Any:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.MsgspecError as why:
        raise _damaged(path, at, str(why)) from why


def _damaged(path: Path, at: int, what: str) -> FS3Error:
    return error(Code.DATA_LOSS, f"the export is damaged at byte {at}: {what}", str(path))
