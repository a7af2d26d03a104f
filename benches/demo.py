"""`make demo`: a local cluster, and on it what people do with fs3. Ends with a table of what was moved and how fast."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benches import limits
from benches.graysort import GraySortPlan
from benches.graysort import run as sort_run
from fs3.api.kvcache import KVCache
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports

MIB = 1 << 20
ROWS = 2_000_000
PARTS = 4
SAMPLES = 2_000
PAGE_BYTES = 1_124_352
"""16 tokens of DeepSeek-V3's attention cache over all layers."""
PAGES = 300
PAGES_A_CALL = 8
SMALL_PAGE_BYTES = 64 << 10
SMALL_PAGES = 3_000
SMALL_PAGES_A_CALL = 24
RECORDS = 2_000_000


@dataclass
class Line:
    """One row of the table at the end."""

    what: str
    moved: int
    seconds: float
    limit: float = 0.0
    """Bytes/s of the raw limit, 0: none applies."""
    limit_name: str = ""
    note: str = ""


@dataclass
class Demo:
    """What the steps share."""

    cluster: LocalCluster
    work: Path
    bars: Progress
    lines: list[Line] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)

    def bar(self, what: str, total: float) -> TaskID:
        """A progress bar for one step."""
        return self.bars.add_task(what, total=total)

    def add(self, what: str, moved: int, began: float, limit: str = "", note: str = "") -> None:
        """Remember how a step that began at `began` (perf_counter seconds) went."""
        names = {"read": "sendfile to recv_into", "write": "raw chain of 3, synced"}
        seconds = time.perf_counter() - began
        self.lines.append(Line(what, moved, seconds, self.limits.get(limit, 0.0), names.get(limit, ""), note))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every step, print the table, stop the cluster."""
    parser = argparse.ArgumentParser(prog="benches.demo", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("demo-data"), help="removed at the end, refused when it exists")
    parser.add_argument("--port", type=int, default=None, help="first port of the cluster; free ones are found when left out")
    parser.add_argument("--scale", type=float, default=1.0, help="1: a few minutes on two cores; 0.1: a look")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = 140  # room for the table in a log
    logging.getLogger("fs3").setLevel(logging.ERROR)  # the file system object outlives the cluster, and would say so
    if options.data_dir.exists():
        parser.error(f"{options.data_dir} exists; remove it or name another directory")
    if not 0.01 <= options.scale <= 100:
        parser.error("--scale: 0.01 to 100")
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    port = options.port or free_ports(10)
    console.print("starting 1 mgmtd, 1 meta and 3 storage processes …")
    try:
        with (
            LocalCluster(options.data_dir / "cluster", port=port) as cluster,
            Progress(*columns, console=console, disable=not console.is_terminal) as bars,
        ):
            console.print(f"serving {cluster.url}")
            demo = Demo(cluster, options.data_dir, bars)
            _measure_limits(demo)
            _parquet(demo, options.scale)
            asyncio.run(_pages(demo, options.scale))
            asyncio.run(_evictions(demo, options.scale))
            _graysort(demo, options.scale)
        console.print(_table(demo.lines))
        console.print("the cluster has stopped; its directory is removed")
    finally:
        shutil.rmtree(options.data_dir, ignore_errors=True)
    return 0


def _measure_limits(demo: Demo) -> None:
    bar = demo.bar("raw limits of this machine", 2)
    demo.limits["read"] = limits.sendfile_to_recv_into(demo.work, 4 * MIB, 512 * MIB)
    demo.bars.advance(bar)
    demo.limits["write"] = limits.raw_chain(demo.work, 4 * MIB, 48, 4)
    demo.bars.advance(bar)


def _parquet(demo: Demo, scale: float) -> None:
    """A Parquet data set written by pyarrow, read back by pandas, and looked at in random order as a data loader does."""
    import fsspec
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem = fsspec.filesystem("fs3", cluster=demo.cluster.address)
    filesystem.makedirs("/demo/parquet", exist_ok=True)
    rows = max(1000, int(ROWS * scale) // PARTS)
    bar = demo.bar("Parquet: write with pyarrow", PARTS)
    began = time.perf_counter()
    sums = []
    for part in range(PARTS):
        values = np.random.default_rng(part).standard_normal((rows, 4))
        columns: dict[str, Any] = {f"x{index}": values[:, index] for index in range(4)}
        columns["id"] = np.arange(part * rows, (part + 1) * rows)
        sums.append(int(columns["id"].sum()))
        pq.write_table(pa.table(columns), f"/demo/parquet/part-{part}.parquet", filesystem=filesystem, row_group_size=65_536)
        demo.bars.advance(bar)
    size = filesystem.du("/demo/parquet")
    demo.add("Parquet data set, pyarrow write", size, began, "write", f"{rows * PARTS:,} rows; encoding included")

    bar = demo.bar("Parquet: read with pandas", PARTS)
    began = time.perf_counter()
    for part in range(PARTS):
        frame = pd.read_parquet(f"fs3://{demo.cluster.address}/demo/parquet/part-{part}.parquet")
        if len(frame) != rows or int(frame["id"].sum()) != sums[part]:
            raise RuntimeError(f"part {part} came back different")
        demo.bars.advance(bar)
    demo.add("Parquet data set, pandas read", size, began, "read", "decoding included")

    looks = max(100, int(SAMPLES * scale))
    record = 4096
    path = "/demo/samples.bin"
    with filesystem.open(path, "wb") as out:
        for index in range(64):
            out.write(index.to_bytes(8, "little") * (MIB // 8))
    bar = demo.bar("random access, one sample a time", looks)
    began = time.perf_counter()
    with filesystem.open(path, "rb", cache_type="none") as samples:
        for _ in range(looks):
            place = random.randrange(64 * MIB // record) * record
            samples.seek(place)
            if samples.read(record)[:8] != (place // MIB).to_bytes(8, "little"):
                raise RuntimeError(f"the sample at {place} is not what was written")
            demo.bars.advance(bar)
    demo.add("random 4 KiB samples, file object", looks * record, began, note=_rate(looks, began, "samples"))
    began = time.perf_counter()
    places = [random.randrange(64 * MIB // record) * record for _ in range(looks)]
    for first in range(0, looks, 64):
        some = places[first : first + 64]
        got = filesystem.cat_ranges([path] * len(some), some, [place + record for place in some])
        if any(data[:8] != (place // MIB).to_bytes(8, "little") for data, place in zip(got, some, strict=True)):
            raise RuntimeError("a sample is not what was written")
    demo.add("random 4 KiB samples, 64 a call", looks * record, began, note=_rate(looks, began, "samples"))


async def _pages(demo: Demo, scale: float) -> None:
    count = max(PAGES_A_CALL, int(PAGES * scale))
    keys = [f"prompt/{index}".encode() for index in range(count)]
    pages = [memoryview(os.urandom(PAGE_BYTES)) for _ in range(PAGES_A_CALL)]
    async with await KVCache.open(
        demo.cluster.url, namespace="demo@main/fp8/16", page_bytes=PAGE_BYTES, replicas=2, timeout=60
    ) as cache:
        bar = demo.bar("KV pages: put", count)
        began = time.perf_counter()
        for first in range(0, count, PAGES_A_CALL):
            some = keys[first : first + PAGES_A_CALL]
            statuses = await cache.put_from(some, pages[: len(some)])
            if not all(status.ok for status in statuses):
                raise RuntimeError(f"a page was not stored: {statuses}")
            demo.bars.advance(bar, len(some))
        demo.add("KV pages put, 2 replicas", count * PAGE_BYTES, began, "write", f"{count} pages of {PAGE_BYTES:,} bytes")
        began = time.perf_counter()
        found = await cache.lookup([*keys, b"never stored"])
        elapsed = (time.perf_counter() - began) * 1e3
        if found.hits != count or found.bitmap[-1]:
            raise RuntimeError(f"the prefix lookup found {found.hits} of {count}")
        bar = demo.bar("KV pages: get", count)
        buffers = [memoryview(bytearray(PAGE_BYTES)) for _ in range(PAGES_A_CALL)]
        began = time.perf_counter()
        for first in range(0, count, PAGES_A_CALL):
            some = keys[first : first + PAGES_A_CALL]
            statuses = await cache.get_into(some, buffers[: len(some)])
            if not all(status.ok for status in statuses) or buffers[0] != pages[0]:
                raise RuntimeError(f"a page did not come back: {statuses}")
            demo.bars.advance(bar, len(some))
        demo.add("KV pages get, verified", count * PAGE_BYTES, began, "read", f"lookup of {count + 1} keys: {elapsed:.1f} ms")


async def _evictions(demo: Demo, scale: float) -> None:
    """Three times as many pages as the budget allows: those in use stay, the oldest others go."""
    count = max(10 * SMALL_PAGES_A_CALL, int(SMALL_PAGES * scale))
    budget = count * SMALL_PAGE_BYTES // 3
    keys = [f"turn/{index}".encode() for index in range(count)]
    used = keys[: count // 10]
    page = os.urandom(SMALL_PAGE_BYTES)
    async with await KVCache.open(
        demo.cluster.url, namespace="demo@main/budget", page_bytes=SMALL_PAGE_BYTES, replicas=2, timeout=60, budget_bytes=budget
    ) as cache:
        bar = demo.bar("KV pages: put beyond a budget", count)
        began = time.perf_counter()
        for first in range(0, count, SMALL_PAGES_A_CALL):
            some = keys[first : first + SMALL_PAGES_A_CALL]
            statuses = await cache.put_from(some, [page] * len(some))
            if not all(status.ok for status in statuses):
                raise RuntimeError(f"a page was not stored: {statuses}")
            await cache.touch(used)
            demo.bars.advance(bar, len(some))
        elapsed = time.perf_counter() - began
        usage = await cache.usage()
        stayed = sum((await cache.lookup(used)).bitmap)
    if usage.bytes > budget:
        raise RuntimeError(f"{usage.bytes} bytes of pages are there, and the budget is {budget}")
    note = f"{usage.pages:,} of {count:,} stay; {stayed} of {len(used)} in use"
    demo.lines.append(Line("KV pages put beyond their budget", count * SMALL_PAGE_BYTES, elapsed, note=note))


def _graysort(demo: Demo, scale: float) -> None:
    base = f"fs3://{demo.cluster.address}/demo/sort"
    plan = GraySortPlan(
        records=max(10_000, int(RECORDS * scale)),
        input_url=f"{base}/input",
        shuffle_url=f"{base}/shuffle",
        output_url=f"{base}/output",
        workers=2,
        partitions=8,
    )
    bars: dict[str, TaskID] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = demo.bar(f"GraySort: {stage}", total)
        demo.bars.update(bars[stage], completed=done)

    report = sort_run(plan, progress)
    if not report.validation.is_valid:
        raise RuntimeError(f"the sorted data set is not valid: {report.validation.faults}")
    for stage in report.stages:
        demo.lines.append(Line(f"GraySort {stage.stage}", stage.moved_bytes, stage.seconds, note=f"{plan.records:,} records"))


def _rate(count: int, began: float, what: str) -> str:
    return f"{count / (time.perf_counter() - began):,.0f} {what}/s"


def _table(lines: Sequence[Line]) -> Table:
    table = Table(title="what was moved, and how fast", title_justify="left")
    table.add_column("step")
    for heading in ("moved", "seconds", "GB/s", "ratio", "raw limit GB/s"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for line in lines:
        rate = line.moved / line.seconds
        table.add_row(
            line.what,
            f"{line.moved / 1e6:,.0f} MB",
            f"{line.seconds:.2f}",
            f"{rate / 1e9:.3f}",
            f"{rate / line.limit:.2f}" if line.limit else "",
            f"{line.limit / 1e9:.2f} {line.limit_name}" if line.limit else "",
            line.note,
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
