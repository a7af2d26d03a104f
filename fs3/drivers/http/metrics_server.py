"""Metrics over HTTP: `GET /metrics` in Prometheus' text format, from a thread with an event loop of its own.

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
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB, MICROSECOND, MILLISECOND, SECOND
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.wire.exposition import CONTENT_TYPE, lines_of

log = logging.getLogger("fs3.metrics")

scrapers_max = 16
"""Connections at a time; further ones are answered 503."""
scrape_request_bytes_max = 8 * KIB
scrape_request_ns = 5 * SECOND
"""So long a scraper may take for its request, and then `scrape_reply_ns` to take the answer."""
scrape_reply_ns = 10 * SECOND
scrape_age_ns = 250 * MILLISECOND
"""A reading is given to all that ask within so long."""
_WORK_NS = 500 * MICROSECOND
_REST_NS = 100 * MICROSECOND
"""While a reading is made: the thread works so long, then rests."""

SampleReader = Callable[[], Iterable[Sample]]
"""Says all readings of now."""


class MetricsServer:
    """One port. It reads what `read` says; see `MetricSource` for what that may do."""

    def __init__(self, read: SampleReader) -> None:
        self._read = read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._body = b""
        self._made_at = -SECOND
        self._scrapers = 0
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
        server = await asyncio.start_server(self._on_connected, sock=sock, limit=scrape_request_bytes_max)
        ready.set()
        await self._stop.wait()
        server.close()

    async def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._scrapers += 1
        try:
            if self._scrapers > scrapers_max:
                self._refused += 1
                await self._answer(writer, 503, b"too many scrapers\n")
                return
            async with asyncio.timeout(scrape_request_ns / SECOND):
                head = await reader.readuntil(b"\r\n\r\n")
            verb, _, rest = head.partition(b" ")
            path = rest.partition(b" ")[0].partition(b"?")[0]
            if verb not in (b"GET", b"HEAD"):
                await self._answer(writer, 405, b"only GET\n")
            elif path not in (b"/metrics", b"/metrics/"):
                await self._answer(writer, 404, b"see /metrics\n")
            else:
                body = self._make_body()
                self._scrapes += 1
                await self._answer(writer, 200, body, only_head=verb == b"HEAD")
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it is slow, has gone, or sends no request
        finally:
            self._scrapers -= 1
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, status: int, body: bytes, *, only_head: bool = False) -> None:
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {CONTENT_TYPE if status == 200 else 'text/plain'}\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        async with asyncio.timeout(scrape_reply_ns / SECOND):
            writer.write(head.encode())
            if not only_head:
                writer.write(body)
            writer.transport.set_write_buffer_limits(0)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def _make_body(self) -> bytes:
        now = time.monotonic_ns()
        if now - self._made_at >= scrape_age_ns:
            self._body = b"".join(self._pieces())
            self._made_at = time.monotonic_ns()
            self._elapsed_ns = self._made_at - now
        return self._body

    def _pieces(self) -> Iterator[bytes]:
        rest_at = time.monotonic_ns() + _WORK_NS
        samples = []
        for sample in self._samples():
            samples.append(sample)
            if time.monotonic_ns() >= rest_at:
                time.sleep(_REST_NS / SECOND)
                rest_at = time.monotonic_ns() + _WORK_NS
        for line in lines_of(samples):
            yield line.encode() + b"\n"
            if time.monotonic_ns() >= rest_at:
                time.sleep(_REST_NS / SECOND)
                rest_at = time.monotonic_ns() + _WORK_NS

    def _samples(self) -> Iterator[Sample]:
        yield from self._read()
        yield Sample(catalogue.SCRAPES, (), self._scrapes)
        yield Sample(catalogue.SCRAPES_REFUSED, (), self._refused)
        yield Sample(catalogue.SCRAPE_SECONDS, (), self._elapsed_ns / SECOND)


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
