"""Whose a client id is, as a process remembers it."""

from fs3.core.security.client_owners import ClientOwners, client_ids_per_connection_max, note_own, owner_of
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right

ANN = Principal(PrincipalKind.USER, "ann", int(Right.USER))


def test_the_first_one_has_it() -> None:
    owners = ClientOwners()
    assert owners.find(b"a") == ""
    assert owners.bind(b"a", "ann")
    assert owners.bind(b"a", "ann")
    assert not owners.bind(b"a", "bob")
    assert owners.find(b"a") == "ann"
    assert owners.bind(b"b", "bob")


def test_who_names_many_loses_its_own_and_no_others() -> None:
    owners = ClientOwners(ids_max=3)
    assert owners.bind(b"of ann", "ann")
    for number in range(10):
        assert owners.bind(b"%d" % number, "bob")
    assert not owners.bind(b"of ann", "bob")
    assert owners.find(b"6") == ""
    assert [owners.find(b"%d" % number) for number in (7, 8, 9)] == ["bob"] * 3


def test_a_node_is_no_user_of_its_name() -> None:
    node = Principal(PrincipalKind.SERVICE, "ann", int(Right.META))
    assert owner_of(ANN) != owner_of(node)
    changed = Principal(PrincipalKind.USER, "ann", int(Right.USER | Right.ADMIN), since=7)
    assert owner_of(changed) == owner_of(ANN)


def test_a_connection_remembers_some_until_it_is_another_ones() -> None:
    auth = AuthContext()
    auth.prove(ANN, 1 << 60)
    for number in range(client_ids_per_connection_max + 1):
        note_own(auth, number.to_bytes(16, "big"))
    assert auth.clients == {client_ids_per_connection_max.to_bytes(16, "big")}
    auth.prove(ANN, 1 << 61)
    assert auth.clients, "the ticket was renewed"
    auth.prove(Principal(PrincipalKind.USER, "bob", int(Right.USER)), 1 << 61)
    assert not auth.clients
    note_own(auth, b"x" * 16)
    auth.lapse()
    assert not auth.clients
