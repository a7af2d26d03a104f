"""Disks of a node that are to hold nothing: a manager, and nodes that choose themselves where they put a target."""

from __future__ import annotations

import msgspec

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import GIB
from fs3.base.version import THIS_RELEASE
from fs3.core.membership.events import ManagerRequest
from fs3.model.cluster import DiskSpace, EnsureTable
from fs3.model.moves import DiskDrain, MoveAction, SetMoves
from tests.unit.core.membership.test_moves import CONFIG, Fleet, plan

A, B = "/disk/a", "/disk/b"
DRAIN, UNDRAIN = MoveAction.DRAIN_DISK, MoveAction.UNDRAIN_DISK
FEW = msgspec.structs.replace(CONFIG, targets_per_node=3)


class DiskFleet(Fleet):
    """Every node has two disks, and puts a target where it has fewest."""

    def __init__(self, count: int = 4) -> None:
        self.homes: dict[int, dict[TargetId, str]] = {}
        self.drained: dict[int, tuple[str, ...]] = {}
        """As each node has heard."""
        self.deaf: set[int] = set()
        """Nodes that do not take in what is drained."""
        self.is_older = False
        """Nodes do not say what is on their disks."""
        super().__init__(count, FEW)

    def disks_of(self, node: int) -> tuple[DiskSpace, ...]:
        homes, drained = self.homes.setdefault(node, {}), self.drained.get(node, ())
        for target in sorted(self.stores[node] - homes.keys()):
            usable = [path for path in (A, B) if path not in drained] or [A, B]
            homes[target] = min(usable, key=list(homes.values()).count)
        if self.is_older:
            return tuple(DiskSpace(path, 500 * GIB, 250 * GIB) for path in (A, B))
        here = {path: tuple(sorted(target for target in self.stores[node] if homes[target] == path)) for path in (A, B)}
        return tuple(DiskSpace(path, 500 * GIB, 250 * GIB, 1, here[path], path in drained) for path in (A, B))

    def on_drained_disks(self, node: int, paths: tuple[str, ...]) -> None:
        if node not in self.deaf:
            self.drained[node] = paths

    def targets_on(self, node: int, path: str) -> list[TargetId]:
        return [target for target in self.targets_of(node) if self.homes[node][target] == path]

    def drain(self, node: int, path: str) -> None:
        self.ask_moves(plan(DRAIN, f"storage-{node}", disk=path))

    def is_empty(self, node: int, path: str) -> bool:
        return any(disk.is_empty for disk in self.overview().drained_disks if (disk.node, disk.path) == (node, path))


def test_a_drained_disk_ends_with_nothing_and_the_others_of_its_node_stay_in_use() -> None:
    fleet = DiskFleet()
    gone, stays = fleet.targets_on(2, A), fleet.targets_on(2, B)
    assert len(gone) == 2
    planned = fleet.ask_moves(plan(DRAIN, "storage-2", disk=A, is_dry_run=True))
    assert sorted(each.move.leaver for each in planned.moves) == gone
    assert fleet.is_settled()
    assert not fleet.overview().drained_disks
    fleet.drain(2, A)
    fleet.drain(2, A)
    assert fleet.overview().drained_disks == (DiskDrain(2, A, 2, 2 * GIB, is_known=True),)  # type: ignore[arg-type]
    fleet.until(lambda: fleet.is_empty(2, A))
    assert fleet.targets_of(2) == stays
    assert not fleet.stores[2] & set(gone), "what it had there is deleted"
    fleet.turns(30)
    assert fleet.is_settled()


def test_what_a_node_is_given_afterwards_is_on_other_disks() -> None:
    fleet = DiskFleet(5)
    fleet.drain(2, A)
    fleet.until(lambda: fleet.is_empty(2, A))
    fleet.ask_moves(plan(MoveAction.REPLACE, "storage-3", "storage-2"))
    fleet.until(lambda: fleet.counts()[3] == 0)
    assert len(fleet.targets_on(2, B)) > 2
    assert not fleet.targets_on(2, A)
    assert fleet.is_empty(2, A)


