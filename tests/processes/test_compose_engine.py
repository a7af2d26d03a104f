"""The compose file itself, where a container engine is at hand: containers that find each other by the names of their services.

`docker compose` with a daemon that answers, else `podman-compose`. `FS3_COMPOSE_BASE` names the image to build on where
docker.io cannot be reached, `FS3_COMPOSE_IMAGE=1` says that the image `fs3` has been built already, and `FS3_PODMAN_RUN_ARGS` has
options of `podman run` that the machine needs. Skipped where there is no engine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose" / "compose.yaml"
MANAGER = "fs3://mgmtd:8000"


class Engine:
    """Runs the file as a project of its own."""

    def __init__(self) -> None:
        self.project = f"fs3-test-{uuid.uuid4().hex[:8]}"
        self._run_arguments: list[str] = []
        if shutil.which("docker") and _works("docker", "info"):
            self.program = "docker"
            self._compose = ["docker", "compose"]
        elif shutil.which("podman") and shutil.which("podman-compose") and _works("podman", "info"):
            self.program = "podman"
            arguments = os.environ.get("FS3_PODMAN_RUN_ARGS", "")
            self._run_arguments = shlex.split(arguments)
            self._compose = ["podman-compose", "--in-pod=false", *([f"--podman-run-args={arguments}"] if arguments else [])]
        else:
            pytest.skip("no container engine: neither a docker daemon nor podman with podman-compose")

    def compose(self, *arguments: str) -> str:
        """What one command of compose prints."""
        return _run(*self._compose, "-p", self.project, "-f", str(FILE), *arguments)

    def fs3(self, *arguments: str) -> str:
        """What one `fs3` command prints in a container of its own, beside the others."""
        network = f"{self.project}_default"
        return _run(self.program, "run", "--rm", "--network", network, *self._run_arguments, "fs3", *arguments)

    def address(self, service: str) -> str:
        """The address of a service's container."""
        name = self.compose("ps", "-q", service) if self.program == "docker" else f"{self.project}_{service}_1"
        shown = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return _run(self.program, "inspect", "--format", shown, name.strip()).strip()


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=120).returncode == 0


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The cluster of the file, well."""
    made = Engine()
    if not os.environ.get("FS3_COMPOSE_IMAGE"):
        base = os.environ.get("FS3_COMPOSE_BASE", "docker.io/library/python:3.11-slim")
        if not _works(made.program, "image", "inspect", base) and not _works(made.program, "pull", base):
            pytest.skip(f"the image {base} is neither here nor can it be pulled")
        dockerfile = str(ROOT / "deploy" / "compose" / "Dockerfile")
        _run(made.program, "build", "--build-arg", f"BASE={base}", "-f", dockerfile, "-t", "fs3", str(ROOT))
    try:
        made.compose("up", "--no-build", "--detach")
        made.fs3("status", MANAGER, "--wait", "healthy", "--timeout", "120s")
        yield made
    finally:
        subprocess.run(
            [*made._compose, "-p", made.project, "-f", str(FILE), "--profile", "five", "down", "-v"], capture_output=True
        )


def test_containers_find_each_other_by_name(engine: Engine) -> None:
    engine.fs3("cp", "file:///etc/hostname", f"{MANAGER}/hello")
    assert engine.fs3("ls", f"{MANAGER}/").split() == ["hello"]


def test_one_that_is_made_anew_joins_again(engine: Engine) -> None:
    """Whatever its address, it is the node that its volume says it is."""
    before = engine.fs3("status", MANAGER, "--json").count('"name": "storage-')
    engine.compose("stop", "storage-2")
    engine.compose("rm", "-f", "storage-2") if engine.program == "docker" else _run(
        "podman", "rm", f"{engine.project}_storage-2_1"
    )
    engine.compose("up", "--no-build", "--detach", "storage-2")
    engine.fs3("status", MANAGER, "--wait", "healthy", "--timeout", "120s")
    assert engine.fs3("status", MANAGER, "--json").count('"name": "storage-') == before
    assert engine.fs3("cat", f"{MANAGER}/hello").strip()


def test_scaled_to_five(engine: Engine) -> None:
    engine.compose("--profile", "five", "up", "--no-build", "--detach")
    engine.fs3("status", MANAGER, "--wait", "healthy", "--timeout", "120s")
    assert engine.fs3("status", MANAGER, "--json").count('"name": "storage-') == 5
