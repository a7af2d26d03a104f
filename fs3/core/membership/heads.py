"""Heads spread evenly over nodes again, after those that left came back at the ends of their chains.

Intuition: the head of a chain changes only when it leaves, so after failures heads gather on the nodes that stayed. A head that
leaves for a moment and comes back is at the end, and nothing has to be copied but what was written meanwhile.

Algorithm: when no chain has changed for `calm_ns`, a chain is looked for whose head is on a node with many heads, and another
target on one with at least two fewer; the largest difference counts. Its heads are asked to leave, one after another, each when
the chain is complete again, until that target is the head. Then the next chain is looked for.

Limits: one chain at a time, and only chains of which two targets serve meanwhile: a chain of two would have one replica for a
moment, and keeps its head. Kept in memory: another manager waits for calm again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from fs3.base.ids import ChainId, TargetId
from fs3.base.units import MINUTE
from fs3.model.chain import Chain, PublicState

calm_ns = MINUTE
"""Without a change of any chain, before heads are spread."""
_SERVING_MIN = 3
"""Targets that serve a chain whose head may leave for a moment."""


class Heads:
    """Part of the manager's machine."""

    def __init__(self, now: int) -> None:
        self._calm_since = now
        self._wanted: tuple[ChainId, TargetId] | None = None
        """A chain, and the target that is to be its head."""
        self._leaver: tuple[TargetId, Chain] | None = None
        """Its head, which leaves the chain as it is."""

    def on_chain_changed(self, now: int, chain: ChainId) -> None:
        """A chain goes on under another version."""
        if self._wanted is None or self._wanted[0] != chain:
            self._calm_since = now

    def advance(self, now: int, chains: Mapping[ChainId, Chain], moving: Container[ChainId]) -> None:
        """Choose the next head that is to leave. `moving`: chains that are left alone."""
        if now - self._calm_since < calm_ns:
            self._wanted = self._leaver = None
            return
        if self._wanted is None:
            self._wanted = choose(chain for chain in chains.values() if chain.id not in moving)
        if self._wanted is None:
            return
        number, target = self._wanted
        chain = chains[number]
        self._leaver = None
        if number in moving or chain.slot(target) is None or chain.slots[0].target == target:
            self._wanted = None
        elif _is_complete(chain):
            self._leaver = (chain.slots[0].target, chain)

    def leavers(self, own: Mapping[TargetId, ChainId]) -> list[tuple[TargetId, Chain]]:
        """Which of a node's targets are to leave for a moment."""
        return [self._leaver] if self._leaver is not None and self._leaver[0] in own else []


def choose(chains: Iterable[Chain]) -> tuple[ChainId, TargetId] | None:
    """A chain and the target that should be its head, so that heads are spread more evenly; None when they are even. As few
    have to leave before it as can be."""
    complete = [chain for chain in chains if _is_complete(chain)]
    heads = Counter(chain.slots[0].node for chain in complete)
    best: tuple[int, int] | None = None
    found: tuple[ChainId, TargetId] | None = None
    for chain in complete:
        if len(chain.slots) < _SERVING_MIN:
            continue
        for place, slot in enumerate(chain.slots):
            gap = heads[chain.slots[0].node] - heads[slot.node]
            if gap >= 2 and (best is None or (gap, -place) > best):
                best, found = (gap, -place), (chain.id, slot.target)
    return found


def _is_complete(chain: Chain) -> bool:
    return all(slot.state is PublicState.SERVING for slot in chain.slots)
