"""Links that carry nothing: between two storage processes, to the manager, one way only. The chain goes on, and it heals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fs3.cli import cluster as processes
from fs3.cli.local import LocalCluster
from fs3.drill import proxy
from fs3.drill.proxy import ADVERTISED, REAL, FaultyNetwork
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status
from tests.space import SpaceGuard

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not proxy.is_supported(), reason="needs 127.0.0.2 and /proc/net/tcp"),
]


class Proxied:
    """A cluster and the network it is connected by."""

    def __init__(self, cluster: LocalCluster, network: FaultyNetwork) -> None:
        self.cluster = cluster
        self.network = network


@pytest.fixture(scope="module")
def proxied(space_guard: SpaceGuard) -> Iterator[Proxied]:
    """Every process is reached through a faulty network, over TCP, except the manager by the test itself."""
    patch = pytest.MonkeyPatch()
    plain = processes.serve_command

    def command(shape, directory, name):
        parts = [
            part.replace(REAL, ADVERTISED) if before == "--mgmtd" else part
            for before, part in _pairs(plain(shape, directory, name))
        ]
        at = parts.index("--local-listen")
        return [*parts[:at], *parts[at + 2 :], "--advertise", ADVERTISED]

    patch.setattr(processes, "serve_command", command)
    with space_guard.lend("proxied") as home:
        # A supervisor would start a process as it is outside this test, past the proxies.
        yield from _run_proxied(LocalCluster(home / "cluster", targets=1, supervised=False))
    patch.undo()


def _run_proxied(local: LocalCluster) -> Iterator[Proxied]:
    ports = {name: processes.ports_of(local.shape, name) for name in local.shape.names()}

    def pids() -> dict[str, int]:
        return {name: pid for name in ports if (pid := local.directory.running_pid(name)) is not None}

    with FaultyNetwork(ports, pids) as network, local:
        yield Proxied(local, network)
        network.heal()


def _pairs(parts: list[str]) -> list[tuple[str, str]]:
    return list(zip(["", *parts], parts, strict=False))


@pytest.fixture(autouse=True)
def healed(proxied: Proxied) -> Iterator[None]:
    """No test leaves a cut behind."""
    yield
    proxied.network.heal()


@pytest.mark.parametrize("both_ways", [True, False], ids=["both ways", "one way"])
def test_two_storage_processes_cannot_reach_each_other(proxied: Proxied, under_load, both_ways: bool) -> None:
    """Both are alive for the manager. The second leaves the chain, which goes on without it, and comes back as the last one: the
    chain is whole again although the link is not."""
    head, middle, tail = (process_in_role(status_of(proxied.cluster), role) for role in ("head", "middle", "tail"))
    with under_load(proxied.cluster, transport="tcp", files=0, pages=0) as load:
        assert proxied.network.count_connections(head, middle) > 0, "storage to storage passes through the network"
        proxied.network.cut(head, middle, both_ways=both_ways)
        wait_status(proxied.cluster, is_excluded(middle), 20, f"{middle} to leave its chain")
        load.wait_progress("write", 100, 30)
        load.wait_progress("settled", 100, 30)
        wait_healthy(proxied.cluster)
        status = status_of(proxied.cluster)
        assert [process_in_role(status, role) for role in ("head", "middle", "tail")] == [head, tail, middle]
        load.wait_progress("write", 100, 30)
        proxied.network.heal()
        load.wait_progress("write", 100, 30)


def test_with_two_copies_left_one_goes_on_alone_until_the_link_is_mended(proxied: Proxied, under_load) -> None:
    head, middle, tail = (process_in_role(status_of(proxied.cluster), role) for role in ("head", "middle", "tail"))
    with under_load(proxied.cluster, transport="tcp", files=0, pages=0) as load:
        proxied.network.isolate(tail)
        wait_status(proxied.cluster, is_excluded(tail), 20, f"{tail} to be given up")
        proxied.network.cut(head, middle)
        wait_status(proxied.cluster, is_excluded(middle), 30, f"{middle} to leave its chain")
        load.wait_progress("write", 100, 30)
        proxied.network.heal()
        wait_healthy(proxied.cluster)
        load.wait_progress("write", 50, 30)


def test_a_connection_between_two_storage_processes_breaks_again_and_again(proxied: Proxied, under_load) -> None:
    middle, tail = (process_in_role(status_of(proxied.cluster), role) for role in ("middle", "tail"))
    with under_load(proxied.cluster, transport="tcp", files=0) as load:
        for _ in range(5):
            proxied.network.drop_connections(middle, tail)
            load.wait_progress("write", 30, 30)


@pytest.mark.parametrize("role", ["head", "tail"])
def test_a_storage_process_that_the_manager_cannot_hear(proxied: Proxied, under_load, role: str) -> None:
    """Clients still reach it, and it is alive; but its lease runs out, and it must know."""
    victim = process_in_role(status_of(proxied.cluster), role)
    with under_load(proxied.cluster, transport="tcp") as load:
        proxied.network.cut(victim, "mgmtd")
        wait_status(proxied.cluster, is_excluded(victim), 20, f"{victim} to be left out")
        load.wait_progress("write", 100, 30)
        load.wait_progress("settled", 50, 30)
        proxied.network.heal()
        wait_healthy(proxied.cluster)
        load.wait_progress("write", 50, 30)


def test_heartbeats_arrive_and_their_answers_do_not(proxied: Proxied, under_load) -> None:
    """One-way: the manager hears a process that does not hear it. Its lease cannot be extended, so it stops serving; the manager
    believes it alive. Whatever they make of it, nothing old is shown, and it heals."""
    victim = process_in_role(status_of(proxied.cluster), "head")
    with under_load(proxied.cluster, transport="tcp", files=0, pages=0) as load:
        proxied.network.cut("mgmtd", victim, both_ways=False)
        load.wait_progress("settled", 100, 30)
        proxied.network.heal()
        wait_healthy(proxied.cluster)
        load.wait_progress("write", 50, 30)


def test_a_process_cut_off_from_everybody(proxied: Proxied, under_load) -> None:
    """As if its cable had been pulled: connections stay open and silent."""
    victim = process_in_role(status_of(proxied.cluster), "middle")
    with under_load(proxied.cluster, transport="tcp") as load:
        proxied.network.isolate(victim)
        load.wait_progress("settled", 100, 20)
        load.wait_progress("write", 100, 30)
        proxied.network.heal()
        wait_healthy(proxied.cluster)
        load.wait_progress("write", 50, 30)
