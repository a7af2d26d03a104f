"""Which metadata service a client talks to: one of its own while that answers, another one as soon as it does not."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from fs3.base.errors import error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.routing import RoutingSource
from fs3.model.routing import Node, Role, Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel

meta_suspect_ns = 5 * SECOND
"""How long other metadata services are preferred to one that did not answer."""


@dataclass(frozen=True, slots=True)
class MetaEndpoint:
    """Where a request goes."""

    node: Node
    channel: Channel


class MetaSelector:
    """The metadata services in routing. They share one store, so any of them will do; a client stays with one while it can."""

    def __init__(self, routing: RoutingSource, connector: Connector, clock: Clock, turn: int) -> None:
        """`turn`: which one is taken first; clients bring different ones."""
        self._routing = routing
        self._connector = connector
        self._clock = clock
        self._turn = turn
        self._current: MetaEndpoint | None = None
        self._suspects: dict[NodeId, int] = {}
        """Node -> until when others are asked first."""
        self._nodes: list[Node] = []
        self._applied: Routing | None = None
        routing.on_change(lambda _: self._apply_routing())

    def choose(self, avoid: Container[NodeId] = ()) -> MetaEndpoint | None:
        """The place for a request that is under way at the nodes in `avoid`; None when there is no further one worth asking.

        FS3Error (UNAVAILABLE) when routing has no metadata service at all.
        """
        current = self._current
        if current is not None and not avoid and not self._suspects:
            return current
        if self._routing.routing is not self._applied:
            self._apply_routing()
        if not self._nodes:
            version = self._routing.routing.version
            raise error(Code.UNAVAILABLE, f"routing version {version} has no metadata service")
        now = self._clock.now()
        for node, until in list(self._suspects.items()):
            if now >= until:
                del self._suspects[node]
        best = min((node for node in self._nodes if node.id not in avoid), key=self._rank, default=None)
        if best is None or (avoid and best.id in self._suspects):
            return None
        place = MetaEndpoint(best, self._connector.channel(best.endpoints, best.host))
        if not avoid:
            self._current = place
        return place

    @property
    def settled(self) -> MetaEndpoint | None:
        """Where requests go while all is well; None when that is still to be found, or a service is under suspicion."""
        return self._current if not self._suspects else None

    def current_node(self) -> Node | None:
        """The service this client talks to while all is well; None when it has none, or suspects one. Changes nothing, so that it
        may be called from any thread."""
        current = self._current
        return current.node if current is not None and not self._suspects else None

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

    def _rank(self, node: Node) -> tuple[bool, bool, int, int]:
        """Lowest first: not under suspicion, alive as far as the manager knows (it may be wrong, or slow), this client's own."""
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
            known: Callable[[NodeId], bool] = {node.id for node in nodes}.__contains__
            self._suspects = {node: until for node, until in self._suspects.items() if known(node)}
