"""The chunk index of a target: an LMDB environment with one row per chunk, one per update channel, and one for the target.

One write transaction at a time, on the target's disk thread. The loop reads through a snapshot that it moves forward itself
(`advance`), so that what it sees changes only between two of its own steps. An environment's map is address space; when it is
full it grows, which needs a moment without transactions and is therefore done by the loop between two barriers.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from fs3.base.errors import error
from fs3.base.ids import CLIENT_ID_BYTES, ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.drivers.chunks.files import sync_directory
from fs3.model.chunk import ChannelRow

log = logging.getLogger("fs3.chunks")

FORMAT = 1
"""Of rows, sizes and file names. A directory of another format is refused."""
_TARGET_KEY = b"target"
_NO_ROOM = {os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}

ChannelKey = tuple[ClientId, int]


class _TargetRow(msgspec.Struct, array_like=True):
    """Whose directory this is."""

    format: int
    target: int
    cluster: bytes


class IndexFull(Exception):
    """The map is full; `Index.grow`, then write again."""


class IndexNoSpace(Exception):
    """The disk has no room for the rows; nothing of them was written."""


class Index:
    """Rows of one target."""

    def __init__(self, directory: Path, target: TargetId, cluster: bytes, map_bytes: int, map_bytes_max: int) -> None:
        """Open, or create when absent.

        Raises FS3Error: UNSUPPORTED for another format or foreign contents, CONFIG for another target's or cluster's directory,
        DISK when LMDB cannot read it. `cluster` b"" is not checked; a directory without one takes it over.
        """
        self._directory = directory
        self.map_bytes = map_bytes
        self._map_bytes_max = max(map_bytes, map_bytes_max)
        path = directory / "index"
        try:
            self._env = lmdb.open(
                str(path), map_size=map_bytes, max_dbs=3, max_readers=16, mode=0o600, readahead=False, sync=True, metasync=True
            )
        except lmdb.Error as why:
            raise error(Code.DISK, f"cannot open the chunk index: {why}", str(path)) from why
        try:
            self._open(target, cluster)
        except lmdb.Error as why:
            self._env.close()
            raise error(Code.DISK, f"cannot read the chunk index: {why}", str(path)) from why
        except BaseException:
            self._env.close()
            raise
        self._txn: Any = self._env.begin()

    def _open(self, target: TargetId, cluster: bytes) -> None:
        with self._env.begin() as txn:
            found = txn.get(_TARGET_KEY)
            if found is None and txn.stat()["entries"]:
                raise error(Code.UNSUPPORTED, "the chunk index is not one of fs3", str(self._directory))
        row = _TargetRow(FORMAT, target, cluster)
        if found is not None:
            try:
                row = msgspec.msgpack.decode(found, type=_TargetRow)
            except msgspec.DecodeError as why:
                raise error(Code.UNSUPPORTED, f"the chunk index does not say whose it is: {why}", str(self._directory)) from why
        if row.format != FORMAT:
            raise error(Code.UNSUPPORTED, f"chunks are in format {row.format}, this is format {FORMAT}", str(self._directory))
        if row.target != target:
            raise error(Code.CONFIG, f"the directory belongs to target {row.target}, not {target}", str(self._directory))
        if cluster and row.cluster not in (b"", cluster):
            raise error(
                Code.CONFIG, f"the directory belongs to cluster {row.cluster.hex()}, not {cluster.hex()}", str(self._directory)
            )
        row.cluster = row.cluster or cluster
        with self._env.begin(write=True) as txn:
            self._chunks = self._env.open_db(b"chunks", txn=txn)
            self._channels = self._env.open_db(b"channels", txn=txn)
            txn.put(_TARGET_KEY, msgspec.msgpack.encode(row))
        sync_directory(self._directory / "index")

    # --- the loop's side ---------------------------------------------------------------------------------------------

    def chunk(self, chunk: ChunkId) -> bytes | None:
        """The packed row of a chunk in the snapshot."""
        found: bytes | None = self._txn.get(chunk, db=self._chunks)
        return found

    def channel(self, key: ChannelKey) -> ChannelRow | None:
        """The row of an update channel in the snapshot."""
        found = self._txn.get(_channel_key(key), db=self._channels)
        return None if found is None else msgspec.msgpack.decode(found, type=ChannelRow)

    def scan(self, after: ChunkId | None) -> Iterator[tuple[ChunkId, bytes]]:
        """Packed rows of the snapshot in key order, after a key. To be used up before the next `advance`."""
        with self._txn.cursor(db=self._chunks) as cursor:
            if after is None:
                found = cursor.first()
            else:
                found = cursor.set_range(after) and (cursor.key() != after or cursor.next())
            if found:
                yield from cursor.iternext()

    def advance(self) -> None:
        """Move the snapshot to the newest commit."""
        self._txn.abort()
        self._txn = self._env.begin()

    def grow(self) -> bool:
        """Double the map. False at its limit. Only while no write transaction is under way."""
        if self.map_bytes >= self._map_bytes_max:
            log.error("%s: the index has reached its limit of %s", self._directory, format_size(self._map_bytes_max))
            return False
        wanted = min(2 * self.map_bytes, self._map_bytes_max)
        self._txn.abort()
        try:
            self._env.set_mapsize(wanted)
            self.map_bytes = wanted
            log.info("%s: index map grown to %s", self._directory, format_size(wanted))
            return True
        except lmdb.Error as why:
            # By then the old map is gone; reading without one would touch memory that is not there.
            self._env.set_mapsize(self.map_bytes)
            log.error("%s: the index map cannot be grown to %s: %s", self._directory, format_size(wanted), why)
            return False
        finally:
            self._txn = self._env.begin()

    def close(self) -> None:
        """Let go of the files."""
        self._txn.abort()
        self._env.close()

    # --- the disk thread's side --------------------------------------------------------------------------------------

    def write(self, rows: Iterable[tuple[ChunkId, bytes | None]], channels: Iterable[tuple[ChannelKey, ChannelRow]]) -> None:
        """Commit rows (None deletes) as one synced transaction.

        Raises IndexFull and IndexNoSpace, after which nothing of it is there, and lmdb.Error, after which nobody knows.
        """
        try:
            with self._env.begin(write=True) as txn:
                for chunk, packed in rows:
                    if packed is None:
                        txn.delete(chunk, db=self._chunks)
                    else:
                        txn.put(chunk, packed, db=self._chunks)
                for key, row in channels:
                    txn.put(_channel_key(key), msgspec.msgpack.encode(row), db=self._channels)
        except lmdb.MapFullError as why:
            raise IndexFull from why
        except lmdb.Error as why:
            # py-lmdb gives a class of its own to ENOSPC only; the others are known by the system's text for them.
            if isinstance(why, lmdb.DiskError) or any(text in str(why) for text in _NO_ROOM):
                raise IndexNoSpace(str(why)) from why
            raise


def _channel_key(key: ChannelKey) -> bytes:
    client, channel = key
    assert len(client) == CLIENT_ID_BYTES, f"client id {client.hex()} has {len(client)} bytes"
    return client + channel.to_bytes(4, "big")
