"""Clients that make, rename, exchange and remove names, each with a journal of what it was told, which must be what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.errors import Exists, FS3Error, NotFound
from fs3.base.prng import Prng
from fs3.cli.local import LocalCluster
from fs3.model.namespace import PathRef, RenameMode
from fs3.model.requests import Remove

T = TypeVar("T")
CLIENTS = 6


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
