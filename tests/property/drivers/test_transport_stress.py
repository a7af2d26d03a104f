"""Everything at once, seeded: calls of all kinds and sizes, cancelled, timed out, over servers that go and come back.

Whatever happens to a call: a payload that arrives is right, buffers are left alone once their call is over, and when all is quiet
nothing is held, nothing waits, and every `sent` has been called once.
"""

import asyncio
import os
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.ports.rpc import Call, Channel, FileRange, Transport
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    echo,
    eventually,
    into,
    pattern,
    ping,
    scattered,
    summing,
    sums,
)
from fs3.wire.pb import storage_pb2

DATA = pattern(5 * MIB)
CALLS = 2000
WORKERS = 30
EXPECTED = {"OK", "cancelled", Code.DEADLINE.name, Code.DISCONNECTED.name, Code.UNAVAILABLE.name, Code.SHUTTING_DOWN.name}


class Stress:
    """One run."""

    def __init__(self, transport: Transport, endpoint: str, pool: ReceivePool, file: int, seed: int) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.pool = pool
        self.file = file
        self.prng = Prng(seed)
        self.left = CALLS
        self.outcomes: Counter[str] = Counter()
        self.due = self.sent = 0

    async def run(self) -> None:
        bindings = {PLAIN: echo, PUSH: self.push, PULL: self.pull}
        self.listener = await self.transport.serve(self.endpoint, bindings)
        self.endpoint = self.listener.endpoint
        self.channels = [self.transport.connect(self.endpoint) for _ in range(3)]
        nemesis = asyncio.ensure_future(self.nemesis(bindings))
        await asyncio.gather(*(self.worker() for _ in range(WORKERS)))
        nemesis.cancel()
        await asyncio.wait([nemesis])
        for channel in self.channels:
            await channel.close()
        await self.listener.close()
        await eventually(lambda: self.sent == self.due and not self.pool.held_bytes)
        assert self.pool.waiting_count == 0

    # --- the server ----------------------------------------------------------------------------------------------------

    def soon(self, callback: Callable[[], None]) -> None:
        if self.prng.chance(1, 2):
            callback()
        else:
            asyncio.get_running_loop().call_later(self.prng.below(5) / 1000, callback)

    def push(self, call: Call) -> None:
        self.soon(lambda: summing(call))

    def pull(self, call: Call) -> None:
        offset, length = call.request.offsets[0], call.request.lengths[0]
        middle = offset + length // 3
        parts: Any = {
            0: (FileRange(self.file, offset, length),),
            1: (memoryview(DATA)[offset : offset + length],),
            2: (DATA[offset:middle], FileRange(self.file, middle, offset + length - middle)),
        }[self.prng.below(3)]
        self.due += 1
        self.soon(lambda: call.reply(storage_pb2.ReadReply(), parts, self.on_sent))

    def on_sent(self) -> None:
        self.sent += 1

    async def nemesis(self, bindings: Any) -> None:
        """Restarts the server, or gives a client a new channel."""
        while True:
            await asyncio.sleep(self.prng.below(60) / 1000)
            if self.prng.chance(1, 2):
                await self.listener.close(self.prng.below(2) * 5 * MILLISECOND)
                self.listener = await self.transport.serve(self.endpoint, bindings)
            else:
                index = self.prng.below(len(self.channels))
                old, self.channels[index] = self.channels[index], self.transport.connect(self.endpoint)
                await old.close()

    # --- the clients ---------------------------------------------------------------------------------------------------

    async def worker(self) -> None:
        while self.left:
            self.left -= 1
            channel = self.prng.pick(self.channels)
            length = min(self.prng.below(1 << self.prng.between(1, 22)), 4 * MIB)
            offset = self.prng.below(len(DATA) - length)
            timeout_ns = self.prng.pick((0, 0, 0, self.prng.between(1, 30) * MILLISECOND))
            try:
                match self.prng.below(3):
                    case 0:
                        assert (await channel.call(PLAIN, ping(length), timeout_ns=timeout_ns)).message.seq == length
                    case 1:
                        await self.push_some(channel, DATA[offset : offset + length], timeout_ns)
                    case _:
                        await self.pull_some(channel, offset, length, timeout_ns)
                self.outcomes["OK"] += 1
            except asyncio.CancelledError:
                self.outcomes["cancelled"] += 1
            except FS3Error as problem:
                self.outcomes[problem.code.name] += 1
                await asyncio.sleep(0)

    async def give_up_sometimes(self, future: asyncio.Future[Any]) -> None:
        if self.prng.chance(1, 5):
            for _ in range(self.prng.below(8)):
                await asyncio.sleep(0)
            future.cancel()

    async def push_some(self, channel: Channel, data: bytes, timeout_ns: int) -> None:
        mine = bytearray(data)
        parts = (memoryview(mine)[: len(mine) // 3], memoryview(mine)[len(mine) // 3 :])
        future = channel.start(PUSH, storage_pb2.UpdateRequest(), parts, timeout_ns=timeout_ns)
        await self.give_up_sometimes(future)
        try:
            reply = await future
        finally:
            mine[:] = bytes(len(mine))  # it is ours again: what is still on the way must not change
        assert sums(reply.message) == (len(data), zlib.crc32(data))

    async def pull_some(self, channel: Channel, offset: int, length: int, timeout_ns: int) -> None:
        buffers = scattered(length, self.prng.below(5))
        request = storage_pb2.ReadRequest(offsets=[offset], lengths=[length])
        future = channel.start(PULL, request, into=into(*buffers), timeout_ns=timeout_ns)
        await self.give_up_sometimes(future)
        try:
            await future
        except BaseException:
            there = b"".join(buffers)
            for _ in range(5):
                await asyncio.sleep(0)
            assert b"".join(buffers) == there
            raise
        assert b"".join(buffers) == DATA[offset : offset + length]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scheme", ["tcp", "local", "memory"])
async def test_everything_at_once(tmp_path: Path, scheme: str, seed: int) -> None:
    pool = ReceivePool(16 * MIB, 8 * MIB)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    transport: Transport
    match scheme:
        case "tcp":
            transport, endpoint = TcpTransport(OsClock(), pool=pool), "tcp://127.0.0.1:0"
        case "local":
            transport, endpoint = LocalTransport(OsClock(), pool=pool), f"local://{tmp_path}/s"
        case _:
            transport, endpoint = MemoryTransport(MemoryNetwork(OsClock()), pool=pool), "memory://server"
    file = os.open(path, os.O_RDONLY)
    try:
        stress = Stress(transport, endpoint, pool, file, seed)
        await stress.run()
    finally:
        os.close(file)
    assert set(stress.outcomes) <= EXPECTED
    assert stress.outcomes["OK"] > CALLS // 20
    assert stress.outcomes["cancelled"] > 0
    assert sum(stress.outcomes.values()) == CALLS
    assert pool.idle_bytes <= 8 * MIB
