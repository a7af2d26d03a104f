"""Every verb says who may call it, and the document says the same."""

from __future__ import annotations

from fs3.model.principal import ALL_RIGHTS, Right
from fs3.wire.methods import METHODS
from fs3.wire.pb import common_pb2
from fs3.wire.rights import CONDITIONS, condition_of, rights_table

FOR_ANYONE = {
    "Mgmtd.BeginLogin",
    "Mgmtd.GetCluster",
    "Mgmtd.JoinCluster",
    "Mgmtd.JoinMachine",
    "Mgmtd.Login",
    "Process.Authenticate",
}
"""What a connection may ask that has proved nothing. A change that adds to it says in docs/security-rights.md what that shows."""


def test_every_verb_says_who_may_call_it() -> None:
    for method in METHODS.values():
        assert method.rights, f"{method!r} has no rights in its .proto"
        assert not method.rights & ~ALL_RIGHTS
        assert not method.rights & Right.ACT_FOR, "no verb asks for it"


def test_strangers_may_call_little() -> None:
    assert {method.full_name for method in METHODS.values() if method.rights & Right.ANYONE} == FOR_ANYONE


def test_what_is_forwarded_is_from_storage_nodes() -> None:
    for method in METHODS.values():
        if method.is_forwardable:
            assert method.rights & Right.STORAGE
        if not method.rights & (Right.ANYONE | Right.USER | Right.ADMIN):
            assert condition_of(method), f"{method!r} is for services: what does it ask of them?"


def test_numbers_of_rights_are_those_of_the_proto() -> None:
    for right in Right:
        assert 1 << (common_pb2.Right.Value(f"RIGHT_{right.name}") - 1) == right


def test_the_table_has_every_verb_and_conditions_are_of_verbs_there_are() -> None:
    names = {method.full_name for method in METHODS.values()}
    assert set(CONDITIONS) <= names
    table = rights_table()
    for name in names:
        assert f"| `{name}` | " in table
