"""The command line of the simulation. RING is ring0 (the store on files, on a disk that loses power), ring1 (protocol machines
on a heap of events), ring2 (real services) or rdma (one-sided transfers, and paths that die and come back).

python -m fs3.sim RING run --seeds 1000 [--base N] [--jobs N]   many seeds; ends with 1 when one fails
python -m fs3.sim RING run --seeds 100000 --journal FILE        a long run, which goes on where it was when it is started again
python -m fs3.sim RING run --seeds 600 --bug NAME               with a planted bug: how often it is found
python -m fs3.sim RING replay --seed 42 [--trace] [--bug NAME]  one seed, with everything that happens
python -m fs3.sim RING bugs [--only NAME] [--base N]            every planted bug: how soon it is found, as a table
python -m fs3.sim ring1 scenario [--rewrite] FILES              scripted runs and the traces they must produce
python -m fs3.sim fresh [--base N] [--jobs N]                   fresh seeds of all rings, others every day
python -m fs3.sim tables [--write] [FILES]                      tables in documents that are made from the code
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from fs3.sim import tables
from fs3.sim.ring import Ring, find_catcher
from fs3.sim.ring1 import scenario
from fs3.sim.seed_runs import RINGS, SeedJournal, load_ring, replay_command, run_seeds

lines_shown = 40
"""The last lines of a run that failed, when its trace was not asked for."""

FRESH_SEEDS = {"ring0": 4, "ring1": 200, "ring2": 40, "rdma": 20}
"""A few seconds of each ring."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: everything is as it must be; 1: something failed or differs; 130: interrupted."""
    options = make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def make_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m fs3.sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rings = parser.add_subparsers(required=True, metavar="VERB")
    for name in RINGS:
        verbs = rings.add_parser(name, help=f"seeds of {name}").add_subparsers(required=True, metavar="VERB")
        run = verbs.add_parser("run", help="many seeds")
        run.add_argument("--seeds", type=int, default=100, help="how many")
        run.add_argument("--base", type=int, default=0, help="the first of them")
        run.add_argument("--jobs", type=int, default=1, help="processes")
        run.add_argument("--bug", default="", help="plant a bug")
        run.add_argument("--journal", type=Path, help="remembers which seeds were clean; they are not run again")
        run.set_defaults(run=_run, ring=name)
        replay = verbs.add_parser("replay", help="one seed")
        replay.add_argument("--seed", type=int, required=True)
        replay.add_argument("--trace", action="store_true", help="tell what happens")
        replay.add_argument("--steps", action="store_true", help="… with every callback of the loop (ring 2)")
        replay.add_argument("--bug", default="", help="plant a bug")
        replay.set_defaults(run=_replay, ring=name)
        bugs = verbs.add_parser("bugs", help="look for planted bugs")
        bugs.add_argument("--only", default="", help="for this one")
        bugs.add_argument("--base", type=int, default=0, help="where to count seeds from")
        bugs.set_defaults(run=_bugs, ring=name)
        if name == "ring1":
            scenarios = verbs.add_parser("scenario", help="play scenario files")
            scenarios.add_argument("--rewrite", action="store_true", help="write what happens now in place of what was expected")
            scenarios.add_argument("files", nargs="+", type=Path)
            scenarios.set_defaults(run=_scenario)
    fresh = rings.add_parser("fresh", help="fresh seeds of all rings")
    fresh.add_argument("--base", type=int, help="the first of them; else FS3_SEED_BASE, else one of today")
    fresh.add_argument("--jobs", type=int, default=1, help="processes")
    fresh.set_defaults(run=_fresh)
    documents = rings.add_parser("tables", help="tables in documents that are made from the code")
    documents.add_argument("--write", action="store_true", help="write the tables anew")
    documents.add_argument("files", nargs="*", type=Path, help="else all documents of the project")
    documents.set_defaults(run=_tables)
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _ring_with(name: str, bug: str) -> Ring:
    """A ring that has this bug, unless it is "". SystemExit naming the bugs there are."""
    ring = load_ring(name)
    if bug and bug not in ring.bugs:
        raise SystemExit(f"no bug is called {bug!r}; there are {', '.join(sorted(ring.bugs))}")
    return ring


def _run(options: argparse.Namespace) -> int:
    _ring_with(options.ring, options.bug)
    journal = SeedJournal(options.journal) if options.journal is not None else None
    tally = run_seeds(options.ring, options.base, options.seeds, _say, bug=options.bug, jobs=options.jobs, journal=journal)
    return 1 if tally.failed else 130 if tally.was_interrupted else 0


def _replay(options: argparse.Namespace) -> int:
    ring = _ring_with(options.ring, options.bug)
    is_told = options.trace or options.steps
    outcome = ring.run(options.seed, options.bug, tell=_say if is_told else None, every_step=options.steps)
    if not outcome.is_clean and not is_told:
        last: deque[str] = deque(maxlen=lines_shown)
        ring.run(options.seed, options.bug, tell=last.append)
        for line in last:
            _say(line)
    for failure in outcome.failures:
        _say(f"FAILED {failure}")
    _say(outcome.describe())
    return 0 if outcome.is_clean else 1


def _bugs(options: argparse.Namespace) -> int:
    ring = _ring_with(options.ring, options.only)
    missed = 0
    _say("| planted bug | what it does | caught by |")
    _say("|---|---|---|")
    for name in [options.only] if options.only else list(ring.bugs):
        catcher = find_catcher(ring, name, options.base)
        missed += not catcher
        _say(f"| `{name}` | {ring.bugs[name].what} | {catcher or 'nothing'} |")
    return 1 if missed else 0


def _fresh(options: argparse.Namespace) -> int:
    # Every day has its own seeds; what replays them is said, and does so anywhere.
    base = options.base
    if base is None:
        base = int(os.environ.get("FS3_SEED_BASE", int(time.time()) // 86_400 * 1_000_000))
    _say(f"fresh seeds from {base}; again: python -m fs3.sim fresh --base {base}")
    result = 0
    for ring, seeds in FRESH_SEEDS.items():
        tally = run_seeds(ring, base, seeds, _say, jobs=options.jobs)
        if tally.failed:
            result = 1
            _say(f"FAILED {ring}: {len(tally.failed)} of {seeds} seeds; e.g. {replay_command(ring, tally.failed[0])}")
        if tally.was_interrupted:
            return 130
    return result


def _scenario(options: argparse.Namespace) -> int:
    return _renew(options.files, scenario.play, write=options.rewrite)


def _tables(options: argparse.Namespace) -> int:
    return _renew(options.files or tables.list_documents(), tables.rewrite_tables, write=options.write)


def _renew(files: Sequence[Path], make: Callable[[str], str], *, write: bool) -> int:
    """Compares files with what they should be, or makes them so. 0: they are."""
    differ = 0
    for path in files:
        text = path.read_text()
        now = make(text)
        if now != text:
            differ += 1
            if write:
                path.write_text(now)
            _say(f"{path}: {'rewritten' if write else 'differs'}")
    return 1 if differ and not write else 0
