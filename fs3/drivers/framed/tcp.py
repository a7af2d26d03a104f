"""The framed wire over TCP: "tcp://host:port"."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence

from fs3.base.errors import error
from fs3.base.limits import peer_unresponsive_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.drivers.framed.listener import FramedListener
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.framed.transport import Address, FramedTransport
from fs3.ports.rpc import Bindings, Listener
from fs3.wire.endpoints import format_host_port, parse_host_port

__all__ = ["TcpTransport", "has_vanished"]

tcp_unacknowledged_ms = 30_000
"""The kernel's own bound on unacknowledged data. It must outlast a peer that rests from reading, which acknowledges probes but
takes no data: that is why it is not what finds vanished hosts."""

tcp_keepalive_interval_s = 1
"""An idle connection is probed so often, by the kernel. Whether probes are answered is looked at every `transport_sweep_ns`."""

tcp_keepalive_idle_s = 1

_TCP_INFO = struct.Struct("=2xBB52xI")
"""Of Linux's `tcp_info`: repetitions of data and probes without an answer, and milliseconds since the last acknowledgement."""


def has_vanished(info: bytes) -> bool:
    """The peer's host has gone, by what the kernel says of the connection (`tcp_info`): it was asked, by data or by probes, and
    has acknowledged nothing for `peer_unresponsive_ns`. A peer that is merely busy acknowledges, even when it takes no data."""
    if len(info) < _TCP_INFO.size:
        return False
    repetitions, probes, since_ms = _TCP_INFO.unpack_from(info)
    return bool(repetitions or probes) and since_ms * MILLISECOND >= peer_unresponsive_ns


class TcpTransport(FramedTransport):
    """`fs3.ports.rpc.Transport` for hosts that reach each other by TCP."""

    scheme = "tcp"

    def _check(self, endpoint: str) -> None:
        parse_host_port(endpoint, self.scheme)

    def _literal_address(self, endpoint: str) -> Address | None:
        host, port = parse_host_port(endpoint, self.scheme)
        try:
            found = ipaddress.ip_address(host)
        except ValueError:
            return None
        return socket.AF_INET if found.version == 4 else socket.AF_INET6, (host, port)

    async def _resolve(self, endpoint: str) -> Sequence[Address]:
        literal = self._literal_address(endpoint)
        if literal is not None:  # the resolver costs a thread
            return [literal]
        host, port = parse_host_port(endpoint, self.scheme)
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as problem:
            raise error(Code.UNAVAILABLE, f"{endpoint}: no address is known for {host!r} ({problem.strerror})") from None
        # IPv4 first: "localhost" answers with both, and fs3's servers listen on what they were told, mostly IPv4.
        return sorted(((family, address) for family, _, _, _, address in answers), key=lambda one: one[0] != socket.AF_INET)

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`. Port 0 lets the system choose."""
        problem: OSError | None = None
        for family, address in await self._resolve(endpoint):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                # A restarted server must not wait for the old connections' TIME_WAIT; two live ones still exclude each other.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
                real = format_host_port(self.scheme, *sock.getsockname()[:2])
                return FramedListener(sock, self._server_context(real, bindings))
            except OSError as failure:
                problem = failure
                sock.close()
        if problem is not None and problem.errno == errno.EADDRINUSE:
            raise error(Code.EXISTS, f"{endpoint} is taken: another server listens there")
        raise error(Code.INVALID, f"cannot listen at {endpoint}: {problem.strerror if problem else 'it has no address'}")

    def _tune(self, sock: socket.socket) -> None:
        # Small frames must not wait for an acknowledgement; `FrameSender` gathers them already.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A host that dies says nothing. Keepalive asks on an idle connection; `has_vanished` looks whether it answers.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", tcp_keepalive_idle_s),
            ("TCP_KEEPINTVL", tcp_keepalive_interval_s),
            ("TCP_USER_TIMEOUT", tcp_unacknowledged_ms),
        ):
            if (number := getattr(socket, option, None)) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, number, value)

    def has_vanished(self, sock: StreamSocket) -> bool:
        """See `StreamSockets.has_vanished`."""
        option = getattr(socket, "TCP_INFO", None)
        return option is not None and has_vanished(sock.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO.size))

    def _peer(self, sock: socket.socket) -> str:
        host, port = sock.getpeername()[:2]
        return format_host_port(self.scheme, host, port)
