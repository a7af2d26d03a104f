"""Requests in the name of another user's client, at the metadata service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.meta.client_liveness import register_client
from fs3.core.meta.errors import MetaError
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.services.meta.caller_guard import CallerGuard
from fs3.wire.pb import common_pb2, meta_pb2

A, B = (letter * 16 for letter in (b"a", b"b"))


class SlowKV:
    """Answers reads when it is told to."""

    def __init__(self) -> None:
        self.answers: list[Callable[[Any, BaseException | None], None]] = []

    def submit_read(self, op: Any, done: Any) -> None:
        """See `KV.submit_read`."""
        self.answers.append(done)


class AskedCall:
    """A call, and what became of it."""

    def __init__(self, auth: AuthContext, client: bytes) -> None:
        self.auth = auth
        self.request = meta_pb2.StatRequest(caller=common_pb2.Caller(client_id=client))
        self.code: Code | None = None
        self.message = ""

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `Call.fail`."""
        self.code, self.message = code, message

    def reply(self, call: AskedCall) -> None:
        """What the handler does."""
        assert call is self
        self.code = Code.OK


def connection(name: str) -> AuthContext:
    auth = AuthContext()
    auth.prove(Principal(PrincipalKind.USER, name, int(Right.USER)), 1 << 60)
    return auth


def ask(guard: CallerGuard, auth: AuthContext, client: bytes) -> AskedCall:
    call: Any = AskedCall(auth, client)
    guard.guard(call.reply)(call)
    return call  # type: ignore[no-any-return]


def test_a_client_is_the_first_ones_on_every_connection() -> None:
    guard, ann = CallerGuard(MemoryKV()), connection("ann")
    assert ask(guard, ann, A).code is Code.OK
    assert A in ann.clients
    assert ask(guard, connection("ann"), A).code is Code.OK
    refused = ask(guard, connection("bob"), A)
    assert refused.code is Code.PERMISSION
    assert A.hex() in refused.message
    assert ask(guard, connection("bob"), B).code is Code.OK
    assert ask(guard, AuthContext(), A).code is Code.OK, "a cluster without security"
    assert ask(guard, connection("bob"), b"short").code is Code.OK, "its handler says what is wrong with it"
    assert guard.refused == 1


def test_a_service_that_begins_knows_it_from_the_rows() -> None:
    kv = MemoryKV()
    kv.transact_now(lambda txn: register_client(txn, A, "ann"))  # type: ignore[arg-type]
    guard = CallerGuard(kv)
    assert ask(guard, connection("bob"), A).code is Code.PERMISSION
    assert ask(guard, connection("ann"), A).code is Code.OK


def test_two_that_come_while_rows_are_read() -> None:
    kv: Any = SlowKV()
    guard = CallerGuard(kv)
    first, second = ask(guard, connection("ann"), A), ask(guard, connection("bob"), A)
    for answer in kv.answers:
        answer("", None)
    assert (first.code, second.code) == (Code.OK, Code.PERMISSION)


def test_rights_that_end_while_rows_are_read() -> None:
    kv: Any = SlowKV()
    guard, auth = CallerGuard(kv), connection("ann")
    call = ask(guard, auth, A)
    auth.lapse()
    auth.principal = None
    kv.answers[0]("", None)
    assert call.code is Code.BUSY, "not served as in a cluster without security"


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (error(Code.UNAVAILABLE, "away"), Code.UNAVAILABLE),
        (MetaError(Code.INTERNAL, "row"), Code.INTERNAL),
        (ValueError("x"), Code.INTERNAL),
    ],
)
def test_a_store_that_does_not_answer(why: BaseException, code: Code) -> None:
    kv: Any = SlowKV()
    call = ask(CallerGuard(kv), connection("ann"), A)
    kv.answers[0](None, why)
    assert call.code is code
