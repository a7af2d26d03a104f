"""The engine is not there: when a service starts, and while a cluster is in use."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.drill.etcd_cluster import EtcdCluster, find_etcd
from fs3.model.namespace import PathRef
from fs3.model.requests import Mkdir, Stat
from tests.processes.namespace_journal import off_loop
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

FS3 = [sys.executable, "-m", "fs3.cli.main"]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[EtcdCluster]:
    """A member that does not run yet."""
    if find_etcd() is None:
        pytest.skip("no etcd on PATH")
    etcd = EtcdCluster(tmp_path / "etcd", 1)
    yield etcd
    etcd.stop()


@contextmanager
def manager(etcd: EtcdCluster, home: Path) -> Iterator[subprocess.Popen[str]]:
    kv = f"etcd://{etcd.endpoints[0]}/away"
    home.mkdir()
    (home / "mgmtd.toml").write_text(f'kv = "{kv}"\nstorage_nodes = 1\nreplicas = 1\n')
    command = [*FS3, "serve", "mgmtd", "--name", "mgmtd", "--data-dir", str(home), "--config", str(home / "mgmtd.toml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_said(process: subprocess.Popen[str], *texts: str) -> None:
    """Return once a line of the log has all of these texts."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if all(text in line for text in texts):
            return
    raise AssertionError("".join(said))


def test_a_service_says_where_it_does_not_reach_the_engine_and_ends_when_asked(stopped: EtcdCluster, tmp_path: Path) -> None:
    with manager(stopped, tmp_path / "mgmtd") as process:
        wait_said(process, stopped.endpoints[0], "trying again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_service_begins_to_serve_once_the_engine_is_there(stopped: EtcdCluster, tmp_path: Path) -> None:
    with manager(stopped, tmp_path / "mgmtd") as process:
        wait_said(process, stopped.endpoints[0], "trying again")
        stopped.start()
        wait_said(process, "mgmtd serves on")


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard, etcd: EtcdCluster) -> Iterator[LocalCluster]:
    kv = f"etcd://{','.join(etcd.endpoints)}/engine-away"
    with (
        space_guard.lend("engine-away") as home,
        LocalCluster(home / "cluster", storage=2, replicas=2, targets=1, kv=kv) as cluster,
    ):
        yield cluster


async def refusal(client: Client, request: Mkdir | Stat, seconds: int) -> FS3Error:
    with pytest.raises(FS3Error) as caught:
        await client.meta.ask(request, deadline=client.meta.clock.now() + seconds * SECOND)
    return caught.value


async def test_without_the_engine_open_files_are_written_and_read_and_metadata_say_why_they_are_not(
    cluster: LocalCluster, etcd: EtcdCluster
) -> None:
    async with await connect(cluster.url) as client:
        file = await client.open("/open", "w")
        await client.pwrite(file, b"before", 0)
        for member in range(3):
            etcd.pause(member)
        try:
            # For as long as the leases of the storage nodes run, at least.
            await client.pwrite(file, b"during", 6)
            assert bytes(await client.pread(file, 100, 0)) == b"beforeduring"
            change, read = await asyncio.gather(
                refusal(client, Mkdir(PathRef.of("/meanwhile")), 14), refusal(client, Stat(PathRef.of("/open")), 14)
            )
        finally:
            for member in range(3):
                etcd.resume(member)
        assert change.code is Code.DEADLINE
        for why in (change, read):
            assert "etcd at" in str(why), str(why)
        await off_loop(etcd.wait_serving)
        await client.pwrite(file, b"after", 12)
        assert bytes(await client.pread(file, 100, 0)) == b"beforeduringafter"
        assert (await client.close(file)).length == 17
        await client.mkdir("/afterwards")
        names = {entry.name async for entry in client.meta.entries("/")}
        assert names >= {"open", "afterwards"}
