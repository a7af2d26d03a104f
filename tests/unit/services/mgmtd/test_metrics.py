"""What the primary says of its cluster: differences of clocks, and metrics."""

from __future__ import annotations

from typing import Any

from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.metrics import catalogue
from fs3.model.routing import Role
from fs3.services.mgmtd.metrics import MgmtdMetrics


async def test_the_status_tells_how_far_clocks_are_apart(world: Any) -> None:
    await world.serve()
    client = await world.started()
    for number, ahead_ms in ((1, 90_000), (2, -5), (3, None)):
        await client.register(RegisterNode(f"storage-{number}", Role.STORAGE, b"", 0, ("tcp://127.0.0.1:1",), ""))
        wall_ms = 0 if ahead_ms is None else world.clock.wall() // MILLISECOND + ahead_ms
        await client.heartbeat(Heartbeat(NodeId(number), 1, 1, wall_ms=wall_ms))
    skews = [node.clock_skew_ms for node in (await client.status()).nodes]
    assert skews[2] is None
    assert 80_000 < skews[0] <= 90_000
    assert -10_000 < skews[1] <= 0


async def test_metrics_of_a_cluster(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    await client.register(RegisterNode("meta", Role.META, b"", 0, ("tcp://10.0.0.9:1",), ""))
    await client.heartbeat(Heartbeat(NodeId(1), 1, 1))
    found = {(sample.metric, sample.labels): sample.value for sample in MgmtdMetrics(service, world.clock).samples()}
    assert found[catalogue.PRIMARY, ()] == 1
    assert found[catalogue.NODES, ("meta", "true")] == 1
    assert found[catalogue.PROBLEMS, ("no-chains", "down")] == 1
    assert found[catalogue.PROBLEMS, ("unsecured", "notice")] == 1
    assert found[catalogue.PROBLEMS, ("node-dead", "degraded")] == 0
    assert found[catalogue.CHAINS, ("whole",)] == 0
