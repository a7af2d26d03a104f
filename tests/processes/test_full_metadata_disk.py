"""The disk of the metadata, or of the manager's state, is full for a while. Nothing is lost, reads go on, and once there is room
everything works again, in the same processes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import msgspec
import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache
from fs3.base.errors import FS3Error
from fs3.base.limits import manager_lock_lease_ns
from fs3.cli.local import LocalCluster
from fs3.cli.status import fetch_status
from fs3.core.txn import Txn
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.env import lmdb_reserve_bytes

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

LEFT_BYTES = 400_000
REFUSED = 200


@contextmanager
def small_disk(mount: Path, mib: int = 16) -> Iterator[Path]:
    """A file system of its own on a directory."""
    mount.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "fs3-test", str(mount)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@contextmanager
def nearly_full(mount: Path, left_bytes: int = LEFT_BYTES) -> Iterator[None]:
    """Somebody else takes the room, all but a little; at the end it is there again."""
    ballast = mount / "ballast"
    room = os.statvfs(mount)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - left_bytes)
    try:
        yield
    finally:
        ballast.unlink()


def pids(cluster: LocalCluster) -> dict[str, int | None]:
    return {name: cluster.directory.running_pid(name) for name in cluster.shape.names()}


def test_of_the_metadata(tmp_path: Path) -> None:
    data = tmp_path / "cluster"
    with small_disk(data / "meta") as disk, LocalCluster(data, storage=1, replicas=1, targets=1) as cluster:
        before = pids(cluster)

        async def run() -> None:
            async with await connect(cluster.url) as client:
                made: list[str] = []
                reasons: set[int | None] = set()
                refused = number = 0
                await client.mkdir("/home")
                with nearly_full(disk):
                    while refused < REFUSED:
                        name = f"/home/{number}-" + "x" * (50 * (number % 4))
                        number += 1
                        try:
                            await client.mkdir(name)
                        except FS3Error as why:
                            reasons.add(why.errno)
                            refused += 1
                        else:
                            made.append(name)
                    assert reasons == {errno.ENOSPC}
                    for name in made:
                        await client.stat(name)
                found = {f"/home/{entry.name}" async for entry in client.meta.entries("/home")}
                assert found == set(made), "what was acknowledged is there, what was refused is not"
                for number in range(REFUSED):
                    await client.mkdir(f"/home/later-{number}")

        asyncio.run(run())
        assert pids(cluster) == before, "nothing had to be restarted"


def test_removals_succeed(tmp_path: Path) -> None:
    """Not a block is free, and somebody who reads for long keeps every page from being used again: each commit needs room, and
    those that make some get it from the reserve."""
    data = tmp_path / "cluster"
    with small_disk(data / "meta", mib=64) as disk:
        (data / "meta.toml").write_text("garbage_delay_ms = 0\ngarbage_interval_ms = 100\n")
        with LocalCluster(data, storage=1, replicas=1, targets=1) as cluster:
            asyncio.run(remove_everything(cluster, disk))


async def remove_everything(cluster: LocalCluster, disk: Path) -> None:
    async with await connect(cluster.url) as client:
        await client.makedirs("/tree/below")
        for path in ("/removed", "/cut", "/tree/1", "/tree/below/2"):
            file = await client.open(path, "x")
            await client.pwrite(file, b"x" * 100_000)
            await client.close(file)
        with nearly_full(disk, left_bytes=0), snapshot_of(disk / "kv"):
            made = await make_until_full(client, "first")
            await client.unlink("/removed")
            await client.truncate("/cut", 10)
            await client.rmtree("/tree")
            await client.unlink("/cut")
            async with asyncio.timeout(60):
                while any(target["chunks"] for target in (await fetch_status(cluster.addresses))["targets"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert not await make_until_full(client, "second"), "what was kept in reserve is for removals"
        await client.mkdir("/new")
        assert {entry.name for entry in await client.list_all("/")} == {*made, "new"}
    assert (disk / "kv" / "reserve").stat().st_size == lmdb_reserve_bytes


async def make_until_full(client: Client, prefix: str) -> list[str]:
    """Names of directories that could be made until there was no room."""
    made: list[str] = []
    while True:
        try:
            await client.mkdir(f"/{prefix}-{len(made)}")
        except FS3Error as why:
            if why.errno != errno.ENOSPC:
                raise
            return made
        made.append(f"{prefix}-{len(made)}")


def test_a_namespace_is_deleted(tmp_path: Path) -> None:
    """While not a block is free on the disk of the manager."""
    data = tmp_path / "cluster"
    with small_disk(data / "mgmtd") as disk, LocalCluster(data, storage=1, replicas=1, targets=1) as cluster:

        async def run() -> None:
            async with await connect(cluster.url) as client:
                cache = await KVCache.of(client, namespace="pages", page_bytes=1000, replicas=1)
                (stored,) = await cache.put_from([b"key"], [b"x" * 1000])
                assert stored.ok
                with nearly_full(disk, left_bytes=0):
                    await KVCache.clear_namespace(client, "pages")
                    await KVCache.delete_namespace(client, "pages")
                    assert await client.manager.find_namespace("pages") is None

        asyncio.run(run())


def test_of_the_managers(tmp_path: Path) -> None:
    """Its lease cannot be renewed, so it leads no more; it stays a candidate, and leads again."""
    data = tmp_path / "cluster"
    with small_disk(data / "mgmtd") as disk, LocalCluster(data, storage=1, replicas=1, targets=1) as cluster:
        before, epoch = pids(cluster), cluster.status()["epoch"]
        said = cluster.directory.log_path("mgmtd")
        with nearly_full(disk), snapshot_of(disk / "kv"):
            while "is not the primary manager any more" not in said.read_text():
                time.sleep(0.05)
        cluster.wait_healthy()
        assert cluster.status()["epoch"] > epoch
        assert pids(cluster) == before, "nothing had to be restarted"


@contextmanager
def snapshot_of(store: Path) -> Iterator[None]:
    """Somebody reads: no page can be used again, so every commit needs room."""
    environment = lmdb.open(str(store), readonly=True)
    txn = environment.begin()
    try:
        yield
    finally:
        txn.abort()
        environment.close()


def test_a_manager_that_can_never_lead_ends_with_the_reason(tmp_path: Path) -> None:
    """What the managers have stored becomes unusable while one of them stands by."""
    shape = {"storage": 1, "replicas": 1, "targets": 1, "mgmtds": 2}
    with LocalCluster(tmp_path / "cluster", **shape, supervised=False) as cluster:
        [primary] = [manager["name"] for manager in cluster.status()["managers"] if manager["primary"]]
        [standby] = {"mgmtd", "mgmtd-2"} - {primary}
        asyncio.run(spoil(cluster.directory.path / "mgmtd" / "kv"))
        cluster.kill(primary)
        while cluster.directory.running_pid(standby) is not None:
            time.sleep(0.05)
        last = cluster.directory.last_line(standby)
        assert last.startswith(f"fs3: {standby} has ended, as it cannot do its duty: "), last
        assert "has format 99" in last


async def spoil(store: Path) -> None:
    async def op(txn: Txn) -> None:
        txn.put(b"mgmtd/cluster", msgspec.msgpack.encode([99, "whatever"]))

    kv = LmdbKV.open(store, lock_lease_ns=manager_lock_lease_ns)
    await kv.transact(op)
    await kv.close()
