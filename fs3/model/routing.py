"""Routing info: a snapshot of nodes, chains and tables, and the deltas that lead from one version to the next."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId
from fs3.model.chain import Chain, ChainTable
from fs3.model.domain import Domain


class Role(IntEnum):
    """What a process does. Numbers as on the wire."""

    MGMTD = 1
    META = 2
    STORAGE = 3
    CLIENT = 4


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A process known to the manager."""

    id: NodeId
    name: str
    role: Role
    endpoints: tuple[str, ...]
    """Where it listens: "tcp://host:port", "local://path", "grpc://host:port"."""
    host: str
    """Identifies the host; processes with equal values can use the `local` transport between them."""
    incarnation: int
    """Rises with every start of the process."""
    alive: bool
    """Its lease was running when this snapshot was made."""
    pid: int = 0
    directory: str = ""
    """Which locked directory of its host the process has. For the manager only: clients are not told."""
    by_directory: bool = False
    """Metadata: it writes to a remote engine beside others, and is best asked about directories of its own."""
    domain: Domain = Domain()
    """Where it stands."""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What changed from one routing version to another. Entities are whole; `from_version` 0 replaces everything."""

    from_version: int
    version: int
    nodes: tuple[Node, ...] = ()
    chains: tuple[Chain, ...] = ()
    tables: tuple[ChainTable, ...] = ()
    removed_nodes: tuple[NodeId, ...] = ()
    namespace_deletions: int = 0
    namespaces_version: int = 0
    """As of `version`, both; see `Routing`."""

    @classmethod
    def empty(cls, version: int) -> Self:
        """Nothing changes."""
        return cls(version, version)


class Routing(msgspec.Struct, frozen=True):
    """An immutable snapshot. `apply` returns the next one; readers keep whichever they hold."""

    cluster: bytes = b""
    version: int = 0
    nodes: dict[NodeId, Node] = {}
    chains: dict[ChainId, Chain] = {}
    tables: dict[TableId, ChainTable] = {}
    namespace_deletions: int = 0
    """How many KVCache namespaces have ever been deleted or cleared: whoever uses one asks again when it rises."""
    namespaces_version: int = 0
    """How often the list of KVCache namespaces has been changed: whoever knows all of them reads it again when it rises."""

    def apply(self, delta: Delta, cluster: bytes = b"") -> Self:
        """The snapshot after a delta.

        A delta may start before this version: its entities are whole, so applying it again changes nothing more. Raises
        ValueError when it starts after this version (the caller then asks for what is missing). A delta that leads to an older
        or equal version changes nothing: pushed and pulled updates may arrive in any order.
        """
        if delta.from_version > self.version:
            raise ValueError(f"routing delta starts at {delta.from_version}, this snapshot is {self.version}")
        if delta.version <= self.version and cluster in (b"", self.cluster):
            return self
        whole = delta.from_version == 0
        nodes = {} if whole else {key: value for key, value in self.nodes.items() if key not in delta.removed_nodes}
        chains = {} if whole else dict(self.chains)
        tables = {} if whole else dict(self.tables)
        deletions, namespaces = delta.namespace_deletions, delta.namespaces_version
        if not whole:
            deletions, namespaces = max(self.namespace_deletions, deletions), max(self.namespaces_version, namespaces)
        nodes.update((node.id, node) for node in delta.nodes)
        chains.update((chain.id, chain) for chain in delta.chains)
        tables.update((table.id, table) for table in delta.tables)
        return type(self)(cluster or self.cluster, delta.version, nodes, chains, tables, deletions, namespaces)

    def to_full_delta(self) -> Delta:
        """This snapshot as a delta that replaces everything."""
        return Delta(
            0,
            self.version,
            tuple(self.nodes.values()),
            tuple(self.chains.values()),
            tuple(self.tables.values()),
            namespace_deletions=self.namespace_deletions,
            namespaces_version=self.namespaces_version,
        )
