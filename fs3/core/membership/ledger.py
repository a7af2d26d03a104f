"""The manager's working state, what of it is durable, and the one commit under way between the two."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.deltas import DeltaLog
from fs3.core.membership.events import Effect, Persist, Persisted, Publish, Rejection, Respond
from fs3.core.membership.namespace_log import NamespaceLog
from fs3.core.membership.state import Rows, State
from fs3.model.chain import Chain, ChainTable
from fs3.model.cluster import CacheNamespace, RoleConfig
from fs3.model.generation import Generation, TargetGeneration
from fs3.model.group import Group
from fs3.model.machine import CertificateAuthority, JoinToken, Machine
from fs3.model.moves import Departing, DrainedDisks, Move, MoveSettings, RemovedNode, RetiredTarget
from fs3.model.routing import Delta, Node, Role
from fs3.model.security import Account, NodeKey, SecurityRow
from fs3.model.settings import SettingsVersion

manager_waiting_max = 4096
"""Requests waiting for the manager's next commit."""

namespace_changes_kept_max = 4096
"""Commits that changed the list of namespaces, for storage nodes that know it as it was before."""

_RETRY_NS = SECOND
"""After a commit that failed."""


K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Batch:
    """What the next commit takes along."""

    nodes: dict[NodeId, None] = field(default_factory=dict)
    chains: dict[ChainId, None] = field(default_factory=dict)
    tables: dict[TableId, None] = field(default_factory=dict)
    namespaces: dict[str, None] = field(default_factory=dict)
    forgotten_namespaces: list[CacheNamespace] = field(default_factory=list)
    configs: dict[Role, None] = field(default_factory=dict)
    born: list[TargetId] = field(default_factory=list)
    generations: dict[TargetId, None] = field(default_factory=dict)
    removed_nodes: dict[NodeId, None] = field(default_factory=dict)
    moves: dict[ChainId, None] = field(default_factory=dict)
    departing: dict[NodeId, None] = field(default_factory=dict)
    drained_disks: dict[NodeId, None] = field(default_factory=dict)
    retired: dict[TargetId, None] = field(default_factory=dict)
    removed: dict[str, None] = field(default_factory=dict)
    has_move_settings: bool = False
    machines: dict[str, None] = field(default_factory=dict)
    removed_machines: dict[str, None] = field(default_factory=dict)
    tokens: dict[str, None] = field(default_factory=dict)
    removed_tokens: dict[str, None] = field(default_factory=dict)
    settings: dict[int, None] = field(default_factory=dict)
    removed_settings: dict[int, None] = field(default_factory=dict)
    has_security: bool = False
    has_authority: bool = False
    users: dict[str, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)
    node_keys: dict[str, None] = field(default_factory=dict)
    replies: list[Respond] = field(default_factory=list)

    def changes_routing(self) -> bool:
        nodes = self.nodes or self.removed_nodes
        return bool(nodes or self.chains or self.tables or self.namespaces or self.forgotten_namespaces)

    def __bool__(self) -> bool:
        moves = self.moves or self.departing or self.drained_disks or self.retired or self.removed or self.has_move_settings
        admission = self.machines or self.removed_machines or self.tokens or self.removed_tokens or self.settings
        security = self.has_security or self.has_authority or self.users or self.groups or self.node_keys
        return self.changes_routing() or bool(self.configs or self.born or self.generations or moves or admission or security)


@dataclass(slots=True)
class _Commit:
    """A transaction that was handed out and not confirmed."""

    rows: Rows
    delta: Delta | None
    replies: list[Respond]


