"""The page of a cluster, served beside the metrics of its managers: files, runbooks, and a stream of events that keeps it fresh.

| path | what |
|---|---|
| `/` | the page, of the manager that leads; the others redirect to it |
| `/page/…` | its parts |
| `/events` | its state as server-sent events: everything first, then what changes |
| `/runbooks/….md` | the page of a problem, as text |

Only GET and HEAD. Nothing is looked at while no browser is connected, but for the samples of the last hours. All of it happens on
the thread of the server; what takes long there rests in between, so that the manager's own loop hardly notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec

from fs3.base.units import MILLISECOND, SECOND
from fs3.core.dashboard.changes import changes_between
from fs3.drivers.http.event_streams import EventStreams, event_message
from fs3.drivers.http.http_messages import HttpConnection, HttpRequest, is_known_host, is_loopback
from fs3.drivers.http.metrics_server import Admitted
from fs3.drivers.http.page_files import SiteFile, load_page, load_runbooks

log = logging.getLogger("fs3.dashboard")

look_interval_ns = 500 * MILLISECOND
"""While a browser is connected, the cluster is looked at so often."""
sample_interval_ns = 2 * SECOND
tick_interval_ns = 2 * SECOND
"""A browser hears something so often, also when nothing changes: else it says that it hears nothing."""
_SECURE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_encode = msgspec.json.Encoder().encode


class Elsewhere(Protocol):
    """Who leads, as a manager knows that does not."""

    @property
    def name(self) -> str:
        """Of the manager; "" when none is known."""
        ...

    @property
    def url(self) -> str:
        """Of its page; "" when it serves none, or none is known."""
        ...


class DashboardSource(Protocol):
    """A manager, as the page needs it. Everything is called on the thread of the server."""

    def sample(self) -> None:
        """Add a sample to the history: once every `sample_interval_ns`."""
        ...

    def read_state(self) -> Mapping[str, Any] | None:
        """All sections of the page; None while this manager does not lead."""
        ...

    def find_elsewhere(self) -> Elsewhere:
        """Who leads instead."""
        ...

    async def ask_processes(self) -> None:
        """Ask some processes of the cluster what only they know, for the states that are read afterwards."""
        ...

    async def close(self) -> None:
        """End what it has begun on this loop."""
        ...


class DashboardSite:
    """A `Site` of one manager."""

    def __init__(self, source: DashboardSource, names: Collection[str] = ()) -> None:
        """`names`: host names by which this server may be asked, beside addresses and localhost."""
        self._source = source
        self._names = frozenset(name.lower() for name in names)
        self._files: dict[str, SiteFile] = {**load_page(), **load_runbooks()}
        self.streams = EventStreams()
        self._state: Mapping[str, Any] | None = None
        """What the connected browsers have been told."""
        self._sampled_at = self._told_at = -sample_interval_ns
        self._woken = asyncio.Event()
        """A browser has come."""
        self._asking: asyncio.Task[None] | None = None
        self._failing = False

    async def run(self) -> None:
        """See `Site`."""
        try:
            while True:
                try:
                    self._look()
                    self._failing = False
                except Exception:
                    if not self._failing:
                        self._failing = True
                        log.exception("the state of the cluster cannot be read for its page")
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(look_interval_ns / SECOND):
                        await self._woken.wait()
        finally:
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.wait([self._asking])
            self.streams.close()
            await self._source.close()

    def _look(self) -> None:
        now = time.monotonic_ns()
        if now - self._sampled_at >= sample_interval_ns:
            self._sampled_at = now
            self._source.sample()
        if not self.streams:
            self._state = None
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        if self._state is not None:
            self._tell(self._source.read_state(), now)

    async def _ask(self) -> None:
        try:
            await self._source.ask_processes()
        except Exception:
            log.exception("processes could not be asked for the page of the cluster")

    def _tell(self, state: Mapping[str, Any] | None, now: int) -> None:
        if state is None:
            self.streams.close(self._say_elsewhere())
            self._state = None
            return
        assert self._state is not None
        changes = changes_between(self._state, state)
        if changes:
            message = event_message("changes", _encode(changes))
            self._state = state
            self.streams.publish(message)
            self._told_at = now
        elif now - self._told_at >= tick_interval_ns:
            self.streams.publish(event_message("tick", b"{}"))
            self._told_at = now

    def _say_elsewhere(self) -> bytes:
        elsewhere = self._source.find_elsewhere()
        return event_message("elsewhere", _encode({"name": elsewhere.name, "url": elsewhere.url}))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def serve(self, request: HttpRequest, connection: HttpConnection, admitted: Admitted) -> None:
        """See `Site`."""
        host = request.headers.get("host", "")
        if not is_known_host(host, self._names):
            await connection.answer(403, b"ask by an address, or by the name of this machine\n", headers=_SECURE)
        elif request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and request.path != "/":
            await connection.answer(403, b"not for pages of other sites\n", headers=_SECURE)
        elif request.path == "/":
            await self._serve_page(host, connection)
        elif request.path == "/events":
            await self._serve_events(request, connection, admitted)
        elif (found := self._files.get(request.path)) is not None:
            await connection.answer(200, found.body, found.content_type, _SECURE)
        else:
            await connection.answer(404, b"there is a page at /, and /metrics\n", headers=_SECURE)

    async def _serve_page(self, host: str, connection: HttpConnection) -> None:
        elsewhere = self._source.find_elsewhere()
        url = elsewhere.url
        if url and (is_loopback(host) or not is_loopback(url.partition("://")[2])):
            await connection.answer(
                307, f"{elsewhere.name} leads, see {url}/\n".encode(), headers={**_SECURE, "Location": f"{url}/"}
            )
            return
        page = self._files["/page/index.html"]
        await connection.answer(200, page.body, page.content_type, _SECURE)

    async def _serve_events(self, request: HttpRequest, connection: HttpConnection, admitted: Admitted) -> None:
        if self.streams.is_full:
            await connection.answer(503, b"too many browsers\n", headers={**_SECURE, "Retry-After": "10"})
            return
        state = self._source.read_state()
        if state is None or request.verb == "HEAD":
            await connection.answer(200, self._say_elsewhere(), "text/event-stream", _SECURE)
            return
        # Those that are here hear of it now, so that one message leads all of them on.
        if self._state is not None and self.streams:
            self._tell(state, time.monotonic_ns())
        self._state = state
        transport = connection.begin_stream("text/event-stream", _SECURE)
        admitted.leave()
        self._woken.set()
        await self.streams.serve(admitted.reader, transport, event_message("state", _encode({"state": state})))
