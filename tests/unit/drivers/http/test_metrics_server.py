"""The metrics port: what it answers, and that scrapers hurt neither each other nor the process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.http import metrics_server
from fs3.drivers.http.http_messages import token_of
from fs3.drivers.http.metrics_server import HttpRefusal, MetricsServer, scrapers_max
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.wire.exposition import parse_text
from tests.tls_files import Authority


class Source:
    """Readings that say how often they were made."""

    def __init__(self, lines: int = 1) -> None:
        self.reads = 0
        self.lines = lines

    def samples(self) -> Iterator[Sample]:
        self.reads += 1
        yield Sample(catalogue.EPOCH, (), self.reads)
        for number in range(self.lines - 1):
            yield Sample(catalogue.KV_PUTS, (f"{number:0120}",), number)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def port(source: Source) -> Iterator[int]:
    server = MetricsServer(source.samples)
    try:
        yield server.start("127.0.0.1", 0)[1]
    finally:
        server.close()


def ask(port: int, path: str = "/metrics", verb: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(verb, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_the_readings_and_what_scraping_cost(port: int) -> None:
    status, text = ask(port)
    assert status == 200
    names = [reading.name for reading in parse_text(text)]
    assert names[-1] == "fs3_manager_epoch"
    assert {"fs3_scrapes_total", "fs3_scrapes_refused_total", "fs3_scrape_seconds"} <= set(names)


def test_other_paths_and_verbs_are_refused(port: int) -> None:
    assert ask(port, "/")[0] == 404
    assert ask(port, verb="POST")[0] == 405
    assert ask(port, verb="HEAD") == (200, "")
    assert ask(port, "/metrics?name=x")[0] == 200


def test_a_storm_of_scrapers_shares_readings(port: int, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "scrape_age_ns", 3600 * 10**9)
    assert {ask(port)[0] for _ in range(200)} == {200}
    assert source.reads == 1


def test_scrapers_that_say_nothing_are_bounded_and_the_others_are_told(port: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(scrapers_max)]
        for each in silent:
            each.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
        # The last of them is there once the next one is refused.
        while (found := ask(port)) != (503, "too many scrapers\n"):
            assert found[0] == 200
    while ask(port)[0] != 200:
        pass


@pytest.mark.parametrize("request_bytes", [b"x" * 100_000, b"\r\n\r\n", b"\x16\x03\x01", b"GET\r\n\r\n"])
def test_nonsense_ends_the_connection_and_no_other(port: int, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(request_bytes)
        sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert ask(port)[0] == 200


def test_a_scraper_that_reads_slowly_delays_no_other() -> None:
    server = MetricsServer(Source(lines=20_000).samples)
    try:
        port = server.start("127.0.0.1", 0)[1]
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", port))
            slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert slow.recv(1)
            status, text = ask(port)
            assert status == 200
            assert len(text) > 1 << 21
    finally:
        server.close()


def test_a_port_that_is_taken_and_a_host_that_is_not_there(port: int) -> None:
    with pytest.raises(FS3Error, match="cannot listen") as caught:
        MetricsServer(Source().samples).start("127.0.0.1", port)
    assert caught.value.code is Code.EXISTS
    with pytest.raises(FS3Error, match="--metrics-port"):
        MetricsServer(Source().samples).start("no.such.host.invalid", 0)


class OneToken:
    """Admits those that show the right token."""

    async def refuse(self, token: str) -> HttpRefusal | None:
        """See `Doorkeeper`."""
        if not token:
            return HttpRefusal(401, "show a token")
        return None if token == "right" else HttpRefusal(403, "another one")


def test_a_token_is_asked_for_everything_but_whether_the_process_lives(source: Source) -> None:
    server = MetricsServer(source.samples, doorkeeper=OneToken())
    port = server.start("127.0.0.1", 0)[1]
    try:
        for path in ("/metrics", "/", "/events", "/nothing", "/healthz/more"):
            assert ask(port, path) == (401, "show a token\n")
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, headers={"Authorization": "Bearer wrong"}) == (403, "another one\n")
        assert source.reads == 0
        assert ask(port, headers={"Authorization": "Bearer right"})[0] == 200
        assert ask(port, "/nothing", headers={"Authorization": "Bearer right"})[0] == 404
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/metrics")
            assert connection.getresponse().headers["WWW-Authenticate"].startswith("Basic")  # a browser asks its user
    finally:
        server.close()


@pytest.mark.parametrize(
    ("said", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic YW5uOmFiYzpk", "abc:d"),
        ("Basic YW5u", ""),
        ("Basic ?", ""),
        ("Basic /w==", ""),
        ("Digest abc", ""),
        ("Bearer", ""),
        ("", ""),
    ],
)
def test_how_a_token_is_shown(said: str, token: str) -> None:
    assert token_of({"authorization": said}) == token


def test_tls_with_the_certificate_of_the_moment(source: Source, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    credentials = authority.credentials("h1", "127.0.0.1")
    server = MetricsServer(source.samples, credentials=credentials)
    port = server.start("127.0.0.1", 0)[1]

    def serial() -> object:
        context = authority.client().client_context()
        with closing(HTTPSConnection("127.0.0.1", port, timeout=30, context=context)) as connection:
            connection.connect()
            assert connection.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]
            certificate = connection.sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == 200
            assert "fs3_scrapes_total" in answer.read().decode()
            return certificate

    try:
        before = serial()
        assert serial() == before
        with pytest.raises((OSError, HTTPException)):
            ask(port)
        authority.issue("h1", "127.0.0.1")
        while serial() == before:  # they are looked at once a second
            pass
    finally:
        server.close()
