"""The two stores of a cluster, of its managers and of its metadata, wherever they are; and what moves all their rows.

An export has the rows of each store of one moment. An import is a restore: it may be of long ago, so inode ids go on above all
that were ever given, and locks have ended. A copy is for moving: it has the rows as they are, and is one only if nothing has
changed while it was made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fs3 import __version__
from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.limits import check_rows_per_page
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.cli.directory import ClusterDirectory
from fs3.cli.stores import StoreLocation, open_store, parse_store
from fs3.core.membership.state import ClusterRow
from fs3.core.meta import keys, locks, restore, rows
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.namespace_check import CheckSource, NamespaceCheck
from fs3.core.meta.fsck.pages import check_page, inspect_inodes
from fs3.core.txn import KVRowDamaged, ReadTxn, Txn
from fs3.drivers.kv.row_file import RowFileWriter, StoreHead, read_row_file
from fs3.drivers.os.clock import OsClock
from fs3.model.check import CheckPage, Inspection, RowTable
from fs3.ports.kv import KVRow, ScrubbedKV
from fs3.services.mgmtd.store import CLUSTER_KEY

ROLES = ("mgmtd", "meta")
import_rows_max = 1000
"""Rows that one transaction of an import writes."""
import_bytes_max = 2 * MIB
_UNFINISHED = b"IMPORT"
"""Key of a row that is in a store while rows are being put into it. Services take such a store for something else."""
_IDENTIFYING = {"mgmtd": (CLUSTER_KEY,), "meta": (keys.STORE, keys.COUNTERS)}
"""Rows by which services know a store: the last ones that are written."""

Progress = Callable[[str, int], None]
"""Role, rows so far."""


class StoreSum(msgspec.Struct):
    """What all rows of a store come to."""

    rows: int = 0
    crc32c: int = 0

    def add(self, page: Sequence[KVRow]) -> None:
        """The next rows, in the order of their keys."""
        total = self.crc32c
        for key, value in page:
            total = crc32c(value, crc32c(key, total))
        self.crc32c = total
        self.rows += len(page)


def locate(text: str) -> dict[str, StoreLocation]:
    """Role -> its store: of `etcd://…/NAME`; of the directory of a local cluster, wherever that says; of `lmdb:DIR`, below DIR.

    FS3Error INVALID, NOT_FOUND.
    """
    if "://" in text:
        location = parse_store(text, "STORES")
        return dict.fromkeys(ROLES, location)
    if text.startswith("lmdb:"):
        return _below(Path(text.removeprefix("lmdb:")))
    directory = ClusterDirectory(Path(text))
    shape, _ = directory.require()
    return dict.fromkeys(ROLES, parse_store(shape.kv)) if shape.kv else _below(directory.path)


def _below(directory: Path) -> dict[str, StoreLocation]:
    return {role: StoreLocation(directory / role / "kv") for role in ROLES}


@asynccontextmanager
async def opened(location: StoreLocation, role: str, *, create: bool) -> AsyncIterator[ScrubbedKV]:
    """A store. `create`: or a new one; else FS3Error NOT_FOUND when LMDB has none there."""
    if location.directory is not None and not create and not (location.directory / "data.mdb").exists():
        raise error(Code.NOT_FOUND, f"there is no store of {role} here", str(location.directory))
    kv = await open_store(location, role, OsClock(), on_given_up=lambda why: None)
    try:
        yield kv
    finally:
        await kv.close()


async def identify(kv: ScrubbedKV, role: str, place: str) -> str:
    """The cluster a store belongs to, hexadecimal. FS3Error NOT_FOUND when it has nothing, UNSUPPORTED when something else."""

    async def op(txn: ReadTxn) -> tuple[bytes | None, bytes | None, bool]:
        unfinished = await txn.get(_UNFINISHED)
        return await txn.get(_IDENTIFYING[role][0]), unfinished, not await txn.scan(b"", b"\xff", 1)

    stored, unfinished, is_empty = await kv.read(op)
    if is_empty:
        raise error(Code.NOT_FOUND, f"the store of {role} is empty", place)
    if unfinished is not None:
        raise error(Code.UNSUPPORTED, f"an import into the store of {role} was not finished; repeat it", place)
    try:
        if stored is None:
            raise error(Code.UNSUPPORTED, f"this is no store of {role}", place)
        if role == "meta":
            return msgspec.msgpack.decode(stored, type=rows.StoreIdent).cluster.hex()
        return msgspec.msgpack.decode(stored, type=ClusterRow).id.hex()
    except msgspec.MsgspecError as why:
        raise error(Code.DATA_LOSS, f"the store of {role} cannot be read: {why}", place) from why


async def identify_all(stores: dict[str, StoreLocation]) -> str:
    """The cluster of both stores. FS3Error as `identify`; WRONG_CLUSTER when they belong to different ones."""
    found = {}
    for role, location in stores.items():
        async with opened(location, role, create=False) as kv:
            found[role] = await identify(kv, role, str(location))
    if len(set(found.values())) > 1:
        raise error(Code.WRONG_CLUSTER, "the stores belong to different clusters: " + _join(found))
    return found[ROLES[0]]


def _join(found: dict[str, str]) -> str:
    return ", ".join(f"{role} to {cluster}" for role, cluster in found.items())


# --- out ---------------------------------------------------------------------------------------------------------------


async def pages_of(kv: ScrubbedKV, role: str, progress: Progress) -> AsyncIterator[Sequence[KVRow]]:
    """All rows of a store at one moment. FS3Error DATA_LOSS naming a damaged row."""
    done = 0
    try:
        async for page in kv.snapshot():
            done += len(page)
            progress(role, done)
            yield page
    except KVRowDamaged as why:
        told = f"{keys.describe(why.key)} is damaged, and would be missing: see `fs3 admin fsck`"
        raise error(Code.DATA_LOSS, told) from why


async def write_export(stores: dict[str, StoreLocation], file: Path, progress: Progress) -> dict[str, int]:
    """Write all rows into a new file; the cluster may be in use. Rows of each role. FS3Error; then there is no file."""
    cluster = await identify_all(stores)
    written = {}
    with RowFileWriter(file) as out:
        for role, location in stores.items():
            async with opened(location, role, create=False) as kv:
                out.begin(StoreHead(role, cluster, time.time_ns(), __version__))
                async for page in pages_of(kv, role, progress):
                    out.add(page)
                written[role] = out.end()
    return written


def check_export(file: Path) -> list[StoreHead]:
    """Read a whole export, and say what it has. FS3Error as `read_row_file`; INVALID when a store is missing."""
    heads = [part for part in read_row_file(file) if isinstance(part, StoreHead)]
    if sorted(head.role for head in heads) != sorted(ROLES):
        raise error(Code.INVALID, f"the export has {', '.join(head.role for head in heads) or 'nothing'}", str(file))
    if len({head.cluster for head in heads}) > 1:
        told = _join({head.role: head.cluster for head in heads})
        raise error(Code.WRONG_CLUSTER, f"the rows belong to different clusters: {told}", str(file))
    return heads


def rows_in_export(file: Path, role: str) -> Iterator[list[KVRow]]:
    """The rows of one store in an export."""
    current = ""
    for part in read_row_file(file):
        if isinstance(part, StoreHead):
            current = part.role
        elif current == role:
            yield part


# --- in ----------------------------------------------------------------------------------------------------------------


async def prepare_target(kv: ScrubbedKV, role: str, cluster: str, place: str) -> None:
    """Make sure that a store is empty, or has what an import of this cluster has left that was not finished.

    FS3Error: WRONG_CLUSTER, EXISTS when it has rows.
    """
    mark = bytes.fromhex(cluster)

    async def look(txn: ReadTxn) -> tuple[bytes | None, bool]:
        return await txn.get(_UNFINISHED), not await txn.scan(b"", b"\xff", 1)

    unfinished, is_empty = await kv.read(look)
    if not is_empty and unfinished is None:
        found = await identify(kv, role, place)
        if found != cluster:
            raise error(Code.WRONG_CLUSTER, f"there is the store of another cluster, {found}; the rows are of {cluster}", place)
        raise error(Code.EXISTS, f"there are rows of {role} already; rows are put into an empty store", place)
    if unfinished is not None and unfinished != mark:
        told = f"there is an unfinished import of another cluster, {unfinished.hex()}; the rows are of {cluster}"
        raise error(Code.WRONG_CLUSTER, told, place)

    async def clear(txn: Txn) -> int:
        found = await txn.scan(b"", b"\xff", import_rows_max)
        for key, _ in found:
            txn.delete(key)
        txn.put(_UNFINISHED, mark)
        return sum(key != _UNFINISHED for key, _ in found)

    while await kv.transact(clear):
        pass


class StoreFiller:
    """Puts rows into a prepared store. Services do not take it for one before `finish`."""

    def __init__(self, kv: ScrubbedKV, role: str, progress: Progress) -> None:
        self._kv = kv
        self._role = role
        self._progress = progress
        self._kept: list[KVRow] = []
        """Rows by which services would know the store."""
        self._done = 0

    async def add(self, page: Sequence[KVRow]) -> None:
        """The next rows."""
        identifying = _IDENTIFYING[self._role]
        self._kept += [row for row in page if row[0] in identifying]
        part: list[KVRow] = []
        size = 0
        for row in page:
            if row[0] in identifying or row[0] == _UNFINISHED:
                continue
            part.append(row)
            size += len(row[0]) + len(row[1])
            if len(part) >= import_rows_max or size >= import_bytes_max:
                await self._put(part)
                part, size = [], 0
        await self._put(part)
        self._progress(self._role, self._done)

    async def _put(self, part: Sequence[KVRow]) -> None:
        async def op(txn: Txn) -> None:
            for key, value in part:
                txn.put(key, value)

        if part:
            await self._kv.transact(op)
            self._done += len(part)

    async def finish(self, *, restored_at_ns: int | None = None) -> None:
        """All rows are there: make it a store. `restored_at_ns`: the rows may be older than what was done since.

        FS3Error INVALID when the clock is behind.
        """
        is_restored = restored_at_ns is not None and self._role == "meta"
        if is_restored:
            await self._kv.transact(locks.end_all_epochs)

        async def op(txn: Txn) -> None:
            for key, value in self._kept:
                txn.put(key, value)
            if is_restored and restored_at_ns is not None:
                await restore.raise_next_id(txn, restored_at_ns, 0)
            txn.delete(_UNFINISHED)

        try:
            await self._kv.transact(op)
        except MetaError as why:
            raise error(why.code, why.message) from why


async def read_import(file: Path, stores: dict[str, StoreLocation], wall_ns: int, progress: Progress) -> dict[str, int]:
    """Put the rows of an export into empty stores. Rows of each role. FS3Error; what is there then is no store, and is taken away
    by the next import."""
    heads = check_export(file)
    if wall_ns < max(head.made_at_ns for head in heads):
        raise error(Code.INVALID, "the clock of this machine is behind that of the one that made the export", str(file))
    written = {}
    # The managers' last: a cluster whose metadata are not there does not start.
    for role in reversed(ROLES):
        location = stores[role]
        async with opened(location, role, create=True) as kv:
            await prepare_target(kv, role, heads[0].cluster, str(location))
            filler = StoreFiller(kv, role, progress)
            count = 0
            for page in rows_in_export(file, role):
                await filler.add(page)
                count += len(page)
            await filler.finish(restored_at_ns=wall_ns)
            written[role] = count
    return written


async def copy_stores(
    source: dict[str, StoreLocation], target: dict[str, StoreLocation], progress: Progress
) -> dict[str, StoreSum]:
    """Put all rows of stores into empty ones, and read both back: they are the same. FS3Error: BUSY when the source was changed
    meanwhile, since a copy of it is then none; DATA_LOSS when what arrived is not what was sent."""
    cluster = await identify_all(source)
    copied = {}
    for role in reversed(ROLES):
        async with opened(source[role], role, create=False) as kv, opened(target[role], role, create=True) as other:
            await prepare_target(other, role, cluster, str(target[role]))
            filler, sent = StoreFiller(other, role, progress), StoreSum()
            async for page in pages_of(kv, role, progress):
                sent.add(page)
                await filler.add(page)
            if await sum_store(kv, role) != sent:
                told = f"{role} has changed {source[role]} while it was copied: stop its services, then copy again"
                raise error(Code.BUSY, told)
            await filler.finish()
            arrived = await sum_store(other, role)
            if arrived != sent:
                told = f"the copy has {arrived.rows} rows with sum {arrived.crc32c:08x}, not {sent.rows} with {sent.crc32c:08x}"
                raise error(Code.DATA_LOSS, told, str(target[role]))
            copied[role] = sent
    return copied


async def sum_store(kv: ScrubbedKV, role: str) -> StoreSum:
    """Of all rows as they are now."""
    total = StoreSum()
    async for page in pages_of(kv, role, lambda role, rows: None):
        total.add(page)
    return total


async def are_same(some: dict[str, StoreLocation], others: dict[str, StoreLocation]) -> bool:
    """Both have the same rows. Those that cannot be read have not."""
    for role in ROLES:
        sums = []
        for location in (some[role], others[role]):
            try:
                async with opened(location, role, create=False) as kv:
                    sums.append(await sum_store(kv, role))
            except FS3Error:
                return False
        if sums[0] != sums[1]:
            return False
    return True


# --- verified ----------------------------------------------------------------------------------------------------------


class StoreSource(CheckSource):
    """Pages of a store for the check of its namespace, each of its own moment."""

    def __init__(self, kv: ScrubbedKV) -> None:
        self._kv = kv

    async def page(self, table: RowTable, begin: bytes) -> CheckPage:
        """The page of a table that begins at a key."""
        return await self._kv.read(lambda txn: check_page(txn.tolerant(), table, begin, check_rows_per_page))

    async def inspect(self, inodes: Sequence[int]) -> Inspection:
        """These inodes as they are now."""
        return await self._kv.read(lambda txn: inspect_inodes(txn.tolerant(), inodes))

    async def inspect_contents(self, contents: Sequence[int]) -> Inspection:
        """The inodes that have these contents as they are now."""
        return await self._kv.read(lambda txn: inspect_inodes(txn.tolerant(), contents, contents=True))


async def check_names(location: StoreLocation) -> NamespaceCheck:
    """The check of the namespace in a metadata store, as `fs3 admin fsck` makes it through a service."""
    async with opened(location, "meta", create=False) as kv:
        check = NamespaceCheck(StoreSource(kv))
        try:
            await check.run()
        except MetaError as why:
            raise error(why.code, why.message, str(location)) from why
        return check
