"""A process of a cluster stands still with the write lock of a store that it shares. It is ended; the others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.limits import lmdb_lock_lease_ns
from fs3.cli.local import LocalCluster
from fs3.cli.supervision import SupervisedProcesses
from fs3.drivers.lmdb.write_lock import WriteLock
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def pair(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two managers and two metadata processes."""
    with space_guard.lend("pair") as home, LocalCluster(home / "cluster", targets=1, mgmtds=2, metas=2) as cluster:
        yield cluster


async def stop_with_lock(cluster: LocalCluster, names: dict[int, str], role: str) -> int:
    """SIGSTOP one of several processes in the middle of a commit, however often that takes. Returns its pid."""
    with closing(WriteLock(cluster.directory.path / role / "kv", lmdb_lock_lease_ns)) as lock:
        while True:
            holder = lock.find_holder()
            if holder is None or holder.pid not in names:
                await asyncio.sleep(0)
                continue
            cluster.pause(names[holder.pid])
            while _state(holder.pid) != "T":  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.001)
            stopped = lock.find_holder()
            if stopped is not None and stopped.pid == holder.pid:
                return holder.pid
            cluster.resume(names[holder.pid])


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def pids(cluster: LocalCluster, *names: str) -> dict[int, str]:
    found = {cluster.directory.running_pid(name): name for name in names}
    return {pid: name for pid, name in found.items() if pid is not None}


async def wait_ended(cluster: LocalCluster, name: str, pid: int) -> None:
    while cluster.directory.running_pid(name) == pid:  # noqa: ASYNC110 - a lock tells nobody
        await asyncio.sleep(0.01)


def wait_started_again(cluster: LocalCluster, name: str) -> None:
    """Until the supervisor has done it, knowing why: the one that killed it has said so in its place."""
    supervised = SupervisedProcesses(cluster.directory)
    while not supervised.record(name).restarts:
        time.sleep(0.01)
    assert "had the write lock" in supervised.record(name).reason


def said_by(cluster: LocalCluster, name: str) -> str:
    return cluster.directory.log_path(name).read_text()


async def create_forever(client: Client, home: str) -> None:
    await client.mkdir(home)
    number = 0
    while True:
        await client.mkdir(f"{home}/{number}")
        number += 1


def test_a_metadata_process(pair: LocalCluster) -> None:
    """Creates go on through the other one, each once, and without anybody's help."""
    names = pids(pair, "meta", "meta-2")

    async def run() -> int:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(await connect(pair.url)) for _ in range(4)]
            working = [asyncio.ensure_future(create_forever(client, f"/home-{i}")) for i, client in enumerate(clients)]
            try:
                victim = await stop_with_lock(pair, names, "meta")
                await wait_ended(pair, names[victim], victim)
                await clients[0].mkdir("/afterwards")
                assert not any(task.done() for task in working), "nobody was refused"
            finally:
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
            return victim

    pid = asyncio.run(run())
    victim = names[pid]
    [other] = set(names.values()) - {victim}
    assert f"process {pid} " in said_by(pair, other)
    assert "it has been killed" in said_by(pair, other)
    assert f"--name {victim}" in said_by(pair, other), "it is named"
    wait_started_again(pair, victim)
    pair.wait_healthy()


def test_the_primary_manager(pair: LocalCluster) -> None:
    """The other manager takes over while the leases of the storage nodes run: reads of file data do not notice."""
    names = pids(pair, "mgmtd", "mgmtd-2")
    before = pair.status()
    [primary] = [manager["name"] for manager in before["managers"] if manager["primary"]]
    primary_pid = {pid: name for pid, name in names.items() if name == primary}

    async def run() -> None:
        async with await connect(pair.url) as client:
            file = await client.open("/read-throughout", "w")
            await client.pwrite(file, b"x" * 100_000)
            await client.close(file)
            file = await client.open("/read-throughout", "r")
            victim = await stop_with_lock(pair, primary_pid, "mgmtd")
            ending = asyncio.ensure_future(wait_ended(pair, primary, victim))
            while not ending.done():
                assert await client.pread(file, 100_000, 0) == b"x" * 100_000
                await asyncio.sleep(0)
            await ending
            await client.close(file)

    asyncio.run(run())
    [other] = set(names.values()) - {primary}
    assert "it has been killed" in said_by(pair, other)
    wait_started_again(pair, primary)
    pair.wait_healthy()
    after = pair.status()
    assert after["epoch"] > before["epoch"]
    assert [manager["name"] for manager in after["managers"] if manager["primary"]] == [other]
    versions = [[(chain["chain"], chain["version"]) for chain in status["chains"]] for status in (before, after)]
    assert versions[0] == versions[1], "the nodes found the next manager while their leases ran"
