"""What is cut into parts is the same again when it is put together."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.cluster import ManagerInfo, RoutingUpdate
from fs3.model.routing import Delta, Node, Role
from fs3.wire import routing_parts
from fs3.wire.mgmtd import routing_from_pb, routing_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb
from fs3.wire.routing_parts import RoutingParts, split_routing, split_status


def make_update(chains: int, from_version: int = 0) -> RoutingUpdate:
    nodes = tuple(Node(NodeId(n), f"storage-{n}", Role.STORAGE, (f"tcp://h{n}:1",), "h", 1, alive=True) for n in range(1, 31))
    slots = tuple(Slot(TargetId(n), NodeId(n), PublicState.SERVING) for n in (1, 2, 3))
    made = tuple(Chain(ChainId(n), 7, slots) for n in range(1, chains + 1))
    table = ChainTable(TableId(1), 1, 3, tuple(chain.id for chain in made))
    delta = Delta(from_version, 9, nodes, made, (table,), (NodeId(77),), namespace_deletions=3, namespaces_version=4)
    return RoutingUpdate(delta, b"c" * 16, (ManagerInfo("mgmtd", ("tcp://m:1",), is_primary=True),))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_parts, "routing_part_bytes", 2000)


@pytest.mark.parametrize("chains", [1, 2, 40, 500])
@pytest.mark.parametrize("from_version", [0, 8])
def test_routing_survives(chains: int, from_version: int) -> None:
    update = make_update(chains, from_version)
    parts = split_routing(routing_to_pb(update))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(part.ByteSize() <= 2000 + 20 for part in parts[1:])
    assert (len(parts) > 5) == (chains == 500)
    collected = RoutingParts()
    for _ in range(2):  # it begins anew after the last part
        *before, last = [collected.add(part) for part in parts]
        assert before == [None] * (len(parts) - 1)
        assert last is not None
        assert routing_from_pb(last) == update


def test_a_small_update_is_one_part() -> None:
    update = routing_to_pb(RoutingUpdate(Delta.empty(5), b"c" * 16))
    assert split_routing(update) == [update]
    assert RoutingParts().add(update) is update


def test_a_status_survives() -> None:
    targets = [pb.TargetStatus(target_id=n, node_id=1, chain_id=n) for n in range(1, 5000)]
    status = pb.GetStatusReply(
        cluster_id=b"c" * 16, software="1", routing=routing_to_pb(make_update(300)), targets=targets, epoch=4,
        node_problems=["", "x"], node_disks=[pb.NodeDisks(disks=[pb.DiskSpace(path="/d")])], store="lmdb",
    )  # fmt: skip
    merged = pb.GetStatusReply()
    parts = list(split_status(status))
    assert len(parts) > 5
    for part in parts:
        merged.MergeFrom(part)
    merged.routing.ClearField("more")
    assert merged == status
