"""Ring 2 as the run command sees it: see `fs3.sim.ring.Ring`."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.units import SECOND
from fs3.sim.planting import plant
from fs3.sim.ring import Outcome, Tell
from fs3.sim.ring2.bugs import BUGS
from fs3.sim.ring2.cluster_run import run_seed, swarm_of_seed
from fs3.sim.ring2.scenes import play
from fs3.sim.ring2.service_bug import ServiceBug


class ClusterRing:
    """The real services and clients on virtual time."""

    seeds_per_piece = 10
    bugs: Mapping[str, ServiceBug] = BUGS

    def run(
        self, seed: int, bug: str = "", *, is_planted: bool = True, tell: Tell | None = None, every_step: bool = False
    ) -> Outcome:
        """One run. `every_step`: with every callback of the loop."""

        def tell_step(now: int, process: str, callback: str) -> None:
            assert tell is not None
            tell(f"{now / SECOND:12.6f} {process:<10} . {callback}")

        steps = tell_step if tell is not None and every_step else None
        if not bug:
            return run_seed(seed, tell=tell, steps=steps)
        planted = BUGS[bug]
        with plant(planted.patches if is_planted else ()):
            return run_seed(seed, tell=tell, steps=steps, swarm=planted.focus(swarm_of_seed(seed)))

    def run_arranged(self, bug: str) -> bool:
        """Plays the scene of a bug: something goes wrong with it, and nothing without it."""
        with plant(BUGS[bug].patches):
            problem = play(BUGS[bug].scene)
        return bool(problem) and not play(BUGS[bug].scene)
