"""How endpoints are written: "tcp://host:port", "grpc://host:port", "local:///abs/path.sock", "memory://name"."""

from __future__ import annotations

import ipaddress

from fs3.base.errors import error
from fs3.base.status import Code

SOCKET_PATH_BYTES_MAX = 107
"""Of a Unix socket: 108 in the kernel's `sockaddr_un`, one of them ends the text."""


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """("tcp", "host:port"). Raises InvalidArgument naming the endpoint."""
    scheme, mark, rest = endpoint.partition("://")
    if not mark or not scheme or not rest:
        raise error(Code.INVALID, f"{endpoint!r} is not an endpoint such as tcp://host:port")
    return scheme, rest


def strip_scheme(endpoint: str, scheme: str) -> str:
    """What follows "scheme://". Raises InvalidArgument for an endpoint of another scheme."""
    found, rest = split_endpoint(endpoint)
    if found != scheme:
        raise error(Code.INVALID, f"{endpoint!r} is not an endpoint of {scheme}")
    return rest


def parse_host_port(endpoint: str, scheme: str) -> tuple[str, int]:
    """Host and port; an IPv6 address is written in brackets. Raises InvalidArgument naming the endpoint."""
    host, colon, port = strip_scheme(endpoint, scheme).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise error(Code.INVALID, f"{endpoint!r}: an IPv6 address is written [address]:port")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise error(Code.INVALID, f"{endpoint!r} is not {scheme}://host:port")
    return host, int(port)


def format_host_port(scheme: str, host: str, port: int) -> str:
    """The endpoint of a host and port."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback_address(host: str) -> bool:
    """An address, not a name, that leads to this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_socket_path(endpoint: str) -> str:
    """The path of a Unix socket. Raises InvalidArgument when it is relative or longer than the system admits."""
    path = strip_scheme(endpoint, "local")
    if not path.startswith("/") or "\0" in path:
        raise error(Code.INVALID, f"{endpoint!r} is not local:///absolute/path.sock")
    if len(path.encode()) > SOCKET_PATH_BYTES_MAX:
        raise error(Code.INVALID, f"{endpoint!r}: the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX} bytes")
    return path
