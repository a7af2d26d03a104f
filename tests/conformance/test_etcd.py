"""The KV driver on etcd passes the suites of all KV drivers on three real members, and goes on passing while they are harmed."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from fs3.drill.etcd_cluster import EtcdCluster
from fs3.drivers.os.clock import OsClock
from fs3.ports.kv import KV
from fs3.sim.conformance.kv import KVTests
from fs3.sim.conformance.kv_shared import SharedKVTests, open_etcd, process_peer
from fs3.wire.etcd import TXN, encode_txn

pytestmark = pytest.mark.processes


def prefix_of(directory: Path) -> str:
    """Where a test's store is."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:16] + "/"


@contextmanager
def harmed(cluster: EtcdCluster, seconds: float = 1.5) -> Iterator[None]:
    """All the time, one member after the other is killed or stands still for a while; the leader as often as the others."""
    over = threading.Event()

    def harm() -> None:
        number = 0
        while not over.is_set():
            leader = cluster.find_leader()
            if number % 2 == 0:
                cluster.kill(leader)
                over.wait(seconds)
                cluster.start(leader)
            else:
                at = leader if number % 4 == 1 else (leader + 1) % 3
                cluster.pause(at)
                over.wait(seconds)
                cluster.resume(at)
            cluster.wait_serving()
            over.wait(seconds)
            number += 1

    thread = threading.Thread(target=harm)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        cluster.start()


class TestEtcd(KVTests):
    endpoints: tuple[str, ...]

    @pytest.fixture(autouse=True)
    def _members(self, etcd: EtcdCluster) -> None:
        self.endpoints = etcd.endpoints

    async def open(self, directory: Path) -> KV:
        return await open_etcd(self.endpoints, prefix_of(directory))

    async def damage(self, kv: KV, directory: Path, rows: dict[bytes, bytes]) -> KV:
        from fs3.drivers.etcd.client import EtcdClient
        from fs3.drivers.etcd.key_space import KeySpace

        await kv.close()
        clock = OsClock()
        client = EtcdClient(self.endpoints, clock)
        keys = KeySpace(prefix_of(directory).encode())
        puts = {keys.row(key): sealed for key, sealed in rows.items()}
        await client.ask(TXN, encode_txn([], puts, ()), clock.now() + 10**10)
        await client.close()
        return await self.open(directory)


class TestEtcdShared(SharedKVTests):
    """Two processes."""

    endpoints: tuple[str, ...]

    @pytest.fixture(autouse=True)
    def _members(self, etcd: EtcdCluster) -> None:
        self.endpoints = etcd.endpoints

    @asynccontextmanager
    async def opened(self, directory: Path):
        opening = f"open_etcd({self.endpoints!r}, {prefix_of(directory)!r})"
        async with process_peer(opening, directory) as peer:
            kv = await open_etcd(self.endpoints, prefix_of(directory))
            try:
                yield kv, peer
            finally:
                await kv.close()


@pytest.fixture(scope="class")
def harm(etcd: EtcdCluster) -> Iterator[None]:
    """While the tests of a class run."""
    with harmed(etcd):
        yield


@pytest.mark.usefixtures("harm")
class TestEtcdHarmed(TestEtcd):
    """The same while members are killed, stand still and come back."""


@pytest.mark.usefixtures("harm")
class TestEtcdSharedHarmed(TestEtcdShared):
    """The same while members are killed, stand still and come back."""


async def test_what_was_acknowledged_is_there_after_all_members_were_killed(etcd: EtcdCluster, tmp_path: Path) -> None:
    from fs3.sim.conformance.kv import append_count, get

    kv = await open_etcd(etcd.endpoints, prefix_of(tmp_path))
    try:
        for _ in range(20):
            await kv.transact(append_count(b"n"))
        for at in range(3):
            etcd.kill(at)
        waiting = asyncio.ensure_future(kv.read(get(b"n")))
        await asyncio.to_thread(etcd.start)
        assert await waiting == b"20"
        assert await kv.transact(append_count(b"n")) == 20
    finally:
        await kv.close()
