"""What a manager tells for the page of its cluster: the sections, the history, and only what has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fs3.base.ids import ChainId, NodeId
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.dashboard.chains import odd_chains_max, odd_chains_shown_max
from fs3.core.dashboard.changes import changes_between
from fs3.model.chain import PublicState
from fs3.services.mgmtd import dashboard
from fs3.services.mgmtd.dashboard import DashboardFeed
from tests.simulated_cluster import SCRIPT, SimulatedCluster, ToldSurvey


class SteppedClock:
    """Time that a test makes."""

    def __init__(self) -> None:
        self.at = 1000 * SECOND

    def now(self) -> int:
        """See `Clock`."""
        return self.at

    def wall(self) -> int:
        """See `Clock`."""
        return 1_700_000_000 * SECOND + self.at


class Page:
    """A feed of a small cluster, and what a browser would have been told."""

    def __init__(self, nodes: int = 6, chains: int = 20) -> None:
        self.clock = SteppedClock()
        self.cluster = SimulatedCluster(nodes, chains, self.clock)
        self.feed = DashboardFeed(self.cluster, self.clock, ToldSurvey(self.clock), "mgmtd")

    def run(self, seconds: float = 2.0) -> dict[str, Any]:
        """Time passes, with samples as they are due; the state then."""
        for _ in range(round(seconds / 2)):
            self.clock.at += 2 * SECOND
            self.feed.sample()
        state = self.feed.read_state()
        assert state is not None
        return dict(state)


@pytest.fixture
def page() -> Page:
    return Page()


def node(state: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in state["nodes"] if each["name"] == name)


def codes(state: dict[str, Any]) -> list[str]:
    return [each["code"] for each in state["health"]["groups"]]


def test_a_cluster_that_is_well(page: Page) -> None:
    state = page.run(4)
    assert state["health"]["health"] == "healthy"
    assert state["chains"]["ids"] == [[1, 20]]
    assert state["chains"]["states"] == "w" * 20
    assert not state["chains"]["odd"]
    assert state["space"]["disks"] == 6
    cpu, memory_bytes, reads = node(state, "storage-1")["rates"][:3]
    assert (reads, cpu, memory_bytes) == (pytest.approx(1000, rel=0.01), pytest.approx(0.4, abs=0.01), 300 << 20)
    columns, last = state["history"]["columns"], state["history"]["fine"][-1]
    sample = dict(zip(columns, last[1:], strict=True))
    assert sample["reads_per_second"] == pytest.approx(6000, rel=0.01)
    assert sample["names_bytes_per_second"] == 0
    assert 0.1 < sample["reads_p50_ms"] < 1 < sample["reads_p99_ms"]
    assert sample["used_bytes"] == state["space"]["used_bytes"] > 0
    assert json.dumps(state)


def test_a_node_that_is_silent_is_told_before_it_is_dead(page: Page) -> None:
    page.run()
    page.cluster.silent[NodeId(2)] = page.clock.at
    assert node(page.run(2), "storage-2")["state"] == "silent"
    state = page.run(0)
    assert codes(state)[0] == "node-silent"
    assert state["health"]["groups"][0]["runbook"] == "node-dead"
    assert state["health"]["health"] == "healthy"


def test_a_node_dies_and_its_chains_are_brought_up_to_date(page: Page) -> None:
    page.run()
    page.cluster.set_state(2, PublicState.OFFLINE, alive=False)
    state = page.run(2)
    dead = node(state, "storage-2")
    assert (dead["state"], dead["rates"]) == ("dead", None)
    assert {"node-dead", "target-behind"} <= set(codes(state))
    behind = state["chains"]["counts"]["b"]
    assert behind == len(state["chains"]["odd"]) == state["chains"]["states"].count("b") > 0
    page.cluster.set_state(2, PublicState.SYNCING, alive=True)
    state = page.run(2)
    assert state["resyncs"]["count"] == behind
    assert state["resyncs"]["rows"][0]["seconds_left"] > 0
    assert state["health"]["groups"][0]["eta_seconds"] > 0
    # Progress is told although nothing of the routing info has changed.
    page.cluster.resyncing = dict.fromkeys(page.cluster.resyncing, 0.9)
    page.clock.at += 300 * MILLISECOND
    assert page.run(0)["resyncs"]["rows"][0]["fraction"] == 0.9
    page.cluster.set_state(2, PublicState.SERVING, alive=True)
    state = page.run(2)
    assert (state["health"]["health"], state["resyncs"]["count"], state["chains"]["odd"]) == ("healthy", 0, [])


def test_one_copy_and_none_are_told_apart(page: Page) -> None:
    page.run()
    chain = page.cluster.routing.chains[ChainId(1)]
    first, second, third = (int(slot.node) for slot in chain.slots)
    for number, state in ((first, "b"), (second, "o"), (third, "x")):
        page.cluster.set_state(number, PublicState.OFFLINE, alive=False)
        assert page.run(2)["chains"]["states"][0] == state
    assert page.run()["health"]["health"] == "down"


def test_an_odd_chain_of_a_large_cluster_is_found_and_rows_are_bounded() -> None:
    page = Page(nodes=12, chains=3000)
    for number in range(1, 8):
        page.cluster.set_state(number, PublicState.OFFLINE, alive=False)
    state = page.run(2)
    odd = 3000 - state["chains"]["counts"]["w"]
    assert odd > odd_chains_max
    assert len(state["chains"]["odd"]) == odd_chains_shown_max
    assert state["chains"]["odd"][0]["state"] == "x"
    assert all(len(each["texts"]) <= 20 for each in state["health"]["groups"])
    assert len(json.dumps(state)) < 400_000


def test_the_state_is_shared_for_a_moment(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page.run()
    looks = []
    monkeypatch.setattr(dashboard, "health_document", lambda *found: looks.append(found))
    for _ in range(100):
        page.feed.read_state()
    assert not looks
    page.clock.at += dashboard.state_age_ns
    page.feed.read_state()
    assert len(looks) == 1


def test_a_manager_that_stands_by_names_the_one_that_leads(page: Page) -> None:
    page.run(4)
    page.cluster.is_leading = False
    page.clock.at += SECOND
    assert page.feed.read_state() is None
    assert page.feed.find_elsewhere() == ("", "")  # it is the record that is behind
    page.cluster.managers = tuple(type(each)(each.name, each.endpoints, each.name == "mgmtd-2") for each in page.cluster.managers)
    assert page.feed.find_elsewhere() == ("mgmtd-2", "http://127.0.0.1:9410")
    page.cluster.is_leading = True
    # The hours in which another manager led are not known.
    assert len(page.run(2)["history"]["fine"]) == 1


def test_names_from_users_are_data(page: Page) -> None:
    state = page.run()
    (row,) = state["caches"]["rows"]
    assert row["name"] == SCRIPT
    assert row["hit_rate"] == 0.563


def test_what_has_not_changed_is_not_sent(page: Page) -> None:
    first = page.run(4)
    page.clock.at += 300 * MILLISECOND
    again = page.run(0)
    assert changes_between(first, again) == {}
    page.cluster.set_state(2, PublicState.OFFLINE, alive=False)
    after = page.run(2)
    changes = changes_between(again, after)
    assert [each["name"] for each in changes["nodes"]] == ["storage-2"]
    assert "states" not in changes["set"]["chains"]
    assert [event["text"] for event in changes["events"]] == ["node storage-2 has changed"]
    assert len(changes["samples"]["fine"]) == 1
    assert len(json.dumps(changes)) < len(json.dumps(after))
