"""Storage processes die under load: nothing acknowledged is lost, nothing old is shown, and the chain heals."""

from __future__ import annotations

import signal

import pytest

from fs3.cli.local import LocalCluster
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.mark.parametrize("role", ["head", "middle", "tail"])
def test_killed_under_load(drilled: LocalCluster, under_load, role: str) -> None:
    """kill -9: writes go on without it, reads never stop; started again, it is brought up to date and serves."""
    victim = process_in_role(status_of(drilled), role)
    with under_load(drilled) as load:
        drilled.kill(victim)
        load.wait_progress("settled", 100, 20)
        load.wait_progress("write", 200, 30)
        load.wait_progress("file", 5, 30)
        wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
        drilled.start(only=victim)
        wait_healthy(drilled)
        load.wait_progress("write", 100, 30)


def test_killed_and_started_again_at_once(drilled: LocalCluster, under_load) -> None:
    """It is back before anybody has given it up: its new life must not be taken for the old one."""
    for role in ("head", "tail"):
        victim = process_in_role(status_of(drilled), role)
        with under_load(drilled) as load:
            drilled.kill(victim)
            drilled.start(only=victim)
            load.wait_progress("write", 200, 30)
            wait_healthy(drilled)


def test_stopped_cleanly_under_load(drilled: LocalCluster, under_load) -> None:
    """A clean stop hands over before the process is gone."""
    victim = process_in_role(status_of(drilled), "head")
    with under_load(drilled) as load:
        drilled.kill(victim, number=signal.SIGTERM)
        assert is_excluded(victim)(status_of(drilled)), "a clean stop tells the manager"
        load.wait_progress("write", 200, 20)
        drilled.start(only=victim)
        wait_healthy(drilled)


def test_all_killed_at_once(drilled: LocalCluster, under_load) -> None:
    """Every replica is lost; whoever of the last serving ones comes back restarts the chain with everything acknowledged."""
    names = [name for name in drilled.shape.names() if name.startswith("storage-")]
    with under_load(drilled) as load:
        load.wait_progress("write", 100, 20)
        drilled.kill(*names)
        for name in names:
            drilled.start(only=name)
        wait_healthy(drilled)
        load.wait_progress("write", 100, 30)


def test_two_die_and_the_third_goes_on(drilled: LocalCluster, under_load) -> None:
    first, second = (process_in_role(status_of(drilled), role) for role in ("head", "tail"))
    with under_load(drilled) as load:
        drilled.kill(first)
        load.wait_progress("write", 100, 30)
        drilled.kill(second)
        load.wait_progress("write", 100, 30)
        load.wait_progress("settled", 20, 30)
        drilled.start(only=second)
        drilled.start(only=first)
        wait_healthy(drilled)
        load.wait_progress("write", 100, 30)
