"""Every verb, from the client through the service to the store and back."""

import asyncio

import pytest

from fs3.base.errors import Exists, FS3Error, InvalidArgument, IsADirectory, NoPermission, NotADirectory, NotFound
from fs3.base.ids import ROOT_INODE, InodeId, TableId
from fs3.base.limits import list_entries_max
from fs3.base.status import Code
from fs3.model.inode import InodeType, Layout, User
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.requests import (
    TIME_NOW,
    Close,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Remove,
    Rename,
    SetAttributes,
    Stat,
    Symlink,
    Sync,
    Truncate,
)


async def create(meta, path, length=0):
    opened = await meta.open(path, write=True, create=True)
    return await meta.close_file(opened.inode.id, opened.session, length=length, modified=bool(length))


async def test_the_root_is_there_and_belongs_to_who_runs_the_cluster(meta):
    root = await meta.stat("/")
    assert (root.id, root.type, root.mode, root.uid) == (ROOT_INODE, InodeType.DIRECTORY, 0o755, 1000)


async def test_a_file_is_created_written_closed_and_seen(meta):
    await meta.mkdir("a/b/c", parents=True)
    opened = await meta.open("a/b/c/f", write=True, create=True, mode=0o640)
    assert opened.session
    assert opened.inode.mode == 0o640
    assert opened.inode.layout.chunk_size == 65536
    assert len(opened.inode.layout.chains) == 3
    synced = await meta.sync(opened.inode.id, opened.session, length=10, modified=True)
    assert synced.length == 10
    closed = await meta.close_file(opened.inode.id, opened.session, length=1000, modified=True)
    assert closed.length == 1000
    assert await meta.stat("/a//b/./c/f") == closed
    assert await meta.stat(PathRef(closed.id, "")) == closed
    assert (await meta.lookup("a/b/c/f")).inode == closed.id
    assert (await meta.open("a/b/c/f")).session == 0
    assert (await meta.truncate(closed.id, 5)).length == 5


async def test_errors_are_exceptions_with_the_path(meta):
    await create(meta, "file")
    for kind, path, ask in [
        (NotFound, "none", meta.stat("none")),
        (NotFound, "none/deep", meta.open("none/deep", create=True, write=True)),
        (Exists, "file", meta.mkdir("file")),
        (NotADirectory, "file/x", meta.lookup("file/x")),
        (IsADirectory, ".", meta.open(".", write=True)),
        (NotFound, "none", meta.remove("none")),
        (NotFound, "none", meta.rename("none", "other")),
        (Exists, "file", meta.link("file", "file")),
        (Exists, "file", meta.symlink("file", "x")),
        (NotFound, "none", meta.setattr("none", mode=0o600)),
        (NotFound, "none", meta.list("none")),
    ]:
        with pytest.raises(kind) as raised:
            await ask
        assert raised.value.filename == path
        assert raised.value.strerror


async def test_an_error_about_another_path_says_which(meta):
    await create(meta, "file")
    with pytest.raises(NotFound, match="nowhere/x") as raised:
        await meta.rename("file", "nowhere/x")
    assert raised.value.filename == "file"


async def test_directories_are_listed_by_pages(meta):
    await meta.mkdir("d")
    names = [f"f{number:04}" for number in range(300)]
    await asyncio.gather(*(create(meta, f"d/{name}", number) for number, name in enumerate(names)))
    await meta.symlink("d/link", "f0001")
    page = await meta.list("d", limit=100)
    assert [entry.name for entry in page.entries] == names[:100]
    assert page.more
    assert page.entries[0].inode is None
    found = [entry async for entry in meta.entries("d", with_inodes=True)]
    assert [entry.name for entry in found] == [*names, "link"]
    assert [entry.inode.length for entry in found[:-1]] == list(range(300))
    assert found[-1].type is InodeType.SYMLINK
    assert found[-1].inode.target == "f0001"


async def test_links_renames_and_removals(meta):
    await meta.mkdir("d")
    inode = await create(meta, "a")
    assert (await meta.link("a", "d/b")).nlink == 2
    assert (await meta.symlink("s", "d/b")).length == 3
    assert (await meta.stat("s")).id == inode.id
    assert (await meta.stat("s", follow=False)).type is InodeType.SYMLINK
    other = await create(meta, "other")
    with pytest.raises(Exists):
        await meta.rename("a", "other", RenameMode.NOREPLACE)
    await meta.rename("a", "other", RenameMode.EXCHANGE)
    assert (await meta.stat("a")).id == other.id
    assert (await meta.rename("a", "d/c")).id == other.id
    assert await meta.remove("d/c") == other.id
    with pytest.raises(FS3Error) as raised:
        await meta.remove("d", RemoveKind.DIRECTORY)
    assert raised.value.code is Code.NOT_EMPTY
    await meta.remove("d", RemoveKind.TREE)
    with pytest.raises(NotFound):
        await meta.stat("d")
    assert (await meta.stat("other")).nlink == 2, "its other name is still to be taken away in the background"


