"""Clusters to break: with failover on, one per module, and loads with an oracle on them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.drill.journal import Journal
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import wait_healthy
from fs3.drill.verify import verify_now
from tests.process_mounts import two_mounts
from tests.space import SpaceGuard

_SEEDS = count(1)
Rehearse = Callable[..., AbstractContextManager[LoadProcess]]


@pytest.fixture(scope="module")
def drilled(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """A cluster of three storage processes on one chain, which every test of the module leaves well."""
    with space_guard.lend("drill") as home, LocalCluster(home / "cluster", targets=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shared(space_guard: SpaceGuard, drilled: LocalCluster) -> Iterator[tuple[Path, Path]]:
    """Two mounts of it, each by a process of its own."""
    with space_guard.lend("points") as home, two_mounts(drilled, home) as roots:
        yield roots


@pytest.fixture
def mounts(shared: tuple[Path, Path], request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A directory of this test, on two mounts."""
    (shared[0] / request.node.name).mkdir()
    return shared[0] / request.node.name, shared[1] / request.node.name


@pytest.fixture
def under_load(tmp_path: Path) -> Rehearse:
    """`with under_load(cluster) as load:` a load with an oracle; at the end everything it wrote is looked at on every replica.

    The cluster must be well by then, and no operation may have failed unless `may_fail` admits it: (kind, why) -> bool.
    """

    @contextmanager
    def run(
        cluster: LocalCluster,
        *,
        may_fail: Callable[[str, str], bool] = lambda kind, why: False,
        url: str = "",
        **options: float | str,
    ) -> Iterator[LoadProcess]:
        seed = next(_SEEDS)
        settings: dict[str, float | str] = {
            "seed": seed,
            "registers": 8,
            "settled": 8,
            "readers": 2,
            "settled_readers": 1,
            **options,
        }
        with LoadProcess(url or cluster.url, tmp_path / f"journal-{seed}", **settings) as load:
            yield load
            wait_healthy(cluster)
            journal = load.stop()
        check(cluster, journal, may_fail)

    return run


@contextmanager
def small_disk_below(mount: Path) -> Iterator[None]:
    """A small file system of its own at a directory; the test is skipped where it cannot be mounted."""
    mount.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640m", "fs3-test", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A cluster directory whose storage-2 has a small disk of its own."""
    with small_disk_below(tmp_path / "cluster" / "storage-2"):
        yield tmp_path / "cluster"


@pytest.fixture
def small_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A cluster directory for one storage process, which has a small disk of its own."""
    with small_disk_below(tmp_path / "cluster" / "storage-1"):
        yield tmp_path / "cluster"


def check(cluster: LocalCluster, journal: Journal, may_fail: Callable[[str, str], bool]) -> None:
    """Nothing was wrong, nothing failed that may not, and every byte is there on every replica."""
    assert journal.wrong == []
    assert [each for each in journal.failed if not may_fail(*each)] == []
    verdict = verify_now(cluster.url, journal)
    assert verdict.wrong == []
    assert verdict.registers >= len(journal.registers)
    assert verdict.files == len(journal.files)
    assert verdict.pages == len(journal.pages)
