"""Which requests a server takes, and why it refuses the others: one rule for all wires."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from fs3.base.status import Code
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.rpc.server_call import MethodBinding, bindings_by_id
from fs3.model.principal import AuthContext
from fs3.ports.rpc import Bindings


class RequestRefused(Exception):
    """A request that does not reach a handler; the server answers it with `code` and `message`."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RequestAdmission:
    """What one listener requires of a request before its handler sees it."""

    __slots__ = ("_calls_max", "counts", "endpoint", "is_closing", "table")

    def __init__(self, bindings: Bindings, endpoint: str, calls_max: int, counts: RpcCounts | None = None) -> None:
        """`endpoint`: where the server listens, for messages. `calls_max`: calls of one connection under way."""
        self.table = bindings_by_id(bindings, counts)
        self.counts = counts
        """None: nothing is counted."""
        self.endpoint = endpoint
        self.is_closing = False
        """The listener takes no new requests any more."""
        self._calls_max = calls_max

    def admit(
        self, method_id: int, data: bytes | bytearray, payload_length: int, open_calls: int, auth: AuthContext
    ) -> tuple[MethodBinding, Any]:
        """How a request is served, and its message, parsed from `data`. Raises RequestRefused.

        `open_calls`: calls of the connection that their handlers have not ended, cancelled ones too. The bounds are tested before
        anything is parsed, so that a flood of requests costs as little as can be.
        """
        binding = self.table.get(method_id)
        if binding is None:
            raise self._refuse(Code.UNSUPPORTED, f"no method {method_id:#06x} is served here")
        if not binding.method.rights & auth.rights:
            who = "this user" if auth.principal is not None else "a connection that has not authenticated"
            raise self._refuse(Code.PERMISSION, f"{binding.method!r} is not for {who}")
        if payload_length and not binding.takes_payload:
            raise self._refuse(Code.INVALID, f"requests of {binding.method!r} carry no payload")
        if open_calls >= self._calls_max:
            raise self._refuse(Code.BUSY, f"{open_calls} calls of this connection are under way")
        if self.is_closing:
            raise self._refuse(Code.SHUTTING_DOWN, f"{self.endpoint} is shutting down")
        try:
            return binding, binding.parse(data)
        except DecodeError as problem:
            raise self._refuse(Code.INVALID, f"the request of {binding.method!r} cannot be read: {problem}") from problem

    def _refuse(self, code: Code, message: str) -> RequestRefused:
        if self.counts is not None:
            self.counts.count_refused(code)
        return RequestRefused(code, message)
