"""What a storage node serves, by what its connections have shown."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.ids import InodeId, file_chunk, page_chunk
from fs3.base.limits import security_silence_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.security.capability import READ, WRITE, Capability, Subject, SubjectKind, seal_capability
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing
from fs3.core.security.state import SecurityState
from fs3.model.method import Method
from fs3.model.principal import ALL_RIGHTS, AuthContext, Principal, PrincipalKind, Right
from fs3.services.storage import capability_guard
from fs3.services.storage.capability_guard import CapabilityGuard
from fs3.wire.methods import STORAGE
from fs3.wire.storage_needs import NEEDS, NO_NEED, OF_SERVICES

KEYS = {number: bytes([number]) * 32 for number in range(1, 6)}
RING = KeyRing(bytes(16), {1: KEYS[1]}, 1)
USER = int(Right.USER | Right.ANYONE)
ANN = Principal(PrincipalKind.USER, "ann", USER, epoch=1)
NOW_MS = 1000
FILE, OTHER = 5, 6
SPACE = 9


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.time = 100 * SECOND

    def now(self) -> int:
        """See `Clock.now`."""
        return self.time


class FakeCall:
    """A request on a connection."""

    def __init__(self, auth: AuthContext, method: Method, request: Any) -> None:
        self.auth = auth
        self.method = method
        self.request = request
        self.code: Code | None = None

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `Call.fail`."""
        self.code = code