def test_a_disk_is_not_empty_before_its_node_puts_nothing_there() -> None:
    """It was given a target before it heard of the drain: that one moves away as well."""
    fleet = DiskFleet(5)
    fleet.deaf = {2}
    fleet.drain(2, A)
    fleet.until(lambda: not fleet.targets_on(2, A))
    fleet.turns(10)
    assert not fleet.is_empty(2, A)
    late = TargetId(fleet.stored.counters.target + 1)
    fleet.homes[2][late] = A
    fleet.ask_moves(plan(MoveAction.REPLACE, "storage-3", "storage-2"))
    fleet.until(lambda: late in fleet.targets_of(2))
    fleet.deaf.clear()
    fleet.until(lambda: fleet.is_empty(2, A))
    assert late not in fleet.targets_of(2)


def test_what_was_said_of_a_disk_before_its_drain_was_taken_back_does_not_count() -> None:
    fleet = DiskFleet()
    fleet.drain(2, A)
    fleet.until(lambda: fleet.is_empty(2, A))
    fleet.ask_moves(plan(UNDRAIN, "storage-2", disk=A))
    assert not fleet.overview().drained_disks
    fleet.drain(2, A)
    assert not fleet.is_empty(2, A), "the node may have heard that it may be used"
    fleet.turns(2)
    assert fleet.is_empty(2, A)
    fleet.ask_moves(plan(UNDRAIN, "storage-2", disk=A))
    fleet.beat(2, (), disks=fleet.disks_of(2))  # sent before it heard
    fleet.drain(2, A)
    assert not fleet.is_empty(2, A)


def test_moves_that_were_not_begun_are_dropped_with_the_drain() -> None:
    fleet = DiskFleet()
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.drain(2, A)
    fleet.turns(2)
    assert len(fleet.overview().moves) == 2
    assert fleet.ask_moves(plan(UNDRAIN, "storage-2", disk=A)).moves == ()
    fleet.turns(4)
    assert fleet.overview().moves == ()


def test_another_manager_goes_on_with_a_drained_disk() -> None:
    fleet = DiskFleet()
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.drain(2, A)
    fleet.restart()
    assert fleet.overview().drained_disks == (DiskDrain(2, A),)  # type: ignore[arg-type]
    fleet.ask_moves(SetMoves(is_paused=False))
    fleet.until(lambda: fleet.is_empty(2, A))


def test_a_disk_of_a_node_that_is_down_is_emptied_from_the_other_replicas() -> None:
    fleet = DiskFleet()
    gone = fleet.targets_on(2, A)
    fleet.kill(2)
    fleet.drain(2, A)
    assert not fleet.is_empty(2, A)
    fleet.until(lambda: fleet.is_empty(2, A))
    assert not set(gone) & set(fleet.targets_of(2))


def test_a_disk_that_has_no_room_elsewhere_is_not_drained() -> None:
    fleet = DiskFleet(3)
    refusal = fleet.refused(DRAIN, "storage-2", disk=A)
    assert refusal.code is Code.NO_SPACE
    assert refusal.message == (
        "2 of 2 targets of node 'storage-2', 2.0 GiB, have no other place: chains have 3 replicas on as many nodes, and 2 other "
        "nodes take targets, with room for 949.7 GiB"
    )
    assert not fleet.overview().drained_disks
    fleet.add(4)
    fleet.turns(3)
    fleet.drain(2, A)
    fleet.until(lambda: fleet.is_empty(2, A))


