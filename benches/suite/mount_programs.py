"""Programs on a mount, beside the same programs on local files: `git clone`, `tar`, sqlite with a rollback journal.

What is closed on the mount is durable, and so is every name. So the limit is the local file system where each file and directory
is synced after the program (sqlite syncs by itself); what it takes without is shown beside it.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benches.record import Peer, Row, Spread
from benches.suite.mount import DEVICE, Figures, mounted

if TYPE_CHECKING:
    from benches.run import Context

FILES = 400
FILES_PER_DIRECTORY = 20
FILE_BYTES = (200, 16_000)
TRANSACTIONS = 100
RUNS_MAX = 3
MUST_RATIO = 10
"""Of the time on local files with the same syncs, not to exceed."""

Work = Callable[[Path], object]


def measure(context: Context) -> list[Row]:
    """The rows; none where there is no FUSE, and none for programs that are not installed."""
    if not DEVICE.exists():
        context.console.print(f"no {DEVICE}: programs on the mount are not measured")
        return []
    home = context.directory / "mount-programs"
    source = home / "source"
    make_files(source, context.sized(FILES, 4))
    programs: dict[str, Work] = {}
    if shutil.which("tar"):
        archive = home / "source.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(source, "tree")
        programs["untar"] = lambda target: _run("tar", "-C", target, "-xf", archive)
    if shutil.which("git"):
        repository = make_repository(source)
        programs["git clone"] = lambda target: _run("git", "clone", "-q", "--no-hardlinks", repository, target / "clone")
    transactions = context.sized(TRANSACTIONS, 2)
    programs["sqlite journal"] = lambda target: run_sqlite(target / "data.sqlite", transactions)
    figures: Figures = defaultdict(list)
    with mounted(context.cluster.url, context.directory / "mount-of-programs") as root:
        for turn in context.turns(RUNS_MAX):
            for name, work in programs.items():
                slug = f"{name.replace(' ', '-')}-{turn}"
                figures[f"{name} mount"].append(_seconds(work, root / slug))
                local = home / slug
                figures[f"{name} local"].append(_seconds(work, local))
                began = time.perf_counter()
                if not name.startswith("sqlite"):
                    sync_tree(local)
                figures[f"{name} synced"].append(figures[f"{name} local"][-1] + time.perf_counter() - began)
    return [_row(name, figures, _sizes(name, context)) for name in programs]


def make_files(top: Path, count: int) -> None:
    """Small files in directories, as those of a source tree are."""
    for index in range(count):
        path = top / f"part-{index // FILES_PER_DIRECTORY}" / f"file-{index}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(random.randint(*FILE_BYTES)))


def make_repository(top: Path) -> Path:
    """A repository of the files below a directory, with one commit."""
    _run("git", "init", "-q", top)
    _run("git", "-C", top, "add", ".")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    _run("git", "-C", top, *who, "commit", "-q", "-m", "all of it")
    return top


def run_sqlite(path: Path, transactions: int) -> None:
    """So many transactions with a rollback journal, each synced."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("pragma journal_mode = delete")
        database.execute("pragma synchronous = full")
        database.execute("create table rows (number integer primary key, text text)")
        for number in range(transactions):
            database.execute("insert into rows values (?, ?)", (number, "x" * 100))
    finally:
        database.close()


def sync_tree(top: Path) -> None:
    """fsync(2) of every file and every directory below one."""
    for directory, _, names in os.walk(top):
        for name in (*names, "."):
            fd = os.open(Path(directory, name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _seconds(work: Work, target: Path) -> float:
    target.mkdir(parents=True)
    began = time.perf_counter()
    work(target)
    return time.perf_counter() - began


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, timeout=600, stdout=subprocess.DEVNULL)


def _sizes(name: str, context: Context) -> str:
    if name.startswith("sqlite"):
        return f"{name}, {context.sized(TRANSACTIONS, 2)} transactions"
    return f"{name} of {context.sized(FILES, 4)} files"


def _row(name: str, figures: Figures, figure: str) -> Row:
    of_mount, synced, local = (Spread.of(figures[f"{name} {where}"]) for where in ("mount", "synced", "local"))
    peers = [] if name.startswith("sqlite") else [Peer("s local, not synced", local)]
    return Row(
        "mount_programs", figure, "s", of_mount, "s local, synced", synced,
        must_ratio=MUST_RATIO, lower_is_better=True, peers=peers,
    )  # fmt: skip
