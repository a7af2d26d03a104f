"""Small reads through fsspec, as data loaders do them: `cat_file` of random ranges, and file objects in forked processes."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec

from benches import limits
from benches.crowd import Work, operations_per_second
from benches.record import Row, Spread
from fs3.api.url import SCHEME

if TYPE_CHECKING:
    from benches.run import Context

MIB = 1 << 20
FILE_BYTES = 64 * MIB
RANGE = 4096
PATH = "/bench-files/data"
CAT_CALLS = {1: 1000, 16: 4000}
"""Callers -> calls."""
CAT_MUST = {1: 7000, 16: 25_000}
FORKED = 4
FORKED_READS = 3000
FORKED_MUST = 25_000


def measure(context: Context) -> list[Row]:
    """The rows of small reads through fsspec."""
    fs = _connect(context)
    size = context.sized(FILE_BYTES, MIB)
    fs.makedirs("/bench-files")
    fs.pipe_file(PATH, os.urandom(size))
    _warm(fs, size)
    rows = [_measure_cat(context, fs, size, callers) for callers in CAT_CALLS]
    fs.close()
    rows.append(_measure_forked(context, size))
    fs = _connect(context)
    fs.rm("/bench-files", recursive=True)
    fs.close()
    return rows


def _connect(context: Context) -> Any:
    return fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)


def _warm(fs: Any, size: int) -> None:
    """Every byte in the cache of the replica that is read, and looked at once."""
    piece = MIB // 16
    for _ in range(3):
        for first in range(0, size, MIB):
            starts = list(range(first, first + MIB, piece))
            fs.cat_ranges([PATH] * len(starts), starts, [start + piece for start in starts])


def _measure_cat(context: Context, fs: Any, size: int, callers: int) -> Row:
    calls = context.sized(CAT_CALLS[callers], 32)
    values, echoes = [], []

    def cat(start: int) -> None:
        assert len(fs.cat_file(PATH, start, start + RANGE)) == RANGE

    for _ in context.turns():
        starts = [random.randrange(size // RANGE) * RANGE for _ in range(calls)]
        began = time.perf_counter()
        if callers == 1:
            for start in starts:
                cat(start)
        else:
            with ThreadPoolExecutor(callers) as pool:
                list(pool.map(cat, starts))
        values.append(calls / (time.perf_counter() - began))
        echoes.append(limits.echo(RANGE, context.sized(10_000, 20)))
    what = f"cat_file of 4 KiB at random, {callers} caller{'s' * (callers > 1)}"
    must = CAT_MUST[callers]
    return Row("files", what, "/s", Spread.of(values), "/s raw 4 KiB echo, one caller", Spread.of(echoes), must_value=must)


def _measure_forked(context: Context, size: int) -> Row:
    reads = context.sized(FORKED_READS, 20)

    def prepare(number: int) -> Work:
        fs = _connect(context)
        file = fs.open(PATH, "rb")
        rng = random.Random(number)

        def work(count: int) -> None:
            for _ in range(count):
                file.seek(rng.randrange(size // RANGE) * RANGE)
                if len(file.read(RANGE)) != RANGE:
                    raise RuntimeError("a read came back short")

        return work

    values, echoes = [], []
    for _ in context.turns():
        values.append(operations_per_second(FORKED, prepare, reads))
        echoes.append(limits.echo_by_many(RANGE, reads, FORKED))
    what = f"seek and read of 4 KiB in a file object, {FORKED} forked processes"
    limit = f"/s raw 4 KiB echo, {FORKED} processes"
    return Row("files", what, "/s", Spread.of(values), limit, Spread.of(echoes), must_value=FORKED_MUST)
