from __future__ import annotations

from collections.abc import Callable

from fs3.base.ids import NodeId, TargetId
from fs3.base.units import MILLISECOND
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import Rows
from fs3.model.chain import LocalState, PublicState
from fs3.model.cluster import Heartbeat
from fs3.model.target_report import TargetReport
from fs3.sim.ring1.manager_model import ManagerModel
from fs3.sim.ring1.messages import ChainNotice, HeartbeatCall, Message, RegisterCall


class Around:
    """What a manager finds around it: a clock, and lists of what it wants."""

    def __init__(self) -> None:
        self.manager_clock = 0
        self.told: list[tuple[int, Message]] = []
        self.storing: list[tuple[Callable[[Rows], None], Rows]] = []

    def tell(self, target: int, message: Message) -> None:
        self.told.append((target, message))

    def manager_at(self, due_ns: int, action: Callable[[], None]) -> None:
        self.tick = action

    def manager_stores(self, action: Callable[[Rows], None], rows: Rows) -> None:
        self.storing.append((action, rows))

    def advance(self, to_ms: int) -> None:
        """Time passes, with a tick every 5 ms; what is stored is durable at once."""
        while self.manager_clock < to_ms * MILLISECOND:
            self.manager_clock += 5 * MILLISECOND
            self.tick()
            self.store()

    def store(self) -> None:
        while self.storing:
            action, rows = self.storing.pop()
            action(rows)


def manager_of(around: Around, targets: int) -> ManagerModel:
    """A manager whose targets have registered and know the chain."""
    manager = ManagerModel(targets, 60 * MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND, around, Manager)
    for target in range(1, targets + 1):
        manager.receive(target, RegisterCall(1, 1))
        around.store()
    return manager


def beat(manager: ManagerModel, around: Around, seq: int, *targets: int) -> None:
    """These targets are up to date under the present chain version."""
    routing = manager.machine.published.version
    for target in targets:
        report = TargetReport(TargetId(target), LocalState.UPTODATE, manager.chain.version)
        manager.receive(target, HeartbeatCall(seq, Heartbeat(NodeId(target), 1, seq, (report,), routing)))
        around.store()


def test_the_manager_waits_for_the_lease_to_run_out() -> None:
    around = Around()
    manager = manager_of(around, 3)
    around.advance(30)
    beat(manager, around, 1, 1, 3)
    around.advance(60)
    assert manager.chain.version == 1
    around.advance(80)
    assert [(slot.target, slot.state) for slot in manager.chain.slots] == [
        (1, PublicState.SERVING),
        (3, PublicState.SERVING),
        (2, PublicState.OFFLINE),
    ]
    assert {to for to, what in around.told if isinstance(what, ChainNotice) and what.chain.version == 2} == {1, 2, 3}


def test_what_the_manager_had_not_stored_dies_with_it() -> None:
    around = Around()
    manager = manager_of(around, 3)
    stored = around.storing
    around.storing = []
    around.manager_clock = 200 * MILLISECOND
    manager.crash()
    manager.restart()
    assert manager.chain.version == 1
    assert manager.incarnation == 2
    assert not stored
