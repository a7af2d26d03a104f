"""Who left a chain that may never have gone on without it.

Intuition: of two replicas one dies together with its disk, and before its lease has run out the other one, which is complete,
leaves for a moment. The manager lets the chain go on with the dead one. When it notices, the dead one counts as the last that
served, its disk is empty when it returns, and the chain would wait for it for ever, although the other one lacks nothing.

Algorithm: a target tells the manager before it goes on without another one. On its node, a chain version in which it serves and
another one does no longer is not applied before a heartbeat has been answered that names the routing version of that change
(`must_be_heard`). So as long as no heartbeat of those that go on has named that version, they have acknowledged nothing that
those that left lack. If all that serve are lost in that time, those that left served last as well.

An answer counts only if it grants a lease (`is_heard`). A node that was cut off may name the version when the chain has long
begun anew with one that left: the manager answers it, and grants nothing before the node has applied in what it lost its place.

Until it is known that the chain goes on, no target that left is taken back: it would begin to drop what it had pending.

Limits: kept in memory. A manager that takes over presumes that every chain goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from fs3.base.ids import ChainId, TargetId
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.cluster import HeartbeatAck


def must_be_heard(applied: Chain | None, newer: Chain | None, target: TargetId) -> bool:
    """Whether a target has to tell the manager that it knows of a newer chain before it takes its place there.

    `applied`: the chain it takes part in. A process that has just started has no lease, and earns one by telling the manager.
    """
    if applied is None or newer is None or applied.id != newer.id:
        return False
    here = newer.slot(target)
    if here is None or here.state is not PublicState.SERVING:
        return False
    goes_on = {slot.target for slot in newer.serving_slots()}
    return any(slot.target not in goes_on for slot in applied.serving_slots())


def is_heard(ack: HeartbeatAck) -> bool:
    """Whether the answer to a heartbeat that names a routing version says that the node may go on by it."""
    return bool(ack.lease_ns)


@dataclass(frozen=True, slots=True)
class _Departure:
    """One change in which targets that served have left, and others go on."""

    routing_version: int
    order: tuple[TargetId, ...]
    """Who served until then, head first."""
    gone: frozenset[TargetId]

    def goes_on_with(self, target: TargetId, *, serves: bool) -> bool:
        """Whether a target is one of those that the chain went on with. `serves`: it does now."""
        return target not in self.gone and (serves or target in self.order)


class Departures:
    """The departures of each chain that none of those that go on is known to have heard of."""

    def __init__(self) -> None:
        self._chains: dict[ChainId, list[_Departure]] = {}

    def on_heard(self, chain: Chain, target: TargetId, routing_version: int) -> bool:
        """The node of a target has answered for all routing versions up to this one. True when the chain now goes on for sure."""
        found = self._chains.get(chain.id)
        if found is None:
            return False
        slot = chain.slot(target)
        serves = slot is not None and slot.state is PublicState.SERVING
        left = [each for each in found if not each.goes_on_with(target, serves=serves) or each.routing_version > routing_version]
        if left:
            self._chains[chain.id] = left
            return False
        del self._chains[chain.id]
        return True

    def goes_on(self, chain: ChainId) -> bool:
        """Whether a chain is known to go on without those that left it."""
        return chain not in self._chains

    def without_returns(self, chain: Chain, states: Mapping[TargetId, LocalState]) -> Mapping[TargetId, LocalState]:
        """What to believe of the targets of a chain for now: none that left is back before the chain is known to go on."""
        found = self._chains.get(chain.id)
        if found is None or not chain.serving_slots():
            return states
        gone = {target for each in found for target in each.gone if not chain.is_live(target)}
        return {target: state for target, state in states.items() if target not in gone}

    def on_chain_changed(self, before: Chain, after: Chain, routing_version: int) -> Chain:
        """A chain is about to be changed: the change, in which those that left count as last serving when no target is known to
        have gone on without them."""
        served, serving = before.serving_slots(), {slot.target for slot in after.serving_slots()}
        if serving:
            gone = frozenset(slot.target for slot in served if slot.target not in serving)
            if not served:
                self._chains.pop(before.id, None)  # the chain begins anew, with who came back first
            elif gone:
                order = tuple(slot.target for slot in served)
                self._chains.setdefault(before.id, []).append(_Departure(routing_version, order, gone))
            return after
        found = self._chains.pop(before.id, None)
        return after if found is None or not served else _with_departed(after, found)


def _with_departed(chain: Chain, departures: list[_Departure]) -> Chain:
    """All that served before the first of these departures served last, in the order they had: what is staged at one of them is
    also staged at those before it."""
    gone = {target for each in departures for target in each.gone}
    order = {target: place for place, target in enumerate(departures[0].order)}
    slots = [msgspec.structs.replace(slot, state=PublicState.LASTSRV) if slot.target in gone else slot for slot in chain.slots]
    last = [slot for slot in slots if slot.state is PublicState.LASTSRV]
    last.sort(key=lambda slot: order.get(slot.target, len(order)))
    return msgspec.structs.replace(chain, slots=(*last, *(slot for slot in slots if slot.state is not PublicState.LASTSRV)))
