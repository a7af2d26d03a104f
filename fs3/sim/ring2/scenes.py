"""Directed runs: what randomness is slow to reach, arranged on purpose. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from fs3.api.client import Client
from fs3.base.errors import FS3Error, error
from fs3.base.limits import inline_bytes_default
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.services.meta.trimmer import Trimmer
from fs3.sim.checkers import leases, shared_files
from fs3.sim.planting import plant
from fs3.sim.ring2 import directory_scenes
from fs3.sim.ring2.append_scenes import APPEND_SCENES
from fs3.sim.ring2.cache_scenes import CACHE_SCENES
from fs3.sim.ring2.capability_scenes import CAPABILITY_SCENES, CAPABILITY_USERS
from fs3.sim.ring2.checks import list_head_claims
from fs3.sim.ring2.client_scenes import CLIENT_SCENES
from fs3.sim.ring2.cluster_run import ClusterRun, swarm_of_seed
from fs3.sim.ring2.damage_scenes import DAMAGE_SCENES
from fs3.sim.ring2.departure_scenes import DEPARTURE_SCENES
from fs3.sim.ring2.file_client_scenes import FILE_CLIENT_SCENES
from fs3.sim.ring2.hole_scenes import HOLE_SCENES
from fs3.sim.ring2.inline_scenes import INLINE_SCENES
from fs3.sim.ring2.lease_scenes import LEASE_SCENES
from fs3.sim.ring2.lock_scenes import LOCK_SCENES
from fs3.sim.ring2.loop import open_loop
from fs3.sim.ring2.mount_scenes import MOUNT_SCENES
from fs3.sim.ring2.move_scenes import MOVE_SCENES, MOVING_STORAGES, MOVING_ZONES
from fs3.sim.ring2.namespace_scenes import NAMESPACE_SCENES
from fs3.sim.ring2.network import SimLinks
from fs3.sim.ring2.posix_scenes import POSIX_SCENES
from fs3.sim.ring2.reader_scenes import GARBAGE_DELAY_MS, READER_SCENES
from fs3.sim.ring2.remembered_scenes import REMEMBERED_SCENES
from fs3.sim.ring2.replace_scenes import REPLACE_SCENES
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster, SlowLinks
from fs3.sim.ring2.short_circuit_scenes import SHORT_CIRCUIT_SCENES
from fs3.sim.ring2.story import Story, capture_logs
from fs3.sim.ring2.swarm import ClusterSwarm
from fs3.sim.ring2.upgrade_scenes import UPGRADE_SCENES
from fs3.sim.ring2.workloads.shared_files import SharedFileWorkload, SharedHistory
from fs3.sim.ring2.workloads.small_files import INLINE_BYTES
from fs3.sim.ring2.xattr_scenes import USERS, XATTR_SCENES

T = TypeVar("T")

LARGE_BYTES = 150_000
WRITE_STALL_MAX_NS = 10 * SECOND
"""A write that meets a link that is cut is over by then."""
REJOIN_POLLS = 2400
"""Every 50 ms: longer than a target stays away that was asked to leave a few times in a row."""


async def retry_after_a_lost_answer(stage: SceneCluster) -> str:
    """An update has happened, its answer is lost, another update follows, then the first is sent again."""
    cluster, head = stage.cluster, stage.initial_order[0]
    await stage.write("client-2", b"before")
    cluster.links.block(head, "client-1")
    first = stage.write("client-1", b"first.")
    await stage.wait_until_read("client-2", b"first.")
    second = await stage.write("client-2", b"second")
    assert second.code is Code.OK, second
    cluster.links.unblock(head, "client-1")
    cluster.network.cut(head, "client-1")
    result = await first
    if result.code is not Code.OK:
        return f"the repeated update was answered {result.code.name}"
    found = await stage.read("client-2")
    return "" if found == b"second" else f"an update that was over came back: {found!r}"


async def retry_after_a_restart(stage: SceneCluster) -> str:
    """The same, and all targets have been restarted before the update is sent again."""
    cluster, head = stage.cluster, stage.initial_order[0]
    await stage.write("client-2", b"before")
    cluster.links.block(head, "client-1")
    first = stage.write("client-1", b"first.")
    await stage.wait_until_read("client-2", b"first.")
    await asyncio.sleep(0.5)
    cluster.links.block("client-1", head)
    for name in stage.initial_order:
        cluster.hosts[name].kill()
        cluster.hosts[name].start()
    second = await stage.write("client-2", b"second")
    assert second.code is Code.OK, second
    cluster.links.unblock(head, "client-1")
    cluster.links.unblock("client-1", head)
    cluster.network.release()
    result = await first
    if result.code is not Code.OK:
        return f"the repeated update was answered {result.code.name}"
    found = await stage.read("client-2")
    return "" if found == b"second" else f"an update that was over came back: {found!r}"


async def read_while_an_update_is_under_way(stage: SceneCluster) -> str:
    """Whoever has seen the new content has seen it for everybody: no replica shows the old one afterwards."""
    cluster, order = stage.cluster, stage.initial_order
    await stage.write("client-1", b"old")
    # The tail has committed, and the others do not hear of it.
    cluster.links.block(order[-1], order[-2])
    writing = stage.write("client-1", b"new")
    names = [name for name in cluster.clients if name != "client-1"]
    for _ in range(POLLS_MAX):
        if b"new" in [await stage.read(name) for name in names]:
            break
        await asyncio.sleep(POLL_SECONDS)
    seen = {name: await stage.read(name) for name in names}
    cluster.links.unblock(order[-1], order[-2])
    cluster.network.release()
    await writing
    old = [name for name, content in seen.items() if content != b"new"]
    return f"{', '.join(old)} still read the old content" if old else ""


async def overwrite_what_is_being_read(stage: SceneCluster) -> str:
    """Large answers are on their way when what they were read from is overwritten."""
    cluster = stage.cluster
    old, new = b"o" * LARGE_BYTES, b"n" * LARGE_BYTES
    await stage.write("client-1", old)
    cluster.network.policy = SlowLinks(cluster.links, "", "client", 200)
    reading = asyncio.gather(*(stage.try_read(name, LARGE_BYTES) for name in cluster.clients if name != "client-2"))
    await asyncio.sleep(0.02)
    await stage.write("client-2", new)
    if any(found not in (old, new) for found in await reading):
        return "a reader got neither the old nor the new content"
    mismatches = sum(each.storage.reads.checksum_mismatches for each in cluster.clients.values())
    return f"{mismatches} answers were not what their checksums say" if mismatches else ""


async def a_head_that_was_cut_off(stage: SceneCluster) -> str:
    """The managers give a head up that they do not hear. Clients that do not hear the managers either still know it as head."""
    cluster, head = stage.cluster, stage.initial_order[0]
    await stage.write("client-2", b"old")
    left_out = [head, *(name for name in cluster.clients if name != "client-2")]
    for name in left_out:
        cluster.links.block(name, "mgmtd-1")
        cluster.links.block("mgmtd-1", name)
    before = stage.current_chain_version()
    # Once the writer itself has heard of it: else it would ask the old head first, and leave a pending version there.
    for _ in range(POLLS_MAX):
        if cluster.clients["client-2"].manager.routing.chains[stage.chain].version > before:
            break
        await asyncio.sleep(POLL_SECONDS)
    result = await stage.write("client-2", b"new")
    assert result.code is Code.OK, result
    seen = await asyncio.gather(*(stage.try_read(name) for name in left_out[1:]))
    return f"{seen.count(b'old')} clients read what had been overwritten" if b"old" in seen else ""


async def leases_do_not_overlap(stage: SceneCluster) -> str:
    """Heads are cut off again and again, while what the managers answer them takes long."""
    cluster = stage.cluster
    for attempt in range(12):
        head = stage.serving_hosts()[0]
        cluster.network.policy = SlowLinks(cluster.links, "mgmtd-1", head, 400)
        await asyncio.sleep(2 + attempt * 0.037)
        before = stage.current_chain_version()
        cluster.links.block(head, "mgmtd-1")
        cluster.links.block("mgmtd-1", head)
        for _ in range(3000):
            if problem := leases.explain(list_head_claims(cluster)):
                return problem
            await asyncio.sleep(0.002)
        if stage.current_chain_version() == before:
            return f"{head} was cut off for 6 s, and the chain is what it was"
        cluster.links.unblock(head, "mgmtd-1")
        cluster.links.unblock("mgmtd-1", head)
        cluster.network.release()
        for _ in range(POLLS_MAX):
            if len(stage.serving_hosts()) == cluster.swarm.replicas:
                break
            await asyncio.sleep(POLL_SECONDS)
    return ""


class _SendDetector:
    """Notices when one host sends something to any of others."""

    def __init__(self, links: SimLinks, source: str, targets: list[str]) -> None:
        self.event = asyncio.Event()
        self._links = links
        self._source = source
        self._targets = targets

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        if size and source == self._source and target in self._targets:
            self.event.set()
        return self._links.carry(source, target, size)


async def truncate_while_a_dead_writer_is_buried(stage: SceneCluster) -> str:
    """A writer dies. While its file's length is being found out, somebody cuts the file."""
    cluster, cut = stage.cluster, stage.cluster.links
    file = await stage.call("client-1", lambda client: client.open("/f", "x"))
    await stage.call("client-1", lambda client: client.pwrite(file, b"written and known,", 0))
    await stage.call("client-1", lambda client: client.fsync(file))
    await stage.call("client-1", lambda client: client.pwrite(file, b" and not", 18))
    cluster.hosts["client-1"].kill()
    # The duty's question arrives, and its answer has to wait.
    for name in stage.initial_order:
        cut.block(name, "meta-1")
    cluster.network.policy = asked = _SendDetector(cut, "meta-1", stage.initial_order)
    async with asyncio.timeout(100):
        await asked.event.wait()
    await asyncio.sleep(0.2)
    cutting = stage.start("client-2", lambda client: client.truncate("/f", 3))
    await _wait_length(stage, 3)
    for name in stage.initial_order:
        cut.unblock(name, "meta-1")
    cluster.network.release()
    await cutting
    await asyncio.sleep(20)
    inode = await stage.call("client-3", lambda client: client.stat("/f"))
    return "" if inode.length == 3 else f"the file was cut to 3 bytes and has {inode.length}"


