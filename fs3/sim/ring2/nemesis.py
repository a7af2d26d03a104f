"""Trouble: what happens to the hosts, the network and the disks while clients work. All drawn from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fs3.base.ids import ChunkId, TargetId
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.sim.ring2.cluster import Cluster, Host
from fs3.sim.ring2.operator import Operator
from fs3.sim.ring2.swarm import ClusterSwarm
from fs3.sim.ring2.upgrader import Upgrader

WIPE_TRIES = 60
"""Half a second apart."""


class ClusterNemesis:
    """Plans its faults at the beginning and carries them out in time; `heal` ends all of them."""

    def __init__(self, cluster: Cluster, prng: Prng, swarm: ClusterSwarm, operator: Operator, upgrader: Upgrader) -> None:
        self._cluster = cluster
        self._operator = operator
        self._upgrader = upgrader
        self._prng = prng
        self._swarm = swarm
        self._paused_hosts: list[Host] = []
        self._faults_running = 0
        """Deeds under way that keep somebody from being heard."""
        self._no_wipe_running = asyncio.Event()
        """No disk is being lost: only then anything else may happen."""
        self._no_wipe_running.set()
        self._rotten_chunks: dict[ChunkId, None] = {}
        self.lost_targets: dict[int, None] = {}
        """Targets whose disk was lost and that the manager still counted on when it took the last other one out: no software
        can bring back what they had."""

    async def run(self) -> None:
        """All the trouble of the run, then `heal`."""
        swarm = self._swarm
        faults: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = []
        for times, fault in (
            (swarm.crashes, self._crash),
            (swarm.stops, self._stop),
            (swarm.pauses, self._pause),
            (swarm.partitions, self._partition),
            (swarm.isolations, self._isolate),
            (swarm.wipes, self._wipe),
            (swarm.clogs, self._clog),
            (swarm.swizzles, self._swizzle),
            (swarm.slow_disks, self._slow_disk),
            (swarm.full_disks, self._fill_disk),
            (swarm.rots, self._rot),
            (swarm.client_crashes, self._crash_client),
            (swarm.wall_jumps, self._jump_wall),
        ):
            faults += [(self._prng.below(swarm.trouble_ns), fault) for _ in range(times)]
        faults += [(at, self._operator.act) for at in self._operator.draw_times(swarm.trouble_ns)]
        faults += [(SECOND, self._upgrader.run)] if swarm.upgrades else []
        async with asyncio.TaskGroup() as doing:
            for at, fault in faults:
                doing.create_task(self._run_at(at, fault))
            doing.create_task(asyncio.sleep(swarm.trouble_ns / SECOND))
        await self.heal()

    async def heal(self) -> None:
        """Everything works again, and every host runs."""
        cluster = self._cluster
        cluster.story.say("nemesis", "heals everything")
        for host in self._paused_hosts:
            self._resume(host)
        cluster.links.heal(cluster.network)
        for disks in cluster.disks.values():
            disks.disk.slow_ns = 0
            disks.is_full = False
        for host in cluster.hosts.values():
            host.start()

    async def _run_at(self, at_ns: int, fault: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(at_ns / SECOND)
        if fault == self._wipe:
            await fault()
            return
        await self._no_wipe_running.wait()
        self._faults_running += 1
        await fault()
        self._faults_running -= 1

    async def _sleep(self, low_ms: int, high_ms: int) -> None:
        await asyncio.sleep(self._prng.between(low_ms, high_ms) * MILLISECOND / SECOND)

    def _pick_server(self) -> Host:
        return self._prng.pick(self._cluster.servers)

    def _pick_pair(self) -> tuple[str, str]:
        names = list(self._cluster.hosts)
        self._prng.shuffle(names)
        return names[0], names[1]

    async def _crash(self) -> None:
        host = self._pick_server()
        host.kill(silently=self._prng.below(1024) < self._swarm.silent)
        await self._sleep(10, 8000)
        host.start()

    async def _stop(self) -> None:
        host = self._pick_server()
        await host.stop()
        await self._sleep(10, 4000)
        host.start()

    async def _pause(self) -> None:
        host = self._pick_server()
        process = host.process
        if process is None or not process.is_running:
            return
        self._cluster.story.say(host.name, "is paused")
        self._cluster.loop.pause(process)
        self._paused_hosts.append(host)
        await self._sleep(50, 8000)
        self._resume(host)

    def _resume(self, host: Host) -> None:
        if host.process is not None and not host.process.is_running:
            self._cluster.story.say(host.name, "goes on")
            self._cluster.loop.resume(host.process)

    async def _partition(self) -> None:
        """Two hosts, or one and all others; both ways or one."""
        prng, cluster = self._prng, self._cluster
        one, other = self._pick_pair()
        others = [other] if prng.chance(1, 2) else [name for name in cluster.hosts if name != one]
        ways: list[tuple[str, str]] = []
        direction = prng.below(3)
        for name in others:
            if direction != 1:
                ways.append((one, name))
            if direction != 2:
                ways.append((name, one))
        arrow = ("<->", "<-", "->")[direction]
        await self._cut(ways, prng.between(50, 7000), f"{one} {arrow} {' '.join(others)}")

    async def _isolate(self) -> None:
        """The node that was cut off believes it is well, and so does who only talks to it: what leases are for."""
        prng, cluster = self._prng, self._cluster
        node = prng.pick([name for name in cluster.hosts if name.startswith("storage")])
        left_out = [node]
        if prng.chance(1, 2):
            left_out.append(prng.pick([name for name in cluster.hosts if name.startswith("client")]))
        from_nodes = prng.chance(1, 2)
        ways: list[tuple[str, str]] = []
        for name in cluster.hosts:
            if name.startswith("mgmtd"):
                ways += [way for one in left_out for way in ((one, name), (name, one))]
            elif from_nodes and name.startswith("storage") and name != node:
                ways += [(node, name), (name, node)]
        await self._cut(ways, prng.between(3500, 9000), f"{' and '.join(left_out)} from the managers")

    async def _cut(self, ways: list[tuple[str, str]], for_ms: int, what: str) -> None:
        cluster = self._cluster
        cluster.story.say("nemesis", f"cuts {what}")
        for way in ways:
            cluster.links.block(*way)
        await asyncio.sleep(for_ms * MILLISECOND / SECOND)
        cluster.story.say("nemesis", f"mends {what}")
        for way in ways:
            cluster.links.unblock(*way)
        cluster.network.release()

    async def _wipe(self) -> None:
        """A storage node dies and comes back with an empty disk. What it had must be somewhere else: so it happens while all is
        well, and until the manager has noticed, nothing else happens."""
        cluster = self._cluster
        name = self._prng.pick(list(cluster.disks))
        disks, host = cluster.disks[name], cluster.hosts[name]
        for _ in range(WIPE_TRIES):
            serving = await self._load_serving()
            elsewhere = all(any(target not in disks.stores for target in chain) for chain in serving)
            if (
                not self._faults_running
                and host.is_up
                and elsewhere
                and all(len(chain) >= self._swarm.replicas for chain in serving)
            ):
                break
            await asyncio.sleep(0.5)
        else:
            return
        targets = list(disks.stores)
        self._no_wipe_running.clear()
        host.kill(silently=self._prng.below(1024) < self._swarm.silent)
        cluster.story.say(name, "loses its disk")
        disks.wipe()
        restart = asyncio.ensure_future(self._start_later(host))
        while targets:
            await asyncio.sleep(0.05)
            for chain in await self._load_serving():
                self.lost_targets.update(dict.fromkeys(target for target in chain if chain == [target] and target in targets))
            still = {target for chain in await self._load_serving() for target in chain}
            # One that has been filled again meanwhile has been noticed, however quickly that went.
            filled = [target for target in targets if target in disks.stores and disks.read_note(target).whole]
            targets = [
                target for target in targets if target in still and target not in self.lost_targets and target not in filled
            ]
        self._no_wipe_running.set()
        await restart

    async def _start_later(self, host: Host) -> None:
        await self._sleep(10, 8000)
        host.start()

    async def _load_serving(self) -> list[list[int]]:
        """The serving targets of each chain, as the manager has them on its disk."""
        state = await self._cluster.load_state()
        return [[slot.target for slot in chain.serving_slots()] for chain in state.chains.values()] if state is not None else []

    async def _clog(self) -> None:
        one, other = self._pick_pair()
        self._cluster.story.say("nemesis", f"clogs {one} -> {other}")
        self._cluster.links.clog(one, other, self._prng.between(100, 5000) * MILLISECOND)

    async def _swizzle(self) -> None:
        """Cut hosts off one by one, then let them back in another order."""
        prng, cluster = self._prng, self._cluster
        names = list(cluster.hosts)
        prng.shuffle(names)
        chosen = names[: prng.between(1, len(names))]
        pairs = {name: [(name, other) for other in cluster.hosts if other != name] for name in chosen}
        for name in chosen:
            cluster.story.say("nemesis", f"swizzles {name}")
            for way in pairs[name]:
                cluster.links.block(*way)
            await self._sleep(10, 1000)
        prng.shuffle(chosen)
        for name in chosen:
            for way in pairs[name]:
                cluster.links.unblock(*way)
            cluster.network.release()
            await self._sleep(10, 1000)

    async def _slow_disk(self) -> None:
        disks = self._prng.pick(list(self._cluster.disks.values()))
        self._cluster.story.say(disks.name, "has a slow disk")
        disks.disk.slow_ns = self._prng.between(20, 3000) * MILLISECOND
        await self._sleep(100, 6000)
        disks.disk.slow_ns = 0

    async def _fill_disk(self) -> None:
        disks = self._prng.pick(list(self._cluster.disks.values()))
        self._cluster.story.say(disks.name, "has a full disk")
        disks.is_full = True
        await self._sleep(100, 6000)
        self._cluster.story.say(disks.name, "has room again")
        disks.is_full = False

    async def _rot(self) -> None:
        """One byte of one copy of a chunk changes; never of two copies of it."""
        # The second copy of a chain of one is there while it moves, and may be the one that goes.
        serving = [chain for chain in await self._load_serving() if len(chain) > 1 and self._swarm.replicas > 1]
        if not serving:
            return
        chain = self._prng.pick(serving)
        target = self._prng.pick(chain)
        for disks in self._cluster.disks.values():
            store = disks.stores.get(TargetId(target))
            if store is None:
                continue
            chunks = [
                chunk for chunk, (_, _, content) in store.list_contents().items() if content and chunk not in self._rotten_chunks
            ]
            if chunks:
                chunk = self._prng.pick(chunks)
                self._rotten_chunks[chunk] = None
                self._cluster.story.say(disks.name, f"chunk {chunk.hex()[-8:]} of target {target} rots")
                store.rot(chunk, self._prng.below(len(store.list_contents()[chunk][2])))

    async def _crash_client(self) -> None:
        """The process is gone with what it was about; another one comes in its place."""
        host = self._prng.pick([host for name, host in self._cluster.hosts.items() if name.startswith("client")])
        host.kill(silently=self._prng.below(1024) < self._swarm.silent)
        await self._sleep(10, 4000)
        host.start()

    async def _jump_wall(self) -> None:
        host = self._prng.pick(list(self._cluster.hosts.values()))
        by = self._prng.between(-3600, 3600) * SECOND
        self._cluster.story.say(host.name, f"has its wall clock set by {by // SECOND} s")
        host.clock.jump_wall(by)
