"""Ring 0 as the run command sees it: see `fs3.sim.ring.Ring`."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.sim.planting import plant
from fs3.sim.ring import Outcome, Tell
from fs3.sim.ring0.bugs import BUGS, StoreBug
from fs3.sim.ring0.run import run_seed


class DiskRing:
    """The chunk store on files, on a disk that loses power."""

    seeds_per_piece = 1
    bugs: Mapping[str, StoreBug] = BUGS

    def run(
        self, seed: int, bug: str = "", *, is_planted: bool = True, tell: Tell | None = None, every_step: bool = False
    ) -> Outcome:
        """One run. `tell` hears of every image in any case."""
        with plant(BUGS[bug].patches if bug and is_planted else ()):
            return run_seed(seed, tell)

    def run_arranged(self, bug: str) -> bool:
        """Nothing is arranged: seeds find every bug."""
        return False
