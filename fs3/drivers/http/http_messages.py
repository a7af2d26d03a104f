"""A request and its answer on the small HTTP port: what a client may send, and what every answer says beside its body."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Collection, Mapping
from typing import NamedTuple

from fs3.base.units import SECOND
from fs3.wire.endpoints import is_loopback_address

http_reply_ns = 10 * SECOND
"""So long a client may take to take an answer."""
headers_max = 64
_REASONS = {
    200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    503: "Service Unavailable",
}  # fmt: skip
PLAIN = "text/plain; charset=utf-8"


class HttpRequest(NamedTuple):
    """A request without a body."""

    verb: str
    path: str
    """Without what follows a question mark."""
    headers: Mapping[str, str]
    """By their names in small letters."""


def parse_request(head: bytes) -> HttpRequest:
    """The head of a request, which ends with an empty line. Raises ValueError for what is none."""
    lines = head.decode("latin-1").split("\r\n")
    verb, _, rest = lines[0].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if not verb or not path:
        raise ValueError("no request")
    headers = {}
    for line in lines[1 : headers_max + 1]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    return HttpRequest(verb, path, headers)


def token_of(headers: Mapping[str, str]) -> str:
    """The token that a request shows: as a bearer's (Prometheus), or as the password of any name (browsers); "": none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def is_known_host(header: str, names: Collection[str]) -> bool:
    """Whether a request is meant for this server: it was sent to an address, to localhost, or to one of its names.

    A page of another site can have its own name resolve to the address of this server, and then read what is here as if it were
    its own (DNS rebinding): such requests carry that name.
    """
    host = header.strip().lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if host == "localhost" or host in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Only this machine reaches it by that."""
    host = host.strip().lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return host == "localhost" or is_loopback_address(host)


class HttpConnection:
    """The client's end of one request."""

    def __init__(self, writer: asyncio.StreamWriter, *, only_head: bool = False) -> None:
        """`only_head`: it was asked by HEAD."""
        self._writer = writer
        self._only_head = only_head

    async def answer(self, status: int, body: bytes, content_type: str = PLAIN, headers: Mapping[str, str] | None = None) -> None:
        """Send everything and close. Raises TimeoutError when the client does not take it, OSError when it has gone."""
        head = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {}), "Connection": "close"}
        async with asyncio.timeout(http_reply_ns / SECOND):
            self._writer.write(_head(status, head))
            if not self._only_head:
                self._writer.write(body)
            self._writer.transport.set_write_buffer_limits(0)
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()

    def begin_stream(self, content_type: str, headers: Mapping[str, str]) -> asyncio.WriteTransport:
        """Send the head of an answer without an end; what is written to the transport follows."""
        self._writer.write(_head(200, {"Content-Type": content_type, **headers, "Connection": "close"}))
        return self._writer.transport


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
