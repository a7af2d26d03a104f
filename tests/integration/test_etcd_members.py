"""A store on three etcd members of which one is cut off from everything, or has no room on its disk: it goes on, and nothing that
was told is undone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.drill.etcd_cluster import ETCD_FLAGS, EtcdCluster, find_etcd
from fs3.drill.proxy import ADVERTISED, FaultyNetwork
from fs3.drivers.etcd.kv import EtcdKV
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.kv import append_count, get
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

CLOCK = OsClock()
WRITERS = 4


@asynccontextmanager
async def opened(etcd: EtcdCluster, name: str) -> AsyncIterator[EtcdKV]:
    kv = await EtcdKV.open(etcd.endpoints, f"{name}/", CLOCK, patience_ns=20 * SECOND)
    try:
        yield kv
    finally:
        await kv.close()


class Counting:
    """Writers of one process that count, each in a row of its own, and remember what they were told."""

    def __init__(self, kv: EtcdKV) -> None:
        self._kv = kv
        self.told: dict[bytes, int] = {}
        self.unknown: dict[bytes, int] = {}
        """How often it was not known what became of a count."""
        self._tasks = [asyncio.ensure_future(self._count(b"counter-%d" % number)) for number in range(WRITERS)]
        self._progress = asyncio.Event()

    async def _count(self, key: bytes) -> None:
        while True:
            try:
                self.told[key] = await self._kv.transact(append_count(key)) + 1
            except FS3Error as why:
                if why.code not in (Code.DEADLINE, Code.UNAVAILABLE, Code.BUSY):
                    raise
                self.unknown[key] = self.unknown.get(key, 0) + (why.code is Code.DEADLINE)
            self._progress.set()

    async def progress(self, steps: int) -> None:
        """Return once so many more counts were told."""
        goal = sum(self.told.values()) + steps
        while sum(self.told.values()) < goal:
            self._progress.clear()
            await self._progress.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome


async def under_count(etcd: EtcdCluster, name: str, trouble: Callable[[Callable[[int], Any]], Any]) -> None:
    """Two processes' stores count while there is trouble; afterwards every count that was told is there."""
    async with opened(etcd, name) as kv, opened(etcd, name) as other:
        counting = Counting(kv)
        await counting.progress(20)
        await trouble(counting.progress)
        await counting.progress(20)
        await counting.stop()
        for key, told in counting.told.items():
            found = int(await other.read(get(key)) or b"0")
            # One that was under way when its writer was stopped may have taken place.
            assert told <= found <= told + counting.unknown.get(key, 0) + 1


@pytest.fixture(scope="module")
def cuttable(space_guard: SpaceGuard) -> Iterator[tuple[EtcdCluster, FaultyNetwork]]:
    """Members that reach each other, and are reached, over a network that can be cut."""
    if find_etcd() is None:
        pytest.skip("no etcd on PATH")
    with space_guard.lend("etcd-cut") as directory:
        cluster = EtcdCluster(directory, advertised=ADVERTISED)
        with FaultyNetwork(cluster.ports, lambda: cluster.pids) as network, cluster:
            yield cluster, network


@pytest.mark.parametrize("which", ["the leader", "a follower"])
async def test_a_member_is_cut_off(cuttable: tuple[EtcdCluster, FaultyNetwork], which: str) -> None:
    etcd, network = cuttable

    async def trouble(progress: Callable[[int], Any]) -> None:
        member = etcd.find_leader() + (which == "a follower")
        await asyncio.to_thread(network.isolate, f"m{member % 3}")
        await progress(60)
        await asyncio.to_thread(network.heal)
        await progress(60)

    await under_count(etcd, which.replace(" ", "-"), trouble)


async def test_a_leader_that_reaches_clients_and_no_member_does_not_hold_them_up(
    cuttable: tuple[EtcdCluster, FaultyNetwork],
) -> None:
    etcd, network = cuttable

    async def trouble(progress: Callable[[int], Any]) -> None:
        leader = etcd.find_leader()
        for other in range(3):
            if other != leader:
                await asyncio.to_thread(network.cut, f"m{leader}", f"m{other}")
        await progress(60)
        await asyncio.to_thread(network.heal)
        await progress(60)

    await under_count(etcd, "half", trouble)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a place."""
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=True)


async def test_the_disk_of_a_member_is_full(space_guard: SpaceGuard, tmp_path: Path) -> None:
    if find_etcd() is None or shutil.which("mount") is None or os.getuid() != 0:
        pytest.skip("it takes etcd on PATH, and root to mount a small file system")
    with space_guard.lend("etcd-disk") as directory:
        # Each snapshot and segment of the log takes room of its own, so they come soon.
        etcd = EtcdCluster(directory, flags=(*ETCD_FLAGS, "--snapshot-count", "500"))
        with small_disk(etcd.directory_of(0), 160 * MIB), etcd:

            async def trouble(progress: Callable[[int], Any]) -> None:
                filler = etcd.directory_of(0) / "filler"
                with filler.open("wb") as out:
                    free = shutil.disk_usage(filler.parent).free
                    os.posix_fallocate(out.fileno(), 0, max(free - 16384, 1))
                await progress(3000)
                filler.unlink()
                if etcd.has_ended(0):
                    await asyncio.to_thread(etcd.kill, 0)
                    await asyncio.to_thread(etcd.start, 0)
                await asyncio.to_thread(etcd.wait_serving)
                await progress(60)

            await under_count(etcd, "disk", trouble)
