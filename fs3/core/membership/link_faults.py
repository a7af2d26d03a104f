"""Which target has to leave a chain when one of its targets cannot reach the next one, although both are alive for the manager.

Updates travel from each target of the live chain to the next one. If one link carries nothing, all writes of the chain stand
still, and no lease runs out. So one of the two is asked to leave: it reports itself OFFLINE, the chain goes on by the
public-state table, and it comes back at the end of the chain, where it has another predecessor. No target is taken out before it
has said that it leaves.

Nearly always it is the successor that has to leave. If the same target could not reach another successor either, and that one is
still out for it, then it is what both have in common, and leaves itself. The last target that serves is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fs3.base.ids import ChainId, TargetId
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.lease_health import LeaseHealth
from fs3.model.chain import Chain, PublicState
from fs3.model.cluster import Heartbeat, LeaveRequest


@dataclass(frozen=True, slots=True)
class _PendingLeave:
    """One target of a chain was told to leave."""

    chain_version: int
    leaver: TargetId
    reporter: TargetId
    told_at: int


class LinkFaults:
    """What a manager remembers of links within chains that carry nothing. A manager that takes over begins with nothing."""

    def __init__(self, config: MgmtdConfig, health: LeaseHealth) -> None:
        self._config = config
        self._health = health
        self._chains: set[ChainId] = set()
        """Chains with a link that may carry nothing."""
        self._asked: dict[ChainId, _PendingLeave] = {}
        self._reporter_of: dict[TargetId, TargetId] = {}
        """Targets that left and do not serve yet again, each with the one that could not reach it."""

    def on_heartbeat(self, heartbeat: Heartbeat, own: Mapping[TargetId, ChainId]) -> None:
        """A heartbeat, which `LeaseHealth` has taken in. `own`: the chains of the node's targets."""
        if not self._config.reconfigure:
            return
        for report in heartbeat.targets:
            # Only what was accepted: made under the present version of the chain, in a heartbeat newer than the last.
            if report.unreachable and self._health.report(heartbeat.node, report.target) is report:
                self._chains.add(own[report.target])

    def targets_to_leave(
        self, now: int, own: Mapping[TargetId, ChainId], chains: Mapping[ChainId, Chain]
    ) -> tuple[LeaveRequest, ...]:
        """Which of a node's targets are to be told now to leave, each with the version of its chain."""
        found = []
        if self._chains:
            for target, number in own.items():
                if number in self._chains and self._must_leave(now, chains[number], target):
                    found.append(LeaveRequest(target, chains[number].version))
        return tuple(found)

    def _must_leave(self, now: int, chain: Chain, target: TargetId) -> bool:
        broken_links = [
            (slot.target, successor.target)
            for slot in chain.live_slots()
            if (successor := chain.successor(slot.target)) is not None
            and self._health.has_link_fault(now, slot, successor, chain.version)
        ]
        if not broken_links:
            self._chains.discard(chain.id)
        return self.choose_leaver(now, chain, broken_links) == target

    def choose_leaver(self, now: int, chain: Chain, faulty_links: Iterable[tuple[TargetId, TargetId]]) -> TargetId | None:
        """Which target is to be told to leave now, None when none is. At most one for each version of the chain, until a lease
        later it has not left: two that leave might leave no replica behind.

        `broken_links`: (target, its successor that it cannot reach), in the order of the chain; none that is not so any more, nor
        one whose successor is not alive: that one is left to its lease.
        """
        asked = self._find_asked(now, chain)
        for reporter, successor in faulty_links:
            # The first is nearest to the head. A target that neither reaches nor is reached is a suspect before it reports.
            found = self._who_leaves(chain, reporter, successor) if asked is None else asked.leaver
            if found is None or (asked is not None and asked.reporter != reporter):
                continue
            self._asked[chain.id] = _PendingLeave(chain.version, found, reporter, now)
            return found
        return None

    def is_leaving(self, now: int, chain: Chain) -> bool:
        """A target of the chain was told to leave this version of it, not longer than a lease ago: it may have stayed since the
        link carries again, and then nothing else ends that."""
        return self._find_asked(now, chain) is not None

    def _find_asked(self, now: int, chain: Chain) -> _PendingLeave | None:
        asked = self._asked.get(chain.id)
        if asked is not None and (asked.chain_version != chain.version or now - asked.told_at >= self._config.lease_ns):
            del self._asked[chain.id]
            return None
        return asked

    def on_chain_changed(self, before: Chain, after: Chain) -> None:
        """A chain goes on under another version."""
        asked = self._asked.pop(before.id, None)
        if asked is not None and asked.leaver != asked.reporter and not after.is_live(asked.leaver):
            self._reporter_of[asked.leaver] = asked.reporter
        for slot in after.serving_slots():
            self._reporter_of.pop(slot.target, None)

    def _who_leaves(self, chain: Chain, reporter: TargetId, successor: TargetId) -> TargetId | None:
        others = any(
            self._reporter_of.get(slot.target) == reporter
            for slot in chain.slots
            if slot.target != successor and slot.state is not PublicState.SERVING
        )
        if others and _goes_on_without(chain, reporter):
            return reporter
        return successor if _goes_on_without(chain, successor) else None


def _goes_on_without(chain: Chain, target: TargetId) -> bool:
    """Another target of the chain serves."""
    return any(slot.target != target for slot in chain.serving_slots())
