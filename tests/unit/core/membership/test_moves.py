"""Targets that move: a manager, and nodes that do what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fs3.base.ids import NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import GIB, MIB, SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import ManagerRequest, ManagerTick, Rejection
from fs3.core.membership.heads import calm_ns
from fs3.core.membership.move_backoff import rest_ns_min
from fs3.core.membership.moves import joiner_patience_ns
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.cluster import DiskSpace, EnsureTable, HeartbeatAck, RegistrationAck
from fs3.model.domain import Domain
from fs3.model.moves import ListMoves, MoveAction, MoveOverview, MoveReason, PlanMoves, SetMoves
from fs3.model.security import RotateKeys
from fs3.model.settings import SetSettings
from fs3.model.target_report import TargetReport, UpkeepProgress
from tests.unit.core.membership.test_manager import Cluster

SERVING, SYNCING, LASTSRV = PublicState.SERVING, PublicState.SYNCING, PublicState.LASTSRV
CONFIG = MgmtdConfig(storage_nodes=4, replicas=3, targets_per_node=6)


class Fleet(Cluster):
    """Storage nodes that bring their targets up to date at once, and what the manager asks of them."""

    def __init__(self, count: int = 4, config: MgmtdConfig = CONFIG, **racks: str) -> None:
        super().__init__(msgspec.structs.replace(config, storage_nodes=count))
        self.alive: set[int] = set()
        self.leaving: set[tuple[TargetId, int]] = set()
        self.stores: dict[int, set[TargetId]] = {}
        """Targets that each node has data of."""
        self.resyncs = True
        self.broken: set[int] = set()
        """Nodes on which no target works that does not serve."""
        self.damaged: set[int] = set()
        """Nodes whose targets have a chunk without a good copy."""
        self.heads_leave = False
        """For a moment, a chain has fewer targets that serve."""
        self.least: dict[int, int] = {}
        self.used = GIB
        for number in range(1, count + 1):
            self.add(number, racks.get(f"n{number}", ""))
        self.turns(4)

    def add(self, number: int, rack: str = "") -> None:
        assert isinstance(self.register(f"storage-{number}", domain=Domain("", rack)), RegistrationAck)
        self.alive.add(number)
        self.stores[number] = set()

    def turns(self, count: int = 1) -> None:
        """Everybody sends heartbeats, and the manager's clock goes on."""
        for _ in range(count):
            self.now += self.config.heartbeat_ns // 2
            for node in sorted(self.alive):
                self.turn_of(node)
            self.step(ManagerTick())
            self._check()

    def until(self, happened: Callable[[], bool], turns: int = 400) -> None:
        for _ in range(turns):
            if happened():
                return
            self.turns()
        raise AssertionError(f"it does not happen: {self.overview()}")

    def turn_of(self, node: int) -> None:
        """A node sends a heartbeat."""
        reports, space = [], (self.used, 100 * GIB)
        own = {slot.target: (chain, slot) for chain in self.routing.chains.values() for slot in chain.slots if slot.node == node}
        self.stores[node].update(own)
        for target in sorted(self.stores[node]):
            if target not in own:
                reports.append(TargetReport(target, LocalState.ONLINE, 0, *space))
                continue
            chain, slot = own[target]
            state = LocalState.ONLINE
            does_not_work = node in self.broken and slot.state not in (SERVING, LASTSRV)
            if does_not_work or (target, chain.version) in self.leaving:
                state = LocalState.OFFLINE
            elif slot.state in (SERVING, LASTSRV) or (slot.state is SYNCING and self.resyncs):
                state = LocalState.UPTODATE
            upkeep = UpkeepProgress(bad_blocks=int(node in self.damaged))
            reports.append(TargetReport(target, state, chain.version, *space, upkeep=upkeep))
        ack = self.beat(node, reports, disks=self.disks_of(node))
        if isinstance(ack, Rejection):
            assert ack.code is Code.UNKNOWN_NODE
            self.alive.discard(node)
            return
        assert isinstance(ack, HeartbeatAck)
        self.leaving.update((request.target, request.chain_version) for request in ack.leave)
        self.stores[node].difference_update(ack.retired)
        self.on_drained_disks(node, ack.drained_disks)

    def disks_of(self, node: int) -> tuple[DiskSpace, ...]:
        """What a node tells of its disks."""
        return (DiskSpace("/d", 1000 * GIB, 500 * GIB),)

    def on_drained_disks(self, node: int, paths: tuple[str, ...]) -> None:
        """What a node is told of them."""

    def _check(self) -> None:
        """No chain has two replicas on one node, and none has fewer that serve than it had while nobody died."""
        if len(self.alive) < len(self.stores):
            self.least.clear()
        for chain in self.routing.chains.values():
            nodes = [slot.node for slot in chain.slots]
            assert len(set(nodes)) == len(nodes), chain
            if len(self.alive) == len(self.stores) and not self.heads_leave:
                serving = len(chain.serving_slots())
                assert serving >= self.least.get(chain.id, 0), chain
                self.least[chain.id] = min(serving, 3)

    def ask_moves(self, body: PlanMoves | SetMoves | ListMoves) -> MoveOverview:
        answer = self.ask(ManagerRequest(self.next_token(), body))
        assert isinstance(answer, MoveOverview), answer
        return answer

    def refused(self, action: MoveAction, *names: str, **more: Any) -> Rejection:
        answer = self.ask(ManagerRequest(self.next_token(), PlanMoves(action, *names, **more)))
        assert isinstance(answer, Rejection), answer
        return answer

    def overview(self) -> MoveOverview:
        return self.ask_moves(ListMoves())

    def targets_of(self, node: int) -> list[TargetId]:
        return sorted(slot.target for chain in self.routing.chains.values() for slot in chain.slots if slot.node == node)

    def counts(self) -> dict[int, int]:
        return {share.node: share.targets for share in self.overview().shares}

    def is_settled(self) -> bool:
        return not self.overview().moves

    def reconfigure(self, does: bool) -> None:
        """Chains are left alone, or no more."""
        self.ask(ManagerRequest(self.next_token(), SetSettings({"mgmtd.reconfigure": does}, 0, "me", 1000)))

    def kill(self, node: int) -> None:
        self.alive.discard(node)
        self.until(lambda: not self.routing.nodes[NodeId(node)].alive)


