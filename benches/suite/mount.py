"""A mount beside local files, and beside the native client: single calls, small files, reads and writes of a large one.

A process of its own serves the mount, as `fs3 mount` makes it. The limit of single calls is the same on the local file system; of
large reads and writes it is what the native client does in the same run.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context

DEVICE = Path("/dev/fuse")
MIB = 1 << 20
FILE_MIB = 256
SMALL_BYTES = 16 * 1024
PIECE_BYTES = 4096
CALLS = 2000
FILES = 300
CALLERS = (1, 16)
RUNS_MAX = 3
MUST_US = {"stat": 60, "open and close": 200, "create and close": 1000}
"""Call -> microseconds not to exceed."""
MUST_SMALL = {"write": (1500, 6000), "read": (6000, 25_000)}
"""Files/s of 1 and of 16 callers."""
MUST_PIECES = (9000, 40_000)
"""Reads/s of 1 and of 16 callers."""
MUST_CACHED_READ = 1.2
"""GB/s."""
MUST_DIRECT_READ, MUST_WRITE = 0.8, 0.9
"""Of the native client."""

Figures = dict[str, list[float]]


def measure(context: Context) -> list[Row]:
    """The rows; none where there is no FUSE."""
    if not DEVICE.exists():
        context.console.print(f"no {DEVICE}: the mount is not measured")
        return []
    local = context.directory / "local-files"
    figures: Figures = defaultdict(list)
    with mounted(context.cluster.url, context.directory / "mount") as root:
        for turn in context.turns(RUNS_MAX):
            for where, top in (("mount", root / f"bench-{turn}"), ("local", local / str(turn))):
                top.mkdir(parents=True)
                _measure_calls(context, top, where, figures)
                for callers in CALLERS:
                    _measure_small(context, top / f"small-{callers}", callers, where, figures)
            _measure_large(context, root / f"bench-{turn}" / "large", figures)
            run(_measure_native(context, figures))
    return _rows(figures)


@contextmanager
def mounted(url: str, directory: Path) -> Iterator[Path]:
    """A mount for the length of a `with` block."""
    directory.mkdir()
    command = [sys.executable, "-P", "-m", "fs3.cli.main"]
    subprocess.run([*command, "mount", url, str(directory)], check=True, timeout=60)
    try:
        yield directory
    finally:
        subprocess.run([*command, "umount", "--lazy", str(directory)], check=True, timeout=60)


def _measure_calls(context: Context, top: Path, where: str, figures: Figures) -> None:
    """Microseconds of single calls."""
    path = top / "file"
    path.write_bytes(bytes(SMALL_BYTES))
    calls = context.sized(CALLS, 10)

    def open_and_close(_: int) -> None:
        os.close(os.open(path, os.O_RDONLY))

    def create_and_close(index: int) -> None:
        os.close(os.open(top / f"new-{index}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    figures[f"stat {where}"].append(_microseconds(lambda _: os.stat(path), calls))
    figures[f"open and close {where}"].append(_microseconds(open_and_close, calls))
    figures[f"create and close {where}"].append(_microseconds(create_and_close, max(10, calls // 4)))


def _measure_small(context: Context, top: Path, callers: int, where: str, figures: Figures) -> None:
    """Files/s; those of the mount are durable when they are closed, local ones are synced."""
    top.mkdir()
    data = os.urandom(SMALL_BYTES)
    files = context.sized(FILES, 8) * min(callers, 4)

    def write(index: int) -> None:
        fd = os.open(top / str(index), os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        if where == "local":
            os.fsync(fd)
        os.close(fd)

    def read(index: int) -> None:
        fd = os.open(top / str(index), os.O_RDONLY)
        if len(os.read(fd, SMALL_BYTES + 1)) != SMALL_BYTES:
            raise RuntimeError("a file is not as it was written")
        os.close(fd)

    figures[f"write {callers} {where}"].append(_per_second(write, files, callers))
    figures[f"read {callers} {where}"].append(_per_second(read, files, callers))


def _measure_large(context: Context, path: Path, figures: Figures) -> None:
    """GB/s of a large file, and its 4 KiB pieces a second."""
    size = context.sized(FILE_MIB, 4) * MIB
    block = memoryview(os.urandom(MIB))
    began = time.perf_counter()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(size // MIB):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)
    figures["write mount"].append(size / (time.perf_counter() - began) / 1e9)
    figures["direct read mount"].append(_read_through(path, size, os.O_DIRECT))
    figures["cached read mount"].append(_read_through(path, size, 0))
    for callers in CALLERS:
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECT) for _ in range(callers)]
        buffers = [mmap.mmap(-1, PIECE_BYTES) for _ in range(callers)]
        pieces = size // PIECE_BYTES

        def read(index: int, fds: list[int] = fds, buffers: list[mmap.mmap] = buffers, pieces: int = pieces) -> None:
            at = index % len(fds)
            os.preadv(fds[at], [buffers[at]], random.randrange(pieces) * PIECE_BYTES)

        figures[f"pieces {callers}"].append(_per_second(read, context.sized(CALLS, 16) * min(callers, 4), callers))
        for fd in fds:
            os.close(fd)


def _read_through(path: Path, size: int, flags: int) -> float:
    buffer = mmap.mmap(-1, MIB)
    fd = os.open(path, os.O_RDONLY | flags)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # the kernel has nothing of it
    began = time.perf_counter()
    for at in range(0, size, MIB):
        if os.preadv(fd, [buffer], at) != MIB:
            raise RuntimeError("a file is shorter than it was written")
    elapsed = time.perf_counter() - began
    os.close(fd)
    return size / elapsed / 1e9


async def _measure_native(context: Context, figures: Figures) -> None:
    """GB/s of the native client: writes of 4 MiB, four under way, and reads of 1 MiB one after the other."""
    size = context.sized(FILE_MIB, 4) * MIB
    block = memoryview(os.urandom(4 * MIB))
    async with await connect(context.cluster.url) as client:
        turns = asyncio.Semaphore(4)
        file = await client.open("/bench-native", "w")

        async def write(at: int) -> None:
            async with turns:
                await client.pwrite(file, block, at)

        began = time.perf_counter()
        await asyncio.gather(*(write(at) for at in range(0, size, len(block))))
        await client.close(file)
        figures["write native"].append(size / (time.perf_counter() - began) / 1e9)
        file = await client.open("/bench-native")
        buffer = memoryview(bytearray(MIB))
        began = time.perf_counter()
        for at in range(0, size, MIB):
            await client.pread_into(file, buffer, at)
        figures["direct read native"].append(size / (time.perf_counter() - began) / 1e9)
        await client.close(file)
        await client.unlink("/bench-native")


def _microseconds(call: Callable[[int], object], calls: int) -> float:
    began = time.perf_counter()
    for index in range(calls):
        call(index)
    return (time.perf_counter() - began) / calls * 1e6


def _per_second(call: Callable[[int], object], calls: int, callers: int) -> float:
    with ThreadPoolExecutor(callers) as pool:
        began = time.perf_counter()
        for _ in pool.map(call, range(calls)):
            pass
        return calls / (time.perf_counter() - began)


def _rows(figures: Figures) -> list[Row]:
    spreads = {name: Spread.of(values) for name, values in figures.items()}
    rows = [
        Row(
            "mount", name, "µs", spreads[f"{name} mount"], "µs on local files", spreads[f"{name} local"],
            must_value=must, lower_is_better=True,
        )
        for name, must in MUST_US.items()
    ]  # fmt: skip
    for work, musts in MUST_SMALL.items():
        for callers, must in zip(CALLERS, musts, strict=True):
            named = f"{work} files of 16 KiB{', durable' if work == 'write' else ''}, {callers} caller{'s' * (callers > 1)}"
            limit = f"files/s local{', synced' if work == 'write' else ''}"
            of_mount, of_local = spreads[f"{work} {callers} mount"], spreads[f"{work} {callers} local"]
            rows.append(Row("mount", named, "files/s", of_mount, limit, of_local, must_value=must))
    for callers, must in zip(CALLERS, MUST_PIECES, strict=True):
        named = f"random 4 KiB, O_DIRECT, {callers} caller{'s' * (callers > 1)}"
        rows.append(Row("mount", named, "reads/s", spreads[f"pieces {callers}"], must_value=must))
    native = "GB/s by the native client"
    rows.append(
        Row(
            "mount", "sequential read, O_DIRECT, 1 MiB a call", "GB/s", spreads["direct read mount"], native,
            spreads["direct read native"], must_ratio=MUST_DIRECT_READ,
        )
    )  # fmt: skip
    rows.append(
        Row("mount", "sequential read, through the page cache", "GB/s", spreads["cached read mount"], must_value=MUST_CACHED_READ)
    )
    rows.append(
        Row(
            "mount",
            "sequential write and fsync",
            "GB/s",
            spreads["write mount"],
            native,
            spreads["write native"],
            must_ratio=MUST_WRITE,
        )
    )
    return rows
