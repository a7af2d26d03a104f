"""Processes that hold locks are killed and stopped: the next one gets the lock, and one that comes back is told."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SETTINGS = "session_silence_ms = 4000\nsessions_interval_ms = 200\ncontacts_interval_ms = 200\n"
"""Clients that are silent are presumed dead sooner than they say that they live: here only those live that ask for something."""
PROGRAM = """
import asyncio, sys
import fs3

async def main(address, what):
    async with await fs3.connect(f"fs3://{address}/") as client:
        file = await client.open("/shared", "r+")
        if what == "hold":
            await client.lock(file)
            print("held", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            try:
                await client.unlock(file)
                print("unlocked", flush=True)
            except OSError as failure:
                print(failure.code.name, flush=True)
            return
        while True:
            async with client.hold_lock(file):
                value = int.from_bytes(await client.pread(file, 8, 0), "big")
                await client.pwrite(file, (value + 1).to_bytes(8, "big"), 0)
            print(value, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two metadata processes."""
    with space_guard.lend("locks") as home:
        directory = home / "cluster"
        directory.mkdir()
        (directory / "meta.toml").write_text(SETTINGS)
        with LocalCluster(directory, storage=1, replicas=1, targets=1, metas=2) as cluster:
            yield cluster


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with await connect(cluster.address) as client:
        file = await client.open("/shared", "w")
        await client.pwrite(file, bytes(8), 0)
        await client.close(file)
        yield client


@asynccontextmanager
async def program(cluster: LocalCluster, what: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process with a client of its own; killed in the end if it runs still."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cluster.address, what, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def test_the_lock_of_a_process_that_is_killed_goes_to_who_waits(cluster: LocalCluster, client: Client) -> None:
    file = await client.open("/shared", "r+")
    async with program(cluster, "hold") as holder:
        assert await line(holder) == "held"
        waiting = asyncio.ensure_future(client.lock(file, timeout_ns=60 * SECOND))
        while not await client.get_lock(file):  # noqa: ASYNC110 - nothing tells that it is held, and it is
            await asyncio.sleep(0.01)
        assert not waiting.done()
        holder.kill()
        await waiting
    assert await client.get_lock(file) is None
    await client.close(file)


async def test_a_process_that_was_stopped_is_told_that_its_lock_is_lost(cluster: LocalCluster, client: Client) -> None:
    file = await client.open("/shared", "r+")
    async with program(cluster, "hold") as holder:
        assert await line(holder) == "held"
        holder.send_signal(signal.SIGSTOP)
        await client.lock(file, timeout_ns=60 * SECOND)
        holder.send_signal(signal.SIGCONT)
        assert holder.stdin is not None
        holder.stdin.write(b"\n")
        assert await line(holder) == "LOCKS_LOST"
    await client.check_locks(file)
    await client.close(file)


async def test_clients_on_both_wires_lock_each_other_out(cluster: LocalCluster, client: Client) -> None:
    file = await client.open("/shared", "r+")
    async with await connect(cluster.address, transport="grpc") as public:
        other = await public.open("/shared", "r+")
        async with public.hold_lock(other, start=0, length=10):
            found = await client.get_lock(file, start=5)
            assert found is not None
            assert (found.start, found.end, found.exclusive) == (0, 10, True)
            waiting = asyncio.ensure_future(client.lock(file, start=5, timeout_ns=60 * SECOND))
        await waiting
        assert not await public.try_lock(other, start=9, length=1)
    await client.close(file)


async def test_counting_processes_and_a_metadata_process_are_killed(cluster: LocalCluster, client: Client) -> None:
    """Each value is counted on from once, whatever is killed in between."""
    told: list[int] = []

    async def count(process: asyncio.subprocess.Process) -> None:
        while said := await line(process):
            told.append(int(said))

    async with program(cluster, "count") as one, program(cluster, "count") as two, program(cluster, "count") as three:
        readers = [asyncio.ensure_future(count(process)) for process in (one, two, three)]

        async def until(more: int) -> None:
            wanted = len(told) + more
            while len(told) < wanted:  # noqa: ASYNC110 - the lines of three processes
                await asyncio.sleep(0.01)

        await until(30)
        one.kill()
        await until(30)
        cluster.kill("meta")
        await until(30)
        cluster.start("meta")
        two.kill()
        await until(30)
        three.kill()
        await asyncio.gather(*readers)
    assert len(told) == len(set(told))
    file = await client.open("/shared", "r+")
    await client.lock(file, timeout_ns=60 * SECOND)
    value = int.from_bytes(await client.pread(file, 8, 0), "big")
    assert len(told) <= value <= len(told) + 3, "each process that was killed may have counted once more"
    await client.close(file)
