"""An LMDB environment that is ours: locked, of a known format, with a map that grows."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import lmdb

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.drivers.lmdb.lock import DirectoryLock

log = logging.getLogger("fs3.lmdb")

_FORMAT_KEY = b"format"
_ROWS = b"rows"
_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT))
"""Texts of ENOSPC, EFBIG and EDQUOT: py-lmdb gives a class to the first only."""


class Environment:
    """One directory with one database of rows.

    The main database holds nothing but the format row and the name of the other, so that no key of a user can collide with
    them. Every commit is synced, data before the page that makes it visible.
    """

    def __init__(self, directory: Path, kind: str, version: int, *, map_bytes: int, map_bytes_max: int) -> None:
        """Open, or create when absent.

        `kind` and `version` name what the rows mean, e.g. "kv" and 1. `map_bytes` is address space, not memory or disk; it is
        doubled as needed up to `map_bytes_max`. Raises FS3Error: BUSY when another process has the directory, UNSUPPORTED for
        other contents, DISK when it cannot be read.
        """
        self.directory = directory
        self.map_bytes = map_bytes
        self.map_bytes_max = max(map_bytes, map_bytes_max)
        self._lock = DirectoryLock(directory)
        try:
            fresh = not (directory / "data.mdb").exists()
            self._env = lmdb.open(
                str(directory), map_size=map_bytes, max_dbs=1, max_readers=126, mode=0o600, sync=True, metasync=True
            )
            try:
                self._check_format(f"fs3 {kind} {version}".encode())
                if fresh:
                    _sync_directory(directory)
                    _sync_directory(directory.parent)
            except BaseException:
                self._env.close()
                raise
        except lmdb.Error as why:
            self._lock.release()
            raise error(Code.DISK, f"cannot open the LMDB environment: {why}", str(directory)) from why
        except BaseException:
            self._lock.release()
            raise

    def _check_format(self, wanted: bytes) -> None:
        with self._env.begin() as txn:
            found = txn.get(_FORMAT_KEY)
            entries = txn.stat()["entries"]
        if found is None and entries == 0:
            with self._env.begin(write=True) as txn:
                self._rows = self._env.open_db(_ROWS, txn=txn)
                txn.put(_FORMAT_KEY, wanted)
            return
        if found != wanted:
            what = found.decode("utf-8", "replace") if found else "an LMDB environment of another program"
            raise error(
                Code.UNSUPPORTED, f"the directory holds {what!r}, this software reads {wanted.decode()!r}", str(self.directory)
            )
        self._rows = self._env.open_db(_ROWS, create=False)

    def begin_read(self) -> Any:
        """A read transaction on the newest commit, usable on any one thread at a time."""
        return self._env.begin(db=self._rows)

    def write(self, rows: dict[bytes, bytes | None]) -> None:
        """Commit puts and deletes (None), in key order, synced. Raises lmdb.Error; then nothing of it is there.

        Always on the same thread, never two at once.
        """
        with self._env.begin(write=True, db=self._rows) as txn:
            txn.cursor().putmulti(sorted((key, value) for key, value in rows.items() if value is not None))
            for key in sorted(key for key, value in rows.items() if value is None):
                txn.delete(key)

    def grow(self) -> bool:
        """Double the map; False at the limit. No transaction may be open."""
        if self.map_bytes >= self.map_bytes_max:
            return False
        wanted = min(2 * self.map_bytes, self.map_bytes_max)
        try:
            self._env.set_mapsize(wanted)
        except lmdb.Error as why:
            # The old map is gone by then; without one, the next read would touch memory that is not there.
            self._env.set_mapsize(self.map_bytes)
            log.warning("%s: the map cannot be grown to %s: %s", self.directory, format_size(wanted), why)
            return False
        self.map_bytes = wanted
        log.info("%s: map grown to %s", self.directory, format_size(self.map_bytes))
        return True

    def used_bytes(self) -> int:
        """Bytes of the data file."""
        return (self.directory / "data.mdb").stat().st_size

    def entries(self) -> int:
        """Rows committed."""
        with self._env.begin(db=self._rows) as txn:
            count: int = txn.stat(self._rows)["entries"]
        return count

    def explain(self, why: BaseException) -> FS3Error:
        """What a failed `write` means: NO_SPACE, else DISK."""
        if isinstance(why, lmdb.MapFullError):
            return error(
                Code.NO_SPACE,
                f"the key-value store is full: its map limit is {format_size(self.map_bytes_max)}",
                str(self.directory),
            )
        if isinstance(why, lmdb.DiskError) or any(text in str(why) for text in _NO_ROOM):
            return error(Code.NO_SPACE, f"no space for the key-value store: {why}", str(self.directory))
        return error(Code.DISK, f"the key-value store cannot be written: {why}", str(self.directory))

    def close(self) -> None:
        """Close and unlock. No transaction may be open."""
        self._env.close()
        self._lock.release()


def _sync_directory(directory: Path) -> None:
    # LMDB syncs its files, not the names it gave them.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