def plan(action: MoveAction, node: str = "", other: str = "", **more: Any) -> PlanMoves:
    return PlanMoves(action, node, other, **more)


def test_a_drained_node_ends_with_nothing_and_every_chain_with_what_it_had() -> None:
    fleet = Fleet()
    assert fleet.counts() == {1: 6, 2: 6, 3: 6, 4: 6}
    planned = fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2", is_dry_run=True))
    assert len(planned.moves) == 6
    assert planned.moves[0].size == GIB + MIB
    assert not fleet.overview().departing
    assert fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2")).departing[0].reason is MoveReason.DRAIN
    fleet.turns(2)
    assert sum(len(chain.slots) for chain in fleet.routing.chains.values()) > 24, "joiners come first"
    fleet.until(lambda: fleet.counts()[2] == 0)
    assert all([slot.state for slot in chain.slots] == [SERVING] * 3 for chain in fleet.routing.chains.values())
    fleet.turns(3)
    assert not fleet.stores[2], "it has deleted what it had"
    assert fleet.counts() == {1: 8, 2: 0, 3: 8, 4: 8}


def test_a_target_leaves_only_when_another_one_serves_in_its_place() -> None:
    fleet = Fleet()
    fleet.resyncs = False
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(20)
    assert fleet.counts()[2] == 6
    assert not fleet.leaving
    fleet.resyncs = True
    fleet.until(lambda: fleet.counts()[2] == 0)


def test_a_target_that_has_left_does_not_come_back_before_it_is_retired() -> None:
    """Also when all that it takes happens between two looks of the manager at its moves."""
    fleet = Fleet(config=msgspec.structs.replace(CONFIG, targets_per_node=3))
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    versions = {chain.id: chain.version for chain in fleet.routing.chains.values()}
    fleet.turns(2)
    for _ in range(20):
        for node in sorted(fleet.alive):
            fleet.turn_of(node)
    fleet.until(lambda: fleet.counts()[2] == 0)
    most = max(chain.version - versions[chain.id] for chain in fleet.routing.chains.values())
    assert most == 5, "a chain is changed when the joiner joins, syncs and serves, and when the leaver leaves and is retired"


