"""A server and a channel to it, for the tests of transports: handlers that a test steers, payloads that can be told apart."""

from __future__ import annotations

import asyncio
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.limits import calls_per_connection_max
from fs3.base.units import KIB, MIB
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.ports.rpc import Bindings, BufferProvider, Call, Channel, Handler, Listener, Transport
from fs3.wire.methods import MGMTD, STORAGE
from fs3.wire.pb import mgmtd_pb2, storage_pb2

PLAIN = MGMTD.Heartbeat
"""A method without payload."""
PUSH = STORAGE.Update
"""A method whose request has one."""
PULL = STORAGE.Read
"""A method whose reply has one."""
WATCH = MGMTD.WatchRouting
"""A method with a stream of replies."""

SIZES = (0, 1, 4 * KIB, 16 * KIB + 1, 256 * KIB - 28, MIB + 3)
"""Payload lengths around everything that is treated differently by size."""


class TransportHarness(ABC):
    """What a transport's tests say about it, and how they set the scene."""

    waits_for_buffers = True
    """A server without room for a payload reads on later; False: it answers BUSY."""
    bounds_replies = True
    """Replies are served as there is room for them. False: they take no memory, as within one process."""
    starts_leave_together = True
    """Requests started in one turn of the loop arrive in one turn, the first one perhaps before."""

    @abstractmethod
    def make(
        self,
        *,
        calls_max: int = calls_per_connection_max,
        server_calls_max: int = calls_per_connection_max,
        pool: ReceivePool | None = None,
        replies: ReplyBudget | None = None,
    ) -> Transport:
        """A transport. `calls_max`: what its channels have under way at most; `server_calls_max`: what its servers take of one
        connection; `pool`: what its servers hold; `replies`, where it `bounds_replies`: what the replies of its servers take."""

    @abstractmethod
    def endpoint(self, directory: Path) -> str:
        """Where to listen."""

    @asynccontextmanager
    async def serving(self, directory: Path, bindings: Bindings, **bounds: Any) -> AsyncIterator[tuple[Listener, Channel]]:
        """A server and a channel to it, both closed at the end."""
        transport = self.make(**bounds)
        listener = await transport.serve(self.endpoint(directory), bindings)
        channel = transport.connect(listener.endpoint)
        try:
            yield listener, channel
        finally:
            await channel.close()
            await listener.close()


class CallCollector:
    """A handler that keeps its calls until the test ends them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled_calls: list[Call] = []
        self._changed = asyncio.Event()

    def __call__(self, call: Call) -> None:
        self.calls.append(call)
        call.add_cancel_callback(lambda: self._on_cancel(call))
        self._changed.set()

    def _on_cancel(self, call: Call) -> None:
        self.cancelled_calls.append(call)
        self._changed.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for calls or cancellations until the condition holds."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def wait_for_calls(self, count: int) -> list[Call]:
        """The calls, once there are so many."""
        await self.wait_until(lambda: len(self.calls) >= count)
        return self.calls


def echo(call: Call) -> None:
    """Answers a PLAIN call with its number."""
    call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq))


def ping(seq: int) -> Any:
    """A PLAIN request with a number."""
    return mgmtd_pb2.HeartbeatRequest(seq=seq)


def summing(call: Call) -> None:
    """Answers a PUSH call with the length and the CRC-32 of its payload."""
    payload = call.payload if call.payload is not None else b""
    call.reply(storage_pb2.UpdateReply(lengths=[len(payload)], checksums=[zlib.crc32(payload)]))


def sums(message: Any) -> tuple[int, int]:
    """What `summing` answered."""
    return message.lengths[0], message.checksums[0]


def replying(*parts: Any) -> Handler:
    """A handler of PULL that answers with these parts."""
    return lambda call: call.reply(storage_pb2.ReadReply(routing_version=5), parts)


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes of which no two places look alike."""
    word = (length * 2_654_435_761 + seed * 40_503 + 12_345).to_bytes(8, "little", signed=False)[:7]
    block = b"".join(zlib.crc32(word + index.to_bytes(8, "little")).to_bytes(4, "little") for index in range(64 * KIB // 4 + 7))
    return (block * (length // len(block) + 1))[:length]


def into(*buffers: Any) -> BufferProvider:
    """`into` that always gives these buffers."""
    return lambda _message, _length: [memoryview(buffer) for buffer in buffers]


def scattered(length: int, pieces: int) -> list[bytearray]:
    """Buffers of different sizes, some empty, that hold `length` bytes together."""
    sizes = [length * (index + 1) // (pieces + 1) - length * index // (pieces + 1) for index in range(pieces)]
    return [bytearray(size) for size in (*sizes, 0, length - sum(sizes))]


async def failure(awaitable: Awaitable[Any]) -> FS3Error:
    """The FS3Error an awaitable raises; it is an AssertionError when it raises none."""
    try:
        found = await awaitable
    except FS3Error as problem:
        return problem
    raise AssertionError(f"it succeeded with {found!r}")


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event, turn by turn of the loop."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def settled(futures: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """The outcomes of futures: results or exceptions."""
    return await asyncio.gather(*futures, return_exceptions=True)
