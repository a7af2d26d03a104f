"""What security costs: a cluster that has it beside one that is open, and a user whose requests are checked for capabilities
beside an administrator, who needs none, on the same cluster.

Both sides of a figure do the same in short rounds, one after the other and each as often first, so that what else the machine
does meets both.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from benches.callers import create_durably, operations_per_second
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache
from fs3.base.units import KIB, MIB
from fs3.cli.local import LocalCluster

if TYPE_CHECKING:
    from benches.run import Context

SHAPE = {"storage": 1, "replicas": 1, "targets": 1}
TOP = "/bench-security"
CALLERS = 64
ROUNDS = 8
"""Of each side in a measurement."""
STATS = 1200
CREATES = 320
SINGLE = 300
CALLS = 60
"""With a batch of pages, or of ranges, each."""
LARGE_READS = 120
BATCH = 64
FILE_BYTES = 16 * MIB
OVERHEAD_MUST = 0.95
CHECK_MUST = {"64 reads of 4 KiB in a call": 0.97, "reads of 1 MiB": 0.99}
"""Figure -> the part of the unchecked rate that has to be left."""

Sides = tuple[Client, Client]
Work = Callable[[Client, int], Awaitable[float]]
"""One round with a client, given its number: operations/s."""


def measure(context: Context) -> list[Row]:
    """The rows."""
    with (
        LocalCluster(context.directory / "open", **SHAPE) as plain,
        LocalCluster(context.directory / "secured", **SHAPE) as secured,
    ):
        user, admin = _secure(secured, context)
        return run(_measure(context, plain.url, secured.url, user, admin))


def _secure(cluster: LocalCluster, context: Context) -> tuple[str, str]:
    """Turn security on; the tokens of a user and of an administrator."""
    where = ("--cluster", str(cluster.directory.path))
    _operate("user", "add", "user", "--uid", "1000", "--gid", "1000", *where)
    _operate("user", "add", "root", "--uid", "0", "--gid", "0", "--admin", *where)
    tokens = _operate("user", "token", "user", *where), _operate("user", "token", "root", *where)
    _operate("security", "on", "--token-file", str(context.directory / "admin.token"), str(cluster.directory.path))
    return tokens


def _operate(*arguments: str) -> str:
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def _measure(context: Context, plain_url: str, secured_url: str, user: str, admin: str) -> list[Row]:
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(await connect(plain_url))
        proved = await stack.enter_async_context(await connect(secured_url, token=user))
        trusted = await stack.enter_async_context(await connect(secured_url, token=admin))
        for client in (plain, trusted):
            await client.mkdir(TOP)
            await client.chmod(TOP, 0o777)
        bench = _Bench(context)
        for client in (plain, proved):
            await bench.prepare(client)
        await bench.adopt(trusted, proved)
        rows = []
        for figure, unit, work in bench.costs():
            rows.append(await bench.compare(figure, unit, (proved, plain), "/s open", OVERHEAD_MUST, work))
        for figure, work in bench.checks():
            rows.append(await bench.compare(figure, "/s", (proved, trusted), "/s unchecked", CHECK_MUST[figure], work))
        return rows


class _Bench:
    """What both sides do."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pages: dict[Client, KVCache] = {}
        self._buffer = bytearray(BATCH * 4 * KIB)
        self._large = bytearray(MIB)
        self._serial = 0

    async def prepare(self, client: Client) -> None:
        """Files and pages of one side."""
        for index in range(CALLERS):
            await create_durably(client, f"{TOP}/file-{index}")
        file = await client.open(f"{TOP}/data", "w", permissions=0o644)
        for offset in range(0, FILE_BYTES, MIB):
            await client.pwrite(file, b"d" * MIB, offset)
        await client.close(file)
        self._pages[client] = await KVCache.of(client, namespace="bench@security", page_bytes=4 * KIB)
        await self._pages[client].put_from(_keys(0), [bytes(4 * KIB)] * BATCH)

    async def adopt(self, client: Client, like: Client) -> None:
        """Another client of a side that is prepared."""
        self._pages[client] = await KVCache.of(client, namespace=self._pages[like].name, page_bytes=4 * KIB)

    def costs(self) -> list[tuple[str, str, Work]]:
        """What is done with security and without."""
        return [
            (f"stat, {CALLERS} callers", "/s", self._stat_many),
            ("stat, one caller", "/s", self._stat_one),
            (f"durable create, {CALLERS} callers", "/s", self._create_many),
            ("get of 64 pages of 4 KiB", "calls/s", self._get),
            ("put of 64 pages of 4 KiB", "calls/s", self._put),
        ]

    def checks(self) -> list[tuple[str, Work]]:
        """What is done with a check and without."""
        return [("64 reads of 4 KiB in a call", self._read_small), ("reads of 1 MiB", self._read_large)]

    async def compare(self, figure: str, unit: str, sides: Sequence[Client], limit_name: str, must: float, work: Work) -> Row:
        """One row: the first side beside the second."""
        found: tuple[list[float], list[float]] = ([], [])
        for _ in self._context.turns():
            rates: tuple[list[float], list[float]] = ([], [])
            for number in range(self._context.sized(ROUNDS, 2)):
                order = (0, 1) if number % 2 else (1, 0)
                for side in order:
                    self._serial += 1
                    rates[side].append(await work(sides[side], self._serial))
            for side in (0, 1):
                # Of rounds of equal work: what all of them took together.
                found[side].append(len(rates[side]) / sum(1 / rate for rate in rates[side]))
        return Row("security", figure, unit, Spread.of(found[0]), limit_name, Spread.of(found[1]), must_ratio=must)

    async def _stat_many(self, client: Client, _: int) -> float:
        count = self._context.sized(STATS, CALLERS)
        return await operations_per_second(CALLERS, count, lambda index: client.stat(f"{TOP}/file-{index % CALLERS}"))

    async def _stat_one(self, client: Client, _: int) -> float:
        return await operations_per_second(1, self._context.sized(SINGLE, 5), lambda _: client.stat(f"{TOP}/file-0"))

    async def _create_many(self, client: Client, serial: int) -> float:
        count = self._context.sized(CREATES, CALLERS)
        return await operations_per_second(CALLERS, count, lambda index: create_durably(client, f"{TOP}/new-{serial}-{index}"))

    async def _get(self, client: Client, _: int) -> float:
        pages, view = self._pages[client], memoryview(self._buffer)
        buffers = [view[at : at + 4 * KIB] for at in range(0, len(view), 4 * KIB)]
        return await operations_per_second(1, self._context.sized(CALLS, 2), lambda _: pages.get_into(_keys(0), buffers))

    async def _put(self, client: Client, serial: int) -> float:
        pages, data = self._pages[client], [bytes(4 * KIB)] * BATCH
        count = self._context.sized(CALLS // 4, 2)
        return await operations_per_second(1, count, lambda index: pages.put_from(_keys(serial * count + index + 1), data))

    async def _read_small(self, client: Client, _: int) -> float:
        file, view = await client.open(f"{TOP}/data"), memoryview(self._buffer)
        ranges = [(file, at * 37 % 4096 * 4 * KIB, view[at * 4 * KIB : (at + 1) * 4 * KIB]) for at in range(BATCH)]
        return await operations_per_second(1, self._context.sized(CALLS, 2), lambda _: client.preadv_many(ranges))

    async def _read_large(self, client: Client, _: int) -> float:
        file, count = await client.open(f"{TOP}/data"), FILE_BYTES // MIB

        async def read(index: int) -> None:
            await client.pread_into(file, self._large, index % count * MIB)

        return await operations_per_second(1, self._context.sized(LARGE_READS, 2), read)


def _keys(number: int) -> list[bytes]:
    return [b"%d/%d" % (number, index) for index in range(BATCH)]
