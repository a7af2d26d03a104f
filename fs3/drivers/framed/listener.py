"""Accepting connections on the framed wire, watching over them, and closing in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping

from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.framed import forks
from fs3.drivers.framed.server import ServerConnection, ServerLimits
from fs3.drivers.rpc.rate_limited_log import RateLimitedLog
from fs3.drivers.rpc.receive_pool import ReceivePool, pool_of
from fs3.drivers.rpc.server_call import MethodBinding, bindings_by_id
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings

accept_rest_ns = 500 * MILLISECOND
"""A listener that cannot accept (no descriptors left) tries again after so long."""

accepts_per_wake_max = 64


class FramedListener:
    """`fs3.ports.rpc.Listener` on a listening socket. Belongs to the running loop."""

    def __init__(
        self,
        sock: socket.socket,
        endpoint: str,
        bindings: Bindings,
        clock: Clock,
        bounds: ServerLimits,
        pool: ReceivePool | None,
        adopt: Callable[[socket.socket], str],
        has_vanished: Callable[[socket.socket], bool],
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`sock` listens already. `adopt` sets an accepted socket's options and returns the peer's name; `vanished` tells
        that the peer's host has gone; `removed` is called when the socket is closed (a Unix socket's file goes then)."""
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.limits = bounds
        self.pool = pool if pool is not None else pool_of(self.loop)
        self.table: Mapping[int, MethodBinding] = bindings_by_id(bindings)
        self.peer_log = RateLimitedLog(clock)
        self.is_closing = False
        self._socket = sock
        self._endpoint = endpoint
        self._adopt = adopt
        self.has_vanished = has_vanished
        self._on_closed = on_closed
        self._connections: dict[ServerConnection, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0
        self._idle_waiter: asyncio.Future[None] | None = None
        forks.register(self)
        self.loop.add_reader(sock.fileno(), self._on_acceptable)

    def __repr__(self) -> str:
        return f"<FramedListener {self._endpoint}, {len(self._connections)} connections{', closing' if self.is_closing else ''}>"

    @property
    def endpoint(self) -> str:
        """Where it really listens."""
        return self._endpoint

    async def close(self, grace_ns: int = 0) -> None:
        """See `fs3.ports.rpc.Listener.close`. Meanwhile new requests are answered SHUTTING_DOWN."""
        if not self.is_closing:
            self.is_closing = True
            forks.unregister(self)
            self.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._on_closed()
        if grace_ns > 0 and not self._is_idle():
            self._idle_waiter = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_ns / SECOND):
                    await self._idle_waiter
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.flush()
            connection.close("the server shut down")

    def forget(self, connection: ServerConnection) -> None:
        """A connection has gone."""
        self._connections.pop(connection, None)
        self.on_progress()

    def on_progress(self) -> None:
        """A call has ended, or something was sent: while closing, that may have been the last."""
        if self._idle_waiter is not None and not self._idle_waiter.done() and self._is_idle():
            self._idle_waiter.set_result(None)

    def close_in_child(self) -> None:
        """See `forks`: the port is the parent's."""
        self.is_closing = True
        os.close(self._socket.detach())

    def _is_idle(self) -> bool:
        return all(connection.is_idle for connection in self._connections)

    def _on_acceptable(self) -> None:
        for _ in range(accepts_per_wake_max):
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                # Out of descriptors, most likely. The event would come again at once: rest a while instead.
                self.peer_log.warning("%s cannot accept connections: %s", self._endpoint, problem.strerror)
                self.loop.remove_reader(self._socket.fileno())
                self.loop.call_later(accept_rest_ns / SECOND, self._accept_again)
                return
            if len(self._connections) >= self.limits.connections_max:
                self.peer_log.warning("%s has %d connections already and refuses another", self._endpoint, len(self._connections))
                sock.close()
                continue
            sock.setblocking(False)
            try:
                peer = self._adopt(sock)
            except OSError:  # gone already
                sock.close()
                continue
            self._connections[ServerConnection(self, sock, peer)] = None
            if self._sweeper is None:
                self._sweep_later()

    def _accept_again(self) -> None:
        if not self.is_closing:
            self.loop.add_reader(self._socket.fileno(), self._on_acceptable)

    def _sweep(self) -> None:
        now = self.clock.now()
        late = now - self._sweep_due
        for connection in list(self._connections):
            if late > self.limits.sweep_ns:
                connection.on_process_paused(late)
            connection.sweep(now)
        self._sweeper = None
        if self._connections:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweep_due = self.clock.now() + self.limits.sweep_ns
        self._sweeper = self.loop.call_later(self.limits.sweep_ns / SECOND, self._sweep)
