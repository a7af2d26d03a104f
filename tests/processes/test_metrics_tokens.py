"""The metrics ports of a secured cluster, where other machines reach them: by TLS, and for those whose token may."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from fs3.cli import cluster as cluster_module
from fs3.cli.local import LocalCluster, free_ports
from fs3.cli.local_tls import tls_home
from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
from tests.processes.machine_lab import wait_until
from tests.processes.prometheus import needs_prometheus, read_deployed, running_prometheus
from tests.processes.test_security import operate
from tests.space import SpaceGuard

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


class Watched:
    """A cluster whose processes serve metrics on all addresses."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.ca = str(tls_home(cluster.directory) / "ca.crt")
        self.names = cluster.shape.names()

    def port(self, name: str) -> int:
        return self.cluster.shape.metrics_port_of(name)

    def get(self, name: str, path: str = "/metrics", authorization: str = "") -> int:
        """The status that a process answers with."""
        context = TlsCredentials(TlsFiles(self.ca), OsClock()).client_context()
        with closing(HTTPSConnection("127.0.0.1", self.port(name), timeout=60, context=context)) as connection:
            connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status == 200 and path == "/metrics":
                assert "fs3_build_info" in body
            return answer.status

    def token(self, name: str, *options: str) -> str:
        """Of a new user."""
        operate(self.cluster, "user", "add", name, "--uid", "65001", *options)
        return operate(self.cluster, "user", "token", name).strip()


@pytest.fixture(scope="module")
def watched(space_guard: SpaceGuard) -> Iterator[Watched]:
    """Open at first."""
    with space_guard.lend("watched") as home, pytest.MonkeyPatch.context() as patch:
        command = cluster_module.serve_command

        def on_all_addresses(*arguments: object) -> list[str]:
            found = command(*arguments)  # type: ignore[arg-type]
            place = found.index("--metrics-port") + 1
            found[place] = f"0.0.0.0:{found[place]}"
            return found

        patch.setattr(cluster_module, "serve_command", on_all_addresses)
        cluster = LocalCluster(home / "cluster", storage=2, replicas=2, tls=True)
        cluster.shape.metrics_port = free_ports(len(cluster.shape.names()))
        with cluster:
            yield Watched(cluster)


def test_who_may_read_the_ports(watched: Watched) -> None:
    cluster, names = watched.cluster, watched.names
    assert {watched.get(name) for name in names} == {200}, "it has no security yet"
    operate(cluster, "security", "on", "--token-file", str(cluster.directory.path / "admin.token"))
    reader = watched.token("prometheus", "--service", "--reads-metrics")
    ann = watched.token("ann")
    admin = (cluster.directory.path / "admin.token").read_text().strip()
    for name in names:
        assert watched.get(name) == 401
        assert watched.get(name, "/") == 401
        assert watched.get(name, "/healthz") == 200
        assert watched.get(name, authorization=f"Bearer {reader[:-1]}x") == 401
        assert watched.get(name, authorization="Bearer hunter2") == 401
        assert watched.get(name, authorization=f"Bearer {ann}") == 403
        assert watched.get(name, authorization=f"Bearer {reader}") == 200
        assert watched.get(name, authorization=f"Bearer {admin}") == 200
        assert watched.get(name, authorization="Basic " + base64.b64encode(f"x:{reader}".encode()).decode()) == 200
        with closing(HTTPConnection("127.0.0.1", watched.port(name), timeout=30)) as plain:
            plain.request("GET", "/metrics")
            with pytest.raises((OSError, HTTPException)):
                plain.getresponse()
    assert watched.get("mgmtd", "/", f"Bearer {reader}") == 200, "the page"
    users = json.loads(operate(cluster, "user", "list", "--json"))["users"]
    assert {user["name"] for user in users if user["reads_metrics"]} == {"prometheus"}
    # An account that is taken away reads nothing more.
    operate(cluster, "user", "set", "prometheus", "--no-reads-metrics")
    bearer = f"Bearer {reader}"
    for name in names:
        wait_until(lambda name=name: watched.get(name, authorization=bearer) == 403, lambda: "it reads on", 60)
    operate(cluster, "user", "set", "prometheus", "--disable")
    for name in names:
        wait_until(lambda name=name: watched.get(name, authorization=bearer) == 401, lambda: "it reads on", 60)


@needs_prometheus
def test_prometheus_scrapes_with_the_token_of_an_account(watched: Watched, tmp_path: Path) -> None:
    cluster = watched.cluster
    if watched.get("mgmtd") == 200:
        operate(cluster, "security", "on", "--token-file", str(tmp_path / "admin.token"))
    token = watched.token("scraper", "--service", "--reads-metrics")
    targets = [f"127.0.0.1:{watched.port(name)}" for name in watched.names]
    config = read_deployed("prometheus-secured.yml")
    job = config["scrape_configs"][0]
    job["static_configs"][0]["targets"] = targets
    job["tls_config"]["ca_file"] = watched.ca
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    (tmp_path / "token").write_text(token)
    with running_prometheus(tmp_path, config) as prometheus:
        wait_until(lambda: prometheus.scrapes(targets), lambda: "not every process is scraped", 120)
