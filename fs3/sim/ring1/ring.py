"""Ring 1 as the run command sees it: see `fs3.sim.ring.Ring`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fs3.base.prng import Prng
from fs3.sim.ring import Outcome, Tell
from fs3.sim.ring1.bugs import BUGS, ProtocolBug
from fs3.sim.ring1.run import run_seed
from fs3.sim.ring1.scenario import play
from fs3.sim.ring1.swarm import draw_swarm
from fs3.sim.ring1.target_host import Parts

SCENARIOS = Path(__file__).parents[3] / "tests" / "scenarios"


class ChainRing:
    """The replication machines on an event heap."""

    seeds_per_piece = 50
    bugs: Mapping[str, ProtocolBug] = BUGS

    def run(
        self, seed: int, bug: str = "", *, is_planted: bool = True, tell: Tell | None = None, every_step: bool = False
    ) -> Outcome:
        """One run. `tell` hears every step in any case."""
        planted = BUGS[bug] if bug else None
        swarm = planted.focus(draw_swarm(Prng(seed))) if planted is not None and planted.focus is not None else None
        return run_seed(seed, planted.parts if planted is not None and is_planted else Parts(), tell, swarm)

    def run_arranged(self, bug: str) -> bool:
        """Plays the scenario of a bug: with the bug it must go another way, or break an invariant. FileNotFoundError where the
        project's scenarios are not."""
        text = (SCENARIOS / f"{BUGS[bug].scenario}.txt").read_text()
        if play(text) != text:
            return False
        try:
            return play(text, BUGS[bug].parts) != text
        except AssertionError:
            return True
