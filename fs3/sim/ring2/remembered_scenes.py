"""Directed runs of clients that remember attributes. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fs3.api.client import Client
from fs3.base.ids import ROOT_INODE, InodeId
from fs3.model.namespace import PathRef
from fs3.model.requests import List, Mkdir, Put, Rename, SetAttributes, Stat
from fs3.services.meta import attribute_leases
from fs3.sim.planting import plant
from fs3.sim.ring2.loop import SimTask
from fs3.sim.ring2.scene_cluster import SceneCluster, SlowLinks

_READERS = ("client-1", "client-2", "client-3")
_WRITERS = ("client-3", "client-4", "client-5")
"""The third one does both: what it changes itself it drops itself."""
_FILES = 6
_READ_SECONDS = 0.05
_WRITE_SECONDS = 0.6
"""Long enough for questions that are kept until there is nothing to tell."""
_REMEMBERED_MIN = 100
"""Answers that no service was asked for; fewer say nothing."""


@dataclass(slots=True)
class _Registers:
    """Numbers that rise, each written by one client: as an mtime, and as the length of what has a name."""

    directory: InodeId = ROOT_INODE
    told: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(when it was answered, the number) of each."""
    problems: list[str] = field(default_factory=list)
    remembered: int = 0
    is_over: bool = False


async def _prepare(client: Client, registers: _Registers) -> None:
    made = await client.meta.ask(Mkdir(PathRef(ROOT_INODE, "d")))
    registers.directory = made.id
    for number in range(_FILES):
        await client.meta.ask(Put(PathRef(made.id, f"f{number}"), b""))


async def _write(client: Client, registers: _Registers, own: int, stage: SceneCluster) -> None:
    """Every file that is this client's, in turn: its mtime, and another file in its place."""
    count, here, loop = 0, registers.directory, stage.cluster.loop
    while not registers.is_over:
        for number in range(own, _FILES, len(_WRITERS)):
            count += 1
            name, new = f"f{number}", PathRef(here, f"new{number}")
            if count % 2:
                await client.meta.ask(SetAttributes(PathRef(here, name), follow=False, mtime_ns=count))
                registers.told.setdefault(f"{name} mtime", []).append((loop.now, count))
            else:
                await client.meta.ask(Put(new, bytes(count)))
                await client.meta.ask(SetAttributes(new, follow=False, mtime_ns=count))
                await client.meta.ask(Rename(new, PathRef(here, name)))
                for what in ("length", "mtime"):
                    registers.told.setdefault(f"{name} {what}", []).append((loop.now, count))
            await _look(client, registers, name, stage)
            await asyncio.sleep(_WRITE_SECONDS)


async def _look(client: Client, registers: _Registers, name: str, stage: SceneCluster) -> None:
    begun = stage.cluster.loop.now
    told = {what: registers.told.get(f"{name} {what}", [(0, 0)])[-1][1] for what in ("mtime", "length")}
    inode = await client.meta.ask(Stat(PathRef(registers.directory, name), follow=False))
    registers.remembered += stage.cluster.loop.now == begun
    for what, found in (("mtime", inode.mtime_ns), ("length", inode.length)):
        # A file that was just made has the service's time.
        if found < told[what]:
            registers.problems.append(f"a client sees {what} {found} of {name} after {told[what]} was answered")


async def _read(client: Client, registers: _Registers, number: int, stage: SceneCluster) -> None:
    while not registers.is_over:
        await _look(client, registers, f"f{number}", stage)
        await asyncio.sleep(_READ_SECONDS)


async def _list(client: Client, registers: _Registers) -> None:
    while not registers.is_over:
        await client.meta.ask(List(PathRef(registers.directory, ""), with_inodes=True))
        await asyncio.sleep(_READ_SECONDS * 15)


async def _play(stage: SceneCluster, trouble: Callable[[SceneCluster], Awaitable[None]]) -> str:
    registers = _Registers()
    await stage.call("client-8", lambda client: _prepare(client, registers))
    for name in _READERS:
        stage.cluster.clients[name].meta.remember_attributes()
    await asyncio.sleep(1)
    tasks: list[SimTask[None]] = []
    for own, name in enumerate(_WRITERS):
        tasks.append(stage.start(name, lambda client, own=own: _write(client, registers, own, stage)))  # type: ignore[misc]
    # One for each file: who waits for an answer reads nothing else meanwhile.
    tasks += [
        stage.start(name, lambda client, number=number: _read(client, registers, number, stage))  # type: ignore[misc]
        for name in _READERS
        for number in range(_FILES)
    ]
    tasks.append(stage.start(_READERS[1], lambda client: _list(client, registers)))
    await trouble(stage)
    registers.is_over = True
    for task in tasks:
        await task
    if registers.problems:
        return registers.problems[0]
    if registers.remembered < _REMEMBERED_MIN:
        return f"only {registers.remembered} answers were remembered"
    return ""


async def _cut_off(stage: SceneCluster) -> None:
    """A reader is cut off from the service, in one direction or both, for less and more than a lease; it is killed meanwhile."""
    cluster = stage.cluster
    meta = "meta-1"
    for seconds, questions, answers, kills in (
        (0.7, False, True, False),
        (2.5, True, True, False),
        (2.5, True, False, False),
        (0.3, True, True, True),
        (2.5, True, False, False),
        (2.5, True, True, True),
        (2.5, True, False, False),
    ):
        name = _READERS[0]
        await asyncio.sleep(1.2)
        lost = [(name, meta)] * questions + [(meta, name)] * answers
        for source, target in lost:
            cluster.links.block(source, target)
        if kills:
            cluster.hosts[meta].kill()
            cluster.hosts[meta].start()
        await asyncio.sleep(seconds)
        for source, target in lost:
            cluster.links.unblock(source, target)
        cluster.network.release()


async def _cut_often(stage: SceneCluster) -> None:
    """Connections break again and again, and what is on its way is lost."""
    for number in range(150):
        await asyncio.sleep(0.1)
        stage.cluster.network.cut("meta-1", _READERS[number % 2])


async def attributes_are_remembered_by_several(stage: SceneCluster) -> str:
    """Three clients remember what three change, while they are cut off and the service is killed."""
    return await _play(stage, _cut_off)


async def more_is_remembered_than_is_noted(stage: SceneCluster) -> str:
    """The same, where the service notes fewer inodes per client than there are."""

    async def wait(stage: SceneCluster) -> None:
        for by_ms in (100, 500):
            stage.cluster.network.policy = SlowLinks(stage.cluster.links, "meta", _READERS[1], by_ms)
            await asyncio.sleep(15)

    with plant([(attribute_leases, "watched_inodes_max", _FILES)]):
        return await _play(stage, wait)


async def news_are_lost_with_their_connection(stage: SceneCluster) -> str:
    """The same, while connections break."""
    return await _play(stage, _cut_often)


REMEMBERED_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    scene.__name__: scene
    for scene in (attributes_are_remembered_by_several, more_is_remembered_than_is_noted, news_are_lost_with_their_connection)
}
