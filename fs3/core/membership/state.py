"""What the manager remembers across restarts. Each record is a row of its store; new fields go at the end with a default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.model.chain import Chain, ChainTable
from fs3.model.cluster import CacheNamespace, RoleConfig
from fs3.model.generation import Generation, TargetGeneration
from fs3.model.group import Group
from fs3.model.machine import CertificateAuthority, JoinToken, Machine
from fs3.model.moves import Departing, DrainedDisks, Move, MoveSettings, RemovedNode, RetiredTarget
from fs3.model.routing import Node, Role, Routing
from fs3.model.security import Account, NodeKey, SecurityRow
from fs3.model.settings import SettingsVersion

K = TypeVar("K")
V = TypeVar("V")

FORMAT = 1
"""Of the rows; another one is refused."""


class ClusterRow(msgspec.Struct, frozen=True, array_like=True):
    """Written once, when the cluster is initialised."""

    format: int
    id: bytes
    name: str
    closed: bool = False
    """Only nodes of machines that have joined are admitted (`machines`)."""


class IdCounters(msgspec.Struct, frozen=True, array_like=True):
    """The last number of each kind that was given out; none is used twice."""

    routing: int = 0
    """Routing version: rises by one with every stored change of nodes, chains, tables and namespaces."""
    node: int = 0
    target: int = 0
    chain: int = 0
    table: int = 0
    namespace: int = 0
    config: int = 0
    namespace_deletion: int = 0
    """Rises with each namespace that is deleted or cleared."""
    namespace_change: int = 0
    """Rises with each change of the list of namespaces."""
    settings: int = 0
    """Rises with each change of the settings."""


def _update(kept: dict[K, V], changes: Iterable[tuple[K, V | None]]) -> None:
    for key, value in changes:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value


class State(msgspec.Struct):
    """Everything, as it was stored."""

    cluster: ClusterRow
    counters: IdCounters = IdCounters()
    nodes: dict[NodeId, Node] = {}
    chains: dict[ChainId, Chain] = {}
    tables: dict[TableId, ChainTable] = {}
    namespaces: dict[str, CacheNamespace] = {}
    configs: dict[Role, RoleConfig] = {}
    born: set[TargetId] = set()
    """Targets that have been reported complete (UPTODATE) at least once. Before that an empty store is a new one, and complete:
    a target takes its place only after the manager has acknowledged such a report, so nothing was ever acknowledged by it. After
    that an empty store is a lost one. Who begins to serve after its chain was made is always one of them."""
    generations: dict[TargetId, Generation] = {}
    """The newest start of each target that was born; see `generations`."""
    moves: dict[ChainId, Move] = {}
    departing: dict[NodeId, Departing] = {}
    retired: dict[TargetId, RetiredTarget] = {}
    removed: dict[str, RemovedNode] = {}
    """By name."""
    move_settings: MoveSettings = MoveSettings()
    machines: dict[str, Machine] = {}
    tokens: dict[str, JoinToken] = {}
    settings: dict[int, SettingsVersion] = {}
    """What is kept of the history of the settings."""
    security: SecurityRow = SecurityRow()
    users: dict[str, Account] = {}
    node_keys: dict[str, NodeKey] = {}
    drained_disks: dict[NodeId, DrainedDisks] = {}
    authority: CertificateAuthority | None = None
    """What certificates of machines are issued with."""
    groups: dict[str, Group] = {}

    def apply(self, rows: Rows) -> None:
        """Take over what one commit has changed."""
        self.counters = rows.counters
        self.nodes.update((node.id, node) for node in rows.nodes)
        for gone in rows.removed_nodes:
            self.nodes.pop(gone, None)
        self.chains.update((chain.id, chain) for chain in rows.chains)
        self.tables.update((table.id, table) for table in rows.tables)
        for forgotten in rows.forgotten_namespaces:
            if (found := self.namespaces.get(forgotten.name)) is not None and found.id == forgotten.id:
                del self.namespaces[forgotten.name]
        self.namespaces.update((namespace.name, namespace) for namespace in rows.namespaces)
        self.configs.update((config.role, config) for config in rows.configs)
        self.born.update(rows.born)
        self.generations.update((each.target, each.generation) for each in rows.generations)
        _update(self.moves, rows.moves)
        _update(self.departing, rows.departing)
        _update(self.retired, rows.retired)
        _update(self.removed, rows.removed)
        if rows.move_settings is not None:
            self.move_settings = rows.move_settings
        for machine in rows.removed_machines:
            self.machines.pop(machine, None)
        for token in rows.removed_tokens:
            self.tokens.pop(token, None)
        for version in rows.removed_settings:
            self.settings.pop(version, None)
        self.machines.update((machine.name, machine) for machine in rows.machines)
        self.tokens.update((token.id, token) for token in rows.tokens)
        self.settings.update((settings.version, settings) for settings in rows.settings)
        if rows.security is not None:
            self.security = rows.security
        _update(self.users, rows.users)
        _update(self.groups, rows.groups)
        _update(self.node_keys, rows.node_keys)
        _update(self.drained_disks, rows.drained_disks)
        if rows.authority is not None:
            self.authority = rows.authority

    def routing(self) -> Routing:
        """The stored routing info."""
        return Routing(
            self.cluster.id,
            self.counters.routing,
            dict(self.nodes),
            dict(self.chains),
            dict(self.tables),
            self.counters.namespace_deletion,
            self.counters.namespace_change,
        )


class Rows(msgspec.Struct, frozen=True):
    """What one commit changes: these records, whole, and the counters."""

    counters: IdCounters
    nodes: tuple[Node, ...] = ()
    chains: tuple[Chain, ...] = ()
    tables: tuple[ChainTable, ...] = ()
    namespaces: tuple[CacheNamespace, ...] = ()
    forgotten_namespaces: tuple[CacheNamespace, ...] = ()
    """Their rows are deleted."""
    configs: tuple[RoleConfig, ...] = ()
    born: tuple[TargetId, ...] = ()
    generations: tuple[TargetGeneration, ...] = ()
    removed_nodes: tuple[NodeId, ...] = ()
    moves: tuple[tuple[ChainId, Move | None], ...] = ()
    """None, here and below: the row is deleted."""
    departing: tuple[tuple[NodeId, Departing | None], ...] = ()
    retired: tuple[tuple[TargetId, RetiredTarget | None], ...] = ()
    removed: tuple[tuple[str, RemovedNode | None], ...] = ()
    move_settings: MoveSettings | None = None
    machines: tuple[Machine, ...] = ()
    removed_machines: tuple[str, ...] = ()
    tokens: tuple[JoinToken, ...] = ()
    removed_tokens: tuple[str, ...] = ()
    settings: tuple[SettingsVersion, ...] = ()
    removed_settings: tuple[int, ...] = ()
    """Versions of the settings that are not kept any more."""
    security: SecurityRow | None = None
    """None: as it was."""
    users: tuple[tuple[str, Account | None], ...] = ()
    node_keys: tuple[tuple[str, NodeKey | None], ...] = ()
    drained_disks: tuple[tuple[NodeId, DrainedDisks | None], ...] = ()
    authority: CertificateAuthority | None = None
    """None: as it was."""
    groups: tuple[tuple[str, Group | None], ...] = ()
