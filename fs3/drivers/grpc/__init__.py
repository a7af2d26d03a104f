"""The public wire: gRPC, for every other language, and for services told to use it. Serves the same bindings as the framed wire.

A process that has used grpc cannot use it after `fork()`, which is what data loaders do. So the library is imported when a
channel or a server is made and not before, and nothing outside this package imports it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from fs3.base.errors import error
from fs3.base.limits import calls_per_connection_max
from fs3.base.status import Code
from fs3.drivers.rpc.admission import RequestAdmission
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Channel, Listener
from fs3.ports.security import Gate, TicketSource
from fs3.wire.endpoints import parse_host_port

__all__ = ["GrpcTransport", "require_grpc"]


_NO_CIPHER_OF_TLS_1_2 = "PSK-AES128-CBC-SHA"
"""The library cannot be told to speak TLS 1.3 alone, but which ciphers it may use before: one of a key that no side has."""


class GrpcTransport:
    """`fs3.ports.rpc.Transport` over grpc.aio."""

    def __init__(
        self,
        clock: Clock,
        *,
        calls_max: int = calls_per_connection_max,
        server_calls_max: int = calls_per_connection_max,
        pool: ReceivePool | None = None,
        replies: ReplyBudget | None = None,
        counts: RpcCounts | None = None,
        credentials: TlsCredentials | None = None,
        gate: Gate | None = None,
        tickets: TicketSource | None = None,
    ) -> None:
        """`calls_max`: calls under way per channel. `server_calls_max`: per peer of a server. `pool`: what the payloads of
        requests are counted against, `replies`: the same of replies; by default those of the loop. `counts`: where calls are
        counted; None: they are not. `gate`: what calls have to prove; None: nothing. `tickets`: what its channels prove
        themselves with. `credentials`: of TLS; then endpoints are "grpcs://host:port"."""
        self._credentials = credentials
        self._gate = gate
        self._tickets = tickets
        self._clock = clock
        self._calls_max = calls_max
        self._server_calls_max = server_calls_max
        self._pool = pool
        self._replies = replies
        self._counts = counts

    @property
    def scheme(self) -> str:
        """ "grpc", and "grpcs" over TLS."""
        return "grpc" if self._credentials is None else "grpcs"

    def connect(self, endpoint: str) -> Channel:
        """See `fs3.ports.rpc.Transport.connect`."""
        parse_host_port(endpoint, self.scheme)
        _prepare()
        from fs3.drivers.grpc.channel import GrpcChannel

        return GrpcChannel(endpoint, self._clock, self._calls_max, self._counts, self._tickets, self._credentials)

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`. Adds the standard health and reflection services."""
        parse_host_port(endpoint, self.scheme)
        if self._credentials is not None:
            self._credentials.server_context()
            os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", _NO_CIPHER_OF_TLS_1_2)
        _prepare()
        from fs3.drivers.grpc.server import serve

        admission = RequestAdmission(bindings, endpoint, self._server_calls_max, self._counts, self._gate)
        return await serve(admission, self._clock, self._pool, self._replies, self._credentials)


def require_grpc() -> None:
    """UNSUPPORTED, with the command that mends it, when gRPC is not installed: a client has no need of it, a service has."""
    for module in ("grpc", "grpc_health", "grpc_reflection"):
        if find_spec(module) is None:
            raise error(Code.UNSUPPORTED, f"no module {module}: services speak gRPC, which comes with pip install 'fs3[server]'")


def _prepare() -> None:
    require_grpc()
    # What its C core would write to stderr (ports taken, peers gone) is said by the errors that are raised.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