class Node:
    """A node, and the connections of users."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.state = SecurityState()
        self.state.time.learn(NOW_MS, self.clock.time, self.clock.time)
        self.state.update(is_on=True, ring=RING, revoked=Revocations())
        self.guard = CapabilityGuard(self.state, self.clock)  # type: ignore[arg-type]

    def connection(self, principal: Principal | None = ANN, rights: int = USER) -> AuthContext:
        """Of a caller that has proved this."""
        return AuthContext(rights, principal)

    def ask(self, auth: AuthContext, method: Method, request: Any, *shown: bytes) -> Code:
        """OK: it was served."""
        request.capabilities.extend(shown)
        served: list[Any] = []
        call = FakeCall(auth, method, request)
        self.guard.guard(method, served.append)(call)  # type: ignore[arg-type]
        assert bool(served) == (call.code is None)
        return call.code or Code.OK


@pytest.fixture
def node() -> Node:
    """With security."""
    return Node()


def sealed(
    subject: int = FILE, rights: int = READ, expires_ms: int = NOW_MS + 100, holder: str = "ann", ring: KeyRing = RING
) -> bytes:
    """Of a content."""
    return seal_capability(ring, Capability(Subject(SubjectKind.CONTENT, subject), rights, expires_ms, holder))


def read(*files: int) -> Any:
    return STORAGE.Read.request(chunks=b"".join(file_chunk(InodeId(file), 3) for file in files))


def update(*files: int, **fields: Any) -> Any:
    return STORAGE.Update.request(chunks=b"".join(file_chunk(InodeId(file), 3) for file in files), **fields)


def test_it_is_said_of_every_method_what_it_needs() -> None:
    assert set(NEEDS) == set(STORAGE.methods)
    for method, need in NEEDS.items():
        has_field = "capabilities" in method.request.DESCRIPTOR.fields_by_name
        assert has_field == (need is not NO_NEED and need is not OF_SERVICES), method


def test_what_was_shown_once_opens_until_it_ends(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.OK
    assert node.ask(auth, STORAGE.Read, read(FILE, FILE)) is Code.OK
    assert node.ask(auth, STORAGE.Find, STORAGE.Find.request(chunks=file_chunk(InodeId(FILE), 0))) is Code.OK
    assert node.ask(node.connection(), STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    node.clock.time += 99 * MILLISECOND
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.OK
    node.clock.time += MILLISECOND
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed(expires_ms=NOW_MS + 200)) is Code.OK
    assert (node.guard.shown_taken, node.guard.shown_refused, node.guard.requests_refused) == (2, 1, 4)


def test_one_file_never_opens_another_and_reading_is_not_writing(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(OTHER), sealed()) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(FILE, OTHER, FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Update, update(FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Update, update(FILE), sealed(rights=WRITE)) is Code.OK
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.OK
    other = node.connection()
    assert node.ask(other, STORAGE.Update, update(FILE), sealed(rights=WRITE)) is Code.OK
    assert node.ask(other, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    assert node.ask(other, STORAGE.Read, read(FILE, OTHER), sealed(rights=READ | WRITE), sealed(OTHER)) is Code.OK


@pytest.mark.parametrize(
    "shown",
    [
        sealed(holder="bob"),
        sealed()[:-1] + b"?",
        b"",
        b"x" * 10_000,
        sealed(ring=KeyRing(b"another cluster!", RING.keys, 1)),
        sealed(ring=KeyRing(RING.cluster, {2: KEYS[2]}, 2)),
        sealed(expires_ms=NOW_MS),
    ],
    ids=["another's", "altered", "empty", "long", "other cluster", "unknown key", "expired"],
)
def test_what_does_not_count_opens_nothing(node: Node, shown: bytes) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE), shown) is Code.NO_CAPABILITY
    assert not auth.capabilities
    assert node.guard.shown_refused == 1


def test_services_and_open_clusters_need_none(node: Node) -> None:
    service = Principal(PrincipalKind.SERVICE, "meta-1", int(Right.META))
    for auth in (node.connection(service, int(Right.META)), AuthContext(ALL_RIGHTS)):
        assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.OK
        assert node.ask(auth, STORAGE.Update, update(FILE, from_target=7)) is Code.OK
        assert node.ask(auth, STORAGE.ListChunks, _Bare()) is Code.OK


def test_what_services_ask_is_not_for_users(node: Node) -> None:
    auth = node.connection()
    both = sealed(rights=READ | WRITE)
    assert node.ask(auth, STORAGE.Read, STORAGE.Read.request(chunks=read(FILE).chunks, repair_version=4), both) is Code.PERMISSION
    assert node.ask(auth, STORAGE.Update, update(FILE, from_target=7), both) is Code.PERMISSION
    for kind in (4, 5):
        assert node.ask(auth, STORAGE.Update, update(FILE, FILE, kinds=[0, kind]), both) is Code.PERMISSION
    for method, need in NEEDS.items():
        if need is OF_SERVICES:
            assert node.ask(auth, method, _Bare()) is Code.PERMISSION, method
        if need is NO_NEED:
            assert node.ask(auth, method, _Bare()) is Code.OK, method


class _Bare:
    """A request without capabilities."""

    def __init__(self) -> None:
        self.capabilities: list[bytes] = []


def test_pages_are_of_their_namespace(node: Node) -> None:
    auth = node.connection()
    page, strange = page_chunk(SPACE, b"d" * 12), page_chunk(SPACE + 1, b"d" * 12)
    of_space = seal_capability(RING, Capability(Subject(SubjectKind.NAMESPACE, SPACE), READ | WRITE, NOW_MS + 100, "ann"))
    assert node.ask(auth, STORAGE.Contains, STORAGE.Contains.request(chunks=page + page), of_space) is Code.OK
    assert node.ask(auth, STORAGE.Contains, STORAGE.Contains.request(chunks=page + strange)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Contains, STORAGE.Contains.request(chunks=page + read(FILE).chunks)) is Code.NO_CAPABILITY
    for method in (STORAGE.Lease, STORAGE.Pin, STORAGE.TouchPages):
        for chunk, code in ((page, Code.OK), (strange, Code.NO_CAPABILITY)):
            request = method.request()
            request.pages.chunks = chunk
            assert node.ask(auth, method, request) is code, method
    for method in (STORAGE.CacheUsage, STORAGE.CacheEvents, STORAGE.ReportLookups):
        assert node.ask(auth, method, method.request(namespace_id=SPACE)) is Code.OK
        assert node.ask(auth, method, method.request(namespace_id=SPACE + 1)) is Code.NO_CAPABILITY
        assert node.ask(auth, method, method.request(namespace_id=0)) is Code.INVALID


def test_ids_that_are_none_are_refused(node: Node) -> None:
    assert node.ask(node.connection(), STORAGE.Read, STORAGE.Read.request(chunks=b"short"), sealed()) is Code.INVALID


def test_without_the_time_nothing_is_served(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed(expires_ms=1 << 50)) is Code.OK
    node.clock.time += security_silence_ns
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.BUSY
    node.state.time.learn(NOW_MS + 10_000, node.clock.time, node.clock.time)
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.OK


def test_what_was_verified_ends_with_its_key(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.OK
    node.state.update(is_on=True, ring=KeyRing(RING.cluster, {1: KEYS[1], 2: KEYS[2]}, 2), revoked=Revocations())
    newer = KeyRing(RING.cluster, {2: KEYS[2]}, 2)
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.OK
    assert node.ask(auth, STORAGE.Update, update(FILE), sealed(rights=WRITE, ring=newer)) is Code.OK
    node.state.update(is_on=True, ring=newer, revoked=Revocations())
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Update, update(FILE)) is Code.OK


def test_what_a_revoked_user_has_shown_ends(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.OK
    node.state.update(is_on=True, ring=RING, revoked=Revocations(2, {"ann": 2}))
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.NO_CAPABILITY
    again = Principal(PrincipalKind.USER, "ann", USER, epoch=2)
    assert node.ask(node.connection(again), STORAGE.Read, read(FILE), sealed()) is Code.OK


def test_a_connection_that_becomes_another_users_has_shown_nothing(node: Node) -> None:
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(FILE), sealed()) is Code.OK
    auth.prove(Principal(PrincipalKind.USER, "bob", USER), auth.until)
    assert node.ask(auth, STORAGE.Read, read(FILE)) is Code.NO_CAPABILITY
    stranger = AuthContext(int(Right.ANYONE))
    assert node.ask(stranger, STORAGE.Read, read(FILE), sealed()) is Code.NO_CAPABILITY


def test_a_connection_has_room_for_so_many(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability_guard, "capabilities_per_connection_max", 4)
    auth = node.connection()
    for file in range(1, 5):
        assert node.ask(auth, STORAGE.Read, read(file), sealed(file, expires_ms=NOW_MS + 10 * file)) is Code.OK
    node.clock.time += 20 * MILLISECOND
    # Those that have ended go first, then all.
    assert node.ask(auth, STORAGE.Read, read(5, 3, 4), sealed(5)) is Code.OK
    assert node.ask(auth, STORAGE.Read, read(6, 3, 4, 5), sealed(6)) is Code.OK
    assert node.ask(auth, STORAGE.Read, read(7), sealed(7)) is Code.OK
    assert node.ask(auth, STORAGE.Read, read(6)) is Code.NO_CAPABILITY
    assert len(auth.capabilities) == 1


def test_a_request_shows_so_many_at_most(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability_guard, "capabilities_per_request_max", 2)
    auth = node.connection()
    assert node.ask(auth, STORAGE.Read, read(3), *(sealed(file) for file in (1, 2, 3))) is Code.NO_CAPABILITY
    assert node.ask(auth, STORAGE.Read, read(1, 2)) is Code.OK
