"""Runs simulation ring 1 from the command line.

python -m fs3.sim.run --seeds 1000 [--base N] [--jobs N]     fresh seeds; stops with 1 when one fails
python -m fs3.sim.run --seed 42 [--trace]                    one seed, with everything that happens
python -m fs3.sim.run --seeds 600 --bug no_lease             with a planted bug: how soon it is found
python -m fs3.sim.run --bugs [--base N]                      every planted bug: how many seeds each takes, as a table
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from fs3.sim.ring1.bugs import BUGS, first_caught
from fs3.sim.ring1.run import run_seed
from fs3.sim.ring1.target_host import Parts
from fs3.sim.ring1.verdict import ChainOutcome

failures_shown_max = 10


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _run_range(first: int, count: int, bug: str) -> list[ChainOutcome]:
    parts = BUGS[bug].parts if bug else Parts()
    return [run_seed(seed, parts) for seed in range(first, first + count)]


def _outcomes(base: int, count: int, bug: str, jobs: int) -> Iterator[ChainOutcome]:
    """The outcomes of many seeds, in order."""
    step = 50
    pieces = [(first, min(step, base + count - first)) for first in range(base, base + count, step)]
    if jobs == 1:
        for first, size in pieces:
            yield from _run_range(first, size, bug)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for running in [pool.submit(_run_range, first, size, bug) for first, size in pieces]:
            yield from running.result()


def run_many(base: int, count: int, bug: str, jobs: int) -> int:
    """Runs `count` seeds from `base` and says what came of them. 0: all were clean."""
    began = time.perf_counter()
    failed = operations = seeds = 0
    for outcome in _outcomes(base, count, bug, jobs):
        seeds += 1
        operations += outcome.operations
        if not outcome.is_clean:
            failed += 1
            if failed <= failures_shown_max:
                _say(f"seed {outcome.seed}: {outcome.failures[0]}")
    took = time.perf_counter() - began
    _say(f"{seeds} seeds from {base}, {failed} failed, {operations} operations, {seeds / took:.0f} seeds/s")
    return 1 if failed else 0


def _caught(seed: int, parts: Parts) -> bool:
    return not run_seed(seed, parts).is_clean


def run_bugs(base: int, only: str = "") -> int:
    """How many seeds from `base` it takes to find each planted bug that seeds are to find. 0: all were within their budgets."""
    missed = 0
    _say("| planted bug | seeds needed | budget |")
    _say("|---|---|---|")
    for name, bug in BUGS.items():
        if bug.seeds and only in ("", name):
            found = first_caught(bug, _caught, base)
            missed += found is None
            _say(f"| `{name}` | {found if found is not None else 'not found'} | {bug.seeds} |")
    return 1 if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fs3.sim.run", description="Simulated chains with crashes and bad networks.")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--base", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: say everything that happens")
    parser.add_argument("--bugs", action="store_true", help="plant all bugs, one after the other")
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="plant a bug")
    options = parser.parse_args(arguments)
    if options.bugs:
        return run_bugs(options.base, options.bug)
    if options.seed is None:
        return run_many(options.base, options.seeds, options.bug, options.jobs)
    parts = BUGS[options.bug].parts if options.bug else Parts()
    outcome = run_seed(options.seed, parts, _say if options.trace else None)
    for failure in outcome.failures:
        _say(f"FAILED {failure}")
    _say(
        f"seed {outcome.seed} fingerprint {outcome.fingerprint} steps {outcome.steps} operations {outcome.operations} "
        f"chain versions {outcome.chain_versions}"
    )
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
