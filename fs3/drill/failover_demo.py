"""What `fs3 demo failover` does and shows. The command finds it by the entry point `failover` of the group `fs3.demos`."""

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
from fs3.drill.journal import Journal
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import ROLES, is_excluded, is_healthy, process_in_role, status_of
from fs3.drill.verify import Verdict, verify_now

CALM_SECONDS = 4.0
DEGRADED_SECONDS = 6.0
HEALED_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
STORAGE = 3


def run_demo(directory: Path | None, role: str, speed: float) -> None:
    """The whole demo. FS3Error when the role is none of a chain, the cluster did not heal, or something was wrong."""
    if role not in ROLES:
        raise error(Code.INVALID, f"--role {role}: {', '.join(ROLES)}")
    work = Path(tempfile.mkdtemp(prefix="fs3-demo-"))
    console = Console(highlight=False)
    try:
        text = f"starting a manager, a metadata service and {STORAGE} storage processes; every chunk on each of the three"
        console.print(text, soft_wrap=True)
        with (
            LocalCluster(directory or work / "cluster", storage=STORAGE, targets=1) as cluster,
            LoadProcess(cluster.url, work / "journal", pages=1, files=1, registers=8, settled=16) as load,
        ):
            FailoverDemo(console, cluster, load, speed).run(role)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class FailoverDemo:
    """The steps, and what is on the screen meanwhile."""

    def __init__(self, console: Console, cluster: LocalCluster, load: LoadProcess, speed: float) -> None:
        self._console = console
        self._cluster = cluster
        self._load = load
        self._speed = speed
        self._began = time.monotonic()
        self._milestones: list[tuple[float, str]] = []
        self._status: dict[str, Any] = status_of(cluster)
        self._resynced_bytes = 0
        self._printed_at = 0.0
        self._live: Live | None = None

    def run(self, role: str) -> None:
        """All steps. FS3Error when the cluster did not heal, or a byte was wrong."""
        victim = process_in_role(self._status, role)
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            self._live = live if self._console.is_terminal else None
            self._announce("load runs: registers, files and KV pages are written, read and checked")
            self._show_for(CALM_SECONDS / self._speed)
            killed = time.monotonic_ns()
            self._cluster.kill(victim)
            self._announce(f"kill -9 {victim}, {role} of the chain")
            self._wait_until(is_excluded(victim), f"{victim} to be replaced")
            self._announce(f"the chain goes on without {victim}")
            self._show_for(DEGRADED_SECONDS / self._speed)
            started = time.monotonic_ns()
            self._cluster.start(only=victim)
            self._announce(f"{victim} is started again and catches up")
            self._wait_until(is_healthy, "every target to serve")
            well = time.monotonic_ns()
            self._announce(f"{victim} serves again, {(well - started) / SECOND:.1f} s after its start")
            self._show_for(HEALED_SECONDS / self._speed)
            journal = self._load.stop()
            self._announce("the load has ended; every register on every replica, every file and every page is read")
        verdict = verify_now(self._cluster.url, journal)
        self._print_summary(journal, verdict, killed, well)

    def _show_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._wait_until(lambda status: time.monotonic() >= until, "", seconds + 1)

    def _wait_until(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._status = status_of(self._cluster)
            except FS3Error as failure:
                self._announce(f"the manager does not answer: {failure}")
            self._resynced_bytes = max(
                [self._resynced_bytes, *(target.get("resync_bytes", 0) for target in self._status["targets"])]
            )
            self._draw()
            if condition(self._status):
                return
            if time.monotonic() > deadline:
                raise error(Code.DEADLINE, f"{what}: not within {seconds:.0f} s")
            time.sleep(0.1)

    # --- the screen ------------------------------------------------------------------------------------------------------

    def _announce(self, text: str) -> None:
        """Something happened."""
        at = time.monotonic() - self._began
        self._milestones.append((at, text))
        self._console.print(f"[bold]{at:5.1f} s[/bold]  {text}", soft_wrap=True)

    def _draw(self) -> None:
        journal = self._load.refresh()
        now = time.monotonic_ns()
        figures = self._figures(journal, now)
        if self._live is not None:
            self._live.update(self._make_table(figures))
        elif time.monotonic() - self._printed_at >= 1.0 / self._speed:
            self._printed_at = time.monotonic()
            at = self._printed_at - self._began
            chain = ", ".join(" ".join(filter(None, slot)) for slot in self._list_slots())
            shown = "   ".join(f"{name} {value}" for name, value in figures)
            self._console.print(f"{at:5.1f} s    {shown}   {chain}", soft_wrap=True)

    def _figures(self, journal: Journal, now: int) -> list[tuple[str, str]]:
        second = now - SECOND
        return [
            ("writes/s", str(journal.count("write", second, now))),
            ("reads/s", str(journal.count("read", second, now) + journal.count("settled", second, now))),
            ("longest write", f"{_longest(journal, 'write', now):.2f} s"),
            ("longest read", f"{_longest(journal, 'settled', now):.2f} s"),
            ("wrong", str(len(journal.wrong))),
        ]

    def _list_slots(self) -> list[tuple[str, str, str]]:
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

    def _make_table(self, figures: list[tuple[str, str]]) -> Table:
        grid = Table.grid(padding=(0, 3))
        for _ in range(3):
            grid.add_column()
        colours = {"serving": "green", "syncing": "yellow"}
        slots = [
            f"{name} [{colours.get(state, 'red')}]{state}[/] {progress}".rstrip() for name, state, progress in self._list_slots()
        ]
        for index in range(max(len(figures), len(slots))):
            name, value = figures[index] if index < len(figures) else ("", "")
            grid.add_row(name, f"[bold]{value}[/bold]", slots[index] if index < len(slots) else "")
        return grid

    def _print_summary(self, journal: Journal, verdict: Verdict, killed: int, well: int) -> None:
        for each in verdict.wrong[:10]:
            self._console.print(f"[red]{each}[/red]", markup=True)
        table = Table(box=None, show_header=False)
        table.add_column(justify="right")
        table.add_column()
        for value, what in (
            (f"{journal.longest('write', killed, well):.2f} s", "longest write, from the kill until all served again"),
            (f"{journal.longest('settled', killed, well):.2f} s", "longest read of a chunk that nobody was writing"),
            (f"{journal.longest('read', killed, well):.2f} s", "longest read of a chunk that was being written"),
            (str(journal.count("write")), "writes acknowledged, each applied once"),
            (str(journal.count("read") + journal.count("settled")), "reads, each held against what may be seen"),
            (f"{verdict.registers} / {verdict.files} / {verdict.pages}", "register copies / files / pages read again at the end"),
            (
                format_size(verdict.bytes),
                f"compared byte by byte; {format_size(self._resynced_bytes)} moved to bring the process back",
            ),
            (str(len(journal.failed)), "operations that failed"),
        ):
            table.add_row(value, what)
        self._console.print(table)
        if verdict.wrong or journal.failed:
            raise error(
                Code.REPLICAS_DISAGREE, f"{len(verdict.wrong)} things were wrong, {len(journal.failed)} operations failed"
            )
        self._console.print("[green]nothing was lost, nothing old was shown[/green]")


def _longest(journal: Journal, kind: str, now: int) -> float:
    """Seconds of the longest operation so far; one that is under way counts since the last one ended."""
    last = next((end for what, _, end in reversed(journal.timeline) if what == kind), now)
    return max(journal.longest(kind), (now - last) / SECOND)
