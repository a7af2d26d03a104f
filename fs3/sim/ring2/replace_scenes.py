"""Directed runs of several writers that replace the content of one file. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fs3.api.client import Client, File
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, chunk_file
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.sim.checkers import replacements
from fs3.sim.checkers.appends import NEVER
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.sim.ring2.workloads.replacements import ReplaceHistory, ReplaceWorkload

RECLAIM_SECONDS = 75
"""Longer than readers of what was removed are given, and than the duties that reclaim it need."""
FEW_BYTES = 5000


def _worker(stage: SceneCluster, number: int, history: ReplaceHistory, client: int = 0) -> ReplaceWorkload:
    """Number so and so, of the client of that number unless another one is said."""
    return ReplaceWorkload(
        number, stage.cluster.clients[f"client-{client or number}"], Prng(number), history, stage.cluster.hosts["meta-1"].clock
    )


async def two_writers_replace_a_file(stage: SceneCluster) -> str:
    """Two replace it, one appends, readers look by both names, while services are killed and a third writer dies."""
    cluster = stage.cluster
    history = ReplaceHistory(["/file"])
    await stage.call("client-1", lambda _: _worker(stage, 10, history, client=1).replace())
    await stage.call("client-1", lambda client: client.link("/file", "/other"))
    history.names.append("/other")
    before = await stage.call("client-1", lambda client: client.stat("/file"))
    think = 40 * MILLISECOND
    works = []
    for number in (1, 2, 8):
        work = _worker(stage, number, history).repeat_replace
        works.append(stage.start(f"client-{number}", lambda _, work=work: work(20, think)))  # type: ignore[misc]
    for number in (3, 4):
        work = _worker(stage, number, history).repeat_append
        works.append(stage.start(f"client-{number}", lambda _, work=work: work(40, think)))  # type: ignore[misc]
    for number in (5, 6, 7):
        work = _worker(stage, number, history).repeat_read
        works.append(stage.start(f"client-{number}", lambda _, work=work: work(60, think)))  # type: ignore[misc]
    for victim in ("meta-1", stage.initial_order[0], "client-8", "meta-1"):
        await asyncio.sleep(0.4)
        cluster.hosts[victim].kill()
        if not victim.startswith("client"):
            cluster.hosts[victim].start()
    await asyncio.wait([work for work in works if work.process is not None and work.process.name != "client-8"])
    # A last base, records that certainly go to it, and a look by both names.
    last = _worker(stage, 9, history, client=2)
    for step in (last.replace, last.append, last.read, last.read, last.read):
        try:
            await stage.call("client-2", lambda _, step=step: step())  # type: ignore[misc]
        except FS3Error as failure:
            return f"when all is quiet, the file is not served: {failure}"
    if problem := replacements.explain(history.bases, history.appends, history.reads):
        return problem
    after = await stage.call("client-1", lambda client: client.stat("/other"))
    if (after.id, after.nlink, after.mode, after.uid) != (before.id, 2, before.mode, before.uid):
        return f"inode {before.id} is inode {after.id} now, with {after.nlink} names"
    if sum(base.ended < NEVER for base in history.bases) < 20:
        return "hardly a replacement ends well"
    await asyncio.sleep(cluster.swarm.session_silence_ms / 1000 + RECLAIM_SECONDS)
    return _explain_leftovers(stage, {after.content_id}) or await stage.call(
        "client-5", lambda client: _read_again(client, history)
    )


async def _read_again(client: Client, history: ReplaceHistory) -> str:
    """What was reclaimed meanwhile was not the file's."""
    file = await client.open("/file", "r")
    content = await client.pread(file, file.length)
    return "" if content == history.reads[-1].content else f"it has {len(content)} bytes that it did not have before"


def _explain_leftovers(stage: SceneCluster, wanted: set[InodeId]) -> str:
    """ "" when storage has chunks of these contents and of no others."""
    found: set[InodeId] = set()
    for disks in stage.cluster.disks.values():
        for store in disks.stores.values():
            found.update(file[0] for chunk in store.list_contents() if (file := chunk_file(chunk)) is not None)
    if lost := wanted - found:
        return f"there are no chunks of content {min(lost)}"
    left = found - wanted
    return f"the chunks of {len(left)} contents were not reclaimed, for instance {min(left)}" if left else ""


async def _replace_while_open(stage: SceneCluster, mode: str, late: Callable[[Client, File], Coroutine[Any, Any, Any]]) -> str:
    """A handle was opened before the content was replaced, and is used when the old one has been reclaimed, as far as it may."""

    async def write(client: Client, byte: bytes) -> None:
        file = await client.open_unnamed("/")
        await client.pwrite(file, byte * FEW_BYTES, 0)
        await client.close(file, "/file")

    await stage.call("client-1", lambda client: write(client, b"o"))
    await stage.call("client-1", lambda client: client.link("/file", "/other"))
    opened = await stage.call("client-3", lambda client: client.open("/file", mode))
    if mode == "r":
        # A reader that is heard of would keep it.
        for name in stage.cluster.metas:
            stage.cluster.links.block("client-3", name)
    await stage.call("client-2", lambda client: write(client, b"n"))
    await asyncio.sleep(RECLAIM_SECONDS)
    if mode == "r":
        for name in stage.cluster.metas:
            stage.cluster.links.unblock("client-3", name)
        stage.cluster.network.release()
        await asyncio.sleep(1)
    problem = ""
    try:
        answer = await stage.call("client-3", lambda client: late(client, opened))
        problem = f"the handle of what was replaced is answered {answer!r:.40}"
    except FS3Error as failure:
        if failure.code is not Code.STALE:
            problem = f"the handle of what was replaced is answered {failure}"

    async def look(client: Client) -> bytes:
        file = await client.open("/other", "r")
        return await client.pread(file, 2 * FEW_BYTES)

    content = await stage.call("client-4", look)
    return problem or ("" if content == b"n" * FEW_BYTES else f"the file has {len(content)} bytes, {content[:20]!r}")


async def read_what_was_replaced(stage: SceneCluster) -> str:
    """A reader that is not heard of has the old content open until it is reclaimed: it is told so, and neither zeros nor the new
    bytes."""
    return await _replace_while_open(stage, "r", lambda client, file: client.pread(file, FEW_BYTES, 0))


async def write_what_was_replaced(stage: SceneCluster) -> str:
    """A writer in place has the old content open: what it writes changes nothing, and it is told so."""

    async def late(client: Client, file: File) -> None:
        await client.pwrite(file, b"x" * 2 * FEW_BYTES, 0)
        await client.close(file)

    return await _replace_while_open(stage, "r+", late)


async def append_to_what_was_replaced(stage: SceneCluster) -> str:
    """An appender has the old content open: it is refused."""
    return await _replace_while_open(stage, "a", lambda client, file: client.append(file, b"x" * 100))


REPLACE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "two_writers_replace_a_file": two_writers_replace_a_file,
    "read_what_was_replaced": read_what_was_replaced,
    "write_what_was_replaced": write_what_was_replaced,
    "append_to_what_was_replaced": append_to_what_was_replaced,
}
