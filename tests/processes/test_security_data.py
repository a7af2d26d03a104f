"""Bytes of one user's files and pages are not had by another one: real processes, on every wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import fsspec
import pytest

import fs3
from fs3.api.client import Client
from fs3.api.kvcache.cache import KVCache
from fs3.base.errors import FS3Error, NoPermission, NotFound
from fs3.base.ids import ChainId, ChunkId, file_chunk
from fs3.base.status import Code
from fs3.cli.local import LocalCluster
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.pages import page_chunks
from fs3.model.chunk import UpdateKind
from tests.processes.test_security import operate, run
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

CONTENT = b"only for ann. " * 100_000
MIB = 1 << 20
REVOKED_SECONDS = 10.0
"""A revocation reaches every process within two seconds; the rest is for machines that have other work."""


@dataclass
class Secured:
    """A cluster with security, and tokens of users: of two tenants, and of an administrator."""

    cluster: LocalCluster
    ann: str
    eve: str
    admin: str

    @asynccontextmanager
    async def client(self, token: str, transport: str = "auto") -> AsyncIterator[Client]:
        """Of a user."""
        client = await fs3.connect(self.cluster.url, token=token, transport=transport)
        try:
            yield client
        finally:
            await client.aclose()


@pytest.fixture(scope="module")
def secured(space_guard: SpaceGuard) -> Iterator[Secured]:
    """Three storage processes. Users may make files in /shared."""
    with space_guard.lend("secured") as home, LocalCluster(home / "cluster", targets=1) as cluster:
        operate(cluster, "user", "add", "ann", "--uid", "1000", "--gid", "1000", "--tenant", "a")
        operate(cluster, "user", "add", "eve", "--uid", "1001", "--gid", "1001", "--tenant", "b")
        operate(cluster, "user", "add", "root", "--uid", "0", "--gid", "0", "--admin")
        tokens = [operate(cluster, "user", "token", name).strip() for name in ("ann", "eve", "root")]
        operate(cluster, "security", "on", "--token-file", str(home / "admin.token"))
        made = Secured(cluster, *tokens)

        async def make() -> None:
            async with made.client(made.admin) as client:
                await client.mkdir("/shared")
                await client.chmod("/shared", 0o777)

        asyncio.run(make())
        yield made


async def store(client: Client, path: str, content: bytes = CONTENT, permissions: int = 0o600) -> None:
    file = await client.open(path, "w", permissions=permissions)
    await client.pwrite(file, content, 0)
    await client.close(file)


async def load(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


async def first_chunk(client: Client, path: str) -> tuple[ChunkId, ChainId]:
    inode = await client.stat(path)
    return file_chunk(inode.content_id, 0), inode.layout.chains[0]


@pytest.mark.parametrize("transport", ["tcp", "local", "grpc"])
async def test_a_file_is_its_owners(secured: Secured, transport: str) -> None:
    path = f"/shared/of-ann-{transport}"
    async with secured.client(secured.ann, transport) as ann, secured.client(secured.eve, transport) as eve:
        await store(ann, path)
        assert await load(ann, path) == CONTENT
        with pytest.raises(PermissionError) as refused:
            await eve.open(path)
        assert refused.value.filename == path
        # Who knows the chunk, and where it is, gets it no other way.
        chunk, chain = await first_chunk(ann, path)
        buffer = bytearray(100)
        (outcome,) = await eve.storage.read([ReadIO(chunk, chain, 0, memoryview(buffer))])
        assert outcome.code is Code.ACCESS
        assert buffer == bytes(100)
        (found,) = await eve.storage.find([(chunk, chain)])
        assert found.code is Code.ACCESS
        for kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE, UpdateKind.REMOVE):
            data = memoryview(b"of eve") if kind is UpdateKind.WRITE else None
            (result,) = await eve.storage.update([WriteIO(chunk, chain, kind, 0, data)])
            assert result.code is Code.ACCESS
        assert await load(ann, path) == CONTENT
        await ann.chmod(path, 0o644)
        assert await load(eve, path) == CONTENT
        (result,) = await eve.storage.update([WriteIO(chunk, chain, UpdateKind.WRITE, 0, memoryview(b"of eve"))])
        assert result.code is Code.ACCESS
        assert await load(ann, path) == CONTENT


async def test_a_file_of_a_named_group_is_for_its_users(secured: Secured) -> None:
    cluster = secured.cluster
    operate(cluster, "group", "add", "physics", "--gid", "2001")
    operate(cluster, "group", "add", "staff", "--gid", "2002")
    tokens = {}
    for name, uid, groups in (("pat", "1101", ["--gid", "physics"]), ("sue", "1102", ["--group", "staff,physics,2003"])):
        operate(cluster, "user", "add", name, "--uid", uid, *groups)
        tokens[name] = operate(cluster, "user", "token", name).strip()
    users = {each["name"]: each for each in json.loads(operate(cluster, "user", "list", "--json"))["users"]}
    assert (users["pat"]["gid"], users["pat"]["groups"], users["pat"]["group_names"]) == (2001, [], {"2001": "physics"})
    assert (users["sue"]["gid"], users["sue"]["groups"]) == (1102, [2002, 2001, 2003])
    assert "1102,staff,physics,2003" in operate(cluster, "user", "list")
    assert json.loads(operate(cluster, "group", "list", "--json"))["groups"] == [
        {"name": "physics", "gid": 2001, "users": ["pat", "sue"]},
        {"name": "staff", "gid": 2002, "users": ["sue"]},
    ]
    path = "/shared/of-physics"
    async with secured.client(tokens["pat"]) as pat:
        await store(pat, path, permissions=0o640)
        async with secured.client(tokens["sue"]) as sue:
            assert await load(sue, path) == CONTENT
        where = ("--cluster", str(cluster.directory.path))
        for refused in (run("group", "rm", "physics", *where), run("group", "set", "physics", "--gid", "9", *where)):
            assert refused.returncode == 1
            assert "users have group 'physics' (gid 2001): pat, sue" in refused.stderr
        operate(cluster, "user", "set", "sue", "--group", "staff")
        async with secured.client(tokens["sue"]) as sue:
            with pytest.raises(PermissionError):
                await sue.open(path)
        operate(cluster, "group", "rm", "physics", "--force")
        assert await load(pat, path) == CONTENT
    unknown = run("user", "set", "sue", "--group", "physics", *where)
    assert unknown.returncode == 1
    assert "there is no group 'physics'" in unknown.stderr
    audits = "".join(file.read_text() for file in cluster.directory.path.glob("mgmtd*/audit.log*"))
    assert '"PutGroup"' in audits
    assert '"RemoveGroup"' in audits


def test_readers_that_block_read_their_own_and_nothing_else(secured: Secured) -> None:
    addresses = ",".join(secured.cluster.addresses)
    mine = fsspec.filesystem("fs3", cluster=addresses, token=secured.ann, skip_instance_cache=True)
    others = fsspec.filesystem("fs3", cluster=addresses, token=secured.eve, skip_instance_cache=True)
    mine.pipe_file("/shared/blocking", CONTENT)
    mine.chmod("/shared/blocking", 0o600)
    with mine.open("/shared/blocking", block_size=0) as file:
        for offset in range(0, len(CONTENT) - 100, MIB // 7):
            file.seek(offset)
            assert file.read(100) == CONTENT[offset : offset + 100]
    assert mine.cat_file("/shared/blocking") == CONTENT
    for action in (lambda: others.cat_file("/shared/blocking"), lambda: others.open("/shared/blocking").read(10)):
        with pytest.raises(PermissionError):
            action()


async def test_users_work_on_while_keys_rotate_and_processes_restart(secured: Secured) -> None:
    cluster, path = secured.cluster, "/shared/under-load"
    done, is_over = 0, False
    progress: asyncio.Queue[int] = asyncio.Queue()
    async with secured.client(secured.ann) as ann, secured.client(secured.ann, "tcp") as other:
        await store(ann, path)
        file = await ann.open(path, "r+")
        reader = await other.open(path)

        async def work() -> None:
            nonlocal done
            while not is_over:
                at = done * 4096 % MIB
                await ann.pwrite(file, CONTENT[at : at + 4096], at)
                assert await other.pread(reader, 4096, at) == CONTENT[at : at + 4096]
                await store(other, f"/shared/small-{done % 8}", b"x" * 40_000)
                done += 1
                progress.put_nowait(done)

        working = asyncio.create_task(work())
        for command in (("security", "rotate"), ("security", "rotate"), ("security", "rotate", "--at-once")):
            await asyncio.to_thread(operate, cluster, *command)
            await wait_for_progress(working, progress)
        await asyncio.to_thread(cluster.restart, "storage-2")
        await wait_for_progress(working, progress)
        is_over = True
        await working


def test_it_is_turned_on_while_users_have_files_open(space_guard: SpaceGuard) -> None:
    with space_guard.lend("opened") as home, LocalCluster(home / "cluster", targets=1) as cluster:
        operate(cluster, "user", "add", "ann", "--uid", "1000", "--gid", "1000")
        token = operate(cluster, "user", "token", "ann").strip()
        asyncio.run(_turn_on(cluster, token, str(home / "admin.token")))


async def _turn_on(cluster: LocalCluster, token: str, token_file: str) -> None:
    progress: asyncio.Queue[int] = asyncio.Queue()
    is_over = False
    client = await fs3.connect(cluster.url, token=token)
    try:
        await store(client, "/opened", permissions=0o666)
        await client.chmod("/opened", 0o666)
        file = await client.open("/opened", "r+")
        cache = await KVCache.of(client, namespace="opened", page_bytes=4096)

        async def work() -> None:
            number = 0
            while not is_over:
                at = number * 4096 % MIB
                await client.pwrite(file, CONTENT[at : at + 4096], at)
                assert await client.pread(file, 4096, at) == CONTENT[at : at + 4096]
                (status,) = await cache.put_from([b"%d" % number], [bytes(4096)])
                assert status.ok, status
                number += 1
                progress.put_nowait(number)

        working = asyncio.create_task(work())
        await wait_for_progress(working, progress)
        await asyncio.to_thread(operate, cluster, "security", "on", "--token-file", token_file)
        await wait_for_progress(working, progress)
        assert client.storage.capabilities is not None
        assert client.storage.capabilities.is_needed
        is_over = True
        await working
        await client.close(file)
    finally:
        await client.aclose()


async def wait_for_progress(working: asyncio.Task[None], progress: asyncio.Queue[int]) -> None:
    """Until some more was done."""
    while not progress.empty():
        progress.get_nowait()
    for _ in range(10):
        next_one = asyncio.ensure_future(progress.get())
        await asyncio.wait((working, next_one), timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        assert next_one.done(), "nothing is done for a minute"


async def test_tenants_do_not_meet(secured: Secured) -> None:
    keys = [b"key-%d" % number for number in range(16)]
    async with secured.client(secured.ann) as ann, secured.client(secured.eve) as eve:
        cache = await KVCache.of(ann, namespace="of-a", page_bytes=4096)
        assert {status.name for status in await cache.put_from(keys, [bytes(4096)] * 16)} == {"OK"}
        assert (await cache.lookup(keys)).hits == 16
        assert (await cache.usage()).pages == 16
        assert [each.pages for each in await KVCache.list_usage(ann)] == [16]
        assert await KVCache.list_namespaces(eve) == []
        assert await KVCache.list_usage(eve) == []
        with pytest.raises(NoPermission):
            await KVCache.of(eve, namespace="of-a", page_bytes=4096)
        with pytest.raises(NotFound):
            await eve.manager.clear_namespace("of-a", cache.namespace_id)
        # Even with the salt, which it was not told.
        pages = page_chunks(cache.namespace_id, cache.salt, keys)
        chains = eve.manager.routing.tables[cache._namespace.table].chains
        present = await eve.storage.contains(pages, [0] * 16, [chains[0]])
        assert set(present.failures.values()) == {Code.NO_NAMESPACE}
        with pytest.raises(FS3Error):
            await eve.storage.report_lookups(cache.namespace_id, (await cache.usage()).lookups)
        # An administrator needs no capability.
        async with secured.client(secured.admin) as admin:
            assert [each.pages for each in await KVCache.list_usage(admin)] == [16]


async def test_who_is_revoked_reads_nothing_more(secured: Secured) -> None:
    operate(secured.cluster, "user", "add", "bob", "--uid", "1002", "--gid", "1002")
    token = operate(secured.cluster, "user", "token", "bob", "--name", "laptop").strip()
    async with secured.client(token) as bob:
        await store(bob, "/shared/of-bob")
        file = await bob.open("/shared/of-bob")
        assert await bob.pread(file, 100) == CONTENT[:100]
        await asyncio.to_thread(operate, secured.cluster, "user", "rm", "bob")
        began = time.monotonic()
        while True:
            try:
                await bob.pread(file, 100)
            except FS3Error:
                break
            assert time.monotonic() - began < REVOKED_SECONDS, "a removed user reads on"
            await asyncio.sleep(0.05)
        with pytest.raises(FS3Error):
            await bob.pread(file, 100)
