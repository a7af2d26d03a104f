"""Directed runs of clients that read what is removed. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fs3.api.client import Client
from fs3.base.ids import InodeId, chunk_file
from fs3.base.prng import Prng
from fs3.base.units import SECOND
from fs3.sim.checkers import open_files
from fs3.sim.ring2.checks import explain_namespace
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.sim.ring2.workloads.open_files import OpenFileWorkload, OpenHistory

GARBAGE_DELAY_MS = 60_000
"""What readers are promised counts on it."""
_IDLE_SECONDS = 120
"""After the last handle was closed: for the keep-alives that let go, the delay of the garbage and the duty."""


def _worker(stage: SceneCluster, number: int, history: OpenHistory) -> OpenFileWorkload:
    client = stage.cluster.clients[f"client-{number}"]
    return OpenFileWorkload(number, client, Prng(number), history, stage.cluster.hosts["meta-1"].clock)


async def _create_all(work: OpenFileWorkload, history: OpenHistory) -> None:
    for path in history.paths:
        await work.create(path)


async def read_on_what_was_removed(stage: SceneCluster) -> str:
    """Four clients have files open for up to 140 s, which two others and one of them remove and replace, while metadata services
    are killed, and one reader. What is closed is reclaimed in the end, and what the dead one had open."""
    cluster = stage.cluster
    history = OpenHistory([f"/file-{number}" for number in range(4)])
    await stage.call("client-1", lambda _: _create_all(_worker(stage, 1, history), history))
    works = []
    for number in (1, 2, 3):
        work = _worker(stage, number, history)
        works.append(stage.start(f"client-{number}", lambda _, work=work: work.replace_often(40, SECOND)))  # type: ignore[misc]
    for number in (3, 4, 5, 6):
        for _ in range(3):
            work = _worker(stage, number, history)
            works.append(stage.start(f"client-{number}", lambda _, work=work: work.read_long(1, 140)))  # type: ignore[misc]
    for victim in ("meta-1", "meta-2", "meta-1"):
        await asyncio.sleep(12)
        cluster.hosts[victim].kill()
        cluster.hosts[victim].start()
    cluster.hosts["client-6"].kill()
    await asyncio.wait([work for work in works if work.process is not None and work.process.name != "client-6"])
    if problem := open_files.explain(history.reads):
        return problem
    if history.removals < 60 or len(history.reads) < 60:
        return f"{history.removals} removals and {len(history.reads)} reads end well: hardly any"
    if not any(read.age_ns > 90 * SECOND for read in history.reads):
        return "no handle is used for long"
    await asyncio.sleep(_IDLE_SECONDS)
    wanted: set[InodeId] = set()
    for path in history.paths:
        wanted.add((await stage.call("client-1", partial(Client.stat, path=path))).content_id)
    return _explain_chunks(stage, wanted) or explain_namespace(cluster)


def _explain_chunks(stage: SceneCluster, wanted: set[InodeId]) -> str:
    """ "" when storage has chunks of these contents and of no others."""
    found: set[InodeId] = set()
    for disks in stage.cluster.disks.values():
        for store in disks.stores.values():
            found.update(file[0] for chunk in store.list_contents() if (file := chunk_file(chunk)) is not None)
    if found == wanted:
        return ""
    return f"chunks of contents {sorted(found - wanted)} were not reclaimed, those of {sorted(wanted - found)} are lost"


READER_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "read_on_what_was_removed": read_on_what_was_removed,
}
