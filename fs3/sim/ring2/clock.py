"""The clocks of simulated hosts: each started at another time, and none runs quite right."""

from __future__ import annotations

from fs3.base.prng import Prng
from fs3.base.units import SECOND
from fs3.sim.ring2.loop import SimLoop

PARTS_PER_MILLION = 1_000_000
EPOCH_NS = 1_700_000_000 * SECOND
"""Wall time at the beginning of every run."""


class SimClock:
    """`fs3.ports.clock.Clock` of one host on virtual time."""

    def __init__(self, loop: SimLoop, offset_ns: int = 0, drift_ppm: int = 0, wall_offset_ns: int = 0) -> None:
        """`offset_ns`: what it shows at the beginning. `drift_ppm`: how much too fast it runs. `wall_offset_ns`: how wrong the
        wall time is."""
        self._loop = loop
        self._offset_ns = offset_ns
        self._drift_ppm = drift_ppm
        self._wall_offset_ns = wall_offset_ns

    def now(self) -> int:
        """Monotonic nanoseconds, of this host only."""
        now = self._loop.now
        return self._offset_ns + now + now * self._drift_ppm // PARTS_PER_MILLION

    def wall(self) -> int:
        """Nanoseconds since the epoch, as this host believes."""
        return EPOCH_NS + self._wall_offset_ns + self._loop.now

    def jump_wall(self, by_ns: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_offset_ns += by_ns


def draw_clock(loop: SimLoop, prng: Prng, drift_ppm_max: int, wall_offset_ns_max: int) -> SimClock:
    """The clock of a host: started at any time, as fast and as wrong as it may be."""
    return SimClock(
        loop,
        prng.between(SECOND, 1_000_000 * SECOND),
        prng.between(-drift_ppm_max, drift_ppm_max),
        prng.between(-wall_offset_ns_max, wall_offset_ns_max),
    )
