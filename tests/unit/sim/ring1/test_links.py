from __future__ import annotations

from fs3.base.prng import Prng
from fs3.sim.ring1.heap import Heap
from fs3.sim.ring1.links import Links
from fs3.sim.ring1.messages import ChainRequest, Message
from fs3.sim.ring1.swarm import draw_swarm


class Ends:
    """The processes that a link leads to: one each, for ever."""

    def __init__(self, heap: Heap) -> None:
        self.heap = heap
        self.arrived: list[int] = []

    def process_of(self, node: int) -> int:
        return 0

    def deliver(self, source: int, target: int, process: int, message: Message) -> None:
        self.arrived.append(self.heap.now)


def test_links_lose_double_delay_and_heal() -> None:
    prng = Prng(3)
    swarms = [draw_swarm(prng) for _ in range(200)]
    swarm = next(swarm for swarm in swarms if swarm.loss_chance > 50 and swarm.duplicate_chance > 50)
    heap = Heap()
    ends = Ends(heap)
    arrived = ends.arrived
    links = Links(heap, Prng(1), swarm, ends)

    def send(count: int) -> int:
        arrived.clear()
        for _ in range(count):
            links.send(1, 2, ChainRequest())
        while heap.step():
            pass
        return len(arrived)

    assert send(2000) != 2000
    assert min(arrived) >= swarm.latency_min_ns
    links.cuts.add((1, 2))
    assert send(10) == 0
    links.heal()
    begun = heap.now
    assert send(500) == 500
    assert max(arrived) <= begun + swarm.latency_max_ns
