"""Which target should be on which node: destinations for those that have to move, and moves that make nodes equally full.

Intuition: a node is as full as its bytes are of its capacity. What has to leave a node goes to all others at once, so that none
of them carries the recovery; what is moved to even things out goes from the fullest to the emptiest.

Algorithm: `choose` weighs the nodes that may take a replica. First what a chain would share of failure domains there, which
decides; then how much traffic of moves the node has already, in proportion to its capacity; then how full it would be.
`plan_evacuation` counts the traffic of who reads (the last that serves, which brings the joiner up to date) before it chooses who
writes. `plan_even` takes the chain that brings a full node and an empty one closest together, again and again, and ends when the
fullest is within `even_percent` of the mean or nothing helps: every move goes from a node above the mean to one below, so there
are hardly more of them than there have to be.

Limits: sizes are those of the last heartbeats; whole targets move, so evenness ends at their size. Greedy, not optimal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.domains import count_shared
from fs3.model.domain import Domain

even_percent = 2
"""A node this much above the mean is even."""
full_percent = 95
"""No move makes a node fuller than this."""
_RECEIVERS = 8
"""The emptiest nodes that are looked at for one move."""


@dataclass(slots=True)
class NodeLoad:
    """One storage node."""

    id: NodeId
    domain: Domain
    capacity: int
    """Bytes that its targets could have together; 0: not known, and counted as what others have."""
    takes: bool = True
    """It may be given targets."""
    used: int = 0
    """Bytes, with those that are on their way to it and without those that leave."""
    traffic: int = 0
    """Bytes that moves read from it and write to it."""


@dataclass(frozen=True, slots=True)
class ChainLoad:
    """One chain."""

    id: ChainId
    members: tuple[tuple[TargetId, NodeId], ...]
    """In the order of the chain."""
    size: int
    """Bytes of each replica."""
    reader: NodeId | None = None
    """The node that would bring another target up to date."""


@dataclass(frozen=True, slots=True)
class MoveChoice:
    """A target, and the node that it should be on."""

    chain: ChainId
    leaver: TargetId
    source: NodeId
    destination: NodeId
    size: int


@dataclass(slots=True)
class Balance:
    """Nodes and chains as they are, and as choices make them."""

    nodes: dict[NodeId, NodeLoad]
    chains: dict[ChainId, ChainLoad]
    unplaced: list[ChainLoad] = field(default_factory=list)
    """Chains of an evacuation that no node can take."""

    def __post_init__(self) -> None:
        known = [node.capacity for node in self.nodes.values() if node.capacity]
        typical = sum(known) // len(known) if known else 0
        for node in self.nodes.values():
            node.capacity = node.capacity or typical
        for chain in self.chains.values():
            for _, number in chain.members:
                if (node := self.nodes.get(number)) is not None:  # type: ignore[assignment]
                    node.used += chain.size

    def fullness(self, node: NodeLoad, more: int = 0) -> float:
        """Of a node that gets so many bytes more. Without a known capacity: bytes."""
        return (node.used + more) / (node.capacity or 1)

    def can_take(self, node: NodeLoad, size: int) -> bool:
        """Whether there is room."""
        return node.takes and (not node.capacity or (node.used + size) * 100 <= node.capacity * full_percent)

    def choose(self, chain: ChainLoad, source: NodeId, among: Iterable[NodeId] = ()) -> NodeLoad | None:
        """The node that should get the replica a chain has on `source`. `among`: only these; empty: all."""
        only = set(among)
        here = {node for _, node in chain.members}
        company = [self.nodes[node].domain for node in here if node != source and node in self.nodes]
        found = [
            node
            for node in self.nodes.values()
            if node.id not in here and (not only or node.id in only) and self.can_take(node, chain.size)
        ]
        return min(
            found,
            key=lambda node: (
                count_shared(node.domain, company),
                (node.traffic + chain.size) / (node.capacity or 1),
                self.fullness(node, chain.size),
                node.id,
            ),
            default=None,
        )

    def take(self, chain: ChainLoad, leaver: TargetId, source: NodeId, destination: NodeLoad) -> MoveChoice:
        """Count a choice as carried out."""
        destination.used += chain.size
        destination.traffic += chain.size
        if source in self.nodes:
            self.nodes[source].used -= chain.size
        members = tuple((target, destination.id if target == leaver else node) for target, node in chain.members)
        self.chains[chain.id] = ChainLoad(chain.id, members, chain.size, chain.reader)
        return MoveChoice(chain.id, leaver, source, destination.id, chain.size)

    def plan_evacuation(self, source: NodeId, among: Iterable[NodeId] = ()) -> list[MoveChoice]:
        """Where everything that a node has should go. What no node can take is left in `unplaced`."""
        leaving = [(chain, target) for chain in self.chains.values() for target, node in chain.members if node == source]
        for chain, _ in leaving:
            if chain.reader is not None and (reader := self.nodes.get(chain.reader)) is not None:
                reader.traffic += chain.size
        choices = []
        # Large ones first: small ones fill the gaps.
        for chain, target in sorted(leaving, key=lambda each: (-each[0].size, each[0].id)):
            destination = self.choose(chain, source, among)
            if destination is None:
                self.unplaced.append(chain)
            else:
                choices.append(self.take(chain, target, source, destination))
        return choices

    def plan_apart(self, most: int) -> list[MoveChoice]:
        """Moves after which chains share fewer failure domains."""
        choices: list[MoveChoice] = []
        for chain in list(self.chains.values()):
            if len(choices) >= most:
                break
            target, source, shared = self._most_shared(chain)
            if not shared:
                continue
            destination = self.choose(chain, source)
            company = [self.nodes[node].domain for _, node in chain.members if node != source and node in self.nodes]
            if destination is not None and count_shared(destination.domain, company) < shared:
                choices.append(self.take(chain, target, source, destination))
        return choices

    def _most_shared(self, chain: ChainLoad) -> tuple[TargetId, NodeId, int]:
        shares = [
            (
                count_shared(
                    self.nodes[node].domain,
                    [self.nodes[other].domain for _, other in chain.members if other != node and other in self.nodes],
                ),
                target,
                node,
            )
            for target, node in chain.members
            if node in self.nodes
        ]
        shared, target, node = max(shares, default=(0, TargetId(0), NodeId(0)))
        return target, node, shared

    def plan_even(self, most: int) -> list[MoveChoice]:
        """Moves after which the nodes that take targets are equally full; each chain moves once at most."""
        nodes = [node for node in self.nodes.values() if node.takes]
        total, room = sum(node.used for node in nodes), sum(node.capacity or 1 for node in nodes)
        mean = total / room if room else 0.0
        on_node: dict[NodeId, list[ChainId]] = {node.id: [] for node in nodes}
        for chain in self.chains.values():
            for _, number in chain.members:
                if number in on_node:
                    on_node[number].append(chain.id)
        choices: list[MoveChoice] = []
        moved: set[ChainId] = set()
        while len(choices) < most:
            nodes.sort(key=lambda node: (self.fullness(node), node.id))
            chosen = None
            for giver in reversed(nodes):
                if self.fullness(giver) * 100 <= mean * (100 + even_percent):
                    break
                chosen = self._best_move(giver, nodes[:_RECEIVERS], on_node[giver.id], moved, mean)
                if chosen is not None:
                    break
            if chosen is None:
                break
            moved.add(chosen.chain)
            choices.append(chosen)
        return choices

    def _best_move(
        self, giver: NodeLoad, receivers: Sequence[NodeLoad], chains: Iterable[ChainId], moved: set[ChainId], mean: float
    ) -> MoveChoice | None:
        """The chain and the receiver that bring the giver and the receiver closest to the mean."""
        best: tuple[float, int, int] | None = None
        for number in chains:
            if number in moved:
                continue
            chain = self.chains[number]
            here = {node for _, node in chain.members}
            company = [self.nodes[node].domain for node in here if node != giver.id and node in self.nodes]
            shared = count_shared(giver.domain, company)
            for place, receiver in enumerate(receivers):
                if receiver.id in here or not self.can_take(receiver, chain.size) or self.fullness(receiver) >= mean:
                    continue
                if count_shared(receiver.domain, company) > shared:
                    continue
                gain = _spread(giver, receiver, 0, mean) - _spread(giver, receiver, chain.size, mean)
                if gain > 0 and (best is None or gain > best[0]):
                    best = (gain, number, place)
        if best is None:
            return None
        chain = self.chains[ChainId(best[1])]
        leaver = next(target for target, node in chain.members if node == giver.id)
        return self.take(chain, leaver, giver.id, receivers[best[2]])


def _spread(giver: NodeLoad, receiver: NodeLoad, size: int, mean: float) -> float:
    """How far two nodes are from the mean when so many bytes have moved, weighed by their capacities."""
    gives, takes = giver.capacity or 1, receiver.capacity or 1
    return gives * ((giver.used - size) / gives - mean) ** 2 + takes * ((receiver.used + size) / takes - mean) ** 2


def traffic_spread(choices: Sequence[MoveChoice], readers: Mapping[ChainId, NodeId | None], nodes: Iterable[NodeId]) -> float:
    """Of the bytes that these choices read and write on each of these nodes, the largest by the mean."""
    load = dict.fromkeys(nodes, 0)
    for choice in choices:
        for node in (choice.destination, readers[choice.chain]):
            if node is not None and node in load:
                load[node] += choice.size
    mean = sum(load.values()) / len(load)
    return max(load.values()) / mean if mean else 1.0
