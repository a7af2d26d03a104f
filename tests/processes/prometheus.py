"""A Prometheus of its own for a test, and what it has found."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from fs3.cli.ports import free_ports

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: nothing scrapes the cluster"
)


def read_deployed(name: str) -> dict[str, Any]:
    """A configuration of deploy/prometheus, with the alerts beside it, that scrapes each second."""
    config: dict[str, Any] = yaml.safe_load((DEPLOYED / name).read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOYED / "alerts.yml")]
    return config


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> dict[str, float] | None:
        """What it answers: code (or instance) -> value. None: it does not listen yet."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/api/v1/query?{urlencode({'query': expression})}") as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return {each["metric"].get("code") or each["metric"].get("instance", ""): float(each["value"][1]) for each in found}

    def scrapes(self, targets: list[str]) -> bool:
        """All of these answer it, and there are no others that do."""
        found = self.query("up == 1")
        return found is not None and found.keys() == set(targets)


@contextmanager
def running_prometheus(directory: Path, config: dict[str, Any]) -> Iterator[Prometheus]:
    """It keeps what it needs in the directory."""
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_ports(1)
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as prometheus:
        try:
            yield Prometheus(port)
        finally:
            prometheus.terminate()
