"""Metadata and the manager's state on three real etcd members: metadata processes and members die in turn under load. What was
told is so: every client keeps a journal, and the rows are looked at afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fs3.api.connect import connect
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.drill.etcd_cluster import EtcdCluster
from fs3.sim.conformance.kv_shared import open_etcd
from tests.processes.namespace_journal import off_loop, under_load
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

NAME = "metas-on-etcd"
FS3 = [sys.executable, "-m", "fs3.cli.main"]


@pytest.fixture(scope="module")
def pair(space_guard: SpaceGuard, etcd: EtcdCluster) -> Iterator[LocalCluster]:
    """Two metadata processes."""
    kv = f"etcd://{','.join(etcd.endpoints)}/{NAME}"
    with (
        space_guard.lend("metas") as home,
        LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, metas=2, kv=kv) as cluster,
    ):
        yield cluster


def test_status_shows_where_the_rows_are(pair: LocalCluster) -> None:
    command = [*FS3, "status", "--data-dir", str(pair.directory.path), "--json"]
    document = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert f"/{NAME}" in document["store"]
    assert not (pair.directory.path / "meta" / "kv").exists()
    assert not (pair.directory.path / "mgmtd" / "kv").exists()


def test_every_command_of_the_document(tmp_path: Path, etcd: EtcdCluster) -> None:
    document = (Path(__file__).parents[2] / "docs" / "metadata-engines.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) for line in block.splitlines()]
    assert {line.split()[1] for line in lines} == {"up", "status", "down", "admin"}
    script = "\n".join(lines).replace("/tmp/fs3-", f"{tmp_path}/").replace("127.0.0.1:2379/fs3", f"{etcd.endpoints[0]}/document")
    script = script.replace("--detach", f"--detach --port {free_ports(20)}")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert f"etcd://{etcd.endpoints[0]}/document" in done.stdout
        assert "1 of 1 members answer (2 more are not named" in done.stdout
        assert done.stdout.count("nothing is wrong with the namespace") == 2
    finally:
        for name in ("data", "moved"):
            stop = [*FS3, "down", "--data-dir", str(tmp_path / name)]
            subprocess.run(stop, capture_output=True, timeout=120, check=False)


async def test_a_meta_and_the_leader_of_etcd_are_killed(pair: LocalCluster, etcd: EtcdCluster) -> None:
    async def trouble(progress: Callable[[int], Awaitable[None]]) -> None:
        await progress(20)
        await off_loop(pair.kill, "meta")
        await progress(20)
        leader = etcd.find_leader()
        await off_loop(etcd.kill, leader)
        await progress(20)
        await off_loop(pair.start, "meta")
        await off_loop(etcd.start, leader)
        await progress(20)

    await under_load(pair, trouble)


async def test_a_member_of_etcd_and_a_meta_stand_still(pair: LocalCluster, etcd: EtcdCluster) -> None:
    async def trouble(progress: Callable[[int], Awaitable[None]]) -> None:
        await progress(20)
        leader = etcd.find_leader()
        for member in (leader, (leader + 1) % 3):
            etcd.pause(member)
            await progress(10)
            etcd.resume(member)
            await off_loop(etcd.wait_serving)
        pair.pause("meta-2")
        await progress(10)
        pair.resume("meta-2")
        await progress(20)

    await under_load(pair, trouble)


async def test_what_they_leave_is_whole(pair: LocalCluster, etcd: EtcdCluster) -> None:
    kv = await open_etcd(etcd.endpoints, f"{NAME}/meta/")
    try:
        assert await kv.read(check_namespace) == []
    finally:
        await kv.close()


async def test_without_a_quorum_metadata_wait_and_go_on_when_there_is_one(pair: LocalCluster, etcd: EtcdCluster) -> None:
    async with await connect(pair.url) as client:
        await client.mkdir("/before")
        for member in (0, 1):
            etcd.pause(member)
        waiting = asyncio.ensure_future(client.mkdir("/meanwhile"))
        await off_loop(wait_unable_to_lead, pair)
        assert not waiting.done()
        for member in (0, 1):
            etcd.resume(member)
        await waiting
        assert {entry.name async for entry in client.meta.entries("/")} >= {"before", "meanwhile"}
        await client.rmtree("/before")
        await client.rmtree("/meanwhile")


def wait_unable_to_lead(cluster: LocalCluster) -> None:
    """Return once the manager has noticed that it cannot renew its lease."""
    log = cluster.directory.log_path("mgmtd")
    said = "its lease could not be renewed"
    before = log.read_text().count(said)
    deadline = time.monotonic() + 60
    while log.read_text().count(said) == before:
        assert time.monotonic() < deadline, "the manager leads on without a store"
        time.sleep(0.05)
