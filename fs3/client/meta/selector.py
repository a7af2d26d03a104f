"""Which metadata service a client talks to: one of its own while that answers, another one as soon as it does not."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial

from fs3.base.errors import error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.meta.owners import Directory, rank_owner
from fs3.client.routing import RoutingSource
from fs3.model.routing import Node, Role, Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel

meta_suspect_ns = 5 * SECOND
"""How long other metadata services are preferred to one that did not answer."""


owners_kept_max = 4096
"""Directories of which a client remembers the owner; then it works them out anew."""


@dataclass(frozen=True, slots=True)
class MetaEndpoint:
    """Where a request goes."""

    node: Node
    channel: Channel


class MetaSelector:
    """The metadata services in routing. They share one store, so any of them will do; a client stays with one while it can. On a
    remote engine it stays with one for each directory (`fs3.client.meta.owners`)."""

    def __init__(self, routing: RoutingSource, connector: Connector, clock: Clock, turn: int) -> None:
        """`turn`: which one is taken first; clients bring different ones."""
        self._routing = routing
        self._connector = connector
        self._clock = clock
        self._turn = turn
        self._current: MetaEndpoint | None = None
        self._by_directory = False
        self._owners: dict[Directory, MetaEndpoint] = {}
        """Of directories that were asked about lately."""
        self._suspects: dict[NodeId, int] = {}
        """Node -> until when others are asked first."""
        self._nodes: list[Node] = []
        self._applied: Routing | None = None
        routing.on_change(lambda _: self._apply_routing())

    def choose(self, avoid: Container[NodeId] = (), directory: Directory | None = None) -> MetaEndpoint | None:
        """The place for a request that is under way at the nodes in `avoid`; None when there is no further one worth asking.
        `directory`: what it is about; the owner of that is asked first, where directories have owners.

        FS3Error (UNAVAILABLE) when routing has no metadata service at all.
        """
        if not self._by_directory:
            directory = None
        if not avoid and not self._suspects:
            known = self._current if directory is None else self._owners.get(directory)
            if known is not None:
                return known
        if self._routing.routing is not self._applied:
            self._apply_routing()
        if not self._nodes:
            version = self._routing.routing.version
            raise error(Code.UNAVAILABLE, f"routing version {version} has no metadata service")
        now = self._clock.now()
        for node, until in list(self._suspects.items()):
            if now >= until:
                del self._suspects[node]
        rank = partial(self._rank, directory=directory)
        best = min((node for node in self._nodes if node.id not in avoid), key=rank, default=None)
        if best is None or (avoid and best.id in self._suspects):
            return None
        place = MetaEndpoint(best, self._connector.channel(best.endpoints, best.host))
        if not avoid:
            if directory is None:
                self._current = place
            elif not self._suspects:
                if len(self._owners) >= owners_kept_max:
                    self._owners.clear()
                self._owners[directory] = place
        return place

    def current_node(self, directory: Directory | None = None) -> Node | None:
        """The service this client talks to while all is well; None when it has none, or suspects one. Changes nothing, so that it
        may be called from any thread. `directory`: as in `choose`."""
        if directory is None or not self._by_directory:
            current = self._current
        else:
            current = self._owners.get(directory)
        return current.node if current is not None and not self._suspects else None

    def has_owners(self) -> bool:
        """Each directory is best asked about at one of several services."""
        return self._by_directory

    def has_another(self) -> bool:
        """There is more than one."""
        return len(self._nodes) > 1

    def has_available(self) -> bool:
        """There is one that is worth asking at once."""
        return any(node.alive and node.id not in self._suspects for node in self._nodes)

    def suspect(self, place: MetaEndpoint) -> None:
        """It did not answer, or not in time: others are asked first for a while."""
        self._suspects[place.node.id] = self._clock.now() + meta_suspect_ns
        if self._current is not None and self._current.node.id == place.node.id:
            self._current = None

    def trust(self, place: MetaEndpoint) -> None:
        """It has answered."""
        if self._suspects.pop(place.node.id, None) is not None:
            self._apply_routing()

    def _rank(self, node: Node, *, directory: Directory | None) -> tuple[bool, bool, int, int]:
        """Lowest first: not under suspicion, alive as far as the manager knows (it may be wrong, or slow), owner of the directory
        or else this client's own."""
        if directory is not None:
            return node.id in self._suspects, not node.alive, -rank_owner(directory, node), 0
        count = len(self._nodes)
        own = self._nodes.index(node) - self._turn % count
        current = self._current is not None and self._current.node == node
        return node.id in self._suspects, not node.alive, 0 if current else 1, own % count

    def _apply_routing(self) -> None:
        """What routing says now. When services come or go, each client goes back to its own, so that the load is spread again."""
        routing = self._routing.routing
        self._applied = routing
        nodes = sorted((node for node in routing.nodes.values() if node.role is Role.META), key=lambda node: node.id)
        if nodes != self._nodes:
            self._nodes = nodes
            self._current = None
            self._owners.clear()
            self._by_directory = len(nodes) > 1 and all(node.by_directory for node in nodes)
            known: Callable[[NodeId], bool] = {node.id for node in nodes}.__contains__
            self._suspects = {node: until for node, until in self._suspects.items() if known(node)}
