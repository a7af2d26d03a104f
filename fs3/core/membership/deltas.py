"""The last changes of the routing info, so that a client that is a little behind gets what changed and not everything."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fs3.model.chain import Chain, ChainTable
from fs3.model.routing import Delta, Node, Routing


class DeltaLog:
    """Consecutive deltas, bounded: the oldest is dropped for the newest."""

    def __init__(self, routing: Routing, kept_max: int) -> None:
        self._deltas: deque[Delta] = deque(maxlen=kept_max)
        self._routing = routing

    @property
    def routing(self) -> Routing:
        """The snapshot after the newest delta."""
        return self._routing

    def append(self, delta: Delta) -> None:
        """The next delta; it starts at the newest version."""
        assert delta.from_version == self._routing.version, (delta.from_version, self._routing.version)
        self._routing = self._routing.apply(delta)
        self._deltas.append(delta)

    def since(self, version: int) -> Delta:
        """What leads from a version to the newest: one delta, empty when it is the newest, whole when that is all there is.

        Whole also for a version of the future, which is not ours.
        """
        newest = self._routing.version
        if version == newest:
            return Delta.empty(newest)
        if not self._deltas or not self._deltas[0].from_version <= version < newest:
            return self._routing.to_full_delta()
        missed = [delta for delta in self._deltas if delta.version > version]
        nodes: dict[int, Node] = {}
        chains: dict[int, Chain] = {}
        tables: dict[int, ChainTable] = {}
        removed: dict[int, None] = {}
        for delta in missed:
            for gone in delta.removed_nodes:
                nodes.pop(gone, None)
                removed[gone] = None
            for node in delta.nodes:
                nodes[node.id] = node
                removed.pop(node.id, None)
            chains.update((chain.id, chain) for chain in delta.chains)
            tables.update((table.id, table) for table in delta.tables)
        return Delta(
            missed[0].from_version,
            newest,
            tuple(nodes.values()),
            tuple(chains.values()),
            tuple(tables.values()),
            tuple(removed),  # type: ignore[arg-type]
            self._routing.namespace_deletions,
            self._routing.namespaces_version,
        )


def routing_bytes(nodes: Iterable[Node] = (), chains: Iterable[Chain] = (), tables: Iterable[ChainTable] = ()) -> int:
    """At least what these take in an encoded routing info; there is a limit to it (`routing_bytes_max`)."""
    total = 0
    for node in nodes:
        texts = (node.name, node.host, *node.endpoints, node.domain.zone, node.domain.rack)
        total += 40 + sum(3 + len(text.encode()) for text in texts)
    for chain in chains:
        total += 4 + 1 + _varint(chain.id) + 1 + 5
        total += sum(2 + 1 + _varint(slot.target) + 1 + _varint(slot.node) + 2 for slot in chain.slots)
    for table in tables:
        total += 24 + sum(_varint(chain) for chain in table.chains)
    return total


def _varint(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)
