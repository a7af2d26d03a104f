"""The compose file: its services start with exactly its commands and environment, and make a cluster.

Containers are stood in for by processes with loopback addresses of their own: 127.0.77.1 is "mgmtd", and so on. Only the host
names, the wildcard address and the data volume are replaced. Where a container engine is at hand, `test_compose_engine` runs the
file itself.
"""

from __future__ import annotations

import asyncio
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

from fs3.cli.status import fetch_status, wait_until_healthy
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
SERVICES = ("mgmtd", "meta", "storage-1", "storage-2", "storage-3")
MORE = ("storage-4", "storage-5")
"""Those of the profile `five`."""
ADDRESSES = {name: f"127.0.77.{index}" for index, name in enumerate((*SERVICES, *MORE), 1)}
OTHER_ADDRESS = "127.0.77.99"


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
    assert set(compose["services"]) == {*SERVICES, *MORE, "client"}
    for name in (*SERVICES, *MORE):
        assert compose["services"][name].get("profiles") == (["five"] if name in MORE else None)
        service = compose["services"][name]
        assert service["command"] == ["serve", name.partition("-")[0]]
        assert service["environment"]["FS3_NAME"] == service["environment"]["FS3_ADVERTISE"] == name
        assert service["volumes"] == [f"{name}:/data"]
        assert service["healthcheck"]["test"][:2] == ["CMD", "fs3"]
        assert service["build"]["dockerfile"] == "deploy/compose/Dockerfile"
    assert set(compose["volumes"]) == {*SERVICES, *MORE}


class Containers:
    """The services of the file as processes."""

    def __init__(self, compose: dict[str, Any], root: Path) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._services = compose["services"]
        self._root = root

    def start(self, name: str, address: str = "") -> None:
        """Start a service, under another address than its own when one is given; a manager is waited for."""
        service = self._services[name]
        settings = {key: here(str(value), name) for key, value in service["environment"].items()}
        assert settings["FS3_DATA_DIR"] == "/data"
        settings["FS3_DATA_DIR"] = str(self._root / name)
        if address:
            settings = {key: value.replace(ADDRESSES[name], address) for key, value in settings.items()}
        settings["FS3_NAME"] = name
        with (self._root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "fs3.cli.main", *service["command"]],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **settings},
                stdout=log, stderr=log,
            )  # fmt: skip
        if name == "mgmtd":
            healthy(service)

    def stop(self, *names: str) -> None:
        """As the engine does: SIGTERM, and wait."""
        children = [self.running.pop(name) for name in names]
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.wait(60)


@pytest.fixture(scope="module")
def containers(compose: dict[str, Any], space_guard: SpaceGuard) -> Iterator[Containers]:
    """The services of the file, started in the order of their dependencies."""
    with space_guard.lend("compose") as root:
        made = Containers(compose, root)
        try:
            for name in SERVICES:
                made.start(name)
            yield made
        finally:
            made.stop(*reversed(made.running))


def healthy(service: dict[str, Any]) -> None:
    """Wait until the service's own health check passes, as the engine would."""
    check = [part.replace("mgmtd", ADDRESSES["mgmtd"]) for part in service["healthcheck"]["test"][2:]]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run([sys.executable, "-m", "fs3.cli.main", *check], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr


MANAGER = f"{ADDRESSES['mgmtd']}:8000"


def status() -> dict[str, Any]:
    """As `fs3 status --json` has it."""
    return asyncio.run(fetch_status([MANAGER]))


def test_they_make_a_cluster(compose: dict[str, Any], containers: Containers) -> None:
    wait_until_healthy([MANAGER])
    assert all(child.poll() is None for child in containers.running.values())
    filesystem = fsspec.filesystem("fs3", cluster=f"{ADDRESSES['mgmtd']}:8000")
    filesystem.pipe_file("/hello", b"from compose")
    client = compose["services"]["client"]
    environment = {key: here(str(value), "mgmtd") for key, value in client["environment"].items()}
    done = subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", *client["command"]],
        capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hello"]


def test_one_that_is_made_anew_has_another_address_and_is_the_same_node(containers: Containers) -> None:
    before = {node["name"]: node["id"] for node in status()["nodes"]}
    containers.stop("storage-2")
    filesystem = fsspec.filesystem("fs3", cluster=MANAGER)
    filesystem.pipe_file("/meanwhile", b"two of three have it")
    containers.start("storage-2", OTHER_ADDRESS)
    wait_until_healthy([MANAGER])
    nodes = {node["name"]: node for node in status()["nodes"]}
    assert {name: node["id"] for name, node in nodes.items()} == before
    assert f"tcp://{OTHER_ADDRESS}:8000" in nodes["storage-2"]["endpoints"]
    containers.stop("storage-1")
    assert filesystem.cat_file("/meanwhile") == b"two of three have it", "it has what was written without it"
    containers.start("storage-1")
    wait_until_healthy([MANAGER])


def test_scaled_to_five(containers: Containers) -> None:
    for name in MORE:
        containers.start(name)
    deadline = time.monotonic() + 60
    while True:
        alive = {node["name"] for node in status()["nodes"] if node["alive"]}
        if alive >= {*MORE, "storage-1", "storage-2", "storage-3"}:
            break
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
    wait_until_healthy([MANAGER])
    assert fsspec.filesystem("fs3", cluster=MANAGER).cat_file("/hello") == b"from compose"
