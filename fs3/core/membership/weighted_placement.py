"""Members of chains where some nodes are to have more targets than others: disks of different sizes, domains of different sizes.

Intuition: every node gets its share of all places, in proportion to its size, and is due for its next one when it is behind that
share the most, as in stride scheduling: the j-th of q places somewhere between (j - 1)/q and j/q of the way. So large and small
nodes are mixed from the first chain to the last. Of the nodes that are due soon, a chain takes those that have shared least with
each other so far.

Algorithm: members of a chain are of r different groups (failure domains; without any, each node is a group by itself). Groups are
in one queue by when they are due, and the nodes of each group in one of their own. A chain takes the first group, and the others
from among the next ones. A group of which as many places are left as chains must be taken from now: there are r of them at most,
since all places left are r for each chain left. So the last chain still finds r different groups.

Limits: no node has more than `targets_per_node_max` places of one table unless its group is too small for that, and none more
than one for each chain: what it cannot take goes to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from fs3.base.limits import targets_per_node_max
from fs3.base.prng import Prng
from fs3.core.membership.domains import count_shared, note_pairs
from fs3.model.domain import Domain

_GROUPS_SEEN = 16
"""Groups that are looked at for one chain, at least as many as it has members."""
_NODES_SEEN = 32
"""Nodes of all these together, one of each group at least."""
_PART = 1 << 20
"""From one place of a node to its next, in whole numbers."""


def share_out(sizes: Sequence[int], places: int, most: int) -> list[int]:
    """Places in proportion to sizes, together exactly so many, none more than `most`. ValueError when they do not fit."""
    if places > most * len(sizes):
        raise ValueError(f"{places} places are more than {most} for each of {len(sizes)}")
    shares = [0] * len(sizes)
    takers = list(range(len(sizes)))
    left = places
    while takers:
        room = sum(sizes[each] for each in takers)
        over = [each for each in takers if sizes[each] * left >= most * room]
        if not over:
            break
        for each in over:
            shares[each] = most
        left -= most * len(over)
        takers = [each for each in takers if not shares[each]]
    room = sum(sizes[each] for each in takers)
    for each in takers:
        shares[each] = sizes[each] * left // room
    behind = sorted(takers, key=lambda each: (-(sizes[each] * left % room), each))
    for each in behind[: left - sum(shares[each] for each in takers)]:
        shares[each] += 1
    return shares


def complete_sizes(sizes: Sequence[int]) -> list[int]:
    """Sizes of nodes of which not all are known (0): those are taken for typical ones."""
    known = [size for size in sizes if size]
    typical = sum(known) // len(known) if known else 1
    return [size or typical for size in sizes]


def choose_weighted(
    sizes: Sequence[int], groups: Sequence[int], domains: Sequence[Domain], chains: int, replicas: int, prng: Prng
) -> list[list[int]]:
    """The members of every chain. `sizes`, `groups`, `domains`: of each node; no two members of a chain are of one group."""
    members: list[list[int]] = [[] for _ in range(max(groups) + 1)]
    for node, group in enumerate(groups):
        members[group].append(node)
    left = share_out([sum(sizes[node] for node in nodes) for nodes in members], chains * replicas, chains)
    queues = [
        _Queue(share_out([sizes[node] for node in nodes], places, _most(chains, places, len(nodes))), nodes, prng)
        for nodes, places in zip(members, left, strict=True)
    ]
    order = _Queue(left, range(len(members)), prng)
    shared = [[0] * len(sizes) for _ in sizes]
    made = []
    for remaining in range(chains, 0, -1):
        due = [group for group, places in enumerate(left) if places >= remaining]
        seen = order.take(max(_GROUPS_SEEN, replicas), due)
        offers = {group: queues[group].take(max(1, _NODES_SEEN // len(seen))) for group in seen}
        chain: list[int] = []
        wanted = [*due, *(seen[:1] if seen[0] not in due else ())]
        taken: dict[int, int] = {}
        while len(chain) < replicas:
            among = [group for group in wanted if group not in taken] or [group for group in seen if group not in taken]
            company = [domains[node] for node in chain] if domains else []
            _, _, node, group = min(
                (
                    count_shared(domains[node], company) if domains else 0,
                    sum(2 * shared[node][other] + 1 for other in chain),
                    node,
                    group,
                )
                for group in among
                for node in offers[group]
            )
            chain.append(node)
            taken[group] = node
        for group in seen:
            queues[group].put_back(offers[group], taken.get(group))
            left[group] -= group in taken
        order.put_back(seen, *taken)
        note_pairs(shared, chain)
        made.append(chain)
    return made


def _most(chains: int, places: int, nodes: int) -> int:
    """That one node of a group may have: the limit of a table, unless the group is too small for that."""
    return min(chains, max(targets_per_node_max, -(-places // max(1, nodes))))


class _Queue:
    """Who is due when for places."""

    def __init__(self, shares: Sequence[int], names: Sequence[int], prng: Prng) -> None:
        self._shares = dict(zip(names, shares, strict=True))
        self._taken = dict.fromkeys(names, 0)
        self._prng = prng
        self._due = {name: self._draw_due(name) for name, share in self._shares.items() if share}
        self._heap = [(due, name) for name, due in self._due.items()]
        heapify(self._heap)

    def _draw_due(self, name: int) -> int:
        """When its next place is due: some time within the part of the way that is for this one, so that the same do not always
        meet."""
        return (self._taken[name] * _PART + self._prng.below(_PART)) * _PART // self._shares[name]

    def take(self, count: int, also: Sequence[int] = ()) -> list[int]:
        """The first so many, and these."""
        found = [heappop(self._heap)[1] for _ in range(min(count, len(self._heap)))]
        missing = set(also).difference(found)
        if missing:
            self._heap = [entry for entry in self._heap if entry[1] not in missing]
            heapify(self._heap)
        return found + sorted(missing)

    def put_back(self, names: Sequence[int], *chosen: int | None) -> None:
        """After these were chosen, they all are due again, as long as they have places left."""
        for name in names:
            if name in chosen:
                self._taken[name] += 1
                if self._taken[name] == self._shares[name]:
                    continue
                self._due[name] = self._draw_due(name)
            heappush(self._heap, (self._due[name], name))