async def several_writers_of_one_file(stage: SceneCluster) -> str:
    """They write, truncate and read, while the metadata service is killed now and then; every read can be explained."""
    cluster, prng = stage.cluster, Prng(1)
    histories = [SharedHistory(f"/shared-{number}") for number in range(3)]
    works = []
    for history in histories:
        await stage.call("client-1", lambda client, path=history.path: _put(client, path, b""))  # type: ignore[misc]
        for number, name in enumerate(cluster.clients, 1):
            host = cluster.hosts[name]
            work = SharedFileWorkload(number, cluster.clients[name], Prng(prng.next()), history, cluster.hosts["meta-1"].clock)
            assert host.process is not None
            works.append(cluster.loop.spawn(host.process, work.run(25, 30 * MILLISECOND)))
    for _ in range(4):
        await asyncio.sleep(0.7)
        cluster.hosts["meta-1"].kill()
        cluster.hosts["meta-1"].start()
    await asyncio.gather(*works)
    for history in histories:
        reader = SharedFileWorkload(9, cluster.clients["client-1"], prng, history, cluster.hosts["meta-1"].clock)
        await stage.call("client-1", lambda _, reader=reader: reader.read())  # type: ignore[misc]
        if problem := shared_files.explain(history.writes, history.cuts, history.reads):
            return f"{history.path}: {problem}"
    return ""


