"""The chunk index of a target: an LMDB environment with one row per chunk, per update channel and per bad chunk, one for the
target, and one that says from where on the log is ahead of it.

One write transaction at a time, on the thread of the checkpoints. The loop reads through a snapshot that it moves forward itself
(`advance`), so that what it sees changes only between two of its own steps. An environment's map is address space; when it is
full it grows, which needs a moment without transactions and is therefore done by the loop between two checkpoints.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from fs3.base.checksum import crc32c
from fs3.base.errors import error
from fs3.base.ids import CLIENT_ID_BYTES, ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.drivers.chunks.log_records import PackedRows
from fs3.drivers.chunks.update_log import LOG_ID_BYTES, LogPosition, create_log
from fs3.drivers.lmdb.file_check import check_file
from fs3.drivers.lmdb.page_file import FileDamaged
from fs3.model.chunk import ChannelKey
from fs3.ports.chunk_store import StoreDamaged
from fs3.runtime.durable_files import NO_ROOM, sync_directory

log = logging.getLogger("fs3.chunks")

FORMAT = 3
"""Of rows, sizes, file names and the log. A directory of another format is refused."""
_READABLE = (1, 2, FORMAT)
"""Format 1 had no channel epochs and no marks of bad chunks, format 2 no log; opening them makes them format 3."""
_MARKER = "made"
"""Name of an empty file that says: there was an index here once."""
_TARGET_KEY = b"target"
_EPOCH_KEY = b"channel epoch"
_LOG_KEY = b"log"
_POSITION_BYTES = LOG_ID_BYTES + 16
_NO_ROOM_TEXTS = {os.strerror(number) for number in NO_ROOM}


class Table(Enum):
    """The databases of the environment; the values are their names."""

    CHUNKS = b"chunks"
    CHANNELS = b"channels"
    BAD_CHUNKS = b"bad"


class _TargetRow(msgspec.Struct, array_like=True):
    """Whose directory this is."""

    format: int
    target: int
    cluster: bytes
    checksum: int = 0
    """CRC32C of this row packed with 0 here; format 1 has none."""

    def sum(self) -> int:
        return crc32c(msgspec.msgpack.encode(_TargetRow(self.format, self.target, self.cluster)))


class IndexFull(Exception):
    """The map is full; `Index.grow`, then write again."""


class IndexNoSpace(Exception):
    """The disk has no room for the rows; nothing of them was written."""


class Index:
    """Rows of one target."""

    def __init__(
        self,
        directory: Path,
        target: TargetId,
        cluster: bytes,
        map_bytes: int,
        map_bytes_max: int,
        log_segment_bytes: int,
    ) -> None:
        """Open, or create when absent, then with a log of segments of that size.

        Raises FS3Error: UNSUPPORTED for another format or foreign contents, CONFIG or WRONG_CLUSTER for another target's or
        cluster's directory, DISK when it cannot be read, NO_SPACE when it must be written to and there is no room, StoreDamaged.
        `cluster` b"" is not checked; a directory without one takes it over.
        """
        self.directory = directory
        self.map_bytes = map_bytes
        self._map_bytes_max = max(map_bytes, map_bytes_max)
        path = directory / "index"
        self._names: tuple[bytes, ...] = ()
        """Of what was in the environment when it was opened."""
        self._log_segment_bytes = log_segment_bytes
        self.log_position = LogPosition(b"", 1, 0)
        """Of the log when the index was opened."""
        self._look(path / "data.mdb")
        try:
            # One reader at a time needs a slot, two for a moment. There are more because a slot is only given back when the last
            # reference to its transaction is gone, and an exception somewhere may hold one for a while.
            self._env = lmdb.open(
                str(path), map_size=map_bytes, max_dbs=3, max_readers=126, mode=0o600, readahead=False, sync=True, metasync=True
            )
        except lmdb.Error as why:
            raise error(Code.DISK, f"cannot open the chunk index: {why}", str(path)) from why
        try:
            self._open(target, cluster)
        except lmdb.Error as why:
            self._env.close()
            if _is_no_space(why):
                raise error(Code.NO_SPACE, f"no room to open the chunk index: {why}", str(path)) from why
            raise StoreDamaged(f"cannot read the chunk index: {why}", str(path)) from why
        except BaseException:
            self._env.close()
            raise
        self._txn: Any = self._env.begin()

    def _look(self, path: Path) -> None:
        """Before LMDB may touch it: is the file sound, or rightly absent?"""
        try:
            size = path.stat().st_size if path.exists() else 0
            was_one = (self.directory / _MARKER).exists() or any(self.directory.glob("blocks-*"))
            if size:
                self._names = check_file(path).names
            elif was_one:
                raise StoreDamaged("the chunk index is gone", str(path))
        except FileDamaged as why:
            raise StoreDamaged(f"the chunk index is damaged: {why}", str(path)) from why
        except StoreDamaged:
            raise
        except OSError as why:
            raise error(Code.DISK, f"cannot read the chunk index: {why.strerror}", str(path)) from why

    def _open(self, target: TargetId, cluster: bytes) -> None:
        marker = self.directory / _MARKER
        with self._env.begin() as txn:
            found = txn.get(_TARGET_KEY)
            log_row = txn.get(_LOG_KEY)
            if found is None and txn.stat()["entries"]:
                if marker.exists():
                    raise StoreDamaged("the chunk index does not say whose it is", str(self.directory))
                raise error(Code.UNSUPPORTED, "the chunk index is not one of fs3", str(self.directory))
        row = _TargetRow(FORMAT, target, cluster)
        if found is not None:
            try:
                row = msgspec.msgpack.decode(found, type=_TargetRow)
            except msgspec.DecodeError as why:
                raise StoreDamaged(f"the chunk index does not say whose it is: {why}", str(self.directory)) from why
            if row.format > 1 and row.checksum != row.sum():
                raise StoreDamaged("the row that says whose the chunk index is, is damaged", str(self.directory))
        elif marker.exists():
            raise StoreDamaged("the chunk index is empty", str(self.directory))
        if row.format not in _READABLE:
            raise error(Code.UNSUPPORTED, f"chunks are in format {row.format}, this is format {FORMAT}", str(self.directory))
        if row.target != target:
            raise error(Code.CONFIG, f"the directory belongs to target {row.target}, not {target}", str(self.directory))
        if cluster and row.cluster not in (b"", cluster):
            raise error(
                Code.WRONG_CLUSTER,
                f"the directory belongs to cluster {row.cluster.hex()}, not {cluster.hex()}",
                str(self.directory),
            )
        self._check_names(row.format)
        self.log_position = self._find_log(log_row, is_made=found is not None and row.format == FORMAT)
        row.cluster = row.cluster or cluster
        row.format = FORMAT
        row.checksum = row.sum()
        packed = msgspec.msgpack.encode(row)
        # Nothing is written to one that is as it should be, so that it opens on a full disk.
        is_complete = packed == found and marker.exists()
        with self._env.begin(write=True) as txn:
            self._tables = {table: self._env.open_db(table.value, txn=txn, create=not is_complete) for table in Table}
            self._chunks, self._channels = self._tables[Table.CHUNKS], self._tables[Table.CHANNELS]
            if not is_complete:
                txn.put(_TARGET_KEY, packed)
                txn.put(_LOG_KEY, _pack_position(self.log_position))
        sync_directory(self.directory / "index")
        if not marker.exists():
            sync_directory(self.directory)  # names are durable in any order: the marker must not be there without the index
            marker.touch(0o600)  # durable as soon as the caller syncs the directory

    def _find_log(self, packed: bytes | None, *, is_made: bool) -> LogPosition:
        """Where the log is that belongs to the index; a new one when it has none yet. Raises StoreDamaged, FS3Error."""
        if is_made:
            if packed is None or len(packed) != _POSITION_BYTES or crc32c(packed[:-4]) != int.from_bytes(packed[-4:], "little"):
                raise StoreDamaged("the row that says where the log begins is damaged", str(self.directory))
            number = int.from_bytes
            return LogPosition(packed[:LOG_ID_BYTES], number(packed[8:16], "little"), number(packed[16:20], "little"))
        try:
            return create_log(self.directory, self._log_segment_bytes)
        except OSError as why:
            code = Code.NO_SPACE if why.errno in NO_ROOM else Code.DISK
            raise error(code, f"cannot make the log: {why.strerror}", str(self.directory)) from why

    def _check_names(self, found_format: int) -> None:
        """A database whose name has changed would be made anew, empty. Raises StoreDamaged."""
        names = {*self._names}
        if not names:
            return
        tables = {table.value for table in Table}
        made = tables if found_format > 1 else tables - {Table.BAD_CHUNKS.value}
        if not made <= names or names - {_TARGET_KEY, _EPOCH_KEY, _LOG_KEY, *tables}:
            raise StoreDamaged(f"the chunk index has {sorted(names)}", str(self.directory))

    # --- the loop's side ---------------------------------------------------------------------------------------------

    def get_chunk(self, chunk: ChunkId) -> bytes | None:
        """The packed row of a chunk in the snapshot."""
        found: bytes | None = self._txn.get(chunk, db=self._chunks)
        return found

    def get_channel(self, packed_key: bytes) -> bytes | None:
        """The packed row of an update channel in the snapshot."""
        found: bytes | None = self._txn.get(packed_key, db=self._channels)
        return found

    def has(self, table: Table, key: bytes) -> bool:
        """The snapshot has a row."""
        return self._txn.get(key, db=self._tables[table]) is not None

    def count(self, table: Table) -> int:
        """Rows in the snapshot."""
        count: int = self._txn.stat(self._tables[table])["entries"]
        return count

    def read_channel_epoch(self) -> int:
        """The channel epoch in the snapshot; 1 when none was ever stored. Raises StoreDamaged."""
        found = self._txn.get(_EPOCH_KEY)
        if found is None:
            return 1
        if len(found) != 8 or crc32c(found[:4]) != int.from_bytes(found[4:], "little"):
            raise StoreDamaged("the channel epoch is damaged", str(self.directory))
        return int.from_bytes(found[:4], "little")

    def read_page(self, table: Table, after: bytes | None, limit: int) -> list[tuple[Any, bytes]]:
        """At most so many packed rows of the snapshot in key order, after a key. Raises StoreDamaged."""
        # No cursor is left to the caller: one that it forgets would keep the transaction's reader slot.
        try:
            with self._txn.cursor(db=self._tables[table]) as cursor:
                if after is None:
                    found = cursor.first()
                else:
                    found = cursor.set_range(after) and (cursor.key() != after or cursor.next())
                return list(islice(cursor.iternext(), limit)) if found else []
        except lmdb.Error as why:
            raise StoreDamaged(f"the chunk index cannot be read: {why}", str(self.directory)) from why

    def advance(self) -> None:
        """Move the snapshot to the newest commit. Raises lmdb.Error; then the snapshot is the old one."""
        newest = self._env.begin()
        self._txn.abort()
        self._txn = newest

    def grow(self) -> bool:
        """Double the map. False at its limit. Only while no write transaction is under way."""
        if self.map_bytes >= self._map_bytes_max:
            log.error("%s: the index has reached its limit of %s", self.directory, format_size(self._map_bytes_max))
            return False
        wanted = min(2 * self.map_bytes, self._map_bytes_max)
        self._txn.abort()
        try:
            self._env.set_mapsize(wanted)
            self.map_bytes = wanted
            log.info("%s: index map grown to %s", self.directory, format_size(wanted))
            return True
        except lmdb.Error as why:
            # By then the old map is gone; reading without one would touch memory that is not there.
            self._env.set_mapsize(self.map_bytes)
            log.error("%s: the index map cannot be grown to %s: %s", self.directory, format_size(wanted), why)
            return False
        finally:
            self._txn = self._env.begin()

    def close(self) -> None:
        """Close the files."""
        self._txn.abort()
        self._env.close()

    # --- the checkpoint thread's side --------------------------------------------------------------------------------

    def write(self, rows: PackedRows, position: LogPosition) -> None:
        """Commit rows, and from where on the log is ahead of them, as one synced transaction.

        Raises IndexFull and IndexNoSpace, after which nothing of it is there, and lmdb.Error, after which some of it may be.
        """
        try:
            with self._env.begin(write=True) as txn:
                for table, packed in (
                    (Table.CHUNKS, rows.chunks),
                    (Table.CHANNELS, rows.channels),
                    (Table.BAD_CHUNKS, rows.bad_chunks),
                ):
                    _put(txn, self._tables[table], sorted(packed.items()))
                if rows.channel_epoch:
                    epoch = rows.channel_epoch.to_bytes(4, "little")
                    txn.put(_EPOCH_KEY, epoch + crc32c(epoch).to_bytes(4, "little"))
                txn.put(_LOG_KEY, _pack_position(position))
        except lmdb.MapFullError as why:
            raise IndexFull from why
        except lmdb.Error as why:
            if _is_no_space(why):
                raise IndexNoSpace(str(why)) from why
            raise


def _pack_position(position: LogPosition) -> bytes:
    packed = position.log_id + position.first.to_bytes(8, "little") + position.segments.to_bytes(4, "little")
    return packed + crc32c(packed).to_bytes(4, "little")


def _is_no_space(why: lmdb.Error) -> bool:
    """py-lmdb gives a class of its own to ENOSPC only; the others are known by the system's text for them."""
    return isinstance(why, lmdb.DiskError) or any(text in str(why) for text in _NO_ROOM_TEXTS)


def _put(txn: Any, database: Any, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Rows in the order of their keys."""
    for key, packed in rows:
        if packed is None:
            txn.delete(key, db=database)
        else:
            txn.put(key, packed, db=database)


def pack_key(key: ChannelKey) -> bytes:
    """The key of a channel row."""
    client, channel = key
    assert len(client) == CLIENT_ID_BYTES, f"client id {client.hex()} has {len(client)} bytes"
    return client + channel.to_bytes(4, "big")


def unpack_key(packed: bytes) -> ChannelKey:
    """Whose row that is."""
    return ClientId(packed[:CLIENT_ID_BYTES]), int.from_bytes(packed[CLIENT_ID_BYTES:], "big")