def test_a_target_stays_while_others_lack_a_good_copy_that_it_may_have() -> None:
    """Also while its node is away; and no longer when it lacks it as well, or its node does not come back."""
    fleet = Fleet()
    fleet.ask_moves(SetMoves(forget_after_ns=20 * SECOND))
    fleet.kill(2)
    fleet.damaged = {1, 3, 4}
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(200)
    overview = fleet.overview()
    assert fleet.counts()[2] == 6
    assert overview.departing[0].reason is MoveReason.DRAIN
    assert overview.notes[0].endswith("moves wait: the target that is to go may have the last good copies of damaged chunks")
    fleet.alive.add(2)
    fleet.turns(60)
    assert fleet.counts()[2] == 6
    fleet.damaged.add(2)
    # It may be another chunk than theirs, which they have repaired from each other in a moment.
    fleet.turns(60)
    assert fleet.counts()[2] == 6
    fleet.until(lambda: fleet.counts()[2] == 0, turns=2000)


def test_targets_that_are_damaged_in_different_chunks_repair_them_before_one_goes() -> None:
    fleet = Fleet()
    fleet.damaged = {1, 2, 3, 4}
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(100)
    assert fleet.counts()[2] == 6
    fleet.damaged.clear()
    fleet.until(lambda: fleet.counts()[2] == 0)


def test_a_node_that_may_have_the_last_good_copy_is_not_forgotten_by_itself() -> None:
    fleet = Fleet()
    fleet.ask_moves(SetMoves(forget_after_ns=20 * SECOND))
    fleet.damaged = {1}
    fleet.kill(2)
    fleet.turns(200)
    assert not fleet.overview().departing
    notes = fleet.ask_moves(plan(MoveAction.FORGET, "storage-2", is_dry_run=True)).notes
    assert any("damaged chunks, and it may have the last good copies" in note for note in notes)
    fleet.damaged.clear()
    fleet.until(lambda: fleet.counts().get(2, 0) == 0)


def test_targets_of_a_disk_are_drained_and_their_node_stays() -> None:
    fleet = Fleet(config=msgspec.structs.replace(CONFIG, targets_per_node=3))
    gone, stays = fleet.targets_of(2)[:2], fleet.targets_of(2)[2:]
    planned = fleet.ask_moves(plan(MoveAction.DRAIN_TARGETS, "storage-2", targets=tuple(gone), is_dry_run=True))
    assert sorted(each.move.leaver for each in planned.moves) == gone
    assert fleet.is_settled()
    fleet.ask_moves(plan(MoveAction.DRAIN_TARGETS, "storage-2", targets=tuple(gone)))
    fleet.ask_moves(plan(MoveAction.DRAIN_TARGETS, "storage-2", targets=tuple(gone)))
    fleet.until(fleet.is_settled)
    assert fleet.targets_of(2) == stays
    assert not fleet.overview().departing
    refusal = fleet.refused(MoveAction.DRAIN_TARGETS, "storage-2", targets=(gone[0],))
    assert refusal.code is Code.NO_SUCH_TARGET
    assert refusal.message == f"node 'storage-2' has no target {gone[0]}; its targets are {stays[0]}"


def test_a_target_that_no_node_can_take_waits_until_one_can() -> None:
    fleet = Fleet(3)
    target = fleet.targets_of(2)[0]
    refusal = fleet.refused(MoveAction.DRAIN_TARGETS, "storage-2", targets=(target,))
    assert refusal.code is Code.NO_SPACE
    assert refusal.message.startswith("1 of 1 targets of node 'storage-2', 1.0 GiB, have no other place")
    fleet.add(4)
    fleet.turns(3)
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.ask_moves(plan(MoveAction.DRAIN_TARGETS, "storage-2", targets=(target,)))
    fleet.kill(4)
    fleet.ask_moves(SetMoves(is_paused=False))
    fleet.turns(40)
    overview = fleet.overview()
    assert [each.move.leaver for each in overview.moves] == [target]
    assert overview.notes == ("1 targets of storage-2 have no other place",)
    fleet.alive.add(4)
    fleet.until(fleet.is_settled)
    assert target not in fleet.targets_of(2)
    assert not fleet.overview().notes


def test_a_target_that_is_drained_may_stay_after_all() -> None:
    fleet = Fleet()
    target = fleet.targets_of(2)[0]
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.ask_moves(plan(MoveAction.DRAIN_TARGETS, "storage-2", targets=(target,)))
    assert fleet.overview().moves
    fleet.ask_moves(plan(MoveAction.UNDRAIN_TARGETS, "storage-2", targets=(target,)))
    assert not fleet.overview().moves


