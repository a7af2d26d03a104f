"""Which targets form which chains.

A table over n nodes with k targets each and r replicas has n*k//r chains. What is promised:

- no two targets of a chain are on one node, and a target is in at most one chain;
- no two targets of a chain are in one failure domain, as long as there are enough of them (`domain_groups`);
- nodes are used in proportion to the sizes of their disks, to one target, or equally where those are alike or not known, as far
  as domains allow it: one that is smaller than the others gets its share of every chain all the same, so its nodes get more;
- a node is at each position of its chains (head, ..., tail) equally often, to one chain;
- pairs of nodes share chains as evenly as the search below can make it: what a lost node held is then read back from all the
  others, and no single neighbour carries the recovery.

The last one is the balanced incomplete block design that 3FS solves with an integer program for up to two hours. Here: a greedy
construction, then exchanges that lower the sum of squared pair counts, which is least exactly when the counts are even. All of it
is integer arithmetic on a seeded generator, so it gives the same table in every version, on every machine; golden vectors in
the tests guard that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.limits import replicas_max
from fs3.base.prng import Prng
from fs3.core.membership.cyclic_placement import choose_shifted
from fs3.core.membership.domains import Apart, choose_apart, domain_groups, groups_alike, note_pairs
from fs3.core.membership.weighted_placement import choose_weighted, complete_sizes
from fs3.model.domain import Domain

_CANDIDATES = 64
"""Nodes looked at for one place. With more nodes than these most chains are made by shifts."""
_EXCHANGES = 40_000
"""Exchanges tried at most."""


class TargetPosition(NamedTuple):
    """One target: its node, and which of the node's targets it is. Both count from 0."""

    node: int
    ordinal: int