def test_a_node_without_another_disk_is_given_nothing_and_its_room_does_not_count() -> None:
    fleet = DiskFleet(6)
    room = {share.node: share.capacity for share in fleet.overview().shares}
    fleet.drain(2, A)
    share = next(share for share in fleet.overview().shares if share.node == 2)
    assert (share.used, share.capacity) == (3 * GIB, 251 * GIB)
    fleet.drain(2, B)
    fleet.until(lambda: fleet.is_empty(2, A) and fleet.is_empty(2, B))
    assert not fleet.targets_of(2)
    refusal = fleet.refused(MoveAction.REPLACE, "storage-3", "storage-2")
    assert refusal.message == "node 'storage-2' takes no targets: all its disks are drained"
    fleet.ask_moves(plan(UNDRAIN, "storage-2", disk=B))
    fleet.ask_moves(plan(UNDRAIN, "storage-2", disk=A))
    assert {share.node: share.capacity for share in fleet.overview().shares}[2] == room[2] - 3 * GIB


def test_the_last_disk_of_a_node_is_not_empty_while_the_node_is_to_get_a_target() -> None:
    fleet = DiskFleet()
    fleet.ask_moves(SetMoves(is_paused=True))
    fleet.drain(2, A)
    fleet.drain(2, B)
    fleet.stores[2].clear()  # what it was given is not made yet
    fleet.beat(2, (), disks=fleet.disks_of(2))
    assert not fleet.is_empty(2, A)


def test_what_is_drained_goes_with_its_node() -> None:
    fleet = DiskFleet()
    fleet.drain(2, A)
    fleet.ask_moves(plan(MoveAction.DRAIN, "storage-2"))
    fleet.until(lambda: fleet.counts()[2] == 0)
    fleet.ask_moves(plan(MoveAction.REMOVE, "storage-2"))
    assert not fleet.overview().drained_disks
    assert not fleet.stored.drained_disks


def test_disks_that_are_not_there_are_named() -> None:
    fleet = DiskFleet()
    unknown = fleet.refused(DRAIN, "storage-2", disk="/disk/c")
    assert (unknown.code, unknown.message) == (
        Code.NOT_FOUND,
        "node 'storage-2' has no disk '/disk/c'; its disks are /disk/a, /disk/b",
    )
    undrained = fleet.refused(UNDRAIN, "storage-2", disk=B)
    assert (undrained.code, undrained.message) == (Code.INVALID, "disk '/disk/b' of node 'storage-2' is not being drained")
    fleet.drain(2, A)
    undrained = fleet.refused(UNDRAIN, "storage-2", disk=B)
    assert undrained.message == "disk '/disk/b' of node 'storage-2' is not being drained; drained are /disk/a"
    fleet.restart()
    fleet.register("storage-5")
    silent = fleet.refused(DRAIN, "storage-5", disk=A)
    assert (silent.code, silent.message) == (Code.BUSY, "node 'storage-5' has not said yet which disks it has")


def test_a_node_of_an_older_release_says_what_to_do_instead() -> None:
    fleet = DiskFleet()
    fleet.is_older = True
    fleet.turns()
    refusal = fleet.refused(DRAIN, "storage-2", disk=A)
    assert refusal.code is Code.UNSUPPORTED
    assert refusal.message == "node 'storage-2' does not say which targets are on its disks: drain them by --target"
    fleet.beat(2, (), disks=fleet.disks_of(2), release=THIS_RELEASE)
    assert f"on its disks, it runs fs3 {THIS_RELEASE.software}: drain" in fleet.refused(DRAIN, "storage-2", disk=A).message


def test_a_table_is_made_without_nodes_whose_disks_are_all_drained() -> None:
    fleet = DiskFleet(5)
    for path in (A, B):
        fleet.drain(2, path)
    fleet.until(lambda: fleet.is_empty(2, A) and fleet.is_empty(2, B))
    table = fleet.ask(ManagerRequest(fleet.next_token(), EnsureTable(2)))
    chains = [fleet.stored.chains[chain] for chain in fleet.stored.tables[table].chains]
    assert {slot.node for chain in chains for slot in chain.slots} == {1, 3, 4, 5}
    assert not fleet.targets_of(2)
    fleet.turns(30)
    assert fleet.is_empty(2, A)
    assert fleet.is_empty(2, B)
