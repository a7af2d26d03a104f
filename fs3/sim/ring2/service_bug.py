"""What a planted bug of ring 2 is: `bugs` has them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fs3.sim.planting import Patch
from fs3.sim.ring2.swarm import ClusterSwarm


@dataclass(frozen=True)
class ServiceBug:
    """One planted bug."""

    what: str
    patches: Sequence[Patch]
    seeds: int = 0
    """Within so many seeds it must be found."""
    scene: str = ""
    """When seeds are slow to find it: the scene that goes wrong (`fs3.sim.ring2.scenes`)."""
    focus: Callable[[ClusterSwarm], ClusterSwarm] = lambda swarm: swarm
    """The kind of trouble it shows in, so that a budget need not be thousands: what else a seed draws stays."""

    @property
    def arranged(self) -> str:
        """The scene, as documents name it; "" without one."""
        return f"scene `{self.scene}`" if self.scene else ""
