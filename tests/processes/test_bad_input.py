"""What people get wrong: each is one clear line and exit status 1 or 2, and nothing is harmed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fs3.cli.ports import free_ports

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def refused(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run the command line, which must refuse; its message on standard error, on one line."""
    done = subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", *arguments],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_nothing_listens() -> None:
    port = free_ports(1)
    message = refused("ls", f"fs3://127.0.0.1:{port}/")
    assert f"127.0.0.1:{port}" in message
    assert "nothing listens" in message


@pytest.mark.parametrize("url", ["fs3://127.0.0.1:99999/x", "fs3://127.0.0.1:port/x", "fs3://:8000/x"])
def test_an_address_that_is_none(url: str) -> None:
    assert "is not host:port" in refused("ls", url)


def test_the_port_of_another_service(cluster_url: str) -> None:
    port = int(cluster_url.rpartition(":")[2]) + 2
    assert "the port of a metadata or storage service" in refused("ls", f"fs3://127.0.0.1:{port}/")


def test_listening_everywhere_needs_an_address_for_others(tmp_path: Path) -> None:
    assert "--advertise" in refused("up", "--data-dir", str(tmp_path / "d"), "--host", "0.0.0.0", "--detach")


def test_a_path_without_scheme() -> None:
    assert "write file:///etc/hostname" in refused("cat", "/etc/hostname")
    assert "has no scheme" in refused("ls", "some/dir")


def test_a_scheme_nobody_knows() -> None:
    assert "gopher" in refused("ls", "gopher://x/y")


def test_no_cluster_named() -> None:
    assert "FS3_CLUSTER" in refused("ls", "fs3:///x", environment={"PATH": "/usr/bin:/bin"})


def test_unknown_option_and_command() -> None:
    assert "--nonsense" in refused("up", "--nonsense")
    assert "frobnicate" in refused("frobnicate")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--replicas", "4"], "--replicas 4"),
        (["--storage", "0"], "--storage 0"),
        (["--targets", "1000"], "--targets 1000"),
        (["--port", "65534"], "--port 65534"),
        (["--only", "storage-9"], "--only storage-9"),
        (["--only", "database"], "'database'"),
    ],
)
def test_shapes_that_cannot_be(tmp_path: Path, options: list[str], named: str) -> None:
    assert named in refused("up", "--data-dir", str(tmp_path / "c"), "--detach", *options)


def test_a_port_in_use(tmp_path: Path) -> None:
    port = free_ports(10)
    with closing(socket.create_server(("127.0.0.1", port + 3))):
        message = refused("up", "--data-dir", str(tmp_path / "c"), "--port", str(port), "--detach")
    assert f"127.0.0.1:{port + 3} is not free" in message
    assert "meta" in message


def test_a_data_directory_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"format": 99}))
    message = refused("up", "--data-dir", str(tmp_path), "--detach")
    assert "format 99" in message
    assert str(tmp_path) in message
    (tmp_path / "cluster.json").write_text("not json")
    assert "cluster.json" in refused("status", "--data-dir", str(tmp_path))


def test_a_directory_without_cluster(tmp_path: Path) -> None:
    assert "no fs3 cluster" in refused("down", "--data-dir", str(tmp_path))


def test_a_config_key_nobody_knows(tmp_path: Path) -> None:
    config = tmp_path / "mgmtd.toml"
    config.write_text("heartbaet_ms = 5\n")
    message = refused("serve", "mgmtd", "--name", "mgmtd", "--data-dir", str(tmp_path / "m"), "--config", str(config))
    assert "heartbaet_ms" in message
    assert "mgmtd.toml" in message


def test_a_shape_that_contradicts_the_directory(tmp_path: Path) -> None:
    shape = {"storage": 3, "replicas": 3, "targets": 2, "port": free_ports(10), "host": "127.0.0.1"}
    (tmp_path / "cluster.json").write_text(json.dumps({"format": 1, "shape": shape, "processes": []}))
    message = refused("up", "--data-dir", str(tmp_path), "--storage", "5", "--detach")
    assert "--storage 5" in message
    assert "has 3" in message