async def truncate_what_is_not_published(stage: SceneCluster) -> str:
    """Only their writer knows of the bytes that a truncation has to take away."""
    file = await stage.call("client-1", lambda client: client.open("/f", "x"))
    await stage.call("client-1", lambda client: client.pwrite(file, b"o" * LARGE_BYTES, 0))
    await stage.call("client-2", lambda client: client.truncate("/f", 0))
    await stage.call("client-1", lambda client: client.close(file))
    await stage.call("client-2", lambda client: client.truncate("/f", LARGE_BYTES))
    found = await stage.call("client-3", lambda client: _content(client, "/f"))
    return "" if found == bytes(LARGE_BYTES) else f"the file was cut to nothing, and {len(found.strip(bytes(1)))} bytes are back"


async def read_while_a_file_is_truncated(stage: SceneCluster) -> str:
    """Readers see the old file or the new one."""
    old = b"o" * LARGE_BYTES
    await stage.call("client-1", lambda client: _put(client, "/f", old))
    seen: set[bytes] = set()

    async def read_on(client: Client) -> None:
        while not cutting.done():
            seen.add(await _content(client, "/f"))

    cutting = stage.start("client-2", lambda client: client.truncate("/f", 7))
    await asyncio.gather(*(stage.start(f"client-{number}", read_on) for number in range(3, 9)))
    await cutting
    strange = seen - {old, old[:7]}
    return f"readers saw {sorted(found[:10] + found[-10:] for found in strange)}" if strange else ""


