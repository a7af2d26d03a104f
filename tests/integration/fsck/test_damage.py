"""Damage of each kind, planted behind the services' back: a check finds exactly it, a repair mends it, the next one is clean."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.checksum import checksums
from fs3.base.errors import FS3Error
from fs3.base.ids import ROOT_INODE, ChainId, ChunkId, InodeId, file_chunk, page_chunk
from fs3.base.status import Code
from fs3.client.fsck.chunks import ChunkCheck
from fs3.client.fsck.cluster import Fsck, MetaSource
from fs3.client.fsck.namespace_ids import NamespaceIds
from fs3.client.routing import StaticRouting
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.files.layout import chain_of
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import keys, rows
from fs3.core.meta.fsck.problems import describe, name_of
from fs3.model.chain import Chain
from fs3.model.check import ProblemKind
from fs3.model.chunk import Update, UpdateKind, UpdateResult
from fs3.model.cluster import NamespaceSettings
from fs3.model.inode import Inode, User

CHUNK = 1 << 16


async def write(client: Any, path: str, data: bytes, at: int = 0) -> Inode:
    file = await client.open(path, "w")
    await client.pwrite(file, data, at)
    await client.close(file)
    inode: Inode = await client.stat(path)
    return inode


@pytest.fixture
async def client(cluster: Any) -> Any:
    client = cluster.client()
    await client.makedirs("/d/e")
    await write(client, "/d/f", b"f" * (3 * CHUNK + 5))
    await write(client, "/d/g", b"g" * 100)
    await write(client, "/d/hole", b"far away", 40 * CHUNK)
    assert await cluster.kinds(client) == []
    yield client
    await client.aclose()


async def content(client: Any, path: str, length: int) -> bytes:
    file = await client.open(path, "r")
    try:
        data: bytes = await client.pread(file, length, 0)
        return data
    finally:
        await client.close(file)


async def put_chunk(client: Any, inode: int, index: int, chain: int, data: bytes = b"stray") -> None:
    write = WriteIO(file_chunk(InodeId(inode), index), ChainId(chain), UpdateKind.WRITE, 0, memoryview(data))
    (result,) = await client.storage.update([write])
    assert result.code is Code.OK


async def replace_content(client: Any, path: str, data: bytes) -> Inode:
    file = await client.open_unnamed("/")
    await client.pwrite(file, data)
    inode: Inode = await client.close(file, path)
    return inode


async def test_a_content_that_no_row_knows_of_loses_no_chunk(cluster: Any, client: Any) -> None:
    g = await replace_content(client, "/d/g", b"G" * 3 * CHUNK)
    assert g.content_id != g.id
    assert await cluster.kinds(client) == []

    async def lose(txn: Any) -> None:
        txn.delete(keys.content_key(g.content_id))

    await cluster.damage(lose)
    report = await cluster.check(client)
    assert [problem.kind for problem in report.problems] == [ProblemKind.CONTENT_UNLISTED]
    assert report.more
    assert await cluster.repair(client) == []
    assert await content(client, "/d/g", 3 * CHUNK) == b"G" * 3 * CHUNK


async def test_chunks_are_checked_against_the_file_that_has_their_content(cluster: Any, client: Any) -> None:
    g = await replace_content(client, "/d/g", b"G" * 100)
    await put_chunk(client, g.content_id, 1, chain_of(g.layout, 1))
    assert await cluster.kinds(client) == ["too-short"]
    assert await cluster.repair(client) == []
    assert (await client.stat("/d/g")).length == CHUNK + len(b"stray")


async def test_a_dirent_without_inode(cluster: Any, client: Any) -> None:
    g = await client.stat("/d/g")

    async def lose(txn: Any) -> None:
        txn.delete(keys.inode_key(g.id))
        counters = await rows.get_counters(txn)
        rows.put_counters(txn, replace(counters, inodes=counters.inodes - 1))

    await cluster.damage(lose)
    assert await cluster.kinds(client) == ["entry-without-inode", "orphan-chunk"]
    assert await cluster.repair(client) == []
    assert sorted([entry.name async for entry in client.meta.entries("/d")]) == ["e", "f", "hole"]
    assert not cluster.holders(file_chunk(g.id, 0))


async def test_an_inode_without_dirent_comes_back_with_its_content(cluster: Any, client: Any) -> None:
    f = await client.stat("/d/f")

    async def lose(txn: Any) -> None:
        parent = (await rows.find_dirent(txn, keys.dirent_key(ROOT_INODE, b"d"))).inode  # type: ignore[union-attr]
        txn.delete(keys.dirent_key(parent, b"f"))
        d = await rows.get_inode(txn, parent)
        rows.put_inode(txn, replace(d, length=d.length - 1))

    await cluster.damage(lose)
    assert await cluster.kinds(client) == ["without-name"]
    assert await cluster.repair(client) == []
    assert await content(client, f"/lost+found/#{f.id}", 10 * CHUNK) == b"f" * (3 * CHUNK + 5)


async def test_a_wrong_nlink(cluster: Any, client: Any) -> None:
    async def change(txn: Any) -> None:
        rows.put_inode(txn, replace(await client_inode(txn, b"g"), nlink=5))

    await cluster.damage(change)
    assert await cluster.kinds(client) == ["wrong-nlink"]
    assert await cluster.repair(client) == []
    assert (await client.stat("/d/g")).nlink == 1


async def client_inode(txn: Any, name: bytes) -> Inode:
    parent = (await rows.find_dirent(txn, keys.dirent_key(ROOT_INODE, b"d"))).inode  # type: ignore[union-attr]
    return await rows.get_inode(txn, (await rows.find_dirent(txn, keys.dirent_key(parent, name))).inode)  # type: ignore[union-attr]


@pytest.mark.parametrize("index", [3, 4, 5, 90, 100_000])
async def test_a_length_that_is_too_short(cluster: Any, client: Any, index: int) -> None:
    """Of a file in whose storage there is more, near or behind any gap."""
    f = await client.stat("/d/f")
    await put_chunk(client, f.id, index, chain_of(f.layout, index), b"z" * 1000)
    assert await cluster.kinds(client) == ["too-short"]
    assert await cluster.repair(client) == []
    assert (await client.stat("/d/f")).length == index * CHUNK + 1000
    assert (await content(client, "/d/f", 3 * CHUNK)) == b"f" * 3 * CHUNK


async def test_a_file_that_is_open_for_writing_may_be_longer_in_storage(cluster: Any, client: Any) -> None:
    file = await client.open("/d/f", "r+")
    await client.pwrite(file, b"more", 10 * CHUNK)
    assert await cluster.kinds(client) == []
    await client.close(file)
    assert (await client.stat("/d/f")).length == 10 * CHUNK + 4
    assert await cluster.kinds(client) == []


async def test_orphan_and_misplaced_chunks(cluster: Any, client: Any) -> None:
    f, d = await client.stat("/d/f"), await client.stat("/d")
    removed = await write(client, "/gone", b"gone")
    await client.unlink("/gone")
    async with asyncio.timeout(20):
        while (await client.statfs()).garbage:  # noqa: ASYNC110 - the service tells nobody when it is done
            await asyncio.sleep(0.01)
    await put_chunk(client, removed.id, 7, removed.layout.chains[1])
    elsewhere = next(chain for chain in cluster.mgmtd.routing.chains if chain != chain_of(f.layout, 1))
    await put_chunk(client, f.id, 1, elsewhere)
    await put_chunk(client, d.id, 0, 1)
    assert await cluster.kinds(client) == ["misplaced-chunk", "misplaced-chunk", "orphan-chunk"]
    assert await cluster.repair(client) == []
    assert not cluster.holders(file_chunk(removed.id, 7))
    assert not cluster.holders(file_chunk(d.id, 0))
    assert await content(client, "/d/f", 10 * CHUNK) == b"f" * (3 * CHUNK + 5)


async def test_chunks_of_inodes_that_never_were_are_said_and_left_alone(cluster: Any, client: Any) -> None:
    """As when the metadata was restored from an old copy: they may be files that somebody wants back."""
    await put_chunk(client, 1_000_000, 0, 1)
    assert await cluster.kinds(client) == ["chunk-from-nowhere"]
    assert await cluster.repair(client) == ["chunk-from-nowhere"]
    assert cluster.holders(file_chunk(InodeId(1_000_000), 0))


async def put_page(client: Any, namespace_id: int, digest: bytes) -> ChunkId:
    page = page_chunk(namespace_id, digest)
    write = WriteIO(page, ChainId(1), UpdateKind.PUT, 0, memoryview(b"page"))
    assert (await client.storage.update([write]))[0].code is Code.OK
    return page


async def plant_page(cluster: Any, namespace_id: int, digest: bytes) -> ChunkId:
    """A page behind the back of the services, which would remove it."""
    page, data = page_chunk(namespace_id, digest), memoryview(b"page")
    chain = cluster.mgmtd.routing.chains[ChainId(1)]
    for slot in chain.slots:
        store = cluster.stores[slot.target]
        update = Update(page, UpdateKind.PUT, chain.id, chain.version, 1, 0, 4, UNTAGGED, tuple(checksums(data)), data=data)
        staged = await store.stage(update, 1, chain.version)
        store.commit(page, 1, UNTAGGED, UpdateResult(staged.code, 1, staged.length, staged.checksum))
    return page


async def wait_removed(cluster: Any, page: ChunkId) -> None:
    async with asyncio.timeout(20):
        while cluster.holders(page):  # noqa: ASYNC110 - that a background task has got so far is no event
            await asyncio.sleep(0.02)


async def test_pages_stay_as_long_as_their_namespace(cluster: Any, client: Any) -> None:
    namespace = await cluster.mgmtd.open_namespace("model", 4)
    page = await put_page(client, namespace.id, bytes(12))
    assert await cluster.repair(client) == []
    await cluster.mgmtd.set_namespace("model", NamespaceSettings(owner="team"))
    assert await cluster.repair(client) == []
    assert cluster.holders(page)
    await cluster.mgmtd.clear_namespace("model", namespace.id)
    await wait_removed(cluster, page)


async def test_pages_that_are_stored_after_their_namespace_was_deleted(cluster: Any, client: Any) -> None:
    deleted, kept = [await cluster.mgmtd.open_namespace(name, 4) for name in ("deleted", "kept")]
    await cluster.mgmtd.delete_namespace("deleted", deleted.made_as)
    late = [await put_page(client, deleted.id, bytes([number]) * 12) for number in range(3)]
    reachable = await put_page(client, kept.id, bytes(12))
    for page in late:
        await wait_removed(cluster, page)
    assert await cluster.kinds(client, replicas=False) == []
    assert cluster.holders(reachable)


async def test_pages_of_a_deleted_namespace_that_are_left(cluster: Any, client: Any) -> None:
    deleted, kept = [await cluster.mgmtd.open_namespace(name, 4) for name in ("deleted", "kept")]
    await cluster.mgmtd.delete_namespace("deleted", deleted.made_as)
    left = [await plant_page(cluster, deleted.id, bytes([number]) * 12) for number in range(3)]
    reachable = await put_page(client, kept.id, bytes(12))
    assert await cluster.kinds(client, replicas=False) == ["unreachable-page"] * 3
    assert await cluster.kinds(client, names=False, files=False) == []
    assert {problem.key for problem in await cluster.problems(client)} == set(left)
    assert await cluster.repair(client) == []
    assert [bool(cluster.holders(page)) for page in (*left, reachable)] == [False, False, False, True]


async def test_pages_of_a_namespace_that_was_never_made(cluster: Any, client: Any) -> None:
    """As when the manager's store is an older copy: its record may come back."""
    made = await cluster.mgmtd.open_namespace("model", 4)
    page = await put_page(client, made.id + 7, bytes(12))
    (problem,) = await cluster.problems(client)
    assert (problem.kind, problem.key) == (ProblemKind.PAGE_FROM_NOWHERE, page)
    assert (problem.found, problem.expected) == (made.id + 7, made.id + 1)
    assert await cluster.repair(client) == ["page-from-nowhere"]
    assert cluster.holders(page)


