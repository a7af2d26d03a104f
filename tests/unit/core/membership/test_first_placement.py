"""The first chains of a cluster go by the sizes of its disks: a manager, and nodes that tell them when they register."""

from __future__ import annotations

from collections import Counter

import msgspec

from fs3.base.status import Code
from fs3.base.units import GIB, TIB
from fs3.core.membership.events import ManagerRequest, Rejection
from fs3.model.cluster import DiskSpace, EnsureTable
from fs3.model.moves import MoveAction, MoveOverview
from tests.unit.core.membership.test_manager import CONFIG, Cluster
from tests.unit.core.membership.test_moves import Fleet, plan

SIX = msgspec.structs.replace(CONFIG, storage_nodes=6, targets_per_node=8, reconfigure=True)
SIZES = {1: TIB, 2: TIB, 3: TIB, 4: 2 * TIB, 5: 2 * TIB, 6: 3 * TIB}


def disk(size: int) -> tuple[DiskSpace, ...]:
    return (DiskSpace("/d", size, size),)


def counts(cluster: Cluster) -> dict[int, int]:
    used = Counter(slot.node for chain in cluster.routing.chains.values() for slot in chain.slots)
    return {int(node): count for node, count in used.items()}


class SizedFleet(Fleet):
    """Nodes with disks of different sizes."""

    def add(self, number: int, rack: str = "") -> None:
        self.register(f"storage-{number}", disks=self.disks_of(number))
        self.alive.add(number)
        self.stores[number] = set()

    def disks_of(self, node: int) -> tuple[DiskSpace, ...]:
        return (DiskSpace("/d", SIZES[node], SIZES[node] - self.used * len(self.stores.get(node, ()))),)


def test_a_new_cluster_needs_no_rebalance() -> None:
    fleet = SizedFleet(6, SIX)
    assert fleet.counts() == {1: 5, 2: 5, 3: 5, 4: 10, 5: 9, 6: 14}
    fleet.used = 20 * GIB
    fleet.turns(3)
    shares = fleet.overview().shares
    assert {share.node: share.capacity for share in shares} == SIZES
    assert fleet.ask_moves(plan(MoveAction.REBALANCE, is_dry_run=True)).moves == ()


def test_nodes_that_tell_no_disks_are_used_equally() -> None:
    cluster = Cluster(SIX)
    cluster.form(6)
    assert counts(cluster) == dict.fromkeys(range(1, 7), 8)
    cluster = Cluster(SIX)
    for number in range(1, 7):
        cluster.register(f"storage-{number}", disks=disk(SIZES[number]) if number > 3 else ())
    # Those of an older release are taken for typical ones.
    assert counts(cluster) == {1: 8, 2: 8, 3: 8, 4: 7, 5: 7, 6: 10}


def test_another_manager_hears_all_of_them_first() -> None:
    cluster = Cluster(SIX)
    for number in range(1, 6):
        cluster.register(f"storage-{number}", disks=disk(SIZES[number]))
    cluster.restart()
    cluster.register("storage-6", disks=disk(SIZES[6]))
    assert not cluster.routing.tables
    early = cluster.ask(ManagerRequest(cluster.next_token(), EnsureTable(3)))
    assert isinstance(early, Rejection)
    assert early.code is Code.BUSY
    assert early.message == "chains are made when all storage nodes have told this manager which disks they have"
    for number in range(1, 6):
        assert not cluster.routing.tables
        cluster.beat(number, (), disks=disk(SIZES[number]))
    assert counts(cluster) == {1: 5, 2: 5, 3: 5, 4: 10, 5: 9, 6: 14}


def test_disks_that_are_drained_do_not_count() -> None:
    cluster = Cluster(SIX)
    two = (DiskSpace("/a", TIB, TIB), DiskSpace("/b", 5 * TIB, 5 * TIB))
    for number in range(1, 7):
        cluster.register(f"storage-{number}", disks=two if number == 1 else disk(TIB))
    assert counts(cluster)[1] == 16, "in every chain"
    own = tuple(slot.target for chain in cluster.routing.chains.values() for slot in chain.slots if slot.node == 1)
    cluster.beat(1, (), disks=(msgspec.structs.replace(two[0], targets=own), two[1]))
    overview = cluster.ask(ManagerRequest(cluster.next_token(), plan(MoveAction.DRAIN_DISK, "storage-1", disk="/b")))
    assert isinstance(overview, MoveOverview)
    before = counts(cluster)
    cluster.ask(ManagerRequest(cluster.next_token(), EnsureTable(2)))
    assert counts(cluster)[1] - before[1] == 8
