"""Who has to leave a chain when one of its targets cannot reach the next one."""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.units import SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import Effect, ManagerRequest, ManagerTick, Persist, Persisted, Respond
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.link_faults import LinkFaults
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.core.membership.transition import next_chain
from fs3.model.chain import Chain, LocalState, PublicState, Slot
from fs3.model.cluster import Heartbeat, HeartbeatAck, RegisterNode
from fs3.model.routing import Role
from fs3.model.target_report import TargetReport

SERVING, SYNCING, WAITING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING, PublicState.OFFLINE
CONFIG = MgmtdConfig(storage_nodes=3, replicas=3, targets_per_node=1)
A, B, C, D = (TargetId(number) for number in (1, 2, 3, 4))


def chain(version: int = 1, **states: PublicState) -> Chain:
    """Target and node of one number, by the letters A to D in order."""
    slots = tuple(
        Slot(TargetId(number), NodeId(number), state) for name, state in states.items() for number in [" ABCD".index(name)]
    )
    return Chain(ChainId(1), version, slots)


def memory() -> LinkFaults:
    return LinkFaults(CONFIG, LeaseHealth(CONFIG))


# --- who leaves --------------------------------------------------------------------------------------------------------


def test_nobody_leaves_when_nobody_is_accused() -> None:
    assert memory().choose_leaver(0, chain(A=SERVING, B=SERVING), []) is None


def test_the_successor_leaves() -> None:
    assert memory().choose_leaver(0, chain(A=SERVING, B=SERVING, C=SERVING), [(A, B)]) == B
    assert memory().choose_leaver(0, chain(A=SERVING, B=SERVING), [(A, B)]) == B
    assert memory().choose_leaver(0, chain(A=SERVING, B=SYNCING), [(A, B)]) == B


def test_nobody_is_asked_without_whom_nobody_serves() -> None:
    # No chain is like this; what would follow from it must not happen either.
    assert memory().choose_leaver(0, chain(B=SERVING, A=SYNCING), [(A, B)]) is None


def test_a_target_that_was_told_and_stayed_is_not_leaving_for_ever() -> None:
    """Its link carries again, so that nothing else is asked of the chain: moves and heads wait for it no longer."""
    known, before = memory(), chain(A=SERVING, B=SERVING, C=SERVING)
    assert not known.is_leaving(0, before)
    assert known.choose_leaver(0, before, [(A, B)]) == B
    assert known.is_leaving(CONFIG.lease_ns - 1, before)
    assert not known.is_leaving(CONFIG.lease_ns, before)
    assert not known.is_leaving(0, chain(2, A=SERVING, B=SERVING, C=SERVING))


def left(known: LinkFaults, before: Chain, who: TargetId, **states: PublicState) -> Chain:
    after = chain(before.version + 1, **states)
    assert known.choose_leaver(0, before, [(A, who)]) == who
    known.on_chain_changed(before, after)
    return after


def test_whoever_reaches_a_second_one_no_better_leaves_itself() -> None:
    known = memory()
    after = left(known, chain(A=SERVING, B=SERVING, C=SERVING), B, A=SERVING, C=SERVING, B=OFFLINE)
    assert known.choose_leaver(1, after, [(A, C)]) == A


def test_it_stays_when_nobody_else_serves() -> None:
    known = memory()
    after = left(known, chain(A=SERVING, B=SERVING, C=SYNCING), B, A=SERVING, C=SYNCING, B=OFFLINE)
    assert known.choose_leaver(1, after, [(A, C)]) == C


def test_one_and_the_same_successor_is_no_second_one() -> None:
    known = memory()
    after = left(known, chain(A=SERVING, B=SERVING, C=OFFLINE), B, A=SERVING, B=OFFLINE, C=OFFLINE)
    back = chain(after.version + 1, A=SERVING, B=SYNCING, C=OFFLINE)
    known.on_chain_changed(after, back)
    assert known.choose_leaver(1, back, [(A, B)]) == B


def test_one_that_serves_again_is_forgiven() -> None:
    known = memory()
    after = left(known, chain(A=SERVING, B=SERVING, C=SERVING), B, A=SERVING, C=SERVING, B=OFFLINE)
    syncing = chain(3, A=SERVING, C=SERVING, B=SYNCING)
    known.on_chain_changed(after, syncing)
    assert known.choose_leaver(1, syncing, [(A, C)]) == A, "it has not been proved yet that it can be reached by anybody"
    known = memory()
    after = left(known, chain(A=SERVING, B=SERVING, C=SERVING), B, A=SERVING, C=SERVING, B=OFFLINE)
    serving = chain(3, A=SERVING, C=SERVING, B=SERVING)
    known.on_chain_changed(after, serving)
    assert known.choose_leaver(1, serving, [(A, C)]) == C


