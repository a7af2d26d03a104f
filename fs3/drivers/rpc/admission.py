"""Which requests a server takes, and why it refuses the others: one rule for all wires."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.rpc.server_call import MethodBinding, bindings_by_id
from fs3.model.principal import AuthContext, Right
from fs3.model.share import Limit
from fs3.ports.rpc import Bindings, Call
from fs3.ports.security import Gate
from fs3.wire.methods import PROCESS
from fs3.wire.process import authenticated_to_pb

_STORAGE = int(Right.STORAGE)


class RequestRefused(Exception):
    """A request that does not reach a handler; the server answers it with `code` and `message`."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _is_served_at_once(binding: MethodBinding) -> bool:
    """It takes no place: however busy its caller or all strangers are, a connection may say who asks."""
    return binding.method is PROCESS.Authenticate


class RequestAdmission:
    """What one listener requires of a request before its handler sees it."""

    __slots__ = ("_calls_max", "counts", "endpoint", "gate", "is_closing", "table")

    def __init__(
        self, bindings: Bindings, endpoint: str, calls_max: int, counts: RpcCounts | None = None, gate: Gate | None = None
    ) -> None:
        """`endpoint`: where the server listens, for messages. `calls_max`: calls of one connection under way. `gate`: what its
        connections have to prove; None: nothing."""
        self.gate = gate
        self.table = bindings_by_id(bindings if gate is None else {**bindings, PROCESS.Authenticate: self._authenticate}, counts)
        self.counts = counts
        """None: nothing is counted."""
        self.endpoint = endpoint
        self.is_closing = False
        """The listener takes no new requests any more."""
        self._calls_max = calls_max

    def admit(
        self, method_id: int, data: bytes | bytearray, payload_length: int, open_calls: int, auth: AuthContext, now: int
    ) -> tuple[MethodBinding, Any]:
        """How a request is served, and its message, parsed from `data`. Raises RequestRefused.

        `open_calls`: calls of the connection that their handlers have not ended, cancelled ones too. `now`: monotonic. Rights and
        bounds are tested before anything is parsed, so that a flood of requests costs as little as can be.
        """
        binding = self.table.get(method_id)
        if binding is None:
            raise self._refuse(Code.UNSUPPORTED, f"no method {method_id:#06x} is served here")
        if not binding.rights & auth.rights or now >= auth.until:
            self._check_rights(binding, auth, now)
        if payload_length and not binding.takes_payload:
            raise self._refuse(Code.INVALID, f"requests of {binding.method!r} carry no payload")
        if open_calls >= self._calls_max and not _is_served_at_once(binding):
            raise self._refuse(Code.BUSY, f"{open_calls} calls of this connection are under way")
        share = auth.share
        if share is not None and share.calls >= share.calls_max and not _is_served_at_once(binding):
            share.on_limited(Limit.CALLS)
            raise self._refuse(Code.BUSY, f"{share.calls} calls of this caller are under way")
        if self.is_closing:
            raise self._refuse(Code.SHUTTING_DOWN, f"{self.endpoint} is shutting down")
        try:
            request = binding.parse(data)
        except DecodeError as problem:
            raise self._refuse(Code.INVALID, f"the request of {binding.method!r} cannot be read: {problem}") from problem
        if not auth.rights & _STORAGE and binding.method.is_forward(request):
            # Here, since what comes from storage nodes has memory of its own, which its payload would take next.
            raise self._refuse(Code.PERMISSION, f"{binding.method!r} in the name of a target is for storage nodes")
        return binding, request

    def _check_rights(self, binding: MethodBinding, auth: AuthContext, now: int) -> None:
        """Raises RequestRefused, unless the method is anyone's. The same is said whatever was asked for, existing or not."""
        has_lapsed = now >= auth.until
        if has_lapsed:
            auth.lapse()
        if binding.rights & auth.rights:
            return
        code = Code.NOT_AUTHENTICATED if auth.principal is None or has_lapsed else Code.PERMISSION
        if self.gate is not None and not has_lapsed:
            self.gate.note_denied(auth, binding.method.name, code)
        if code is Code.NOT_AUTHENTICATED:
            raise self._refuse(Code.NOT_AUTHENTICATED, f"{binding.method!r} is for those who have authenticated")
        raise self._refuse(Code.PERMISSION, f"{binding.method!r} is not for this caller")

    def _authenticate(self, call: Call) -> None:
        """Serve Process.Authenticate: before this returns, so that the requests behind it are admitted by what it proves."""
        assert self.gate is not None
        try:
            self.gate.authenticate(call.auth, call.request.ticket)
        except FS3Error as refusal:
            call.fail(refusal.code, refusal.strerror or "")
        else:
            call.reply(authenticated_to_pb())

    def _refuse(self, code: Code, message: str) -> RequestRefused:
        if self.counts is not None:
            self.counts.count_refused(code)
        return RequestRefused(code, message)
