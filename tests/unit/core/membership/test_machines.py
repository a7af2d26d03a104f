"""Machines that join a cluster: tokens and their ends, keys, names, and what a node must show."""

from __future__ import annotations

import msgspec
import pytest

from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.events import ManagerRequest, Rejection
from fs3.core.membership.machines import digest_of, format_token, node_name, tokens_max, why_over
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.model.cluster import RegistrationAck
from fs3.model.machine import (
    AdmitMachine,
    CertificateAuthority,
    JoinAck,
    JoinCluster,
    JoinToken,
    Machine,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
    SetAuthority,
)
from fs3.model.routing import Role
from fs3.model.security import RotateKeys
from tests.unit.core.membership.test_manager import CLUSTER, Cluster

SECRET = "0" * 32
OTHER = b"d" * 16
KEY, STRANGER = b"k" * 32, b"s" * 32
FIRST = MachineProof("h1", KEY)


class Closed(Cluster):
    """A cluster that `fs3 cluster init` made on machine h1."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = State(ClusterRow(FORMAT, CLUSTER, "prod", closed=True))
        self.stored.machines["h1"] = Machine("h1", digest_of(KEY))
        self.restart()

    def make(self, number: str = "aaaaaaaa", uses: int = 1, lifetime_ms: int = 0, at_ms: int = 1000) -> object:
        request = MakeToken(FIRST, number, digest_of(SECRET.encode()), uses, lifetime_ms, at_ms)
        return self.ask(ManagerRequest(self.next_token(), request))

    def join(self, machine: str, key: bytes, token: str = "", at_ms: int = 2000) -> object:
        text = token or format_token(CLUSTER, "aaaaaaaa", SECRET)
        return self.ask(ManagerRequest(self.next_token(), JoinCluster(text, machine, key, at_ms)))


def refused(answer: object, code: Code, words: str) -> None:
    assert isinstance(answer, Rejection), answer
    assert answer.code is code
    assert words in answer.message


def test_a_machine_joins_and_its_nodes_are_admitted() -> None:
    cluster = Closed()
    assert isinstance(cluster.make(), JoinToken)
    assert cluster.join("h2", STRANGER) == JoinAck(CLUSTER, "prod")
    proof = MachineProof("h2", STRANGER)
    assert isinstance(cluster.register("h2-storage", proof=proof), RegistrationAck)
    assert isinstance(cluster.register("h2-storage-2", proof=proof), RegistrationAck)
    assert isinstance(cluster.register("h2-meta", Role.META, proof=proof), RegistrationAck)
    cluster.restart()
    assert isinstance(cluster.register("h2-storage", proof=proof), RegistrationAck), "joined for ever"
    assert cluster.manager.machines.list().tokens[0].used_by == ("h2",)


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("", Code.NOT_ADMITTED, "aaaaaaaa is not known"),
        ("nonsense", Code.NOT_ADMITTED, "this is no token"),
        (format_token(OTHER, "aaaaaaaa", SECRET), Code.WRONG_CLUSTER, "the token is of cluster 64646464"),
    ],
)
def test_a_token_that_is_none(token: str, code: Code, words: str) -> None:
    cluster = Closed()
    refused(cluster.join("h2", STRANGER, token), code, words)
    assert "h2" not in cluster.stored.machines


def test_a_wrong_secret_is_refused() -> None:
    cluster = Closed()
    cluster.make()
    refused(cluster.join("h2", STRANGER, format_token(CLUSTER, "aaaaaaaa", "1" * 32)), Code.NOT_ADMITTED, "its secret is wrong")


def test_a_token_that_is_used_up() -> None:
    cluster = Closed()
    cluster.make(uses=1)
    assert cluster.join("h2", STRANGER) == JoinAck(CLUSTER, "prod")
    assert cluster.join("h2", STRANGER) == JoinAck(CLUSTER, "prod"), "the same machine may ask again"
    refused(cluster.join("h3", b"3" * 32), Code.NOT_ADMITTED, "was used once already, by h2")


def test_a_token_that_has_expired() -> None:
    cluster = Closed()
    cluster.make(lifetime_ms=5000, at_ms=1000)
    refused(cluster.join("h2", STRANGER, at_ms=9000), Code.NOT_ADMITTED, "has expired 3 s ago")
    assert cluster.join("h2", STRANGER, at_ms=5999) == JoinAck(CLUSTER, "prod")


def test_a_token_that_was_revoked() -> None:
    cluster = Closed()
    cluster.make()
    revoked = cluster.ask(ManagerRequest(cluster.next_token(), RevokeToken(FIRST, "aaaaaaaa")))
    assert isinstance(revoked, JoinToken)
    assert revoked.revoked
    refused(cluster.join("h2", STRANGER), Code.NOT_ADMITTED, "token aaaaaaaa was revoked")
    refused(cluster.ask(ManagerRequest(cluster.next_token(), RevokeToken(FIRST, "bbbbbbbb"))), Code.NOT_FOUND, "bbbbbbbb")


def test_two_machines_of_one_name() -> None:
    cluster = Closed()
    cluster.make(uses=9)
    cluster.join("h2", STRANGER)
    refused(cluster.join("h2", b"x" * 32), Code.EXISTS, "has a machine 'h2' already, with another key")
    refused(cluster.register("h2-storage", proof=MachineProof("h2", b"x" * 32)), Code.NOT_ADMITTED, "Two machines have this name")


def test_a_node_of_no_machine() -> None:
    cluster = Closed()
    refused(cluster.register("storage-1"), Code.NOT_ADMITTED, "`fs3 cluster join`")
    refused(cluster.register("h9-storage", proof=MachineProof("h9", KEY)), Code.NOT_ADMITTED, "'h9' has not joined")
    refused(cluster.register("h2-storage", proof=FIRST), Code.NOT_ADMITTED, "no storage node of machine 'h1'")
    refused(cluster.register("h1-meta", proof=FIRST), Code.NOT_ADMITTED, "those are called 'h1-storage'")


def test_a_node_of_another_cluster() -> None:
    refused(Closed().register("h1-storage", cluster=OTHER, proof=FIRST), Code.WRONG_CLUSTER, "belongs to cluster 6464")


def test_a_node_that_comes_back_under_another_address_is_the_same() -> None:
    cluster = Closed()
    first = cluster.register("h1-storage", proof=FIRST, directory="1:2")
    cluster.pass_time(10 * SECOND)
    back = cluster.register(
        "h1-storage", proof=FIRST, directory="1:2", host="another", endpoints=("tcp://[fd00::7]:1",), incarnation=2
    )
    assert isinstance(first, RegistrationAck)
    assert isinstance(back, RegistrationAck)
    assert back.node == first.node
    assert cluster.manager.published.nodes[back.node].endpoints == ("tcp://[fd00::7]:1",)


def test_a_machine_that_was_removed_is_refused() -> None:
    cluster = Closed()
    cluster.make()
    cluster.join("h2", STRANGER)
    proof = MachineProof("h2", STRANGER)
    cluster.register("h2-storage-2", proof=proof)
    removal = RemoveMachine(FIRST, "h2")
    refused(cluster.ask(ManagerRequest(1, removal)), Code.BUSY, "has nodes that are alive: h2-storage-2")
    cluster.beat(1)
    cluster.pass_time(10 * SECOND)
    assert not cluster.manager.published.nodes[NodeId(1)].alive
    cluster.ask(ManagerRequest(2, RotateKeys(at_once=False)))
    assert cluster.ask(ManagerRequest(2, removal)) == 0
    assert set(cluster.stored.security.revoked) == {"node h2", "node h2-storage-2"}, "what it has proved does not count"
    refused(cluster.register("h2-storage-2", proof=proof, incarnation=2), Code.NOT_ADMITTED, "or was removed")
    refused(cluster.ask(ManagerRequest(3, removal)), Code.NOT_FOUND, "no machine 'h2'")
    cluster.restart()
    refused(cluster.register("h2-storage-2", proof=proof, incarnation=2), Code.NOT_ADMITTED, "or was removed")


def test_a_machine_whose_nodes_hold_targets_is_removed_only_to_come_back() -> None:
    cluster = Closed()
    cluster.make()
    cluster.join("h2", STRANGER)
    proof = MachineProof("h2", STRANGER)
    for name in ("h1-storage", "h1-storage-2"):
        cluster.register(name, proof=FIRST)
    cluster.register("h2-storage", proof=proof)
    assert cluster.manager.targets_of(NodeId(3)), "chains were made"
    words = "hold targets: h2-storage. `fs3 admin drain h2-storage` moves them"
    refused(cluster.ask(ManagerRequest(1, RemoveMachine(FIRST, "h2"))), Code.BUSY, words)
    returns = RemoveMachine(FIRST, "h2", comes_back=True)
    refused(cluster.ask(ManagerRequest(2, returns)), Code.BUSY, "has nodes that are alive: h2-storage. Stop it first")
    cluster.pass_time(10 * SECOND)
    refused(cluster.ask(ManagerRequest(3, RemoveMachine(FIRST, "h2"))), Code.BUSY, "`fs3 admin forget h2-storage` goes on")
    held = dict(cluster.manager.targets_of(NodeId(3)))
    assert cluster.ask(ManagerRequest(4, returns)) == 0
    cluster.make("bbbbbbbb")
    assert cluster.join("h2", b"n" * 32, format_token(CLUSTER, "bbbbbbbb", SECRET)) == JoinAck(CLUSTER, "prod")
    back = cluster.register("h2-storage", proof=MachineProof("h2", b"n" * 32), incarnation=2, targets=tuple(held))
    assert isinstance(back, RegistrationAck)
    assert (back.node, cluster.manager.targets_of(NodeId(3))) == (NodeId(3), held)


def test_who_has_not_joined_makes_no_token() -> None:
    cluster = Closed()
    request = MakeToken(MachineProof("h1", STRANGER), "aaaaaaaa", b"", 1, 0)
    refused(cluster.ask(ManagerRequest(1, request)), Code.NOT_ADMITTED, "another one")
    refused(cluster.make(uses=0), Code.INVALID, "1 to")


def test_a_machine_that_has_joined_does_not_say_what_certificates_are_for() -> None:
    """With a token of its own it could else have one of a manager's address."""
    cluster = Closed()
    cluster.make()
    cluster.join("h2", STRANGER)
    second = MachineProof("h2", STRANGER)

    def ask(body: MakeToken | SetAuthority | RemoveMachine) -> object:
        return cluster.ask(ManagerRequest(cluster.next_token(), body))

    def token(proof: MachineProof, *addresses: str, is_by_admin: bool = False) -> MakeToken:
        return MakeToken(proof, "bbbbbbbb", digest_of(SECRET.encode()), 1, 0, 1000, addresses, is_by_admin)

    authority = CertificateAuthority(b"CA", b"CAKEY")
    refused(ask(token(second, "h1")), Code.PERMISSION, r"only the machine that made the cluster (h1) makes tokens that allow")
    refused(ask(SetAuthority(second, authority)), Code.PERMISSION, "the token of an administrator in FS3_TOKEN_FILE")
    assert (cluster.stored.tokens.keys(), cluster.manager.machines.authority) == ({"aaaaaaaa"}, None)
    assert isinstance(ask(token(second)), JoinToken), "one that allows nothing besides"
    refused(ask(token(second, "h1")), Code.PERMISSION, "only the machine that made the cluster")
    assert ask(SetAuthority(FIRST, authority)) == 0
    assert ask(SetAuthority(second, authority, is_by_admin=True)) == 0
    assert ask(RemoveMachine(second, "h1")) == 0
    refused(ask(SetAuthority(second, authority)), Code.PERMISSION, "made the cluster (it was removed)")
    refused(ask(SetAuthority(FIRST, authority)), Code.NOT_ADMITTED, "'h1' has not joined")
    cluster.join("h1", KEY, at_ms=3000)
    refused(ask(SetAuthority(FIRST, authority)), Code.NOT_ADMITTED, "'h1' has not joined")
    made = ask(token(second, "h3", is_by_admin=True))
    assert isinstance(made, JoinToken), "the same one again"


