"""Placement: vectors that must never change, the cases with a known best, and clear refusals."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest

from fs3.core.membership.placement import TargetPosition, pair_counts, place
from fs3.model.domain import Domain


def text(chains: list[tuple[TargetPosition, ...]]) -> list[str]:
    return [" ".join(f"{at.node}.{at.ordinal}" for at in chain) for chain in chains]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((3, 2, 3, 1), ["1.0 2.0 0.0", "0.1 1.1 2.1"]),
        ((4, 3, 2, 1), ["0.0 2.0", "3.0 1.0", "1.1 0.1", "2.1 3.1", "1.2 2.2", "3.2 0.2"]),
        ((7, 3, 3, 7), ["2.0 5.0 6.0", "5.1 3.0 4.0", "3.1 0.0 2.1", "0.1 1.0 5.2", "6.1 4.1 0.2", "1.1 6.2 3.2", "4.2 2.2 1.2"]),
    ],
)
def test_golden_vectors(arguments: tuple[int, int, int, int], expected: list[str]) -> None:
    assert text(place(*arguments)) == expected


def test_golden_digest_of_a_large_table() -> None:
    chains = [[tuple(at) for at in chain] for chain in place(24, 12, 3, 1)]
    assert hashlib.sha256(repr(chains).encode()).hexdigest()[:16] == "e12b3ee09c18c537"


def test_golden_digest_of_a_table_of_shifts() -> None:
    chains = [[tuple(at) for at in chain] for chain in place(180, 16, 3, 1)]
    assert hashlib.sha256(repr(chains).encode()).hexdigest()[:16] == "e9459d9b4bc9097e"


@pytest.mark.parametrize(("nodes", "per_node", "replicas"), [(65, 1, 3), (70, 5, 2), (99, 7, 3), (128, 32, 4), (180, 16, 3)])
def test_many_nodes_are_used_equally_and_together(nodes: int, per_node: int, replicas: int) -> None:
    """What holds of every table holds of one that is made by shifts: see `placement`."""
    chains = place(nodes, per_node, replicas, seed=3)
    assert len(chains) == nodes * per_node // replicas
    assert all(len({at.node for at in chain}) == replicas for chain in chains)
    targets = [at for chain in chains for at in chain]
    assert len(set(targets)) == len(targets)
    for members in (targets, *zip(*chains, strict=True)):
        used = Counter(at.node for at in members)
        assert max(used[node] for node in range(nodes)) - min(used[node] for node in range(nodes)) <= 1
    shared = pair_counts(chains, nodes)
    counts = [shared[a][b] for a, b in combinations(range(nodes), 2)]
    assert max(counts) <= -(-sum(counts) // len(counts)) + 1


@pytest.mark.parametrize(("nodes", "per_node", "replicas"), [(7, 3, 3), (9, 4, 3), (5, 6, 3), (6, 10, 3), (3, 4, 3), (8, 7, 2)])
def test_a_design_that_exists_is_found(nodes: int, per_node: int, replicas: int) -> None:
    """The Fano plane and others: every two nodes share equally many chains."""
    shared = pair_counts(place(nodes, per_node, replicas, seed=1), nodes)
    assert len({shared[a][b] for a, b in combinations(range(nodes), 2)}) == 1


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 2, 2, 4), (5, 5, 5, 5, 5, 7), [1 + node % 3 for node in range(90)], [100 + node for node in range(70)], (1, 0, 3, 2)],
)
def test_nodes_are_used_in_proportion_to_their_disks(sizes: Sequence[int]) -> None:
    """To one target; what is not known counts as what others have. Everything else holds as for nodes that are alike."""
    nodes, per_node, replicas = len(sizes), 12, 2
    chains = place(nodes, per_node, replicas, seed=3, sizes=sizes)
    assert len(chains) == nodes * per_node // replicas
    assert all(len({at.node for at in chain}) == replicas for chain in chains)
    targets = [at for chain in chains for at in chain]
    assert len(set(targets)) == len(targets)
    used = Counter(at.node for at in targets)
    known = [size or sum(sizes) // (nodes - 1) for size in sizes]
    for node, size in enumerate(known):
        assert abs(used[node] - size * len(targets) / sum(known)) < 1
        positions = [sum(chain[place].node == node for chain in chains) for place in range(replicas)]
        assert max(positions) - min(positions) <= 1


def test_a_golden_digest_of_nodes_with_different_disks() -> None:
    chains = [[tuple(at) for at in chain] for chain in place(80, 16, 3, 1, sizes=[1 + node % 4 for node in range(80)])]
    assert hashlib.sha256(repr(chains).encode()).hexdigest()[:16] == "a083d5d29e9f2bbe"


def test_a_node_is_in_each_chain_once_however_large_its_disk_is() -> None:
    chains = place(4, 6, 3, 1, sizes=(100, 1, 1, 1))
    used = Counter(at.node for chain in chains for at in chain)
    assert used == {0: 8, 1: 6, 2: 5, 3: 5}
    assert place(3, 4, 3, 1, sizes=(1, 2, 3)) != []


def test_domains_stay_apart_where_disks_differ() -> None:
    domains = [Domain(f"z{node % 4}", f"r{node % 8}") for node in range(24)]
    sizes = [1 + node % 3 for node in range(24)]
    chains = place(24, 12, 3, 1, domains, sizes)
    assert all(len({domains[at.node].zone for at in chain}) == 3 for chain in chains)
    used = Counter(at.node for chain in chains for at in chain)
    assert all(abs(used[node] - 12 * size / 2) <= 1 for node, size in enumerate(sizes))


def test_many_nodes_in_racks_of_different_sizes_are_used_equally_and_apart() -> None:
    domains = [Domain("", f"r{node // 7}") for node in range(100)]
    chains = place(100, 24, 3, 1, domains)
    assert all(len({domains[at.node].rack for at in chain}) == 3 for chain in chains)
    used = Counter(at.node for chain in chains for at in chain)
    assert set(used.values()) == {24}
    assert max(max(row) for row in pair_counts(chains, 100)) <= 2


def test_seeds_give_different_tables() -> None:
    assert place(6, 4, 3, seed=1) != place(6, 4, 3, seed=2)


@pytest.mark.parametrize(
    ("nodes", "per_node", "replicas", "message"),
    [
        (2, 4, 3, "3 replicas need 3 storage nodes, there are 2"),
        (0, 4, 3, "at least one storage node"),
        (3, 0, 3, "targets_per_node is 0"),
        (3, 4, 0, "replicas is 0"),
        (99, 4, 17, "replicas is 17, must be 1 to 16"),
    ],
)
def test_what_cannot_be_placed_is_named(nodes: int, per_node: int, replicas: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place(nodes, per_node, replicas, seed=1)
