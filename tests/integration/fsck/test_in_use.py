"""A check of a cluster that is worked hard finds nothing where nothing is wrong, and what is wrong all the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.errors import FS3Error
from fs3.base.ids import CHUNK_ID_BYTES, ROOT_INODE, ChainId, page_chunk
from fs3.base.status import Code
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import keys, rows
from fs3.core.meta.fsck.problems import describe, name_of
from fs3.core.meta.ops import administer
from fs3.model.check import ProblemKind
from fs3.model.chunk import UpdateKind
from fs3.model.namespace import RenameMode
from fs3.wire import storage_upkeep

CHUNK = 1 << 16
EXPECTED = (Code.NOT_FOUND, Code.EXISTS, Code.STALE, Code.NOT_EMPTY, Code.NOT_A_DIRECTORY, Code.IS_A_DIRECTORY, Code.WOULD_LOOP)
"""What clients that step on each other's toes are told."""


class Worker:
    """Does anything to the files of a few directories that all workers share."""

    def __init__(self, client: Any, seed: int, alone: asyncio.Lock) -> None:
        """`alone`: held while a file's length is made smaller. Of two clients that write and cut one file at the same time, bytes
        may stay behind its end, which a check then finds."""
        self.client = client
        self.alone = alone
        self.random = random.Random(seed)
        self.done = 0

    def path(self) -> str:
        return f"/w{self.random.randrange(4)}/{self.random.randrange(25)}"

    async def run(self) -> None:
        while True:
            try:
                await self.step()
                self.done += 1
            except FS3Error as why:
                if why.code not in EXPECTED:
                    raise
            await asyncio.sleep(0)

    async def step(self) -> None:
        client, rand = self.client, self.random
        match rand.randrange(9):
            case 0 | 1 | 2:
                async with self.alone:
                    file = await client.open(self.path(), "w")
                    try:
                        await client.pwrite(file, rand.randbytes(rand.randrange(1, 3000)), rand.randrange(6) * CHUNK)
                    finally:
                        await client.close(file)
            case 3:
                async with self.alone:
                    file = await client.open(self.path(), "r+")
                    try:
                        await client.pwrite(file, rand.randbytes(500), rand.randrange(400_000))
                        if rand.randrange(2):
                            await client.truncate(self.path(), rand.randrange(200_000))
                    finally:
                        await client.close(file)
            case 4 | 5:
                mode = rand.choice([RenameMode.REPLACE, RenameMode.EXCHANGE])
                await client.rename(self.path(), self.path(), mode)
            case 6:
                await client.unlink(self.path())
            case 7:
                await client.link(self.path(), self.path())
            case 8:
                name = f"/w{rand.randrange(4)}/d{rand.randrange(4)}"
                await client.mkdir(name)
                await client.rename(name, f"/w{rand.randrange(4)}/d{rand.randrange(4)}")
                await client.rmtree(name)


async def put_pages(client: Any, namespaces: list[int], seed: int) -> None:
    rand = random.Random(seed)
    while True:
        page = page_chunk(rand.choice(namespaces), rand.randbytes(CHUNK_ID_BYTES))
        write = WriteIO(page, ChainId(1 + rand.randrange(2)), UpdateKind.PUT, 0, memoryview(rand.randbytes(2000)))
        (result,) = await client.storage.update([write])
        assert result.code is Code.OK
        await asyncio.sleep(0)


@pytest.fixture
async def workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Worker]]:
    """Three clients at work, and a service whose pages are so small that much happens between any two."""
    monkeypatch.setattr(administer, "check_rows_per_page", 11)
    monkeypatch.setattr(storage_upkeep, "list_entries_max", 7)
    clients = [cluster.client() for _ in range(4)]
    for number in range(4):
        await clients[0].makedirs(f"/w{number}")
    alone = asyncio.Lock()
    busy = [Worker(client, seed, alone) for seed, client in enumerate(clients[:3])]
    tasks = [asyncio.create_task(worker.run()) for worker in busy]
    namespaces = [(await cluster.mgmtd.open_namespace(f"model-{number}", 2000)).id for number in range(3)]
    tasks.append(asyncio.create_task(put_pages(clients[3], namespaces, 9)))
    async with asyncio.timeout(60):
        while sum(worker.done for worker in busy) < 200 and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0)
    yield busy
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.aclose()
    assert [each for each in outcomes if not isinstance(each, asyncio.CancelledError)] == []


async def test_nothing_is_found_where_nothing_is_wrong(cluster: Any, workers: list[Worker]) -> None:
    admin = cluster.client()
    for _ in range(8):
        before = sum(worker.done for worker in workers)
        report = await cluster.check(admin)
        assert [describe(problem) for problem in report.problems] == []
        assert sum(worker.done for worker in workers) > before
        assert report.counts["entries"] > 20
        assert report.counts["chunks"] > 20
    await admin.aclose()


async def test_what_is_wrong_is_found_and_repaired_meanwhile(cluster: Any, workers: list[Worker]) -> None:
    admin = cluster.client()
    await admin.makedirs("/quiet")
    for name in ("short", "nameless", "nlink"):
        file = await admin.open(f"/quiet/{name}", "w")
        await admin.pwrite(file, b"x" * (2 * CHUNK + 5), 0)
        await admin.close(file)

    async def damage(txn: Any) -> None:
        quiet = (await rows.find_dirent(txn, keys.dirent_key(ROOT_INODE, b"quiet"))).inode  # type: ignore[union-attr]
        short, nlink = [
            await rows.get_inode(txn, (await rows.find_dirent(txn, keys.dirent_key(quiet, name))).inode)  # type: ignore[union-attr]
            for name in (b"short", b"nlink")
        ]
        rows.put_inode(txn, replace(short, length=5))
        rows.put_inode(txn, replace(nlink, nlink=4))
        txn.delete(keys.dirent_key(quiet, b"nameless"))
        directory = await rows.get_inode(txn, quiet)
        rows.put_inode(txn, replace(directory, length=2))

    await cluster.damage(damage)
    planted = [ProblemKind.TOO_SHORT, ProblemKind.WITHOUT_NAME, ProblemKind.WRONG_NLINK]
    report = await cluster.check(admin)
    assert sorted(name_of(problem) for problem in report.problems) == sorted(
        kind.name.lower().replace("_", "-") for kind in planted
    )
    assert await cluster.repair(admin) == []
    assert (await admin.stat("/quiet/short")).length == 2 * CHUNK + 5
    await admin.aclose()
