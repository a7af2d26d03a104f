"""The chain tables of the manager: made when all storage nodes are here, with fresh targets on each."""

from __future__ import annotations

from fs3.base.ids import ChainId, TableId, TargetId
from fs3.base.limits import replicas_max, routing_bytes_max, tables_max
from fs3.base.status import Code
from fs3.core.membership.deltas import routing_bytes
from fs3.core.membership.managed_chains import ManagedChains
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.placement import place
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.routing import Node, Role


class ManagedTables(ManagedChains):
    """Part of the manager's machine."""

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