class Ledger:
    """Changes made with `put_*` show in the working records at once, and in `published` and the `durable_*` ones once stored.

    At most one commit is under way; what changes meanwhile goes into the next one together, under one routing version.
    """

    def __init__(self, state: State, deltas_kept: int) -> None:
        self.state = state
        """Working records."""
        self.delta_log = DeltaLog(state.routing(), deltas_kept)
        """Durable routing info and what led to it."""
        self.durable_namespaces = dict(state.namespaces)
        self.durable_counters = state.counters
        self.durable_configs = dict(state.configs)
        self.durable_settings = dict(state.settings)
        self.durable_security = state.security
        self.retry_at: int | None = None
        """When to try a failed commit again."""
        self.pending_births: set[TargetId] = set()
        """Born, or of another generation, and not stored yet."""
        self.namespace_log = NamespaceLog(state.counters.namespace_change, namespace_changes_kept_max)
        """What led to the durable namespaces."""
        self._namespace_names = sorted(state.namespaces)
        """Of the durable ones."""
        self._batch = _Batch()
        self._commit: _Commit | None = None

    def list_namespaces(self, prefix: str, after: str, limit: int) -> tuple[list[CacheNamespace], bool]:
        """A page of the durable namespaces whose names begin with `prefix` and come after `after`, by name; and whether there are
        more."""
        names = self._namespace_names
        at = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
        found: list[CacheNamespace] = []
        while at < len(names) and names[at].startswith(prefix) and len(found) < limit:
            found.append(self.durable_namespaces[names[at]])
            at += 1
        return found, at < len(names) and names[at].startswith(prefix)

    @property
    def next_version(self) -> int:
        """The routing version that a change made now will have."""
        return self.state.counters.routing + 1

    @property
    def last_version(self) -> int:
        """The routing version that has everything decided so far; it may not be stored yet."""
        return self.next_version if self._batch.changes_routing() else self.state.counters.routing

    def set_counters(self, **counters: int) -> None:
        """Set counters; stored with the next commit."""
        self.state.counters = msgspec.structs.replace(self.state.counters, **counters)

    def put_node(self, node: Node) -> None:
        """Add or change a node."""
        self.state.nodes[node.id] = node
        self._batch.nodes[node.id] = None

    def remove_node(self, node: Node, removed: RemovedNode) -> None:
        """A node is not one of the cluster any more."""
        del self.state.nodes[node.id]
        self._batch.nodes.pop(node.id, None)
        self._batch.removed_nodes[node.id] = None
        self.set_removed(node.name, removed)
        self.remove_node_key(node.name)

    def set_removed(self, name: str, removed: RemovedNode | None) -> None:
        """Remember that a node was removed, or (None) that its name is free again."""
        _set(self.state.removed, self._batch.removed, name, removed)

    def set_move(self, chain: ChainId, move: Move | None) -> None:
        """Set the move of a chain; None: there is none any more."""
        _set(self.state.moves, self._batch.moves, chain, move)

    def set_departing(self, node: NodeId, departing: Departing | None) -> None:
        """Say that a node is to hold nothing any more, or (None) that it may."""
        _set(self.state.departing, self._batch.departing, node, departing)

    def set_drained_disks(self, node: NodeId, drained: DrainedDisks | None) -> None:
        """Say which disks of a node are to hold nothing any more; None: there are none."""
        _set(self.state.drained_disks, self._batch.drained_disks, node, drained)

    def set_retired(self, target: TargetId, retired: RetiredTarget | None) -> None:
        """A target is in no chain any more; None: nothing is left of it."""
        _set(self.state.retired, self._batch.retired, target, retired)

    def put_move_settings(self, settings: MoveSettings) -> None:
        """Change how targets move."""
        self.state.move_settings = settings
        self._batch.has_move_settings = True

    def put_chain(self, chain: Chain) -> None:
        """Add or change a chain."""
        self.state.chains[chain.id] = chain
        self._batch.chains[chain.id] = None

    def put_table(self, table: ChainTable) -> None:
        """Add a chain table."""
        self.state.tables[table.id] = table
        self._batch.tables[table.id] = None

    def put_namespace(self, namespace: CacheNamespace) -> None:
        """Add or change a namespace."""
        self.state.namespaces[namespace.name] = namespace
        self._batch.namespaces[namespace.name] = None
        self.set_counters(namespace_change=self.state.counters.namespace_change + 1)

    def forget_namespace(self, namespace: CacheNamespace) -> None:
        """A namespace is gone, or is to be put under another id: no client finds the pages of this one any more."""
        del self.state.namespaces[namespace.name]
        self._batch.namespaces.pop(namespace.name, None)
        self._batch.forgotten_namespaces.append(namespace)
        counters = self.state.counters
        self.set_counters(namespace_deletion=counters.namespace_deletion + 1, namespace_change=counters.namespace_change + 1)

    def put_config(self, config: RoleConfig) -> None:
        """Set the configuration of a role."""
        self.state.configs[config.role] = config
        self._batch.configs[config.role] = None

    def put_born(self, target: TargetId) -> None:
        """A target has been complete for the first time."""
        self.state.born.add(target)
        self.pending_births.add(target)
        self._batch.born.append(target)

    def put_generation(self, target: TargetId, generation: Generation) -> None:
        """A target has begun another generation."""
        self.state.generations[target] = generation
        self.pending_births.add(target)
        self._batch.generations[target] = None

    def put_authority(self, authority: CertificateAuthority) -> None:
        """Certificates of machines are issued with this one."""
        self.state.authority = authority
        self._batch.has_authority = True

    def put_machine(self, machine: Machine) -> None:
        """A machine has joined, or is another one than before."""
        self.state.machines[machine.name] = machine
        self._batch.removed_machines.pop(machine.name, None)
        self._batch.machines[machine.name] = None

    def remove_machine(self, name: str) -> None:
        """A machine belongs to the cluster no more."""
        del self.state.machines[name]
        self._batch.machines.pop(name, None)
        self._batch.removed_machines[name] = None

    def put_token(self, token: JoinToken) -> None:
        """Add or change a token."""
        self.state.tokens[token.id] = token
        self._batch.removed_tokens.pop(token.id, None)
        self._batch.tokens[token.id] = None

    def remove_token(self, number: str) -> None:
        """A token is not remembered any more."""
        del self.state.tokens[number]
        self._batch.tokens.pop(number, None)
        self._batch.removed_tokens[number] = None

    def put_settings(self, version: SettingsVersion) -> None:
        """Add a version of the settings."""
        self.state.settings[version.version] = version
        self._batch.settings[version.version] = None

    def remove_old_settings(self, kept_max: int) -> None:
        """All but the newest versions of the settings are kept no more."""
        for number in sorted(self.state.settings)[:-kept_max]:
            del self.state.settings[number]
            self._batch.settings.pop(number, None)
            self._batch.removed_settings[number] = None

    def put_security(self, row: SecurityRow) -> None:
        """Change the security of the cluster."""
        self.state.security = row
        self._batch.has_security = True

    def put_user(self, user: Account) -> None:
        """Add or change a user."""
        _set(self.state.users, self._batch.users, user.name, user)

    def remove_user(self, name: str) -> None:
        """A user is forgotten."""
        _set(self.state.users, self._batch.users, name, None)

    def put_group(self, group: Group) -> None:
        """Add or change a group."""
        _set(self.state.groups, self._batch.groups, group.name, group)

    def remove_group(self, name: str) -> None:
        """A group is forgotten."""
        _set(self.state.groups, self._batch.groups, name, None)

    def put_node_key(self, node_key: NodeKey) -> None:
        """A node has a key, or another one than before."""
        _set(self.state.node_keys, self._batch.node_keys, node_key.name, node_key)

    def remove_node_key(self, name: str) -> None:
        """A node is not known by its key any more."""
        if name in self.state.node_keys:
            _set(self.state.node_keys, self._batch.node_keys, name, None)

    def is_full(self) -> bool:
        """As many requests wait for commits as may."""
        waiting = len(self._batch.replies) + (len(self._commit.replies) if self._commit is not None else 0)
        return waiting >= manager_waiting_max

    def respond_when_durable(self, token: int, answer: Any) -> list[Effect]:
        """Answer a request once everything it has changed or seen is durable: now, if it is."""
        reply = Respond(token, answer)
        if self._batch:
            self._batch.replies.append(reply)
        elif self._commit is not None:
            self._commit.replies.append(reply)
        else:
            return [reply]
        return []

    def flush(self) -> list[Effect]:
        """Begin a commit when there is something to store and none is under way."""
        if self._commit is not None or not self._batch:
            return []
        batch, self._batch = self._batch, _Batch()
        state = self.state
        delta = None
        if batch.changes_routing():
            version = self.next_version
            self.set_counters(routing=version)
            delta = Delta(
                version - 1,
                version,
                tuple(state.nodes[node] for node in batch.nodes),
                tuple(state.chains[chain] for chain in batch.chains),
                tuple(state.tables[table] for table in batch.tables),
                tuple(batch.removed_nodes),
                namespace_deletions=state.counters.namespace_deletion,
                namespaces_version=state.counters.namespace_change,
            )
        rows = Rows(
            state.counters,
            nodes=delta.nodes if delta else (),
            chains=delta.chains if delta else (),
            tables=delta.tables if delta else (),
            namespaces=tuple(state.namespaces[name] for name in batch.namespaces),
            forgotten_namespaces=tuple(batch.forgotten_namespaces),
            configs=tuple(state.configs[role] for role in batch.configs),
            born=tuple(batch.born),
            generations=tuple(TargetGeneration(target, state.generations[target]) for target in batch.generations),
            removed_nodes=tuple(batch.removed_nodes),
            moves=tuple((chain, state.moves.get(chain)) for chain in batch.moves),
            departing=tuple((node, state.departing.get(node)) for node in batch.departing),
            drained_disks=tuple((node, state.drained_disks.get(node)) for node in batch.drained_disks),
            retired=tuple((target, state.retired.get(target)) for target in batch.retired),
            removed=tuple((name, state.removed.get(name)) for name in batch.removed),
            move_settings=state.move_settings if batch.has_move_settings else None,
            machines=tuple(state.machines[name] for name in batch.machines),
            removed_machines=tuple(batch.removed_machines),
            tokens=tuple(state.tokens[token] for token in batch.tokens),
            removed_tokens=tuple(batch.removed_tokens),
            settings=tuple(state.settings[version] for version in batch.settings),
            removed_settings=tuple(batch.removed_settings),
            security=state.security if batch.has_security else None,
            authority=state.authority if batch.has_authority else None,
            users=tuple((name, state.users.get(name)) for name in batch.users),
            groups=tuple((name, state.groups.get(name)) for name in batch.groups),
            node_keys=tuple((name, state.node_keys.get(name)) for name in batch.node_keys),
        )
        self._commit = _Commit(rows, delta, batch.replies)
        return [Persist(rows)]

    def on_persisted(self, now: int, event: Persisted) -> list[Effect]:
        """The commit under way is durable, or has failed."""
        commit = self._commit
        assert commit is not None, "nothing was being persisted"
        if event.problem:
            # The working state stays: what was numbered stays numbered, and is stored as soon as the store works again.
            self.retry_at = now + _RETRY_NS
            refused = Rejection(Code.INTERNAL, f"the manager cannot store this now: {event.problem}; it will try again")
            effects: list[Effect] = [Respond(reply.token, refused) for reply in commit.replies]
            commit.replies = []
            return effects
        self._commit = None
        # One that was put again meanwhile is in the next commit, which its own answer waits for.
        stored = {*commit.rows.born, *(each.target for each in commit.rows.generations)}
        self.pending_births.difference_update(stored - self._batch.generations.keys())
        self.durable_counters = commit.rows.counters
        if (changed := commit.rows.namespaces) or commit.rows.forgotten_namespaces:
            gone = (namespace.id for namespace in commit.rows.forgotten_namespaces)
            self.namespace_log.append(self.durable_counters.namespace_change, (each.name for each in changed), gone)
        for namespace in commit.rows.forgotten_namespaces:
            if self.durable_namespaces.pop(namespace.name, None) is not None:
                del self._namespace_names[bisect_left(self._namespace_names, namespace.name)]
        for namespace in commit.rows.namespaces:
            if namespace.name not in self.durable_namespaces:
                insort(self._namespace_names, namespace.name)
            self.durable_namespaces[namespace.name] = namespace
        self.durable_configs.update((config.role, config) for config in commit.rows.configs)
        for former in commit.rows.removed_settings:
            self.durable_settings.pop(former, None)
        self.durable_settings.update((version.version, version) for version in commit.rows.settings)
        if commit.rows.security is not None:
            self.durable_security = commit.rows.security
        effects = []
        if commit.delta is not None:
            self.delta_log.append(commit.delta)
            effects.append(Publish(commit.delta))
        return effects + commit.replies

    def retry(self, now: int) -> list[Effect]:
        """The failed commit again, when it is time."""
        if self.retry_at is None or now < self.retry_at or self._commit is None:
            return []
        self.retry_at = None
        return [Persist(self._commit.rows)]


def _set(kept: dict[K, V], changed: dict[K, None], key: K, value: V | None) -> None:
    if value is None:
        kept.pop(key, None)
    else:
        kept[key] = value
    changed[key] = None
