"""Two managers and two metadata processes: one of each dies, and the other one does its work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fs3.cli.local import LocalCluster
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def doubled(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """A cluster with two of everything that is not storage."""
    with (
        space_guard.lend("doubled") as home,
        LocalCluster(home / "cluster", targets=1, mgmtds=2, metas=2) as cluster,
    ):
        yield cluster


def url_of(cluster: LocalCluster) -> str:
    """Every manager's address."""
    return "fs3://" + ",".join(cluster.addresses)


def primary(cluster: LocalCluster) -> str:
    """The manager that leads."""
    (name,) = [manager["name"] for manager in status_of(cluster)["managers"] if manager["primary"]]
    return str(name)


def test_the_primary_manager_is_killed(doubled: LocalCluster, under_load) -> None:
    """The other one takes over and no chain is frozen: right after it, a storage process dies and is replaced."""
    first = primary(doubled)
    with under_load(doubled, url=url_of(doubled)) as load:
        epoch = status_of(doubled)["epoch"]
        doubled.kill(first)
        wait_status(doubled, lambda status: status["epoch"] > epoch, 30, "another manager to lead")
        assert primary(doubled) != first
        load.wait_progress("write", 50, 30)
        victim = process_in_role(status_of(doubled), "head")
        doubled.kill(victim)
        wait_status(doubled, is_excluded(victim), 20, f"{victim} to be left out")
        load.wait_progress("write", 50, 30)
        doubled.start(only=first)
        doubled.start(only=victim)
        wait_healthy(doubled)
        load.wait_progress("write", 50, 30)


def test_the_primary_manager_stands_still(doubled: LocalCluster, under_load) -> None:
    """It wakes when another one leads, and must not act on what it believed."""
    first = primary(doubled)
    with under_load(doubled, url=url_of(doubled), files=0) as load:
        epoch = status_of(doubled)["epoch"]
        doubled.pause(first)
        try:
            wait_status(doubled, lambda status: status["epoch"] > epoch, 30, "another manager to lead")
            load.wait_progress("write", 50, 30)
        finally:
            doubled.resume(first)
            if doubled.directory.running_pid(first) is None:
                doubled.start(only=first)  # stopped in the very middle of a commit, it has been killed by the one that waited
        wait_healthy(doubled)
        load.wait_progress("write", 50, 30)
        assert primary(doubled) != first


@pytest.mark.parametrize("name", ["meta", "meta-2"])
def test_a_metadata_process_is_killed(doubled: LocalCluster, under_load, name: str) -> None:
    """Files go on through the other one, with every operation once."""
    with under_load(doubled, url=url_of(doubled), files=3, registers=2, pages=0) as load:
        load.wait_progress("file", 10, 30)
        doubled.kill(name)
        load.wait_progress("file", 20, 30)
        doubled.start(only=name)
        load.wait_progress("file", 20, 30)