def test_what_a_token_that_is_over_allows() -> None:
    cluster = Closed()
    allowed = MakeToken(FIRST, "aaaaaaaa", digest_of(SECRET.encode()), 1, 5000, 1000, ("h1",))
    cluster.ask(ManagerRequest(cluster.next_token(), allowed))
    cluster.make("bbbbbbbb")
    cluster.join("h2", STRANGER, format_token(CLUSTER, "bbbbbbbb", SECRET))

    def allows(machine: str, number: str = "aaaaaaaa", at_ms: int = 2000) -> tuple[str, ...]:
        return tuple(cluster.manager.machines.allowed_for(machine, number, at_ms))

    assert (allows("h2"), allows("h3"), allows("h2", "bbbbbbbb"), allows("h2", "cccccccc")) == (("h1",), ("h1",), (), ())
    assert (allows("h2", at_ms=6000), allows("h3", at_ms=6000)) == ((), ()), "it has expired"
    joining = AdmitMachine("aaaaaaaa", "h3", digest_of(b"3" * 32), ("alias",), 2000)
    assert cluster.ask(ManagerRequest(cluster.next_token(), joining)) == JoinAck(CLUSTER, "prod")
    assert (allows("h2"), allows("h4")) == ((), ()), "it is used up"
    assert allows("h3", at_ms=6000) == ("h1", "alias"), "it has joined with it"
    cluster.ask(ManagerRequest(cluster.next_token(), RevokeToken(FIRST, "aaaaaaaa")))
    assert (allows("h2"), allows("h3")) == ((), ("alias",)), "it was revoked"


