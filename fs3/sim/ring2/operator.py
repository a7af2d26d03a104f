"""The operator of a cluster in trouble: adds nodes, drains, replaces and forgets them, and evens out. All drawn from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.client import MgmtdClient
from fs3.model.moves import DiskDrain, MoveAction, MoveOverview, PlanMoves, SetMoves
from fs3.sim.ring2.cluster import Cluster, Host
from fs3.sim.ring2.swarm import ClusterSwarm

T = TypeVar("T")

ANSWER_SECONDS = 5
"""A client that dies while it asks the manager is waited for no longer."""
FORGET_TRIES = 6
"""Within these the manager learns that a node is dead, when it is asked at all."""
ASKS_MAX = 20
"""A second apart, when all is well."""


class Operator:
    """Does what people do about where targets are, each time something else."""

    def __init__(self, cluster: Cluster, prng: Prng, swarm: ClusterSwarm) -> None:
        self._cluster = cluster
        self._prng = prng
        self._swarm = swarm
        self._spares = [f"storage-{swarm.storages + number}" for number in range(1, swarm.spares + 1)]
        """That were not added yet."""
        self._drained: dict[str, None] = {}
        self._drained_disks: dict[str, str] = {}
        """Which disk of a node, at most one of the two that it has."""
        self._has_set = False

    def draw_times(self, within_ns: int) -> list[int]:
        """When the steps of a run are taken."""
        # The first adds a node, so that most others have somewhere to move to.
        return [self._prng.below(within_ns // 4 if not number else within_ns) for number in range(self._swarm.operator_steps)]

    async def act(self) -> None:
        """One step. What the manager refuses, or does not answer, is not done."""
        if not self._has_set:
            self._has_set = True
            self._add_spare()
            await self._set(SetMoves(per_node=self._swarm.moves_per_node, forget_after_ns=self._swarm.forget_after_ns))
            return
        # The copy of a node that dies may be the only one without the bad block.
        forgetting = [] if self._swarm.rots else [self._forget] * 2
        emptying = [self._drain] * 3 + [self._drain_target] * 2 + [self._replace] * 2 + forgetting
        others = [self._add, self._rebalance, self._undrain, self._remove, self._remove, self._pause]
        await self._prng.pick(emptying + others)()

    async def end(self) -> None:
        """All is well: what was paused goes on, and nodes are forgotten no more."""
        for _ in range(ASKS_MAX):
            if not self._has_set or await self._set(SetMoves(is_paused=False, forget_after_ns=0)):
                return
            await asyncio.sleep(1)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _add_spare(self) -> None:
        if self._spares:
            self._cluster.add_storage(self._spares.pop(0)).start()

    async def _add(self) -> None:
        self._add_spare()
        await asyncio.sleep(1)
        await self._rebalance()

    async def _rebalance(self) -> None:
        await self._plan(PlanMoves(MoveAction.REBALANCE))

    async def _drain(self) -> None:
        host = self._pick_storage()
        if await self._plan(PlanMoves(MoveAction.DRAIN, host.name)):
            self._drained[host.name] = None

    async def _drain_target(self) -> None:
        host = self._pick_storage()
        disks = self._cluster.disks[host.name]
        targets = [target for target, _ in sorted(disks.stores.items())]
        if targets:
            target = self._prng.pick(targets)
            if disks.paths:
                await self._drain_disk(host.name, disks.home_of(target))
            else:
                await self._plan(PlanMoves(MoveAction.DRAIN_TARGETS, host.name, targets=(target,)))

    async def _drain_disk(self, name: str, path: str) -> None:
        """One of two disks of a node is drained; when the other one is, that one is used again."""
        other = self._drained_disks.pop(name, "")
        if not other:
            if await self._plan(PlanMoves(MoveAction.DRAIN_DISK, name, disk=path)):
                self._drained_disks[name] = path
            return
        overview = await self._ask(f"is {other} of {name} empty", lambda manager: manager.list_moves())
        disks = self._cluster.disks[name]
        if overview is not None and any(disk.is_empty for disk in self._disks_of(overview, name)) and disks.targets_on(other):
            self._cluster.story.fail("disks", f"{other} of {name} is said to be empty, and has targets {disks.targets_on(other)}")
        if not await self._plan(PlanMoves(MoveAction.UNDRAIN_DISK, name, disk=other)):
            self._drained_disks[name] = other

    def _disks_of(self, overview: MoveOverview, name: str) -> list[DiskDrain]:
        nodes = next(iter(self._cluster.clients.values())).manager.routing.nodes.values() if self._cluster.clients else ()
        number = next((node.id for node in nodes if node.name == name), 0)
        return [disk for disk in overview.drained_disks if disk.node == number]

    async def _undrain(self) -> None:
        if self._drained:
            await self._plan(PlanMoves(MoveAction.UNDRAIN, self._pick_drained()))

    async def _replace(self) -> None:
        old, new = self._pick_storage(), self._pick_storage()
        if await self._plan(PlanMoves(MoveAction.REPLACE, old.name, new.name)):
            self._drained[old.name] = None

    async def _remove(self) -> None:
        if self._drained:
            await self._plan(PlanMoves(MoveAction.REMOVE, self._pick_drained()))

    async def _forget(self) -> None:
        """A node is dead, and is forgotten. Half of them are back sooner or later."""
        host = self._pick_storage()
        host.kill(silently=self._prng.below(1024) < self._swarm.silent)
        for _ in range(FORGET_TRIES):
            await asyncio.sleep(2)
            if await self._plan(PlanMoves(MoveAction.FORGET, host.name)):
                break
        if self._prng.chance(1, 2):
            await asyncio.sleep(self._prng.below(10_000) * MILLISECOND / SECOND)
            host.start()

    async def _pause(self) -> None:
        await self._set(SetMoves(is_paused=True))
        await asyncio.sleep(self._prng.below(5000) * MILLISECOND / SECOND)
        await self._set(SetMoves(is_paused=False))

    # --- how they are asked for ----------------------------------------------------------------------------------------

    def _pick_storage(self) -> Host:
        return self._prng.pick([host for name, host in self._cluster.hosts.items() if name.startswith("storage")])

    def _pick_drained(self) -> str:
        return self._prng.pick(list(self._drained))

    async def _plan(self, plan: PlanMoves) -> bool:
        words = " ".join(filter(None, (plan.action.name.lower(), plan.node, plan.other, plan.disk, *map(str, plan.targets))))
        return await self._ask(words, lambda manager: manager.plan_moves(plan)) is not None

    async def _set(self, settings: SetMoves) -> bool:
        return await self._ask(str(settings), lambda manager: manager.set_moves(settings)) is not None

    async def _ask(self, what: str, ask: Callable[[MgmtdClient], Coroutine[Any, Any, T]]) -> T | None:
        """Ask the manager, from where a client is. None when it is not done, as far as is known."""
        clients = [(self._cluster.hosts[name].process, client) for name, client in self._cluster.clients.items()]
        if not clients:
            return None
        process, client = self._prng.pick(clients)
        assert process is not None

        async def attempt() -> tuple[T | None, str]:
            try:
                return await ask(client.manager), "done"
            except FS3Error as refusal:
                return None, str(refusal)

        task = self._cluster.loop.spawn(process, attempt())
        _, late = await asyncio.wait((task,), timeout=ANSWER_SECONDS)
        answer, said = (None, "no answer") if late else task.result()
        self._cluster.story.say("operator", f"{what}: {said}")
        return answer
