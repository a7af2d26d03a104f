"""Which node speaks: what a connection has proved against what a request says."""

import pytest

from fs3.base.errors import NoPermission
from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.claims import claim_by
from fs3.core.security.peers import is_node, speaks_for
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.model.routing import Node, Role, Routing
from fs3.model.settings import SetSettings

NODES = {
    NodeId(number): Node(NodeId(number), name, Role.STORAGE, (), "", 1, True)
    for number, name in ((1, "storage-1"), (2, "storage-2"))
}
ROUTING = Routing(cluster=b"c" * 16, version=1, nodes=NODES, chains={}, tables={})
CHAIN = Chain(
    ChainId(1), 3, (Slot(TargetId(101), NodeId(1), PublicState.SERVING), Slot(TargetId(201), NodeId(2), PublicState.SERVING))
)


def service(name: str, node: int = 0, rights: int = Right.STORAGE) -> AuthContext:
    """A connection of a node."""
    return AuthContext(rights, Principal(PrincipalKind.SERVICE, name, rights, node=node))


def user(name: str, rights: int = Right.USER) -> AuthContext:
    """A connection of a user, who may be called like a node."""
    return AuthContext(rights, Principal(PrincipalKind.USER, name, rights, node=1))


@pytest.mark.parametrize(
    ("auth", "target", "speaks"),
    [
        (service("storage-1", 1), 101, True),
        (service("storage-1"), 101, True),
        (service("storage-1", 1), 201, False),
        (service("storage-1"), 201, False),
        (service("storage-1", 2), 101, False),
        (service("meta-1", rights=Right.META), 101, False),
        (user("storage-1"), 101, False),
        (user("storage-1", Right.USER | Right.ADMIN | Right.STORAGE), 101, False),
        (AuthContext(), 101, True),
        (AuthContext(Right.ANYONE), 101, False),
        (service("storage-1", 1), 999, True),
    ],
)
def test_only_its_own_node_speaks_for_a_target(auth: AuthContext, target: int, speaks: bool) -> None:
    assert speaks_for(auth, CHAIN, TargetId(target), ROUTING) is speaks


def test_a_node_of_a_newer_id_is_not_the_one_before() -> None:
    principal = Principal(PrincipalKind.SERVICE, "storage-1", Right.STORAGE, node=3)
    assert not is_node(principal, NodeId(1), ROUTING)
    assert not is_node(principal, NodeId(9), ROUTING)


def registration(name: str, role: Role = Role.STORAGE) -> RegisterNode:
    """Of a node."""
    return RegisterNode(name, role, b"", 0, (), "")


def test_a_node_registers_with_its_own_key_alone() -> None:
    own = registration("storage-1")
    assert claim_by(service("storage-1"), own, ROUTING) is own
    assert claim_by(AuthContext(), registration("any"), ROUTING).name == "any"
    for auth, request in (
        (service("storage-1"), registration("storage-2")),
        (service("storage-1"), registration("storage-1", Role.META)),
        (service("storage-1", rights=Right.META), own),
        (user("storage-1", Right.USER | Right.ADMIN | Right.STORAGE), own),
    ):
        with pytest.raises(NoPermission):
            claim_by(auth, request, ROUTING)


def test_a_node_sends_heartbeats_of_itself_alone() -> None:
    heartbeat = Heartbeat(NodeId(2), 1, 1, (), 0)
    assert claim_by(service("storage-2"), heartbeat, ROUTING) is heartbeat
    for auth in (service("storage-1"), service("storage-2", 1), user("storage-2")):
        with pytest.raises(NoPermission):
            claim_by(auth, heartbeat, ROUTING)


def test_who_changed_settings_is_who_has_authenticated() -> None:
    request = SetSettings({}, author="another")
    assert claim_by(user("ann", Right.ADMIN), request, ROUTING).author == "ann"
    assert claim_by(AuthContext(), request, ROUTING).author == "another"