async def write_on_while_a_truncation_is_stuck(stage: SceneCluster) -> str:
    """A truncation has made the length small, and its service comes no further. A writer makes the file longer again."""
    await stage.call("client-1", lambda client: _put(client, "/f", b"o" * LARGE_BYTES))
    file = await stage.call("client-3", lambda client: client.open("/f", "r+"))
    with plant(_STUCK_TRIMS):
        cutting = stage.start("client-2", lambda client: client.truncate("/f", 0))
        await _wait_length(stage, 0)
        await stage.call("client-3", lambda client: client.pwrite(file, b"n", LARGE_BYTES + 10))
        closing = stage.start("client-3", lambda client: client.close(file))
        # One that opens the file only now knows of the truncation.
        opening = stage.start("client-5", _append_far)
        await asyncio.sleep(2)
        early = await stage.call("client-4", lambda client: _content(client, "/f"))
    await asyncio.gather(cutting, closing, opening)
    late = await stage.call("client-4", lambda client: _content(client, "/f"))
    return "bytes from before the truncation are back" if b"o" in early + late else ""


async def bury_while_a_truncation_is_stuck(stage: SceneCluster) -> str:
    """The same, and the session of a dead writer is ended meanwhile."""
    file = await stage.call("client-1", lambda client: client.open("/f", "x"))
    await stage.call("client-1", lambda client: client.pwrite(file, b"known", 0))
    await stage.call("client-1", lambda client: client.fsync(file))
    await stage.call("client-1", lambda client: client.pwrite(file, b"o" * LARGE_BYTES, 5))
    stage.cluster.hosts["client-1"].kill()
    with plant(_STUCK_TRIMS):
        cutting = stage.start("client-2", lambda client: client.truncate("/f", 3))
        await asyncio.sleep(stage.cluster.swarm.session_silence_ms / 1000 + 40)
        await asyncio.gather(cutting, return_exceptions=True)
    await asyncio.sleep(30)
    inode = await stage.call("client-3", lambda client: client.stat("/f"))
    return "" if inode.length == 3 else f"the file was cut to 3 bytes and has {inode.length}"