def place(
    nodes: int, targets_per_node: int, replicas: int, seed: int, domains: Sequence[Domain] = (), sizes: Sequence[int] = ()
) -> list[tuple[TargetPosition, ...]]:
    """The chains of a table, in chain order (head first). ValueError naming what cannot be met.

    `domains`, `sizes`: of the nodes, in their order; empty when nothing is known of them. Sizes are in bytes, 0 where one is not
    known. `targets_per_node`: what a node of mean size gets. At most r - 1 targets are left over when n*k is not a multiple of r.
    """
    if nodes < 1:
        raise ValueError("a chain table needs at least one storage node")
    if targets_per_node < 1:
        raise ValueError(f"targets_per_node is {targets_per_node}, must be at least 1")
    if not 1 <= replicas <= replicas_max:
        raise ValueError(f"replicas is {replicas}, must be 1 to {replicas_max}")
    if replicas > nodes:
        raise ValueError(f"{replicas} replicas need {replicas} storage nodes, there are {nodes}: two replicas never share a node")
    prng = Prng(seed)
    chains: list[list[int]] = []
    known = complete_sizes(sizes or [0] * nodes)
    has_domains = any(str(domain) for domain in domains)
    groups = domain_groups(domains, replicas) if has_domains else list(range(nodes))
    is_uneven = has_domains and not groups_alike(domains, replicas)
    if len(set(known)) > 1 or (nodes > _CANDIDATES and is_uneven):
        count = nodes * targets_per_node // replicas
        chains = choose_weighted(known, groups, domains if has_domains else (), count, replicas, prng)
        _even_out(chains, nodes, prng, Apart(domains, groups) if has_domains else None)
    elif has_domains:
        left = targets_per_node
        if nodes > _CANDIDATES and (alike := groups_alike(domains, replicas)):
            chains = choose_shifted(nodes, targets_per_node // replicas, replicas, prng, alike)
            left = targets_per_node % replicas
        chains += choose_apart(domains, left, replicas, prng)
        _even_out(chains, nodes, prng, Apart(domains, groups))
    else:
        if nodes > _CANDIDATES:
            # A greedy choice over so many nodes takes seconds; it makes what shifts leave over.
            chains = choose_shifted(nodes, targets_per_node // replicas, replicas, prng)
        left = targets_per_node - len(chains) * replicas // nodes
        chains += _choose_members(chains, nodes, left, replicas, prng)
        _even_out(chains, nodes, prng)
    ordered = _choose_order(chains, nodes, replicas)
    used = [0] * nodes
    placed = []
    for chain in ordered:
        placed.append(tuple(TargetPosition(node, used[node]) for node in chain))
        for node in chain:
            used[node] += 1
    return placed


def pair_counts(chains: list[tuple[TargetPosition, ...]], nodes: int) -> list[list[int]]:
    """How many chains each two nodes share, which is what one of them reads from the other after losing everything."""
    return _count_pairs([[place.node for place in chain] for chain in chains], nodes)


def _choose_members(before: list[list[int]], nodes: int, targets_per_node: int, replicas: int, prng: Prng) -> list[list[int]]:
    """Greedy: each place goes to one of the nodes with most targets left, to the one that shares least with the chain so far.

    Taking from the fullest keeps what is left equal to one, so the last chains still find r different nodes. `before`: the chains
    there are already.
    """
    left = [targets_per_node] * nodes
    shared = _count_pairs(before, nodes)
    order = list(range(nodes))
    chains = []
    for _ in range(nodes * targets_per_node // replicas):
        chain: list[int] = []
        for _ in range(replicas):
            prng.shuffle(order)
            fullest = max(left[node] for node in order if node not in chain)
            candidates = [node for node in order if left[node] == fullest and node not in chain][:_CANDIDATES]
            chosen = min(candidates, key=lambda node: sum((2 * shared[node][other] + 1) for other in chain))
            chain.append(chosen)
        for node in chain:
            left[node] -= 1
        note_pairs(shared, chain)
        chains.append(chain)
    return chains


def _count_pairs(chains: list[list[int]], nodes: int) -> list[list[int]]:
    shared = [[0] * nodes for _ in range(nodes)]
    for chain in chains:
        note_pairs(shared, chain)
    return shared


def _even_out(chains: list[list[int]], nodes: int, prng: Prng, apart: Apart | None = None) -> None:
    """Exchange members between chains, in place, while that lowers the sum of squared pair counts. `apart`: what has to stay
    apart, as it is.

    An exchange leaves every node's number of chains as it is. Exchanges that change nothing are taken too: they lead out of
    dead ends. Stops when the counts differ by one at most, which nothing can improve.
    """
    replicas = len(chains[0]) if chains else 0
    if replicas < 2 or replicas == nodes or len(chains) < 2:
        return
    shared = _count_pairs(chains, nodes)
    least, rest = divmod(len(chains) * replicas * (replicas - 1) // 2, nodes * (nodes - 1) // 2)
    pairs = nodes * (nodes - 1) // 2
    perfect = (pairs - rest) * least * least + rest * (least + 1) * (least + 1)
    cost = sum(shared[a][b] * shared[a][b] for a in range(nodes) for b in range(a))
    for _ in range(_EXCHANGES):
        if cost == perfect:
            return
        first, second = chains[prng.below(len(chains))], chains[prng.below(len(chains))]
        a_at, b_at = prng.below(replicas), prng.below(replicas)
        a, b = first[a_at], second[b_at]
        if a in second or b in first:
            continue
        firsts = [node for node in first if node != a]
        seconds = [node for node in second if node != b]
        if apart is not None and not apart.may_exchange(a, firsts, b, seconds):
            continue
        change = _move(shared, a, firsts, seconds) + _move(shared, b, seconds, firsts)
        if change <= 0:
            first[a_at], second[b_at] = b, a
            cost += change
        else:
            _move(shared, a, seconds, firsts)
            _move(shared, b, firsts, seconds)


def _move(shared: list[list[int]], node: int, company: list[int], others: list[int]) -> int:
    """`node` leaves one company and joins another. The change of the sum of squared pair counts."""
    row = shared[node]
    change = 0
    for other in company:
        change -= 2 * row[other] - 1
        row[other] -= 1
        shared[other][node] -= 1
    for other in others:
        change += 2 * row[other] + 1
        row[other] += 1
        shared[other][node] += 1
    return change


def _choose_order(chains: list[list[int]], nodes: int, replicas: int) -> list[list[int]]:
    """Give each member of each chain its position, so that every node is at each position equally often, to one.

    A node is cut into parts of at most r memberships. Chains and parts are then the two sides of a bipartite graph of degree r,
    whose edges can be coloured with r colours so that no two at one vertex are alike (König): colours are positions. Each
    whole part is at every position exactly once. Where the two free colours of an edge's ends differ, the path that
    alternates between them is flipped.
    """
    part_at: list[list[int]] = []  # part -> position -> chain, -1 free
    chain_at = [[-1] * replicas for _ in chains]  # chain -> position -> part
    node_of: list[int] = []
    seen = [0] * nodes
    current = [-1] * nodes
    for index, chain in enumerate(chains):
        for node in chain:
            if seen[node] % replicas == 0:
                current[node] = len(part_at)
                part_at.append([-1] * replicas)
                node_of.append(node)
            seen[node] += 1
            part = current[node]
            of_part, of_chain = part_at[part].index(-1), chain_at[index].index(-1)
            if of_part != of_chain:
                _flip(part_at, chain_at, index, of_chain, of_part)
            part_at[part][of_part] = index
            chain_at[index][of_part] = part
    return [[node_of[part] for part in row] for row in chain_at]


def _flip(part_at: list[list[int]], chain_at: list[list[int]], chain: int, free: int, wanted: int) -> None:
    """Make position `wanted` free at `chain`, where `free` is, by swapping the two along the path that starts there.

    The path cannot end at the part that `wanted` is free at: it enters parts by edges at `wanted` only.
    """
    path: list[tuple[int, int, int]] = []  # (chain, part, position)
    while (part := chain_at[chain][wanted]) != -1:
        path.append((chain, part, wanted))
        following = part_at[part][free]
        if following == -1:
            break
        path.append((following, part, free))
        chain = following
    for of_chain, of_part, position in path:
        chain_at[of_chain][position] = -1
        part_at[of_part][position] = -1
    for of_chain, of_part, position in path:
        other = free if position == wanted else wanted
        chain_at[of_chain][other] = of_part
        part_at[of_part][other] = of_chain
