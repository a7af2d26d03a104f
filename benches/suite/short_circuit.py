"""Random reads of 4 KiB by a client on the host of the storage nodes: from their files, beside the same by the Unix socket."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import fsspec

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from benches.suite.read import BATCH, prepare_file, read_at_random, read_batches, warm
from fs3.api.connect import connect
from fs3.api.url import SCHEME

if TYPE_CHECKING:
    from benches.run import Context

MIB = 1 << 20
FILE_BYTES = 64 * MIB
READS = 4000
BATCHES = 150
RANGE = 4096
MUST = 1.3
"""Times as fast as by the socket."""


def measure(context: Context) -> list[Row]:
    """The rows of short-circuit reads."""
    return [*run(_measure(context)), _measure_file_object(context)]


async def _measure(context: Context) -> list[Row]:
    size = context.sized(FILE_BYTES, 4 * MIB)
    reads, calls = context.sized(READS, 20), context.sized(BATCHES, 4)
    singles: dict[bool, list[float]] = {True: [], False: []}
    batches: dict[bool, list[float]] = {True: [], False: []}
    url = context.cluster.url
    async with (
        await connect(url, transport="local") as short,
        await connect(url, transport="local", short_circuit=False) as asking,
    ):
        await short.close(await prepare_file(short, size))
        files = {True: (short, await short.open("/bench-read", "r")), False: (asking, await asking.open("/bench-read", "r"))}
        for _ in context.turns():
            for is_short, (client, file) in files.items():
                await warm(client, file, size)
                await warm(client, file, size)
                batches[is_short].append(await read_batches(client, file, size, calls, 1))
                singles[is_short].append(await read_at_random(client, file, size, reads))
        for client, file in files.values():
            await client.close(file)
    return [
        Row(
            "short_circuit", what, "reads/s", Spread.of(values[True]), "/s by the Unix socket", Spread.of(values[False]),
            must_ratio=must, note="warm, checksums verified",
        )
        for what, values, must in (
            (f"random 4 KiB, {BATCH} a call", batches, MUST),
            ("random 4 KiB, one at a time", singles, None),
        )
    ]  # fmt: skip


def _measure_file_object(context: Context) -> Row:
    """Seek and read through fsspec."""
    size, reads = context.sized(FILE_BYTES, 4 * MIB), context.sized(READS, 20)
    fs = fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)
    values, echoes = [], []
    with fs.open("/bench-read", "rb") as file:
        for _ in context.turns():
            _seek_and_read(file, size, size // RANGE)
            values.append(_seek_and_read(file, size, reads))
            echoes.append(limits.echo(RANGE, context.sized(10_000, 20)))
    fs.close()
    what = "seek and read of 4 KiB in a file object of fsspec"
    return Row("short_circuit", what, "reads/s", Spread.of(values), "/s raw 4 KiB echo", Spread.of(echoes))


def _seek_and_read(file: Any, size: int, reads: int) -> float:
    """Reads/s."""
    began = time.perf_counter()
    for _ in range(reads):
        file.seek(random.randrange(size // RANGE) * RANGE)
        if len(file.read(RANGE)) != RANGE:
            raise RuntimeError("a read came back short")
    return reads / (time.perf_counter() - began)
