"""Resident memory of a storage process while 4 GiB are written through it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context

MIB = 1 << 20
WRITTEN = 4 << 30
AHEAD = 4
BLOCK = 4 * MIB
FILE_BYTES = 512 * MIB


def measure(context: Context) -> list[Row]:
    """The memory row: the largest process's peak, in MiB."""
    pids = [process.pid for process in context.cluster.processes.values() if process.role == "storage"]
    peaks = dict.fromkeys(pids, 0)
    before = {pid: resident(pid) for pid in pids}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            for pid in pids:
                peaks[pid] = max(peaks[pid], resident(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run(_write(context))
    finally:
        stop.set()
        watcher.join()
    values = [peak / MIB for peak in peaks.values()]
    return [
        Row(
            "memory", "storage process, peak while writing 4 GiB", "MiB", Spread.of([max(values)]),
            must_value=300, lower_is_better=True, note="resident set, shared pages of the index included",
            extra={"peaks": [round(value) for value in values], "before": [round(before[pid] / MIB) for pid in pids]},
        )
    ]  # fmt: skip


def resident(pid: int) -> int:
    """Bytes of a process's resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _write(context: Context) -> None:
    async with await connect(context.cluster.url, transport="tcp") as client:
        data = memoryview(os.urandom(BLOCK))
        turns = asyncio.Semaphore(AHEAD)
        for number in range(context.sized(WRITTEN, FILE_BYTES) // FILE_BYTES):
            file = await client.open(f"/bench-memory-{number}", "w")

            async def one(offset: int, file: object = file) -> None:
                async with turns:
                    await client.pwrite(file, data, offset)  # type: ignore[arg-type]

            await asyncio.gather(*(one(offset) for offset in range(0, FILE_BYTES, BLOCK)))
            await client.close(file)
            # The next file's blocks come out of this one's; 12 GiB of disk would be used otherwise.
            await client.unlink(f"/bench-memory-{number}")