async def test_a_namespace_that_is_made_while_chunks_are_listed_keeps_its_pages(cluster: Any, client: Any) -> None:
    """The namespaces are listed after the pages, and again for a page of one that was not there then."""
    fsck = Fsck(client.meta, client.storage, cluster.mgmtd)
    first = await cluster.mgmtd.open_namespace("first", 4)
    await put_page(client, first.id, bytes(12))
    assert (await fsck.check()).problems == []
    second = await cluster.mgmtd.open_namespace("second", 4)
    await put_page(client, second.id, bytes(12))
    assert (await fsck.check()).problems == []


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_chunk_that_is_missing_on_a_replica(cluster: Any, client: Any, place: int) -> None:
    f = await client.stat("/d/f")
    chunk = file_chunk(f.id, 1)
    target = cluster.holders(chunk)[place]
    del cluster.stores[target].chunks[chunk]
    (problem,) = await cluster.problems(client)
    assert (problem.kind.name, problem.found, problem.key) == ("REPLICA_MISSING", target, chunk)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_replica_that_differs(cluster: Any, client: Any, place: int) -> None:
    f = await client.stat("/d/f")
    chunk, other = file_chunk(f.id, 1), file_chunk((await client.stat("/d/g")).id, 0)
    target = cluster.holders(chunk)[place]
    store = cluster.stores[cluster.holders(other)[0]]
    cluster.stores[target].chunks[chunk] = store.chunks[other]
    (problem,) = await cluster.problems(client)
    assert (problem.kind.name, problem.found, problem.key) == ("REPLICA_DIFFERS", target, chunk)


