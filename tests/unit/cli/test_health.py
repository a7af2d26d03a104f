"""The verdict of `fs3 status`, and its tables."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from fs3.cli.health import ClusterHealth, health_of, problems_of
from fs3.cli.status import status_document, with_verdict
from fs3.cli.status_view import PROBLEMS_SHOWN_MAX, render
from fs3.model.chain import LocalState, PublicState
from fs3.model.routing import Role
from fs3.wire.pb import mgmtd_pb2 as pb

UP, ON, OFF = LocalState.UPTODATE, LocalState.ONLINE, LocalState.OFFLINE
SERVING, SYNCING, LASTSRV, GONE = PublicState.SERVING, PublicState.SYNCING, PublicState.LASTSRV, PublicState.OFFLINE


def reply(*states: tuple[PublicState, LocalState | None], dead: tuple[str, ...] = (), **fields: Any) -> pb.GetStatusReply:
    """A cluster of one chain whose targets are in these states. `fields` go into the last target."""
    nodes = [pb.Node(id=1, name="meta", role=int(Role.META), alive="meta" not in dead, incarnation=1)]  # type: ignore[arg-type]
    slots, targets = [], []
    for index, (public, local) in enumerate(states, start=1):
        name = f"storage-{index}"
        nodes.append(pb.Node(id=1 + index, name=name, role=int(Role.STORAGE), alive=name not in dead))  # type: ignore[arg-type]
        slots.append(pb.Slot(target_id=index, node_id=1 + index, state=int(public)))  # type: ignore[arg-type]
        targets.append(
            pb.TargetStatus(
                target_id=index,
                node_id=1 + index,
                chain_id=7,
                public_state=int(public),  # type: ignore[arg-type]
                local_state=int(local or 0),  # type: ignore[arg-type]
                chain_version=4,
                used_bytes=1000,
                chunks=10,
            )
        )
    for name, value in fields.items():
        setattr(targets[-1], name, value)
    routing = pb.RoutingUpdate(
        version=9,
        nodes=nodes,
        chains=[pb.Chain(id=7, version=4, slots=slots)],
        tables=[pb.ChainTable(id=1, replicas=3, chains=[7])],
    )
    return pb.GetStatusReply(
        cluster_id=b"c" * 16,
        routing=routing,
        targets=targets,
        lease_left_ms=[2000] * len(nodes),
        silent_ms=[12_000 if node.name in dead else 300 for node in nodes],
        managers=[pb.Manager(name="mgmtd", endpoints=["tcp://m:1"], is_primary=True), pb.Manager(name="mgmtd-2")],
        epoch=3,
        primary_for_ms=5000,
    )


WELL = (SERVING, UP)


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
def test_verdicts(made: pb.GetStatusReply, health: ClusterHealth, words: str) -> None:
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
    source = made.targets[0]
    source.resync_target_id, source.resync_done_chunks, source.resync_total_chunks = 2, 4, 10
    source.resync_bytes, source.resync_bytes_per_second = 3 << 20, 100
    document = with_verdict(status_document(made))
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
    many = document | {"health": "degraded", "problems": [{"health": "degraded", "text": f"problem {n}"} for n in range(50)]}
    assert f"and {50 - PROBLEMS_SHOWN_MAX} more" in shown(many)
