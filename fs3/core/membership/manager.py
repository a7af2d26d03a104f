"""The management machine: nodes, leases, chain tables, namespaces, configuration.

`step(now, event)` changes the working state at once and returns what to do; `events` says what the shell owes in return. What
clients and nodes may see (`published`, `since`, ...) is only what has been persisted.

Nodes are in `managed_nodes`, chain tables in `managed_tables`, chains in `managed_chains`.
"""

from __future__ import annotations

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.version import THIS_RELEASE, Release
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.deltas import routing_bytes
from fs3.core.membership.departures import Departures
from fs3.core.membership.events import Answer, Effect, Event, ManagerRequest, ManagerTick, Persisted, Rejection, Respond
from fs3.core.membership.groups import Groups
from fs3.core.membership.heads import Heads
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.link_faults import LinkFaults
from fs3.core.membership.machines import Machines
from fs3.core.membership.managed_nodes import ManagedNodes
from fs3.core.membership.move_requests import MoveRequests
from fs3.core.membership.moves import Moves
from fs3.core.membership.namespaces import Namespaces
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.security import Security
from fs3.core.membership.settings_history import Settings
from fs3.core.membership.state import State
from fs3.model.cluster import (
    ClearNamespace,
    DeleteNamespace,
    EnsureTable,
    Heartbeat,
    OpenNamespace,
    RegisterNode,
    RoleConfig,
    SetConfig,
    SetNamespace,
)
from fs3.model.group import PutGroup, RemoveGroup
from fs3.model.machine import AdmitMachine, JoinCluster, MakeToken, RemoveMachine, RevokeToken, SetAuthority
from fs3.model.moves import ListMoves, PlanMoves, SetMoves
from fs3.model.routing import Role
from fs3.model.security import AddUserToken, PutUser, RemoveUser, RevokeUser, RotateKeys, SetSecurity
from fs3.model.settings import SetSettings


class Manager(ManagedNodes):
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
        self.groups = Groups(self._ledger)
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
                case PutGroup() as change:
                    answer = self.groups.put(change)
                case RemoveGroup() as wish:
                    answer = self.groups.remove(wish)
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
