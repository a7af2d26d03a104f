"""The verdict of `fs3 status`, and its tables."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.units import MILLISECOND, SECOND, format_size
from fs3.cli.status_view import PROBLEMS_SHOWN_MAX, render
from fs3.core.health.document import status_document
from fs3.core.health.problems import describe_security, health_of, problems_of, with_verdict
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.cluster import ClusterStatus, DiskSpace, ManagerInfo, NodeStatus, TargetStatus
from fs3.model.health import ENGINE_PROBLEM, ClusterHealth, HealthKind
from fs3.model.routing import Node, Role, Routing
from fs3.model.target_report import UpkeepProgress

UP, ON, OFF = LocalState.UPTODATE, LocalState.ONLINE, LocalState.OFFLINE
SERVING, SYNCING, LASTSRV, GONE = PublicState.SERVING, PublicState.SYNCING, PublicState.LASTSRV, PublicState.OFFLINE


UPKEEP = UpkeepProgress.__struct_fields__


def reply(*states: tuple[PublicState, LocalState | None], dead: tuple[str, ...] = (), **fields: Any) -> ClusterStatus:
    """A cluster of one chain whose targets are in these states. `fields` go into the last target."""
    nodes = [Node(NodeId(1), "meta", Role.META, (), "", 1, alive="meta" not in dead)]
    slots, targets = [], []
    for index, (public, local) in enumerate(states, start=1):
        name = f"storage-{index}"
        nodes.append(Node(NodeId(1 + index), name, Role.STORAGE, (), "", 0, alive=name not in dead))
        slots.append(Slot(TargetId(index), NodeId(1 + index), public))
        targets.append(TargetStatus(ChainId(7), 4, slots[-1], local, born=False, used_bytes=1000, chunks=10))
    targets[-1] = changed(targets[-1], **fields)
    chain, table = Chain(ChainId(7), 4, tuple(slots)), ChainTable(TableId(1), 0, 3, (ChainId(7),))
    return ClusterStatus(
        software="",
        routing=Routing(b"c" * 16, 9, {node.id: node for node in nodes}, {chain.id: chain}, {table.id: table}),
        nodes=tuple(NodeStatus(node, 2 * SECOND, (12_000 if node.name in dead else 300) * MILLISECOND) for node in nodes),
        targets=tuple(targets),
        namespaces=0,
        managers=(ManagerInfo("mgmtd", ("tcp://127.0.0.1:1",), is_primary=True), ManagerInfo("mgmtd-2")),
        epoch=3,
        primary_for_ns=5 * SECOND,
    )


def changed(target: TargetStatus, **fields: Any) -> TargetStatus:
    """A target with other values in these fields, its own or those of its upkeep."""
    upkeep = replace(target.upkeep, **{name: value for name, value in fields.items() if name in UPKEEP})
    return replace(target, upkeep=upkeep, **{name: value for name, value in fields.items() if name not in UPKEEP})


WELL = (SERVING, UP)


def test_an_engine_that_is_not_well_degrades_and_is_not_waited_for() -> None:
    made = reply(WELL, WELL, WELL)
    nodes = (replace(made.nodes[0], problem=f"{ENGINE_PROBLEM}etcd at h:1 does not answer"), *made.nodes[1:])
    (problem,) = problems_of(status_document(replace(made, nodes=nodes)))
    assert problem.health is ClusterHealth.DEGRADED
    assert not problem.may_pass


def test_what_a_node_says_of_its_store_is_shown() -> None:
    made = reply(WELL, WELL, WELL)
    nodes = (replace(made.nodes[0], problem="its store has damaged rows"), *made.nodes[1:])
    document = with_verdict(status_document(replace(made, nodes=nodes)))
    assert document["health"] == "degraded"
    assert [problem["text"] for problem in document["problems"]] == ["node meta: its store has damaged rows"]


@pytest.mark.parametrize(
    ("made", "health", "words"),
    [
        (reply(WELL, WELL, WELL), ClusterHealth.HEALTHY, ""),
        (reply(WELL, WELL, (GONE, OFF), dead=("storage-3",)), ClusterHealth.DEGRADED, "storage-3 is dead, last heard 12 s ago"),
        (
            reply(WELL, WELL, (GONE, OFF), dead=("storage-3",)),
            ClusterHealth.DEGRADED,
            "target 3 on storage-3 is offline: its node is dead",
        ),
        (
            reply(WELL, WELL, (SYNCING, ON)),
            ClusterHealth.DEGRADED,
            "target 3 on storage-3 is syncing: it is being brought up to date",
        ),
        (reply(WELL, WELL, (GONE, OFF), reason="the index is damaged"), ClusterHealth.DEGRADED, "offline: the index is damaged"),
        (
            reply(WELL, WELL, WELL, bad_blocks=2),
            ClusterHealth.DEGRADED,
            "target 3 on storage-3 has 2 bad blocks without a good copy",
        ),
        (
            reply(WELL, WELL, (SERVING, None)),
            ClusterHealth.DEGRADED,
            "serves, and its node has not reported on it since the last change",
        ),
        (
            reply((GONE, OFF), (LASTSRV, OFF), dead=("storage-2",)),
            ClusterHealth.DOWN,
            "target 2 on storage-2 has the newest data",
        ),
        (reply((GONE, OFF), (LASTSRV, OFF), dead=("storage-2",)), ClusterHealth.DOWN, "chain 7: nobody serves"),
        (reply(WELL, dead=("meta",)), ClusterHealth.DOWN, "no metadata node is alive"),
    ],
)
def test_verdicts(made: ClusterStatus, health: ClusterHealth, words: str) -> None:
    problems = problems_of(status_document(made))
    assert health_of(problems) is health
    if words:
        assert any(words in problem.text for problem in problems), problems
        assert problems[0].health is health, "the worst comes first"
    else:
        assert not problems


def test_a_manager_that_does_not_answer_and_a_cluster_without_table() -> None:
    document = status_document(reply(WELL))
    document["managers"][1]["answers"] = False
    assert [problem.text for problem in problems_of(document)] == ["manager mgmtd-2 does not answer"]
    document["tables"] = []
    assert health_of(problems_of(document)) is ClusterHealth.DOWN


def shown(document: dict[str, Any]) -> str:
    console = Console(width=200, file=StringIO())
    with console.capture() as text:
        console.print(render(document))
    return text.get()


def test_a_resync_shows_how_far_it_is_and_how_long_it_takes_at_most() -> None:
    made = reply(WELL, (SYNCING, ON))
    source = changed(
        made.targets[0],
        resync_target_id=2,
        resync_done_chunks=4,
        resync_total_chunks=10,
        resync_bytes=3 << 20,
        resync_bytes_per_second=100,
    )
    document = with_verdict(status_document(replace(made, targets=(source, *made.targets[1:]))))
    [resync] = document["resyncs"]
    assert (resync["fraction"], resync["seconds_left"], resync["target"]) == (0.4, 6.0, "2 on storage-2")
    text = shown(document)
    assert "4 of 10 (40 %)" in text
    assert "3.0 MiB" in text
    assert "at most 6 s" in text
    assert "is degraded; 0 of 1 chains have all their replicas" in text


def test_everything_that_is_known_is_shown() -> None:
    document = with_verdict(
        status_document(reply(WELL, WELL, scrub_done_chunks=3, scrub_total_chunks=10, scrub_passes=2, repaired_blocks=1))
    )
    text = shown(document)
    assert "is healthy; 1 of 1 chains have all their replicas; routing version 9" in text
    assert "primary for 5 s, epoch 3" in text
    assert "stands by" in text
    assert "3 of 10" in text
    many = document | {
        "health": "degraded",
        "problems": [{"health": "degraded", "text": f"problem {n}", "runbook": "x"} for n in range(50)],
    }
    assert f"and {50 - PROBLEMS_SHOWN_MAX} more" in shown(many)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "total", "is_named"),
    [(1, 100, True), (9, 100, True), (11, 100, False), (30, 1000, False), (1, 3, True), (0, 0, True)],
)
def test_a_disk_that_is_nearly_full_is_named(free: int, total: int, is_named: bool) -> None:
    """Of storage, metadata and managers alike; nobody waits for it to pass."""
    free, total = free * GIB, total * GIB
    status = reply(WELL, WELL)
    disks = (DiskSpace("/data", total, free),)
    status = replace(status, nodes=tuple(replace(node, disks=disks) for node in status.nodes))
    document = status_document(status)
    document["managers"][0]["disks"] = [{"path": "/data", "total_bytes": total, "free_bytes": free}]
    found = problems_of(document)
    assert len(found) == (4 if is_named else 0)
    if is_named:
        assert {problem.text.split(" is nearly")[0] for problem in found} == {
            f"the disk of {name}" for name in ("mgmtd", "meta", "storage-1", "storage-2")
        }
        assert f"/data has {format_size(free)} free of {format_size(total)} ({100 * free / max(1, total):.1f} %)" in found[0].text
        assert not any(problem.may_pass for problem in found)
        assert health_of(found) is ClusterHealth.DEGRADED


def test_a_target_that_serves_and_is_read_only_is_a_problem() -> None:
    [problem] = problems_of(status_document(reply(WELL, WELL, reason="its disk is full: read-only")))
    assert problem.health is ClusterHealth.DEGRADED
    assert problem.text.endswith("target 2 on storage-2 serves: its disk is full: read-only")


def test_a_notice_leaves_the_cluster_healthy_and_comes_last() -> None:
    made = reply(WELL, WELL, (GONE, OFF), dead=("storage-3",))
    managers = (replace(made.managers[0], endpoints=("tcp://10.0.0.1:8000", "local:///x")), *made.managers[1:])
    document = with_verdict(status_document(replace(made, managers=managers)))
    assert document["health"] == "degraded"
    last = document["problems"][-1]
    assert (last["code"], last["severity"], last["health"]) == ("unsecured", "notice", "healthy")
    assert last["text"].endswith(": mgmtd")
    well = reply(WELL, WELL, WELL)
    found = problems_of(status_document(replace(well, managers=managers)))
    assert health_of(found) is ClusterHealth.HEALTHY
    assert [problem.kind for problem in found] == [HealthKind.UNSECURED]


def test_who_may_use_the_cluster_is_said() -> None:
    def said(secured: bool, *endpoints: str) -> str:
        made = replace(reply(WELL, WELL, WELL), is_secured=secured)
        managers = tuple(replace(manager, endpoints=endpoints) for manager in made.managers)
        document = status_document(replace(made, managers=managers))
        assert (HealthKind.UNSECURED in [problem.kind for problem in problems_of(document)]) == (
            "whatever" in describe_security(document)
        )
        return describe_security(document)

    assert said(False, "tcp://127.0.0.1:1", "local:///x") == "security: off; open to every program on its machine"
    assert "security: off; open to whatever reaches" in said(False, "tls://10.0.0.1:1")
    assert said(False, "grpcs://10.0.0.1:1").endswith("between machines, not encrypted")
    assert said(False, "tls://10.0.0.1:1").endswith("between machines, encrypted (TLS)")
    assert said(True, "tcp://10.0.0.1:1") == "security: on; between machines, not encrypted"
    assert said(True, "tls://10.0.0.1:1") == "security: on; between machines, encrypted (TLS)"


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "grpc://[::1]:1", "tcp://localhost:1", "local:///run/x", "memory://a"])
def test_what_only_this_machine_reaches_is_no_notice(endpoint: str) -> None:
    well = reply(WELL, WELL, WELL)
    managers = tuple(replace(manager, endpoints=(endpoint,)) for manager in well.managers)
    assert not problems_of(status_document(replace(well, managers=managers)))


def test_a_resync_says_when_it_will_be_over() -> None:
    made = reply(WELL, (SYNCING, ON))
    sending = changed(
        made.targets[0], resync_target_id=2, resync_done_chunks=4, resync_total_chunks=10, resync_bytes_per_second=2
    )
    found = problems_of(status_document(replace(made, targets=(sending, made.targets[1]))))
    behind, alone = sorted(found, key=lambda problem: problem.kind is HealthKind.CHAIN_ONE_COPY)
    assert behind.text.endswith("it is being brought up to date, at most 5 min left")
    assert (behind.eta_seconds, alone.eta_seconds) == (300, 300)
    assert alone.text == "chain 7: 1 of 2 replicas serves; what is written now has one copy"


@pytest.mark.parametrize(("skew_ms", "words"), [(1000, ""), (1001, "1.0 s ahead of"), (-60_000, "60.0 s behind"), (None, "")])
def test_clocks_that_are_apart(skew_ms: int | None, words: str) -> None:
    made = reply(WELL, WELL, WELL)
    nodes = (replace(made.nodes[0], clock_skew_ms=skew_ms), *made.nodes[1:])
    found = problems_of(status_document(replace(made, nodes=nodes)))
    assert [problem.text for problem in found] == ([f"the clock of node meta is {words} the manager's"] if words else [])


def test_a_node_that_has_been_away_for_an_hour_is_another_kind() -> None:
    made = reply(WELL, WELL, (GONE, OFF), dead=("storage-3",))
    nodes = tuple(replace(node, heartbeat_age_ns=3_600 * SECOND) if not node.node.alive else node for node in made.nodes)
    kinds = {problem.kind for problem in problems_of(status_document(replace(made, nodes=nodes)))}
    assert kinds == {HealthKind.NODE_GONE, HealthKind.TARGET_BEHIND}
