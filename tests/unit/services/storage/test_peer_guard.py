"""What a storage node takes in the name of a target, by the connection that it came on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.status import Code
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.model.routing import Routing
from fs3.services.storage.peer_guard import PeerGuard
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

CHAINS = [
    Chain(
        ChainId(number),
        3,
        tuple(Slot(TargetId(100 * node + number), NodeId(node), PublicState.SERVING) for node in (first, 9)),
    )
    for number, first in ((1, 1), (2, 2))
]
TARGETS: Any = SimpleNamespace(by_chain={chain.id: SimpleNamespace(chain=chain) for chain in CHAINS})
SOURCE: Any = SimpleNamespace(routing=Routing(cluster=b"c" * 16, version=1, nodes={}, chains={}, tables={}))
FENCE = pb.ResyncFence(chain=1, chain_version=3, from_target=101)


def node(number: int) -> AuthContext:
    """A connection of a storage node."""
    return AuthContext(Right.STORAGE, Principal(PrincipalKind.SERVICE, f"storage-{number}", Right.STORAGE, node=number))


USER = AuthContext(Right.USER, Principal(PrincipalKind.USER, "ann", Right.USER))
OPEN = AuthContext()


class AskedCall:
    """A call, and what became of it."""

    def __init__(self, request: Any, auth: AuthContext) -> None:
        self.request = request
        self.auth = auth
        self.code = Code.OK
        self.served = 0

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `Call.fail`."""
        self.code = code


def serve(request: Any, auth: AuthContext) -> AskedCall:
    """Through the guard of the method of this request."""
    guard = PeerGuard(TARGETS, SOURCE)

    def handle(call: Any) -> None:
        call.served += 1

    wrap = {
        pb.UpdateRequest: guard.updates,
        pb.PushRequest: guard.sends,
        pb.ShareTouchesRequest: guard.sends,
    }.get(type(request), guard.resyncs)
    call: Any = AskedCall(request, auth)
    wrap(handle)(call)
    assert call.served == (call.code is Code.OK)
    return call  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "request_",
    [
        pb.UpdateRequest(from_target=101, chains=[1, 1]),
        pb.PushRequest(from_target=101, chain=1),
        pb.ShareTouchesRequest(from_target=101, chain=1),
        pb.CompareRangesRequest(fence=FENCE),
        pb.MergeChannelsRequest(fence=FENCE),
        pb.FinishResyncRequest(fence=FENCE),
        pb.ListChunksRequest(fence=FENCE),
    ],
    ids=lambda request: type(request).__name__,
)
def test_what_is_said_for_a_target_comes_from_its_node(request_: Any) -> None:
    assert serve(request_, node(1)).served
    assert serve(request_, OPEN).served
    for auth in (node(2), node(9), USER):
        assert serve(request_, auth).code is Code.PERMISSION


def test_each_chain_of_a_request_is_looked_at() -> None:
    assert serve(pb.UpdateRequest(from_target=101, chains=[1, 2]), node(1)).served, "target 101 is not in chain 2"
    assert serve(pb.UpdateRequest(from_target=202, chains=[1, 2]), node(1)).code is Code.PERMISSION
    assert serve(pb.UpdateRequest(from_target=202, chains=[1, 2]), node(2)).served


def test_clients_write_and_read_as_themselves() -> None:
    assert serve(pb.UpdateRequest(chains=[1]), USER).served


def test_every_method_for_storage_nodes_alone_has_its_guard() -> None:
    alone = {method.name for method in STORAGE.methods if method.rights == Right.STORAGE}
    assert alone == {"CompareRanges", "MergeChannels", "FinishResync", "ShareTouches", "Push"}