def test_a_node_whose_disk_does_not_work_gets_no_target_for_a_while() -> None:
    """The second time twice as long; none of what it was given is lost, and others take it."""
    fleet = Fleet(5, msgspec.structs.replace(CONFIG, targets_per_node=3))
    fleet.broken = {5}
    fleet.ask_moves(plan(MoveAction.REPLACE, "storage-2", "storage-5"))
    fleet.until(lambda: fleet.counts()[2] == 0, 2000)
    assert fleet.counts()[5] == 3, "it keeps what it had"
    refusal = fleet.refused(MoveAction.REPLACE, "storage-3", "storage-5")
    assert refusal.message == "node 'storage-5' takes no targets: the last target that it was given did not come up"
    fleet.broken.clear()
    fleet.turns(rest_ns_min * 2 // fleet.config.heartbeat_ns + 1)
    fleet.ask_moves(plan(MoveAction.REPLACE, "storage-3", "storage-5"))
    fleet.until(lambda: fleet.counts()[3] == 0)


def test_so_many_move_at_a_time_and_none_while_they_are_paused() -> None:
    fleet = Fleet()
    fleet.resyncs = False
    assert fleet.ask_moves(SetMoves(per_node=1)).settings.per_node == 1
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(5)
    moves = fleet.overview().moves
    assert len(moves) == 6
    assert not any(each.move.joiner for each in moves)
    fleet.ask_moves(SetMoves(is_paused=False))
    fleet.turns(5)
    begun = [each.move for each in fleet.overview().moves if each.move.joiner]
    assert begun
    assert len({move.destination for move in begun}) == len(begun)
    refusal = fleet.ask(ManagerRequest(fleet.next_token(), SetMoves(per_node=0)))
    assert isinstance(refusal, Rejection)
    assert refusal.message == "0 moves of one node at a time: 1 to 64"


def test_another_manager_goes_on_with_what_the_last_one_has_begun() -> None:
    fleet = Fleet()
    fleet.resyncs = False
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(5)
    fleet.restart()
    fleet.resyncs = True
    fleet.until(lambda: fleet.counts()[2] == 0)
    assert fleet.overview().departing[0].node == 2


def test_a_drained_node_is_removed_and_told_so() -> None:
    fleet = Fleet()
    assert fleet.refused(MoveAction.REMOVE, "storage-2").message == (
        "node 'storage-2' has 6 targets: drain it first, or forget it when it is dead"
    )
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: fleet.counts()[2] == 0)
    fleet.ask(ManagerRequest(fleet.next_token(), RotateKeys(at_once=False)))
    fleet.ask_moves(plan(MoveAction.REMOVE, "storage-2"))
    assert NodeId(2) not in fleet.routing.nodes
    assert list(fleet.stored.security.revoked) == ["node storage-2"], "what it has proved does not count"
    fleet.turns()
    assert 2 not in fleet.alive, "its heartbeats are refused"
    told = fleet.register("storage-2", cluster=fleet.manager.cluster, incarnation=2)
    assert isinstance(told, Rejection)
    assert told.code is Code.NODE_REMOVED
    assert "was removed: what it had is on other nodes" in told.message
    assert "was removed already" in fleet.refused(MoveAction.DRAIN, "storage-2").message
    fresh = fleet.register("storage-2", incarnation=0)
    assert isinstance(fresh, RegistrationAck)
    assert fresh.node == 5


def test_tables_are_made_without_what_was_removed() -> None:
    fleet = Fleet()
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: fleet.counts()[2] == 0)
    assert fleet.ask(ManagerRequest(fleet.next_token(), EnsureTable(2))) == 2
    assert {slot.node for chain in fleet.routing.chains.values() for slot in chain.slots} == {1, 3, 4}
    fleet.ask_moves(plan(MoveAction.REMOVE, "storage-2"))
    assert fleet.ask(ManagerRequest(fleet.next_token(), EnsureTable(1))) == 3


