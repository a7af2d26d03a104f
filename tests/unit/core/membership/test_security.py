"""Users, keys and revocations at the manager."""

from __future__ import annotations

import msgspec
import pytest

from fs3.base.ids import NodeId
from fs3.base.limits import key_rotation_ms, key_settle_ms, ticket_lifetime_ms
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.events import Persist, Persisted
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.security import Security, bundle_of, revocations_of, tokens_per_user_max
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.core.security.capability import holder_of
from fs3.core.security.identity import user_of
from fs3.core.security.login import ring_of
from fs3.core.security.seal import SealError
from fs3.core.security.tickets import open_ticket
from fs3.model.cluster import RegisterNode
from fs3.model.inode import User
from fs3.model.machine import Machine
from fs3.model.moves import RemovedNode
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.model.routing import Node, Role
from fs3.model.security import (
    AddUserToken,
    Claimant,
    ListUsers,
    LoginKind,
    NodeKey,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SecurityPhase,
    SetSecurity,
)

CLUSTER = b"0123456789abcdef"
ADD_ANN = PutUser("ann", must_be_new=True, uid=1000, gid=100, groups=(7,), tenant="lab")


class Bench:
    """Security with a store that takes everything."""

    def __init__(self, state: State | None = None, now: int = 0) -> None:
        self.state = state or State(ClusterRow(FORMAT, CLUSTER, "c"))
        self.ledger = Ledger(self.state, 10)
        self.security = Security(now, self.ledger, b"e" * 16)
        self.stored = State(ClusterRow(FORMAT, CLUSTER, "c"))
        self.now = now

    def store(self) -> None:
        while effects := self.ledger.flush():
            (persist,) = effects
            assert isinstance(persist, Persist)
            self.stored.apply(persist.rows)
            self.ledger.on_persisted(self.now, Persisted())
            self.security.on_stored(self.now)

    def run(self, ms: int) -> None:
        """Time goes on, with the ticks of a manager."""
        end = self.now + ms * MILLISECOND
        while self.now < end:
            self.now = min(end, self.now + 250 * MILLISECOND)
            self.security.advance(self.now)
            self.store()

    def put(self, event: PutUser) -> None:
        self.security.put_user(self.now, event)
        self.store()

    def add_token(self, number: str = "0123abcd", lifetime_ms: int = 0, at_ms: int = 1_000) -> None:
        self.security.add_token(self.now, AddUserToken("ann", number, b"d" * 32, "laptop", lifetime_ms, at_ms))
        self.store()

    def ticket(self, principal: Principal) -> bytes:
        return self.security.grant(self.now, principal).ticket

    def check(self, ticket: bytes) -> Principal:
        """As a service does that has heard what is stored."""
        bundle = self.security.bundle()
        principal = open_ticket(ring_of(CLUSTER, bundle), ticket, self.security.now_ms(self.now))
        if revocations_of(bundle).is_revoked(principal):
            raise SealError("revoked")
        return principal


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.put(ADD_ANN)
    made.add_token()
    return made


def claim(number: str = "0123abcd") -> Claimant:
    return Claimant(LoginKind.TOKEN, number)


def test_a_cluster_without_users_has_no_keys_and_stores_nothing() -> None:
    bench = Bench()
    bench.run(60_000)
    assert bench.security.version == 0
    assert bench.stored.security.keys == ()


def test_a_user_logs_in_with_a_token(bench: Bench) -> None:
    assert bench.security.stored_for(claim()) == b"d" * 32
    ann = bench.security.admit(claim(), 2_000)
    assert (ann.name, ann.uid, ann.gid, ann.groups, ann.tenant) == ("ann", 1000, 100, (7,), "lab")
    assert ann.rights == Right.ANYONE | Right.USER
    ticket = bench.ticket(ann)
    assert bench.check(ticket).name == "ann"
    bench.run(ticket_lifetime_ms)
    with pytest.raises(SealError, match="expired"):
        bench.check(ticket)


