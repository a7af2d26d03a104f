"""Which nodes hold which chain, as one client sees it: replicas for reads, heads for updates, channels to nodes."""

from __future__ import annotations

import asyncio
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.limits import liveness_tick_ns, probe_timeout_ns
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.routing import RoutingSource
from fs3.client.security.capabilities import Capabilities
from fs3.client.security.proving_channel import ProvingChannel
from fs3.client.storage.health import UNRESPONSIVE, HealthProber
from fs3.client.storage.hedged_reads import ReadHedger, Replicas
from fs3.client.storage.node_request import NodeRequest, ReplicaHealth
from fs3.client.storage.read_gate import ReadGate, SendWithin
from fs3.core.files.hedging import HedgePolicy
from fs3.core.files.read_grants import ReadGrants
from fs3.core.files.replica_selector import Candidates, ReplicaSelector, candidates
from fs3.core.files.retry import RetryAction, Situation, backoff_ns, decide
from fs3.model.method import Method
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import BufferProvider, Channel, Reply
from fs3.runtime.liveness import LivenessMonitor
from fs3.wire.methods import STORAGE
from fs3.wire.storage_upkeep import report_bad_request_to_pb

bad_reports_max = 16
"""Reports of bad chunks one client has under way; further ones are left to the next client that reads them."""

_LONG_AGO = -(1 << 62)
_NO_CANDIDATES = Candidates(0, (), ())