def test_a_drain_is_taken_back() -> None:
    fleet = Fleet()
    assert "is not being drained" in fleet.refused(MoveAction.UNDRAIN, "storage-2").message
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns()
    assert not fleet.ask_moves(plan(MoveAction.UNDRAIN, "storage-2")).moves
    fleet.ask_moves(SetMoves(is_paused=False))
    fleet.turns(20)
    assert fleet.counts() == {1: 6, 2: 6, 3: 6, 4: 6}


def test_the_last_nodes_that_can_hold_a_chain_are_not_drained() -> None:
    fleet = Fleet(3)
    refusal = fleet.refused(MoveAction.DRAIN, "storage-2")
    assert refusal.code is Code.NO_SPACE
    assert refusal.message.startswith(
        "6 of 6 targets of node 'storage-2', 6.0 GiB, have no other place: chains have 3 replicas on"
    )
    assert "2 other nodes take targets" in refusal.message


def test_what_a_dead_node_had_is_rebuilt_elsewhere() -> None:
    fleet = Fleet(5)
    assert "is alive" in fleet.refused(MoveAction.FORGET, "storage-2").message
    fleet.kill(2)
    fleet.ask_moves(plan(MoveAction.FORGET, "storage-2"))
    fleet.until(lambda: NodeId(2) not in fleet.routing.nodes)
    assert all([slot.state for slot in chain.slots] == [SERVING] * 3 for chain in fleet.routing.chains.values())
    counts = sorted(fleet.counts().values())
    assert counts[-1] - counts[0] <= 1
    told = fleet.register("storage-2", cluster=fleet.manager.cluster, incarnation=2)
    assert isinstance(told, Rejection)
    assert "was forgotten" in told.message


def test_a_node_is_forgotten_after_the_time_the_operator_sets() -> None:
    fleet = Fleet(5)
    fleet.ask_moves(SetMoves(forget_after_ns=30 * SECOND))
    fleet.kill(2)
    fleet.turns(100)
    assert not fleet.overview().departing
    fleet.until(lambda: NodeId(2) not in fleet.routing.nodes)


def test_no_node_is_forgotten_for_the_time_in_which_the_manager_was_stopped() -> None:
    fleet = Fleet(5)
    fleet.ask_moves(SetMoves(forget_after_ns=30 * SECOND))
    fleet.kill(2)
    fleet.turns(4)
    fleet.now += 60 * SECOND
    fleet.turns(8)
    assert not fleet.overview().departing
    assert NodeId(2) in fleet.routing.nodes
    fleet.until(lambda: NodeId(2) not in fleet.routing.nodes)


