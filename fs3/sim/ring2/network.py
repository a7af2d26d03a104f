"""How the simulated network treats what hosts send each other: late, now and then very late, not at all, or not both ways.

It is the `LinkPolicy` of a `MemoryNetwork`, whose connections behave as TCP does: a frame that is held stays on its way and
arrives when the fault is over, unless an end gives the connection up before; frames of one connection never overtake. What real
networks lose, TCP repeats, so loss shows as a delay or, here, as a connection that breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.prng import Prng
from fs3.base.units import MICROSECOND
from fs3.drivers.memory.network import CUT, HOLD, MemoryNetwork
from fs3.sim.ring2.loop import SimLoop

BULK_BYTES = 4096
"""Smaller frames take the same time whatever their size, which may depend on things outside the run (a process id)."""


@dataclass(frozen=True)
class LinkOptions:
    """Times in nanoseconds, chances in parts of 1024 per frame."""

    latency_min_ns: int
    latency_max_ns: int
    tail_ns: int
    """The longest a frame of the tail takes."""
    tail_chance: int
    cut_chance: int
    """Of 65 536 frames, how many break their connection."""
    bytes_per_us: int = 1000

    def without_faults(self) -> LinkOptions:
        """The same wires without their faults."""
        return LinkOptions(self.latency_min_ns, self.latency_max_ns, 0, 0, 0, self.bytes_per_us)


class SimLinks:
    """`fs3.drivers.memory.network.LinkPolicy` drawn from a seed, with faults that can be switched on and off."""

    def __init__(self, loop: SimLoop, prng: Prng, options: LinkOptions) -> None:
        self.options = options
        self._loop = loop
        self._prng = prng
        self._blocked: dict[tuple[str, str], int] = {}
        """(source, target) -> by how many faults."""
        self._clogged: dict[tuple[str, str], int] = {}
        """(source, target) -> until when what is sent takes its time."""
        self._powered_off: dict[str, None] = {}
        """Hosts without power, whom nobody has told."""

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        way = (source, target)
        if way in self._blocked or source in self._powered_off or target in self._powered_off:
            return HOLD
        options, prng = self.options, self._prng
        if options.cut_chance and size and prng.below(65_536) < options.cut_chance:
            return CUT
        delay = prng.between(options.latency_min_ns, options.latency_max_ns)
        if options.tail_chance and prng.below(1024) < options.tail_chance:
            # Heavy: a tail of a thousand times the usual has as many around ten times.
            delay += options.tail_ns >> prng.below(10)
        if size >= BULK_BYTES:
            delay += size * MICROSECOND // options.bytes_per_us
        until = self._clogged.get(way, 0)
        if until > self._loop.now:
            delay += until - self._loop.now
        return delay

    def block(self, source: str, target: str) -> None:
        """Nothing gets from one host to another one; the other direction is another matter."""
        self._blocked[source, target] = self._blocked.get((source, target), 0) + 1

    def is_blocked(self, source: str, target: str) -> bool:
        """Nothing gets through, for now."""
        return (source, target) in self._blocked or source in self._powered_off or target in self._powered_off

    def unblock(self, source: str, target: str) -> None:
        """Take one `block` back. The network must be asked to `release` afterwards."""
        left = self._blocked.get((source, target), 0) - 1
        if left > 0:
            self._blocked[source, target] = left
        else:
            self._blocked.pop((source, target), None)

    def clog(self, source: str, target: str, for_ns: int) -> None:
        """What is sent from now on arrives when this time is over."""
        self._clogged[source, target] = max(self._clogged.get((source, target), 0), self._loop.now + for_ns)

    def power_off(self, host: str) -> None:
        """The host has no power; its peers hear nothing, not even that it is gone."""
        self._powered_off[host] = None

    def power_on(self, host: str) -> None:
        """Power is back. The network must have been told of the crash, so that what was on its way is gone."""
        self._powered_off.pop(host, None)

    def heal(self, network: MemoryNetwork) -> None:
        """No more faults, and what was held goes on."""
        self.options = self.options.without_faults()
        self._blocked.clear()
        self._clogged.clear()
        network.release()