async def _stuck(self: Trimmer, updates: Any) -> None:
    await asyncio.sleep(0.05)
    raise error(Code.UNAVAILABLE, "as the scene wants it")


_STUCK_TRIMS = [(Trimmer, "_apply", _stuck)]


async def _append_far(client: Client) -> None:
    file = await client.open("/f", "r+")
    await client.pwrite(file, b"n", LARGE_BYTES + 20)
    await client.close(file)


async def _wait_length(stage: SceneCluster, length: int) -> None:
    for _ in range(POLLS_MAX):
        if (await stage.call("client-8", lambda client: client.stat("/f"))).length == length:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError(f"the file never has {length} bytes")


async def _put(client: Client, path: str, data: bytes) -> None:
    file = await client.open(path, "x")
    await client.pwrite(file, data, 0)
    await client.close(file)


async def a_silent_writer_writes_on(stage: SceneCluster) -> str:
    """A writer that the metadata service does not hear is taken for dead. It goes on, and closes its file in the end."""
    cluster, cut = stage.cluster, stage.cluster.links
    file = await stage.call("client-1", lambda client: client.open("/f", "x"))
    await stage.call("client-1", lambda client: client.pwrite(file, b"early", 0))
    cut.block("client-1", "meta-1")
    await asyncio.sleep(cluster.swarm.session_silence_ms / 1000 + 15)
    await stage.call("client-1", lambda client: client.pwrite(file, b" and late", 5))
    cut.unblock("client-1", "meta-1")
    cluster.network.release()
    try:
        await stage.call("client-1", lambda client: client.close(file))
    except FS3Error as failure:
        return f"close: {failure.code.name} {failure}"
    found = await stage.call("client-2", lambda client: _content(client, "/f"))
    return "" if found == b"early and late" else f"after the close the file has {found!r}"


async def a_writer_is_heard_while_its_sessions_are_ended(stage: SceneCluster) -> str:
    """A writer was silent for too long. While the first of its sessions is being ended it is heard again: all of them go on."""
    cluster, cut = stage.cluster, stage.cluster.links
    named = await stage.call("client-1", lambda client: client.open("/f", "x"))
    await stage.call("client-1", lambda client: client.pwrite(named, b"named", 0))
    unnamed = await stage.call("client-1", lambda client: client.open_unnamed())
    await stage.call("client-1", lambda client: client.pwrite(unnamed, b"early", 0))
    cut.block("client-1", "meta-1")
    # The duty asks how long the named file is, and the answer has to wait.
    for name in stage.initial_order:
        cut.block(name, "meta-1")
    cluster.network.policy = asked = _SendDetector(cut, "meta-1", stage.initial_order)
    async with asyncio.timeout(100):
        await asked.event.wait()
    cut.unblock("client-1", "meta-1")
    cluster.network.release()
    await stage.call("client-1", lambda client: client.open("/g", "x"))
    for name in stage.initial_order:
        cut.unblock(name, "meta-1")
    cluster.network.release()
    await asyncio.sleep(15)
    await stage.call("client-1", lambda client: client.pwrite(unnamed, b" and late", 5))
    try:
        await stage.call("client-1", lambda client: client.close(unnamed, "/published"))
    except FS3Error as failure:
        return f"close: {failure.code.name} {failure}"
    found = await stage.call("client-2", lambda client: _content(client, "/published"))
    return "" if found == b"early and late" else f"after the close the file has {found!r}"


async def _content(client: Client, path: str) -> bytes:
    file = await client.open(path, "r")
    return await client.pread(file, 2 * LARGE_BYTES)