class ReplicaRouter(ReplicaHealth, Replicas):
    """A routing source with what chunk IOs need of it kept at hand for as long as a snapshot is the newest."""

    def __init__(
        self,
        source: RoutingSource,
        connector: Connector,
        clock: Clock,
        host: str,
        seed: int,
        hedges: HedgePolicy | None = None,
    ) -> None:
        self.choice = ReplicaSelector(seed % 1024)
        self._source = source
        self._connector = connector
        self._clock = clock
        self._host = host
        self._prng = Prng(seed)
        self._routing = Routing()
        self._learned_at = clock.now()
        self.capabilities: Capabilities | None = None
        """What requests show; None: nothing."""
        self.near: frozenset[NodeId] = frozenset()
        """Nodes on this host: they, and this process, wait for the same processors."""
        self._candidates: dict[ChainId, Candidates] = {}
        self._channels: dict[NodeId, Channel] = {}
        self._short_channels: dict[NodeId, Channel] = {}
        self._prober = HealthProber(self)
        self.gate = ReadGate(ReadGrants(), clock)
        self._owing = self.gate.owing
        self._reports: dict[asyncio.Future[Reply], None] = {}
        """In the order in which they were begun, which is the order in which they are cancelled."""
        self.retries: dict[tuple[Code, RetryAction], int] = {}
        """IOs that were refused or not answered, by why and by what was done."""
        self.liveness = LivenessMonitor[NodeRequest](liveness_tick_ns)
        """Reads and finds under way."""
        self.hedger = ReadHedger(self, clock, hedges or HedgePolicy())
        """Reads under way that are no bulk reads."""
        source.on_change(self._on_routing_changed)
        self._on_routing_changed(source.routing)

    @property
    def routing(self) -> Routing:
        """The newest snapshot."""
        return self._routing

    def candidates(self, chain: ChainId) -> Candidates:
        """The serving replicas of a chain; none for a chain that the routing info does not have."""
        found = self._candidates.get(chain)
        if found is None:
            members = self._routing.chains.get(chain)
            found = candidates(members, self._routing, self._host) if members is not None else _NO_CANDIDATES
            self._candidates[chain] = found
        return found

    def members(self, chain: ChainId) -> tuple[NodeId, ...]:
        """The nodes of all replicas of a chain, also of those that do not serve now."""
        known = self._routing.chains.get(chain)
        return tuple(slot.node for slot in known.slots) if known is not None else ()

    def known_candidates(self, chain: ChainId) -> Candidates | None:
        """What `candidates` has answered under the newest routing info, None when it was not asked. Changes nothing, so that it
        may be called from any thread: what another one kept here could be of the routing info before."""
        return self._candidates.get(chain)

    def channel(self, node: NodeId) -> Channel:
        """The channel to a node. Raises FS3Error (UNAVAILABLE) naming a node that is not known or that no wire reaches."""
        found = self._channels.get(node)
        if found is None:
            known = self._routing.nodes.get(node)
            if known is None:
                raise error(Code.UNAVAILABLE, f"node {node} is not in the routing info of version {self._routing.version}")
            found = self._channels[node] = self._prove(self._connector.channel(known.endpoints, known.host))
        return found

    def short_channel(self, node: NodeId) -> Channel:
        """The channel to a node for a request with a short answer: another connection while bulk bytes of the node are on their
        way, since the answer would come behind them. Raises FS3Error as `channel`."""
        if self._owing and node in self.near:
            self.gate.on_short_read()
        if node not in self._owing:
            return self._channels.get(node) or self.channel(node)
        found = self._short_channels.get(node)
        if found is None:
            self.channel(node)  # it is known, and reached
            known = self._routing.nodes[node]
            found = self._short_channels[node] = self._prove(self._connector.short_channel(known.endpoints, known.host))
        return found

    def _prove(self, channel: Channel) -> Channel:
        return channel if self.capabilities is None else ProvingChannel(channel, self.capabilities, self._clock)

    def use_capabilities(self, capabilities: Capabilities) -> None:
        """From now on requests show what this client may do."""
        self.capabilities = capabilities
        self._forget_channels()

    def _forget_channels(self) -> None:
        self._channels = {}
        self._short_channels = {}

    def time_left(self, deadline: int) -> int:
        """Nanoseconds until a deadline. Raises FS3Error (DEADLINE) when there are none."""
        left = deadline - self._clock.now()
        if left <= 0:
            raise error(Code.DEADLINE, "no time left to ask")
        return left

    def start(
        self,
        request: NodeRequest,
        method: Method,
        message: Any,
        into: BufferProvider | None,
        patience_ns: int,
        deadline: int,
    ) -> None:
        """Send a request that another replica could answer as well, and watch its node until `liveness.end`.

        Raises FS3Error: DEADLINE when there is no time left, or when its node is suspect by now and others serve; UNAVAILABLE as
        `channel` does.
        """
        left = self.time_left(deadline)
        self.check_responsive(request)
        request.channel = self.short_channel(request.node)
        request.future = request.channel.start(method, message, (), into, min(left, patience_ns))
        self.liveness.begin(request)

    def start_bulk(self, request: NodeRequest, count: int, begin: SendWithin, patience_ns: int, deadline: int) -> None:
        """`start` for a read of `count` bytes, which may have to wait for others. `begin` sends it.

        Raises FS3Error as `start`; when it has waited, that becomes the outcome of its future.
        """

        def send() -> asyncio.Future[Reply]:
            left = self.time_left(deadline)
            self.check_responsive(request)
            request.channel = self.channel(request.node)
            future = begin(min(left, patience_ns))
            self.liveness.begin(request)
            return future

        request.future = self.gate.start(request.node, count, send, self.time_left(deadline))

    def note_routing_version(self, routing_version: int) -> None:
        """A node answered with the routing version it knows: when that is newer, routing here is old, whatever its age."""
        if routing_version > self._routing.version:
            self._learned_at = _LONG_AGO

    def on_failure(self, node: NodeId, failure: FS3Error) -> None:
        """A request to a node failed as a whole; when the node is the reason, others are preferred for a while."""
        self.note_routing_version(failure.routing_version)
        if failure.code in UNRESPONSIVE:
            self.on_unresponsive(node)
        elif failure.code is Code.NO_CAPABILITY:
            for channel in (self._channels.get(node), self._short_channels.get(node)):
                if isinstance(channel, ProvingChannel):
                    channel.on_failure(failure)

    def report_bad(self, node: NodeId, chunk: ChunkId, chain: ChainId) -> None:
        """Bytes of a chunk arrived from a node with other sums than the node's index has: let it look at its copy. No read waits
        for that."""
        if len(self._reports) >= bad_reports_max:
            return
        try:
            message = report_bad_request_to_pb([(chunk, chain)])
            report = self.channel(node).start(STORAGE.ReportBad, message, timeout_ns=probe_timeout_ns)
        except FS3Error:
            return
        self._reports[report] = None
        report.add_done_callback(self._on_report_done)

    def _on_report_done(self, report: asyncio.Future[Reply]) -> None:
        self._reports.pop(report, None)
        if not report.cancelled():
            report.exception()  # the next reader will report again

    def has_alternative(self, request: NodeRequest) -> bool:
        """As `ReplicaHealth.has_alternative`, by the routing info of now."""
        now = self._clock.now()
        return any(
            node != request.node and not self.choice.is_suspect(node, now)
            for chain in request.chain_ids()
            for node in self.candidates(chain).nodes
        )

    def check_responsive(self, request: NodeRequest) -> None:
        """FS3Error (DEADLINE) when the node of a request that was planned earlier is suspect by now, and others serve."""
        if self.choice.is_suspect(request.node, self._clock.now()) and self.has_alternative(request):
            raise error(Code.DEADLINE, f"node {request.node} has fallen silent")

    def on_unresponsive(self, node: NodeId) -> None:
        """Ask it last for a while, and probe it."""
        self.choice.on_failed(node, self._clock.now())
        self._prober.suspect(node)

    def probe_channel(self, node: NodeId) -> Channel | None:
        """As `ReplicaHealth.probe_channel`."""
        known = self._routing.nodes.get(node)
        return self.channel(node) if known is not None and known.alive else None

    def on_silent(self, request: NodeRequest) -> None:
        """As `ReplicaHealth.on_silent`."""
        self.gate.set_aside(request.future)

    def on_recovered(self, node: NodeId) -> None:
        """It is asked again as others are."""
        self.choice.on_succeeded(node)

    def close(self) -> None:
        """Watch and probe no node any more."""
        self.liveness.close()
        self.hedger.close()
        self._prober.close()
        for report in list(self._reports):
            report.cancel()

    def decide_retry(
        self, code: Code, attempt: int, *, read: bool, repeatable: bool, others: bool, asked_tail: bool
    ) -> RetryAction:
        """The retry table's answer."""
        age = self._clock.now() - self._learned_at
        action = decide(Situation(code, attempt, age, read, repeatable, others, asked_tail))
        self.retries[code, action] = self.retries.get((code, action), 0) + 1
        return action

    async def prepare_retry(self, todo: set[RetryAction], attempt: int, deadline: int) -> None:
        """Do what has to be done before trying again; at most until the deadline."""
        now = self._clock.now()
        if RetryAction.REFRESH in todo:
            try:
                async with asyncio.timeout(max(0, deadline - now) / SECOND):
                    self._on_routing_changed(await self._source.refresh(self._routing.version))
            except TimeoutError:
                return
            self._learned_at = self._clock.now()
        elif RetryAction.WAIT in todo:
            await asyncio.sleep(min(backoff_ns(attempt, self._prng.next()), max(0, deadline - now)) / SECOND)

    def _on_routing_changed(self, routing: Routing) -> None:
        if routing.version <= self._routing.version and self._routing.version:
            return
        self._routing = routing
        self.near = frozenset(number for number, node in routing.nodes.items() if self._host and node.host == self._host)
        self._learned_at = self._clock.now()
        self._candidates = {}
        self._forget_channels()