def test_one_that_left_for_somebody_else_counts_for_that_one() -> None:
    known = memory()
    before = chain(A=SERVING, B=SERVING, C=SERVING, D=SERVING)
    assert known.choose_leaver(0, before, [(C, D)]) == D
    after = chain(2, A=SERVING, B=SERVING, C=SERVING, D=OFFLINE)
    known.on_chain_changed(before, after)
    assert known.choose_leaver(1, after, [(A, B)]) == B


def test_one_that_did_not_leave_counts_for_nobody() -> None:
    known = memory()
    before = chain(A=SERVING, B=SERVING, C=SERVING, D=SERVING)
    assert known.choose_leaver(0, before, [(A, B)]) == B
    after = chain(2, A=SERVING, B=SERVING, C=SERVING, D=OFFLINE)
    known.on_chain_changed(before, after)
    assert known.choose_leaver(1, after, [(B, C)]) == C


def test_of_two_links_the_one_nearer_to_the_head_counts() -> None:
    """Then the one that is part of both leaves, and nobody else has to."""
    known = memory()
    before = chain(A=SERVING, B=SERVING, C=SERVING)
    assert known.choose_leaver(0, before, [(A, B), (B, C)]) == B
    assert known.choose_leaver(1, before, [(A, B), (B, C)]) == B


def test_only_one_is_asked_in_one_version_of_the_chain() -> None:
    known = memory()
    before = chain(A=SERVING, B=SERVING, C=SERVING)
    assert known.choose_leaver(0, before, [(B, C)]) == C
    assert known.choose_leaver(1, before, [(A, B), (B, C)]) == C, "it was told already"
    assert known.choose_leaver(2, before, [(A, B)]) is None, "it may be leaving"
    assert known.choose_leaver(CONFIG.lease_ns + 1, before, [(A, B)]) == B, "it did not leave: what it had been told is over"
    assert known.choose_leaver(CONFIG.lease_ns + 2, chain(2, A=SERVING, B=SERVING, C=SERVING), [(B, C)]) == C


# --- through the manager -------------------------------------------------------------------------------------------------


class Cluster:
    """A manager with one chain of three, and nodes that report what they are told to."""

    def __init__(self, config: MgmtdConfig = CONFIG) -> None:
        self.now = 1000 * SECOND
        self.manager = Manager(self.now, config, State(ClusterRow(FORMAT, b"c" * 16, "fs3")), b"entropy")
        self.seq = 0
        for number in (1, 2, 3):
            self.step(ManagerRequest(0, RegisterNode(f"storage-{number}", Role.STORAGE, b"", 1, (f"tcp://{number}:1",), "h")))
        self.beat_all()

    def step(self, event: object) -> list[Respond]:
        replies = []
        effects: list[Effect] = self.manager.step(self.now, event)  # type: ignore[arg-type]
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Persist):
                effects.extend(self.manager.step(self.now, Persisted()))
            elif isinstance(effect, Respond):
                replies.append(effect)
        return replies

    @property
    def chain(self) -> Chain:
        [found] = self.manager.published.chains.values()
        return found

    def order(self) -> list[tuple[int, PublicState]]:
        return [(slot.node, slot.state) for slot in self.chain.slots]

    def node(self, place: int) -> NodeId:
        return self.chain.slots[place].node

    def beat(
        self, node: NodeId, unreachable: TargetId | None = None, state: LocalState | None = None, version: int = 0
    ) -> tuple[tuple[TargetId, int], ...]:
        """Whom the node is told to let go."""
        slot = next(slot for slot in self.chain.slots if slot.node == node)
        if state is None:
            state = LocalState.UPTODATE if slot.state is SERVING else LocalState.ONLINE
        self.seq += 1
        report = TargetReport(slot.target, state, version or self.chain.version, unreachable=unreachable)
        [reply] = self.step(ManagerRequest(0, Heartbeat(node, 1, self.seq, (report,), self.manager.published.version)))
        assert isinstance(reply.answer, HeartbeatAck)
        assert not any(request.is_replaced for request in reply.answer.leave)
        return tuple((request.target, request.chain_version) for request in reply.answer.leave)

    def beat_all(self) -> None:
        for slot in self.chain.slots:
            self.beat(slot.node)

    def pass_time(self, duration: int) -> None:
        end = self.now + duration
        while self.now < end:
            self.now = min(end, self.manager.next_deadline())
            self.step(ManagerTick())


