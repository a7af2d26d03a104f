"""Managers, nodes and a network that loses and delays: nobody ever serves old data, and in quiet times every chain heals.

Managers are replaced by others and stand still for a while; nodes are killed, leave, come back, and once lose everything they
have stored, their incarnation with it.

Data is abstract: each chain counts its acknowledged writes, each target knows up to which it has them. A write is acknowledged
when every live target of one version of the chain takes it, and a target takes part in reads and writes only under its own
lease, by its own clock, and the routing it has applied itself. What is checked is the promise of leases, fences and the
transition table together: whoever may serve has every acknowledged write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import ManagerRequest, ManagerTick, Persist, Persisted, Rejection, Respond
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import FORMAT, ClusterRow, Rows, State
from fs3.model.chain import Chain, LocalState, PublicState, Slot
from fs3.model.cluster import Heartbeat, HeartbeatAck, RegisterNode, RegistrationAck
from fs3.model.routing import Role, Routing
from fs3.model.target_report import TargetReport

CONFIG = MgmtdConfig(storage_nodes=3, replicas=3, targets_per_node=2, reconfigure=True)
SERVING, SYNCING, LASTSRV = PublicState.SERVING, PublicState.SYNCING, PublicState.LASTSRV


@dataclass
class Target:
    """One target's data."""

    has: int = 0
    """Acknowledged writes it has."""
    whole: bool = True
    """Its disk has not been replaced since it was last complete."""
    synced_under: int = 0
    """Chain version under which it finished syncing."""


@dataclass
class NodeProcess:
    """A storage node: what it knows itself."""

    name: str
    number: NodeId = field(default_factory=lambda: NodeId(0))
    incarnation: int = 0
    """0 in a directory that is new."""
    process: int = 0
    """Tells starts apart."""
    born: frozenset[TargetId] = frozenset()
    granted: frozenset[TargetId] = frozenset()
    """Targets of its newest acknowledged heartbeat: what it may serve."""
    seq: int = 0
    up: bool = False
    lease_until: int = 0
    sent_at: dict[int, int] = field(default_factory=dict)
    view: Routing = field(default_factory=Routing)
    targets: dict[TargetId, Target] = field(default_factory=dict)

    def slots(self) -> list[tuple[Chain, Slot]]:
        """Its places in the chains it knows of."""
        return [(chain, slot) for chain in self.view.chains.values() for slot in chain.slots if slot.node == self.number]

    def leased(self, now: int) -> bool:
        return self.up and now < self.lease_until

    def know(self, routing: Routing) -> None:
        """Newer routing; the stores of targets that are missing are made. One that was complete before was lost."""
        self.view = routing
        for _, slot in self.slots():
            if slot.target not in self.targets:
                self.targets[slot.target] = Target(whole=slot.target not in self.born)


