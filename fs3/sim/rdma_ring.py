"""The models of RDMA as the run command sees them: see `fs3.sim.ring.Ring`. A seed is one run of each."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fs3.sim import one_sided, one_sided_bugs, path_recovery, path_recovery_bugs
from fs3.sim.one_sided_bugs import OneSidedBug
from fs3.sim.planting import plant
from fs3.sim.ring import Outcome, Tell
from fs3.sim.ring2.loop import open_loop
from fs3.sim.ring2.story import Story, capture_logs


class RdmaRing:
    """One-sided transfers, and paths that die and come back."""

    seeds_per_piece = 2
    bugs: Mapping[str, OneSidedBug] = {**one_sided_bugs.BUGS, **path_recovery_bugs.BUGS}

    def run(
        self, seed: int, bug: str = "", *, is_planted: bool = True, tell: Tell | None = None, every_step: bool = False
    ) -> Outcome:
        """One run. `tell` hears what becomes of paths."""
        with plant(self.bugs[bug].patches if bug and is_planted else ()):
            transfers, failures = _run_transfers(seed)
            return _run_paths(seed, transfers, failures, tell)

    def run_arranged(self, bug: str) -> bool:
        """Nothing is arranged: seeds find every bug."""
        return False


def _run_transfers(seed: int) -> tuple[one_sided.World, list[str]]:
    world = one_sided.World(seed)
    try:
        world.run()
    except one_sided.Violation as violation:
        return world, [f"one-sided: {violation}"]
    return world, []


def _run_paths(seed: int, transfers: one_sided.World, failures: list[str], tell: Tell | None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="fs3-paths-") as directory, open_loop(seed) as loop:
        story = Story(loop, tell)
        world = path_recovery.RecoveryWorld(loop, seed, Path(directory), story)
        try:
            with capture_logs(story):
                loop.run_until_complete(world.run())
            failures += story.failures[:1] or loop.unhandled_errors[:1]
        except one_sided.Violation as violation:
            failures.append(f"paths: {violation}")
        told = (transfers.now, sorted(transfers.applied), sorted(transfers.ended), loop.now, world.by_path_at)
        return Outcome(
            seed,
            hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest(),
            failures,
            loop.steps,
            len(transfers.answered) + world.arrived,
            {"deaths": world.deaths, "by_path": len(world.by_path_at)},
        )
