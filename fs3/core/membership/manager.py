"""The management machine: nodes, leases, chain tables, namespaces, configuration.

`step(now, event)` changes the working state at once and returns what to do; `events` says what the shell owes in return. What
clients and nodes may see (`published`, `since`, ...) is only what has been persisted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.limits import nodes_max, replicas_max, routing_bytes_max, tables_max
from fs3.base.status import Code
from fs3.base.version import THIS_RELEASE, Release
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.deltas import routing_bytes
from fs3.core.membership.departures import Departures
from fs3.core.membership.events import Answer, Effect, Event, ManagerRequest, ManagerTick, Persisted, Rejection, Respond
from fs3.core.membership.generations import Lineage, compare
from fs3.core.membership.heads import Heads
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.link_faults import LinkFaults
from fs3.core.membership.machines import Machines
from fs3.core.membership.move_requests import MoveRequests
from fs3.core.membership.moves import Moves
from fs3.core.membership.namespaces import Namespaces
from fs3.core.membership.node_admission import (
    RequestRejected,
    admit_incarnation,
    check_cluster,
    check_heartbeat,
    check_release,
    check_removed,
    check_targets,
)
from fs3.core.membership.placement import place
from fs3.core.membership.security import Security
from fs3.core.membership.settings_history import Settings
from fs3.core.membership.state import State
from fs3.core.membership.transition import next_chain
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.cluster import (
    ClearNamespace,
    DeleteNamespace,
    EnsureTable,
    Heartbeat,
    HeartbeatAck,
    LeaveRequest,
    NodeSettings,
    NodeStatus,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    RoleConfig,
    SetConfig,
    SetNamespace,
    TargetStatus,
)
from fs3.model.generation import TargetGeneration
from fs3.model.machine import AdmitMachine, JoinCluster, MakeToken, RemoveMachine, RevokeToken, SetAuthority
from fs3.model.moves import ListMoves, PlanMoves, RemovedNode, SetMoves
from fs3.model.routing import Delta, Node, Role, Routing
from fs3.model.security import AddUserToken, PutUser, RemoveUser, RevokeUser, RotateKeys, SetSecurity
from fs3.model.settings import SetSettings
from fs3.model.target_report import TargetReport


class Manager:
    """The primary's machine, made anew for every term from what is stored. `now` is always the manager's monotonic clock."""

    def __init__(self, now: int, config: MgmtdConfig, state: State, entropy: bytes, release: Release = THIS_RELEASE) -> None:
        """`entropy`: `TERM_ENTROPY_BYTES` random ones, of this term alone. `release`: what this manager runs."""
        self._release = release
        self._ledger = Ledger(state, config.deltas_kept)
        self._state = state
        self.settings = Settings(self._ledger, config.check())
        config = self._config = self.settings.config.check()
        """In force."""
        self.machines = Machines(self._ledger)
        self.namespaces = Namespaces(self._ledger, entropy)
        self.security = Security(now, self._ledger, entropy)
        self._names = {node.name: node.id for node in state.nodes.values()}
        self._bytes = routing_bytes(state.nodes.values(), state.chains.values(), state.tables.values())
        """At least the encoded size of the routing info."""
        self._targets_by_node: dict[NodeId, dict[TargetId, ChainId]] = {}
        """The targets of each node, and which chain they are in."""
        self._health = LeaseHealth(config)
        self._link_faults = LinkFaults(config, self._health)
        self._departures = Departures()
        self._heads = Heads(now)
        self._moves = Moves(self._ledger, self._health, self)
        self._move_requests = MoveRequests(self._ledger, self._health, self._moves, self)
        for node in state.nodes:
            # Leases that the former primary granted may still run, and whom it had fenced is not stored.
            self._health.assume_lease(now, node, state.counters.routing if config.reconfigure else 0)
        for chain in state.chains.values():
            self._index_targets(now, chain)
        self._tick_ns = config.heartbeat_ns // 2
        self._tick_at = now + self._tick_ns
        self._review_due_at: int | None = now + config.lease_ns + config.drift_ns
        """When every lease of the former primary has run out: then all chains are looked at once. None after that."""
        self._awaits_first_storage = any(node.role is Role.STORAGE for node in state.nodes.values())
        """No storage node has been heard yet. Perhaps the whole cluster is being started, and no node is late; and if all of them
        are dead, no change of a chain would help."""
        self._last_step_at = now

    # --- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: int, event: Event) -> list[Effect]:
        """Take one event in. Effects in the order to carry them out."""
        # Ticks come four times in this time: the process was stopped or starved, and what was sent to it lies unread.
        if now - self._last_step_at > 2 * self._config.heartbeat_ns:
            self._health.on_process_paused(self._last_step_at, now)
            self._moves.on_process_paused(self._last_step_at, now)
            if self._review_due_at is not None:
                self._review_due_at += now - self._last_step_at
        self._last_step_at = now
        match event:
            case ManagerRequest(token, Heartbeat() as heartbeat):
                effects = self._heartbeat(now, token, heartbeat)
            case ManagerRequest():
                effects = self._request(now, event)
            case ManagerTick():
                effects = self._tick(now)
            case Persisted():
                effects = self._ledger.on_persisted(now, event)
                self.security.on_stored(now)
        return effects + self._ledger.flush()

    def next_deadline(self) -> int:
        """When to step with a `ManagerTick`."""
        retry_at = self._ledger.retry_at
        return self._tick_at if retry_at is None else min(self._tick_at, retry_at)

    def _request(self, now: int, request: ManagerRequest) -> list[Effect]:
        if self._ledger.is_full():
            return [Respond(request.token, Rejection(Code.BUSY, "too many requests wait for the manager's store"))]
        try:
            answer: Answer
            match request.body:
                case RegisterNode() as registration:
                    answer = self._register(now, registration)
                case EnsureTable() as wanted:
                    answer = self._ensure_table(now, wanted.replicas).id
                case OpenNamespace() as wanted:
                    found = self.namespaces.find(wanted)
                    answer = found or self.namespaces.create(wanted, self._ensure_table(now, wanted.replicas))
                case SetNamespace() as setting:
                    answer = self.namespaces.set(setting)
                case ClearNamespace() as clearing:
                    answer = self.namespaces.clear(clearing)
                case DeleteNamespace() as deletion:
                    answer = self.namespaces.delete(deletion)
                case SetConfig() as config:
                    answer = self._set_config(config)
                case PlanMoves() as wanted:
                    answer = self._move_requests.plan(now, wanted)
                case SetMoves() as setting:
                    answer = self._move_requests.set(setting)
                case ListMoves():
                    answer = self._move_requests.describe()
                case JoinCluster() as joining:
                    answer = self.machines.join(joining)
                case AdmitMachine() as joining:
                    answer = self.machines.admit(joining)
                case MakeToken() as wish:
                    answer = self.machines.make_token(wish)
                case RevokeToken() as wish:
                    answer = self.machines.revoke_token(wish)
                case RemoveMachine() as wish:
                    answer = self.machines.remove(wish)
                    self.security.on_removed(now, [wish.machine, *(node.name for node in self.machines.nodes_of(wish.machine))])
                case SetAuthority() as wish:
                    answer = self.machines.set_authority(wish)
                case SetSettings() as change:
                    answer = self.settings.set(change)
                    self._take_settings(now)
                case PutUser() as change:
                    answer = self.security.put_user(now, change)
                case RemoveUser() as wish:
                    answer = self.security.remove_user(now, wish)
                case AddUserToken() as wish:
                    answer = self.security.add_token(now, wish)
                case RevokeUser() as wish:
                    answer = self.security.revoke(now, wish)
                case SetSecurity() as change:
                    answer = self.security.set_phase(now, change)
                case RotateKeys() as wish:
                    answer = self.security.rotate(now, wish)
                case Heartbeat():
                    raise AssertionError("heartbeats are taken in without the ledger")
        except RequestRejected as refusal:
            return [Respond(request.token, refusal.rejection)]
        return self._ledger.respond_when_durable(request.token, answer)

    def _tick(self, now: int) -> list[Effect]:
        effects = self._ledger.retry(now)
        if now < self._tick_at:
            return effects
        self._tick_at = now + self._tick_ns
        self.security.advance(now)
        if self._awaits_first_storage:
            return effects
        for node in list(self._state.nodes.values()):
            if node.alive and not self._health.is_alive(now, node.id):
                self._on_node_gone(now, node)
        if self._review_due_at is not None and now >= self._review_due_at:
            self._review_due_at = None
            self._reconfigure(now, self._state.chains)
        if self._config.reconfigure:
            self._moves.advance(now)
            self._heads.advance(now, self._state.chains, self._state.moves)
        else:
            self._moves.on_left_alone()
        return effects

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> bytes:
        """Id of the cluster."""
        return self._state.cluster.id

    @property
    def config(self) -> MgmtdConfig:
        """In force."""
        return self._config

    @property
    def published(self) -> Routing:
        """The newest persisted routing info."""
        return self._ledger.delta_log.routing

    def since(self, version: int) -> Delta:
        """What leads from a version to `published`."""
        return self._ledger.delta_log.since(version)

    def role_config(self, role: Role) -> RoleConfig:
        """The distributed configuration of a role; version 0 and empty when there is none."""
        return self._ledger.durable_configs.get(role, RoleConfig(role, 0, ""))

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

    # --- nodes -------------------------------------------------------------------------------------------------------

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
            number, self.cluster, config.lease_ns, config.heartbeat_ns, incarnation, born, remembered,
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
            if not self._link_faults.is_leaving(chain)
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

    # --- chains ------------------------------------------------------------------------------------------------------

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

    def _storage_nodes(self) -> list[Node]:
        """Those that are here and to hold something, by id."""
        return sorted(
            (
                node
                for node in self._state.nodes.values()
                if node.role is Role.STORAGE and node.alive and self._takes_targets(node)
            ),
            key=lambda node: node.id,
        )

    def _takes_targets(self, node: Node) -> bool:
        """A storage node may be given targets: neither it nor all of its disks are to hold nothing."""
        return node.id not in self._state.departing and not self._moves.drains.has_no_disk(node.id)

    def _ensure_table(self, now: int, replicas: int) -> ChainTable:
        """The table with so many replicas, made when there is none; 0: the default table."""
        if not replicas:
            replicas = next((table.replicas for table in self._state.tables.values()), self._config.replicas)
        if not 1 <= replicas <= replicas_max:
            raise RequestRejected(Code.INVALID, f"replicas is {replicas}, must be 1 to {replicas_max}")
        for table in self._state.tables.values():
            if table.replicas == replicas:
                return table
        if any(not self._health.has_told(node.id) for node in self._storage_nodes()):
            raise RequestRejected(
                Code.BUSY, "chains are made when all storage nodes have told this manager which disks they have"
            )
        here, expected = len(self._storage_nodes()), self._config.storage_nodes
        if self._state.tables:
            # They have all been here; some of them may have been removed since.
            kept = (node for node in self._state.nodes.values() if node.role is Role.STORAGE)
            expected = min(expected, sum(map(self._takes_targets, kept)))
        if here < expected:
            # A table made now would leave out the nodes that are still starting, for ever.
            raise RequestRejected(Code.BUSY, f"chains are made when {expected} storage nodes are here, there are {here}")
        if not self._state.tables:
            default = self._make_table(now, self._config.replicas)
            if default.replicas == replicas:
                return default
        return self._make_table(now, replicas)

    def _make_first_table(self, now: int) -> None:
        """As soon as all storage nodes the cluster is made for are here at once, and have told which disks they have: after
        another manager has taken over, in their next heartbeats."""
        if self._state.tables:
            return
        nodes = self._storage_nodes()
        if len(nodes) >= self._config.storage_nodes and all(self._health.has_told(node.id) for node in nodes):
            self._make_table(now, self._config.replicas)

    def _make_table(self, now: int, replicas: int) -> ChainTable:
        """Another table, with fresh targets on all storage nodes. All of it is new and empty, so every target serves."""
        if len(self._state.tables) >= tables_max:
            raise RequestRejected(Code.TOO_LARGE, f"the cluster has {tables_max} chain tables, the most it can have")
        nodes, per_node, counters = self._storage_nodes(), self._config.targets_per_node, self._state.counters
        number = TableId(counters.table + 1)
        try:
            sizes = [self._moves.drains.total_bytes(node.id) for node in nodes]
            places = place(len(nodes), per_node, replicas, number, [node.domain for node in nodes], sizes)
        except ValueError as problem:
            raise RequestRejected(Code.INVALID, str(problem)) from None
        chains = []
        # Nodes of a small domain, or with large disks, may have got more than the others.
        per_node = max([per_node, *(ordinal + 1 for members in places for _, ordinal in members)])
        for index, members in enumerate(places):
            slots = [
                Slot(TargetId(counters.target + 1 + node * per_node + ordinal), nodes[node].id, PublicState.SERVING)
                for node, ordinal in members
            ]
            chains.append(Chain(ChainId(counters.chain + 1 + index), 1, tuple(slots)))
        table = ChainTable(number, 1, replicas, tuple(chain.id for chain in chains))
        more = routing_bytes(chains=chains, tables=[table])
        self._check_size(more)
        self._bytes += more
        self._ledger.set_counters(
            table=number, chain=counters.chain + len(chains), target=counters.target + len(nodes) * per_node
        )
        for chain in chains:
            self._ledger.put_chain(chain)
            self._index_targets(now, chain)
        self._ledger.put_table(table)
        return table

    def _check_size(self, more: int) -> None:
        """The whole routing info must fit into the queue of one stream."""
        if self._bytes + more > routing_bytes_max:
            raise RequestRejected(
                Code.TOO_LARGE,
                f"routing info would have {self._bytes + more} bytes, at most {routing_bytes_max} fit into one stream: "
                "use fewer targets_per_node or fewer chain tables",
            )

    # --- configuration -----------------------------------------------------------------------------------------------

    def _take_settings(self, now: int) -> None:
        """Go by the settings as they are now."""
        was_changing = self._config.reconfigure
        self._config = self.settings.config
        if self._config.reconfigure and not was_changing:
            self._reconfigure(now, self._state.chains)  # what was left as it was meanwhile

    def _set_config(self, event: SetConfig) -> int:
        current = self._state.configs.get(event.role, RoleConfig(event.role, 0, ""))
        if event.expected_version not in (0, current.version):
            raise RequestRejected(
                Code.STALE,
                f"configuration of role {event.role.name.lower()} has version {current.version}, not {event.expected_version}",
            )
        if event.toml == current.toml and current.version:
            return current.version
        made = RoleConfig(event.role, self._state.counters.config + 1, event.toml)
        self._ledger.set_counters(config=made.version)
        self._ledger.put_config(made)
        return made.version
