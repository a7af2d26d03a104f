"""A real cluster on loopback, for the tests that need one; started once, by whoever asks first."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import settings

from fs3.cli.local import free_ports

# A deadline for each example is a timed assertion, and machines are shared.
settings.register_profile("fs3", deadline=None)
settings.load_profile("fs3")

STORAGE = 3
FS3 = [sys.executable, "-m", "fs3.cli.main"]


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """fs3://host:port of a cluster of processes: mgmtd, meta and three storage nodes, three copies of everything."""
    directory = tmp_path_factory.mktemp("cluster")
    port = free_ports(2 * (STORAGE + 2))
    up = [*FS3, "up", "--data-dir", str(directory), "--port", str(port), "--storage", str(STORAGE), "--targets", "1", "--detach"]
    try:
        said = subprocess.run(up, capture_output=True, text=True, timeout=90)
        assert said.returncode == 0, f"fs3 up failed:\n{said.stdout}{said.stderr}{_logs(directory)}"
        yield f"fs3://127.0.0.1:{port}"
    finally:
        subprocess.run([*FS3, "down", "--data-dir", str(directory)], capture_output=True, timeout=90)


def _logs(directory: Path) -> str:
    return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(directory.glob("log/*.log")))


@pytest.fixture(scope="session", params=[pytest.param("cluster", marks=pytest.mark.processes), "embedded"])
def fs3_options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of `fsspec.filesystem("fs3", …)`: for a cluster of processes, and for one inside this process."""
    if request.param == "embedded":
        return {"path": str(tmp_path_factory.mktemp("embedded"))}
    url: str = request.getfixturevalue("cluster_url")
    return {"cluster": url.partition("://")[2]}


@pytest.fixture
def fs(fs3_options: dict[str, str]) -> fsspec.AbstractFileSystem:
    """The filesystem with blocking calls."""
    return fsspec.filesystem("fs3", **fs3_options)


@pytest.fixture
def room(fs: fsspec.AbstractFileSystem) -> Iterator[str]:
    """An empty directory of the test's own."""
    path = f"/room-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield path
    fs.rm(path, recursive=True)
