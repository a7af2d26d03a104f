"""The listening side of the framed wire: accepts connections, looks after them, closes them in good order."""

from __future__ import annotations

import asyncio
import os
import socket

from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.framed import forks
from fs3.drivers.framed.server import ServerConnection, ServerContext
from fs3.drivers.rpc.drain import Drain
from fs3.model.principal import AuthContext

listen_backlog = 1024

accept_rest_ns = 500 * MILLISECOND
"""A listener that cannot accept (no descriptors left) tries again after so long."""

accepts_per_wake_max = 64


class FramedListener:
    """`fs3.ports.rpc.Listener` on a listening socket. Belongs to the running loop."""

    def __init__(self, sock: socket.socket, context: ServerContext) -> None:
        """`sock` is bound; from here on it listens. Raises OSError when it cannot."""
        sock.setblocking(False)
        sock.listen(listen_backlog)
        self._context = context
        self._admission = context.admission
        self._loop = context.loop
        self._socket = sock
        self._connections: dict[ServerConnection, None] = {}
        self._unsecured: dict[ServerConnection, None] = {}
        """Those whose TLS handshake is not done, oldest first."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0
        self._drain = Drain(self)
        forks.register(self)
        self._loop.add_reader(sock.fileno(), self._on_acceptable)

    def __repr__(self) -> str:
        closing = ", closing" if self._admission.is_closing else ""
        return f"<{type(self).__name__} {self.endpoint}, {len(self._connections)} connections{closing}>"

    @property
    def endpoint(self) -> str:
        """Where it really listens."""
        return self._admission.endpoint

    @property
    def is_idle(self) -> bool:
        """No call is under way, and no answer is left to send."""
        return all(connection.is_idle for connection in self._connections)

    async def close(self, grace_ns: int = 0) -> None:
        """See `fs3.ports.rpc.Listener.close`."""
        if not self._admission.is_closing:
            self._admission.is_closing = True
            forks.unregister(self)
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._on_closed()
        await self._drain.wait(grace_ns)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.flush()
            connection.close("the server shut down")

    def _on_closed(self) -> None:
        """The listening socket is closed; connections may still be there."""

    def on_connection_closed(self, connection: ServerConnection) -> None:
        """See `ConnectionOwner.on_connection_closed`."""
        self._connections.pop(connection, None)
        self._unsecured.pop(connection, None)
        self._drain.on_progress()

    def on_secured(self, connection: ServerConnection) -> None:
        """See `ConnectionOwner.on_secured`."""
        self._unsecured.pop(connection, None)

    def on_progress(self) -> None:
        """See `ConnectionOwner.on_progress`."""
        self._drain.on_progress()

    def close_in_child(self) -> None:
        """See `forks`: the port is the parent's."""
        self._admission.is_closing = True
        os.close(self._socket.detach())

    def _on_acceptable(self) -> None:
        for _ in range(accepts_per_wake_max):
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                # Out of descriptors, most likely. The event would come again at once: rest a while instead.
                self._context.peer_log.warning("%s cannot accept connections: %s", self.endpoint, problem.strerror)
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(accept_rest_ns / SECOND, self._accept_again)
                return
            if len(self._connections) >= self._context.limits.connections_max:
                count = len(self._connections)
                self._context.peer_log.warning("%s has %d connections already and refuses another", self.endpoint, count)
                sock.close()
                continue
            sock.setblocking(False)
            try:
                peer = self._context.sockets.adopt(sock)
                secured = self._context.sockets.secure(sock)
            except OSError:  # gone already
                sock.close()
                continue
            gate = self._admission.gate
            auth = AuthContext() if gate is None else gate.open(peer)
            connection = ServerConnection(self, self._context, secured, peer, auth)
            self._connections[connection] = None
            if not connection.is_secured:
                self._begin_handshake(connection)
            if self._sweeper is None:
                self._sweep_later()

    def _begin_handshake(self, connection: ServerConnection) -> None:
        """One more that is not done; when there are too many, the oldest one ends, so that others still get in."""
        if len(self._unsecured) >= self._context.limits.tls_handshakes_max:
            next(iter(self._unsecured)).give_up_handshake(f"and {len(self._unsecured)} others are not either")
        self._unsecured[connection] = None

    def _accept_again(self) -> None:
        if not self._admission.is_closing:
            self._loop.add_reader(self._socket.fileno(), self._on_acceptable)

    def _sweep(self) -> None:
        now = self._context.clock.now()
        late = now - self._sweep_due
        for connection in list(self._connections):
            if late > self._context.limits.sweep_ns:
                connection.on_process_paused(late)
            connection.sweep(now)
        self._sweeper = None
        if self._connections:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweep_due = self._context.clock.now() + self._context.limits.sweep_ns
        self._sweeper = self._loop.call_later(self._context.limits.sweep_ns / SECOND, self._sweep)
