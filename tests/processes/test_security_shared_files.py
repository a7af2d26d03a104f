"""Files that several users change, in a cluster with security and two metadata services: real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import fs3
from fs3.api.client import Client
from fs3.cli.local import LocalCluster
from tests.processes.test_security import operate
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

METAS = ("meta", "meta-2")
LARGE_BYTES = 3_000_000
"""Over several chunks; no file of this size is inline."""
TURN_SECONDS = 60
"""What a truncation may take, the death of a metadata service included."""


class Shared:
    """The cluster, and the tokens of two users; both may write in /shared."""

    def __init__(self, cluster: LocalCluster, tokens: list[str]) -> None:
        self.cluster = cluster
        self._tokens = tokens

    async def clients(self) -> list[Client]:
        """One of each user."""
        return [await fs3.connect(self.cluster.url, token=token) for token in self._tokens]


@pytest.fixture(scope="module")
def shared(space_guard: SpaceGuard) -> Iterator[Shared]:
    """One storage process."""
    with (
        space_guard.lend("shared") as home,
        LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, metas=2) as cluster,
    ):
        for number, name in enumerate(("ann", "bob")):
            operate(cluster, "user", "add", name, "--uid", str(1000 + number), "--gid", "1000")
        operate(cluster, "user", "add", "root", "--uid", "0", "--gid", "0", "--admin")
        *tokens, admin = (operate(cluster, "user", "token", name).strip() for name in ("ann", "bob", "root"))
        operate(cluster, "security", "on", "--token-file", str(home / "admin.token"))

        async def make() -> None:
            client = await fs3.connect(cluster.url, token=admin)
            await client.mkdir("/shared")
            await client.chmod("/shared", 0o777)
            await client.aclose()

        asyncio.run(make())
        yield Shared(cluster, tokens)


async def make(client: Client, path: str) -> None:
    """A file that all may write."""
    await client.close(await client.open(path, "x"))
    await client.chmod(path, 0o666)


async def content(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


async def test_two_users_append_to_one_file_in_turn(shared: Shared) -> None:
    ann, bob = await shared.clients()
    path, expected = "/shared/log", b""
    await make(ann, path)
    for turn in range(6):
        writer = (ann, bob)[turn % 2]
        record = b"%d" % turn * (LARGE_BYTES if turn < 2 else 100)
        file = await writer.open(path, "a")
        await writer.append(file, record)
        await writer.close(file)
        expected += record
        assert await content((bob, ann)[turn % 2], path) == expected
    for client in (ann, bob):
        await client.aclose()


async def test_a_truncation_is_finished_by_whichever_metadata_service_lives(shared: Shared) -> None:
    ann, bob = await shared.clients()
    path = "/shared/cut"
    await make(ann, path)
    for turn, dead in enumerate((*METAS, *METAS)):
        await asyncio.to_thread(shared.cluster.kill, dead)
        client = (ann, bob)[turn % 2]
        async with asyncio.timeout(TURN_SECONDS):
            file = await client.open(path, "r+")
            await client.pwrite(file, b"o" * LARGE_BYTES, 0)
            await client.truncate(file, 3 + turn)
            await client.truncate(file, LARGE_BYTES)
            await client.close(file)
        assert (await content(bob, path)).rstrip(b"\0") == b"o" * (3 + turn)
        await asyncio.to_thread(shared.cluster.start, dead)
        await asyncio.to_thread(shared.cluster.wait_healthy)
    for client in (ann, bob):
        await client.aclose()
