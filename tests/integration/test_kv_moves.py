"""All rows of a cluster into a file and back, and from one engine to another: what arrives is a whole store or none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId, TableId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli import kv_stores
from fs3.cli.directory import ClusterDirectory, Shape, acquire_process_lock
from fs3.cli.kv_stores import (
    StoreFiller,
    are_same,
    check_names,
    copy_stores,
    identify_all,
    locate,
    opened,
    read_import,
    write_export,
)
from fs3.cli.stores import StoreLocation
from fs3.core.membership.election import Holder, LeaseRecord
from fs3.core.membership.state import FORMAT, ClusterRow
from fs3.core.meta import restore
from fs3.core.meta.bootstrap import claim_store, ensure_root
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.txn import Txn
from fs3.drill.etcd_cluster import EtcdCluster
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import Mkdir
from fs3.model.routing import Routing
from fs3.services.mgmtd.store import MgmtdStore
from fs3.sim.conformance.kv import read_all_rows

CLUSTER, OTHER = b"c" * 16, b"o" * 16
NOW = 1_800_000_000 * SECOND
Places = dict[str, StoreLocation]


def quiet(role: str, rows: int) -> None:
    pass


def context(seq: int = 0) -> OpContext:
    return OpContext(User(0, 0), NOW, ClientId(b"c" * 16), seq, Routing(), LayoutDefaults(TableId(1)))


async def make_cluster(places: Places, cluster: bytes = CLUSTER, directories: int = 300) -> None:
    """A manager's store, and a namespace with some directories."""
    async with opened(places["mgmtd"], "mgmtd", create=True) as kv:
        lease = LeaseRecord(1, Holder("mgmtd", b"i" * 8), 1)
        store = MgmtdStore(kv)
        done = asyncio.get_running_loop().create_future()
        store.swap_lease(None, lease, lambda view, why: done.set_result(view))
        await done
        await store.create(ClusterRow(FORMAT, cluster, "made"), lease)
    async with opened(places["meta"], "meta", create=True) as kv:

        async def begin(txn: Txn) -> None:
            await claim_store(txn, cluster)
            await ensure_root(txn, context())

        await kv.transact(begin)
        await asyncio.gather(*(kv.transact(making(f"d{number}")) for number in range(directories)))


def making(name: str) -> Callable[[Txn], object]:
    return lambda txn: mkdir(txn, context(), Mkdir(PathRef.of(name)))


@pytest.fixture
def lmdb(tmp_path: Path) -> Callable[[str], Places]:
    return lambda name: locate(f"lmdb:{tmp_path / name}")


async def rows_of(place: StoreLocation, role: str) -> dict[bytes, bytes]:
    async with opened(place, role, create=False) as kv:
        return dict(await read_all_rows(kv))


async def refusal(waiting: object) -> FS3Error:
    with pytest.raises(FS3Error) as caught:
        await waiting  # type: ignore[misc]
    return caught.value


async def test_a_copy_has_the_same_rows_and_is_checked(lmdb: Callable[[str], Places]) -> None:
    await make_cluster(lmdb("a"))
    copied = await copy_stores(lmdb("a"), lmdb("b"), quiet)
    assert copied["meta"].rows > 600
    for role in kv_stores.ROLES:
        assert await rows_of(lmdb("a")[role], role) == await rows_of(lmdb("b")[role], role)
    assert await are_same(lmdb("a"), lmdb("b"))
    assert (await check_names(lmdb("b")["meta"])).problems == []
    async with opened(lmdb("b")["meta"], "meta", create=False) as kv:
        await kv.transact(making("more"))
    assert not await are_same(lmdb("a"), lmdb("b"))
    assert not await are_same(lmdb("a"), lmdb("absent"))


