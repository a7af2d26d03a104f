"""Copies of the metadata store: `fs3 admin backup-meta` and `fs3 admin restore-meta`.

A copy is a directory with the rows of one moment, `data.mdb`, and a manifest that is written last: without it, a copy is none.
Restoring replaces the file of a store by one rename, so at any moment it is the old one or the new one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from fs3 import __version__
from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.cli.directory import ClusterDirectory
from fs3.core.meta import keys, locks, restore, rows
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn, Txn
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.file_check import check_file
from fs3.drivers.lmdb.page_file import FileDamaged
from fs3.drivers.os.directory_lock import DirectoryLock
from fs3.runtime.durable_files import sync_directory, write_durably

FORMAT = 1
_DATA = "data.mdb"
_LOCK = "lock.mdb"
_MARKER = "made"
_MANIFEST = "copy.json"
_WORK = "restoring"
_ROWS = b"rows"
_SUM_STEP = 4 * MIB


class Manifest(msgspec.Struct, frozen=True):
    """What a copy is of, and how to know it again."""

    format: int
    software: str
    cluster: str
    """Hexadecimal."""
    made_at_ns: int
    """Wall clock."""
    rows: int
    next_id: int
    """Of inodes, when the copy was made."""
    bytes: int
    """Of data.mdb, and ..."""
    crc32c: int
    """... its sum."""


def store_of(where: Path) -> Path:
    """The directory of the metadata store: that of a local cluster or of embedded services, or the store's own.

    Raises FS3Error UNSUPPORTED for a cluster whose metadata are elsewhere."""
    if (where / "cluster.json").exists():
        shape, _ = ClusterDirectory(where).require()
        if shape.kv:
            told = f"the metadata are in {shape.kv}: `fs3 admin kv export` copies them (docs/metadata-recovery.md)"
            raise error(Code.UNSUPPORTED, told, str(where))
        return where / "meta" / "kv"
    if (where / "storage").is_dir() and (where / "meta").is_dir():
        return where / "meta"
    return where


def place_of(where: Path) -> Path:
    """`store_of`, for a copy that is to be put there. What is neither a store nor empty is some other directory.

    Raises FS3Error NOT_FOUND or INVALID."""
    store = store_of(where)
    if store == where and not (store / _DATA).exists() and not (store / _MARKER).exists():
        if not where.is_dir():
            raise error(Code.NOT_FOUND, "there is no such directory", str(where))
        if any(where.iterdir()):
            raise error(Code.INVALID, f"this is no metadata store (no {_DATA}), and no empty directory for one", str(where))
    return store


def back_up(store: Path, copy: Path) -> Manifest:
    """Copy a store, which may be in use, into a directory that is made. Raises FS3Error; then there is no copy."""
    if not (store / _DATA).exists():
        raise error(Code.NOT_FOUND, f"there is no metadata store here (no {_DATA})", str(store))
    try:
        copy.mkdir(parents=True)
    except FileExistsError:
        raise error(Code.EXISTS, "a copy is made in a new directory, and this one exists", str(copy)) from None
    try:
        asyncio.run(_copy(store, copy))
        made_at_ns = time.time_ns()
        report = _check(copy / _DATA)
        work = copy / _WORK
        cluster, next_id = _identify_file(copy / _DATA, work)
        size, total = _sum(copy / _DATA)
        manifest = Manifest(FORMAT, __version__, cluster, made_at_ns, report, next_id, size, total)
        _sync(copy / _DATA)
        write_durably(copy / _MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        sync_directory(copy.parent)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return manifest


async def _copy(store: Path, copy: Path) -> None:
    kv = LmdbKV.open(store)
    try:
        if kv.damaged_rows:
            what = f"{keys.describe(kv.damaged_rows[0])} is damaged, and would be so in the copy: see `fs3 admin fsck`"
            raise error(Code.DATA_LOSS, what, str(store))
        await kv.copy_to(copy)
    finally:
        await kv.close()


def put_back(copy: Path, store: Path, wall_ns: int) -> dict[str, Any]:
    """Replace a store that no process has open by a copy of it. What it was is kept beside it, as `data.mdb.replaced-<n>`.

    Raises FS3Error, with the store as it was: BUSY naming a process that has it open, DATA_LOSS for a copy that is not what was
    made, WRONG_CLUSTER, INVALID when the clock is behind.
    """
    manifest = _verify(copy)
    if wall_ns < manifest.made_at_ns:
        raise error(Code.INVALID, "the clock of this machine is behind that of the one that made the copy", str(copy))
    cluster, known = _identify_replaced(store)
    if cluster not in ("", manifest.cluster):
        what = f"the copy is of cluster {manifest.cluster}, the store of cluster {cluster}"
        raise error(Code.WRONG_CLUSTER, what, str(store))
    lock = DirectoryLock(store)
    work = store / _WORK
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        shutil.copyfile(copy / _DATA, work / _DATA)
        first = asyncio.run(_raise_ids(work, wall_ns, known))
        _check(work / _DATA)
        _sync(work / _DATA)
        kept = _keep_replaced(store)
        os.replace(work / _DATA, store / _DATA)
        # Whoever opens the store makes it anew; it names readers of the old file.
        (store / _LOCK).unlink(missing_ok=True)
        (store / _MARKER).touch(0o600)
        sync_directory(store)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()
    return {
        "store": str(store), "rows": manifest.rows, "cluster": manifest.cluster, "made_at_ns": manifest.made_at_ns,
        "first_inode_id": first, "replaced": kept,
    }  # fmt: skip


def _verify(copy: Path) -> Manifest:
    """The manifest of a copy that is what was made. Raises FS3Error."""
    try:
        manifest = msgspec.json.decode((copy / _MANIFEST).read_bytes(), type=Manifest)
        size, total = _sum(copy / _DATA)
    except FileNotFoundError as why:
        raise error(Code.NOT_FOUND, f"this is no whole copy: {why.filename} is missing", str(copy)) from why
    except msgspec.MsgspecError as why:
        raise error(Code.DATA_LOSS, f"{_MANIFEST} of the copy is damaged: {why}", str(copy)) from why
    if manifest.format != FORMAT:
        raise error(Code.UNSUPPORTED, f"the copy has format {manifest.format}, this software reads {FORMAT}", str(copy))
    if (size, total) != (manifest.bytes, manifest.crc32c):
        what = f"{size} bytes with sum {total:08x}, not {manifest.bytes} with {manifest.crc32c:08x}"
        raise error(Code.DATA_LOSS, f"{_DATA} of the copy is damaged: {what}", str(copy))
    _check(copy / _DATA)
    return manifest


def _check(file: Path) -> int:
    """How many rows are in a file of which everything is sound. Raises FS3Error DATA_LOSS."""
    try:
        report = check_file(file, _ROWS, everything=True)
    except FileDamaged as why:
        raise error(Code.DATA_LOSS, f"the file is damaged: {why}", str(file)) from why
    if report.damaged:
        raise error(Code.DATA_LOSS, f"{keys.describe(report.damaged[0].key)} is damaged", str(file))
    return report.rows


async def _identify(txn: ReadTxn) -> tuple[str, int]:
    stored = await txn.get(keys.STORE)
    if stored is None:
        raise MetaError(Code.UNSUPPORTED, "this is not a metadata store")
    return msgspec.msgpack.decode(stored, type=rows.StoreIdent).cluster.hex(), await restore.next_id(txn)


def _identify_file(file: Path, work: Path) -> tuple[str, int]:
    """(cluster, next inode id). Looked at through another name: opening a store leaves files beside it."""
    work.mkdir()
    try:
        os.link(file, work / _DATA)
        return asyncio.run(_identify_store(work))
    finally:
        shutil.rmtree(work)


async def _identify_store(store: Path) -> tuple[str, int]:
    kv = LmdbKV.open(store)
    try:
        return await kv.read(_identify)
    except (MetaError, msgspec.MsgspecError) as why:
        raise error(why.code if isinstance(why, MetaError) else Code.DATA_LOSS, str(why), str(store)) from why
    finally:
        await kv.close()


def _identify_replaced(store: Path) -> tuple[str, int]:
    """As far as the store that is to be replaced can still be read; ("", 0) when it cannot."""
    if not (store / _DATA).exists():
        return "", 0
    try:
        return asyncio.run(_identify_store(store))
    except FS3Error as why:
        if why.code is Code.BUSY:
            raise
        return "", 0


async def _raise_ids(work: Path, wall_ns: int, known: int) -> int:
    async def begin_anew(txn: Txn) -> int:
        await locks.end_all_epochs(txn)
        return await restore.raise_next_id(txn, wall_ns, known)

    kv = LmdbKV.open(work)
    try:
        return await kv.transact(begin_anew)
    except MetaError as why:
        raise error(why.code, why.message, str(work.parent)) from why
    finally:
        await kv.close()


def _keep_replaced(store: Path) -> str:
    """Give the file that is to be replaced another name as well. Empty when there is none."""
    if not (store / _DATA).exists():
        return ""
    number = 1
    while (kept := store / f"{_DATA}.replaced-{number}").exists():
        number += 1
    os.link(store / _DATA, kept)
    return str(kept)


def _sum(file: Path) -> tuple[int, int]:
    size = total = 0
    with file.open("rb") as source:
        while part := source.read(_SUM_STEP):
            size += len(part)
            total = crc32c(part, total)
    return size, total


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def when(made_at_ns: int) -> str:
    """A moment as people write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made_at_ns / SECOND))
