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

from fs3.api.connect import connect
from fs3.base.errors import FS3Error
from fs3.base.limits import manager_lock_lease_ns
from fs3.cli.local import LocalCluster
from fs3.core.txn import Txn
from fs3.drivers.lmdb import LmdbKV

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

LEFT_BYTES = 400_000
REFUSED = 200


@contextmanager
def small_disk(mount: Path) -> Iterator[Path]:
    """A file system of 16 MiB on a directory."""
    mount.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "fs3-test", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@contextmanager
def nearly_full(mount: Path) -> Iterator[None]:
    """Somebody else takes the room, all but a little; at the end it is there again."""
    ballast = mount / "ballast"
    room = os.statvfs(mount)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - LEFT_BYTES)
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