class World:
    """Everything, stepped by a seed."""

    def __init__(self, seed: int) -> None:
        self.prng = Prng(seed)
        self.now = 1000 * SECOND
        self.loss = 0
        self.stored = State(ClusterRow(FORMAT, b"c" * 16, "fs3"))
        self.nodes = [NodeProcess(f"storage-{index}") for index in range(3)]
        self.acknowledged: dict[ChainId, int] = {}
        self.mail: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = 0
        self.asked: dict[int, Callable[[Any], None]] = {}
        self.era = 0
        """Counts managers: what belongs to a dead one is dropped."""
        self.wiped = False
        self.asleep_until = 0
        """The manager process is stopped until then."""
        self.start_manager()

    # --- the network -------------------------------------------------------------------------------------------------

    def later(self, action: Callable[[], None], most: int = 400 * MILLISECOND) -> None:
        """A message: lost, or delivered after a while, in any order."""
        if not self.prng.chance(self.loss, 100):
            self.serial += 1
            self.mail.append((self.now + self.prng.below(most), self.serial, action))

    # --- the manager -------------------------------------------------------------------------------------------------

    def start_manager(self) -> None:
        self.era += 1
        self.asleep_until = 0
        self.asked.clear()
        self.manager = Manager(self.now, CONFIG, msgspec.convert(msgspec.to_builtins(self.stored), State), b"entropy")

    def store(self, rows: Rows) -> None:
        self.stored.counters = rows.counters
        self.stored.nodes.update((node.id, node) for node in rows.nodes)
        self.stored.chains.update((chain.id, chain) for chain in rows.chains)
        self.stored.tables.update((table.id, table) for table in rows.tables)
        self.stored.born.update(rows.born)
        self.stored.generations.update((each.target, each.generation) for each in rows.generations)

    def step(self, event: Any) -> None:
        if self.now < self.asleep_until:
            era = self.era
            self.serial += 1
            self.mail.append((self.asleep_until, self.serial, lambda: self.step(event) if era == self.era else None))
            return
        for effect in self.manager.step(self.now, event):
            if isinstance(effect, Persist):
                self.persist(effect.rows)
            elif isinstance(effect, Respond) and (hear := self.asked.pop(effect.token, None)) is not None:
                self.later(lambda hear=hear, answer=effect.answer: hear(answer))  # type: ignore[misc]

    def persist(self, rows: Rows) -> None:
        era = self.era

        def finish() -> None:
            if era == self.era:
                self.store(rows)
                self.step(Persisted())

        # A commit is not a message: it is not lost while the manager lives. When that dies, it may or may not be there.
        self.serial += 1
        self.mail.append((self.now + self.prng.below(200 * MILLISECOND), self.serial, finish))

    def ask(self, make: Callable[[], Any], hear: Callable[[Any], None]) -> None:
        self.serial += 1
        token = self.serial

        def arrive() -> None:
            self.asked[token] = hear
            self.step(ManagerRequest(token, make()))

        self.later(arrive)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def boot(self, node: NodeProcess) -> None:
        node.up, node.lease_until, node.seq, node.number = True, 0, 0, NodeId(0)
        node.granted, node.view = frozenset(), Routing()
        node.process += 1
        if node.incarnation:
            node.incarnation += 1
        node.sent_at.clear()

    def kill(self, node: NodeProcess) -> None:
        node.up = False
        node.lease_until = 0

    def leave(self, node: NodeProcess) -> None:
        """A clean stop: it serves no more, and says so."""
        node.lease_until = 0
        node.seq += 1
        seq, incarnation, version = node.seq, node.incarnation, node.view.version
        self.ask(lambda: Heartbeat(node.number, incarnation, seq, (), version, leaving=True), lambda answer: None)
        self.kill(node)

    def wipe(self, node: NodeProcess) -> None:
        """Everything it has stored is gone."""
        node.incarnation, node.born, node.targets = 0, frozenset(), {}

    def register(self, node: NodeProcess) -> None:
        incarnation, process = node.incarnation, node.process

        def hear(answer: Any) -> None:
            if node.up and node.process == process and isinstance(answer, RegistrationAck):
                node.number, node.incarnation, node.born = answer.node, answer.incarnation, frozenset(answer.born)

        held = tuple(node.targets)
        self.ask(lambda: RegisterNode(node.name, Role.STORAGE, b"", incarnation, (), "", process, held), hear)

    def report(self, node: NodeProcess, chain: Chain, slot: Slot) -> TargetReport:
        target = node.targets[slot.target]
        if slot.state in (SERVING, LASTSRV):
            complete = target.whole
        else:
            complete = slot.state is SYNCING and target.synced_under == chain.version
        return TargetReport(slot.target, LocalState.UPTODATE if complete else LocalState.ONLINE, chain.version)

    def beat(self, node: NodeProcess) -> None:
        node.seq += 1
        seq, incarnation, process = node.seq, node.incarnation, node.process
        node.sent_at[seq] = self.now
        reports = tuple(self.report(node, chain, slot) for chain, slot in node.slots())
        version = node.view.version

        def hear(answer: Any) -> None:
            if not node.up or node.process != process:
                return
            if isinstance(answer, Rejection):
                node.number = NodeId(0)
            elif isinstance(answer, HeartbeatAck) and answer.lease_ns:
                # The node's clock is as slow as clocks may be: its lease lasts that much longer.
                node.lease_until = max(node.lease_until, node.sent_at[answer.seq] + answer.lease_ns + CONFIG.drift_ns - 1)
                node.granted = frozenset(report.target for report in reports)

        self.ask(lambda: Heartbeat(node.number, incarnation, seq, reports, version), hear)

    def pull(self, node: NodeProcess) -> None:
        def arrive() -> None:
            routing = self.manager.published

            def hear() -> None:
                if node.up and node.number and routing.version > node.view.version:
                    node.know(routing)

            self.later(hear)

        self.later(arrive)

    # --- data --------------------------------------------------------------------------------------------------------

    def holder(self, slot: Slot) -> NodeProcess:
        return next(node for node in self.nodes if node.number == slot.node)

    def agrees(self, chain: Chain, slot: Slot) -> bool:
        """The node of a slot takes part in this version of the chain."""
        node = next((node for node in self.nodes if node.number == slot.node), None)
        if node is None or not node.leased(self.now) or node.view.chains.get(chain.id) != chain:
            return False
        return slot.state is SYNCING or slot.target in node.granted

    def write(self, node: NodeProcess) -> None:
        for chain, slot in node.slots():
            if chain.head() != slot or not node.targets[slot.target].whole:
                continue
            if all(self.agrees(chain, other) for other in chain.live_slots()):
                count = self.acknowledged[chain.id] = self.acknowledged.get(chain.id, 0) + 1
                for other in chain.live_slots():
                    target = self.holder(other).targets[other.target]
                    # A syncing target takes new writes; it has all of them only once the old ones are there too.
                    if other.state is SERVING or target.synced_under == chain.version:
                        target.has = count

    def sync(self, node: NodeProcess) -> None:
        for chain, slot in node.slots():
            source = chain.tail()
            if slot.state is not SYNCING or source is None:
                continue
            if self.agrees(chain, slot) and self.agrees(chain, source):
                theirs, ours = self.holder(source).targets[source.target], node.targets[slot.target]
                if theirs.whole:
                    ours.has, ours.whole, ours.synced_under = theirs.has, True, chain.version

    def check(self) -> None:
        """Whoever may serve has every acknowledged write."""
        for node in self.nodes:
            if not node.leased(self.now):
                continue
            for chain, slot in node.slots():
                target = node.targets[slot.target]
                if slot.state is SERVING and target.whole and slot.target in node.granted:
                    assert target.has == self.acknowledged.get(chain.id, 0), (
                        f"target {slot.target} of {node.name} serves old data of chain {chain.id} under version {chain.version}"
                    )

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, duration: int, trouble: bool) -> None:
        end = self.now + duration
        while self.now < end:
            self.now += self.prng.below(20 * MILLISECOND)
            due = sorted(item for item in self.mail if item[0] <= self.now)
            self.mail = [item for item in self.mail if item[0] > self.now]
            for _, _, action in due:
                action()
                self.check()
            if self.now >= max(self.asleep_until, self.manager.next_deadline()):
                self.step(ManagerTick())
            for node in self.nodes:
                self.act(node)
                self.check()
            if trouble:
                self.disturb()
                self.check()

    def act(self, node: NodeProcess) -> None:
        if not node.up:
            if self.prng.chance(1, 100):
                self.boot(node)
        elif not node.number:
            if self.prng.chance(1, 10):
                self.register(node)
        elif self.prng.chance(1, 20):
            self.beat(node)
        elif self.prng.chance(1, 20):
            self.pull(node)
        elif self.prng.chance(1, 4):
            self.write(node)
        elif self.prng.chance(1, 10):
            self.sync(node)

    def disturb(self) -> None:
        if self.prng.chance(1, 300):
            self.kill(self.prng.pick(self.nodes))
        if self.prng.chance(1, 600):
            node = self.prng.pick(self.nodes)
            if node.up and node.number:
                self.leave(node)
        if self.prng.chance(1, 600):
            self.asleep_until = self.now + self.prng.below(6 * SECOND)
        if self.prng.chance(1, 400):
            self.loss = self.prng.pick((0, 0, 10, 60, 100))
        if self.prng.chance(1, 400):
            self.start_manager()
        if self.prng.chance(1, 40):
            node = self.prng.pick(self.nodes)
            if not self.wiped and not node.up and node.targets:
                self.wiped = True  # two lost disks may be the last copies of something
                self.wipe(node)


