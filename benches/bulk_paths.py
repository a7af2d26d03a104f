"""What an RDMA path costs and what its death costs, over a network without a device: rows of `python -m benches.transport`.

Both ends are in one process, on the network of `fs3/sim/fabric.py`, so no figure says how fast a device is. They are of what fs3
does itself: agreeing on a path over the connection, looking at it with each request, noticing that it is dead, sending again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benches.record import Row, Spread
from fs3.base.units import KIB, MIB
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.drivers.rdma.settings import PathSettings, RdmaHost
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.ports.rpc import Call, Channel
from fs3.sim.fabric import FakeFabric, FakePort, FakeVerbs, write_sysfs
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2

SHORT_BYTES = 4 * KIB
LONG_BYTES = 4 * MIB
UNDER_WAY = 8
"""Updates, and as many reads, when the path dies."""
_LONG = os.urandom(LONG_BYTES)
_SHORT = _LONG[:SHORT_BYTES]


class _Lab:
    """A server on one host of the network, and clients on others."""

    def __init__(self, directory: Path) -> None:
        self.fabric = FakeFabric()
        self.served: list[int] = []
        """Numbers of the updates and reads that a handler has had."""
        self._directory = directory
        self._hosts = 0

    def paths(self) -> RdmaPaths:
        """Of one more host."""
        self._hosts += 1
        number = self._hosts
        gid = f"0000:0000:0000:0000:0000:ffff:0a00:{number:04x}"
        port = self.fabric.add(FakePort(f"fake{number}", gid, netdev=f"eth{number}"))
        sysfs = write_sysfs(self._directory / str(number), [port])
        return RdmaPaths(RdmaHost(OsClock(), PathSettings(), lambda: FakeVerbs(self.fabric), sysfs=sysfs))

    def read(self, call: Call) -> None:
        """As many bytes as were asked for."""
        self.served.append(call.request.offsets[0])
        length = call.request.lengths[0]
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[length]), [_LONG if length == LONG_BYTES else _SHORT])

    def update(self, call: Call) -> None:
        """Say how many bytes were right."""
        self.served.append(call.request.from_target)
        length = LONG_BYTES if call.payload == _LONG else 0
        call.release()
        call.reply(storage_pb2.UpdateReply(codes=[0], lengths=[length]))


class _Client:
    """A connection, and whether it has a path."""

    def __init__(self, endpoint: str, paths: RdmaPaths | None) -> None:
        self._counts = RpcCounts(OsClock())
        self.channel: Channel = TcpTransport(OsClock(), counts=self._counts, paths=paths).connect(endpoint)
        self.endpoint = endpoint

    def has_path(self) -> bool:
        return any(found.transport == "rdma" for found in self._counts.open.report().connections)

    async def wait_for_path(self) -> None:
        """Until payloads travel by it. SystemExit says why they do not within a minute."""
        deadline = time.monotonic() + 60
        while not self.has_path():
            if time.monotonic() > deadline:
                raise SystemExit(f"no path over a network without a device: {self._counts.open.report().connections}")
            await read(self.channel, SHORT_BYTES)


@asynccontextmanager
async def _lab() -> AsyncIterator[tuple[_Lab, str]]:
    with tempfile.TemporaryDirectory(prefix="fs3-bench-") as directory:
        lab = _Lab(Path(directory))
        bindings = {STORAGE.Read: lab.read, STORAGE.Update: lab.update}
        listener = await TcpTransport(OsClock(), paths=lab.paths()).serve("tcp://127.0.0.1:0", bindings)
        try:
            yield lab, listener.endpoint
        finally:
            await listener.close()


async def read(channel: Channel, length: int, number: int = 0) -> bool:
    """A read into a buffer of the caller's; whether the bytes are right."""
    buffer = bytearray(length)
    request = storage_pb2.ReadRequest(offsets=[number], lengths=[length])
    await channel.call(STORAGE.Read, request, into=lambda _message, _length: (memoryview(buffer),))
    return buffer == (_LONG if length == LONG_BYTES else _SHORT)


async def update(channel: Channel, number: int) -> bool:
    """An update; whether the bytes were right."""
    reply = await channel.call(STORAGE.Update, storage_pb2.UpdateRequest(from_target=number), (memoryview(_LONG),))
    message: Any = reply.message
    return list(message.lengths) == [LONG_BYTES]


async def measure(runs: int, scale: float) -> list[Row]:
    """The rows."""
    return [
        *await _measure_first_requests(max(runs, int(40 * scale))),
        await _measure_short_reads(runs, max(64, int(4_000 * scale))),
        *await _measure_deaths(runs),
    ]


