"""Accepting connections on the framed wire, watching over them, and closing in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping

from fs3.base import limits
from fs3.base.units import SECOND
from fs3.drivers.framed import forks
from fs3.drivers.framed.server import ServerConnection, ServerLimits
from fs3.drivers.pool import ReceivePool, pool_of
from fs3.drivers.quiet_log import QuietLog
from fs3.drivers.serving import Served, served_by_id
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings


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
        vanished: Callable[[socket.socket], bool],
        removed: Callable[[], None] = lambda: None,
    ) -> None:
        """`sock` listens already. `adopt` sets an accepted socket's options and returns the peer's name; `vanished` tells
        that the peer's host has gone; `removed` is called when the socket is closed (a Unix socket's file goes then)."""
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.limits = bounds
        self.pool = pool if pool is not None else pool_of(self.loop)
        self.table: Mapping[int, Served] = served_by_id(bindings)
        self.quiet = QuietLog(clock)
        self.closing = False
        self._socket = sock
        self._endpoint = endpoint
        self._adopt = adopt
        self.vanished = vanished
        self._removed = removed
        self._connections: dict[ServerConnection, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0
        self._all_quiet: asyncio.Future[None] | None = None
        forks.register(self)
        self.loop.add_reader(sock.fileno(), self._on_acceptable)

    def __repr__(self) -> str:
        return f"<FramedListener {self._endpoint}, {len(self._connections)} connections{', closing' if self.closing else ''}>"

    @property
    def endpoint(self) -> str:
        """Where it really listens."""
        return self._endpoint

    async def close(self, grace_ns: int = 0) -> None:
        """See `fs3.ports.rpc.Listener.close`. Meanwhile new requests are answered SHUTTING_DOWN."""
        if not self.closing:
            self.closing = True
            forks.unregister(self)
            self.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._removed()
        if grace_ns > 0 and not self._is_quiet():
            self._all_quiet = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_ns / SECOND):
                    await self._all_quiet
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.flush()
            connection.close("the server shut down")

    def forget(self, connection: ServerConnection) -> None:
        """A connection has gone."""
        self._connections.pop(connection, None)
        self.progressed()

    def progressed(self) -> None:
        """A call has ended, or something was sent: while closing, that may have been the last."""
        if self._all_quiet is not None and not self._all_quiet.done() and self._is_quiet():
            self._all_quiet.set_result(None)

    def drop_copy(self) -> None:
        """See `forks`: the port is the parent's."""
        self.closing = True
        os.close(self._socket.detach())

    def _is_quiet(self) -> bool:
        return all(connection.is_quiet for connection in self._connections)

    def _on_acceptable(self) -> None:
        for _ in range(limits.accepts_per_wake_max):
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                # Out of descriptors, most likely. The event would come again at once: rest a while instead.
                self.quiet.warning("%s cannot accept connections: %s", self._endpoint, problem.strerror)
                self.loop.remove_reader(self._socket.fileno())
                self.loop.call_later(limits.accept_rest_ns / SECOND, self._accept_again)
                return
            if len(self._connections) >= self.limits.connections_max:
                self.quiet.warning("%s has %d connections already and refuses another", self._endpoint, len(self._connections))
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
        if not self.closing:
            self.loop.add_reader(self._socket.fileno(), self._on_acceptable)

    def _sweep(self) -> None:
        now = self.clock.now()
        late = now - self._sweep_due
        for connection in list(self._connections):
            if late > self.limits.sweep_ns:
                connection.excuse(late)
            connection.sweep(now)
        self._sweeper = None
        if self._connections:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweep_due = self.clock.now() + self.limits.sweep_ns
        self._sweeper = self.loop.call_later(self.limits.sweep_ns / SECOND, self._sweep)