async def test_attributes(meta, cluster):
    await meta.mkdir("d")
    inode = await meta.setattr("d", mode=0o700, mtime_ns=-5, layout=Layout(TableId(1), 131072, 2))
    assert (inode.mode, inode.mtime_ns, inode.layout.chunk_size) == (0o700, -5, 131072)
    assert (await create(meta, "d/f")).layout.stripe == 2
    assert (await meta.setattr("d", mtime_ns=TIME_NOW)).mtime_ns > 1_700_000_000_000_000_000
    with pytest.raises(NoPermission):
        await meta.setattr("d", uid=5)
    root = cluster.client(User(0, 0))
    assert (await root.setattr("d", uid=5, gid=6)).uid == 5
    with pytest.raises(NoPermission):
        await meta.stat("d/f")


async def test_unnamed_files_are_published_or_discarded(meta):
    opened = await meta.open("", unnamed=True, write=True, create=True)
    assert opened.inode.nlink == 0
    assert not (await meta.list("")).entries
    published = await meta.close_file(opened.inode.id, opened.session, length=7, modified=True, publish="f")
    assert (published.nlink, published.length) == (1, 7)
    assert await meta.stat("f") == published
    again = await meta.open("", unnamed=True, write=True, create=True)
    with pytest.raises(Exists) as raised:
        await meta.close_file(again.inode.id, again.session, publish="f", exclusive=True)
    assert raised.value.filename == "f"
    await meta.close_file(again.inode.id, again.session, discard=True)
    assert (await meta.stat("f")).id == published.id


async def test_batch_stat_answers_each_path(meta):
    await meta.mkdir("d")
    await asyncio.gather(*(create(meta, f"d/{number}") for number in range(50)))
    paths = [f"d/{number}" for number in range(60)]
    answers = await meta.batch_stat(paths)
    assert [answer.id for answer in answers[:50]] == [(await meta.stat(path)).id for path in paths[:50]]
    for path, answer in zip(paths[50:], answers[50:], strict=True):
        assert isinstance(answer, NotFound)
        assert answer.filename == path
    assert await meta.batch_stat([]) == []
    directory = (await meta.stat("d")).id
    assert (await meta.batch_stat(["7"], parent=directory))[0].id == answers[7].id


async def test_batch_stat_is_cut_to_frames(meta, cluster):
    """More paths than one request takes, longer than one frame, with inodes larger than one reply."""
    await meta.mkdir("d", layout=Layout(TableId(1), 65536, 6))
    inodes = await meta.batch([Open(PathRef(path=f"d/{number}"), create=True) for number in range(10)])
    target = "x" * 3000
    await asyncio.gather(*(meta.symlink(f"d/link{number}", target) for number in range(20)))
    paths = [f"d/{number % 10}" for number in range(3000)] + ["d/" + "./" * 1500 + "3"] * 400
    paths += [f"d/link{number % 20}" for number in range(1000)]
    cluster.wire.calls.clear()
    answers = await meta.batch_stat(paths, follow=False)
    assert [answer.id for answer in answers[:3000]] == [inodes[number % 10].inode.id for number in range(3000)]
    assert {answer.id for answer in answers[3000:3400]} == {inodes[3].inode.id}
    assert {answer.target for answer in answers[3400:]} == {target}
    assert len(cluster.wire.calls) > 10


async def test_batch_runs_everything_in_order_with_results_of_their_own(meta, cluster):
    commits = cluster.kv.stats.commits
    answers = await meta.batch(
        [
            Mkdir(PathRef(path="d")),
            Mkdir(PathRef(path="d")),
            Open(PathRef(path="d/f"), write=True, create=True),
            Stat(PathRef(path="d/f")),
            Symlink(PathRef(path="s"), target="d/f"),
            Link(PathRef(path="d/f"), PathRef(path="g")),
            Rename(PathRef(path="g"), PathRef(path="h")),
            SetAttributes(PathRef(path="h"), mode=0o600),
            List(PathRef(path="d"), with_inodes=True),
            Lookup(PathRef(path="h")),
            Remove(PathRef(path="s")),
            Stat(PathRef(path="s")),
        ]
    )
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == [
        "Inode",
        "Exists",
        "OpenResult",
        "Inode",
        "Inode",
        "Inode",
        "Inode",
        "Inode",
        "Listing",
        "Dirent",
        "int",
        "NotFound",
    ]
    assert answers[1].filename == "d"
    assert answers[3].id == answers[2].inode.id
    assert answers[8].entries[0].inode.mode == 0o600
    assert answers[9].inode == answers[2].inode.id
    assert cluster.kv.stats.commits == commits + 1, "one pass of the lane, one commit"
    file = answers[2]
    answers = await meta.batch(
        [
            Sync(file.inode.id, file.session, length=3, modified=True),
            Truncate(file.inode.id, 2),
            Close(file.inode.id, file.session, length=9),
            Close(file.inode.id, file.session),
        ]
    )
    assert [getattr(answer, "length", answer) for answer in answers[:3]] == [3, 2, 9]
    assert answers[3].code is Code.NO_SESSION


