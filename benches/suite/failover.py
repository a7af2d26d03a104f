"""What dying processes cost: the longest stalls of writes and reads, how soon a manager is replaced, how fast a disk is refilled.

Every kill is a kill -9 under a load with an oracle, in a process of its own; a run in which a read showed what it must not, or in
which anything acknowledged is not there afterwards on every replica, is a failed bench and not a slow one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import limits
from benches.loop import run
from benches.record import TIMELINE, Row, Spread
from fs3.api.connect import connect
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, InodeId, file_chunk
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.cli.local import LocalCluster
from fs3.cli.status import fetch_status
from fs3.core.files.write_plan import WriteIO
from fs3.drill.journal import Journal
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import ROLES, is_excluded, is_healthy, process_in_role, status_of, wait_healthy, wait_status
from fs3.drill.verify import verify_now
from fs3.model.chunk import UpdateKind

if TYPE_CHECKING:
    from benches.run import Context

WRITE_STALL_MAX = 5.0
READ_STALL_MAX = 0.5
TAKEOVER_MAX = 5.0
COPY_CHUNK = 4 * MIB
COPY_CHUNKS = 160
SMALL_CHUNK = 256 * 1024
SMALL_CHUNKS = 2000
CHANGED = SMALL_CHUNKS // 100
OUTAGE_SECONDS = 30.0
FOREGROUND_SECONDS = 4.0

_numbers = itertools.count(1)


class BenchFailed(RuntimeError):
    """A wrong or missing byte."""


def measure(context: Context) -> list[Row]:
    """The failover rows."""
    runs = min(context.runs, 3)
    rows = _kills(context, runs)
    rows += _managers(context, runs)
    rows += _paused(context, runs)
    rows += _lost_disk(context, runs)
    rows += _outage(context)
    return rows


@contextmanager
def _cluster(context: Context, **shape: int) -> Iterator[LocalCluster]:
    """A cluster of one chain over three storage processes."""
    with LocalCluster(context.directory / f"failover-{next(_numbers)}", targets=1, **shape) as cluster:
        yield cluster


def _url(cluster: LocalCluster) -> str:
    return "fs3://" + ",".join(cluster.addresses)


@contextmanager
def _load(context: Context, cluster: LocalCluster, **options: float) -> Iterator[LoadProcess]:
    """A load that is checked at the end."""
    number = next(_numbers)
    settings = {
        "seed": number,
        "registers": 8,
        "settled": 16,
        "readers": 1,
        "settled_readers": 2,
        "files": 1,
        "pages": 1,
        **options,
    }
    with LoadProcess(_url(cluster), context.directory / f"journal-{number}", **settings) as load:
        yield load
        wait_healthy(cluster)
        journal = load.stop()
    verdict = verify_now(_url(cluster), journal)
    if verdict.wrong or journal.failed:
        raise BenchFailed(f"{verdict.wrong[:3]} {journal.failed[:3]}")


# --- stalls ------------------------------------------------------------------------------------------------------------


def _kills(context: Context, runs: int) -> list[Row]:
    rows = []
    with _cluster(context) as cluster:
        for role in ROLES:
            writes, settled, written, healed = [], [], [], []
            for _ in range(runs):
                victim = process_in_role(status_of(cluster), role)
                with _load(context, cluster) as load:
                    load.wait_progress("write", 200, 30)
                    killed = time.monotonic_ns()
                    cluster.kill(victim)
                    wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
                    load.wait_progress("write", 200, 30)
                    load.wait_progress("settled", 200, 30)
                    started = time.monotonic_ns()
                    cluster.start(only=victim)
                    wait_healthy(cluster)
                    well = time.monotonic_ns()
                    journal = load.refresh()
                writes.append(journal.longest("write", killed, started))
                settled.append(journal.longest("settled", killed, started))
                written.append(journal.longest("read", killed, started))
                healed.append((well - started) / SECOND)
                if role == "head":
                    _save_timeline(journal, killed, started, well, victim)
            rows += [
                Row(
                    "failover", f"longest write stall, {role} killed", "s", Spread.of(writes), must_value=WRITE_STALL_MAX,
                    lower_is_better=True, extra={"back and serving after s": healed},
                ),
                Row(
                    "failover", f"longest read stall, {role} killed", "s", Spread.of(settled), must_value=READ_STALL_MAX,
                    lower_is_better=True, note="of chunks without a write under way",
                    extra={"of chunks that are being written, s": written},
                ),
            ]  # fmt: skip
    return rows


def _managers(context: Context, runs: int) -> list[Row]:
    """Kill the primary; then, to see that no chain is frozen, kill a head at once."""
    takeovers, stalls, after = [], [], []
    for _ in range(runs):
        with _cluster(context, mgmtds=2) as cluster, _load(context, cluster, files=0) as load:
            load.wait_progress("write", 100, 30)
            killed = time.monotonic_ns()
            cluster.kill("mgmtd")
            other = cluster.addresses[1]
            takeovers.append(run(_until_primary(other, killed)))
            load.wait_progress("write", 100, 30)
            stalls.append(load.refresh().longest("write", killed))
            again = time.monotonic_ns()
            victim = process_in_role(status_of(cluster), "head")
            cluster.kill(victim)
            wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
            load.wait_progress("write", 100, 30)
            after.append(load.refresh().longest("write", again))
            cluster.start(only="mgmtd")
            cluster.start(only=victim)
    return [
        Row(
            "failover", "manager takeover, primary killed", "s", Spread.of(takeovers), must_value=TAKEOVER_MAX,
            lower_is_better=True, extra={"longest write stall meanwhile, s": stalls},
        ),
        Row(
            "failover", "longest write stall, head killed right after a takeover", "s", Spread.of(after),
            must_value=WRITE_STALL_MAX, lower_is_better=True,
        ),
    ]  # fmt: skip


async def _until_primary(address: str, since: int) -> float:
    """Seconds from `since` until the manager at an address answers as the primary."""
    while time.monotonic_ns() - since < 60 * SECOND:
        try:
            await fetch_status([address])
        except FS3Error:
            await asyncio.sleep(0.01)
        else:
            return (time.monotonic_ns() - since) / SECOND
    raise BenchFailed("no manager took over")


def _paused(context: Context, runs: int) -> list[Row]:
    wrong = []
    with _cluster(context) as cluster:
        for _ in range(runs):
            victim = process_in_role(status_of(cluster), "head")
            with _load(context, cluster, readers=3) as load:
                cluster.pause(victim)
                wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
                load.wait_progress("write", 200, 30)
                cluster.resume(victim)
                load.wait_progress("read", 200, 30)
                journal = load.refresh()
            wrong.append(float(len(journal.wrong)))
    return [
        Row(
            "failover", "wrong reads, head paused past its lease and woken", "reads", Spread.of(wrong), must_value=0.0,
            lower_is_better=True,
        )
    ]  # fmt: skip


# --- resync --------------------------------------------------------------------------------------------------------------


def _lost_disk(context: Context, runs: int) -> list[Row]:
    rates, copies, kept, beside = [], [], [], []
    for _ in range(runs):
        with _cluster(context) as cluster:
            run(_fill(cluster, COPY_CHUNKS, COPY_CHUNK))
            copies.append(limits.raw_copy(context.directory, COPY_CHUNK, COPY_CHUNKS * COPY_CHUNK) / 1e9)
            rates.append(COPY_CHUNKS * COPY_CHUNK / _refill(cluster) / 1e9)
            share, seconds = _refill_beside_reads(context, cluster)
            kept.append(share)
            beside.append(COPY_CHUNKS * COPY_CHUNK / seconds / 1e9)
    return [
        Row(
            "failover", "resync of a lost disk", "GB/s", Spread.of(rates), "GB/s raw copy", Spread.of(copies), must_ratio=0.6,
            note=f"{COPY_CHUNKS} chunks of {COPY_CHUNK // MIB} MiB, nothing else to do",
            extra={"beside saturating reads, GB/s": beside},
        ),
        Row(
            "failover", "reads beside a resync", "of without", Spread.of(kept), must_value=0.7,
            note="one client reads 64 KiB at a time, two at once, as fast as it can; before and during with two replicas",
        ),
    ]  # fmt: skip


def _refill(cluster: LocalCluster) -> float:
    """Seconds from the moment the empty target is let into the chain until it serves."""
    cluster.start(only=_empty(cluster))
    wait_status(cluster, _is_syncing, 60, "a target to sync")
    began = time.perf_counter()
    wait_healthy(cluster, 300)
    return time.perf_counter() - began


def _empty(cluster: LocalCluster) -> str:
    """Take the disk of the tail away; its name."""
    victim = process_in_role(status_of(cluster), "tail")
    cluster.kill(victim)
    wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
    cluster.wipe(victim)
    return victim


def _refill_beside_reads(context: Context, cluster: LocalCluster) -> tuple[float, float]:
    """(reads/s while a target is filled, as a share of what they were before it came back; seconds the filling took)."""
    number = next(_numbers)
    settings = {"registers": 0, "readers": 0, "settled": 64, "settled_readers": 2, "files": 0, "pages": 0, "pause_ms": 0}
    journal = context.directory / f"journal-{number}"
    with LoadProcess(_url(cluster), journal, seed=number, register_bytes=64 * 1024, **settings) as load:
        victim = _empty(cluster)
        alone = time.monotonic_ns()
        time.sleep(FOREGROUND_SECONDS)
        starts = time.monotonic_ns()
        cluster.start(only=victim)
        wait_status(cluster, _is_syncing, 60, "a target to sync", 0.2)
        syncs = time.monotonic_ns()
        wait_status(cluster, is_healthy, 300, "every target to serve", 0.2)
        ends = time.monotonic_ns()
        journal = load.stop()
    if journal.wrong or journal.failed:
        raise BenchFailed(f"{journal.wrong[:3]} {journal.failed[:3]}")
    before = journal.count("settled", alone, starts) * SECOND / (starts - alone)
    meanwhile = journal.count("settled", syncs, ends) * SECOND / (ends - syncs)
    return meanwhile / before, (ends - syncs) / SECOND


def _is_syncing(status: dict[str, Any]) -> bool:
    states = [slot["state"] for chain in status["chains"] for slot in chain["targets"]]
    return "syncing" in states or set(states) == {"serving"}


def _outage(context: Context) -> list[Row]:
    """One replica is away for a while, meanwhile one chunk in a hundred changes."""
    with _cluster(context) as cluster:
        run(_fill(cluster, SMALL_CHUNKS, SMALL_CHUNK))
        time.sleep(1.0)  # until the last commits are on disk: those that are not would count as changed
        victim = process_in_role(status_of(cluster), "tail")
        cluster.kill(victim)
        away = time.monotonic()
        wait_status(cluster, is_excluded(victim), 30, f"{victim} to be left out")
        run(_fill(cluster, CHANGED, SMALL_CHUNK))
        time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - away)))
        cluster.start(only=victim)
        moved = 0

        def looked(status: dict[str, Any]) -> bool:
            nonlocal moved
            moved = max([moved, *(target["resync_bytes"] for target in status["targets"])])
            return is_healthy(status)

        wait_status(cluster, looked, 120, "every target to serve")
        pid = cluster.directory.running_pid(victim)
        written = _written(pid) if pid is not None else 0
    total = SMALL_CHUNKS * SMALL_CHUNK
    return [
        Row(
            "failover", "resync after an outage of 30 s, 1 % of chunks changed", "% of bytes",
            Spread.of([100 * max(moved, written) / total]), must_value=2.0, lower_is_better=True,
            note=f"{SMALL_CHUNKS} chunks of {SMALL_CHUNK // 1024} KiB, {CHANGED} changed; what the process that came back wrote "
            "to its disk, index included",
            extra={"moved, % of bytes": 100 * moved / total},
        )
    ]  # fmt: skip


def _written(pid: int) -> int:
    """Bytes a process has caused to be written to disk."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def _chunk(number: int) -> Any:
    return file_chunk(InodeId(0xBE7C << 32), number)


