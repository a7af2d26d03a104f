"""Directed runs of what is done to a file in the file's own name, by several users and metadata services, with security. Each
says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, NEVER
from fs3.sim.checkers import appends, shared_files
from fs3.sim.ring2.capability_scenes import make_directory
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.sim.ring2.workloads.appends import AppendHistory, AppendWorkload
from fs3.sim.ring2.workloads.shared_files import SharedFileWorkload, SharedHistory

_USERS = 4
_METAS = ("meta-1", "meta-2")
_LARGE_BYTES = 150_000
_TRUNCATION_SECONDS = 60
"""One may take so long, the death of a metadata service included."""
_CUTS_MIN = 3


async def users_share_files(stage: SceneCluster) -> str:
    """They append to one file and write and truncate another one, while the metadata services are killed in turn."""
    cluster = stage.cluster
    log, slots = AppendHistory("/shared/log"), SharedHistory("/shared/slots")
    clock = cluster.hosts["meta-1"].clock
    await make_directory(stage)
    for path in (log.path, slots.path):
        await stage.call("client-1", partial(_make, path=path))
    works = []
    for number in range(1, _USERS + 1):
        name = f"client-{number}"
        client = cluster.clients[name]
        appender = AppendWorkload(number, client, Prng(number), log, clock)
        writer = SharedFileWorkload(number, client, Prng(number), slots, clock)
        works.append(stage.start(name, lambda _, work=appender: work.run(12, 30 * MILLISECOND)))  # type: ignore[misc]
        works.append(stage.start(name, lambda _, work=writer: work.run(20, 30 * MILLISECOND)))  # type: ignore[misc]
    for victim in _METAS * 2:
        await asyncio.sleep(0.7)
        cluster.hosts[victim].kill()
        cluster.hosts[victim].start()
    await asyncio.gather(*works)
    appender = AppendWorkload(1, cluster.clients["client-1"], Prng(1), log, clock)
    writer = SharedFileWorkload(1, cluster.clients["client-1"], Prng(1), slots, clock)
    await stage.call("client-1", lambda _: appender.read())
    await stage.call("client-1", lambda _: writer.read())
    problem = appends.explain(log.appends, log.reads) or shared_files.explain(slots.writes, slots.cuts, slots.reads)
    if problem:
        return problem
    for number in range(1, _USERS + 1):
        if not any(record.data.startswith(b"<%d." % number) and record.ended < appends.NEVER for record in log.appends):
            return f"no append of client-{number} ends well"
    if sum(cut.ended < NEVER for cut in slots.cuts) < _CUTS_MIN:
        return "hardly a truncation ends well"
    return ""


async def metas_truncate_in_turn(stage: SceneCluster) -> str:
    """A file is truncated again and again, each time by the one metadata service that runs."""
    path = "/shared/file"
    await make_directory(stage)
    await stage.call("client-1", partial(_make, path=path))
    for turn in range(4):
        stage.cluster.hosts[_METAS[turn % 2]].start()
        stage.cluster.hosts[_METAS[1 - turn % 2]].kill()
        expected = b"o" * (1 + turn)
        try:
            async with asyncio.timeout(_TRUNCATION_SECONDS):
                found = await stage.call("client-1", partial(_fill_and_cut, path=path, length=len(expected)))
        except (FS3Error, TimeoutError) as why:
            return f"the truncation by {_METAS[turn % 2]} fails: {why!r}"
        if found != expected + bytes(_LARGE_BYTES - len(expected)):
            return f"the file was cut to {len(expected)} bytes, and {len(found.rstrip(bytes(1)))} are there"
    return ""


async def _make(client: Client, *, path: str) -> None:
    """A file that all may write."""
    await client.close(await client.open(path, "x"))
    await client.chmod(path, 0o666)


async def _fill_and_cut(client: Client, *, path: str, length: int) -> bytes:
    """What is there when the file was cut and is long again."""
    file = await client.open(path, "r+")
    await client.pwrite(file, b"o" * _LARGE_BYTES, 0)
    await client.fsync(file)
    await client.truncate(file, length)
    await client.truncate(file, _LARGE_BYTES)
    found = await client.pread(file, _LARGE_BYTES)
    await client.close(file)
    return found


FILE_CLIENT_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "users_share_files": users_share_files,
    "metas_truncate_in_turn": metas_truncate_in_turn,
}
