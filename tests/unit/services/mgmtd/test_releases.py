"""Processes of several releases in one cluster: who is let in, what the others are told, what the status shows."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.errors import FS3Error, Unreachable
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.version import THIS_RELEASE, UNTOLD_RELEASE, Release, explain_conflict
from fs3.core.health.document import status_document
from fs3.core.health.problems import problems_of
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.routing import Role
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

OLD, MANAGER, NEW = Release("0.1.0", 1, 1), Release("0.3.0", 3, 2), Release("0.5.0", 5, 4)
BEFORE, AFTER = Release("0.2.0", 2, 1), Release("0.4.0", 4, 3)


def registration(release: Release, name: str = "storage-1") -> RegisterNode:
    return RegisterNode(name, Role.STORAGE, b"", 1, (f"tcp://{name}:1",), "h", 5, release=release)


@pytest.mark.parametrize("process", [BEFORE, MANAGER, AFTER])
def test_neighbours_work_side_by_side(process: Release) -> None:
    assert explain_conflict(process, MANAGER) == ""


def test_others_are_told_what_to_install() -> None:
    assert "too old" in explain_conflict(OLD, MANAGER)
    assert "install fs3 0.3.0 in place of 0.1.0" in explain_conflict(OLD, MANAGER)
    assert "too new" in explain_conflict(NEW, MANAGER)
    assert "install fs3 0.3.0 in place of 0.5.0, or upgrade the managers first" in explain_conflict(NEW, MANAGER)


def test_a_process_that_tells_nothing_is_of_the_first_level() -> None:
    assert explain_conflict(UNTOLD_RELEASE, THIS_RELEASE) == ""
    assert "too old" in explain_conflict(UNTOLD_RELEASE, MANAGER)


@pytest.mark.parametrize(("release", "words"), [(OLD, "too old"), (NEW, "too new")])
async def test_a_process_of_another_release_ends_at_once(world: Any, release: Release, words: str) -> None:
    await world.serve(release=MANAGER)
    with pytest.raises(Unreachable, match=f"{words}.*install fs3 0.3.0") as refused:
        await world.started(release=release)
    assert refused.value.code is Code.PROTOCOL
    assert world.network.calls["tcp://m:1", "GetCluster"] == 1, "asking again would not help"


@pytest.mark.parametrize(("release", "words"), [(OLD, "too old"), (NEW, "too new"), (UNTOLD_RELEASE, "too old")])
async def test_a_node_of_another_release_is_refused(world: Any, release: Release, words: str) -> None:
    """However it came by the manager: what a node runs is looked at when it registers."""
    await world.serve(release=MANAGER)
    client = await world.started(release=MANAGER)
    with pytest.raises(FS3Error, match=f"node 'storage-1' runs .*{words}.*install fs3 0.3.0") as refused:
        await client.register(registration(release))
    assert refused.value.code is Code.PROTOCOL
    assert client.routing.nodes == {}


async def test_a_process_that_knows_no_levels_is_told_that_it_is_too_old(world: Any) -> None:
    await world.serve(release=MANAGER)
    channel = world.network.connector().channel(("tcp://m:1",))
    with pytest.raises(FS3Error, match=r"too old for this cluster.*install fs3 0.3.0") as refused:
        await channel.call(MGMTD.GetCluster, pb.GetClusterRequest(), timeout_ns=10**9)
    assert refused.value.code is Code.PROTOCOL


async def test_the_status_tells_what_each_process_runs(world: Any) -> None:
    await world.serve(release=MANAGER)
    client = await world.started(release=MANAGER)
    for number, release in enumerate((BEFORE, MANAGER, AFTER), start=1):
        await client.register(registration(release, f"storage-{number}"))
        if number < 3:
            await client.heartbeat(Heartbeat(NodeId(number), 1, 1, release=release))
    status = await client.status()
    assert [node.release for node in status.nodes] == [BEFORE, MANAGER, None]
    (mixed,) = [problem for problem in problems_of(status_document(status)) if "versions are mixed" in problem.text]
    assert mixed.text == "versions are mixed: fs3 0.2.0 level 2: storage-1; fs3 0.3.0 level 3: storage-2"
    assert not mixed.may_pass, "an upgrade is not held up by itself"


async def test_one_release_is_no_mixture(world: Any) -> None:
    await world.serve()
    client = await world.started()
    for number in (1, 2):
        await client.register(registration(THIS_RELEASE, f"storage-{number}"))
        await client.heartbeat(Heartbeat(NodeId(number), 1, 1, release=THIS_RELEASE))
    problems = problems_of(status_document(await client.status()))
    assert not [problem for problem in problems if "mixed" in problem.text]
