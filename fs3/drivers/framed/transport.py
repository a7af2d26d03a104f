"""What `tcp` and `local` have in common: connecting, and what a server needs to know."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

from fs3.base.errors import error
from fs3.base.limits import calls_per_connection_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.framed.blocking import BlockingConnection
from fs3.drivers.framed.bulk_path import BulkPaths
from fs3.drivers.framed.client import FramedChannel
from fs3.drivers.framed.server import ServerContext, ServerLimits
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.admission import RequestAdmission
from fs3.drivers.rpc.rate_limited_log import RateLimitedLog
from fs3.drivers.rpc.receive_pool import ReceivePool, pool_of
from fs3.drivers.rpc.reply_budget import ReplyBudget, reply_budget_of
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, BlockingChannel, Channel, Listener
from fs3.ports.security import Gate, TicketSource

Address = tuple[socket.AddressFamily, Any]
"""Family and address as `socket` takes them."""


class FramedTransport:
    """`fs3.ports.rpc.Transport` on stream sockets, and the `StreamSockets` of its channels and listeners."""

    scheme = ""

    def __init__(
        self,
        clock: Clock,
        *,
        calls_max: int = calls_per_connection_max,
        bounds: ServerLimits | None = None,
        pool: ReceivePool | None = None,
        replies: ReplyBudget | None = None,
        counts: RpcCounts | None = None,
        gate: Gate | None = None,
        tickets: TicketSource | None = None,
        paths: BulkPaths | None = None,
    ) -> None:
        """`calls_max`: calls under way per channel. `bounds`: what servers grant a peer. `pool`, `replies`: memory of servers for
        requests and replies; by default all listeners of a loop share one of each. `counts`: where calls are counted; None: they
        are not. `gate`: what the connections of its listeners have to prove; None: nothing. `tickets`: what its channels prove
        themselves with. `paths`: how payloads travel beside the stream; None: they do not."""
        self._clock = clock
        self._calls_max = calls_max
        self._bounds = bounds or ServerLimits()
        self._pool = pool
        self._replies = replies
        self._counts = counts
        self._gate = gate
        self._tickets = tickets
        self._paths = paths

    # --- what a subclass says ------------------------------------------------------------------------------------------

    def _check(self, endpoint: str) -> None:
        """Raises FS3Error INVALID for an endpoint that cannot be parsed."""
        raise NotImplementedError

    async def _resolve(self, endpoint: str) -> Sequence[Address]:
        """Where to connect to, in order of preference. Raises FS3Error or OSError."""
        raise NotImplementedError

    def _literal_address(self, endpoint: str) -> Address | None:
        """Where to connect to, if that takes no looking up."""
        raise NotImplementedError

    def _tune(self, sock: socket.socket) -> None:
        """Set the options of a connected socket."""
        raise NotImplementedError

    def _peer(self, sock: socket.socket) -> str:
        """The name of the client of an accepted socket."""
        raise NotImplementedError

    # --- the port ------------------------------------------------------------------------------------------------------

    def connect(self, endpoint: str) -> Channel:
        """See `fs3.ports.rpc.Transport.connect`."""
        self._check(endpoint)
        return FramedChannel(endpoint, self._clock, self, self._calls_max, self._counts, self._tickets, self._paths)

    def connect_blocking(self, endpoint: str, timeout_ns: int) -> BlockingChannel | None:
        """See `fs3.ports.rpc.BlockingTransport.connect_blocking`."""
        found = self._literal_address(endpoint)
        if found is None:
            return None
        family, address = found
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_ns / SECOND)
            sock.connect(address)
            self._tune(sock)
            secured = self._secure_blocking(endpoint, sock)
            sock.settimeout(None)
            return BlockingConnection(endpoint, secured, timeout_ns, self._counts, self._tickets)
        except BaseException:
            sock.close()
            raise

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`."""
        raise NotImplementedError

    # --- sockets -------------------------------------------------------------------------------------------------------

    async def dial(self, endpoint: str) -> StreamSocket:
        """See `StreamSockets.dial`."""
        return await self._dial(endpoint)

    async def _dial(self, endpoint: str) -> socket.socket:
        problem: OSError | None = None
        for family, address in await self._resolve(endpoint):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, address)
                self._tune(sock)
            except OSError as failure:
                problem = failure
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        if problem is not None and problem.errno in (errno.ECONNREFUSED, errno.ENOENT):
            raise error(Code.UNAVAILABLE, f"nobody listens at {endpoint}")
        raise problem or error(Code.UNAVAILABLE, f"{endpoint} has no address")

    def adopt(self, sock: socket.socket) -> str:
        """See `StreamSockets.adopt`."""
        self._tune(sock)
        return self._peer(sock)

    def secure(self, sock: socket.socket) -> StreamSocket:
        """See `StreamSockets.secure`."""
        return sock

    def _secure_blocking(self, endpoint: str, sock: socket.socket) -> StreamSocket:
        """The same for a socket that was connected to an endpoint, with a timeout. Raises OSError."""
        return sock

    def may_pass_files(self, sock: StreamSocket) -> bool:
        """See `StreamSockets.may_pass_files`."""
        return False

    def has_vanished(self, sock: StreamSocket) -> bool:
        """See `StreamSockets.has_vanished`. A host that has its peers on it does not vanish."""
        return False

    def _server_context(self, endpoint: str, bindings: Bindings) -> ServerContext:
        """What a listener at `endpoint` and its connections share. Within the running loop."""
        loop = asyncio.get_running_loop()
        return ServerContext(
            loop=loop,
            clock=self._clock,
            admission=RequestAdmission(bindings, endpoint, self._bounds.calls_per_connection_max, self._counts, self._gate),
            limits=self._bounds,
            pool=self._pool if self._pool is not None else pool_of(loop),
            replies=self._replies if self._replies is not None else reply_budget_of(loop),
            peer_log=RateLimitedLog(self._clock),
            sockets=self,
            paths=self._paths,
        )
