"""The management machine: nodes, leases, chain tables, namespaces, configuration.

`step(now, event)` changes the working state at once and returns what to do. Reads (`published`, `since`) show only what has been
persisted. Changes gather while a commit is under way and go into the next one together, with one routing version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.limits import (
    manager_waiting_max,
    namespaces_max,
    nodes_max,
    page_bytes_max,
    replicas_max,
    routing_bytes_max,
    tables_max,
)
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.deltas import DeltaLog, routing_bytes
from fs3.core.membership.events import (
    Beaten,
    Effect,
    EnsureTable,
    Event,
    Heartbeat,
    OpenNamespace,
    Persist,
    Persisted,
    Publish,
    Refused,
    RegisterNode,
    Registered,
    Reply,
    SetConfig,
    TargetReport,
    Tick,
)
from fs3.core.membership.health import Health
from fs3.core.membership.placement import place
from fs3.core.membership.state import Counters, Namespace, Rows, State, StoredConfig
from fs3.core.membership.transition import next_chain
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.routing import Delta, Node, Role, Routing

_RETRY_NS = SECOND
"""After a commit that failed."""

Answer = Registered | Beaten | TableId | Namespace | int | Refused


class _Refusal(Exception):
    def __init__(self, code: Code, message: str) -> None:
        self.refused = Refused(code, message)


@dataclass(slots=True)
class _Batch:
    """What the next commit takes along."""

    nodes: dict[NodeId, None] = field(default_factory=dict)
    chains: dict[ChainId, None] = field(default_factory=dict)
    tables: dict[TableId, None] = field(default_factory=dict)
    namespaces: dict[str, None] = field(default_factory=dict)
    configs: dict[Role, None] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)

    def routes(self) -> bool:
        return bool(self.nodes or self.chains or self.tables)

    def any(self) -> bool:
        return self.routes() or bool(self.namespaces or self.configs)


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target, for people."""

    chain: ChainId
    chain_version: int
    slot: Slot
    local: LocalState | None
    report: TargetReport | None


