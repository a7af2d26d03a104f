"""The management machine, driven by hand: events in, effects out, time as an argument."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from fs3.base.ids import PAGE_SALT_BYTES, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import Effect, Event, ManagerRequest, ManagerTick, Persist, Persisted, Publish, Rejection, Respond
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import FORMAT, ClusterRow, Rows, State
from fs3.model.chain import LocalState, PublicState
from fs3.model.cluster import (
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    EnsureTable,
    Heartbeat,
    HeartbeatAck,
    ListNamespaces,
    NamespaceSettings,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    SetConfig,
    SetNamespace,
)
from fs3.model.domain import Domain
from fs3.model.generation import Generation, TargetClaim
from fs3.model.routing import Role, Routing
from fs3.model.target_report import TargetReport

CLUSTER = b"c" * 16
CONFIG = MgmtdConfig(storage_nodes=3, replicas=3, targets_per_node=2, reconfigure=False)
LEASE = CONFIG.lease_ns + CONFIG.drift_ns
SERVING, LASTSRV, OFFLINE, SYNCING = PublicState.SERVING, PublicState.LASTSRV, PublicState.OFFLINE, PublicState.SYNCING


def registered(node: NodeId, incarnation: int = 1, born: tuple[TargetId, ...] = ()) -> RegistrationAck:
    """What a node is told when it has registered."""
    return RegistrationAck(node, CLUSTER, CONFIG.lease_ns, CONFIG.heartbeat_ns, incarnation, born)


class Cluster:
    """A manager, its store, and nodes that do what they are told."""

    def __init__(self, config: MgmtdConfig = CONFIG) -> None:
        self.config = config
        self.now = 1000 * SECOND
        self.stored = State(ClusterRow(FORMAT, CLUSTER, "fs3"))
        self.published: list[int] = []
        self.token = 0
        self.seqs: dict[NodeId, int] = {}
        self.restart()

    def restart(self) -> None:
        """The manager process starts from what is stored."""
        self.manager = Manager(self.now, self.config, msgspec.convert(msgspec.to_builtins(self.stored), State), b"entropy")

    def store(self, rows: Rows) -> None:
        self.stored.apply(rows)

    def step(self, event: Event) -> list[Respond]:
        """One event, its commit at once."""
        replies = []
        effects: list[Effect] = list(self.manager.step(self.now, event))
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Persist):
                self.store(effect.rows)
                effects.extend(self.manager.step(self.now, Persisted()))
            elif isinstance(effect, Publish):
                self.published.append(effect.delta.version)
                assert effect.delta.version == self.stored.counters.routing, "published before it was stored"
            else:
                replies.append(effect)
        return replies

    def ask(self, event: Event) -> object:
        replies = self.step(event)
        assert len(replies) == 1
        return replies[0].answer

    def next_token(self) -> int:
        self.token += 1
        return self.token

    def register(self, name: str, role: Role = Role.STORAGE, **fields: object) -> object:
        values: dict[str, object] = {
            "cluster": b"",
            "incarnation": 1,
            "endpoints": (f"tcp://{name}:1",),
            "host": "h",
            "pid": 7,
        } | fields
        return self.ask(ManagerRequest(self.next_token(), RegisterNode(name, role, **values)))  # type: ignore[arg-type]

    def form(self, count: int = 3) -> None:
        for index in range(1, count + 1):
            assert self.register(f"storage-{index}") == registered(NodeId(index))

    def beat(self, node: int, states: Sequence[TargetReport] | None = None, **fields: object) -> object:
        number = NodeId(node)
        self.seqs[number] = self.seqs.get(number, 0) + 1
        values: dict[str, object] = {
            "incarnation": 1,
            "seq": self.seqs[number],
            "targets": tuple(states if states is not None else self.reports(number)),
            "routing_version": self.routing.version,
        } | fields
        return self.ask(ManagerRequest(self.next_token(), Heartbeat(number, **values)))  # type: ignore[arg-type]

    def reports(self, node: NodeId, state: LocalState | None = None) -> list[TargetReport]:
        """What an honest node says: up to date where it serves or served last, online elsewhere."""
        found = []
        for chain in self.routing.chains.values():
            for slot in chain.slots:
                if slot.node == node:
                    whole = slot.state in (SERVING, LASTSRV)
                    honest = LocalState.UPTODATE if whole else LocalState.ONLINE
                    found.append(TargetReport(slot.target, state or honest, chain.version))
        return found

    def pass_time(self, duration: int, beating: Sequence[int] = ()) -> None:
        """Let time pass in ticks while some nodes go on sending heartbeats."""
        end = self.now + duration
        while self.now < end:
            self.now = min(end, self.manager.next_deadline())
            for node in beating:
                self.beat(node)
            self.step(ManagerTick())

    @property
    def routing(self) -> Routing:
        return self.manager.published

    def states(self) -> set[tuple[PublicState, ...]]:
        """The different states chains are in."""
        return {tuple(slot.state for slot in chain.slots) for chain in self.routing.chains.values()}


# --- forming -----------------------------------------------------------------------------------------------------------


def test_the_default_table_is_made_when_the_last_expected_node_registers() -> None:
    cluster = Cluster()
    cluster.register("meta-1", Role.META)
    cluster.register("storage-1")
    cluster.register("storage-2")
    assert not cluster.routing.tables
    cluster.register("storage-3")
    routing = cluster.routing
    assert [(table.id, table.replicas, table.chains) for table in routing.tables.values()] == [(1, 3, (1, 2))]
    assert all(chain.version == 1 for chain in routing.chains.values())
    assert cluster.states() == {(SERVING, SERVING, SERVING)}
    targets = [slot.target for chain in routing.chains.values() for slot in chain.slots]
    assert sorted(targets) == [1, 2, 3, 4, 5, 6]
    assert cluster.published == [1, 2, 3, 4]


def test_no_chain_of_a_table_has_two_replicas_in_one_rack() -> None:
    cluster = Cluster(msgspec.structs.replace(CONFIG, storage_nodes=5, targets_per_node=6))
    racks = ["r1", "r1", "r1", "r2", "r3"]
    for number, rack in enumerate(racks, 1):
        cluster.register(f"storage-{number}", domain=Domain("z", rack))
    chains = cluster.routing.chains.values()
    assert len(chains) == 10
    assert all({racks[slot.node - 1] for slot in chain.slots} == {"r1", "r2", "r3"} for chain in chains)
    targets = [slot.target for chain in chains for slot in chain.slots]
    assert len(set(targets)) == len(targets)
    cluster.register("storage-6", domain=Domain("z", "r4"))
    cluster.ask(ManagerRequest(cluster.next_token(), EnsureTable(2)))
    again = [slot.target for chain in cluster.routing.chains.values() for slot in chain.slots]
    assert len(set(again)) == len(again), "targets of the second table are others"


def test_the_default_table_is_made_when_a_node_that_fell_silent_is_heard_again() -> None:
    cluster = Cluster()
    cluster.register("storage-1")
    cluster.register("storage-2")
    cluster.pass_time(2 * LEASE, beating=(2,))
    cluster.register("storage-3")
    assert not cluster.routing.tables
    cluster.beat(1)
    assert cluster.routing.tables
    assert cluster.states() == {(SERVING, SERVING, SERVING)}


def test_registering_again_is_harmless_and_ids_stay() -> None:
    cluster = Cluster()
    cluster.form()
    version = cluster.routing.version
    assert cluster.register("storage-2") == registered(NodeId(2))
    assert cluster.routing.version == version
    cluster.restart()
    assert cluster.register("storage-2", incarnation=2, pid=8) == registered(NodeId(2), 2)
    assert cluster.routing.nodes[NodeId(2)].pid == 8
    assert len(cluster.routing.tables) == 1
    assert cluster.register("storage-4") == registered(NodeId(4))


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"cluster": b"d" * 16}, Code.WRONG_CLUSTER, "64646464"),
        ({"incarnation": 1}, Code.OLD_INCARNATION, "incarnation 1 of node 'storage-1' is over, 5 has registered"),
        ({"incarnation": 5, "pid": 99}, Code.BUSY, "process 7 at tcp://storage-1:1"),
        ({"incarnation": 6, "role": Role.META}, Code.INVALID, "is a STORAGE, not a META"),
        ({"incarnation": 6, "targets": (TargetId(77),)}, Code.INVALID, "target 77, but it belongs to no chain"),
    ],
)
def test_registrations_that_are_refused(fields: dict[str, object], code: Code, words: str) -> None:
    cluster = Cluster()
    cluster.register("storage-1", incarnation=5)
    role = fields.pop("role", Role.STORAGE)
    answer = cluster.register("storage-1", role, **fields)  # type: ignore[arg-type]
    assert isinstance(answer, Rejection)
    assert answer.code is code
    assert words in answer.message
    assert cluster.routing.version == 1


def test_a_name_whose_process_is_gone_can_be_taken_by_a_copy_that_counts_alike() -> None:
    """It is another process, so it gets a number of its own: its heartbeats begin at 1 again."""
    cluster = Cluster()
    cluster.register("storage-1")
    cluster.pass_time(LEASE)
    assert cluster.register("storage-1", pid=99) == registered(NodeId(1), 2)


def test_a_copy_of_a_directory_waits_for_the_lease_of_the_original() -> None:
    cluster = Cluster()
    cluster.register("storage-1", incarnation=5, directory="1:10")
    copy = {"incarnation": 6, "pid": 99, "endpoints": ("tcp://elsewhere:1",), "directory": "1:11"}
    refused = cluster.register("storage-1", **copy)
    assert isinstance(refused, Rejection)
    assert refused.code is Code.BUSY
    assert "process 7 at tcp://storage-1:1" in refused.message
    assert "process 99 at tcp://elsewhere:1" in refused.message
    assert isinstance(cluster.beat(1, incarnation=5), HeartbeatAck), "the original goes on"
    cluster.pass_time(LEASE)
    assert cluster.register("storage-1", **copy) == registered(NodeId(1), 6)


def test_an_empty_directory_with_the_same_pid_is_another_process() -> None:
    """As in a container that was made again: what the former process sent may still arrive, and its numbers were higher."""
    cluster = Cluster()
    fields = {"directory": "1:10", "pid": 1, "incarnation": 0}
    assert cluster.register("storage-1", **fields) == registered(NodeId(1))
    assert cluster.register("storage-1", **fields) == registered(NodeId(1)), "the answer was lost"
    assert isinstance(cluster.beat(1), HeartbeatAck)
    refused = cluster.register("storage-1", **fields)
    assert isinstance(refused, Rejection)
    assert refused.code is Code.BUSY
    cluster.pass_time(LEASE)
    assert cluster.register("storage-1", **fields) == registered(NodeId(1), 2)
    assert cluster.register("storage-1", **fields) == registered(NodeId(1), 2)


def test_the_same_directory_proves_that_the_former_process_has_ended() -> None:
    """Whoever has it has its lock; on another host, the same number is another directory."""
    cluster = Cluster()
    cluster.register("storage-1", incarnation=5, directory="1:10")
    assert cluster.register("storage-1", incarnation=6, pid=8, directory="1:10") == registered(NodeId(1), 6)
    # One that could not write down how often it was started counts as before.
    assert cluster.register("storage-1", incarnation=6, pid=9, directory="1:10") == registered(NodeId(1), 7)
    refused = cluster.register("storage-1", incarnation=8, host="h2", pid=8, directory="1:10")
    assert isinstance(refused, Rejection)
    assert refused.code is Code.BUSY


# --- generations ---------------------------------------------------------------------------------------------------------


def first_target(cluster: Cluster) -> TargetId:
    """Of storage-1."""
    return next(slot.target for slot in cluster.routing.chains[1].slots if slot.node == 1)  # type: ignore[index]


def generation(number: int, letter: str = "a") -> Generation:
    return Generation(number, letter.encode() * 8)


def remembered(answer: object) -> dict[TargetId, Generation]:
    assert isinstance(answer, RegistrationAck), answer
    return {each.target: each.generation for each in answer.generations}


def form_with_generations() -> tuple[Cluster, TargetId]:
    """storage-1 has reported its target complete, in generation 1."""
    cluster = Cluster()
    cluster.form()
    reports = [msgspec.structs.replace(report, generation=generation(1)) for report in cluster.reports(NodeId(1))]
    assert isinstance(cluster.beat(1, reports), HeartbeatAck)
    return cluster, first_target(cluster)


def claim(target: TargetId, *written: Generation) -> dict[str, object]:
    return {"targets": (target,), "claims": (TargetClaim(target, written),)}


def test_a_target_goes_on_in_the_generation_its_directory_has() -> None:
    cluster, target = form_with_generations()
    answer = cluster.register("storage-1", incarnation=2, **claim(target, generation(1), generation(2, "b")))
    assert remembered(answer)[target] == generation(2, "b")
    cluster.restart()
    # A start that had written its generation down and did not hear the answer is taken up by the next one.
    answer = cluster.register("storage-1", incarnation=3, **claim(target, generation(1), generation(2, "b"), generation(3, "c")))
    assert remembered(answer)[target] == generation(3, "c")


def test_an_old_copy_of_a_directory_changes_nothing_of_what_is_remembered() -> None:
    cluster, target = form_with_generations()
    cluster.register("storage-1", incarnation=2, **claim(target, generation(1), generation(2, "b")))
    old = claim(target, generation(1), generation(2, "x"))
    assert remembered(cluster.register("storage-1", incarnation=3, **old))[target] == generation(2, "b")
    # The right directory may come back.
    right = claim(target, generation(2, "b"), generation(3, "c"))
    assert remembered(cluster.register("storage-1", incarnation=4, **right))[target] == generation(3, "c")


def test_a_directory_that_does_not_know_how_far_it_is_changes_nothing() -> None:
    cluster, target = form_with_generations()
    assert remembered(cluster.register("storage-1", incarnation=2, **claim(target)))[target] == generation(1)


def test_a_target_that_is_complete_again_begins_the_generation_it_has() -> None:
    """It was filled by its chain: what is remembered is stored before the answer, and by the next manager too."""
    cluster, target = form_with_generations()
    found = cluster.reports(NodeId(1))
    reports = [msgspec.structs.replace(report, generation=generation(1, "x")) for report in found]
    assert isinstance(cluster.beat(1, reports), HeartbeatAck)
    cluster.restart()
    assert remembered(cluster.register("storage-1", incarnation=2, **claim(target)))[target] == generation(1, "x")


def test_nobody_begins_generations_of_other_nodes_targets() -> None:
    cluster, target = form_with_generations()
    cluster.register("storage-2", incarnation=2, claims=(TargetClaim(target, (generation(1), generation(9))),))
    assert remembered(cluster.register("storage-1", incarnation=2, **claim(target)))[target] == generation(1)


def test_a_disk_of_another_node_is_noticed() -> None:
    cluster = Cluster()
    cluster.form()
    theirs = next(slot.target for slot in cluster.routing.chains[1].slots if slot.node == 2)  # type: ignore[index]
    answer = cluster.register("storage-1", incarnation=2, targets=(theirs,))
    assert isinstance(answer, Rejection)
    assert f"has data of target {theirs}, but it belongs to node 'storage-2'" in answer.message


# --- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_runs_out_later_for_the_manager_than_for_the_node() -> None:
    cluster = Cluster()
    cluster.form()
    granted_at = cluster.now
    answer = cluster.beat(1)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == CONFIG.lease_ns
    cluster.pass_time(CONFIG.lease_ns, beating=[2, 3])
    assert cluster.routing.nodes[NodeId(1)].alive, "the node may have sent its heartbeat just now and clocks may drift"
    cluster.pass_time(granted_at + LEASE + CONFIG.heartbeat_ns - cluster.now, beating=[2, 3])
    assert not cluster.routing.nodes[NodeId(1)].alive
    assert cluster.routing.nodes[NodeId(2)].alive
    assert cluster.manager.lease_left_ns(cluster.now, NodeId(1)) < 0 < cluster.manager.lease_left_ns(cluster.now, NodeId(2))
    cluster.beat(1)
    assert cluster.routing.nodes[NodeId(1)].alive


def test_a_leaving_node_is_gone_at_once() -> None:
    cluster = Cluster()
    cluster.form()
    answer = cluster.beat(3, leaving=True)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == 0
    assert not cluster.routing.nodes[NodeId(3)].alive
    cluster.register("storage-3", incarnation=2)
    assert cluster.routing.nodes[NodeId(3)].alive


def test_heartbeats_of_strangers_and_of_the_dead() -> None:
    cluster = Cluster()
    cluster.register("storage-1", incarnation=4)
    for node, incarnation, code in ((9, 4, Code.UNKNOWN_NODE), (1, 3, Code.OLD_INCARNATION), (1, 5, Code.UNKNOWN_NODE)):
        answer = cluster.beat(node, incarnation=incarnation)
        assert isinstance(answer, Rejection)
        assert answer.code is code


def test_an_older_heartbeat_is_answered_and_changes_nothing() -> None:
    cluster = Cluster()
    cluster.form()
    target = cluster.reports(NodeId(1))[0]
    cluster.beat(1, [target], seq=10)
    late = TargetReport(target.target, LocalState.OFFLINE, 1)
    expiry = cluster.manager.lease_left_ns(cluster.now, NodeId(1))
    cluster.now += SECOND
    answer = cluster.beat(1, [late], seq=9)
    assert isinstance(answer, HeartbeatAck)
    assert (answer.seq, answer.lease_ns) == (9, 0), "what is granted must be counted, and this one is not"
    assert cluster.manager.lease_left_ns(cluster.now, NodeId(1)) == expiry - SECOND
    again = cluster.beat(1, [late], seq=10)
    assert isinstance(again, HeartbeatAck)
    assert again.lease_ns == CONFIG.lease_ns, "the answer was lost and the request is repeated"
    assert cluster.manager.lease_left_ns(cluster.now, NodeId(1)) > expiry - SECOND
    status = {target.slot.target: target.local for target in cluster.manager.target_statuses(cluster.now)}
    assert status[target.target] is LocalState.UPTODATE


def test_a_report_about_another_version_of_the_chain_is_ignored() -> None:
    cluster = Cluster()
    cluster.form()
    target = cluster.reports(NodeId(1))[0].target
    for version in (0, 2):
        cluster.beat(1, [TargetReport(target, LocalState.OFFLINE, version)])
    assert {status.local for status in cluster.manager.target_statuses(cluster.now)} == {None}


def test_leases_of_a_former_manager_are_respected() -> None:
    """The new one does not know when they were granted: it waits for as long as they can possibly run."""
    cluster = Cluster(msgspec.structs.replace(CONFIG, reconfigure=True))
    cluster.form()
    cluster.restart()
    cluster.pass_time(CONFIG.lease_ns, beating=[2, 3])
    assert cluster.routing.nodes[NodeId(1)].alive
    assert cluster.states() == {(SERVING,) * 3}
    cluster.pass_time(CONFIG.lease_ns, beating=[2, 3])
    assert not cluster.routing.nodes[NodeId(1)].alive
    assert cluster.states() == {(SERVING, SERVING, OFFLINE)}


# --- chains ------------------------------------------------------------------------------------------------------------


def test_without_reconfiguration_chains_stay_as_they_are() -> None:
    cluster = Cluster()
    cluster.form()
    cluster.pass_time(2 * LEASE)
    assert cluster.states() == {(SERVING,) * 3}
    assert not any(node.alive for node in cluster.routing.nodes.values())


def reconfiguring() -> Cluster:
    cluster = Cluster(msgspec.structs.replace(CONFIG, reconfigure=True))
    cluster.form()
    for node in (1, 2, 3):
        cluster.beat(node)
    return cluster


def test_a_dead_node_is_taken_out_and_comes_back_through_syncing() -> None:
    cluster = reconfiguring()
    cluster.pass_time(LEASE + SECOND, beating=[2, 3])
    assert cluster.states() == {(SERVING, SERVING, OFFLINE)}
    cluster.register("storage-1", incarnation=2)
    cluster.seqs[NodeId(1)] = 0
    cluster.beat(1, incarnation=2)
    assert cluster.states() == {(SERVING, SERVING, SYNCING)}
    cluster.beat(1, cluster.reports(NodeId(1), LocalState.UPTODATE), incarnation=2)
    assert cluster.states() == {(SERVING, SERVING, SERVING)}


def test_who_begins_to_serve_is_born_with_the_chain_that_says_so() -> None:
    """Also when the heartbeat that says that it is complete gets no lease, because its node lost something else just now."""
    cluster = Cluster(msgspec.structs.replace(CONFIG, reconfigure=True))
    cluster.form()
    cluster.pass_time(LEASE + SECOND, beating=[2, 3])
    cluster.beat(1)
    assert cluster.states() == {(SERVING, SERVING, SYNCING)}
    target = first_target(cluster)
    assert target not in cluster.stored.born
    complete, other = cluster.reports(NodeId(1), LocalState.UPTODATE)
    cluster.restart()  # the next manager presumes that a change was decided which the node has not heard of
    answer = cluster.beat(1, [complete, other], routing_version=cluster.routing.version - 1)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == 0
    assert cluster.states() == {(SERVING, SERVING, SERVING)}
    assert target in cluster.stored.born


def test_who_is_presumed_to_go_on_is_not_born_with_the_next_chain() -> None:
    """It may still be making its first store, which then is not one that has lost anything."""
    cluster = Cluster(msgspec.structs.replace(CONFIG, reconfigure=True))
    cluster.form()
    cluster.beat(2)
    cluster.beat(3, [])
    cluster.beat(1, leaving=True)
    assert cluster.states() == {(SERVING, SERVING, OFFLINE)}
    assert {
        slot.target for chain in cluster.routing.chains.values() for slot in chain.slots if slot.node == 2
    } == cluster.stored.born


def test_all_die_and_any_one_restarts_the_chains() -> None:
    for survivor in (1, 2, 3):
        cluster = reconfiguring()
        cluster.pass_time(LEASE + SECOND)
        assert cluster.states() == {(LASTSRV,) * 3}
        cluster.beat(survivor, [])
        assert cluster.states() == {(LASTSRV,) * 3}, "alive is not enough: it has to say that its data is whole"
        cluster.beat(survivor)
        assert cluster.states() == {(SERVING, OFFLINE, OFFLINE)}
        assert all(chain.serving_slots()[0].node == survivor for chain in cluster.routing.chains.values())


def test_a_replaced_node_gets_no_lease_before_it_knows() -> None:
    """It was cut off, others went on without it. Its first heartbeat must not let it serve what it used to."""
    cluster = reconfiguring()
    before = cluster.routing.version
    cluster.pass_time(LEASE + SECOND, beating=[2, 3])
    answer = cluster.beat(1, [], routing_version=before)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == 0
    assert answer.routing_version > before
    answer = cluster.beat(1)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == CONFIG.lease_ns


def test_a_replaced_node_gets_no_lease_from_the_next_manager_either() -> None:
    cluster = reconfiguring()
    before = cluster.routing.version
    cluster.pass_time(LEASE + SECOND, beating=[2, 3])
    cluster.restart()
    answer = cluster.beat(1, [], routing_version=before)
    assert isinstance(answer, HeartbeatAck)
    assert answer.lease_ns == 0


def test_no_lease_while_the_replacement_is_only_being_stored() -> None:
    cluster = reconfiguring()
    cluster.pass_time(LEASE - CONFIG.heartbeat_ns, beating=[2, 3])
    cluster.now += CONFIG.heartbeat_ns
    effects = cluster.manager.step(cluster.now, ManagerTick())
    assert [type(effect) for effect in effects] == [Persist]
    [reply] = cluster.manager.step(cluster.now, ManagerRequest(1, Heartbeat(NodeId(1), 1, 99, (), cluster.routing.version)))
    assert isinstance(reply, Respond)
    assert isinstance(reply.answer, HeartbeatAck)
    assert reply.answer.lease_ns == 0


# --- tables, namespaces, configuration -----------------------------------------------------------------------------------


def test_tables_for_other_replica_counts() -> None:
    cluster = Cluster()
    early = cluster.ask(ManagerRequest(1, EnsureTable(2)))
    assert isinstance(early, Rejection)
    assert early.code is Code.BUSY
    assert "3 storage nodes are here, there are 0" in early.message
    cluster.form()
    assert cluster.ask(ManagerRequest(2, EnsureTable(0))) == 1
    assert cluster.ask(ManagerRequest(3, EnsureTable(3))) == 1
    assert cluster.ask(ManagerRequest(4, EnsureTable(1))) == 2
    assert cluster.ask(ManagerRequest(5, EnsureTable(1))) == 2
    slots = [slot for chain in cluster.routing.chains.values() for slot in chain.slots]
    assert len({slot.target for slot in slots}) == len(slots) == 12
    assert cluster.routing.tables[2].replicas == 1  # type: ignore[index]
    for replicas, words in ((4, "4 replicas need 4 storage nodes, there are 3"), (17, "must be 1 to 16")):
        answer = cluster.ask(ManagerRequest(6, EnsureTable(replicas)))
        assert isinstance(answer, Rejection)
        assert words in answer.message


def test_namespaces() -> None:
    cluster = Cluster()
    cluster.form()
    made = cluster.ask(ManagerRequest(1, OpenNamespace("dsv3", 4_500_000, 0)))
    assert made == CacheNamespace(1, "dsv3", 4_500_000, 3, 1, salt=made.salt)  # type: ignore[arg-type]
    assert cluster.ask(ManagerRequest(2, OpenNamespace("dsv3", 4_500_000, 3))) == made
    other = cluster.ask(ManagerRequest(3, OpenNamespace("cache", 1000, 1)))
    assert other == CacheNamespace(2, "cache", 1000, 1, 2, salt=other.salt)  # type: ignore[arg-type]
    for event, words in (
        (ManagerRequest(4, OpenNamespace("dsv3", 1, 0)), "has pages of 4500000 bytes, not 1"),
        (ManagerRequest(5, OpenNamespace("dsv3", 4_500_000, 2)), "has 3 replicas, not 2"),
    ):
        answer = cluster.ask(event)
        assert isinstance(answer, Rejection)
        assert answer.code is Code.NAMESPACE_DIFFERS
        assert words in answer.message
    answer = cluster.ask(ManagerRequest(6, OpenNamespace("new", 0, 0)))
    assert isinstance(answer, Rejection)
    assert answer.code is Code.INVALID
    cluster.restart()
    assert list_names(cluster) == ["cache", "dsv3"]


def list_names(cluster: Cluster, prefix: str = "", after: str = "") -> list[str]:
    page = cluster.manager.namespaces.list(ListNamespaces(prefix, after))
    assert not page.more
    return [namespace.name for namespace in page.namespaces]


def test_a_namespace_is_forgotten_when_it_is_deleted() -> None:
    cluster = Cluster()
    cluster.form()
    for number, name in enumerate(("a", "b"), 1):
        assert cluster.ask(ManagerRequest(number, OpenNamespace(name, 1000, 0))).id == number
    version = cluster.routing.version
    for token in (3, 4):  # as often as it is asked for
        assert cluster.ask(ManagerRequest(token, DeleteNamespace("a", 1))) == 1
        assert list_names(cluster) == ["b"]
        cluster.restart()
    assert (cluster.routing.version, cluster.routing.namespace_deletions) == (version + 1, 1)
    again = cluster.ask(ManagerRequest(9, OpenNamespace("a", 2000, 0)))
    assert (again.id, again.page_bytes, again.made_as) == (3, 2000, 3)
    assert cluster.ask(ManagerRequest(10, DeleteNamespace("a", 1))) == 1  # the old one, once more
    assert cluster.manager.namespaces.find(OpenNamespace("a", 2000, 0)) == again
    for unknown in (0, 4, 1 << 31):
        refused = cluster.ask(ManagerRequest(11, DeleteNamespace("a", unknown)))
        assert isinstance(refused, Rejection)
        assert refused.code is Code.NO_NAMESPACE


def test_a_namespace_that_is_cleared_gets_another_id() -> None:
    cluster = Cluster()
    cluster.form()
    made = cluster.ask(ManagerRequest(1, OpenNamespace("a", 1000, 0, NamespaceSettings(ttl_ms=5, owner="team"))))
    for token in (2, 3):  # the answer may be lost
        cleared = cluster.ask(ManagerRequest(token, ClearNamespace("a", made.id)))
        assert cleared == msgspec.structs.replace(made, id=2, first_id=1, salt=cleared.salt)
        cluster.restart()
    assert cluster.routing.namespace_deletions == 1
    assert cluster.ask(ManagerRequest(4, ClearNamespace("a", 2))).id == 3
    page = cluster.manager.namespaces.list(ListNamespaces())
    assert [(each.id, each.made_as) for each in page.namespaces] == [(3, 1)]
    assert page.next_id == 4
    # Whoever deletes it need not know how often it was cleared.
    assert cluster.ask(ManagerRequest(5, DeleteNamespace("a", 2))) == 2
    assert list_names(cluster) == ["a"]
    assert cluster.ask(ManagerRequest(6, DeleteNamespace("a", 1))) == 1
    assert list_names(cluster) == []
    refused = cluster.ask(ManagerRequest(7, ClearNamespace("b", 1)))
    assert (refused.code, refused.message) == (Code.NO_NAMESPACE, "there is no such namespace: 'b'")  # type: ignore[union-attr]


def test_an_id_that_is_given_out_again_comes_with_another_salt() -> None:
    cluster = Cluster()
    cluster.form()
    copy = msgspec.convert(msgspec.to_builtins(cluster.stored), State)
    salts = set()
    for term in range(3):
        made = cluster.ask(ManagerRequest(1, OpenNamespace("a", 1000, 0)))
        cleared = cluster.ask(ManagerRequest(2, ClearNamespace("a", made.id)))
        assert (made.id, cleared.id) == (1, 2)
        salts |= {made.salt, cleared.salt}
        state = msgspec.convert(msgspec.to_builtins(copy), State)
        cluster.stored = msgspec.convert(msgspec.to_builtins(copy), State)
        cluster.manager = Manager(cluster.now, cluster.config, state, b"term %d" % term)
    assert len(salts) == 6
    assert {len(salt) for salt in salts} == {PAGE_SALT_BYTES}


def test_settings_are_changed_one_by_one() -> None:
    cluster = Cluster()
    cluster.form()
    cluster.ask(ManagerRequest(1, OpenNamespace("a", 1000, 0, NamespaceSettings(budget_bytes=5000))))
    wanted = NamespaceSettings(ttl_ms=60_000, pin_bytes=2000, owner="team")
    for token in (2, 3):
        changed = cluster.ask(ManagerRequest(token, SetNamespace("a", wanted)))
        assert (changed.budget_bytes, changed.ttl_ms, changed.pin_bytes, changed.owner) == (5000, 60_000, 2000, "team")
        assert cluster.routing.namespaces_version == 2  # made, set
        cluster.restart()
    changed = cluster.ask(ManagerRequest(4, SetNamespace("a", NamespaceSettings(budget_bytes=0, ttl_ms=0, owner=""))))
    assert (changed.budget_bytes, changed.ttl_ms, changed.pin_bytes, changed.owner) == (0, 0, 2000, "")
    # One that is opened again keeps its own.
    assert cluster.ask(ManagerRequest(5, OpenNamespace("a", 1000, 0, NamespaceSettings(budget_bytes=9000)))) == changed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (NamespaceSettings(budget_bytes=999), "budget_bytes is 999, must be 1000 (one page) to"),
        (NamespaceSettings(budget_bytes=1 << 61), "budget_bytes is"),
        (NamespaceSettings(budget_bytes=5000, pin_bytes=5001), "pin_bytes is 5001, must be at most the budget of 5000"),
        (NamespaceSettings(pin_bytes=1 << 61), "pin_bytes is"),
        (NamespaceSettings(ttl_ms=1 << 50), "ttl_ms is"),
        (NamespaceSettings(owner="x" * 256), "owner has 256 bytes"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: NamespaceSettings, words: str) -> None:
    cluster = Cluster()
    cluster.form()
    there = cluster.ask(ManagerRequest(1, OpenNamespace("there", 1000, 0)))
    for request in (OpenNamespace("new", 1000, 0, settings), SetNamespace("there", settings)):
        refused = cluster.ask(ManagerRequest(2, request))
        assert isinstance(refused, Rejection)
        assert (refused.code, words in refused.message) == (Code.INVALID, True), refused.message
    assert list_names(cluster) == ["there"]
    assert cluster.manager.namespaces.find(OpenNamespace("there", 1000, 0)) == there


def test_a_budget_may_not_fall_below_what_pins_may_hold() -> None:
    cluster = Cluster()
    cluster.form()
    cluster.ask(ManagerRequest(1, OpenNamespace("a", 1000, 0, NamespaceSettings(budget_bytes=5000, pin_bytes=4000))))
    refused = cluster.ask(ManagerRequest(2, SetNamespace("a", NamespaceSettings(budget_bytes=3000))))
    assert "pin_bytes is 4000, must be at most the budget of 3000" in refused.message  # type: ignore[union-attr]
    both = NamespaceSettings(budget_bytes=3000, pin_bytes=3000)
    assert cluster.ask(ManagerRequest(3, SetNamespace("a", both))).pin_bytes == 3000


def test_an_id_that_is_not_stored_yet_is_not_said_to_be_given_out() -> None:
    """Else whoever reads the list took it for one that was deleted."""
    cluster = Cluster()
    cluster.form()
    cluster.ask(ManagerRequest(1, OpenNamespace("a", 1000, 0)))
    [_] = cluster.manager.step(cluster.now, ManagerRequest(2, OpenNamespace("b", 1000, 0)))
    page = cluster.manager.namespaces.list(ListNamespaces())
    assert ([each.id for each in page.namespaces], page.next_id, page.version) == ([1], 2, 1)
    cluster.manager.step(cluster.now, Persisted())
    page = cluster.manager.namespaces.list(ListNamespaces())
    assert ([each.id for each in page.namespaces], page.next_id, page.version) == ([1, 2], 3, 2)
    assert cluster.manager.published.namespaces_version == 2


def test_namespaces_are_listed_by_name_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.form()
    for name in ("m/2", "m/1", "n", "m", "m/3", "a"):
        cluster.ask(ManagerRequest(1, OpenNamespace(name, 1000, 0)))
    assert list_names(cluster) == ["a", "m", "m/1", "m/2", "m/3", "n"]
    assert list_names(cluster, "m/") == ["m/1", "m/2", "m/3"]
    assert list_names(cluster, "m/", "m/1") == ["m/2", "m/3"]
    assert list_names(cluster, "m", "m/3") == list_names(cluster, "x") == list_names(cluster, "", "n") == []
    page = cluster.manager.namespaces.list(ListNamespaces("m", "m", limit=2))
    assert ([each.name for each in page.namespaces], page.more) == (["m/1", "m/2"], True)
    monkeypatch.setattr("fs3.core.membership.namespaces.namespaces_per_page_max", 4)
    assert len(cluster.manager.namespaces.list(ListNamespaces(limit=100)).namespaces) == 4


def test_there_is_a_most_of_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.form()
    monkeypatch.setattr("fs3.core.membership.namespaces.namespaces_max", 2)
    for name in ("a", "b"):
        cluster.ask(ManagerRequest(1, OpenNamespace(name, 1000, 0)))
    answer = cluster.ask(ManagerRequest(1, OpenNamespace("c", 1000, 0)))
    assert isinstance(answer, Rejection)
    assert (answer.code, "delete those" in answer.message) == (Code.TOO_LARGE, True)
    cluster.ask(ManagerRequest(1, DeleteNamespace("a", 1)))
    assert cluster.ask(ManagerRequest(1, OpenNamespace("c", 1000, 0))).id == 3
    monkeypatch.setattr("fs3.core.membership.namespaces.NAMESPACE_IDS_END", 4)
    cluster.ask(ManagerRequest(1, DeleteNamespace("b", 2)))
    assert "all there are" in cluster.ask(ManagerRequest(1, ClearNamespace("c", 3))).message  # type: ignore[union-attr]
    answer = cluster.ask(ManagerRequest(1, OpenNamespace("d", 1000, 0)))
    assert isinstance(answer, Rejection)
    assert "has given out 3 ids of namespaces" in answer.message


def test_configuration_versions() -> None:
    cluster = Cluster()
    cluster.form()
    assert cluster.ask(ManagerRequest(1, SetConfig(Role.STORAGE, "a = 1", 0))) == 1
    assert cluster.ask(ManagerRequest(2, SetConfig(Role.META, "b = 1", 0))) == 2
    assert cluster.ask(ManagerRequest(3, SetConfig(Role.STORAGE, "a = 1", 0))) == 1, "the same again is no new version"
    stale = cluster.ask(ManagerRequest(4, SetConfig(Role.STORAGE, "a = 2", 7)))
    assert isinstance(stale, Rejection)
    assert stale.code is Code.STALE
    assert cluster.ask(ManagerRequest(5, SetConfig(Role.STORAGE, "a = 2", 1))) == 3
    ack = cluster.beat(1)
    assert isinstance(ack, HeartbeatAck)
    assert ack.config_version == 3
    assert cluster.routing.version == 3, "configuration is no routing"


def test_routing_that_would_not_fit_into_a_stream_is_refused() -> None:
    cluster = Cluster(MgmtdConfig(storage_nodes=1, replicas=1, targets_per_node=256))
    cluster.register("storage-1")
    for index in range(2, 1000):
        last = cluster.register(f"storage-{index}", endpoints=("tcp://" + "x" * 500,) * 8)
        if isinstance(last, Rejection):
            break
    assert isinstance(last, Rejection)
    assert last.code is Code.TOO_LARGE
    assert "routing info would have" in last.message


# --- durability ----------------------------------------------------------------------------------------------------------


def test_nothing_is_shown_or_answered_before_it_is_stored_and_what_waits_is_stored_together() -> None:
    manager = Cluster().manager
    [first] = manager.step(0, ManagerRequest(1, RegisterNode("a", Role.STORAGE, b"", 1, (), "")))
    assert isinstance(first, Persist)
    assert manager.step(0, ManagerRequest(2, RegisterNode("b", Role.META, b"", 1, (), ""))) == []
    assert manager.step(0, ManagerRequest(3, SetConfig(Role.META, "x", 0))) == []
    assert manager.published.version == 0
    assert manager.role_config(Role.META).version == 0
    published, answered, second = manager.step(0, Persisted())
    assert isinstance(published, Publish)
    assert [node.name for node in published.delta.nodes] == ["a"]
    assert answered == Respond(1, registered(NodeId(1)))
    assert isinstance(second, Persist)
    assert (second.rows.counters.routing, second.rows.nodes[0].name, second.rows.configs[0].toml) == (2, "b", "x")
    effects = manager.step(0, Persisted())
    assert [type(effect) for effect in effects] == [Publish, Respond, Respond]
    assert manager.role_config(Role.META).version == 1


def test_a_question_about_what_is_being_stored_waits_for_it() -> None:
    cluster = Cluster()
    cluster.form()
    manager = cluster.manager
    [_] = manager.step(cluster.now, ManagerRequest(1, OpenNamespace("n", 10, 0)))
    assert manager.step(cluster.now, ManagerRequest(2, OpenNamespace("n", 10, 0))) == []
    assert [reply.token for reply in manager.step(cluster.now, Persisted()) if isinstance(reply, Respond)] == [1, 2]


def test_a_store_that_fails_is_tried_again() -> None:
    manager = Cluster().manager
    now = 1000 * SECOND
    [persist] = manager.step(now, ManagerRequest(1, RegisterNode("a", Role.META, b"", 1, (), "")))
    [failed] = manager.step(now, Persisted("disk full"))
    assert isinstance(failed, Respond)
    assert isinstance(failed.answer, Rejection)
    assert "disk full" in failed.answer.message
    assert manager.step(now, ManagerRequest(2, RegisterNode("b", Role.META, b"", 1, (), ""))) == []
    while not (effects := manager.step(now, ManagerTick())):
        now = manager.next_deadline()
    assert effects == [persist]
    effects = manager.step(now, Persisted())
    assert [type(effect) for effect in effects] == [Publish, Persist]
    assert [type(effect) for effect in manager.step(now, Persisted())] == [Publish, Respond]
    assert [node.name for node in manager.published.nodes.values()] == ["a", "b"]


def test_too_many_waiting_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.core.membership.ledger.manager_waiting_max", 2)
    manager = Cluster().manager
    for token in (1, 2):
        manager.step(0, ManagerRequest(token, RegisterNode(f"n{token}", Role.META, b"", 1, (), "")))
    [reply] = manager.step(0, ManagerRequest(3, RegisterNode("n3", Role.META, b"", 1, (), "")))
    assert isinstance(reply, Respond)
    assert isinstance(reply.answer, Rejection)
    assert reply.answer.code is Code.BUSY


# --- configuration of the manager itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cluster": ""}, "cluster: '' is not a name"),
        ({"storage_nodes": 0}, "storage_nodes: 0 is not between 1 and"),
        ({"replicas": 4}, "4 replicas need 4 storage nodes, storage_nodes is 3"),
        ({"heartbeat_ns": 2 * SECOND}, "too slow for a lease"),
        ({"drift_ns": 3 * SECOND}, "drift_ns: 3000000000 must be less than the lease"),
        ({"deltas_kept": -1}, "deltas_kept"),
        ({"targets_per_node": 1000}, "targets_per_node: 1000"),
    ],
)
def test_configurations_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        msgspec.structs.replace(MgmtdConfig(), **fields).check()


# --- wiped nodes, births -------------------------------------------------------------------------------------------------


def test_a_process_without_incarnation_is_given_one_and_the_answer_can_be_lost() -> None:
    cluster = Cluster()
    assert cluster.register("storage-1", incarnation=0) == registered(NodeId(1), 1)
    assert cluster.register("storage-1", incarnation=0) == registered(NodeId(1), 1)
    assert cluster.register("storage-1", incarnation=2) == registered(NodeId(1), 2)


def test_a_wiped_node_takes_its_place_once_the_former_process_serves_no_more() -> None:
    cluster = Cluster()
    cluster.register("storage-1", incarnation=4)
    answer = cluster.register("storage-1", incarnation=0, pid=99)
    assert isinstance(answer, Rejection)
    assert answer.code is Code.BUSY
    assert "process 7 at tcp://storage-1:1" in answer.message
    cluster.pass_time(LEASE)
    assert cluster.register("storage-1", incarnation=0, pid=99) == registered(NodeId(1), 5)
    ack = cluster.beat(1, incarnation=5)
    assert isinstance(ack, HeartbeatAck)


def test_after_a_takeover_a_wiped_node_waits_for_the_leases_the_former_manager_may_have_granted() -> None:
    cluster = Cluster()
    cluster.register("storage-1", incarnation=4)
    cluster.pass_time(2 * LEASE)
    cluster.restart()
    answer = cluster.register("storage-1", incarnation=0, pid=99)
    assert isinstance(answer, Rejection)
    assert answer.code is Code.BUSY


def test_a_target_is_born_with_its_first_complete_report_and_for_ever() -> None:
    cluster = reconfiguring()
    first = tuple(sorted(report.target for report in cluster.reports(NodeId(1))))
    assert cluster.stored.born == {slot.target for chain in cluster.routing.chains.values() for slot in chain.slots}
    cluster.restart()
    assert cluster.register("storage-1", incarnation=2) == registered(NodeId(1), 2, first)


def test_what_crashed_before_it_was_complete_is_not_born() -> None:
    cluster = Cluster()
    cluster.form()
    cluster.beat(1, cluster.reports(NodeId(1), LocalState.ONLINE))
    assert not cluster.stored.born
    assert cluster.register("storage-1", incarnation=2) == registered(NodeId(1), 2, ())


def test_the_lease_of_a_birth_is_granted_after_the_birth_is_stored() -> None:
    cluster = Cluster()
    cluster.form()
    manager = cluster.manager
    reports = tuple(cluster.reports(NodeId(1)))
    [persist] = manager.step(cluster.now, ManagerRequest(1, Heartbeat(NodeId(1), 1, 1, reports, cluster.routing.version)))
    assert isinstance(persist, Persist)
    assert set(persist.rows.born) == {report.target for report in reports}
    assert manager.step(cluster.now, ManagerRequest(2, Heartbeat(NodeId(1), 1, 2, reports, cluster.routing.version))) == []
    answers = manager.step(cluster.now, Persisted())
    assert [reply.token for reply in answers if isinstance(reply, Respond)] == [1, 2]
    [third] = manager.step(cluster.now, ManagerRequest(3, Heartbeat(NodeId(1), 1, 3, reports, cluster.routing.version)))
    assert isinstance(third, Respond), "from then on heartbeats wait for nothing"


# --- what a node does not say ----------------------------------------------------------------------------------------------


def test_a_target_its_node_does_not_mention_for_a_lease_is_gone() -> None:
    cluster = reconfiguring()
    kept = {target.target for target in cluster.reports(NodeId(1))[:1]}

    def half(node: int) -> list[TargetReport]:
        return [report for report in cluster.reports(NodeId(node)) if report.target in kept]

    passed = 0
    while passed < CONFIG.lease_ns:
        cluster.beat(1, half(1))
        for node in (2, 3):
            cluster.beat(node)
        cluster.now += CONFIG.heartbeat_ns
        passed += CONFIG.heartbeat_ns
        assert cluster.states() == {(SERVING,) * 3}
        cluster.step(ManagerTick())
    cluster.now += CONFIG.heartbeat_ns
    cluster.beat(1, half(1))
    assert cluster.routing.nodes[NodeId(1)].alive
    assert sorted(tuple(slot.state for slot in chain.slots) for chain in cluster.routing.chains.values()) == [
        (SERVING, SERVING, SERVING),
        (SERVING, SERVING, OFFLINE),
    ]
    gone = [status for status in cluster.manager.target_statuses(cluster.now) if status.slot.state is OFFLINE]
    assert gone[0].reason == "the node does not mention it"


def test_one_that_is_mentioned_under_an_older_chain_version_is_only_unknown() -> None:
    """The node may go on serving it under that version, for as long as its lease runs."""
    cluster = reconfiguring()
    old = [TargetReport(report.target, LocalState.UPTODATE, 0) for report in cluster.reports(NodeId(1))]
    for _ in range(2 * LEASE // CONFIG.heartbeat_ns):
        cluster.beat(1, old)
        for node in (2, 3):
            cluster.beat(node)
        cluster.now += CONFIG.heartbeat_ns
        cluster.step(ManagerTick())
    assert cluster.states() == {(SERVING,) * 3}


# --- handing over, sleeping, old stores --------------------------------------------------------------------------------------


def test_one_that_leaves_hears_the_version_in_which_it_was_replaced() -> None:
    cluster = reconfiguring()
    before = cluster.routing.version
    effects = cluster.manager.step(cluster.now, ManagerRequest(1, Heartbeat(NodeId(3), 1, 99, (), before, leaving=True)))
    assert [type(effect) for effect in effects] == [Persist]
    published, reply = cluster.manager.step(cluster.now, Persisted())
    assert isinstance(published, Publish)
    assert isinstance(reply, Respond)
    assert isinstance(reply.answer, HeartbeatAck)
    assert reply.answer.routing_version == published.delta.version == before + 1
    assert {chain.slots[-1].node for chain in published.delta.chains} == {3}
    assert {chain.slots[-1].state for chain in published.delta.chains} == {OFFLINE}
    late = cluster.beat(3, seq=100)
    assert isinstance(late, HeartbeatAck)
    assert late.lease_ns == 0, "whoever has left holds no lease before it registers again"


def test_a_manager_that_slept_blames_nobody_for_its_own_silence() -> None:
    cluster = reconfiguring()
    cluster.pass_time(SECOND, beating=[1, 2])
    cluster.now += 100 * LEASE
    cluster.step(ManagerTick())
    assert cluster.states() == {(SERVING,) * 3}
    assert all(node.alive for node in cluster.routing.nodes.values())
    cluster.pass_time(LEASE + CONFIG.heartbeat_ns, beating=[1, 2])
    assert [node.alive for node in cluster.routing.nodes.values()] == [True, True, False]


def test_a_store_that_is_older_than_the_cluster_decides_nothing() -> None:
    cluster = reconfiguring()
    answer = cluster.beat(1, routing_version=cluster.routing.version + 3)
    assert isinstance(answer, Rejection)
    assert answer.code is Code.STALE
    assert "the manager's store is older than the cluster" in answer.message


def test_a_takeover_freezes_nothing_and_takes_out_who_stays_silent() -> None:
    cluster = reconfiguring()
    cluster.restart()
    for node in (1, 2):
        answer = cluster.beat(node)
        assert isinstance(answer, HeartbeatAck)
        assert answer.lease_ns == CONFIG.lease_ns, "a node that is up to date goes on with its first heartbeat"
    cluster.pass_time(LEASE + CONFIG.heartbeat_ns, beating=[1, 2])
    assert cluster.states() == {(SERVING, SERVING, OFFLINE)}


def test_when_a_whole_cluster_starts_nobody_is_late_before_the_first_one_is_here() -> None:
    cluster = reconfiguring()
    cluster.restart()
    cluster.pass_time(10 * LEASE)
    assert cluster.states() == {(SERVING,) * 3}
    assert all(node.alive for node in cluster.routing.nodes.values())
    cluster.register("storage-2", incarnation=2)
    cluster.seqs[NodeId(2)] = 0
    for _ in range(LEASE // CONFIG.heartbeat_ns):
        cluster.beat(2, incarnation=2)
        cluster.now += CONFIG.heartbeat_ns
        cluster.step(ManagerTick())
    assert cluster.states() == {(SERVING,) * 3}
    cluster.now += CONFIG.heartbeat_ns
    cluster.beat(2, incarnation=2)
    cluster.step(ManagerTick())
    assert cluster.states() == {(SERVING, OFFLINE, OFFLINE)}
