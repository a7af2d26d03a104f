"""An LMDB environment that is ours: locked, of a known format, with a map that grows."""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from fs3.base.checksum import seal_row
from fs3.base.errors import FS3Error, error
from fs3.base.limits import lmdb_lock_lease_ns
from fs3.base.status import Code
from fs3.base.units import MIB, format_size
from fs3.drivers.lmdb.file_check import check_file
from fs3.drivers.lmdb.page_file import DamagedRow, FileDamaged, StateReplaced
from fs3.drivers.lmdb.write_lock import WriteLock
from fs3.drivers.os.directory_lock import DirectoryLock
from fs3.drivers.os.space_reserve import SpaceReserve
from fs3.runtime.durable_files import NO_ROOM, sync_directory

log = logging.getLogger("fs3.lmdb")

lmdb_reserve_bytes = 4 * MIB
"""Kept beside a store for transactions that make room, when its disk is full."""

_FORMAT_KEY = b"format"
_ROWS = b"rows"
_MARKER = "made"
"""Name of an empty file that says: there was a store here once."""
_STATES_TRIED_MAX = 16
"""A check of the file begins anew when there were two commits before it had found its state."""
_DAMAGED = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, FileDamaged)
"""What says that the file is not what was written."""
_READERS_MAX = 126
"""Snapshots of all processes together; one has up to four."""
_LOCK_FILE_BYTES = 8192
"""What LMDB makes it for so many readers."""
_PAGES_PER_ROW = 8
"""Copied at most when a row changes: those from the root down to it."""
_NO_ROOM_TEXTS = tuple(os.strerror(number) for number in NO_ROOM)
"""py-lmdb gives a class to the first only."""
_EIO_TEXT = os.strerror(errno.EIO)


def store_damaged(directory: Path, what: str) -> FS3Error:
    """The error of a store that must not be used: DATA_LOSS, saying what a person can do."""
    help_ = "docs/metadata-recovery.md says how to put back a copy"
    return error(Code.DATA_LOSS, f"the key-value store is damaged: {what}; {help_}", str(directory))


class HeldState:
    """A state whose pages are not used again before it is released. Nothing is read through LMDB: the map may move."""

    def __init__(self, txn: Any) -> None:
        self._txn = txn
        self.state: int = txn.id()

    def release(self) -> None:
        """Let its pages be used again."""
        self._txn.abort()


class EnvironmentFacts(NamedTuple):
    """What LMDB knows of itself."""

    map_bytes: int
    used_bytes: int
    """In pages up to the last that was ever used."""
    readers: int
    """Places of snapshots that are taken, those of dead processes included until they are looked for."""
    readers_max: int


