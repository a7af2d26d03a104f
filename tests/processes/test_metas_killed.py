"""Metadata processes on one store die in turn, again and again, under load. Whoever was told that something happened, or did not,
was told the truth: the test keeps its own journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.errors import Exists, FS3Error, NotFound
from fs3.base.prng import Prng
from fs3.cli.local import LocalCluster
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.drivers.lmdb import LmdbKV
from fs3.model.namespace import PathRef, RenameMode
from fs3.model.requests import Remove
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

T = TypeVar("T")
CLIENTS = 6
METAS = ("meta", "meta-2")


@pytest.fixture(scope="module")
def pair(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two metadata processes."""
    with (
        space_guard.lend("metas") as home,
        LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, metas=2) as cluster,
    ):
        yield cluster


class Journal:
    """One client's own directory as it must be, by what the client was told; and how far it is."""

    def __init__(self, number: int) -> None:
        self.home = f"/home-{number}"
        self.prng = Prng(number)
        self.names: dict[str, int] = {}
        """Name -> inode."""
        self.done = 0
        self.won: list[int] = []
        """Numbers of the shared names this client was told to have made."""

    async def work(self, client: Client, stop: asyncio.Event) -> None:
        """Creates, renames, exchanges and removes; and races with everybody for names."""
        await client.mkdir(self.home)
        while not stop.is_set():
            await self._one(client)
            self.done += 1

    async def _one(self, client: Client) -> None:
        name = f"{self.home}/{self.prng.below(40)}"
        other = f"{self.home}/{self.prng.below(40)}"
        match self.prng.below(6):
            case 0 | 1:
                file = await told(client.open(name, "x"), Exists, name in self.names)
                if file is not None:
                    self.names[name] = file.inode.id
                    await client.close(file)
            case 2:
                moved = await told(client.rename(name, other), NotFound, name not in self.names)
                if moved is not None and name != other:
                    self.names[other] = self.names.pop(name)
            case 3:
                both = name in self.names and other in self.names
                swapped = await told(client.rename(name, other, RenameMode.EXCHANGE), NotFound, not both)
                if swapped is not None:
                    self.names[name], self.names[other] = self.names[other], self.names[name]
            case 4:
                removed = await told(client.meta.ask(Remove(PathRef.of(name))), NotFound, name not in self.names)
                if removed is not None:
                    assert removed == self.names.pop(name)
            case 5:
                number = self.done // 10
                try:
                    await client.mkdir(f"/shared/{number}")
                    self.won.append(number)
                except Exists:
                    pass


async def told(asked: Awaitable[T], refusal: type[FS3Error], refused: bool) -> T | None:
    """The answer of a request, which is refused exactly when the journal say so."""
    try:
        answer = await asked
    except refusal:
        assert refused, f"{refusal.__name__}, but the journal do not say so"
        return None
    assert not refused, f"not {refusal.__name__}, but the journal say so"
    return answer


async def under_load(cluster: LocalCluster, trouble: Callable[[Callable[[int], Awaitable[None]]], Awaitable[None]]) -> None:
    """Clients work while `trouble` makes trouble; it is given a function that waits for so many operations of every client."""
    stop = asyncio.Event()
    journal = [Journal(number) for number in range(CLIENTS)]
    clients = [await connect(cluster.url) for _ in journal]
    await clients[0].mkdir("/shared")
    working = [asyncio.ensure_future(book.work(client, stop)) for book, client in zip(journal, clients, strict=True)]

    async def progress(count: int) -> None:
        wanted = [book.done + count for book in journal]
        async with asyncio.timeout(60):
            while any(book.done < goal for book, goal in zip(journal, wanted, strict=True)):
                for task in working:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    try:
        await trouble(progress)
    finally:
        stop.set()
        await asyncio.gather(*working)
    for book, client in zip(journal, clients, strict=True):
        found = {f"{book.home}/{entry.name}": entry.inode_id async for entry in client.meta.entries(book.home)}
        assert found == book.names
    shared = {int(entry.name) async for entry in clients[0].meta.entries("/shared")}
    won = [number for book in journal for number in book.won]
    assert len(won) == len(set(won)), "two were told to have made the same name"
    assert set(won) == shared
    for book in journal:
        await clients[0].rmtree(book.home)
    await clients[0].rmtree("/shared")
    for client in clients:
        await client.aclose()


def off_loop(function: Callable[..., None], *arguments: object) -> Awaitable[None]:
    return asyncio.get_running_loop().run_in_executor(None, lambda: function(*arguments))


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