@pytest.mark.parametrize("seed", range(12))
def test_nobody_serves_old_data_and_chains_heal(seed: int) -> None:
    world = World(seed)
    world.run(10 * SECOND, trouble=False)
    assert world.acknowledged, "nothing was written"
    world.run(60 * SECOND, trouble=True)
    world.loss = 0
    world.asleep_until = 0
    before = dict(world.acknowledged)
    world.run(30 * SECOND, trouble=False)
    stuck = [chain for chain in world.manager.published.chains.values() if not chain.serving_slots()]
    if not world.wiped:
        assert not stuck, "complete targets are back, and nobody serves"
        assert all(len(chain.serving_slots()) == 3 for chain in world.manager.published.chains.values())
    for chain in world.manager.published.chains.values():
        assert chain in stuck or world.acknowledged[chain.id] > before.get(chain.id, 0), "writes go on"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_crashes_while_it_is_born_comes_up_in_the_end(seed: int) -> None:
    """Trouble from the first moment on: targets that never were complete are new again, those that were are not."""
    world = World(1000 + seed)
    world.wiped = True  # no disk is lost
    world.run(15 * SECOND, trouble=True)
    world.loss = world.asleep_until = 0
    world.run(30 * SECOND, trouble=False)
    chains = world.manager.published.chains.values()
    assert chains
    assert all(len(chain.serving_slots()) == 3 for chain in chains)
    assert world.acknowledged.keys() == world.manager.published.chains.keys(), "writes go on everywhere"