class Environment:
    """One directory with one database of rows, shared by any number of processes.

    The main database holds nothing but the format row and the name of the other, so that no key of a user can collide with
    them. Every commit is synced, data before the page that makes it visible. Every state has an id, one higher than that of
    the state before; a state that was made by a commit is the newest until another commit.

    Values are kept sealed (`fs3.base.checksum.seal_row`). Opening looks at the whole file before LMDB follows anything in it.
    """

    rows_name = _ROWS
    """Of the database of rows."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        version: int,
        *,
        map_bytes: int,
        map_bytes_max: int,
        lock_lease_ns: int = lmdb_lock_lease_ns,
    ) -> None:
        """Open, or create when absent.

        `kind` and `version` name what the rows mean, e.g. "kv" and 1. `map_bytes` is address space, not memory or disk; it is
        doubled as needed up to `map_bytes_max`. `lock_lease_ns`: see `WriteLock`, the same for all processes of the store.
        Raises FS3Error: BUSY when this process has the directory open, or another one that does not share it; UNSUPPORTED for
        other contents; NO_SPACE; DISK when it cannot be read; DATA_LOSS when it is damaged in such a way that it must not be
        used. Single rows that are damaged are in `damaged`.
        """
        self.directory = directory
        self.map_bytes_max = max(map_bytes, map_bytes_max)
        self._format = f"fs3 {kind} {version}".encode()
        self.file = directory / "data.mdb"
        self.damaged: tuple[DamagedRow, ...] = ()
        """Rows that were not as written when the store was opened."""
        self._lock = DirectoryLock(directory, shared=True)
        self.begin_read: Callable[[], Any]
        """A read transaction on the newest state, usable on any one thread at a time. Raises lmdb.Error; MapResizedError asks
        for `adopt_map`."""
        self._reserve = SpaceReserve(directory, lmdb_reserve_bytes)
        try:
            fresh = not self.file.exists() or not self.file.stat().st_size
            if fresh and (directory / _MARKER).exists():
                raise store_damaged(directory, "data.mdb is gone or empty")
            self.write_lock = WriteLock(directory, lock_lease_ns)
            try:
                self._open(map_bytes, check=not fresh)
            except BaseException:
                self.write_lock.close()
                raise
            if fresh or not (directory / _MARKER).exists():
                (directory / _MARKER).touch(0o600)
                # LMDB syncs its files, not the names it gave them.
                sync_directory(directory)
                sync_directory(directory.parent)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, map_bytes: int, *, check: bool) -> None:
        try:
            self._allocate_lock_file()
            self._env = lmdb.open(
                str(self.directory), map_size=map_bytes, max_dbs=1, max_readers=_READERS_MAX, mode=0o600, sync=True, metasync=True
            )
            try:
                self.clear_stale_readers()
                if check:
                    self._check_file()
                self.write_lock.acquire_ticking()
                try:
                    self._check_format(self._format)
                    self._reserve.fill()
                finally:
                    self.write_lock.release()
            except BaseException:
                self._env.close()
                raise
        except (lmdb.Error, OSError, FileDamaged) as why:
            if isinstance(why, FS3Error):
                raise
            if isinstance(why, _DAMAGED):
                raise store_damaged(self.directory, str(why)) from why
            code = self.explain(why).code
            raise error(code, f"cannot open the LMDB environment: {why}", str(self.directory)) from why
        self._map_bytes = self.map_bytes
        self.begin_read = partial(self._env.begin, self._rows)

    def _allocate_lock_file(self) -> None:
        """LMDB writes to this file as memory: on a full disk, a page that is not there yet would be a SIGBUS."""
        # Before LMDB opens it: closing a file gives up this process' locks on it.
        handle = os.open(self.directory / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, _LOCK_FILE_BYTES)
        finally:
            os.close(handle)

    def reopen(self) -> None:
        """Close, and open anew: LMDB gives an environment up for good when it cannot write a page of its own (`MDB_PANIC`).

        No transaction of this process may be open. Raises FS3Error; then nothing works until the next `reopen`.
        """
        self._env.close()
        self._open(self._map_bytes, check=False)

    def _check_file(self) -> None:
        """Look at the file, in a state that is held meanwhile: other processes may be writing. Raises FileDamaged."""
        for _ in range(_STATES_TRIED_MAX):
            txn = self._env.begin()
            try:
                report = check_file(self.file, _ROWS, txn.id())
            except StateReplaced:
                continue
            finally:
                txn.abort()
            if _FORMAT_KEY in report.names and _ROWS not in report.names:
                # It would be made anew, empty.
                raise FileDamaged(f"the rows are not among {report.names}")
            self.damaged = report.damaged
            return
        log.warning("%s: other processes commit so fast that the file could not be checked; the scrub will", self.directory)

    def _check_format(self, wanted: bytes) -> None:
        # A write transaction: several processes may create the store at once, the first one to get the lock does. LMDB keeps
        # the handle of a named database only when the transaction that opened it commits, and py-lmdb never commits a reader.
        with self._env.begin(write=True) as txn:
            found = txn.get(_FORMAT_KEY)
            if found is None and txn.stat()["entries"] == 0:
                txn.put(_FORMAT_KEY, wanted)
            elif found != wanted:
                what = found.decode("utf-8", "replace") if found else "an LMDB environment of another program"
                reads = f"this software reads {wanted.decode()!r}"
                raise error(Code.UNSUPPORTED, f"the directory holds {what!r}, {reads}", str(self.directory))
            self._rows = self._env.open_db(_ROWS, txn=txn)

    def hold_state(self) -> HeldState:
        """The newest state, with its pages until it is released. Raises FS3Error."""
        try:
            return HeldState(self._env.begin())
        except lmdb.Error as why:
            raise self.explain(why) from why

    def copy_to(self, directory: Path) -> None:
        """Write the newest state into an existing directory, without free pages. On any thread; others may write meanwhile.

        Raises FS3Error.
        """
        try:
            self._env.copy(str(directory), compact=True)
        except lmdb.Error as why:
            raise self.explain(why) from why

    def begin_write(self) -> Any:
        """A write transaction; waits until no process has one. All on one thread. Raises lmdb.Error as `begin_read`, OSError."""
        self.write_lock.acquire()
        try:
            return self._env.begin(write=True, db=self._rows)
        except BaseException:
            self.write_lock.release()
            raise

    def abort_write(self, txn: Any) -> None:
        """End a write transaction; nothing of it is there."""
        txn.abort()
        self.write_lock.release()

    def write(self, txn: Any, rows: dict[bytes, bytes | None], *, use_reserve: bool = False) -> bool:
        """Put, delete (None) and commit, in key order, synced. False when that changed nothing, and there is no new state.

        `use_reserve`: on a full disk, with the room that is kept for what makes room; any other commit fills that up first.
        Raises lmdb.Error, or OSError when the disk is full; then nothing of it is there. The transaction has ended either way.
        """
        if not use_reserve:
            self._reserve.fill()
        try:
            while True:
                try:
                    return self._commit(txn, rows)
                except (lmdb.Error, OSError) as why:
                    full = self._find_full(why, rows)
                    if full is None or not use_reserve or not self._reserve.has_given_back():
                        raise full or why from None
                txn = self._env.begin(write=True, db=self._rows)
        finally:
            if use_reserve:
                # What the commit has not needed, before anybody else takes it.
                self._reserve.fill()
            self.write_lock.release()

    def _find_full(self, why: lmdb.Error | OSError, rows: dict[bytes, bytes | None]) -> lmdb.Error | OSError | None:
        """The error that says that a commit has failed for want of room; None when it was something else."""
        if _EIO_TEXT in str(why):
            # LMDB calls a write that ended early by that name, and this is how a full disk begins. If there is room, it was
            # something else; and if there is room again, the next attempt finds it.
            try:
                self._allocate(rows)
            except OSError as full:
                return full
            return None
        return why if self.explain(why).code is Code.NO_SPACE and not isinstance(why, lmdb.MapFullError) else None

    def _allocate(self, rows: dict[bytes, bytes | None]) -> None:
        """Have the file system set aside what a commit may need. OSError when there is no room, or none may be taken."""
        info = self._env.info()
        row_bytes = sum(len(key) + len(value or b"") for key, value in rows.items())
        end = (info["last_pgno"] + 1 + _PAGES_PER_ROW * len(rows)) * mmap.PAGESIZE + 2 * row_bytes
        handle = os.open(self.directory / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(handle, 0, end)
        finally:
            os.close(handle)

    @staticmethod
    def _commit(txn: Any, rows: dict[bytes, bytes | None]) -> bool:
        try:
            puts = sorted((key, seal_row(key, value)) for key, value in rows.items() if value is not None)
            if puts:
                txn.cursor().putmulti(puts)
            changed = bool(puts)
            for key in sorted(key for key, value in rows.items() if value is None):
                changed = txn.delete(key) or changed
            txn.commit()
        except BaseException:
            txn.abort()
            raise
        return changed

    def clear_stale_readers(self) -> None:
        """Free the pages that only snapshots of processes hold which have been killed."""
        count = self._env.reader_check()
        if count:
            log.info("%s: %d snapshots of processes that have died are forgotten", self.directory, count)

    def grow(self) -> bool:
        """Double the map; False at the limit. No transaction of this process may be open."""
        before = self.map_bytes
        if before >= self.map_bytes_max:
            return False
        wanted = min(2 * before, self.map_bytes_max)
        try:
            self._env.set_mapsize(wanted)
        except lmdb.Error as why:
            # The old map is gone by then; without one, the next read would touch memory that is not there.
            self._env.set_mapsize(before)
            log.warning("%s: the map cannot be grown to %s: %s", self.directory, format_size(wanted), why)
            return False
        log.info("%s: map grown to %s", self.directory, format_size(self.map_bytes))
        return True

    def adopt_map(self) -> None:
        """Make the map as large as another process has made it. No transaction of this process may be open. lmdb.Error."""
        self._env.set_mapsize(0)
        log.info("%s: map grown to %s, as another process has it", self.directory, format_size(self.map_bytes))

    @property
    def map_bytes(self) -> int:
        """Size of the map now."""
        size: int = self._env.info()["map_size"]
        return size

    def measure_used_bytes(self) -> int:
        """Bytes of the data file."""
        return (self.directory / "data.mdb").stat().st_size

    def read_facts(self) -> EnvironmentFacts:
        """How it is. Raises lmdb.Error when it is closed just now."""
        info, page_bytes = self._env.info(), self._env.stat()["psize"]
        return EnvironmentFacts(info["map_size"], (info["last_pgno"] + 1) * page_bytes, info["num_readers"], info["max_readers"])

    def explain(self, why: BaseException) -> FS3Error:
        """What an error of LMDB means: NO_SPACE, DATA_LOSS, else DISK."""
        if isinstance(why, lmdb.MapFullError):
            return error(
                Code.NO_SPACE,
                f"the key-value store is full: its map limit is {format_size(self.map_bytes_max)}",
                str(self.directory),
            )
        full = why.errno in NO_ROOM if isinstance(why, OSError) else any(text in str(why) for text in _NO_ROOM_TEXTS)
        if full or isinstance(why, lmdb.DiskError):
            return error(Code.NO_SPACE, f"no space for the key-value store: {why}", str(self.directory))
        if isinstance(why, _DAMAGED):
            return store_damaged(self.directory, str(why))
        return error(Code.DISK, f"the key-value store does not work: {why}", str(self.directory))

    def close(self) -> None:
        """Close and unlock. No transaction may be open."""
        self._env.close()
        self.write_lock.close()
        self._lock.release()