async def _fill(cluster: LocalCluster, count: int, size: int) -> None:
    """Write so many chunks whole."""
    data = memoryview(os.urandom(size))
    async with await connect(_url(cluster)) as client:
        (chain,) = client.manager.routing.chains
        at_once = max(1, (16 * MIB) // size)
        for first in range(0, count, at_once):
            writes = [
                WriteIO(_chunk(number), ChainId(chain), UpdateKind.WRITE, 0, data, size)
                for number in range(first, min(count, first + at_once))
            ]
            for result in await client.storage.update(writes):
                if result.code is not Code.OK:
                    raise BenchFailed(f"{result.code.name} {result.message}")


# --- timeline ------------------------------------------------------------------------------------------------------------


def _save_timeline(journal: Journal, killed: int, started: int, well: int, victim: str) -> None:
    """What the plot shows: operations of each kind per tenth of a second, and their longest time, around a kill."""
    tenth = SECOND // 10
    first = killed - 2 * SECOND
    series: dict[str, dict[str, list[float]]] = {}
    for kind in ("write", "settled"):
        slots = int((well + SECOND - first) // tenth)
        counts = [0.0] * slots
        longest = [0.0] * slots
        for what, begin, end in journal.timeline:
            place = int((end - first) // tenth)
            if what == kind and 0 <= place < slots:
                counts[place] += 10
                longest[place] = max(longest[place], (end - begin) / SECOND)
        series[kind] = {"per_second": counts, "longest_s": longest}
    marks = {"killed": killed, "started": started, "serving": well}
    document = {
        "victim": victim,
        "step_s": 0.1,
        "marks_s": {name: (at - first) / SECOND for name, at in marks.items()},
        "series": series,
    }
    TIMELINE.write_text(json.dumps(document))
