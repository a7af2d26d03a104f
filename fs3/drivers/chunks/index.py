"""The chunk index of a target: an LMDB environment with one row per chunk, per update channel and per bad chunk, and one for
the target.

One write transaction at a time, on the target's disk thread. The loop reads through a snapshot that it moves forward itself
(`advance`), so that what it sees changes only between two of its own steps. An environment's map is address space; when it is
full it grows, which needs a moment without transactions and is therefore done by the loop between two barriers.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Iterator
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
from fs3.drivers.lmdb.file_check import check_file
from fs3.drivers.lmdb.page_file import FileDamaged
from fs3.model.chunk import ChannelKey
from fs3.ports.chunk_store import StoreDamaged
from fs3.runtime.durable_files import sync_directory

log = logging.getLogger("fs3.chunks")

FORMAT = 2
"""Of rows, sizes and file names. A directory of another format is refused."""
_READABLE = (1, FORMAT)
"""Format 1 had no channel epochs and no marks of bad chunks; opening it makes it format 2."""
_MARKER = "made"
"""Name of an empty file that says: there was an index here once."""
_TARGET_KEY = b"target"
_EPOCH_KEY = b"channel epoch"
_CHUNKS, _CHANNELS, _BAD_CHUNKS = b"chunks", b"channels", b"bad"
_SCAN_ROWS = 512
_NO_ROOM = {os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


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

    def __init__(self, directory: Path, target: TargetId, cluster: bytes, map_bytes: int, map_bytes_max: int) -> None:
        """Open, or create when absent.

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
        row.cluster = row.cluster or cluster
        row.format = FORMAT
        row.checksum = row.sum()
        packed = msgspec.msgpack.encode(row)
        # Nothing is written to one that is as it should be, so that it opens on a full disk.
        is_complete = packed == found and marker.exists()
        with self._env.begin(write=True) as txn:
            self._chunks = self._env.open_db(_CHUNKS, txn=txn, create=not is_complete)
            self._channels = self._env.open_db(_CHANNELS, txn=txn, create=not is_complete)
            self._bad_chunks = self._env.open_db(_BAD_CHUNKS, txn=txn, create=not is_complete)
            if not is_complete:
                txn.put(_TARGET_KEY, packed)
        sync_directory(self.directory / "index")
        if not marker.exists():
            sync_directory(self.directory)  # names are durable in any order: the marker must not be there without the index
            marker.touch(0o600)  # durable as soon as the caller syncs the directory

    def _check_names(self, found_format: int) -> None:
        """A database whose name has changed would be made anew, empty. Raises StoreDamaged."""
        names = {*self._names}
        if not names:
            return
        made = {_CHUNKS, _CHANNELS, _BAD_CHUNKS} if found_format == FORMAT else {_CHUNKS, _CHANNELS}
        if not made <= names or names - {_TARGET_KEY, _EPOCH_KEY, _CHUNKS, _CHANNELS, _BAD_CHUNKS}:
            raise StoreDamaged(f"the chunk index has {sorted(names)}", str(self.directory))

    # --- the loop's side ---------------------------------------------------------------------------------------------

    def get_chunk(self, chunk: ChunkId) -> bytes | None:
        """The packed row of a chunk in the snapshot."""
        found: bytes | None = self._txn.get(chunk, db=self._chunks)
        return found

    def get_channel(self, key: ChannelKey) -> bytes | None:
        """The packed row of an update channel in the snapshot."""
        found: bytes | None = self._txn.get(pack_key(key), db=self._channels)
        return found

    def scan(self, after: ChunkId | None, step: int = _SCAN_ROWS) -> Iterator[tuple[ChunkId, bytes]]:
        """Packed rows of the snapshot in key order, after a key; `step` are read at a time, each from the snapshot of then."""
        return self._scan(self._chunks, after, step)

    def scan_channels(self, after: bytes | None, step: int = _SCAN_ROWS) -> Iterator[tuple[bytes, bytes]]:
        """The same for channel rows, by packed key."""
        return self._scan(self._channels, after, step)

    def scan_bad_chunks(self) -> Iterator[tuple[ChunkId, bytes]]:
        """Bad chunks, and what was found (UTF-8)."""
        return self._scan(self._bad_chunks, None, _SCAN_ROWS)

    def count_channels(self) -> int:
        """Channel rows in the snapshot."""
        count: int = self._txn.stat(self._channels)["entries"]
        return count

    def read_channel_epoch(self) -> int:
        """The channel epoch in the snapshot; 1 when none was ever stored. Raises StoreDamaged."""
        found = self._txn.get(_EPOCH_KEY)
        if found is None:
            return 1
        if len(found) != 8 or crc32c(found[:4]) != int.from_bytes(found[4:], "little"):
            raise StoreDamaged("the channel epoch is damaged", str(self.directory))
        return int.from_bytes(found[:4], "little")

    def _scan(self, rows: Any, after: bytes | None, step: int) -> Iterator[tuple[Any, bytes]]:
        # No cursor is held over a `yield`: a scan that its caller leaves half done would keep the transaction's reader slot.
        while page := self._page(rows, after, step):
            yield from page
            if len(page) < step:
                return
            after = page[-1][0]

    def _page(self, rows: Any, after: bytes | None, limit: int) -> list[tuple[Any, bytes]]:
        try:
            with self._txn.cursor(db=rows) as cursor:
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

    # --- the disk thread's side --------------------------------------------------------------------------------------

    def write(
        self,
        rows: Iterable[tuple[ChunkId, bytes | None]],
        channels: Iterable[tuple[ChannelKey, bytes | None]],
        bad_chunks: Iterable[tuple[ChunkId, bytes | None]] = (),
        epoch: int = 0,
    ) -> None:
        """Commit packed rows (None deletes) as one synced transaction; the channel epoch unless it is 0.

        Raises IndexFull and IndexNoSpace, after which nothing of it is there, and lmdb.Error, after which some of it may be.
        """
        try:
            with self._env.begin(write=True) as txn:
                _put(txn, self._chunks, rows)
                _put(txn, self._channels, ((pack_key(key), packed) for key, packed in channels))
                _put(txn, self._bad_chunks, bad_chunks)
                if epoch:
                    packed = epoch.to_bytes(4, "little")
                    txn.put(_EPOCH_KEY, packed + crc32c(packed).to_bytes(4, "little"))
        except lmdb.MapFullError as why:
            raise IndexFull from why
        except lmdb.Error as why:
            if _is_no_space(why):
                raise IndexNoSpace(str(why)) from why
            raise


def _is_no_space(why: lmdb.Error) -> bool:
    """py-lmdb gives a class of its own to ENOSPC only; the others are known by the system's text for them."""
    return isinstance(why, lmdb.DiskError) or any(text in str(why) for text in _NO_ROOM)


def _put(txn: Any, database: Any, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
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