def test_tokens_that_are_over_make_room() -> None:
    cluster = Closed()
    for number in range(tokens_max):
        assert isinstance(cluster.make(f"{number:08x}", lifetime_ms=0 if number else 1, at_ms=1000 + number), JoinToken)
    assert isinstance(cluster.make("ffffffff", at_ms=9000), JoinToken)
    assert "00000000" not in cluster.stored.tokens
    refused(cluster.make("eeeeeeee", at_ms=9000), Code.TOO_LARGE, "the most there can be")


def test_an_open_cluster_admits_all_and_has_nothing_to_join() -> None:
    cluster = Cluster()
    assert isinstance(cluster.register("storage-1"), RegistrationAck)
    request = JoinCluster(format_token(CLUSTER, "aaaaaaaa", SECRET), "h2", KEY)
    refused(cluster.ask(ManagerRequest(9, request)), Code.UNSUPPORTED, "admits every node")


def test_an_old_row_of_a_cluster_is_open() -> None:
    assert not msgspec.msgpack.decode(msgspec.msgpack.encode([FORMAT, CLUSTER, "fs3"]), type=ClusterRow).closed


def test_names_and_ends_in_words() -> None:
    assert node_name("h1", Role.STORAGE) == "h1-storage"
    assert node_name("h1", Role.STORAGE, 2) == "h1-storage-2"
    token = JoinToken("aaaaaaaa", b"", 2, used_by=("a", "b"))
    assert why_over(token, 0) == "was used 2 times already, by a, b"
    assert why_over(JoinToken("aaaaaaaa", b"", 2), 0) == ""
