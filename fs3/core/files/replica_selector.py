"""Which serving replica a read goes to.

Every serving replica can answer; the cheapest one is chosen. Cost is what this client already waits for from the node, in bytes,
so a slow node gets less; a node on another host costs a little more; a node that just failed costs a lot for a while. Each client
has a favourite place in every chain, another one for another client, and leaves it only for a replica that is cheaper by
`LOYALTY_BYTES`: reads that follow each other find a process that is awake and a cache that is warm, and many at a time spread.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fs3.base.ids import NodeId
from fs3.base.limits import suspect_ns
from fs3.base.units import KIB
from fs3.model.chain import Chain
from fs3.model.routing import Routing

OTHER_HOST_BYTES = 512 * KIB
"""How much more may wait for a replica on this host before another host is preferred."""
LOYALTY_BYTES = 256 * KIB
"""How much more may wait for the favourite replica before another is preferred. Less than being on this host is worth."""
SUSPECT_BYTES = 1 << 50
"""A node that did not answer is asked only when no other has the data, until it answers something or `suspect_ns` have passed."""


class Candidates(msgspec.Struct, frozen=True):
    """Who can serve reads of one chain, in chain order; the last one is the tail."""

    version: int
    """Of the chain; travels with every request."""
    nodes: tuple[NodeId, ...]
    penalties: tuple[int, ...]
    """Bytes added to the cost of each."""


def candidates(chain: Chain, routing: Routing, host: str) -> Candidates:
    """The serving replicas of a chain as this client sees them; dead ones count as suspects. Empty while nobody serves."""
    nodes = []
    penalties = []
    for slot in chain.serving_slots():
        node = routing.nodes.get(slot.node)
        if node is None:
            continue
        nodes.append(slot.node)
        near = bool(host) and node.host == host
        penalties.append((0 if near else OTHER_HOST_BYTES) + (0 if node.alive else SUSPECT_BYTES))
    return Candidates(chain.version, tuple(nodes), tuple(penalties))


class ReplicaSelector:
    """What one client waits for, and who gets its next read."""

    def __init__(self, seed: int) -> None:
        self._favourite = seed
        self._outstanding: dict[NodeId, int] = {}
        self._suspect_until: dict[NodeId, int] = {}

    def pick(self, among: Candidates, now: int, exclude: Iterable[NodeId] = ()) -> NodeId | None:
        """The node to ask; None when every candidate is excluded. `now` is monotonic nanoseconds."""
        nodes = among.nodes
        count = len(nodes)
        if count == 0:
            return None
        best: NodeId | None = None
        best_cost = 0
        favourite = self._favourite % count
        for step in range(count):
            place = (favourite + step) % count
            node = nodes[place]
            if node in exclude:
                continue
            cost = self._outstanding.get(node, 0) + among.penalties[place]
            if self._suspect_until and self._suspect_until.get(node, 0) > now:
                cost += SUSPECT_BYTES
            if step == 0:
                if not cost:
                    return node
                cost -= LOYALTY_BYTES
            if best is None or cost < best_cost:
                best, best_cost = node, cost
        return best

    def on_sent(self, node: NodeId, count: int) -> None:
        """A request for `count` bytes is under way."""
        self._outstanding[node] = self._outstanding.get(node, 0) + count

    def on_answered(self, node: NodeId, count: int) -> None:
        """It was answered, well or badly."""
        left = self._outstanding.get(node, 0) - count
        if left > 0:
            self._outstanding[node] = left
        else:
            self._outstanding.pop(node, None)

    def is_waited_for(self, node: NodeId) -> bool:
        """A request to this node is under way."""
        return node in self._outstanding

    def on_failed(self, node: NodeId, now: int) -> None:
        """The node did not answer."""
        self._suspect_until[node] = now + suspect_ns

    def is_suspect(self, node: NodeId, now: int) -> bool:
        """The node did not answer a while ago, and nothing since."""
        return self._suspect_until.get(node, 0) > now

    def on_succeeded(self, node: NodeId) -> None:
        """The node answered."""
        if self._suspect_until:
            self._suspect_until.pop(node, None)
