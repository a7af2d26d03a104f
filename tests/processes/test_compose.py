"""The compose file: its services start with exactly its commands and environment, and make a cluster.

Containers are stood in for by processes with loopback addresses of their own: 127.0.77.1 is "mgmtd", and so on. Only the host
names, the wildcard address and the data volume are replaced. Where a container engine is at hand the file itself is run by
`deploy/compose/check`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
SERVICES = ("mgmtd", "meta", "storage-1", "storage-2", "storage-3")
ADDRESSES = {name: f"127.0.77.{index}" for index, name in enumerate(SERVICES, 1)}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, with its anchors resolved."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def here(value: str, name: str) -> str:
    """A value of the environment of service `name`, with host names as loopback addresses."""
    if value in ADDRESSES:
        return ADDRESSES[value]
    host, colon, rest = value.partition(":")
    return f"{ADDRESSES.get(host, ADDRESSES[name] if host == '0.0.0.0' else host)}{colon}{rest}"


def test_every_service_has_what_it_needs(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*SERVICES, "client"}
    for name in SERVICES:
        service = compose["services"][name]
        assert service["command"] == ["serve", name.partition("-")[0]]
        assert service["environment"]["FS3_NAME"] == service["environment"]["FS3_ADVERTISE"] == name
        assert service["volumes"] == [f"{name}:/data"]
        assert service["healthcheck"]["test"][:2] == ["CMD", "fs3"]
        assert service["build"]["dockerfile"] == "deploy/compose/Dockerfile"
    assert set(compose["volumes"]) == set(SERVICES)


@pytest.fixture(scope="module")
def processes(compose: dict[str, Any], space_guard: SpaceGuard) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The services of the file as processes, in the order of their dependencies."""
    with space_guard.lend("compose") as root:
        yield from _run_services(compose, root)


def _run_services(compose: dict[str, Any], root: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in SERVICES:
            service = compose["services"][name]
            settings = {key: here(str(value), name) for key, value in service["environment"].items()}
            assert settings["FS3_DATA_DIR"] == "/data"
            settings["FS3_DATA_DIR"] = str(root / name)
            log = (root / f"{name}.log").open("wb")
            running[name] = subprocess.Popen(
                [sys.executable, "-m", "fs3.cli.main", *service["command"]],
                env={"PATH": os.environ["PATH"], **settings}, stdout=log, stderr=log,
            )  # fmt: skip
            log.close()
            if name == "mgmtd":
                healthy(service)
        yield running
    finally:
        for child in reversed(running.values()):
            child.send_signal(signal.SIGTERM)
        for child in running.values():
            child.wait(60)


def healthy(service: dict[str, Any]) -> None:
    """Wait until the service's own health check passes, as the engine would."""
    check = [part.replace("mgmtd", ADDRESSES["mgmtd"]) for part in service["healthcheck"]["test"][2:]]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run([sys.executable, "-m", "fs3.cli.main", *check], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr


def test_they_make_a_cluster(compose: dict[str, Any], processes: dict[str, subprocess.Popen[bytes]]) -> None:
    from fs3.cli.status import wait_until_healthy

    wait_until_healthy([f"{ADDRESSES['mgmtd']}:8000"])
    assert all(child.poll() is None for child in processes.values())
    filesystem = fsspec.filesystem("fs3", cluster=f"{ADDRESSES['mgmtd']}:8000")
    filesystem.pipe_file("/hello", b"from compose")
    client = compose["services"]["client"]
    environment = {key: here(str(value), "mgmtd") for key, value in client["environment"].items()}
    done = subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", *client["command"]],
        capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hello"]