async def _measure_first_requests(times: int) -> list[Row]:
    """What the first request of a connection takes, the connection included, and when its path is proved."""
    first, alone, proved = [], [], []
    async with _lab() as (lab, endpoint):
        for _ in range(times):
            for figures, paths in ((alone, None), (first, lab.paths())):
                began = time.perf_counter()
                client = _Client(endpoint, paths)
                await read(client.channel, SHORT_BYTES)
                figures.append((time.perf_counter() - began) * 1e3)
                if paths is not None:
                    await client.wait_for_path()
                    proved.append((time.perf_counter() - began) * 1e3)
                await client.channel.close()
    allowed = Spread.of([figure + 5 for figure in alone])
    return [
        Row(
            "transport", "path without a device: first request of a connection, path asked for", "ms", Spread.of(first),
            "ms: by TCP alone, and 5", allowed, must_ratio=1.0, lower_is_better=True,
            note=f"by TCP alone {Spread.of(alone).median:.3g} ms",
        ),
        Row("transport", "path without a device: from connecting until it is proved", "ms", Spread.of(proved)),
    ]  # fmt: skip


async def _measure_short_reads(runs: int, count: int) -> Row:
    """Reads that stay on the connection, on one with a path and on one without, in turns."""
    with_path, alone = [], []
    async with _lab() as (lab, endpoint):
        clients = [_Client(endpoint, lab.paths()), _Client(endpoint, None)]
        await clients[0].wait_for_path()
        for _ in range(runs):
            for figures, client in zip((with_path, alone), clients, strict=True):
                began = time.perf_counter()
                for _ in range(count):
                    await read(client.channel, SHORT_BYTES)
                figures.append(count / (time.perf_counter() - began))
        for client in clients:
            await client.channel.close()
    figure = "path without a device: reads of 4 KiB, one at a time, beside a path that is up"
    return Row("transport", figure, "/s", Spread.of(with_path), "/s by TCP alone", Spread.of(alone), must_ratio=0.95)


def _stops_answering(lab: _Lab) -> None:
    lab.fabric.is_unresponsive = True


def _is_cut(lab: _Lab) -> None:
    for port in lab.fabric.ports:
        port.is_connected = False


async def _measure_deaths(runs: int) -> list[Row]:
    """Updates and reads are under way when the path dies: when the last of them is answered, and what was lost or repeated."""
    logging.getLogger("fs3.transport").setLevel(logging.ERROR)  # each of the paths that die here would say so
    rows, wrong = [], []
    for name, harm in (("does not answer any more", _stops_answering), ("loses its network", _is_cut)):
        longest = []
        for _ in range(runs):
            seconds, mistakes = await _die(harm)
            longest.append(seconds)
            wrong.append(float(mistakes))
        figure = f"path without a device: everything under way answered after it {name}"
        rows.append(Row("transport", figure, "s", Spread.of(longest), must_value=1.0, lower_is_better=True))
    figure = f"path without a device: lost or repeated of {2 * UNDER_WAY} requests when it dies"
    rows.append(Row("transport", figure, "requests", Spread.of(wrong), must_value=0.0, lower_is_better=True))
    return rows


async def _die(harm: Callable[[_Lab], None]) -> tuple[float, int]:
    """(Seconds from the harm until the last answer, requests without the right bytes or that a handler had more than once.)"""
    async with _lab() as (lab, endpoint), AsyncExitStack() as stack:
        client = _Client(endpoint, lab.paths())
        stack.push_async_callback(client.channel.close)
        await client.wait_for_path()
        lab.served.clear()
        lab.fabric.reads_held = 2
        calls: list[Awaitable[bool]] = [update(client.channel, number) for number in range(UNDER_WAY)]
        calls += [read(client.channel, LONG_BYTES, UNDER_WAY + number) for number in range(UNDER_WAY)]
        under_way = [asyncio.ensure_future(call) for call in calls]
        while len(lab.fabric.held) < 2 and client.has_path():  # noqa: ASYNC110
            await asyncio.sleep(0)
        harm(lab)
        began = time.perf_counter()
        lab.fabric.release_held()
        outcomes = await asyncio.gather(*under_way, return_exceptions=True)
        seconds = time.perf_counter() - began
        assert not client.has_path(), "the path goes on"
        lost = sum(outcome is not True for outcome in outcomes)
        repeated = len(lab.served) - len(set(lab.served))
        return seconds, lost + repeated
