"""A cluster of the last release is upgraded process by process while clients of both releases work, and perhaps goes back."""

from __future__ import annotations

import asyncio

from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.sim.ring2.cluster import Cluster, Host
from fs3.sim.ring2.swarm import ClusterSwarm


class Upgrader:
    """Restarts every service with the other release: the managers first, or in any order."""

    def __init__(self, cluster: Cluster, prng: Prng, swarm: ClusterSwarm) -> None:
        self._cluster = cluster
        self._prng = prng
        self._swarm = swarm

    async def run(self) -> None:
        """Upgrade, and go back when this run does."""
        for turn in range(self._swarm.upgrades):
            hosts = list(self._cluster.servers)
            if self._prng.chance(1, 2):
                self._prng.shuffle(hosts)
            for host in hosts:
                await self._restart(host, is_old=bool(turn % 2))
                await asyncio.sleep(self._prng.below(1500) * MILLISECOND / SECOND)

    async def _restart(self, host: Host, *, is_old: bool) -> None:
        if self._prng.chance(1, 4):
            host.kill()
        else:
            await host.stop()
        host.is_old = is_old
        self._cluster.story.say("operator", f"puts {'the last' if is_old else 'this'} release on {host.name}")
        await asyncio.sleep(self._prng.below(500) * MILLISECOND / SECOND)
        host.start()