def test_tokens_that_are_over_are_refused_with_the_reason(bench: Bench) -> None:
    bench.add_token("00000001", lifetime_ms=500, at_ms=1_000)
    with pytest.raises(RequestRejected, match="has expired 3 s ago"):
        bench.security.admit(claim("00000001"), 4_600)
    bench.security.revoke(bench.now, RevokeUser("ann", "0123abcd"))
    with pytest.raises(RequestRejected, match="was revoked"):
        bench.security.admit(claim(), 2_000)
    assert bench.security.stored_for(claim("ffffffff")) is None


def test_a_user_has_so_many_tokens_and_those_that_are_over_make_room(bench: Bench) -> None:
    for number in range(1, tokens_per_user_max):
        bench.add_token(f"{number:08x}", lifetime_ms=100 if number == 1 else 0, at_ms=1_000)
    bench.add_token("0000ffff", at_ms=1_100)
    assert "00000001" not in [token.id for token in bench.state.users["ann"].tokens]
    with pytest.raises(RequestRejected, match="most there can be"):
        bench.add_token("0001ffff")
    bench.add_token("0000ffff")  # asked again


def test_what_is_changed_of_a_user_ends_the_tickets_from_before(bench: Bench) -> None:
    ticket = bench.ticket(bench.security.admit(claim(), 0))
    bench.put(PutUser("ann", must_be_new=False, is_service=True))
    assert bench.check(ticket).name == "ann"
    for change in (PutUser("ann", False, uid=1), PutUser("ann", False, is_admin=True), PutUser("ann", False, groups=())):
        ticket = bench.ticket(bench.security.admit(claim(), 0))
        bench.put(change)
        with pytest.raises(SealError, match="revoked"):
            bench.check(ticket)
    assert bench.security.admit(claim(), 0).rights & Right.ADMIN
    bench.put(PutUser("ann", must_be_new=False, is_disabled=True))
    with pytest.raises(RequestRejected, match="disabled"):
        bench.security.admit(claim(), 0)


def test_one_that_acts_for_others_is_believed_who_they_are(bench: Bench) -> None:
    other = User(4000, 4000, (4001,))
    ann = bench.security.admit(claim(), 0)
    assert user_of(ann, other, Right.USER) == User(1000, 100, (7,))
    bench.put(PutUser("ann", must_be_new=False, acts_for_others=True, certificates=("CN=ann",)))
    for mount in (bench.security.admit(claim(), 0), bench.security.admit_certificate("CN=ann")):
        assert mount.rights == Right.ANYONE | Right.USER | Right.ACT_FOR
        assert user_of(mount, other, Right.USER) == other
        assert user_of(mount, User(0, 0), Right.USER).uid != 0


def test_what_a_user_was_given_before_it_was_changed_or_revoked_is_anothers(bench: Bench) -> None:
    holders = []

    def note() -> None:
        bench.store()
        holders.append(holder_of(bench.check(bench.ticket(bench.security.admit(claim(), 0)))))

    note()
    bench.put(PutUser("ann", must_be_new=False, is_service=True))
    bench.put(PutUser("bob", must_be_new=True, uid=5))
    bench.security.revoke(bench.now, RevokeUser("bob"))
    note()
    assert holders[0] == holders[1]
    bench.put(PutUser("ann", must_be_new=False, groups=()))
    note()
    bench.security.revoke(bench.now, RevokeUser("ann"))
    note()
    bench.security.remove_user(bench.now, RemoveUser("ann"))
    bench.put(ADD_ANN)
    bench.add_token()
    note()
    assert len(set(holders)) == 4
    again = Bench(bench.stored)
    assert holder_of(again.security.admit(claim(), 0)) == holders[-1]


def test_one_that_is_removed_has_nothing_left(bench: Bench) -> None:
    ticket = bench.ticket(bench.security.admit(claim(), 0))
    bench.security.remove_user(bench.now, RemoveUser("ann"))
    bench.store()
    assert bench.security.stored_for(claim()) is None
    with pytest.raises(SealError, match="revoked"):
        bench.check(ticket)
    assert bench.stored.users == {}
    bench.put(ADD_ANN)
    assert bench.security.stored_for(claim()) is None