async def test_what_an_interrupted_import_leaves_is_no_store_and_gone_with_the_next_one(
    lmdb: Callable[[str], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_cluster(lmdb("a"))
    await make_cluster(lmdb("o"), OTHER, 1)
    await write_export(lmdb("a"), tmp_path / "export", quiet)
    await write_export(lmdb("o"), tmp_path / "other", quiet)

    async def breaks_off(self: StoreFiller, **options: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(StoreFiller, "finish", breaks_off)
        with pytest.raises(asyncio.CancelledError):
            await read_import(tmp_path / "export", lmdb("b"), NOW + 10**18, quiet)
    async with opened(lmdb("b")["meta"], "meta", create=False) as kv:
        with pytest.raises(Exception, match="something else than a namespace"):
            await kv.transact(lambda txn: claim_store(txn, CLUSTER))
    why = await refusal(read_import(tmp_path / "other", lmdb("b"), NOW + 10**18, quiet))
    assert why.code is Code.WRONG_CLUSTER
    await read_import(tmp_path / "export", lmdb("b"), NOW + 10**18, quiet)
    assert (await check_names(lmdb("b")["meta"])).problems == []


async def test_stores_that_have_rows_are_left_alone(lmdb: Callable[[str], Places], tmp_path: Path) -> None:
    await make_cluster(lmdb("a"), directories=2)
    await make_cluster(lmdb("o"), OTHER, 2)
    await write_export(lmdb("a"), tmp_path / "export", quiet)
    before = await rows_of(lmdb("o")["meta"], "meta")
    assert (await refusal(read_import(tmp_path / "export", lmdb("a"), NOW + 10**18, quiet))).code is Code.EXISTS
    assert (await refusal(read_import(tmp_path / "export", lmdb("o"), NOW + 10**18, quiet))).code is Code.WRONG_CLUSTER
    assert (await refusal(copy_stores(lmdb("a"), lmdb("o"), quiet))).code is Code.WRONG_CLUSTER
    assert await rows_of(lmdb("o")["meta"], "meta") == before


async def test_what_cannot_be_exported_or_imported_is_said(lmdb: Callable[[str], Places], tmp_path: Path) -> None:
    await make_cluster(lmdb("a"), directories=2)
    await make_cluster(lmdb("o"), OTHER, 2)
    mixed = {"mgmtd": lmdb("a")["mgmtd"], "meta": lmdb("o")["meta"]}
    why = await refusal(write_export(mixed, tmp_path / "export", quiet))
    assert why.code is Code.WRONG_CLUSTER
    assert CLUSTER.hex() in str(why)
    assert OTHER.hex() in str(why)
    assert (await refusal(write_export(lmdb("absent"), tmp_path / "export", quiet))).code is Code.NOT_FOUND
    swapped = {"mgmtd": lmdb("a")["meta"], "meta": lmdb("a")["mgmtd"]}
    assert (await refusal(write_export(swapped, tmp_path / "export", quiet))).code is Code.UNSUPPORTED
    assert not list(tmp_path.glob("export*"))
    await write_export(lmdb("a"), tmp_path / "export", quiet)
    why = await refusal(read_import(tmp_path / "export", lmdb("b"), 5, quiet))
    assert "clock" in str(why)
    whole = (tmp_path / "export").read_bytes()
    (tmp_path / "export").write_bytes(whole[:-20])
    assert (await refusal(read_import(tmp_path / "export", lmdb("b"), NOW + 10**18, quiet))).code is Code.DATA_LOSS
    assert not (tmp_path / "b").exists(), "a file is read to its end before anything is written"


# --- on etcd -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(etcd: EtcdCluster) -> Iterator[Callable[[str], Places]]:
    return lambda name: locate(f"etcd://{','.join(etcd.endpoints)}/moves-{name}")  # type: ignore[return-value]


@pytest.mark.processes
async def test_from_lmdb_to_etcd_and_back_nothing_is_lost(
    lmdb: Callable[[str], Places], remote: Callable[[str], Places], tmp_path: Path
) -> None:
    await make_cluster(lmdb("a"), directories=1500)
    there = await copy_stores(lmdb("a"), remote("b"), quiet)
    back = await copy_stores(remote("b"), lmdb("c"), quiet)
    assert there == back
    assert (await check_names(remote("b")["meta"])).problems == []
    for role in kv_stores.ROLES:
        assert await rows_of(lmdb("a")[role], role) == await rows_of(lmdb("c")[role], role)
    await write_export(remote("b"), tmp_path / "export", quiet)
    await read_import(tmp_path / "export", remote("d"), NOW + 10**18, quiet)
    assert (await check_names(remote("d")["meta"])).problems == []


@pytest.mark.processes
async def test_an_export_is_of_one_moment_while_the_cluster_is_in_use(
    lmdb: Callable[[str], Places], remote: Callable[[str], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_cluster(remote("used"))
    begun = asyncio.Event()

    async def writes() -> None:
        async with opened(remote("used")["meta"], "meta", create=False) as kv:
            await begun.wait()
            for number in range(200):
                await kv.transact(making(f"z{number}"))

    pages_of = kv_stores.pages_of

    async def slowly(*arguments: object) -> AsyncIterator[object]:
        async for page in pages_of(*arguments):  # type: ignore[arg-type]
            begun.set()
            await asyncio.sleep(0)
            yield page

    monkeypatch.setattr(kv_stores, "pages_of", slowly)
    writing = asyncio.ensure_future(writes())
    written = await write_export(remote("used"), tmp_path / "export", quiet)
    assert not writing.done()
    await writing
    assert await read_import(tmp_path / "export", lmdb("b"), NOW + 10**18, quiet) == written
    assert (await check_names(lmdb("b")["meta"])).problems == []
    assert await identify_all(lmdb("b")) == CLUSTER.hex()
    async with opened(lmdb("b")["meta"], "meta", create=False) as kv:
        assert await kv.read(restore.next_id) == restore.first_id_at(NOW + 10**18), "no id is given twice"


@pytest.mark.processes
async def test_a_source_that_changes_meanwhile_is_not_copied(
    lmdb: Callable[[str], Places], remote: Callable[[str], Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_cluster(remote("changing"), directories=5)

    class Filler(StoreFiller):
        async def finish(self, **options: object) -> None:
            raise AssertionError("it must not come so far")

        async def add(self, page: object) -> None:
            async with opened(remote("changing")["meta"], "meta", create=False) as kv:
                await kv.transact(making("meanwhile"))
            await super().add(page)  # type: ignore[arg-type]

    monkeypatch.setattr(kv_stores, "StoreFiller", Filler)
    why = await refusal(copy_stores(remote("changing"), lmdb("b"), quiet))
    assert why.code is Code.BUSY
    assert "stop its services" in str(why)
    assert (await refusal(identify_all({"meta": lmdb("b")["meta"]}))).code is Code.UNSUPPORTED
    monkeypatch.undo()
    await copy_stores(remote("changing"), lmdb("b"), quiet)
    assert await are_same(remote("changing"), lmdb("b"))


@asynccontextmanager
async def writing_pairs(place: StoreLocation) -> AsyncIterator[None]:
    """All the time, two rows that are equal at every moment, one at each end of the store."""

    async def write() -> None:
        async with opened(place, "meta", create=False) as kv:
            number = 0
            while True:
                number += 1
                text = b"%d" % number

                async def op(txn: Txn, text: bytes = text) -> None:
                    txn.put(b"A-first", text)
                    txn.put(b"Z-last", text)

                await kv.transact(op)

    task = asyncio.ensure_future(write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.processes
async def test_a_snapshot_of_etcd_is_of_one_moment(remote: Callable[[str], Places]) -> None:
    place = remote("pairs")
    await make_cluster(place, directories=1200)
    seen = set()
    async with writing_pairs(place["meta"]), opened(place["meta"], "meta", create=False) as kv:
        while len(seen) < 5:
            found = {key: value for page in [page async for page in kv.snapshot()] for key, value in page}
            assert found.get(b"A-first") == found.get(b"Z-last")
            seen.add(found.get(b"Z-last"))


async def test_locating(tmp_path: Path) -> None:
    assert locate("etcd://h:1/x")["mgmtd"] == locate("etcd://h:1/x")["meta"]
    assert str(locate(f"lmdb:{tmp_path}")["meta"]) == f"lmdb:{tmp_path}/meta/kv"
    with pytest.raises(FS3Error, match="no fs3 cluster"):
        locate(str(tmp_path))


# --- the commands ------------------------------------------------------------------------------------------------------


def admin(*arguments: object, status: int = 0) -> str:
    """What `fs3 admin kv …` says."""
    command = [sys.executable, "-m", "fs3.cli.main", "admin", "kv", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.processes
def test_a_cluster_works_on_other_stores_if_they_have_its_rows(tmp_path: Path, etcd: EtcdCluster) -> None:
    home = tmp_path / "cluster"
    home.mkdir()
    directory = ClusterDirectory(home)
    directory.save(Shape(storage=1, replicas=1, targets=1), {})
    asyncio.run(make_cluster(locate(str(home)), directories=3))
    there = f"etcd://{','.join(etcd.endpoints)}/moves-commands"
    lock = acquire_process_lock(directory.lock_path("meta"))
    assert "meta still runs" in admin("copy", home, there, status=1)
    assert "meta still runs" in admin("use", home, there, status=1)
    os.close(lock)
    assert "is empty" in admin("use", home, there, status=1)
    said = json.loads(admin("copy", home, there, "--json"))
    assert said["problems"] == []
    assert said["rows"]["meta"] > 8
    node = home / "storage-1" / "node.json"
    node.parent.mkdir()
    node.write_text(json.dumps({"cluster": OTHER.hex()}))
    assert f"the data of {OTHER.hex()}" in admin("use", home, there, status=1)
    node.write_text(json.dumps({"cluster": CLUSTER.hex()}))
    admin("use", home, there)
    assert directory.require()[0].kv == there
    assert locate(str(home)) == locate(there)

    async def change() -> None:
        async with opened(locate(there)["meta"], "meta", create=False) as kv:
            await kv.transact(making("more"))

    asyncio.run(change())
    assert "are not those that the cluster has now" in admin("use", home, f"lmdb:{home}", status=1)
    admin("use", home, f"lmdb:{home}", "--anyway")
    assert directory.require()[0].kv == ""
    assert "same stores" in admin("copy", home, f"lmdb:{home}", status=1)
    assert "there are rows of meta already" in admin("copy", home, there, status=1)
    assert "cut" in admin("import", _cut(home, tmp_path), f"lmdb:{tmp_path / 'other'}", status=1)


def _cut(home: Path, where: Path) -> Path:
    admin("export", home, where / "whole")
    cut = where / "cut"
    cut.write_bytes((where / "whole").read_bytes()[:-5])
    return cut
