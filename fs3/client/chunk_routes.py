"""Who holds which chain, as one client sees it: replicas for reads, heads for updates, channels to nodes."""

from __future__ import annotations

import asyncio

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, NodeId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connect import Connector
from fs3.client.routing import RoutingSource
from fs3.core.files.retry import Do, Situation, backoff_ns, decide
from fs3.core.files.target_choice import Candidates, TargetChoice, candidates
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel

_SILENT = (Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE, Code.SHUTTING_DOWN)
_LONG_AGO = -(1 << 62)
_NOBODY = Candidates(0, (), ())


class ChunkRoutes:
    """A routing source with what chunk IOs need of it kept at hand for as long as a snapshot is the newest."""

    def __init__(self, source: RoutingSource, connector: Connector, clock: Clock, host: str, seed: int) -> None:
        self.choice = TargetChoice(seed % 1024)
        self._source = source
        self._connector = connector
        self._clock = clock
        self._host = host
        self._prng = Prng(seed)
        self._routing = Routing()
        self._learned_at = clock.now()
        self._candidates: dict[ChainId, Candidates] = {}
        self._channels: dict[NodeId, Channel] = {}
        source.on_change(self._changed)
        self._changed(source.routing)

    @property
    def routing(self) -> Routing:
        """The newest snapshot."""
        return self._routing

    def candidates(self, chain: ChainId) -> Candidates:
        """The serving replicas of a chain; none for a chain nobody knows."""
        found = self._candidates.get(chain)
        if found is None:
            members = self._routing.chains.get(chain)
            found = candidates(members, self._routing, self._host) if members is not None else _NOBODY
            self._candidates[chain] = found
        return found

    def channel(self, node: NodeId) -> Channel:
        """The channel to a node. Raises FS3Error (UNAVAILABLE) naming a node that is not known or that no wire reaches."""
        found = self._channels.get(node)
        if found is None:
            known = self._routing.nodes.get(node)
            if known is None:
                raise error(Code.UNAVAILABLE, f"node {node} is not in the routing info of version {self._routing.version}")
            found = self._channels[node] = self._connector.channel(known.endpoints, known.host)
        return found

    def heard(self, routing_version: int) -> None:
        """A node answered with the routing version it knows: when that is newer, routing here is old, whatever its age."""
        if routing_version > self._routing.version:
            self._learned_at = _LONG_AGO

    def not_answered(self, node: NodeId, failure: FS3Error) -> None:
        """A request to a node failed as a whole; when the node is the reason, others are preferred for a while."""
        self.heard(failure.routing_version)
        if failure.code in _SILENT:
            self.choice.failed(node, self._clock.now())

    def decide(self, code: Code, attempt: int, *, read: bool, repeatable: bool, others: bool, asked_tail: bool) -> Do:
        """The retry table's answer."""
        age = self._clock.now() - self._learned_at
        return decide(Situation(code, attempt, age, read, repeatable, others, asked_tail))

    async def prepare(self, todo: set[Do], attempt: int, deadline: int) -> None:
        """Do what has to be done before trying again; at most until the deadline."""
        now = self._clock.now()
        if Do.REFRESH in todo:
            try:
                async with asyncio.timeout(max(0, deadline - now) / SECOND):
                    self._changed(await self._source.refresh(self._routing.version))
            except TimeoutError:
                return
            self._learned_at = self._clock.now()
        elif Do.WAIT in todo:
            await asyncio.sleep(min(backoff_ns(attempt, self._prng.next()), max(0, deadline - now)) / SECOND)

    def _changed(self, routing: Routing) -> None:
        if routing.version <= self._routing.version and self._routing.version:
            return
        self._routing = routing
        self._learned_at = self._clock.now()
        self._candidates = {}
        self._channels = {}
