"""Destinations and moves: by arithmetic, on whole tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.units import GIB, TIB
from fs3.core.membership.balance import Balance, ChainLoad, MoveChoice, NodeLoad, traffic_spread
from fs3.core.membership.placement import place
from fs3.model.domain import NOWHERE, Domain


def cluster(
    count: int,
    per_node: int,
    *,
    size: int = GIB,
    domains: Sequence[Domain] = (),
    capacities: Mapping[int, int] | None = None,
    spare: int = 0,
) -> Balance:
    """A table over `count` nodes, and `spare` nodes that have nothing."""
    chains = {}
    for number, members in enumerate(place(count, per_node, 3, 1, domains), 1):
        slots = tuple((TargetId(1 + at.node * 1000 + at.ordinal), NodeId(1 + at.node)) for at in members)
        chains[ChainId(number)] = ChainLoad(ChainId(number), slots, size, slots[-1][1])
    nodes = {}
    for node in range(1, count + spare + 1):
        domain = domains[node - 1] if node <= len(domains) else NOWHERE
        nodes[NodeId(node)] = NodeLoad(NodeId(node), domain, (capacities or {}).get(node, TIB))
    return Balance(nodes, chains)


def evacuate(balance: Balance, node: int) -> list[MoveChoice]:
    """A node is dead: who brings a joiner up to date is the last of its chain that lives."""
    dead = NodeId(node)
    for chain in list(balance.chains.values()):
        reader = [member for _, member in chain.members if member != dead][-1]
        balance.chains[chain.id] = ChainLoad(chain.id, chain.members, chain.size, reader)
    del balance.nodes[dead]
    return balance.plan_evacuation(dead)


@pytest.mark.parametrize(("nodes", "per_node", "most"), [(30, 64, 1.3), (180, 166, 1.1)])
def test_what_a_node_had_is_rebuilt_by_all_others_alike(nodes: int, per_node: int, most: float) -> None:
    balance = cluster(nodes, per_node)
    choices = evacuate(balance, 7)
    assert len(choices) == per_node
    readers = {chain.id: chain.reader for chain in balance.chains.values()}
    assert traffic_spread(choices, readers, balance.nodes) <= most
    assert all(len({node for _, node in chain.members}) == 3 for chain in balance.chains.values())


def test_an_evacuation_keeps_racks_apart() -> None:
    domains = [Domain("z", f"r{node % 4}") for node in range(12)]
    balance = cluster(12, 12, domains=domains)
    evacuate(balance, 5)
    assert all(len({domains[node - 1].rack for _, node in chain.members}) == 3 for chain in balance.chains.values())


def test_what_no_node_can_take_is_named() -> None:
    balance = cluster(3, 2)
    balance.nodes[NodeId(3)].takes = False
    assert balance.plan_evacuation(NodeId(3)) == []
    assert len(balance.unplaced) == 2


def test_a_full_node_takes_nothing() -> None:
    balance = cluster(3, 2, spare=2, capacities={4: 2 * GIB})
    balance.nodes[NodeId(5)].takes = False
    choices = balance.plan_evacuation(NodeId(1))
    assert [choice.destination for choice in choices] == [4], "95 % of two are less than two"
    assert len(balance.unplaced) == 1


def fullness(balance: Balance) -> float:
    """Largest by mean."""
    nodes = [node for node in balance.nodes.values() if node.takes]
    mean = sum(node.used for node in nodes) / sum(node.capacity for node in nodes)
    return max(node.used / node.capacity for node in nodes) / mean


def test_a_sixth_node_beside_five_gets_its_share_and_not_more() -> None:
    balance = cluster(5, 48, spare=1)
    choices = balance.plan_even(1000)
    assert fullness(balance) <= 1.05
    assert len(choices) <= 1.1 * 5 * 48 / 6
    assert {choice.destination for choice in choices} == {6}


def test_nodes_of_different_sizes_are_equally_full() -> None:
    balance = cluster(6, 40, capacities={1: 2 * TIB, 2: TIB // 2})
    balance.plan_even(1000)
    assert fullness(balance) <= 1.08
    assert all(len({node for _, node in chain.members}) == 3 for chain in balance.chains.values())


def test_an_even_cluster_is_left_alone() -> None:
    assert cluster(6, 8).plan_even(1000) == []


def test_chains_that_share_a_rack_are_taken_apart() -> None:
    balance = cluster(6, 6)
    racks = {NodeId(node): Domain("z", f"r{node % 3}") for node in range(1, 7)}
    for node in balance.nodes.values():
        node.domain = racks[node.id]
    balance.plan_apart(1000)
    assert all(len({racks[node].rack for _, node in chain.members}) == 3 for chain in balance.chains.values())
