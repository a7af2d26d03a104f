"""What `tcp` and `local` have in common."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

from fs3.base.errors import error
from fs3.base.limits import calls_per_connection_max
from fs3.base.status import Code
from fs3.drivers.framed.client import FramedChannel
from fs3.drivers.framed.listener import FramedListener
from fs3.drivers.framed.server import ServerLimits
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Channel, Listener

listen_backlog = 1024

Address = tuple[socket.AddressFamily, Any]
"""Family and address as `socket` takes them."""


class FramedTransport:
    """`fs3.ports.rpc.Transport` on stream sockets; a subclass knows the addresses."""

    scheme = ""

    def __init__(
        self,
        clock: Clock,
        *,
        calls_max: int = calls_per_connection_max,
        bounds: ServerLimits | None = None,
        pool: ReceivePool | None = None,
    ) -> None:
        """`calls_max`: calls under way per channel. `bounds`: what servers grant a peer. `pool`: request buffers of servers;
        by default all listeners of a loop share one."""
        self._clock = clock
        self._calls_max = calls_max
        self._bounds = bounds or ServerLimits()
        self._pool = pool

    # --- what a subclass says ------------------------------------------------------------------------------------------

    def _check(self, endpoint: str) -> None:
        """Raises InvalidArgument for an endpoint that cannot be parsed."""
        raise NotImplementedError

    async def _resolve(self, endpoint: str) -> Sequence[Address]:
        """Where to connect to, in order of preference. Raises FS3Error or OSError."""
        raise NotImplementedError

    def _tune(self, sock: socket.socket) -> None:
        """Set the options of a connected socket."""
        raise NotImplementedError

    def _has_vanished(self, sock: socket.socket) -> bool:
        """The peer's host does not answer any more, although the connection looks open. Asked about once a second."""
        return False

    def _peer(self, sock: socket.socket) -> str:
        """The name of the peer of an accepted socket."""
        raise NotImplementedError

    # --- the port ------------------------------------------------------------------------------------------------------

    def connect(self, endpoint: str) -> Channel:
        """See `fs3.ports.rpc.Transport.connect`."""
        self._check(endpoint)
        return FramedChannel(endpoint, self._clock, lambda: self._dial(endpoint), self._has_vanished, self._calls_max)

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`."""
        raise NotImplementedError

    # --- sockets -------------------------------------------------------------------------------------------------------

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

    def _listen(self, sock: socket.socket, endpoint: str, bindings: Bindings, on_closed: Any = lambda: None) -> FramedListener:
        """A listener on a bound socket."""

        def adopt(accepted: socket.socket) -> str:
            self._tune(accepted)
            return self._peer(accepted)

        sock.setblocking(False)
        sock.listen(listen_backlog)
        return FramedListener(
            sock, endpoint, bindings, self._clock, self._bounds, self._pool, adopt, self._has_vanished, on_closed
        )
