"""An upgrade from the last release to today's software and back, process by process, under load of clients of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.base.version import THIS_RELEASE
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import wait_healthy
from tests.processes.conftest import check
from tests.release_record import read_release
from tests.releases import Software, released_software, this_software
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

PORTS = 20
LOAD = {"registers": 6, "settled": 6, "readers": 1, "settled_readers": 1}


@pytest.fixture(scope="module")
def home(space_guard: SpaceGuard) -> Iterator[Path]:
    with space_guard.lend("releases") as lent:
        yield lent


@pytest.fixture(scope="module")
def released(home: Path) -> Software:
    return released_software(home / "released")


def levels_of(cluster: LocalCluster) -> set[int]:
    """Levels that the status shows; 0: of a process that was not heard of yet."""
    status = cluster.status()
    return {process["level"] for process in (*status["managers"], *status["nodes"])}


def test_upgrade_and_back(home: Path, released: Software, tmp_path: Path) -> None:
    """Every byte that either client was told is stored is there afterwards, on every replica, and no operation has failed."""
    today, data = this_software(), str(home / "cluster")
    shape = ("--mgmtds", "2", "--metas", "2", "--targets", "1", "--port", str(free_ports(PORTS)))
    released.run("up", "--data-dir", data, *shape, "--detach")
    try:
        cluster = LocalCluster(Path(data))
        names = cluster.shape.names()
        old, new = (
            LoadProcess(cluster.url, tmp_path / name, seed=seed, environment=software.environment, **LOAD)
            for seed, (name, software) in enumerate((("released", released), ("today", today)), start=1)
        )
        with old, new:
            for before, after in ((released, today), (today, released)):
                for name in names:
                    before.run("down", "--data-dir", data, "--only", name)
                    after.run("up", "--data-dir", data, "--only", name, "--detach")
                    wait_healthy(cluster)
                    for load in (old, new):
                        load.wait_progress("write", 20, 60)
                        load.wait_progress("file", 2, 60)
                    if name == names[0] and after is today:
                        problems = [problem["text"] for problem in cluster.status()["problems"]]
                        assert any("versions are mixed" in text for text in problems), problems
                if after is today:
                    assert levels_of(cluster) == {THIS_RELEASE.level}
            assert levels_of(cluster) <= {0, read_release().level}
            journals = [load.stop() for load in (old, new)]
        for journal in journals:
            check(cluster, journal, lambda kind, why: False)
    finally:
        released.run("down", "--data-dir", data)
