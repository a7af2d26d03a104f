"""Chains of many nodes by cyclic shifts: what would take a greedy search seconds, in which the manager answers no request.

Intuition: write the nodes around a circle, choose one chain, and shift it round by one node at a time. The shifts, one for each
node, use every node equally often, at every position of a chain, and let two nodes share a chain for each pair of members that is
as far apart on the circle as they are. So what is left to do is to choose base chains whose members' distances are evenly spread:
a search over half as many numbers as there are nodes, and not over all pairs of them. These are the difference families of
design theory, taken as even as a short search finds them.

Where nodes stand in g groups of the same size, the groups take turns round the circle. Then members are in different groups when
their places are different modulo g, and stay so in every shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from fs3.base.prng import Prng

_TRIES = 400
"""Base chains looked at for each that is taken."""


def choose_shifted(nodes: int, rounds: int, replicas: int, prng: Prng, groups: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """`nodes * rounds` chains: every node is in `replicas * rounds` of them, and any two are together about equally often.

    `groups`: all nodes, in at least `replicas` groups of the same size; no two members of a chain are of one. Empty: any may be.
    """
    circle = list(range(nodes))
    prng.shuffle(circle)
    if groups:
        place = {node: index for index, node in enumerate(circle)}
        circle = [node for turn in zip(*(sorted(group, key=place.__getitem__) for group in groups), strict=True) for node in turn]
    used = [0] * (nodes // 2 + 1)
    """How many pairs of members are so far apart, over all base chains."""
    chains = []
    for _ in range(rounds):
        bases = (_draw(nodes, replicas, prng, len(groups) or nodes) for _ in range(_TRIES))
        base = min(bases, key=lambda base: _cost(base, nodes, used))
        for distance in _distances(base, nodes):
            used[distance] += 1
        chains += [[circle[(member + shift) % nodes] for member in base] for shift in range(nodes)]
    return chains


def _draw(nodes: int, replicas: int, prng: Prng, groups: int) -> tuple[int, ...]:
    """A chain of nodes that are different modulo `groups`, the first of the circle among them."""
    base = [0]
    while len(base) < replicas:
        member = prng.below(nodes)
        if all((member - other) % groups for other in base):
            base.append(member)
    return tuple(base)


def _distances(base: tuple[int, ...], nodes: int) -> list[int]:
    """How far apart its members are on the circle, the shorter way."""
    return [min(abs(a - b), nodes - abs(a - b)) for a, b in combinations(base, 2)]


def _cost(base: tuple[int, ...], nodes: int, used: list[int]) -> int:
    """What taking it adds to the sum of squared pair counts, but for a constant factor."""
    cost = 0
    taken: dict[int, int] = {}
    for distance in _distances(base, nodes):
        # Two that are opposite each other meet twice in one round.
        weight = 2 if 2 * distance == nodes else 1
        before = weight * (used[distance] + taken.get(distance, 0))
        cost += 2 * before * weight + weight * weight
        taken[distance] = taken.get(distance, 0) + 1
    return cost
