"""The chains of the manager: what is known of their targets, and how they follow it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.deltas import routing_bytes
from fs3.core.membership.departures import Departures
from fs3.core.membership.heads import Heads
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.link_faults import LinkFaults
from fs3.core.membership.moves import Moves
from fs3.core.membership.security import Security
from fs3.core.membership.state import State
from fs3.core.membership.transition import next_chain
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.cluster import TargetStatus
from fs3.model.moves import RemovedNode
from fs3.model.routing import Delta, Node, Routing


class ManagedChains:
    """Part of the manager's machine, which makes what is named here; moves edit chains by it (`ChainEditor`)."""

    security: Security
    _config: MgmtdConfig
    _ledger: Ledger
    _state: State
    _names: dict[str, NodeId]
    _bytes: int
    _targets_by_node: dict[NodeId, dict[TargetId, ChainId]]
    _health: LeaseHealth
    _link_faults: LinkFaults
    _departures: Departures
    _heads: Heads
    _moves: Moves
    _last_step_at: int

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def published(self) -> Routing:
        """The newest persisted routing info."""
        return self._ledger.delta_log.routing

    def since(self, version: int) -> Delta:
        """What leads from a version to `published`."""
        return self._ledger.delta_log.since(version)

    def target_statuses(self, now: int) -> list[TargetStatus]:
        """Every target of every chain, as published and as reported."""
        return [status for chain in self.published.chains.values() for status in self.statuses_of(now, chain)]

    def statuses_of(self, now: int, chain: Chain) -> list[TargetStatus]:
        """The targets of a published chain, in its order."""
        return [self._target_status(now, chain, slot) for slot in chain.slots]

    def _target_status(self, now: int, chain: Chain, slot: Slot) -> TargetStatus:
        local = self._health.local_state(now, slot.node, slot.target, chain.version)
        born = slot.target in self._state.born
        report = self._health.report(slot.node, slot.target)
        if report is None:
            return TargetStatus(chain.id, chain.version, slot, local, born)
        space = (report.used_bytes, report.free_bytes, report.chunks)
        return TargetStatus(chain.id, chain.version, slot, local, born, *space, report.reason, report.upkeep)

    # --- changes -----------------------------------------------------------------------------------------------------

    def _reconfigure(self, now: int, chains: Iterable[ChainId]) -> None:
        """Let chains follow what is known of their targets."""
        if not self._config.reconfigure:
            return
        for number in sorted(set(chains)):
            # One that has left because another target has taken its place must not come back before it is retired.
            self._moves.finish(now, number)
            chain = self._state.chains[number]
            states = {
                slot.target: state
                for slot in chain.slots
                if (state := self._health.local_state(now, slot.node, slot.target, chain.version)) is not None
            }
            following = next_chain(chain, self._departures.without_returns(chain, states))
            if following is chain:
                continue
            following = self._departures.on_chain_changed(chain, following, self._ledger.next_version)
            self._replace_chain(chain, following)
            for slot in following.serving_slots():
                # It begins to serve because it is complete. Were that not stored with the chain, an empty disk in its place would
                # count as that of a new target, and serve.
                if slot not in chain.slots and slot.target not in self._state.born:
                    self._ledger.put_born(slot.target)

    def _replace_chain(self, chain: Chain, following: Chain) -> None:
        for slot in chain.serving_slots():
            after = following.slot(slot.target)
            if (after is None or after.state is not PublicState.SERVING) and slot.node in self._state.nodes:
                # It may not know yet that it has been replaced: no new lease before it does.
                self._health.fence(slot.node, self._ledger.next_version)
        self._link_faults.on_chain_changed(chain, following)
        self._heads.on_chain_changed(self._last_step_at, chain.id)
        self._ledger.put_chain(following)

    def change_chain(self, now: int, before: Chain, after: Chain) -> None:
        """See `ChainEditor`: its members change, and none that serves is left out."""
        self._bytes += routing_bytes(chains=[after]) - routing_bytes(chains=[before])
        self._replace_chain(before, after)
        for slot in before.slots:
            if after.slot(slot.target) is None:
                self._targets_by_node.get(slot.node, {}).pop(slot.target, None)
                self._health.forget_report(slot.node, slot.target)
        for slot in after.slots:
            if before.slot(slot.target) is None:
                self._targets_by_node.setdefault(slot.node, {})[slot.target] = after.id
                self._health.on_assigned(now, slot.node, slot.target)

    def goes_on(self, chain: ChainId) -> bool:
        """See `ChainEditor`."""
        return self._departures.goes_on(chain)

    def targets_of(self, node: NodeId) -> Mapping[TargetId, ChainId]:
        """See `ChainEditor`."""
        return self._targets_by_node.get(node, {})

    def remove_node(self, node: Node, removed: RemovedNode) -> None:
        """See `ChainEditor`."""
        self._bytes -= routing_bytes([node])
        self._ledger.remove_node(node, removed)
        self.security.on_removed(self._last_step_at, [node.name])
        self._names.pop(node.name, None)
        self._targets_by_node.pop(node.id, None)

    def _index_targets(self, now: int, chain: Chain) -> None:
        for slot in chain.slots:
            self._targets_by_node.setdefault(slot.node, {})[slot.target] = chain.id
            self._health.on_assigned(now, slot.node, slot.target)
