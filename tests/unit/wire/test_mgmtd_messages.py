"""Cluster records survive the wire, and malformed ones are refused by name."""

from __future__ import annotations

import pytest

from fs3.base.errors import InvalidArgument
from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.cluster import ManagerInfo, RoutingUpdate
from fs3.model.domain import Domain
from fs3.model.routing import Delta, Node, Role
from fs3.wire.mgmtd import endpoints_from_pb, name_from_pb, routing_from_pb, routing_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb

CLUSTER = b"0123456789abcdef"
NODE = Node(
    NodeId(3), "storage-1", Role.STORAGE, ("tcp://h:1", "grpc://h:2"), "host", 9, alive=True, pid=44, domain=Domain("z1", "r7")
)
SLOTS = tuple(Slot(TargetId(number), NodeId(number), state) for number, state in enumerate(PublicState, 1))
DELTA = Delta(4, 6, (NODE,), (Chain(ChainId(8), 2, SLOTS),), (ChainTable(TableId(1), 1, 3, (ChainId(8),)),), (NodeId(7),))
UPDATE = RoutingUpdate(DELTA, CLUSTER, (ManagerInfo("m1", ("tcp://m:1",), is_primary=True), ManagerInfo("m2")))


def test_a_delta_survives() -> None:
    message = pb.RoutingUpdate.FromString(routing_to_pb(UPDATE).SerializeToString())
    assert routing_from_pb(message) == UPDATE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: setattr(m, "from_version", 7), "RoutingUpdate.from_version: 7 is after version 6"),
        (lambda m: setattr(m.nodes[0], "id", 0), "RoutingUpdate.nodes[0].id: is 0, must be at least 1"),
        (lambda m: setattr(m.nodes[0], "name", ""), "RoutingUpdate.nodes[0].name: is empty"),
        (lambda m: setattr(m.nodes[0], "role", 77), "RoutingUpdate.nodes[0].role: 77 is not a Role"),
        (lambda m: m.nodes[0].endpoints.append("nowhere"), "RoutingUpdate.nodes[0].endpoints[2]: 'nowhere' is not an endpoint"),
        (lambda m: setattr(m.chains[0], "version", 0), "RoutingUpdate.chains[0].version: is 0, must be at least 1"),
        (lambda m: setattr(m.chains[0].slots[1], "state", 0), "RoutingUpdate.chains[0].slots[1].state: 0 is not a PublicState"),
        (lambda m: setattr(m.chains[0].slots[1], "target_id", 1), "RoutingUpdate.chains[0].slots: two slots name one target"),
        (lambda m: m.chains[0].ClearField("slots"), "RoutingUpdate.chains[0].slots: 0 slots"),
        (lambda m: m.tables[0].ClearField("chains"), "RoutingUpdate.tables[0].chains: is empty"),
        (lambda m: setattr(m.tables[0], "replicas", 99), "RoutingUpdate.tables[0].replicas: 99, must be 1 to 16"),
    ],
)
def test_malformed_updates_are_refused_by_field(change, field: str) -> None:  # type: ignore[no-untyped-def]
    message = routing_to_pb(UPDATE)
    change(message)
    with pytest.raises(InvalidArgument) as refused:
        routing_from_pb(message)
    assert field in str(refused.value)


def test_names_and_endpoints_are_bounded() -> None:
    with pytest.raises(InvalidArgument, match="x: longer than 255 bytes"):
        name_from_pb("n" * 256, "x")
    with pytest.raises(InvalidArgument, match="cannot be printed"):
        name_from_pb("a\nb", "x")
    with pytest.raises(InvalidArgument, match="9 endpoints, at most 8"):
        endpoints_from_pb(["tcp://h:1"] * 9, "x")
    with pytest.raises(InvalidArgument, match="longer than 512 bytes"):
        endpoints_from_pb(["tcp://" + "h" * 600], "x")
