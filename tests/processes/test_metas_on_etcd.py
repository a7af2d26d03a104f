"""Metadata and the manager's state on three real etcd members: metadata processes and members die in turn under load. What was
told is so: every client keeps a journal, and the rows are looked at afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fs3.api.connect import connect
from fs3.cli.local import LocalCluster
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.drill.etcd_cluster import EtcdCluster
from fs3.sim.conformance.kv_shared import open_etcd
from tests.processes.namespace_journal import off_loop, under_load
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

NAME = "metas-on-etcd"


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
    command = [sys.executable, "-m", "fs3.cli.main", "status", "--data-dir", str(pair.directory.path), "--json"]
    document = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert f"/{NAME}" in document["store"]
    assert not (pair.directory.path / "meta" / "kv").exists()
    assert not (pair.directory.path / "mgmtd" / "kv").exists()


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
        assert {entry.name async for entry in client.meta.entries("/")} >= {b"before", b"meanwhile"}
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