async def a_link_within_the_chain_is_cut_for_good(stage: SceneCluster) -> str:
    """Two targets of a chain cannot reach each other, and both are alive for the manager. The chain takes another order."""
    cluster, (head, middle, tail) = stage.cluster, stage.initial_order
    await stage.write("client-1", b"before")
    cluster.links.block(head, middle)
    if problem := await _check_write_completes(stage, "the head does not reach the middle"):
        return problem
    cluster.links.block(middle, head)
    if problem := await _wait_order(stage, [head, tail, middle]):
        return problem
    # No link is left between the head and anybody: now it is the head that is in the way.
    cluster.links.block(head, tail)
    cluster.links.block(tail, head)
    if problem := await _check_write_completes(stage, "the head reaches nobody"):
        return problem
    await asyncio.sleep(12)
    if head in (order := stage.serving_hosts()):
        return f"{head} reaches nobody, and the chain is {order}"
    cluster.links.heal(cluster.network)
    return await _wait_order(stage, [middle, tail, head])


async def the_link_of_two_copies_is_cut(stage: SceneCluster) -> str:
    """One of three is dead, and the two that are left cannot reach each other: the first goes on alone until they can."""
    cluster, (head, middle, tail) = stage.cluster, stage.initial_order
    cluster.hosts[tail].kill()
    if problem := await _wait_order(stage, [head, middle]):
        return problem
    cluster.links.block(middle, head)
    if problem := await _check_write_completes(stage, "the tail is not heard"):
        return problem
    for _ in range(40):
        # It comes back now and then, and is still not heard.
        if problem := await _check_write_completes(stage, "it tries again"):
            return problem
        await asyncio.sleep(0.5)
    if (order := stage.serving_hosts()) != [head]:
        return f"the chain is {order}"
    cluster.links.heal(cluster.network)
    return await _wait_order(stage, [head, middle])


async def _check_write_completes(stage: SceneCluster, what: str) -> str:
    """A write that begins now is over soon."""
    began = stage.cluster.loop.now
    result = await stage.write("client-2", b"%d" % began)
    took = stage.cluster.loop.now - began
    if result.code is not Code.OK or took > WRITE_STALL_MAX_NS:
        return f"{what}: a write is answered {result.code.name} after {took / SECOND:.1f} s"
    return ""


async def _wait_order(stage: SceneCluster, order: list[str]) -> str:
    """Wait until these hosts serve the chain in this order."""
    for _ in range(REJOIN_POLLS):
        if stage.serving_hosts() == order:
            return ""
        await asyncio.sleep(0.05)
    return f"the chain is {stage.serving_hosts()}, not {order}"


SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "a_head_that_was_cut_off": a_head_that_was_cut_off,
    "overwrite_what_is_being_read": overwrite_what_is_being_read,
    "leases_do_not_overlap": leases_do_not_overlap,
    "retry_after_a_lost_answer": retry_after_a_lost_answer,
    "retry_after_a_restart": retry_after_a_restart,
    "read_while_an_update_is_under_way": read_while_an_update_is_under_way,
    "truncate_while_a_dead_writer_is_buried": truncate_while_a_dead_writer_is_buried,
    "several_writers_of_one_file": several_writers_of_one_file,
    "truncate_what_is_not_published": truncate_what_is_not_published,
    "read_while_a_file_is_truncated": read_while_a_file_is_truncated,
    "write_on_while_a_truncation_is_stuck": write_on_while_a_truncation_is_stuck,
    "bury_while_a_truncation_is_stuck": bury_while_a_truncation_is_stuck,
    "a_silent_writer_writes_on": a_silent_writer_writes_on,
    "a_writer_is_heard_while_its_sessions_are_ended": a_writer_is_heard_while_its_sessions_are_ended,
    "a_link_within_the_chain_is_cut_for_good": a_link_within_the_chain_is_cut_for_good,
    "the_link_of_two_copies_is_cut": the_link_of_two_copies_is_cut,
    **APPEND_SCENES,
    **CACHE_SCENES,
    **DAMAGE_SCENES,
    **DEPARTURE_SCENES,
    **HOLE_SCENES,
    **INLINE_SCENES,
    **READER_SCENES,
    **REPLACE_SCENES,
    **LEASE_SCENES,
    **REMEMBERED_SCENES,
    **LOCK_SCENES,
    **MOVE_SCENES,
    **UPGRADE_SCENES,
    **NAMESPACE_SCENES,
    **POSIX_SCENES,
    **XATTR_SCENES,
    **MOUNT_SCENES,
    **CAPABILITY_SCENES,
    **CLIENT_SCENES,
    **FILE_CLIENT_SCENES,
    **SHORT_CIRCUIT_SCENES,
    "an_old_copy_is_put_back": directory_scenes.an_old_copy_is_put_back,
    "all_but_the_manager_is_put_back": directory_scenes.all_but_the_manager_is_put_back,
    "a_copy_begins_beside_the_original": directory_scenes.a_copy_begins_beside_the_original,
}