async def test_a_batch_of_reads_needs_no_commit(meta, cluster):
    commits = cluster.kv.stats.transactions
    answers = await meta.batch([Stat(PathRef(path="")), Stat(PathRef(path="none")), List(PathRef(path=""))])
    assert [type(answer).__name__ for answer in answers] == ["Inode", "NotFound", "Listing"]
    assert cluster.kv.stats.transactions == commits
    assert await meta.batch([]) == []


async def test_a_large_batch_is_split_and_its_large_answers_too(meta):
    await meta.mkdir("d")
    answers = await meta.batch([Open(PathRef(path=f"d/{number:05}"), create=True) for number in range(5000)])
    assert len({answer.inode.id for answer in answers}) == 5000
    await meta.batch([Symlink(PathRef(path=f"l{number}"), target="t" * 4000) for number in range(30)])
    requests = [Symlink(PathRef(path=f"m{number}"), target="t" * 4000) for number in range(600)]
    answers = await meta.batch(requests)
    assert [answer.target for answer in answers] == ["t" * 4000] * 600
    page = await meta.list("", with_inodes=True)
    assert page.more, "a page ends where the frame does"
    assert len(page.entries) < list_entries_max
    assert len([entry async for entry in meta.entries("", with_inodes=True)]) == 631


async def test_statfs(meta, cluster, target_space):
    cluster.chunks.targets = [target_space(target_id=number, used_bytes=10, free_bytes=100 * number) for number in range(1, 6)]
    await create(meta, "f")
    space = await meta.statfs()
    assert (space.total_bytes, space.free_bytes, space.inodes, space.garbage) == (1550, 1500, 2, 0)
    cluster.chunks.targets = []
    assert (await meta.statfs()).free_bytes == 1500, "storage is not asked again for every caller"
    cluster.clock.advance(2)
    assert (await meta.statfs()).free_bytes == 0


async def test_what_a_path_cannot_be(meta):
    for path in ("a\ud800", "a\0b", "x" * 256):
        with pytest.raises(FS3Error) as raised:
            await meta.stat(path)
        assert raised.value.code in (Code.INVALID, Code.NAME_TOO_LONG)
    with pytest.raises(InvalidArgument):
        await meta.truncate(InodeId(2), -1)
    with pytest.raises(InvalidArgument):
        await meta.batch_stat(["ok", "a\ud800"])
    with pytest.raises(InvalidArgument):
        await meta.setattr("", mode=0o77777)


async def test_many_clients_at_once(cluster):
    """Creates, renames and removals of the same names: each step has one winner, and the directory ends up consistent."""
    clients = [cluster.client() for _ in range(8)]
    await clients[0].mkdir("d")

    async def fight(client, number):
        won = 0
        for turn in range(20):
            name = f"d/{turn}"
            try:
                opened = await client.open(name, write=True, create=True, exclusive=True)
                won += 1
                await client.close_file(opened.inode.id, opened.session, length=number)
            except Exists:
                pass
        return won

    assert sum(await asyncio.gather(*(fight(client, number) for number, client in enumerate(clients)))) == 20

    async def take(client):
        won = 0
        for turn in range(20):
            try:
                await client.remove(f"d/{turn}")
                won += 1
            except NotFound:
                pass
        return won

    assert sum(await asyncio.gather(*(take(client) for client in clients))) == 20
    directory = await clients[0].stat("d")
    assert directory.length == 0
    await clients[0].remove("d", RemoveKind.DIRECTORY)


async def test_everything_is_there_after_a_restart(cluster):
    meta = cluster.client()
    await meta.mkdir("a/b", parents=True)
    inode = await create(meta, "a/b/f", 123)
    opened = await meta.open("a/b/f", write=True)
    await meta.remove("a/b/f")
    await create(meta, "g", 5)
    before = {path: await meta.stat(path) for path in ("", "a", "a/b", "g")}
    await cluster.stop()
    await cluster.start()
    assert {path: await meta.stat(path) for path in before} == before
    with pytest.raises(NotFound):
        await meta.stat("a/b/f")
    closed = await meta.close_file(opened.inode.id, opened.session, length=500)
    assert (closed.id, closed.length, closed.nlink) == (inode.id, 500, 0)