def test_what_was_revoked_is_remembered_while_it_could_count(bench: Bench) -> None:
    ticket = bench.ticket(bench.security.admit(claim(), 0))
    bench.security.revoke(bench.now, RevokeUser("ann"))
    bench.store()
    assert bench.check(bench.ticket(bench.security.admit(claim(), 0))).epoch == 1
    bench.run(ticket_lifetime_ms - 1_000)
    with pytest.raises(SealError, match="revoked"):
        bench.check(ticket)
    bench.run(key_settle_ms + 2_000)
    assert bench.stored.security.revoked == {}
    with pytest.raises(SealError, match="expired"):
        bench.check(ticket)


def test_keys_rotate_without_a_ticket_that_fails(bench: Bench) -> None:
    bundle = bench.security.bundle()
    rings = {bundle.newest}
    made: list[tuple[int, bytes]] = []
    for _ in range((2 * key_rotation_ms + 10 * ticket_lifetime_ms) // 5_000):
        bench.run(5_000)
        made.append((bench.now, bench.ticket(bench.security.admit(claim(), 0))))
        # A service that has not heard the newest for as long as it may.
        known, heard_at = bundle, bench.now
        bundle = bench.security.bundle()
        open_ticket(ring_of(CLUSTER, known), made[-1][1], bench.security.now_ms(heard_at))
        made = [(at, ticket) for at, ticket in made if bench.now - at < (ticket_lifetime_ms - 1_000) * MILLISECOND]
        for _, ticket in made:
            bench.check(ticket)
        rings.add(bundle.newest)
        assert len(bundle.keys) <= 2
    assert rings == {1, 2, 3}


def test_rotation_by_hand_settles_first_and_at_once_voids_everything(bench: Bench) -> None:
    ticket = bench.ticket(bench.security.admit(claim(), 0))
    bench.security.rotate(bench.now, RotateKeys(at_once=False))
    bench.security.rotate(bench.now, RotateKeys(at_once=False))
    bench.store()
    assert (bench.security.bundle().newest, sorted(bench.security.bundle().keys)) == (1, [1, 2])
    bench.run(key_settle_ms + 250)
    assert bench.security.bundle().newest == 2
    bench.check(ticket)
    bench.security.rotate(bench.now, RotateKeys(at_once=True))
    bench.store()
    assert list(bench.security.bundle().keys) == [3]
    with pytest.raises(SealError, match="not in use"):
        bench.check(ticket)


def test_the_next_primary_goes_on_with_time_keys_and_users(bench: Bench) -> None:
    bench.security.revoke(bench.now, RevokeUser("ann"))
    bench.run(30_000)
    said = bench.security.now_ms(bench.now)
    ticket = bench.ticket(bench.security.admit(claim(), 0))
    again = Bench(bench.stored, now=5 * SECOND)
    assert again.security.now_ms(again.now) >= said
    again.run(1_000)
    assert again.check(ticket).name == "ann"
    assert again.security.admit(claim(), 0).name == "ann"


def test_a_ticket_waits_for_its_key_to_be_stored() -> None:
    bench = Bench()
    bench.security.put_user(0, ADD_ANN)
    with pytest.raises(SealError, match="no key"):
        bench.ticket(Principal(PrincipalKind.USER, "ann", 1))


def test_names_and_subjects_are_of_one_user(bench: Bench) -> None:
    bench.put(PutUser("ann", must_be_new=False, certificates=("CN=ann",)))
    assert bench.security.admit_certificate("CN=ann").name == "ann"
    with pytest.raises(RequestRejected, match="no user"):
        bench.security.admit_certificate("CN=bob")
    with pytest.raises(RequestRejected, match="'ann' already"):
        bench.put(PutUser("bob", must_be_new=True, uid=1, certificates=("CN=ann",)))
    with pytest.raises(RequestRejected, match="'ann' already"):
        bench.put(msgspec.structs.replace(ADD_ANN, uid=5))
    bench.put(ADD_ANN)  # asked again
    bench.put(PutUser("ann", must_be_new=False, certificates=()))
    with pytest.raises(RequestRejected, match="no user"):
        bench.security.admit_certificate("CN=ann")


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (PutUser("a b", must_be_new=True), Code.INVALID),
        (PutUser("x" * 64, must_be_new=True), Code.INVALID),
        (PutUser("bob", must_be_new=True, uid=1 << 32), Code.INVALID),
        (PutUser("bob", must_be_new=True, tenant="x" * 256), Code.INVALID),
        (PutUser("bob", must_be_new=True, certificates=("",)), Code.INVALID),
        (PutUser("bob", must_be_new=True, groups=tuple(range(65))), Code.TOO_LARGE),
        (PutUser("bob", must_be_new=False), Code.NOT_FOUND),
    ],
)
def test_what_no_user_can_have_is_named(bench: Bench, event: PutUser, code: Code) -> None:
    with pytest.raises(RequestRejected) as refused:
        bench.put(event)
    assert refused.value.rejection.code is code
    assert "bob" not in bench.state.users