def faultless_swarm() -> ClusterSwarm:
    """A cluster without trouble: three copies of everything, and enough clients that each replica is somebody's favourite."""
    swarm = swarm_of_seed(0)
    links = replace(swarm.links.without_faults(), latency_min_ns=MILLISECOND // 10, latency_max_ns=MILLISECOND)
    disk = replace(swarm.disk, access_ns_max=2 * MILLISECOND, tail_chance=0, cold_chance=0)
    return replace(
        swarm, storages=3, replicas=3, targets_per_node=1, mgmtds=1, metas=1, clients=8, links=links, disk=disk, drift_ppm=0,
        heartbeat_ns=500 * MILLISECOND, wall_jumps=0, session_silence_ms=25_000, reconfigure=True, upgrades=0,
        short_circuit=False,
    )  # fmt: skip


def play(name: str, tell: Callable[[str], None] | None = None) -> str:
    """Play a scene. What went wrong, "" when nothing did."""
    with open_loop(0) as loop:
        story = Story(loop, tell)
        with capture_logs(story):
            swarm = faultless_swarm()
            if name in INLINE_SCENES:
                swarm = replace(swarm, metas=2, inline_bytes=INLINE_BYTES)
            if name in REMEMBERED_SCENES:
                swarm = replace(swarm, inline_bytes=INLINE_BYTES)
            if name in MOUNT_SCENES:
                swarm = replace(swarm, inline_bytes=inline_bytes_default)
            if name in XATTR_SCENES:
                swarm = replace(swarm, users=USERS)
            if name in READER_SCENES:
                swarm = replace(swarm, metas=2, garbage_delay_ms=GARBAGE_DELAY_MS)
            if name in LOCK_SCENES:
                swarm = replace(swarm, metas=2)
            if name in MOVE_SCENES:
                swarm = replace(swarm, storages=MOVING_STORAGES, targets_per_node=2, zones=MOVING_ZONES)
            if name in CAPABILITY_SCENES or name in CLIENT_SCENES or name in FILE_CLIENT_SCENES:
                swarm = replace(swarm, has_security=True, users=CAPABILITY_USERS)
            if name in FILE_CLIENT_SCENES:
                swarm = replace(swarm, metas=2, inline_bytes=INLINE_BYTES)
            if name in UPGRADE_SCENES:
                swarm = replace(swarm, mgmtds=2, metas=2, inline_bytes=INLINE_BYTES, upgrades=1)
            if name in SHORT_CIRCUIT_SCENES:
                swarm = replace(swarm, short_circuit=True)
            if name in CACHE_SCENES:
                swarm = replace(swarm, targets_per_node=2, cache_exchange_ms=200)
            problem = loop.run_until_complete(_play(ClusterRun(loop, 0, story, swarm), SCENES[name]))
        return problem or "; ".join(story.failures + loop.unhandled_errors)


async def _play(world: ClusterRun, scene: Callable[[SceneCluster], Awaitable[str]]) -> str:
    if not await world.start_hosts():
        return "the cluster does not come up"
    async with asyncio.timeout(300):
        return await scene(SceneCluster(world))
