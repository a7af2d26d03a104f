"""The nodes of the manager: their registrations, their heartbeats and leases, and what is known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import nodes_max
from fs3.base.status import Code
from fs3.base.version import Release
from fs3.core.membership.deltas import routing_bytes
from fs3.core.membership.events import Effect, Respond
from fs3.core.membership.generations import Lineage, compare
from fs3.core.membership.machines import Machines
from fs3.core.membership.managed_tables import ManagedTables
from fs3.core.membership.node_admission import (
    RequestRejected,
    admit_incarnation,
    check_cluster,
    check_heartbeat,
    check_release,
    check_removed,
    check_targets,
)
from fs3.model.chain import LocalState
from fs3.model.cluster import (
    Heartbeat,
    HeartbeatAck,
    LeaveRequest,
    NodeSettings,
    NodeStatus,
    RegisterNode,
    RegistrationAck,
    RoleConfig,
)
from fs3.model.generation import TargetGeneration
from fs3.model.routing import Node, Role
from fs3.model.target_report import TargetReport


class ManagedNodes(ManagedTables):
    """Part of the manager's machine, which makes what is named here."""

    machines: Machines
    _release: Release
    _awaits_first_storage: bool
    _review_due_at: int | None

    # --- reads -------------------------------------------------------------------------------------------------------

    def role_config(self, role: Role) -> RoleConfig:
        """The distributed configuration of a role; version 0 and empty when there is none."""
        return self._ledger.durable_configs.get(role, RoleConfig(role, 0, ""))

    def node_statuses(self, now: int) -> list[NodeStatus]:
        """Every published node, with its lease and when it was heard last."""
        return [
            NodeStatus(
                node,
                self.lease_left_ns(now, node.id),
                self.heartbeat_age_ns(now, node.id),
                self._health.problem(node.id),
                self._health.disks(node.id),
                self._health.release(node.id),
                self._settings_of(node),
            )
            for node in self.published.nodes.values()
        ]

    def _settings_of(self, node: Node) -> NodeSettings:
        version, problem = self._health.config(node.id)
        return NodeSettings(version, self.role_config(node.role).version, problem)

    def lease_left_ns(self, now: int, node: NodeId) -> int:
        """How long a node may still serve; negative when its lease has run out."""
        return self._health.lease_left_ns(now, node)

    def heartbeat_age_ns(self, now: int, node: NodeId) -> int | None:
        """Since a node was last heard; None when it has not been since this manager took over."""
        return self._health.heartbeat_age_ns(now, node)

    # --- registration ------------------------------------------------------------------------------------------------

    def _register(self, now: int, event: RegisterNode) -> RegistrationAck:
        check_cluster(self._state.cluster, event)
        check_release(self._release, event)
        self.machines.check_node(event)
        known = self._state.nodes.get(self._names.get(event.name, NodeId(0)))
        alive = known is not None and self._health.is_alive(now, known.id)
        unheard = known is not None and self._health.is_unheard(known.id)
        incarnation = admit_incarnation(known, event, alive=alive, unheard=unheard)
        if known is None and len(self._state.nodes) >= nodes_max:
            raise RequestRejected(Code.TOO_LARGE, f"the cluster has {nodes_max} nodes, the most it can have")
        number = known.id if known is not None else NodeId(self._state.counters.node + 1)
        removed = self._state.removed.get(event.name)
        if removed is not None and known is None:
            check_removed(removed, event)
        check_targets(number, event, self._targets_by_node, self._state.nodes, self._state.retired)
        node = Node(
            number, event.name, event.role, event.endpoints, event.host, incarnation, alive=True, pid=event.pid,
            directory=event.directory, by_directory=event.by_directory, domain=event.domain,
        )  # fmt: skip
        more = routing_bytes([node]) - (routing_bytes([known]) if known is not None else 0)
        self._check_size(more)
        self._on_storage_heard(now, event.role)
        disks = self._moves.drains.only_told(number, event.disks)
        self._health.on_registered(now, number, disks, same_incarnation=known is not None and known.incarnation == incarnation)
        if node != known:
            self._bytes += more
            self._ledger.set_counters(node=max(self._state.counters.node, number))
            self._names[node.name] = number
            if removed is not None:
                self._ledger.set_removed(event.name, None)
            self._ledger.put_node(node)
        self.security.note_node_key(event)
        self._begin_generations(number, event)
        self._make_first_table(now)
        own = sorted(self._targets_by_node.get(number, ()))
        born = tuple(target for target in own if target in self._state.born)
        begun = self._state.generations
        remembered = tuple(TargetGeneration(target, begun[target]) for target in own if target in begun)
        config = self._config
        return RegistrationAck(
            number, self._state.cluster.id, config.lease_ns, config.heartbeat_ns, incarnation, born, remembered,
            self._moves.drains.paths_of(number),
        )  # fmt: skip

    def _begin_generations(self, number: NodeId, event: RegisterNode) -> None:
        """Targets whose directories are the newest there are go on in the generation that this start has written there.

        What is remembered of the others stays: their newest directories may come back.
        """
        own = self._targets_by_node.get(number, {})
        for claim in event.claims:
            remembered = self._state.generations.get(claim.target)
            if remembered is None or not claim.generations or claim.target not in own:
                continue
            if compare(claim.generations, remembered) is Lineage.CURRENT and remembered != claim.generations[-1]:
                self._ledger.put_generation(claim.target, claim.generations[-1])

    # --- heartbeats --------------------------------------------------------------------------------------------------

    def _heartbeat(self, now: int, token: int, heartbeat: Heartbeat) -> list[Effect]:
        try:
            node = check_heartbeat(self._state.nodes.get(heartbeat.node), heartbeat, self._ledger.last_version)
        except RequestRejected as refusal:
            return [Respond(token, refusal.rejection)]
        self._on_storage_heard(now, node.role)
        self.security.on_heartbeat(node.id, heartbeat.security_version)
        if any(disk.is_drained for disk in heartbeat.disks):
            heartbeat = msgspec.structs.replace(heartbeat, disks=self._moves.drains.only_told(node.id, heartbeat.disks))
        own = self._targets_by_node.get(node.id, {})
        versions = {target: self._state.chains[chain].version for target, chain in own.items()}
        granted, changed = self._health.on_heartbeat(now, heartbeat, versions)
        alive = self._health.is_alive(now, node.id)
        if node.alive and not alive:
            self._on_node_gone(now, node)
        elif alive and not node.alive:
            self._ledger.put_node(msgspec.structs.replace(node, alive=True))
            self._reconfigure(now, own.values())
            # Those that the cluster waited for may have registered while this one was not heard.
            with contextlib.suppress(RequestRejected):
                self._make_first_table(now)
        elif changed:
            self._reconfigure(now, [own[target] for target in changed])
        elif not self._state.tables:
            with contextlib.suppress(RequestRejected):
                self._make_first_table(now)
        if granted:
            for report in heartbeat.targets:
                if report.state is LocalState.UPTODATE and report.target in own:
                    self._on_complete(report)
        self._link_faults.on_heartbeat(heartbeat, own)
        heard = (
            chain
            for target, chain in own.items()
            if self._departures.on_heard(self._state.chains[chain], target, heartbeat.routing_version)
        )
        self._reconfigure(now, heard)
        # One that leaves hears of its replacement, and one that is born serves, only after that was stored.
        later = heartbeat.leaving or not self._ledger.pending_births.isdisjoint(own)
        ack = HeartbeatAck(
            seq=heartbeat.seq,
            lease_ns=self._config.lease_ns if granted else 0,
            routing_version=self._ledger.last_version if later else self.published.version,
            config_version=self.role_config(node.role).version,
            leave=self._targets_to_leave(now, own),
            retired=tuple(report.target for report in heartbeat.targets if self._is_retired(report.target, node.id)),
            security_version=self.security.version,
            cluster_ms=self.security.now_ms(now),
            drained_disks=self._moves.drains.paths_of(node.id),
        )
        return self._ledger.respond_when_durable(token, ack) if later else [Respond(token, ack)]

    def _targets_to_leave(self, now: int, own: Mapping[TargetId, ChainId]) -> tuple[LeaveRequest, ...]:
        """Those with a broken link; and those whose place another target takes, unless another one of the chain leaves."""
        broken = self._link_faults.targets_to_leave(now, own, self._state.chains)
        moved = self._moves.leavers(own) + self._heads.leavers(own)
        return broken + tuple(
            LeaveRequest(target, chain.version, is_replaced=True)
            for target, chain in moved
            if not self._link_faults.is_leaving(now, chain)
        )

    def _is_retired(self, target: TargetId, node: NodeId) -> bool:
        """It is in no chain any more, and that is stored."""
        retired = self._state.retired.get(target)
        return retired is not None and retired.node == node and self.published.chains[retired.chain].slot(target) is None

    def _on_complete(self, report: TargetReport) -> None:
        """A target has everything: for the first time, or again, in a directory that was empty or an old copy."""
        if report.target not in self._state.born:
            self._ledger.put_born(report.target)
        if report.generation is not None and report.generation != self._state.generations.get(report.target):
            self._ledger.put_generation(report.target, report.generation)

    def _on_storage_heard(self, now: int, role: Role) -> None:
        """From the first storage node on, the others are waited for as long as their leases may run."""
        if self._awaits_first_storage and role is Role.STORAGE:
            self._awaits_first_storage = False
            self._health.renew_assumed_leases(now)
            self._review_due_at = now + self._config.lease_ns + self._config.drift_ns

    def _on_node_gone(self, now: int, node: Node) -> None:
        """Its lease has run out, or it has handed over."""
        self._ledger.put_node(msgspec.structs.replace(node, alive=False))
        self._reconfigure(now, self._targets_by_node.get(node.id, {}).values())
