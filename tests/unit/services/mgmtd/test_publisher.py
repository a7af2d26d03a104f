"""The routing info is encoded once for all clients that ask for the whole of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fs3.core.membership.election import Holder, LeaseRecord
from fs3.model.cluster import ManagerInfo
from fs3.model.routing import Delta, Routing
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.wire.mgmtd import routing_from_pb

ONE, TWO = Holder("m1", b"1", ("tcp://m:1",)), Holder("m2", b"2")


def test_a_version_is_encoded_once_and_names_the_primary() -> None:
    candidate: Any = SimpleNamespace(record=LeaseRecord(1, ONE, 0), managers=(ONE, TWO))
    publisher = RoutingPublisher(candidate)
    first = publisher.encode_full(Routing(b"c", 3))
    assert publisher.encode_full(Routing(b"c", 3)) is first
    managers = routing_from_pb(first).managers
    assert managers == (ManagerInfo("m1", ("tcp://m:1",), is_primary=True), ManagerInfo("m2"))
    assert publisher.encode_full(Routing(b"c", 4)).version == 4
    assert routing_from_pb(publisher.encode(Delta.empty(4), b"c")).managers == managers


def test_what_is_not_true_any_more_is_encoded_anew() -> None:
    candidate: Any = SimpleNamespace(record=None, managers=(ONE,))
    publisher = RoutingPublisher(candidate)
    assert routing_from_pb(publisher.encode_full(Routing(b"c", 3))).managers == (ManagerInfo("m1", ("tcp://m:1",)),)
    candidate.record = LeaseRecord(1, ONE, 0)
    publisher.forget()
    assert routing_from_pb(publisher.encode_full(Routing(b"c", 3))).managers[0].is_primary
