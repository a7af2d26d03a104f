"""The command line of simulation ring 2.

python -m fs3.sim.ring2 --seeds 100 [--base N] [--jobs N]    fresh seeds; ends with 1 when one fails
python -m fs3.sim.ring2 --seed X [--trace | --steps]         one seed, as a story or with every callback
python -m fs3.sim.ring2 --seeds 100 --bug NAME               with a planted bug: how often it is found
python -m fs3.sim.ring2 --bugs                               every planted bug: how soon it is found, as a table
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from fs3.base.units import SECOND
from fs3.sim.ring2.bugs import BUGS, ServiceBug, plant
from fs3.sim.ring2.cluster_run import ClusterOutcome, run_seed, swarm_of_seed
from fs3.sim.ring2.scenes import play

failures_shown_max = 10
lines_shown = 40
"""Of the story of a seed that failed, when nobody asked for all of it."""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _bug(name: str) -> ServiceBug | None:
    if name and name not in BUGS:
        raise SystemExit(f"no bug is called {name!r}; there are {', '.join(sorted(BUGS))}")
    return BUGS[name] if name else None


def run_seed_with_bug(
    seed: int,
    bug: ServiceBug | None,
    *,
    tell: Callable[[str], None] | None = None,
    steps: Callable[[int, str, str], None] | None = None,
) -> ClusterOutcome:
    """One seed, with a planted bug in the kind of trouble it shows in."""
    swarm = bug.focus(swarm_of_seed(seed)) if bug is not None else None
    with plant(bug):
        return run_seed(seed, tell=tell, steps=steps, swarm=swarm)


def _run_range(first: int, count: int, bug: str) -> list[ClusterOutcome]:
    return [run_seed_with_bug(seed, _bug(bug)) for seed in range(first, first + count)]


def _outcomes(base: int, count: int, bug: str, jobs: int) -> Iterator[ClusterOutcome]:
    """The outcomes of many seeds, in order."""
    if jobs == 1:
        for seed in range(base, base + count):
            yield from _run_range(seed, 1, bug)
        return
    step = 10
    pieces = [(first, min(step, base + count - first)) for first in range(base, base + count, step)]
    with ProcessPoolExecutor(jobs) as pool:
        for running in [pool.submit(_run_range, first, size, bug) for first, size in pieces]:
            yield from running.result()


def run_many(base: int, count: int, bug: str, jobs: int) -> int:
    """Runs `count` seeds from `base` and says what came of them. 0: all were clean."""
    began = time.perf_counter()
    failed = operations = virtual = steps = seeds = 0
    for outcome in _outcomes(base, count, bug, jobs):
        seeds += 1
        operations += outcome.operations
        virtual += outcome.virtual_ns
        steps += outcome.steps
        if not outcome.is_clean:
            failed += 1
            if failed <= failures_shown_max:
                _say(f"seed {outcome.seed}: {outcome.failures[0].splitlines()[0]}")
    took = time.perf_counter() - began
    _say(
        f"{seeds} seeds from {base}, {failed} failed, {operations} operations, {virtual // SECOND} s of virtual time, "
        f"{seeds / took:.1f} seeds/s, {steps / took / 1000:.0f}k steps/s"
    )
    return 1 if failed else 0


def find_catcher(name: str) -> str:
    """What notices a planted bug and has nothing to say without it; "" when nothing does within the bug's budget."""
    bug = BUGS[name]
    if bug.scene:
        with plant(bug):
            problem = play(bug.scene)
        return f"scene `{bug.scene}`" if problem and not play(bug.scene) else ""
    for seed in range(bug.seeds):
        outcome = run_seed_with_bug(seed, bug)
        if not outcome.is_clean and run_seed_with_bug(seed, replace(bug, patches=())).is_clean:
            return f"seed {seed} of {bug.seeds}: `{outcome.failures[0].partition(':')[0]}`"
    return ""


def run_bugs() -> int:
    """Looks for every planted bug. 0: all were found."""
    _say("| planted bug | what it does | caught by |")
    _say("|---|---|---|")
    missed = 0
    for name, bug in BUGS.items():
        by = find_catcher(name)
        missed += not by
        _say(f"| `{name}` | {bug.what} | {by or 'nothing'} |")
    return 1 if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fs3.sim.ring2", description="The real services on virtual time.")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--base", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell what happens")
    parser.add_argument("--steps", action="store_true", help="with --seed: every callback of the loop")
    parser.add_argument("--bug", default="", help="plant a bug")
    parser.add_argument("--bugs", action="store_true", help="look for every planted bug")
    options = parser.parse_args(arguments)
    if options.bugs:
        return run_bugs()
    if options.seed is None:
        return run_many(options.base, options.seeds, options.bug, options.jobs)

    def step(now: int, process: str, callback: str) -> None:
        _say(f"{now / SECOND:12.6f} {process:<10} . {callback}")

    told = options.trace or options.steps
    outcome = run_seed_with_bug(
        options.seed, _bug(options.bug), tell=_say if told else None, steps=step if options.steps else None
    )
    if not outcome.is_clean and not told:
        for line in outcome.story[-lines_shown:]:
            _say(line)
    for failure in outcome.failures:
        _say(f"FAILED {failure}")
    _say(
        f"seed {outcome.seed} fingerprint {outcome.fingerprint:016x} steps {outcome.steps} operations {outcome.operations} "
        f"acknowledged {outcome.acknowledged} virtual {outcome.virtual_ns / SECOND:.1f} s"
    )
    return 0 if outcome.is_clean else 1
