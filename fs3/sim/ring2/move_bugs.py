"""What the planted bugs of moves exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership import balance
from fs3.core.membership.disk_drains import DiskDrains
from fs3.core.membership.move_requests import MoveRequests
from fs3.core.membership.moves import Moves
from fs3.model.chain import Chain
from fs3.model.cluster import DiskSpace
from fs3.model.domain import Domain
from fs3.model.moves import Move
from fs3.model.routing import Node
from fs3.services.storage.service import StorageService
from fs3.services.storage.target_keeper import TargetKeeper
from fs3.sim.ring2.service_bug import ServiceBug


def leaves_at_once(self: Moves, chain: Chain, move: Move) -> bool:
    """The leaver goes as soon as the joiner is a member."""
    return bool(move.joiner)


def shares_nothing(domain: Domain, company: Sequence[Domain]) -> int:
    """Where nodes stand is not looked at."""
    return 0


def refuses_no_loss(self: MoveRequests, node: Node, lost: Sequence[Chain]) -> None:
    """What only one node has is given up when that is forgotten."""
    for chain in lost:
        self._accept_loss(0, chain, node)


def is_always_spare(self: Moves, chain: Chain, move: Move) -> bool:
    """What is damaged on the others is not looked at."""
    return True


def finishes_later(self: Moves, now: int, number: ChainId) -> None:
    """Moves are looked at now and then only."""


def deletes_nothing(self: TargetKeeper, targets: Sequence[int]) -> None:
    """What is in no chain any more stays on its disk."""


def says_empty_at_once(self: DiskDrains, node: NodeId, disk: DiskSpace, own: Collection[TargetId]) -> bool:
    """A disk is empty as soon as its node puts nothing there any more."""
    return disk.is_drained


def hears_of_no_disk(self: StorageService, paths: Sequence[str]) -> None:
    """A node puts targets on disks that are to hold nothing."""


def says_empty_unheard(self: DiskDrains, node: NodeId, disk: DiskSpace, own: Collection[TargetId]) -> bool:
    """That nothing is there is enough; what the node will put there is not asked."""
    return not disk.targets


MOVE_BUGS: dict[str, ServiceBug] = {
    "leaves_before_joined": ServiceBug(
        "a move drops the old replica before the new one serves",
        [(Moves, "may_leave", leaves_at_once)],
        scene="drain_nodes_under_writes",
    ),
    "ignores_zones": ServiceBug(
        "a move puts two replicas into one failure domain",
        [(balance, "count_shared", shares_nothing)],
        scene="moves_keep_zones_apart",
    ),
    "forgets_last_copy": ServiceBug(
        "a node that has the only copy is forgotten without a word",
        [(MoveRequests, "_refuse_loss", refuses_no_loss)],
        scene="forget_the_last_copy",
    ),
    "retires_the_good_copy": ServiceBug(
        "a target that has moved is given up although only it has the good copy of a chunk",
        [(Moves, "_is_spare", is_always_spare)],
        scene="a_good_copy_is_away_while_it_moves",
    ),
    "leaver_comes_back": ServiceBug(
        "a target that has left because another one took its place is brought up to date, and leaves again and again",
        [(Moves, "finish", finishes_later)],
        scene="drain_nodes_under_writes",
    ),
    "empty_too_early": ServiceBug(
        "a disk that is drained is said to be empty while targets are on it",
        [(DiskDrains, "_is_empty", says_empty_at_once)],
        scene="a_drained_disk_is_taken_out",
    ),
    "fills_a_drained_disk": ServiceBug(
        "a node puts new targets on a disk that is drained, and it is said to be empty in between",
        [(StorageService, "on_drained_disks", hears_of_no_disk), (DiskDrains, "_is_empty", says_empty_unheard)],
        scene="a_drained_disk_is_taken_out",
    ),
    "keeps_retired": ServiceBug(
        "the data of a target that has moved away is not deleted",
        [(TargetKeeper, "on_retired", deletes_nothing)],
        scene="drain_nodes_under_writes",
    ),
}
