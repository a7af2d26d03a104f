"""Metadata processes on one store die in turn, again and again, under load. Whoever was told that something happened, or did not,
was told the truth: every client keeps a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.cli.local import LocalCluster
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.drivers.lmdb import LmdbKV
from tests.processes.namespace_journal import CLIENTS, off_loop, under_load
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

METAS = ("meta", "meta-2")


@pytest.fixture(scope="module")
def pair(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two metadata processes."""
    with (
        space_guard.lend("metas") as home,
        LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, metas=2) as cluster,
    ):
        yield cluster


async def test_metas_are_killed_in_turn(pair: LocalCluster) -> None:
    async def trouble(progress: Callable[[int], Awaitable[None]]) -> None:
        for turn in range(5):
            await progress(20 + 7 * turn % 30)
            await off_loop(pair.kill, METAS[turn % 2])
            await progress(20)
            await off_loop(pair.start, METAS[turn % 2])
            await progress(10)

    await under_load(pair, trouble)


async def test_metas_stand_still_in_turn(pair: LocalCluster) -> None:
    """One that is stopped may have the lock of the store, and then nobody writes until it goes on; nobody is told a lie."""

    async def trouble(progress: Callable[[int], Awaitable[None]]) -> None:
        watcher = await connect(pair.url)
        for turn in range(4):
            await progress(20)
            pair.pause(METAS[turn % 2])
            for _ in range(20):
                await watcher.stat("/shared")
            pair.resume(METAS[turn % 2])
            await progress(20)
        await watcher.aclose()

    await under_load(pair, trouble)


async def test_metas_are_stopped_cleanly_in_turn(pair: LocalCluster) -> None:
    async def trouble(progress: Callable[[int], Awaitable[None]]) -> None:
        for turn in range(2):
            await progress(20)
            await off_loop(pair.restart, METAS[turn % 2])
        await progress(20)

    await under_load(pair, trouble)


def test_what_they_leave_is_whole(tmp_path: Path) -> None:
    """Both are killed at once under load; afterwards the store itself is looked at."""
    with LocalCluster(tmp_path / "cluster", storage=1, replicas=1, targets=1, metas=2) as cluster:
        assert asyncio.run(_kill_under_load(cluster)) == []


async def _kill_under_load(cluster: LocalCluster) -> list[str]:
    clients = [await connect(cluster.url) for _ in range(CLIENTS)]
    enough: asyncio.Queue[int] = asyncio.Queue()

    async def work(client: Client, number: int) -> None:
        count = 0
        while True:
            file = await client.open(f"/{number}-{count % 50}", "w")
            await client.pwrite(file, b"x" * 100)
            await client.close(file)
            count += 1
            if count == 30:
                enough.put_nowait(number)

    working = [asyncio.ensure_future(work(client, number)) for number, client in enumerate(clients)]
    async with asyncio.timeout(60):
        for _ in working:
            await enough.get()
    await off_loop(cluster.kill, *METAS)
    problems = await _problems(cluster.directory.path / "meta" / "kv")
    await off_loop(cluster.start, "meta")
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    for client in clients:
        await client.aclose()
    return problems


async def _problems(store: Path) -> list[str]:
    kv = LmdbKV.open(store)
    try:
        return await kv.read(check_namespace)
    finally:
        await kv.close()
