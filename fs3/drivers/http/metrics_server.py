"""Metrics over HTTP: `GET /metrics` in Prometheus' text format, from a thread with its own event loop; and a site beside it.

The process's own loop takes no part in it, so a loop that stands still can be looked at. Scrapers are bounded: so many
connections, so long for a request and for its answer; and they share one reading while it is young, so that a storm of them costs
as much as a few. The thread that makes the reading rests between pieces of it, for Python runs one thread at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND, SECOND
from fs3.drivers.http.http_messages import HttpConnection, HttpRequest, parse_request, token_of
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.runtime.pacing import paced
from fs3.wire.exposition import CONTENT_TYPE, lines_of

log = logging.getLogger("fs3.metrics")

scrapers_max = 16
"""Connections at a time; further ones are answered 503."""
scrape_request_bytes_max = 8 * KIB
scrape_request_ns = 5 * SECOND
"""So long a scraper may take for its request, and then `http_reply_ns` to take the answer."""
scrape_age_ns = 250 * MILLISECOND
"""A reading is given to all that ask within so long."""
tls_shutdown_ns = 1 * SECOND
"""So long a scraper may take to say that it has seen the end of a TLS connection."""
SampleReader = Callable[[], Iterable[Sample]]
"""Says all readings of now."""


class Site(Protocol):
    """What the port serves beside metrics."""

    async def run(self) -> None:
        """Its duties, on the loop of the server, until it is cancelled."""
        ...

    async def serve(self, request: HttpRequest, connection: HttpConnection, admitted: Admitted) -> None:
        """Answer one request. Raises TimeoutError and OSError when the client is not there for it."""
        ...


class HttpRefusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    why: str


class Doorkeeper(Protocol):
    """Who says which requests are answered. Called on the thread of the server."""

    async def refuse(self, token: str) -> HttpRefusal | None:
        """Why one that shows this token ("": none) is not answered; None: it is."""
        ...


class Admitted(Protocol):
    """The place of a client among the connections of the server, which are bounded."""

    @property
    def reader(self) -> asyncio.StreamReader:
        """What it sends."""
        ...

    def leave(self) -> None:
        """It counts no more: the site bounds those of its kind itself."""
        ...


class _Place:
    def __init__(self, server: MetricsServer, reader: asyncio.StreamReader) -> None:
        self._server: MetricsServer | None = server
        self.reader = reader

    def leave(self) -> None:
        if self._server is not None:
            self._server.connected -= 1
            self._server = None


class MetricsServer:
    """One port. It reads what `read` says; see `MetricSource` for what that may do."""

    def __init__(
        self,
        read: SampleReader,
        site: Site | None = None,
        doorkeeper: Doorkeeper | None = None,
        credentials: TlsCredentials | None = None,
    ) -> None:
        """`site`: answers what is not about metrics; None: that is not found. `doorkeeper`: None: everything is answered.
        `credentials`: TLS is spoken with them; None: it is not."""
        self._doorkeeper = doorkeeper
        self._credentials = credentials
        self._read = read
        self._site = site
        self.connected = 0
        """Connections that count."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._body = b""
        self._made_at = -SECOND
        self._scrapes = 0
        self._refused = 0
        self._elapsed_ns = 0

    def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns where. 0: a port that is free. Raises FS3Error EXISTS when it is taken, INVALID when it cannot be."""
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            sock = socket.create_server(address[:2], family=family, backlog=scrapers_max)
        except socket.gaierror as problem:
            raise error(Code.INVALID, f"--metrics-port: no address is known for {host!r} ({problem.strerror})") from problem
        except OSError as problem:
            code = Code.EXISTS if problem.errno == errno.EADDRINUSE else Code.INVALID
            raise error(code, f"--metrics-port: cannot listen at {host}:{port}: {problem.strerror}") from problem
        found = sock.getsockname()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sock, ready), name="fs3-metrics", daemon=True)
        self._thread.start()
        ready.wait()
        return str(found[0]), int(found[1])

    def close(self) -> None:
        """Stop listening and end the thread. Scrapers are disconnected."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    # --- on the thread -----------------------------------------------------------------------------------------------

    def _run(self, sock: socket.socket, ready: threading.Event) -> None:
        asyncio.run(self._serve(sock, ready))

    async def _serve(self, sock: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        tls: dict[str, Any] = {}
        if self._credentials is not None:
            tls = {
                "ssl": _newest_of(self._credentials),
                "ssl_handshake_timeout": scrape_request_ns / SECOND,
                "ssl_shutdown_timeout": tls_shutdown_ns / SECOND,
            }
        server = await asyncio.start_server(self._on_connected, sock=sock, limit=scrape_request_bytes_max, **tls)
        duties = asyncio.ensure_future(self._site.run()) if self._site is not None else None
        ready.set()
        await self._stop.wait()
        server.close()
        if duties is not None:
            duties.cancel()
            await asyncio.wait([duties])

    async def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        place = _Place(self, reader)
        try:
            if self.connected > scrapers_max:
                self._refused += 1
                await HttpConnection(writer).answer(503, b"too many scrapers\n")
                return
            async with asyncio.timeout(scrape_request_ns / SECOND):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._serve_one(parse_request(head), writer, place)
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it is slow, has gone, or sends no request
        finally:
            place.leave()
            writer.transport.abort()

    async def _serve_one(self, request: HttpRequest, writer: asyncio.StreamWriter, place: _Place) -> None:
        connection = HttpConnection(writer, only_head=request.verb == "HEAD")
        if request.verb not in ("GET", "HEAD"):
            await connection.answer(405, b"only GET\n")
        elif request.path == "/healthz":
            await connection.answer(200, b"ok\n")
        elif self._doorkeeper is not None and (refusal := await self._doorkeeper.refuse(token_of(request.headers))) is not None:
            asks = {"WWW-Authenticate": 'Basic realm="fs3", charset="UTF-8"'} if refusal.status == 401 else {}
            await connection.answer(refusal.status, f"{refusal.why}\n".encode(), headers=asks)
        elif request.path in ("/metrics", "/metrics/"):
            body = self._make_body()
            self._scrapes += 1
            await connection.answer(200, body, CONTENT_TYPE)
        elif self._site is not None:
            await self._site.serve(request, connection, place)
        else:
            await connection.answer(404, b"see /metrics\n")

    def _make_body(self) -> bytes:
        now = time.monotonic_ns()
        if now - self._made_at >= scrape_age_ns:
            self._body = b"".join(self._pieces())
            self._made_at = time.monotonic_ns()
            self._elapsed_ns = self._made_at - now
        return self._body

    def _pieces(self) -> Iterator[bytes]:
        samples = list(paced(self._samples()))
        for line in paced(lines_of(samples)):
            yield line.encode() + b"\n"

    def _samples(self) -> Iterator[Sample]:
        yield from self._read()
        yield Sample(catalogue.SCRAPES, (), self._scrapes)
        yield Sample(catalogue.SCRAPES_REFUSED, (), self._refused)
        yield Sample(catalogue.SCRAPE_SECONDS, (), self._elapsed_ns / SECOND)


def _newest_of(credentials: TlsCredentials) -> ssl.SSLContext:
    """A context that takes the certificate of the moment for each connection: files that are renewed count for the next one."""

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = credentials.server_context()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sni_callback = choose  # called for every handshake, whether the client names the server or not
    return context
