"""Many seeds, one after the other or in several processes; and what a journal remembers of a long run that is interrupted."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from fs3.base.checksum import crc32c
from fs3.sim.ring import Outcome, Ring, Tell
from fs3.sim.ring1.ring import ChainRing

failures_shown_max = 10
pieces_ahead_per_job = 4
"""Pieces that wait for a process: enough to keep it busy, few enough to stop soon."""

RINGS = ("ring0", "ring1", "ring2", "rdma")


@cache
def load_ring(name: str) -> Ring:
    """A ring by its name. ValueError when there is none."""
    if name == "ring0":
        from fs3.sim.ring0.ring import DiskRing  # with the store on files comes LMDB

        return DiskRing()
    if name == "ring1":
        return ChainRing()
    if name == "ring2":
        from fs3.sim.ring2.ring import ClusterRing  # all services come with it: ring 1 does not wait for them

        return ClusterRing()
    if name == "rdma":
        from fs3.sim.rdma_ring import RdmaRing

        return RdmaRing()
    raise ValueError(f"no ring is called {name!r}; there are {', '.join(RINGS)}")


@dataclass(frozen=True, slots=True)
class Piece:
    """Seeds that are run in one go."""

    ring: str
    bug: str
    first: int
    count: int


class SeedJournal:
    """Which pieces were clean, one line each, so that a run which was interrupted goes on where it was.

    A piece counts for the code it ran with only: the lines of any other code are left alone, and their seeds are run again.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there. ValueError naming the line when the file is no journal."""
        self._path = path
        self._code = digest_code()
        self._clean: dict[Piece, int] = {}
        """Clean piece -> operations of its runs."""
        self.stale = 0
        """Pieces that were clean with other code."""
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
            try:
                entry = json.loads(line)
                piece = Piece(entry["ring"], entry["bug"], entry["first"], entry["count"])
                code, operations = str(entry["code"]), int(entry["operations"])
            except (ValueError, KeyError, TypeError) as wrong:
                raise ValueError(f"{path}, line {number}: not of a journal of seeds: {line[:80]!r}") from wrong
            if code == self._code:
                self._clean[piece] = operations
            else:
                self.stale += 1

    def operations_of(self, piece: Piece) -> int | None:
        """Operations of a piece that was clean; None: it is still to be run."""
        return self._clean.get(piece)

    def add(self, piece: Piece, operations: int) -> None:
        """A piece was clean."""
        self._clean[piece] = operations
        entry = {"ring": piece.ring, "bug": piece.bug, "first": piece.first, "count": piece.count}
        with self._path.open("a") as file:
            file.write(json.dumps({**entry, "operations": operations, "code": self._code}) + "\n")


@cache
def digest_code() -> str:
    """A digest of all of fs3's code: a seed is one run only as long as it is the same."""
    package = Path(__file__).parents[1]
    digest = 0
    for path in sorted(package.rglob("*.py")):
        digest = crc32c(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes(), digest)
    return f"{digest:08x}"


@dataclass
class Tally:
    """What came of many seeds."""

    seeds: int = 0
    remembered: int = 0
    """Of them: not run, because the journal says that they were clean."""
    failed: list[int] = field(default_factory=list)
    """Seeds, in order."""
    operations: int = 0
    steps: int = 0
    figures: dict[str, int] = field(default_factory=dict)
    was_interrupted: bool = False

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.seeds += 1
        self.operations += outcome.operations
        self.steps += outcome.steps
        for name, value in outcome.figures.items():
            self.figures[name] = self.figures.get(name, 0) + value
        if not outcome.is_clean:
            self.failed.append(outcome.seed)


def split_seeds(ring: str, bug: str, base: int, count: int) -> list[Piece]:
    """The pieces of a range of seeds, in order. They begin at multiples of their size, so that overlapping ranges share them."""
    size = load_ring(ring).seeds_per_piece
    bounds = [base, *range((base // size + 1) * size, base + count, size), base + count]
    return [Piece(ring, bug, first, after - first) for first, after in pairwise(bounds) if after > first]


def run_seeds(
    ring: str, base: int, count: int, say: Tell, *, bug: str = "", jobs: int = 1, journal: SeedJournal | None = None
) -> Tally:
    """Runs `count` seeds from `base` and says what came of them. Ctrl-C ends it early: what came of the seeds so far is said."""
    began = time.perf_counter()
    tally = Tally()
    todo: list[Piece] = []
    for piece in split_seeds(ring, bug, base, count):
        operations = journal.operations_of(piece) if journal is not None else None
        if operations is None:
            todo.append(piece)
        else:
            tally.seeds += piece.count
            tally.remembered += piece.count
            tally.operations += operations
    if journal is not None and journal.stale:
        say(f"{journal.stale} pieces in the journal were clean with other code, and do not count")
    try:
        for piece, outcomes in _run_pieces(todo, jobs):
            for outcome in outcomes:
                tally.add(outcome)
                if not outcome.is_clean and len(tally.failed) <= failures_shown_max:
                    say(f"seed {outcome.seed}: {outcome.failures[0].splitlines()[0]}")
                    say(f"    {replay_command(ring, outcome.seed, bug)}")
            if journal is not None and all(outcome.is_clean for outcome in outcomes):
                journal.add(piece, sum(outcome.operations for outcome in outcomes))
    except KeyboardInterrupt:
        tally.was_interrupted = True
    took = time.perf_counter() - began
    ran = tally.seeds - tally.remembered
    parts = [f"{tally.seeds} seeds from {base}, {len(tally.failed)} failed, {tally.operations} operations"]
    parts += [f"{value} {name}" for name, value in tally.figures.items()]
    parts += [f"{tally.remembered} of them remembered"] if tally.remembered else []
    parts += [f"{ran / took:.1f} seeds/s, {tally.steps / took / 1000:.0f}k steps/s"] if ran else []
    say(f"{ring}: {', '.join(parts)}")
    if tally.was_interrupted:
        say(f"interrupted with {count - tally.seeds} seeds to go" + ("; the same command goes on" if journal is not None else ""))
    return tally


def replay_command(ring: str, seed: int, bug: str = "") -> str:
    """What shows a run again, with everything that happens."""
    return f"python -m fs3.sim {ring} replay --seed {seed} --trace" + (f" --bug {bug}" if bug else "")


def _run_piece(piece: Piece) -> list[Outcome]:
    ring = load_ring(piece.ring)
    return [ring.run(seed, piece.bug) for seed in range(piece.first, piece.first + piece.count)]


def _run_pieces(pieces: list[Piece], jobs: int) -> Iterator[tuple[Piece, list[Outcome]]]:
    """The outcomes of the pieces, in order."""
    if jobs == 1:
        for piece in pieces:
            yield piece, _run_piece(piece)
        return
    running: deque[tuple[Piece, Future[list[Outcome]]]] = deque()
    waiting = deque(pieces)
    pool = ProcessPoolExecutor(jobs)
    try:
        while waiting or running:
            while waiting and len(running) < pieces_ahead_per_job * jobs:
                running.append((waiting[0], pool.submit(_run_piece, waiting.popleft())))
            piece, outcomes = running.popleft()
            yield piece, outcomes.result()
    finally:
        pool.shutdown(cancel_futures=True)
