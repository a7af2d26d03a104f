"""The page over HTTP: what is served to whom, and that browsers that misbehave cost the others nothing."""

from __future__ import annotations

import json
import socket
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fs3.drivers.http import dashboard_site, event_streams, page_files
from fs3.drivers.http.dashboard_site import DashboardSite
from fs3.drivers.http.event_streams import event_streams_max
from fs3.drivers.http.http_messages import is_known_host, is_loopback, parse_request
from fs3.drivers.http.metrics_server import MetricsServer, scrapers_max
from fs3.model.health import SEEN_FROM_OUTSIDE, HealthKind

ROOT = Path(__file__).parents[4]


class Somewhere(NamedTuple):
    """An `Elsewhere`."""

    name: str = ""
    url: str = ""


class Source:
    """A `DashboardSource` whose state a test makes."""

    def __init__(self) -> None:
        self.state: Mapping[str, Any] | None = {"health": "well", "nodes": [], "events": []}
        self.elsewhere = Somewhere()
        self.samples = 0
        self.reads = 0
        self.asked = threading.Event()
        self.is_closed = False

    def sample(self) -> None:
        self.samples += 1

    def read_state(self) -> Mapping[str, Any] | None:
        self.reads += 1
        return self.state

    def find_elsewhere(self) -> Somewhere:
        return self.elsewhere

    async def ask_processes(self) -> None:
        self.asked.set()

    async def close(self) -> None:
        self.is_closed = True


