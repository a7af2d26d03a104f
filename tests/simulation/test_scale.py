"""A cluster of a few dozen nodes on virtual time: what `docs/scale.md` says of a large one holds of it too."""

from __future__ import annotations

from collections import Counter

import pytest

from fs3.base.limits import lease_ns, routing_part_bytes
from fs3.base.units import SECOND, TIB
from fs3.sim.scale.cluster import ScaleOptions
from fs3.sim.scale.figures import ScaleRun

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    size = ScaleOptions(nodes=90, clients=6, chains=7_200)
    return {figure.figure: figure.value for figure in ScaleRun(size).run(restarts=1)}


def test_the_first_snapshot_comes_in_parts(figures: dict[str, float]) -> None:
    assert figures["first snapshot"] > routing_part_bytes
    assert figures["parts of the first snapshot"] == 2
    assert figures["largest part"] <= routing_part_bytes


def test_a_changed_chain_costs_a_client_little(figures: dict[str, float]) -> None:
    assert figures["node dies, chains that change"] == 240
    assert figures["node dies, routing versions"] == 1
    assert figures["node dies, bytes to a client per chain"] < 300
    assert figures["empty node comes back, bytes to a client per chain"] < 300


def test_everybody_knows_of_a_dead_node_soon_after_its_lease(figures: dict[str, float]) -> None:
    assert figures["node dies, until everybody has its chains without it"] < lease_ns / SECOND + 1


def test_the_next_primary_comes_in_time(figures: dict[str, float]) -> None:
    assert figures["primary dies, until another leads"] < lease_ns / SECOND
    assert figures["primary dies, chains that change"] == 0


def test_a_clean_stop_hands_over_at_once(figures: dict[str, float]) -> None:
    assert figures["restart of one node, hand over"] < 0.1


def test_first_chains_go_by_the_sizes_of_disks() -> None:
    size = ScaleOptions(nodes=30, clients=1, chains=600, disk_bytes=(4 * TIB, 8 * TIB, 12 * TIB))
    routing = ScaleRun(size).form()
    counts = Counter(slot.node for chain in routing.chains.values() for slot in chain.slots)
    names = {node.id: int(node.name.rpartition("-")[2]) for node in routing.nodes.values()}
    assert len(routing.chains) == 600
    assert {names[node] % 3: count for node, count in counts.items()} == {0: 30, 1: 60, 2: 90}
    assert len(set(zip((names[node] % 3 for node in counts), counts.values(), strict=True))) == 3


def test_the_same_seed_gives_the_same(figures: dict[str, float]) -> None:
    size = ScaleOptions(nodes=12, clients=3, chains=60)
    runs = [ScaleRun(size).run(restarts=1) for _ in range(2)]
    virtual = [[figure for figure in run if "CPU" not in figure.figure and "memory" not in figure.figure] for run in runs]
    assert virtual[0] == virtual[1]