class Manager:
    """The primary's state. Made from what was stored; `now` is the manager's monotonic clock."""

    def __init__(self, now: int, config: MgmtdConfig, state: State) -> None:
        self._config = config.check()
        self._state = state
        self._counters = state.counters
        self._log = DeltaLog(state.routing(), config.deltas_kept)
        self._names = {node.name: node.id for node in state.nodes.values()}
        self._home: dict[NodeId, dict[TargetId, ChainId]] = {}
        for chain in state.chains.values():
            self._settle(chain)
        self._health = Health(config)
        for node in state.nodes:
            # Leases that the former primary granted may still run, and whom it has fenced is not stored.
            self._health.presume(now, node, state.counters.routing if config.reconfigure else 0)
        self._batch = _Batch()
        self._committing: tuple[Rows, Delta | None, list[Reply]] | None = None
        self._retry_at: int | None = None
        self._tick_ns = config.heartbeat_ns // 2
        self._tick_at = now + self._tick_ns
        self._handlers: dict[type[Event], Callable[[int, Event], Answer]] = {
            RegisterNode: self._register,  # type: ignore[dict-item]
            EnsureTable: self._ensure_table,  # type: ignore[dict-item]
            OpenNamespace: self._open_namespace,  # type: ignore[dict-item]
            SetConfig: self._set_config,  # type: ignore[dict-item]
        }

    # --- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: int, event: Event) -> list[Effect]:
        """Take one event in. Effects in the order to carry them out."""
        effects: list[Effect] = []
        if isinstance(event, Heartbeat):
            effects.append(self._heartbeat(now, event))
        elif isinstance(event, Tick):
            self._tick(now, effects)
        elif isinstance(event, Persisted):
            self._persisted(now, event, effects)
        else:
            effects.extend(self._request(now, event))
        if self._committing is None and self._batch.any():
            effects.append(self._commit())
        return effects

    def next_deadline(self) -> int:
        """When to step with a Tick."""
        return self._tick_at if self._retry_at is None else min(self._tick_at, self._retry_at)

    def _request(self, now: int, event: RegisterNode | EnsureTable | OpenNamespace | SetConfig) -> list[Effect]:
        if len(self._batch.replies) >= manager_waiting_max:
            return [Reply(event.token, Refused(Code.BUSY, f"{manager_waiting_max} requests wait for the manager's store"))]
        try:
            answer = self._handlers[type(event)](now, event)
        except _Refusal as refusal:
            return [Reply(event.token, refusal.refused)]
        reply = Reply(event.token, answer)
        if self._batch.any():
            self._batch.replies.append(reply)
        elif self._committing is not None:
            # It changed nothing, but what it saw may not be durable yet.
            self._committing[2].append(reply)
        else:
            return [reply]
        return []

    def _commit(self) -> Persist:
        """Close the batch: one transaction, one routing version."""
        batch, self._batch = self._batch, _Batch()
        state = self._state
        delta = None
        if batch.routes():
            version = self._counters.routing + 1
            self._counters = msgspec.structs.replace(self._counters, routing=version)
            delta = Delta(
                version - 1,
                version,
                tuple(state.nodes[node] for node in batch.nodes),
                tuple(state.chains[chain] for chain in batch.chains),
                tuple(state.tables[table] for table in batch.tables),
            )
        rows = Rows(
            self._counters,
            nodes=delta.nodes if delta else (),
            chains=delta.chains if delta else (),
            tables=delta.tables if delta else (),
            namespaces=tuple(state.namespaces[name] for name in batch.namespaces),
            configs=tuple(state.configs[role] for role in batch.configs),
        )
        self._committing = (rows, delta, batch.replies)
        return Persist(rows)

    def _persisted(self, now: int, event: Persisted, effects: list[Effect]) -> None:
        assert self._committing is not None, "nothing was being persisted"
        rows, delta, replies = self._committing
        if event.problem:
            # The working state stays: what was numbered stays numbered, and is stored as soon as the store works again.
            self._retry_at = now + _RETRY_NS
            self._committing = (rows, delta, [])
            refused = Refused(Code.INTERNAL, f"the manager cannot store the change now: {event.problem}; it will try again")
            effects.extend(Reply(reply.token, refused) for reply in replies)
            return
        self._committing = None
        if delta is not None:
            self._log.append(delta)
            effects.append(Publish(delta))
        effects.extend(replies)

    def _tick(self, now: int, effects: list[Effect]) -> None:
        if self._retry_at is not None and now >= self._retry_at and self._committing is not None:
            self._retry_at = None
            effects.append(Persist(self._committing[0]))
        if now < self._tick_at:
            return
        self._tick_at = now + self._tick_ns
        for node in list(self._state.nodes.values()):
            if node.alive and not self._health.alive(now, node.id):
                self._gone(now, node)

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> bytes:
        """Id of the cluster."""
        return self._state.cluster.id

    @property
    def config(self) -> MgmtdConfig:
        """What the manager was configured with."""
        return self._config

    @property
    def published(self) -> Routing:
        """The newest persisted routing info."""
        return self._log.routing

    def since(self, version: int) -> Delta:
        """What leads from a version to `published`."""
        return self._log.since(version)

    def stored_config(self, role: Role) -> StoredConfig:
        """The distributed configuration of a role; version 0 and empty when there is none."""
        return self._state.configs.get(role, StoredConfig(role, 0, ""))

    def namespaces(self) -> list[Namespace]:
        """All of them, by id."""
        return sorted(self._state.namespaces.values(), key=lambda namespace: namespace.id)

    def targets(self, now: int) -> list[TargetStatus]:
        """Every target of every chain, as published and as reported."""
        return [
            TargetStatus(
                chain.id,
                chain.version,
                slot,
                self._health.local_state(now, slot.node, slot.target, chain.version),
                self._health.report(slot.node, slot.target),
            )
            for chain in self.published.chains.values()
            for slot in chain.slots
        ]

    def lease_left_ns(self, now: int, node: NodeId) -> int:
        """How long a node may still serve; negative when its lease has run out."""
        return self._health.lease_left_ns(now, node)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _register(self, now: int, event: RegisterNode) -> Answer:
        if event.cluster and event.cluster != self.cluster:
            raise _Refusal(
                Code.WRONG_CLUSTER,
                f"node {event.name!r} belongs to cluster {event.cluster.hex()}, this is {self.cluster.hex()} "
                f"({self._state.cluster.name})",
            )
        known = self._state.nodes.get(self._names.get(event.name, NodeId(0)))
        if known is None:
            if len(self._state.nodes) >= nodes_max:
                raise _Refusal(Code.TOO_LARGE, f"the cluster has {nodes_max} nodes, the most it can have")
            number = NodeId(self._counters.node + 1)
        else:
            number = known.id
            self._check_successor(now, known, event)
        self._check_targets(number, event)
        node = Node(number, event.name, event.role, event.endpoints, event.host, event.incarnation, alive=True, pid=event.pid)
        self._check_size(nodes=[node])
        self._health.registered(now, number)
        if node != known:
            self._counters = msgspec.structs.replace(self._counters, node=max(self._counters.node, number))
            self._names[node.name] = number
            self._state.nodes[number] = node
            self._batch.nodes[number] = None
        if event.role is Role.STORAGE:
            self._make_default_table()
        return Registered(number)

    def _check_successor(self, now: int, known: Node, event: RegisterNode) -> None:
        """May this process take over the name?"""
        if event.role is not known.role:
            raise _Refusal(Code.INVALID, f"node {known.name!r} is a {known.role.name}, not a {event.role.name}")
        if event.incarnation < known.incarnation:
            raise _Refusal(
                Code.OLD_INCARNATION,
                f"incarnation {event.incarnation} of node {known.name!r} is over, {known.incarnation} has registered",
            )
        same = (event.host, event.pid, event.endpoints) == (known.host, known.pid, known.endpoints)
        if event.incarnation == known.incarnation and not same and self._health.alive(now, known.id):
            raise _Refusal(
                Code.OLD_INCARNATION,
                f"node {known.name!r} is running already: process {known.pid} at {', '.join(known.endpoints) or 'no endpoint'}",
            )

    def _check_targets(self, number: NodeId, event: RegisterNode) -> None:
        """Data on a node's disks must be data of targets that are this node's."""
        own = self._home.get(number, {})
        for target in event.targets:
            if target in own:
                continue
            owner = next((node for node, targets in self._home.items() if target in targets), None)
            where = f"it belongs to node {self._state.nodes[owner].name!r}" if owner else "it belongs to no chain"
            raise _Refusal(Code.INVALID, f"node {event.name!r} has data of target {target}, but {where}")

    def _heartbeat(self, now: int, event: Heartbeat) -> Reply:
        node = self._state.nodes.get(event.node)
        if node is None:
            return Reply(event.token, Refused(Code.UNKNOWN_NODE, f"node {event.node} is not registered here"))
        if event.incarnation < node.incarnation:
            message = f"incarnation {event.incarnation} of node {node.name!r} is over, {node.incarnation} has registered"
            return Reply(event.token, Refused(Code.OLD_INCARNATION, message))
        if event.incarnation > node.incarnation:
            message = f"incarnation {event.incarnation} of node {node.name!r} has not registered"
            return Reply(event.token, Refused(Code.UNKNOWN_NODE, message))
        own = self._home.get(node.id, {})
        versions = {target: self._state.chains[chain].version for target, chain in own.items()}
        granted, changed = self._health.heard(now, event, versions)
        alive = self._health.alive(now, node.id)
        if alive and not node.alive:
            self._set_alive(node, True)
            changed = set(own)
        elif node.alive and not alive:
            self._gone(now, node)
        elif changed:
            self._reconfigure(now, {own[target] for target in changed})
        return Reply(
            event.token,
            Beaten(
                seq=event.seq,
                lease_ns=self._config.lease_ns if granted else 0,
                routing_version=self.published.version,
                config_version=self._durable_config_version(node.role),
            ),
        )

    def _durable_config_version(self, role: Role) -> int:
        return 0 if role in self._batch.configs else self.stored_config(role).version

    def _gone(self, now: int, node: Node) -> None:
        """Its lease has run out, or it has handed over."""
        self._set_alive(node, False)
        self._reconfigure(now, set(self._home.get(node.id, {}).values()))

    def _set_alive(self, node: Node, alive: bool) -> None:
        self._state.nodes[node.id] = msgspec.structs.replace(node, alive=alive)
        self._batch.nodes[node.id] = None

    # --- chains ------------------------------------------------------------------------------------------------------

    def _reconfigure(self, now: int, chains: set[ChainId]) -> None:
        """Let chains follow what is known of their targets."""
        if not self._config.reconfigure:
            return
        for number in sorted(chains):
            chain = self._state.chains[number]
            states = {
                slot.target: state
                for slot in chain.slots
                if (state := self._health.local_state(now, slot.node, slot.target, chain.version)) is not None
            }
            following = next_chain(chain, states)
            if following is chain:
                continue
            for slot in chain.serving():
                after = following.slot(slot.target)
                if after is None or after.state is not PublicState.SERVING:
                    # It may not have seen this yet: no new lease before it has.
                    self._health.fence(slot.node, self._counters.routing + 1)
            self._state.chains[number] = following
            self._batch.chains[number] = None

    def _settle(self, chain: Chain) -> None:
        for slot in chain.slots:
            self._home.setdefault(slot.node, {})[slot.target] = chain.id

    def _storage_nodes(self) -> list[Node]:
        return sorted((node for node in self._state.nodes.values() if node.role is Role.STORAGE), key=lambda node: node.id)

    def _make_default_table(self) -> None:
        if not self._state.tables and len(self._storage_nodes()) >= self._config.storage_nodes:
            self._make_table(self._config.replicas)

    def _make_table(self, replicas: int) -> ChainTable:
        """Another table, with fresh targets on all storage nodes. All of it is new and empty, so every target serves."""
        nodes = self._storage_nodes()
        per_node = self._config.targets_per_node
        number = TableId(self._counters.table + 1)
        if len(self._state.tables) >= tables_max:
            raise _Refusal(Code.TOO_LARGE, f"the cluster has {tables_max} chain tables, the most it can have")
        try:
            places = place(len(nodes), per_node, replicas, seed=number)
        except ValueError as problem:
            raise _Refusal(Code.INVALID, str(problem)) from None
        first_target, first_chain = self._counters.target + 1, self._counters.chain + 1
        chains = [
            Chain(
                ChainId(first_chain + index),
                1,
                tuple(
                    Slot(TargetId(first_target + node * per_node + ordinal), nodes[node].id, PublicState.SERVING)
                    for node, ordinal in members
                ),
            )
            for index, members in enumerate(places)
        ]
        table = ChainTable(number, 1, replicas, tuple(chain.id for chain in chains))
        self._check_size(chains=chains, tables=[table])
        self._counters = msgspec.structs.replace(
            self._counters,
            table=number,
            chain=self._counters.chain + len(chains),
            target=self._counters.target + len(nodes) * per_node,
        )
        for chain in chains:
            self._state.chains[chain.id] = chain
            self._batch.chains[chain.id] = None
            self._settle(chain)
        self._state.tables[number] = table
        self._batch.tables[number] = None
        return table

    def _ensure_table(self, now: int, event: EnsureTable) -> Answer:
        return self._table(event.replicas or self._config.replicas).id

    def _table(self, replicas: int) -> ChainTable:
        if not 1 <= replicas <= replicas_max:
            raise _Refusal(Code.INVALID, f"replicas is {replicas}, must be 1 to {replicas_max}")
        for table in self._state.tables.values():
            if table.replicas == replicas:
                return table
        here, expected = len(self._storage_nodes()), self._config.storage_nodes
        if not self._state.tables and here < expected:
            # A table made now would leave out whoever is still starting.
            raise _Refusal(Code.BUSY, f"the cluster is forming: {here} of {expected} storage nodes have registered")
        return self._make_table(replicas)

    def _check_size(
        self, nodes: list[Node] | None = None, chains: list[Chain] | None = None, tables: list[ChainTable] | None = None
    ) -> None:
        """The whole routing info must fit into one frame."""
        state = self._state
        replaced = {node.id for node in nodes or ()}
        size = routing_bytes(
            [node for node in state.nodes.values() if node.id not in replaced] + (nodes or []),
            [*state.chains.values(), *(chains or ())],
            [*state.tables.values(), *(tables or ())],
        )
        if size > routing_bytes_max:
            raise _Refusal(
                Code.TOO_LARGE,
                f"routing info would have {size} bytes, at most {routing_bytes_max} fit into one message: "
                "use fewer targets_per_node or fewer chain tables",
            )

    # --- namespaces and configuration --------------------------------------------------------------------------------

    def _open_namespace(self, now: int, event: OpenNamespace) -> Answer:
        found = self._state.namespaces.get(event.name)
        if found is not None:
            if event.page_bytes != found.page_bytes:
                raise _Refusal(
                    Code.NAMESPACE_DIFFERS,
                    f"namespace {event.name!r} has pages of {found.page_bytes} bytes, not {event.page_bytes}",
                )
            if event.replicas not in (0, found.replicas):
                raise _Refusal(
                    Code.NAMESPACE_DIFFERS, f"namespace {event.name!r} has {found.replicas} replicas, not {event.replicas}"
                )
            return found
        if not 1 <= event.page_bytes <= page_bytes_max:
            raise _Refusal(Code.INVALID, f"page_bytes is {event.page_bytes}, must be 1 to {page_bytes_max}")
        if len(self._state.namespaces) >= namespaces_max:
            raise _Refusal(Code.TOO_LARGE, f"the cluster has {namespaces_max} namespaces, the most it can have")
        table = self._table(event.replicas or self._config.replicas)
        made = Namespace(self._counters.namespace + 1, event.name, event.page_bytes, table.replicas, table.id)
        self._counters = msgspec.structs.replace(self._counters, namespace=made.id)
        self._state.namespaces[made.name] = made
        self._batch.namespaces[made.name] = None
        return made

    def _set_config(self, now: int, event: SetConfig) -> Answer:
        current = self.stored_config(event.role)
        if event.expected_version not in (0, current.version):
            raise _Refusal(
                Code.STALE,
                f"the configuration of role {event.role.name.lower()} has version {current.version}, not {event.expected_version}",
            )
        if event.toml == current.toml and current.version:
            return current.version
        made = StoredConfig(event.role, self._counters.config + 1, event.toml)
        self._counters = msgspec.structs.replace(self._counters, config=made.version)
        self._state.configs[event.role] = made
        self._batch.configs[event.role] = None
        return made.version