class Served(NamedTuple):
    """A site under test."""

    source: Source
    site: DashboardSite
    port: int

    def ask(self, path: str = "/", verb: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(verb, path, headers=named)
            answer = connection.getresponse()
            return answer, answer.read()

    def stream(self) -> Stream:
        return Stream(self.port)


class Stream:
    """A browser at /events."""

    def __init__(self, port: int, receive_bytes: int = 0) -> None:
        self.sock = socket.socket()
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(30)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self.lines = self.sock.makefile("rb")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.sock.close()

    def read(self) -> tuple[str, Any]:
        """The next event that says something; ("", None) at the end."""
        while (found := self.read_any())[0] == "tick":
            pass
        return found

    def read_any(self) -> tuple[str, Any]:
        """The next event."""
        for line in self.lines:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
                return kind, json.loads(next(iter(self.lines))[6:])
        return "", None


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(dashboard_site, "look_interval_ns", 5 * 10**6)
    source = Source()
    site = DashboardSite(source, ["Fs3.Example"])
    server = MetricsServer(lambda: (), site)
    _, port = server.start("127.0.0.1", 0)
    try:
        yield Served(source, site, port)
    finally:
        server.close()
    assert source.is_closed


def test_the_page_and_its_parts(served: Served) -> None:
    answer, page = served.ask()
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"<script>" not in page
    assert b" style=" not in page
    linked = [word.split('"')[1] for word in page.decode().replace("'", '"').split() if word.startswith(("href=", "src="))]
    parts = [path for path in linked if path.startswith("/page/")]
    assert len(parts) > 8
    for path in parts:
        answer, body = served.ask(path)
        assert (answer.status, bool(body)) == (200, True), path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_every_problem_that_a_manager_names_has_its_runbook(served: Served) -> None:
    for kind in HealthKind:
        answer, body = served.ask(f"/runbooks/{kind.value}.md")
        assert answer.status == 200, kind
        assert body.startswith(b"# ")
    assert SEEN_FROM_OUTSIDE


@pytest.mark.parametrize(
    "path",
    ["/page/../metrics_server.py", "/page/", "/runbooks/../../pyproject.toml", "/page/%2e%2e/http_messages.py", "//", "/x"],
)
def test_nothing_else_is_there(served: Served, path: str) -> None:
    assert served.ask(path)[0].status == 404


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_done(served: Served, verb: str) -> None:
    for path in ("/", "/events", "/page/app.js"):
        assert served.ask(path, verb)[0].status == 405


def test_heads_have_no_body(served: Served) -> None:
    for path in ("/", "/events", "/page/app.js"):
        answer, body = served.ask(path, "HEAD")
        assert (answer.status, body) == (200, b"")


def test_a_name_of_another_site_is_refused(served: Served) -> None:
    assert served.ask("/", Host="evil.example")[0].status == 403
    assert served.ask("/events", Host="evil.example")[0].status == 403
    assert served.ask("/", Host="fs3.example:9400")[0].status == 200
    # Prometheus asks by whatever name it was told.
    assert served.ask("/metrics", Host="prometheus-calls-it.so")[0].status == 200


def test_pages_of_other_sites_get_no_stream(served: Served) -> None:
    assert served.ask("/events", Sec_Fetch_Site="cross-site")[0].status == 403
    # A link to the page is followed.
    assert served.ask("/", Sec_Fetch_Site="cross-site")[0].status == 200


@pytest.mark.parametrize(
    ("header", "is_known"),
    [
        ("127.0.0.1:9400", True), ("10.9.0.1", True), ("[::1]:9400", True), ("LOCALHOST:1", True), ("h1", True), ("h1:94", True),
        ("", False), ("evil.example", False), ("h1.evil.example", False), ("[", False), ("127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
def test_hosts(header: str, is_known: bool) -> None:
    assert is_known_host(header, {"h1"}) is is_known


def test_loopback() -> None:
    assert is_loopback("127.0.0.1:9400")
    assert is_loopback("[::1]:9400")
    assert not is_loopback("10.9.0.1:9400")


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_what_is_no_request(head: bytes) -> None:
    with pytest.raises(ValueError, match="no request"):
        parse_request(head)


def test_a_browser_is_told_everything_and_then_what_changes(served: Served) -> None:
    with served.stream() as stream:
        kind, first = stream.read()
        assert (kind, first["state"]["health"]) == ("state", "well")
        served.source.state = {"health": "down", "nodes": [], "events": [{"seq": 1}]}
        assert stream.read() == ("changes", {"set": {"health": "down", "events": [{"seq": 1}]}})
        assert served.source.asked.wait(30)
        # The next one begins with what there is now, and both hear the same from then on.
        with served.stream() as other:
            assert other.read()[1]["state"]["health"] == "down"
            served.source.state = {"health": "well", "nodes": [], "events": [{"seq": 1}]}
            assert stream.read() == other.read() == ("changes", {"set": {"health": "well"}})


def test_a_browser_hears_something_when_nothing_changes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_site, "tick_interval_ns", 0)
    with served.stream() as stream:
        assert stream.read()[0] == "state"
        assert stream.read_any() == ("tick", {})


def test_nothing_is_looked_at_while_no_browser_is_there(served: Served) -> None:
    with served.stream() as stream:
        stream.read()
    while len(served.site.streams):
        pass
    before = served.source.reads, served.source.samples
    answer, _ = served.ask("/metrics")
    assert answer.status == 200
    assert served.source.reads <= before[0] + 1


def test_a_manager_that_loses_its_lead_says_who_has_it(served: Served) -> None:
    with served.stream() as stream:
        stream.read()
        served.source.elsewhere = Somewhere("mgmtd-2", "http://127.0.0.1:9410")
        served.source.state = None
        assert stream.read() == ("elsewhere", {"name": "mgmtd-2", "url": "http://127.0.0.1:9410"})
        assert stream.read() == ("", None)
    answer, _ = served.ask("/events")
    assert answer.status == 200


def test_the_page_of_a_manager_that_stands_by(served: Served) -> None:
    served.source.state = None
    served.source.elsewhere = Somewhere("mgmtd-2", "http://10.9.0.2:9400")
    answer, _ = served.ask()
    assert (answer.status, answer.headers["Location"]) == (307, "http://10.9.0.2:9400/")
    served.source.elsewhere = Somewhere("mgmtd-2", "http://127.0.0.1:9400")
    assert served.ask()[0].status == 307
    # It would be another machine's own loopback.
    assert served.ask(Host="10.9.0.1:9400")[0].status == 200
    served.source.elsewhere = Somewhere("mgmtd-2")
    assert served.ask()[0].status == 200


def test_streams_are_bounded_and_take_no_place_of_scrapers(served: Served) -> None:
    with ExitStack() as stack:
        assert event_streams_max > scrapers_max
        streams = []
        for _ in range(event_streams_max):
            streams.append(stack.enter_context(served.stream()))
            assert streams[-1].read()[0] == "state"
        answer, body = served.ask("/events")
        assert (answer.status, body) == (503, b"too many browsers\n")
        assert served.ask("/metrics")[0].status == 200
        streams[0].sock.shutdown(socket.SHUT_RDWR)
        while served.ask("/events", "HEAD")[0].status != 200:
            pass
        with served.stream() as late:
            assert late.read()[0] == "state"


def test_a_browser_that_reads_nothing_is_dropped_and_the_others_hear_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "stream_waiting_bytes_max", 300_000)
    with Stream(served.port, receive_bytes=4096), served.stream() as other:
        assert other.read()[0] == "state"
        number = 0
        while not served.site.streams.dropped:
            number += 1
            served.source.state = {"health": f"{number} {'x' * 200_000}", "nodes": [], "events": []}
            assert other.read()[0] == "changes"
        assert len(served.site.streams) == 1


def test_a_browser_that_is_here_for_long_comes_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_site, "tick_interval_ns", 0)
    with served.stream() as stream:
        assert stream.read()[0] == "state"
        monkeypatch.setattr(event_streams, "stream_turn_ns", 0)
        try:
            while stream.read()[0]:
                pass
        except ConnectionResetError:
            pass
        assert not served.site.streams.dropped


def test_a_source_that_fails_ends_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with served.stream() as stream:
        assert stream.read()[0] == "state"
        served.source.state = {"health": object(), "nodes": [], "events": []}
        while "cannot be read for its page" not in caplog.text:
            pass
        served.source.state = {"health": "well again", "nodes": [], "events": []}
        assert stream.read() == ("changes", {"set": {"health": "well again"}})


def test_a_browser_that_talks_on_is_disconnected(served: Served) -> None:
    with served.stream() as stream:
        assert stream.read()[0] == "state"
        stream.sock.sendall(b"x" * 100)
        try:
            while stream.read_any()[0]:
                pass
        except ConnectionResetError:
            pass
    assert served.ask("/events", "HEAD")[0].status == 200


def test_the_wheel_has_the_runbooks_where_they_are_looked_for() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"docs/runbooks": str((page_files.PAGE / "runbooks").relative_to(ROOT))}
    assert all(path.suffix in page_files.TYPES for path in page_files.PAGE.iterdir())
