"""What `fs3 demo failover` does and shows; in a file of its own so that other commands need not load it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND, format_size
from fs3.cli.local import LocalCluster
from fs3.sim.drill import is_out, is_well, status_of, who_is
from fs3.sim.load_process import LoadProcess
from fs3.sim.oracle import Books
from fs3.sim.verify import Verdict, verify_now

CALM_SECONDS = 4.0
DEGRADED_SECONDS = 6.0
HEALED_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
STORAGE = 3


def show(directory: Path | None, role: str, speed: float) -> None:
    """The whole demo. FS3Error when the cluster did not heal, or something was wrong."""
    work = Path(tempfile.mkdtemp(prefix="fs3-demo-"))
    console = Console(highlight=False)
    try:
        text = f"starting a manager, a metadata service and {STORAGE} storage processes; every chunk on each of the three"
        console.print(text, soft_wrap=True)
        with (
            LocalCluster(directory or work / "cluster", storage=STORAGE, targets=1) as cluster,
            LoadProcess(cluster.url, work / "journal", pages=1, files=1, registers=8, settled=16) as load,
        ):
            _Show(console, cluster, load, speed).run(role)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Show:
    """The steps, and what is on the screen meanwhile."""

    def __init__(self, console: Console, cluster: LocalCluster, load: LoadProcess, speed: float) -> None:
        self._console = console
        self._cluster = cluster
        self._load = load
        self._speed = speed
        self._began = time.monotonic()
        self._marks: list[tuple[float, str]] = []
        self._status: dict[str, Any] = status_of(cluster)
        self._moved = 0
        self._said_at = 0.0
        self._live: Live | None = None

    def run(self, role: str) -> None:
        """All steps. FS3Error when the cluster did not heal, or a byte was wrong."""
        victim = who_is(self._status, role)
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            self._live = live if self._console.is_terminal else None
            self._mark("load runs: registers, files and KV pages are written, read and checked")
            self._watch(CALM_SECONDS / self._speed)
            killed = time.monotonic_ns()
            self._cluster.kill(victim)
            self._mark(f"kill -9 {victim}, {role} of the chain")
            self._until(is_out(victim), f"{victim} to be replaced")
            self._mark(f"the chain goes on without {victim}")
            self._watch(DEGRADED_SECONDS / self._speed)
            started = time.monotonic_ns()
            self._cluster.start(only=victim)
            self._mark(f"{victim} is started again and catches up")
            self._until(is_well, "every target to serve")
            well = time.monotonic_ns()
            self._mark(f"{victim} serves again, {(well - started) / SECOND:.1f} s after its start")
            self._watch(HEALED_SECONDS / self._speed)
            books = self._load.stop()
            self._mark("the load has ended; every register on every replica, every file and every page is read")
        verdict = verify_now(self._cluster.url, books)
        self._conclude(books, verdict, killed, well)

    def _watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._until(lambda status: time.monotonic() >= until, "", seconds + 1)

    def _until(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._status = status_of(self._cluster)
            except FS3Error as failure:
                self._mark(f"the manager does not answer: {failure}")
            self._moved = max([self._moved, *(target.get("resync_bytes", 0) for target in self._status["targets"])])
            self._draw()
            if condition(self._status):
                return
            if time.monotonic() > deadline:
                raise error(Code.DEADLINE, f"{what}: not within {seconds:.0f} s")
            time.sleep(0.1)

    # --- the screen ------------------------------------------------------------------------------------------------------

    def _mark(self, text: str) -> None:
        """Something happened."""
        at = time.monotonic() - self._began
        self._marks.append((at, text))
        self._console.print(f"[bold]{at:5.1f} s[/bold]  {text}", soft_wrap=True)

    def _draw(self) -> None:
        books = self._load.refresh()
        now = time.monotonic_ns()
        figures = self._figures(books, now)
        if self._live is not None:
            self._live.update(self._table(figures))
        elif time.monotonic() - self._said_at >= 1.0 / self._speed:
            self._said_at = time.monotonic()
            at = self._said_at - self._began
            chain = ", ".join(" ".join(filter(None, slot)) for slot in self._slots())
            shown = "   ".join(f"{name} {value}" for name, value in figures)
            self._console.print(f"{at:5.1f} s    {shown}   {chain}", soft_wrap=True)

    def _figures(self, books: Books, now: int) -> list[tuple[str, str]]:
        second = now - SECOND
        return [
            ("writes/s", str(books.count("write", second, now))),
            ("reads/s", str(books.count("read", second, now) + books.count("settled", second, now))),
            ("longest write", f"{_longest(books, 'write', now):.2f} s"),
            ("longest read", f"{_longest(books, 'settled', now):.2f} s"),
            ("wrong", str(len(books.wrong))),
        ]

    def _slots(self) -> list[tuple[str, str, str]]:
        """(process, state, progress) along the chain."""
        progress = {
            target.get("resync_target_id", 0): f"{target['resync_done_chunks']} of {target['resync_total_chunks']} chunks"
            for target in self._status["targets"]
            if target.get("resync_total_chunks")
        }
        return [
            (slot["node"], slot["state"], progress.get(slot["target"], "") if slot["state"] == "syncing" else "")
            for chain in self._status["chains"]
            for slot in chain["targets"]
        ]

    def _table(self, figures: list[tuple[str, str]]) -> Table:
        grid = Table.grid(padding=(0, 3))
        for _ in range(3):
            grid.add_column()
        colours = {"serving": "green", "syncing": "yellow"}
        slots = [f"{name} [{colours.get(state, 'red')}]{state}[/] {progress}".rstrip() for name, state, progress in self._slots()]
        for index in range(max(len(figures), len(slots))):
            name, value = figures[index] if index < len(figures) else ("", "")
            grid.add_row(name, f"[bold]{value}[/bold]", slots[index] if index < len(slots) else "")
        return grid

    def _conclude(self, books: Books, verdict: Verdict, killed: int, well: int) -> None:
        for each in verdict.wrong[:10]:
            self._console.print(f"[red]{each}[/red]", markup=True)
        table = Table(box=None, show_header=False)
        table.add_column(justify="right")
        table.add_column()
        for value, what in (
            (f"{books.longest('write', killed, well):.2f} s", "longest write, from the kill until all served again"),
            (f"{books.longest('settled', killed, well):.2f} s", "longest read of a chunk that nobody was writing"),
            (f"{books.longest('read', killed, well):.2f} s", "longest read of a chunk that was being written"),
            (str(books.count("write")), "writes acknowledged, each applied once"),
            (str(books.count("read") + books.count("settled")), "reads, each held against what may be seen"),
            (f"{verdict.registers} / {verdict.files} / {verdict.pages}", "register copies / files / pages read again at the end"),
            (format_size(verdict.bytes), f"compared byte by byte; {format_size(self._moved)} moved to bring the process back"),
            (str(len(books.failed)), "operations that failed"),
        ):
            table.add_row(value, what)
        self._console.print(table)
        if verdict.wrong or books.failed:
            raise error(Code.REPLICAS_DISAGREE, f"{len(verdict.wrong)} things were wrong, {len(books.failed)} operations failed")
        self._console.print("[green]nothing was lost, nothing old was shown[/green]")


def _longest(books: Books, kind: str, now: int) -> float:
    """Seconds of the longest operation so far; one that is under way counts since the last one ended."""
    last = next((end for what, _, end in reversed(books.timeline) if what == kind), now)
    return max(books.longest(kind), (now - last) / SECOND)