def test_no_node_is_forgotten_for_a_silence_before_chains_were_left_alone() -> None:
    """It was heard meanwhile, and is silent once more."""
    fleet = Fleet(5)
    fleet.ask_moves(SetMoves(forget_after_ns=30 * SECOND))
    fleet.kill(2)
    fleet.turns(4)
    fleet.reconfigure(False)
    fleet.alive.add(2)
    fleet.turns(30 * SECOND // (fleet.config.heartbeat_ns // 2))
    fleet.kill(2)
    fleet.reconfigure(True)
    fleet.turns(8)
    assert NodeId(2) in fleet.routing.nodes
    fleet.until(lambda: NodeId(2) not in fleet.routing.nodes)


def test_no_node_is_forgotten_while_most_are_silent() -> None:
    fleet = Fleet(5)
    fleet.ask_moves(SetMoves(forget_after_ns=SECOND))
    fleet.alive -= {1, 2, 3}
    fleet.turns(200)
    assert not fleet.overview().departing


def test_the_last_copy_is_only_forgotten_when_the_loss_is_accepted() -> None:
    fleet = Fleet(3)
    for node in (2, 3, 1):
        fleet.kill(node)
        fleet.turns(2)  # the others say that they go on
    fleet.alive |= {2, 3}
    fleet.turns(3)
    assert all(not chain.serving_slots() for chain in fleet.routing.chains.values())
    refusal = fleet.refused(MoveAction.FORGET, "storage-1")
    assert refusal.message.startswith("the newest data of 6 chains, 6.0 GiB, is on node 'storage-1' only: bring it back, or")
    dry = fleet.ask_moves(plan(MoveAction.FORGET, "storage-1", is_dry_run=True))
    assert len([note for note in dry.notes if "may have older data" in note]) == 6
    told = fleet.ask_moves(plan(MoveAction.FORGET, "storage-1", accept_loss=True))
    assert len(told.notes) >= 6
    # Nodes 2 and 3 are taken for what served last; their stores say themselves whether they have everything.
    fleet.until(lambda: all(chain.serving_slots() for chain in fleet.routing.chains.values()))
    assert NodeId(1) not in fleet.routing.nodes


def test_a_chain_of_one_begins_empty_when_its_loss_is_accepted() -> None:
    fleet = Fleet(2, MgmtdConfig(storage_nodes=2, replicas=1, targets_per_node=1))
    fleet.kill(1)
    assert fleet.ask_moves(plan(MoveAction.FORGET, "storage-1", is_dry_run=True)).notes[0].endswith("it begins empty")
    fleet.ask_moves(plan(MoveAction.FORGET, "storage-1", accept_loss=True))
    fleet.turns(3)
    assert fleet.counts() == {2: 2}
    assert all(chain.slots[0].state is SERVING for chain in fleet.routing.chains.values())


def test_a_new_node_takes_the_place_of_an_old_one() -> None:
    fleet = Fleet()
    fleet.add(5)
    fleet.turns(2)
    assert "cannot replace itself" in fleet.refused(MoveAction.REPLACE, "storage-2", "storage-2").message
    fleet.ask_moves(plan(MoveAction.REPLACE, "storage-2", "storage-5"))
    fleet.until(lambda: fleet.counts()[2] == 0)
    assert fleet.counts() == {1: 6, 2: 0, 3: 6, 4: 6, 5: 6}


def test_a_new_node_gets_its_share() -> None:
    fleet = Fleet()
    fleet.add(5)
    fleet.turns(2)
    assert {each.move.destination for each in fleet.ask_moves(plan(MoveAction.REBALANCE, is_dry_run=True)).moves} == {5}
    fleet.ask_moves(plan(MoveAction.REBALANCE))
    fleet.until(fleet.is_settled)
    assert sorted(fleet.counts().values()) == [4, 5, 5, 5, 5]
    assert not fleet.ask_moves(plan(MoveAction.REBALANCE)).moves, "it is even"


def test_moves_keep_racks_apart() -> None:
    racks = {"n1": "a", "n2": "a", "n3": "b", "n4": "b", "n5": "c", "n6": "c"}
    fleet = Fleet(6, **racks)
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-3"))
    fleet.until(lambda: fleet.counts()[3] == 0)
    for chain in fleet.routing.chains.values():
        assert len({racks[f"n{slot.node}"] for slot in chain.slots}) == 3


def test_a_joiner_that_dies_is_given_up_for_another_one() -> None:
    fleet = Fleet(5)
    fleet.resyncs = False
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(4)
    dead = next(each.move.destination for each in fleet.overview().moves if each.move.joiner)
    fleet.kill(dead)
    fleet.turns(joiner_patience_ns // (fleet.config.heartbeat_ns // 2) + 4)
    assert all(each.move.destination != dead for each in fleet.overview().moves)
    fleet.resyncs = True
    fleet.turns(20)
    assert fleet.counts()[2], "chains that the dead node is in would have fewer that serve"
    assert any("wait for other targets of their chains" in note for note in fleet.overview().notes)
    fleet.alive.add(dead)
    fleet.until(lambda: fleet.counts()[2] == 0)


def test_a_joiner_that_does_not_work_is_given_up_for_one_on_another_node() -> None:
    fleet = Fleet(5)
    fleet.broken = {4}
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: fleet.counts()[2] == 0, turns=4 * joiner_patience_ns // (fleet.config.heartbeat_ns // 2))
    fleet.turns(4)
    assert all([slot.state for slot in chain.slots] == [SERVING] * 3 for chain in fleet.routing.chains.values())


def test_a_leaver_is_kept_until_the_joiner_has_said_that_it_goes_on() -> None:
    """The joiner dies with its disk in the moment in which the leaver goes: that one lacks nothing."""
    fleet = Fleet(3, MgmtdConfig(storage_nodes=3, replicas=1, targets_per_node=1))
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: any(each.move.joiner for each in fleet.overview().moves))
    move = next(each.move for each in fleet.overview().moves)
    fleet.until(lambda: (move.leaver, fleet.routing.chains[move.chain].version) in fleet.leaving)
    fleet.turn_of(move.destination)
    fleet.alive.discard(move.destination)
    fleet.turns(joiner_patience_ns // (fleet.config.heartbeat_ns // 2))
    assert [slot.target for slot in fleet.routing.chains[move.chain].serving_slots()] == [move.leaver]
    assert move.leaver in fleet.stores[2]
    fleet.until(lambda: fleet.counts()[2] == 0)


@pytest.mark.parametrize("reason", ["it is silent for long", "its node is drained"])
def test_a_joiner_that_served_last_is_not_given_up(reason: str) -> None:
    """The leaver has gone, or lacks what was written since: only the joiner has everything."""
    fleet = Fleet(3, MgmtdConfig(storage_nodes=3, replicas=1, targets_per_node=1))
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: any(each.move.joiner for each in fleet.overview().moves))
    move = next(each.move for each in fleet.overview().moves)
    joiner = move.joiner

    def chain() -> Chain:
        return fleet.routing.chains[move.chain]

    fleet.until(lambda: chain().is_live(joiner) and len(chain().serving_slots()) == 2)
    fleet.alive -= {2, move.destination}
    fleet.until(lambda: not chain().serving_slots())
    served_last = chain().slot(joiner)
    assert served_last is not None
    assert served_last.state is LASTSRV
    if reason == "its node is drained":
        fleet.ask_moves(plan(MoveAction.DRAIN, fleet.routing.nodes[NodeId(move.destination)].name))
        fleet.turns(4)
    else:
        fleet.turns(joiner_patience_ns // (fleet.config.heartbeat_ns // 2) + 4)
    assert chain().slot(joiner) is not None
    fleet.alive.add(move.destination)
    fleet.until(lambda: bool(chain().serving_slots()))
    assert chain().slots[0].target == joiner


def test_a_move_that_waits_for_a_target_that_is_forgotten_takes_its_place() -> None:
    fleet = Fleet(5)
    fleet.resyncs = False
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.turns(4)
    begun = [each.move for each in fleet.overview().moves if each.move.joiner]
    others = {
        slot.node for move in begun for slot in fleet.routing.chains[move.chain].slots if slot.node not in (2, move.destination)
    }
    fleet.kill(min(others))
    fleet.ask_moves(plan(MoveAction.FORGET, f"storage-{min(others)}"))
    fleet.resyncs = True
    fleet.until(lambda: min(others) not in fleet.counts() and fleet.counts()[2] == 0)
    assert all([slot.state for slot in chain.slots] == [SERVING] * 3 for chain in fleet.routing.chains.values())


def heads_of(fleet: Fleet) -> list[int]:
    return sorted(share.heads for share in fleet.overview().shares)


def test_heads_are_spread_again_after_a_failure() -> None:
    fleet = Fleet()
    assert heads_of(fleet) == [2, 2, 2, 2]
    fleet.kill(2)
    fleet.alive.add(2)
    fleet.turns(10)
    assert heads_of(fleet)[0] == 0
    fleet.turns(calm_ns // (fleet.config.heartbeat_ns // 2) - 20)
    assert heads_of(fleet)[0] == 0, "it may not be over yet"
    fleet.heads_leave = True
    fleet.until(lambda: heads_of(fleet) == [2, 2, 2, 2])
    fleet.turns(4)
    assert all([slot.state for slot in chain.slots] == [SERVING] * 3 for chain in fleet.routing.chains.values())
    versions = [chain.version for chain in fleet.routing.chains.values()]
    fleet.turns(300)
    assert [chain.version for chain in fleet.routing.chains.values()] == versions, "that is all"


def test_a_chain_of_two_keeps_its_head() -> None:
    fleet = Fleet(3, MgmtdConfig(storage_nodes=3, replicas=2, targets_per_node=4))
    fleet.kill(2)
    fleet.alive.add(2)
    fleet.turns(2 * calm_ns // (fleet.config.heartbeat_ns // 2))
    assert heads_of(fleet)[0] == 0


@pytest.mark.parametrize("action", [MoveAction.DRAIN, MoveAction.FORGET, MoveAction.REMOVE, MoveAction.UNDRAIN])
def test_nodes_that_are_not_there_are_named(action: MoveAction) -> None:
    refusal = Fleet(3).refused(action, "storage-9")
    assert refusal.code is Code.UNKNOWN_NODE
    assert refusal.message == "there is no node 'storage-9'; storage nodes are storage-1, storage-2, storage-3"
