"""The simulated network: every message has its own delay, may be lost or come twice, and links may be cut one way.

What is on its way to a process is gone when that process dies, as with any connection; what it has sent still arrives.
"""

from __future__ import annotations

from typing import Protocol

from fs3.base.prng import Prng
from fs3.sim.ring1.heap import Heap
from fs3.sim.ring1.messages import Message
from fs3.sim.ring1.swarm import ChainSwarm


class LinkEnds(Protocol):
    """The processes that messages go to."""

    def process_of(self, node: int) -> int:
        """Which process of a node is there now."""
        ...

    def deliver(self, source: int, target: int, process: int, message: Message) -> None:
        """A message arrives that was sent to this process of the target."""
        ...


class Links:
    """All links between all nodes."""

    def __init__(self, heap: Heap, prng: Prng, swarm: ChainSwarm, ends: LinkEnds) -> None:
        self._heap = heap
        self._prng = prng
        self._swarm = swarm
        self._ends = ends
        self._is_healed = False
        self.cuts: set[tuple[int, int]] = set()
        """(source, target): nothing passes in this direction."""

    def heal(self) -> None:
        """From now on nothing is lost, doubled, cut or very late."""
        self._is_healed = True
        self.cuts.clear()

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        bits = self._prng.next()
        process = self._ends.process_of(target)
        if self._is_healed:
            self._heap.after(self._delay(bits, tail=False), self._ends.deliver, source, target, process, message)
            return
        swarm = self._swarm
        if (source, target) in self.cuts or bits & 1023 < swarm.loss_chance:
            return
        self._heap.after(
            self._delay(bits, bits >> 20 & 1023 < swarm.tail_chance), self._ends.deliver, source, target, process, message
        )
        if bits >> 10 & 1023 < swarm.duplicate_chance:
            again = self._prng.next()
            delay = self._delay(again, again & 1)
            self._heap.after(delay, self._ends.deliver, source, target, process, message)

    def _delay(self, bits: int, tail: bool | int) -> int:
        swarm = self._swarm
        span = swarm.latency_tail_ns if tail else swarm.latency_max_ns - swarm.latency_min_ns
        return swarm.latency_min_ns + ((bits >> 32) * span >> 32)