def test_the_successor_is_told_until_the_chain_changes() -> None:
    cluster = Cluster()
    head, middle, tail = cluster.chain.slots
    assert cluster.beat(middle.node) == ()
    assert cluster.beat(head.node, middle.target) == ()
    for _ in range(2):
        assert cluster.beat(middle.node) == ((middle.target, 1),)
        assert cluster.beat(tail.node) == ()
        assert cluster.order() == [(slot.node, SERVING) for slot in (head, middle, tail)], "nobody is taken out who has not left"
    assert cluster.beat(middle.node, state=LocalState.OFFLINE) == ()
    assert cluster.order() == [(head.node, SERVING), (tail.node, SERVING), (middle.node, OFFLINE)]
    assert cluster.beat(head.node) == ()
    # Back at the end, where it has another predecessor.
    cluster.beat(middle.node)
    assert cluster.beat(middle.node, state=LocalState.UPTODATE) == ()
    assert cluster.order() == [(head.node, SERVING), (tail.node, SERVING), (middle.node, SERVING)]


def test_a_syncing_successor_is_told_as_well() -> None:
    cluster = Cluster()
    _, middle, tail = cluster.chain.slots
    cluster.beat(tail.node, state=LocalState.OFFLINE)
    cluster.beat(middle.node)  # it goes on without the tail
    cluster.beat(tail.node)
    assert cluster.order()[2] == (tail.node, SYNCING)
    cluster.beat(middle.node, tail.target)
    assert cluster.beat(tail.node) == ((tail.target, cluster.chain.version),)


def test_whoever_reaches_nobody_is_told_itself() -> None:
    cluster = Cluster()
    head, middle, tail = cluster.chain.slots
    cluster.beat(head.node, middle.target)
    cluster.beat(middle.node)
    cluster.beat(middle.node, state=LocalState.OFFLINE)
    assert cluster.beat(head.node, tail.target) == ((head.target, 2),)
    assert cluster.beat(tail.node) == ()


def test_only_the_successor_in_the_present_version_can_be_accused() -> None:
    cluster = Cluster()
    head, middle, tail = cluster.chain.slots
    cluster.beat(head.node, tail.target)
    assert cluster.beat(tail.node) == ()
    cluster.beat(head.node, middle.target, version=7)
    assert cluster.beat(middle.node) == ()
    cluster.beat(tail.node, head.target)
    assert cluster.beat(head.node) == ()


def test_one_that_is_reached_again_is_told_no_more() -> None:
    cluster = Cluster()
    head, middle, _ = cluster.chain.slots
    cluster.beat(head.node, middle.target)
    assert cluster.beat(middle.node) == ((middle.target, 1),)
    cluster.beat(head.node)
    assert cluster.beat(middle.node) == ()


def test_one_that_has_died_accuses_nobody() -> None:
    """It may have said so just before; who is asked to leave for its sake might be the last one that serves."""
    cluster = Cluster()
    head, middle, _ = cluster.chain.slots
    cluster.beat(head.node, middle.target)
    cluster.pass_time(2 * CONFIG.heartbeat_ns)
    assert cluster.beat(middle.node) == ((middle.target, 1),)
    cluster.pass_time(CONFIG.heartbeat_ns)
    assert cluster.beat(middle.node) == ()


def test_one_that_has_died_is_left_to_its_lease() -> None:
    """And puts nobody under the suspicion of reaching nobody."""
    cluster = Cluster()
    head, middle, tail = cluster.chain.slots
    cluster.beat(head.node, middle.target)
    cluster.beat(middle.node, state=LocalState.OFFLINE)
    cluster.pass_time(3 * CONFIG.heartbeat_ns)
    assert cluster.beat(head.node, tail.target) == ()
    cluster.pass_time(CONFIG.lease_ns)
    assert cluster.beat(head.node) == ()
    assert cluster.order()[0] == (head.node, SERVING)


def test_nobody_is_told_when_chains_are_not_to_change() -> None:
    cluster = Cluster(msgspec.structs.replace(CONFIG, reconfigure=False))
    head, middle, _ = cluster.chain.slots
    cluster.beat(head.node, middle.target)
    assert cluster.beat(middle.node) == ()


def test_what_is_asked_leaves_somebody_who_serves() -> None:
    """Every chain of three with any accusation, twice in a row: whoever is asked can go."""
    states = (SERVING, SYNCING, WAITING, OFFLINE)
    for made in [chain(A=SERVING, B=second, C=third) for second in states for third in states]:
        for slot in made.live_slots():
            successor = made.successor(slot.target)
            if successor is None:
                continue
            known = memory()
            first = known.choose_leaver(0, made, [(slot.target, successor.target)])
            if first is None:
                continue
            after = next_chain(made, {first: LocalState.OFFLINE})
            assert after.serving_slots()
            known.on_chain_changed(made, after)
            again = after.successor(slot.target)
            if again is not None and (second := known.choose_leaver(1, after, [(slot.target, again.target)])) is not None:
                assert next_chain(after, {second: LocalState.OFFLINE}).serving_slots()
