"""A process stands still for longer than its lease and wakes up believing that nothing has happened."""

from __future__ import annotations

import asyncio
import signal

import pytest

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.client.routing import StaticRouting
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.drill.journal import register_chunk
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status
from fs3.drill.verify import pin_replica
from fs3.model.chunk import UpdateKind
from fs3.model.routing import Routing

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

PATIENCE_NS = 9 * SECOND
"""Long enough for a request to wait in the sockets of a process that stands still until it wakes."""


@pytest.mark.parametrize("role", ["head", "middle", "tail"])
def test_a_paused_process_wakes_after_its_lease(drilled: LocalCluster, under_load, role: str) -> None:
    """The chain has moved on without it. Requests that waited in its sockets, and those of a client that still believes in it,
    are refused, all of them; then it catches up."""
    victim = process_in_role(status_of(drilled), role)
    place = ["head", "middle", "tail"].index(role)
    with under_load(drilled) as load:
        asyncio.run(_wake_and_ask(drilled, load, victim, place))
        wait_healthy(drilled)
        load.wait_progress("write", 100, 30)


async def _wake_and_ask(cluster: LocalCluster, load, victim: str, place: int) -> None:
    registers = sorted(number for number, register in load.refresh().registers.items() if register.acknowledged_seq)
    async with await connect(cluster.url) as client:
        old = pin_replica(client.manager.routing, place)
        believer = client.storage.with_routing(StaticRouting(old))
        assert await _codes(believer, old, registers) == {Code.OK}
        await asyncio.to_thread(cluster.kill, victim, number=signal.SIGSTOP)
        try:
            waiting = asyncio.ensure_future(_codes(believer, old, registers, PATIENCE_NS))
            writing = asyncio.ensure_future(_write(believer, old))
            await asyncio.to_thread(wait_status, cluster, is_excluded(victim), 20, f"{victim} to be left out")
            await asyncio.to_thread(load.wait_progress, "write", 100, 30)
        finally:
            await asyncio.to_thread(cluster.kill, victim, number=signal.SIGCONT)
        assert Code.OK not in await waiting
        assert Code.OK not in await writing
        # And whoever asks from now on in the name of the old chain.
        for _ in range(20):
            assert Code.OK not in await _codes(believer, old, registers, SECOND // 5)


async def _codes(client: StorageClient, routing: Routing, registers: list[int], timeout_ns: int = 10 * SECOND) -> set[Code]:
    """How reads of registers end, all in one call."""
    chains = sorted(routing.chains)
    ios = [
        ReadIO(register_chunk(number), chains[number % len(chains)], 0, memoryview(bytearray(1 << 20))) for number in registers
    ]
    return {outcome.code for outcome in await client.read(ios, timeout_ns=timeout_ns)}


async def _write(client: StorageClient, routing: Routing) -> set[Code]:
    """How an update in the name of an old chain ends: nobody but the head would take it, and the head is fenced."""
    chain = sorted(routing.chains)[0]
    write = WriteIO(register_chunk(900_000), chain, UpdateKind.WRITE, 0, memoryview(b"too late"))
    return {result.code for result in await client.update([write], timeout_ns=PATIENCE_NS)}


UNKNOWN = {Status.TIMEOUT, Status.ERROR}


def test_pages_while_nobody_answers(drilled: LocalCluster) -> None:
    """Every storage process stands still: calls of a KVCache end by their timeout as misses, and raise nothing."""
    storage = [name for name in drilled.shape.names() if name.startswith("storage-")]

    async def run() -> None:
        async with await KVCache.open(drilled.url, namespace="silent", page_bytes=50_000, timeout=1.0) as cache:
            page = bytes(50_000)
            assert await cache.put_from(["a"], [page]) == [Status.OK]
            buffers = [bytearray(50_000) for _ in range(2)]
            await asyncio.to_thread(drilled.pause, *storage)
            try:
                assert await cache.get_into(["a", "b"], buffers) == [Status.TIMEOUT] * 2
                assert set((await cache.lookup(["a", "b"])).statuses) <= UNKNOWN
                assert set(await cache.put_from(["c"], [page])) <= UNKNOWN
            finally:
                await asyncio.to_thread(drilled.resume, *storage)
            await asyncio.to_thread(wait_healthy, drilled)
            found = Status.TIMEOUT
            while found in UNKNOWN:
                found, missing = await cache.get_into(["a", "b"], buffers)
            assert (found, missing) == (Status.OK, Status.MISS)

    asyncio.run(run())