async def test_a_chunk_that_is_damaged_everywhere_is_said_and_left_alone(cluster: Any, client: Any) -> None:
    f = await client.stat("/d/f")
    chunk = file_chunk(f.id, 1)
    first, *others = cluster.holders(chunk)
    for target in others:
        cluster.stores[target].rot(chunk, 7)
        assert not cluster.stores[target].verify_now(chunk)
    cluster.stores[first].rot(chunk, 7)
    assert not cluster.stores[first].verify_now(chunk)
    (problem,) = await cluster.problems(client)
    assert (name_of(problem), problem.inode, problem.key, problem.found) == ("damaged-chunk", f.id, chunk, 3)
    assert describe(problem).startswith(f"chunk {f.id}/1 of file {f.id} is damaged on all 3 targets")
    result = await Fsck(client.meta, client.storage, cluster.mgmtd).repair(problem)
    assert (result.done, "overwrite all of the chunk" in result.what) == (False, True)
    with pytest.raises(FS3Error):
        await content(client, "/d/f", 3 * CHUNK)
    file = await client.open("/d/f", "r+")
    await client.pwrite(file, b"F" * CHUNK, CHUNK)
    await client.close(file)
    assert await cluster.kinds(client) == []
    assert await content(client, "/d/f", 3 * CHUNK) == b"f" * CHUNK + b"F" * CHUNK + b"f" * CHUNK


