"""Every process is stopped and started again, one by one, under load; and the services that are not storage die."""

from __future__ import annotations

import signal

import pytest

from fs3.cli.local import LocalCluster
from fs3.drill.roles import wait_healthy

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def test_roll_every_process(drilled: LocalCluster, under_load) -> None:
    """An upgrade: nobody's operation fails."""
    with under_load(drilled) as load:
        for name in drilled.shape.names():
            drilled.kill(name, number=signal.SIGTERM)
            drilled.start(only=name)
            wait_healthy(drilled)
            load.wait_progress("write", 50, 40)
            load.wait_progress("file", 3, 40)


@pytest.mark.parametrize("name", ["mgmtd", "meta"])
def test_a_service_dies_and_comes_back(drilled: LocalCluster, under_load, name: str) -> None:
    """Without the manager data is read and written for as long as leases run; without metadata, always. Then all goes on."""
    with under_load(drilled) as load:
        drilled.kill(name)
        drilled.start(only=name)
        wait_healthy(drilled)
        load.wait_progress("write", 50, 30)
        load.wait_progress("file", 5, 30)
