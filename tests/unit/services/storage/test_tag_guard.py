"""Updates in the name of another user's client."""

from __future__ import annotations

from typing import Any

from fs3.base.status import Code
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.services.storage.tag_guard import TagGuard
from fs3.wire.pb import storage_pb2 as pb

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


class AskedCall:
    """A call, and what became of it."""

    def __init__(self, auth: AuthContext, request: Any) -> None:
        self.auth = auth
        self.request = request
        self.code: Code | None = None
        self.message = ""

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `Call.fail`."""
        self.code, self.message = code, message


def connection(name: str, kind: PrincipalKind = PrincipalKind.USER) -> AuthContext:
    auth = AuthContext()
    auth.prove(Principal(kind, name, int(Right.USER)), 1 << 60)
    return auth


def ask(guard: TagGuard, auth: AuthContext, ids: bytes, from_target: int = 0) -> str:
    """ "": it was served, else why not."""
    served: list[Any] = []
    call: Any = AskedCall(auth, pb.UpdateRequest(client_ids=ids, from_target=from_target))
    guard.updates(served.append)(call)
    assert bool(served) == (call.code is None)
    assert call.code in (None, Code.PERMISSION)
    return call.message


def test_each_client_of_a_request_is_looked_at() -> None:
    guard, ann, bob = TagGuard(), connection("ann"), connection("bob")
    assert not ask(guard, ann, A * 3)
    assert not ask(guard, ann, A * 64 + B)
    assert not ask(guard, connection("ann"), A + B)
    assert not ask(guard, bob, C)
    for ids in (A, C + A, C * 9 + B + C):
        assert (A if A in ids else B).hex() in ask(guard, bob, ids)
    assert not ask(guard, bob, C * 2)
    assert guard.refused == 3


def test_what_is_no_client_is_no_ones() -> None:
    guard = TagGuard()
    for auth in (connection("ann"), connection("bob")):
        assert not ask(guard, auth, bytes(16) * 2)
        assert not ask(guard, auth, b"")
        assert not ask(guard, auth, b"short")
        assert not ask(guard, auth, A[:8])


def test_an_open_cluster_and_forwarded_updates_are_not_looked_at() -> None:
    guard = TagGuard()
    assert not ask(guard, connection("ann"), A)
    assert not ask(guard, AuthContext(), A)
    assert not ask(guard, connection("storage-1", PrincipalKind.SERVICE), A, from_target=101)
    assert ask(guard, connection("storage-1", PrincipalKind.SERVICE), A)