def test_users_are_listed_by_pages_without_digests() -> None:
    bench = Bench()
    for name in ("cat", "ann", "bob"):
        bench.put(PutUser(name, must_be_new=True))
    bench.add_token()
    first = bench.security.list_users(ListUsers(limit=2))
    assert ([user.name for user in first.users], first.has_more) == (["ann", "bob"], True)
    assert first.users[0].tokens[0].digest == b""
    rest = bench.security.list_users(ListUsers(after="bob"))
    assert ([user.name for user in rest.users], rest.has_more) == (["cat"], False)


def test_a_node_is_the_one_whose_key_it_has() -> None:
    bench = Bench()
    bench.state.machines["h1"] = Machine("h1", b"m" * 32)
    bench.security.set_phase(0, SetSecurity(SecurityPhase.OFF, (NodeKey("storage-1", b"k" * 32), NodeKey("mgmtd", b"q" * 32))))
    bench.store()

    def admit(identity: str, node: str = "") -> Principal:
        return bench.security.admit(Claimant(LoginKind.NODE, identity, node), 0)

    assert bench.security.stored_for(Claimant(LoginKind.NODE, "storage-1")) == b"k" * 32
    storage = admit("storage-1")
    assert (storage.kind, storage.name) == (PrincipalKind.SERVICE, "storage-1")
    assert storage.rights == Right.ANYONE | Right.STORAGE
    assert admit("mgmtd").rights & Right.ADMIN
    with pytest.raises(RequestRejected, match="not that of node 'storage-2'"):
        admit("storage-1", "storage-2")
    assert admit("h1", "h1-meta").rights == Right.ANYONE | Right.META
    assert admit("h1", "h1-storage-2").name == "h1-storage-2"
    for name in ("h2-storage", "h1-storage-x", "storage-1", "h1-client"):
        with pytest.raises(RequestRejected, match="no node of machine 'h1'"):
            admit("h1", name)
    grant = bench.security.grant(0, storage)
    assert grant.bundle == bundle_of(bench.stored.security)
    assert bench.security.grant(0, admit("h1")).bundle is None


def test_what_is_stored_of_a_node_goes_with_it() -> None:
    bench = Bench()
    bench.security.set_phase(0, SetSecurity(SecurityPhase.OFF, (NodeKey("storage-1", b"k" * 32),)))
    bench.store()
    assert bench.stored.node_keys == {"storage-1": NodeKey("storage-1", b"k" * 32)}
    node = Node(NodeId(1), "storage-1", Role.STORAGE, (), "", 1, alive=False)
    bench.ledger.put_node(node)
    bench.ledger.remove_node(node, RemovedNode("storage-1", NodeId(1), was_forgotten=False))
    bench.store()
    assert bench.stored.node_keys == {}
    assert bench.security.stored_for(Claimant(LoginKind.NODE, "storage-1")) is None


