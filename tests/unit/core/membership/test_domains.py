"""Replicas in different failure domains."""

from __future__ import annotations

from collections import Counter

import pytest

from fs3.core.membership import domains as domains_module
from fs3.core.membership.domains import count_shared, domain_groups, groups_alike, quotas
from fs3.core.membership.placement import pair_counts, place
from fs3.model.domain import NOWHERE, Domain, shared_levels

A1, A2, B1 = Domain("a", "1"), Domain("a", "2"), Domain("b", "1")


@pytest.mark.parametrize(
    ("one", "other", "levels"),
    [
        (A1, A1, 2),
        (A1, A2, 1),
        (A1, B1, 0),
        (NOWHERE, NOWHERE, 0),
        (Domain("a"), Domain("a"), 1),
        (Domain(rack="1"), Domain(rack="1"), 2),
        (Domain(rack="1"), Domain(rack="2"), 0),
        (A1, NOWHERE, 0),
    ],
)
def test_what_two_nodes_share(one: Domain, other: Domain, levels: int) -> None:
    assert shared_levels(one, other) == shared_levels(other, one) == levels


def test_a_rack_outweighs_zones() -> None:
    assert count_shared(A1, [A2, A2]) < count_shared(A1, [A1, B1])


def test_groups_are_of_the_coarsest_level_that_suffices() -> None:
    domains = [A1, A2, B1, NOWHERE]
    assert domain_groups(domains, 2) == domain_groups(domains, 3) == [0, 0, 1, 2]
    assert domain_groups(domains[:3], 3) == [0, 1, 2]
    assert domain_groups([A1, A1, A1], 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sizes", "chains", "replicas", "expected"),
    [
        ([2, 2, 2], 8, 3, [8, 8, 8]),
        ([4, 4, 2], 10, 2, [8, 8, 4]),
        ([8, 1, 1], 10, 3, [10, 10, 10]),
        ([8, 1, 1], 10, 2, [10, 5, 5]),
    ],
)
def test_quotas(sizes: list[int], chains: int, replicas: int, expected: list[int]) -> None:
    assert quotas(sizes, chains, replicas) == expected


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 4, 2), (6, 1, 1), (2, 2, 2, 2, 1)])
def test_no_chain_has_two_replicas_in_a_rack(sizes: tuple[int, ...], replicas: int) -> None:
    domains = [Domain("z", f"r{rack}") for rack, size in enumerate(sizes) for _ in range(size)]
    chains = place(len(domains), 6, replicas, 1, domains)
    assert chains == place(len(domains), 6, replicas, 1, domains)
    assert len(chains) == len(domains) * 6 // replicas
    assert all(len({domains[at.node].rack for at in chain}) == replicas for chain in chains)
    assert len({at for chain in chains for at in chain}) == len(chains) * replicas, "a target is in two chains"


def test_equal_racks_are_used_equally_and_share_evenly() -> None:
    domains = [Domain("z", f"r{node // 4}") for node in range(12)]
    chains = place(12, 12, 3, 1, domains)
    assert set(Counter(at.node for chain in chains for at in chain).values()) == {12}
    assert set(Counter(chain[0].node for chain in chains).values()) == {4}
    shared = pair_counts(chains, 12)
    between = [shared[a][b] for a in range(12) for b in range(a) if a // 4 != b // 4]
    assert max(between) - min(between) <= 2


def test_fewer_racks_than_replicas_share_as_little_as_they_can() -> None:
    domains = [Domain("z", f"r{node // 3}") for node in range(6)]
    chains = place(6, 6, 3, 1, domains)
    assert all(sorted(Counter(domains[at.node].rack for at in chain).values()) == [1, 2] for chain in chains)


def test_two_zones_of_racks() -> None:
    domains = [Domain(f"z{node // 6}", f"r{node // 2}") for node in range(12)]
    chains = place(12, 6, 3, 1, domains)
    assert all(len({domains[at.node].rack for at in chain}) == 3 for chain in chains)
    assert all(len({domains[at.node].zone for at in chain}) == 2 for chain in chains), "one zone may be lost"


SIX_ZONES = [Domain(f"z{node % 6}", f"r{node % 18}") for node in range(180)]
TWELVE_RACKS = [Domain("", f"r{node % 12}") for node in range(180)]


@pytest.mark.parametrize(("domains", "level"), [(SIX_ZONES, "zone"), (TWELVE_RACKS, "rack")])
def test_many_nodes_in_groups_of_one_size_take_little_work(
    domains: list[Domain], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager answers nothing meanwhile. A greedy search over the nodes compares 1.7 million pairs of places here."""
    compared = 0

    def count(domain: Domain, company: list[Domain]) -> int:
        nonlocal compared
        compared += 1
        return count_shared(domain, company)

    monkeypatch.setattr(domains_module, "count_shared", count)
    chains = place(180, 166, 3, 1, domains)
    assert compared < 200_000
    assert len(chains) == 180 * 166 // 3
    assert all(len({getattr(domains[at.node], level) for at in chain}) == 3 for chain in chains)
    assert set(Counter(at.node for chain in chains for at in chain).values()) == {166}
    assert max(map(max, pair_counts(chains, 180))) <= 4


def test_groups_of_one_size() -> None:
    assert [len(group) for group in groups_alike(SIX_ZONES, 3)] == [30] * 6
    assert groups_alike(SIX_ZONES[1:], 3) == []
    two_zones = [Domain(f"z{node % 2}", f"r{node % 6}") for node in range(12)]
    assert groups_alike(two_zones, 2) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    assert groups_alike(two_zones, 3) == [], "racks are apart, and zones as far as they can be"