async def test_garbage_that_does_not_end(cluster: Any, client: Any) -> None:
    """A row of a file that is not there stops the duty, and every removed file behind it waits."""

    async def plant(txn: Any) -> None:
        garbage = rows.Garbage(InodeId(99), rows.GarbageKind.FILE, 1)
        txn.put(garbage.key, rows.encode(garbage))
        counters = await rows.get_counters(txn)
        rows.put_counters(txn, replace(counters, garbage=counters.garbage + 1, next_id=200))

    await cluster.damage(plant)
    await client.unlink("/d/g")
    assert await cluster.kinds(client) == ["garbage-of-nothing"]
    assert await cluster.repair(client) == []
    async with asyncio.timeout(60):
        while (await client.statfs()).garbage:  # noqa: ASYNC110 - the service tells nobody when it is done
            await asyncio.sleep(0.05)


async def test_only_root_and_the_owner_of_the_root_directory_may_administer(cluster: Any, client: Any) -> None:
    stranger = cluster.client(User(1000, 1000))
    with pytest.raises(FS3Error, match="only root and the owner of the root directory"):
        await cluster.check(stranger)
    await stranger.aclose()


async def test_a_chain_without_anybody_who_serves_cannot_be_checked(cluster: Any, client: Any) -> None:
    routing = cluster.mgmtd.routing
    dead = {**routing.chains, ChainId(1): Chain(ChainId(1), 9, ())}
    static = StaticRouting(type(routing)(routing.cluster, routing.version, routing.nodes, dead, routing.tables))
    with pytest.raises(FS3Error, match="nobody serves chain 1"):
        await ChunkCheck(client.storage, static, MetaSource(client.meta), NamespaceIds(cluster.mgmtd)).run()


async def test_rows_with_wrong_sums_are_unreadable(cluster: Any, client: Any) -> None:
    """What the store itself refuses to show is found like what cannot be decoded, and mended like it."""
    found = await client.stat("/d/g")
    directory = await client.stat("/d")
    key = keys.dirent_key(directory.id, b"g")
    cluster.rows._rows.put(key, b"\0\0\0\0" + rows.encode([found.id, 1]))
    with pytest.raises(FS3Error, match=r"the entry 'g' of directory .* is damaged.*fsck") as refused:
        await client.stat("/d/g")
    assert (refused.value.code, refused.value.errno) == (Code.DATA_LOSS, errno.EIO)
    assert await content(client, "/d/f", 10) == b"f" * 10, "everything else goes on"
    assert "unreadable" in await cluster.kinds(client)
    assert await cluster.repair(client) == []
    assert [(await client.stat(f"/lost+found/{entry.name}")).id for entry in await client.list_all("/lost+found")] == [found.id]


async def test_damaged_counters_are_counted_again(cluster: Any, client: Any) -> None:
    cluster.rows._rows.put(keys.COUNTERS, b"rotten")
    with pytest.raises(FS3Error, match="the row of the counters is damaged"):
        await client.mkdir("/new")
    assert await cluster.kinds(client) == ["miscounted"]
    assert await cluster.repair(client) == []
    await client.mkdir("/new")


async def test_an_inode_whose_row_is_damaged_keeps_its_name_and_its_chunks(cluster: Any, client: Any) -> None:
    found = await client.stat("/d/f")
    cluster.rows._rows.put(keys.inode_key(found.id), b"rotten")
    with pytest.raises(FS3Error, match=f"the row of inode {found.id} is damaged"):
        await client.stat("/d/f")
    assert await cluster.repair(client) == ["unreadable"] * 2, "the row says so, and the entry which name it has"
    assert "f" in [entry.name for entry in await client.list_all("/d")]
    assert cluster.holders(file_chunk(found.id, 0))
