"""Readers by short circuit beside writers, while the storage process whose files they read is killed or stands still: no read
returns less than what was acknowledged, or read by another one, before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.client.storage.short_circuit import ShortCircuit
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.drill.journal import register_chunk
from fs3.drill.roles import is_excluded, wait_healthy, wait_status
from fs3.drivers.os.host import host_identity
from fs3.model.chunk import UpdateKind

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

REGISTERS = 4
LENGTH = 6000
READERS = 3
READS_PER_WRITE = 30
"""A register stays as it is for so many reads: of a chunk that is written all the time nothing is read by short circuit."""


@pytest.fixture(autouse=True)
def knows_its_host(needs_reads_at_once: None) -> None:
    """Where a client cannot know its host, every read is asked for."""
    if not host_identity():
        pytest.skip("this host has no identity")


def content(value: int) -> bytes:
    """What a register is when it has this value."""
    return value.to_bytes(4, "little") * (LENGTH // 4)


def short_of(client: Client) -> ShortCircuit:
    """Its reads from files."""
    short = client.storage.short_circuit
    assert short is not None
    return short


class Registers:
    """Values that only rise: one writer, and readers that are clients of their own."""

    def __init__(self, first: int, writer: Client, readers: list[Client]) -> None:
        """`first`: number of the first one; none of them was written before."""
        self._writer, self.readers = writer, readers
        chains = sorted(writer.manager.routing.chains)
        self._chains: dict[int, ChainId] = {first + index: chains[index % len(chains)] for index in range(REGISTERS)}
        self._floor = dict.fromkeys(self._chains, 0)
        """What the next read returns at least."""
        self._reads = dict.fromkeys(self._chains, 0)
        self.writes = 0
        self._stop = False

    async def write(self, register: int) -> None:
        """Write rising values until it is enough."""
        value = 0
        while not self._stop:
            value += 1
            io = WriteIO(register_chunk(register), self._chains[register], UpdateKind.WRITE, 0, memoryview(content(value)))
            (result,) = await self._writer.storage.update([io], timeout_ns=10 * SECOND)
            if result.code is Code.OK:
                self._floor[register] = max(self._floor[register], value)
                self.writes += 1
            enough = self._reads[register] + READS_PER_WRITE
            while self._reads[register] < enough and not self._stop:  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0.001)

    async def read(self, client: Client) -> None:
        """Read and check them in turn until it is enough."""
        while not self._stop:
            for register in self._chains:
                floor = self._floor[register]
                buffer = memoryview(bytearray(LENGTH))
                io = ReadIO(register_chunk(register), self._chains[register], 0, buffer)
                outcome = await client.storage.read_one(io, timeout_ns=10 * SECOND)
                self._reads[register] += 1
                if outcome.code is Code.OK:
                    value = int.from_bytes(buffer[:4], "little")
                    assert bytes(buffer) == content(value), f"register {register} is torn"
                    assert value >= floor, f"register {register} is {value}, it was {floor} before"
                    self._floor[register] = max(self._floor[register], value)
                await asyncio.sleep(0)

    async def progress(self) -> None:
        """Until every reader has read from files, and something was written, since now."""
        before, writes = [short_of(client).reads for client in self.readers], self.writes
        async with asyncio.timeout(60):
            while not self._have_gone_on(before, writes):  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0.01)

    def _have_gone_on(self, reads: list[int], writes: int) -> bool:
        each = zip(self.readers, reads, strict=True)
        return self.writes > writes + 5 and all(short_of(client).reads > count for client, count in each)

    async def process_that_is_read(self, cluster: LocalCluster) -> str:
        """The one whose files are read."""
        async with asyncio.timeout(60):
            while True:
                for client in self.readers:
                    for block in list(short_of(client)._blocks.values()):
                        parts = Path(block.target.told.mark.path).parts
                        return next(name for name in cluster.shape.names() if name in parts)
                await asyncio.sleep(0.01)

    async def run(self, cluster: LocalCluster, harm: Callable[[LocalCluster, str], None]) -> None:
        """Read and write before, while and after something happens."""
        async with asyncio.TaskGroup() as tasks:
            for register in self._chains:
                tasks.create_task(self.write(register))
            for client in self.readers:
                tasks.create_task(self.read(client))
            await self.progress()
            await asyncio.to_thread(harm, cluster, await self.process_that_is_read(cluster))
            await self.progress()
            self._stop = True


def killed_and_started(cluster: LocalCluster, victim: str) -> None:
    """Its next life begins within the lease of the one before."""
    cluster.kill(victim)
    cluster.start(only=victim)
    wait_healthy(cluster)


def killed(cluster: LocalCluster, victim: str) -> None:
    """It stays away until the chain goes on without it."""
    cluster.kill(victim)
    wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
    cluster.start(only=victim)
    wait_healthy(cluster)


def stopped(cluster: LocalCluster, victim: str) -> None:
    """It stands still for longer than its lease; its board stays as it is."""
    cluster.pause(victim)
    try:
        wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
    finally:
        cluster.resume(victim)
    wait_healthy(cluster)


HARMS = [killed_and_started, killed, stopped]


@pytest.mark.parametrize("harm", HARMS)
def test_no_read_is_older_than_what_was_known(drilled: LocalCluster, harm: Callable[[LocalCluster, str], None]) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            writer, *readers = [await stack.enter_async_context(await connect(drilled.url)) for _ in range(1 + READERS)]
            registers = Registers(700_000 + REGISTERS * HARMS.index(harm), writer, readers)
            await registers.run(drilled, harm)

    asyncio.run(run())