def test_keys_that_no_node_has_are_shown_and_revoked(bench: Bench) -> None:
    keys = tuple(NodeKey(name, b"k" * 32) for name in ("storage-1", "mgmtd-7", "mgmtd"))
    bench.ledger.put_node(Node(NodeId(1), "storage-1", Role.STORAGE, (), "", 1, alive=True))
    assert bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.OFF, keys)).other_keys == ("mgmtd", "mgmtd-7")
    planted = Claimant(LoginKind.NODE, "mgmtd-7")
    ticket = bench.ticket(bench.security.admit(planted, 0))
    for name in ("mgmtd-7", "storage-1"):
        bench.security.revoke(bench.now, RevokeUser(name, is_node=True))
    bench.store()
    assert bench.security.status(bench.now).other_keys == ("mgmtd",)
    assert bench.security.stored_for(planted) is None
    assert sorted(bench.stored.node_keys) == ["mgmtd", "storage-1"], "a node that is there may log in again, as users may"
    with pytest.raises(SealError, match="revoked"):
        bench.check(ticket)
    with pytest.raises(RequestRejected, match="no node 'mgmtd-7'"):
        bench.security.revoke(bench.now, RevokeUser("mgmtd-7", is_node=True))


def test_a_node_that_was_removed_has_nothing_left_and_its_keys_soon_seal_nothing(bench: Bench) -> None:
    bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.OFF, (NodeKey("storage-1", b"k" * 32),)))
    bench.security.rotate(bench.now, RotateKeys(at_once=False))
    bench.store()
    node = bench.security.admit(Claimant(LoginKind.NODE, "storage-1"), 0)
    ticket, known = bench.ticket(node), bench.security.bundle()
    ann = bench.ticket(bench.security.admit(claim(), 0))
    bench.security.on_removed(bench.now, ["storage-1"])
    bench.store()
    with pytest.raises(SealError, match="revoked"):
        bench.check(ticket)
    bench.check(ann)
    for _ in range((ticket_lifetime_ms + 2 * key_settle_ms) // 5_000 + 1):
        bench.run(5_000)
        bench.check(bench.ticket(bench.security.admit(claim(), 0)))
    # Whatever it makes with what it knew, for however long.
    assert not set(known.keys.values()) & set(bench.security.bundle().keys.values())


def test_nodes_go_from_a_cluster_that_has_no_keys() -> None:
    bench = Bench()
    bench.security.on_removed(0, ["storage-1"])
    bench.store()
    assert bench.security.version == 0


def test_a_node_says_its_key_while_the_cluster_is_open_and_then_only_as_itself(bench: Bench) -> None:
    def register(key: bytes, *, is_proved: bool) -> None:
        event = RegisterNode("meta", Role.META, b"", 1, (), "", key_digest=key, is_proved=is_proved)
        bench.security.note_node_key(event)
        bench.store()

    register(b"1" * 32, is_proved=False)
    assert bench.stored.node_keys["meta"].digest == b"1" * 32
    bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.ON))
    register(b"2" * 32, is_proved=False)
    assert bench.stored.node_keys["meta"].digest == b"1" * 32
    register(b"3" * 32, is_proved=True)
    assert bench.stored.node_keys["meta"].digest == b"3" * 32


def test_it_is_turned_on_once_all_that_live_are_ready(bench: Bench) -> None:
    for number, alive in ((1, True), (2, True), (3, False)):
        bench.ledger.put_node(Node(NodeId(number), f"storage-{number}", Role.STORAGE, (), "", 1, alive=alive))
    bench.security.on_heartbeat(NodeId(1), 1)
    with pytest.raises(RequestRejected, match=r"would be refused: storage-2'"):
        bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.ON))
    bench.security.on_heartbeat(NodeId(2), 1)
    assert bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.ON)).phase is SecurityPhase.ON
    bench.store()
    version = bench.security.version
    kept = bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.OFF, (NodeKey("x", b"x" * 32),), keeps_phase=True))
    assert kept.phase is SecurityPhase.ON
    assert bench.security.set_phase(bench.now, SetSecurity(SecurityPhase.OFF)).phase is SecurityPhase.OFF
    bench.store()
    assert (bench.security.phase, bench.security.version) == (SecurityPhase.OFF, version + 1)
