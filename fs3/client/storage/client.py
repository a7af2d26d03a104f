"""The storage client: chunks read, changed and looked for, on whatever nodes hold them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId, TargetId
from fs3.base.limits import call_timeout_ns, read_attempt_ns, update_retry_ns_max
from fs3.base.status import Code
from fs3.client.connector import Connector
from fs3.client.routing import RoutingSource
from fs3.client.security.capabilities import Capabilities
from fs3.client.storage.direct_reads import DirectReads
from fs3.client.storage.finds import FindCall, FindOutcome
from fs3.client.storage.listing import list_chunks
from fs3.client.storage.page_events import ListChains, PageEventReader
from fs3.client.storage.page_heads import LeaseCall, LeasedAt, LeasedPresence, LeaseIds, PageSet, PinCall
from fs3.client.storage.page_usage import UsageReport, gather_usage, release_leases, report_lookups
from fs3.client.storage.presence import ChunkPresence, PresenceCall
from fs3.client.storage.read_single import read_single
from fs3.client.storage.reads import ReadCall, ReadCounters, ReadOutcome
from fs3.client.storage.router import ReplicaRouter
from fs3.client.storage.short_circuit import ShortCircuit
from fs3.client.storage.updates import ChannelAllocator, UpdateCall, UpdateCounters
from fs3.core.files.channel_pool import ChannelPool
from fs3.core.files.hedging import HedgePolicy
from fs3.core.files.read_plan import ReadIO, buffer_bytes
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.events import Cursor
from fs3.model.chunk import UpdateResult
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.page_usage import LookupCounters, PinKind
from fs3.model.routing import Role, Routing
from fs3.model.upkeep import ChunkPage, ScrubStatus, TargetSpace
from fs3.ports.clock import Clock
from fs3.ports.host_files import HostFiles
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage_upkeep import (
    accept_loss_request_to_pb,
    resync_request_to_pb,
    scrub_reply_from_pb,
    scrub_request_to_pb,
    space_reply_from_pb,
    space_request_to_pb,
)


class StorageClient:
    """Chunk IO for one client. Belongs to one event loop; any number of calls may be under way at once.

    No method raises for what happens to a single IO: each has its own outcome. Every call ends by its deadline.
    """

    def __init__(
        self,
        routing: RoutingSource,
        connector: Connector,
        clock: Clock,
        client_id: ClientId,
        *,
        verify: bool = True,
        host: str = "",
        timeout_ns: int = call_timeout_ns,
        hedges: HedgePolicy | None = None,
        files: HostFiles | None = None,
    ) -> None:
        """`client_id`: 16 random bytes of this client's life. `verify`: check every byte read against its checksum.
        `host`: identity of this host, so that replicas on it are preferred; "" unknown. `hedges`: when late reads are asked of
        another replica as well; None: by the policy's defaults. `files`: of this host, for short-circuit reads; None: every read
        is asked for."""
        self.reads = ReadCounters()
        self.updates = UpdateCounters()
        self._router = ReplicaRouter(routing, connector, clock, host, int.from_bytes(client_id[:8], "little"), hedges)
        self._clock = clock
        self._client_id = client_id
        self._lease_ids = LeaseIds(client_id)
        self._verify = verify
        self._timeout_ns = timeout_ns
        self._channels = ChannelAllocator(ChannelPool())
        self._update_calls: dict[UpdateCall, None] = {}
        self._closed = False
        self._connector = connector
        self._host = host
        self._short = ShortCircuit(self._router, clock, files) if files is not None and verify and host else None
        self._direct_reads = DirectReads(self._router, connector, clock, self.reads) if verify else None
        routing.on_change(self._on_routing_changed)
        if self._short is not None:
            self._short.on_routing_changed()

    def use_capabilities(self, capabilities: Capabilities) -> None:
        """From now on requests show what this client may do: in a cluster with security."""
        self._router.use_capabilities(capabilities)

    @property
    def short_circuit(self) -> ShortCircuit | None:
        """What reads from block files of this host, to be looked at; None: every read is asked for."""
        return self._short

    @property
    def clock(self) -> Clock:
        """What this client measures time by."""
        return self._clock

    @property
    def capabilities(self) -> Capabilities | None:
        """What requests show; None: nothing."""
        return self._router.capabilities

    async def read(self, ios: Sequence[ReadIO], *, timeout_ns: int = 0, is_use: bool = True) -> list[ReadOutcome]:
        """Fill the buffers of these reads, one request per node. On anything but OK a buffer's content is undefined.

        OK with a `length` below the buffer's size: the chunk ends there; the rest of the buffer is untouched. Without `is_use`,
        KVCache pages are only looked at: none counts as used.
        """
        if len(ios) == 1 and is_use:
            return [await self.read_one(ios[0], timeout_ns=timeout_ns)]
        deadline = self._deadline_after(timeout_ns)
        self.reads.ios += len(ios)
        short = self._short
        if short is None or short.is_idle:
            return await self._ask(ios, deadline, is_use)
        outcomes = short.read(ios)
        left = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if left:
            asked = await self._ask([ios[index] for index in left], deadline, is_use)
            for index, outcome in zip(left, asked, strict=True):
                outcomes[index] = outcome
        return outcomes  # type: ignore[return-value]

    async def _ask(self, ios: Sequence[ReadIO], deadline: int, is_use: bool) -> list[ReadOutcome]:
        return await ReadCall(self._router, self._clock, self.reads, ios, deadline, self._verify, is_use=is_use).run()

    async def read_one(self, io: ReadIO, *, timeout_ns: int = 0) -> ReadOutcome:
        """`read`, of one."""
        deadline = self._deadline_after(timeout_ns)
        self.reads.ios += 1
        short = self._short
        if short is not None and not short.is_idle:
            (found,) = short.read((io,))
            if found is not None:
                return found
        answer = await read_single(self._router, self._clock, self.reads, io, deadline, self._verify)
        if isinstance(answer, ReadOutcome):
            return answer
        (outcome,) = await ReadCall(self._router, self._clock, self.reads, [io], deadline, self._verify).run(answer)
        return outcome

    def samples(self) -> Iterator[Sample]:
        """Its readings, as a `MetricSource` says them."""
        reads, updates = self.reads, self.updates
        yield Sample(catalogue.CHUNK_READS, ("loop",), reads.ios)
        yield Sample(catalogue.CHUNK_READS, ("thread",), reads.direct)
        if self._short is not None:
            yield Sample(catalogue.SHORT_CIRCUIT_READS, (), self._short.reads)
            yield Sample(catalogue.SHORT_CIRCUIT_BYTES, (), self._short.bytes)
        yield Sample(catalogue.CHUNK_READ_BYTES, (), reads.bytes)
        yield Sample(catalogue.CHUNK_UPDATES, (), updates.updates)
        yield Sample(catalogue.CHUNK_UPDATE_BYTES, (), updates.bytes)
        yield Sample(catalogue.CHECKSUM_MISMATCHES, (), reads.checksum_mismatches)
        yield Sample(catalogue.HEDGED_READS, ("asked",), self._router.hedger.sent)
        yield Sample(catalogue.HEDGED_READS, ("won",), self._router.hedger.won)
        for (code, action), count in list(self._router.retries.items()):
            yield Sample(catalogue.RETRIES, (code.name, action.value), count)

    def read_directly(self, io: ReadIO) -> bool:
        """Fill the buffer of a read on the thread that calls, which is not the loop's. False: not done, `read_one` will; see
        `DirectReads`. Never for a client that does not verify: its reads are timed by the loop."""
        if self._direct_reads is None:
            return False
        short = self._short
        if short is not None and not short.is_idle:
            (found,) = short.read((io,))
            if found is not None and found.length == buffer_bytes(io.buffer):
                return True
        return self._direct_reads.read(io)

    async def update(self, writes: Sequence[WriteIO], *, timeout_ns: int = 0, of_lost_pages: bool = False) -> list[UpdateResult]:
        """Apply these updates, each exactly once when it is tagged; they are independent of each other. No update is repeated for
        longer than `update_retry_ns_max`, whatever `timeout_ns` says. `of_lost_pages`: these are removals of KVCache pages whose
        copies are all damaged or gone, which those who listen are told.

        OK: durable on every replica. EXISTS: a PUT of a chunk that is already there. DEADLINE: it may or may not have happened,
        or may yet.
        """
        deadline = self._deadline_after(min(timeout_ns, update_retry_ns_max))
        call = UpdateCall(
            self._router,
            self._clock,
            self.updates,
            self._channels,
            self._client_id,
            writes,
            deadline,
            of_lost_pages=of_lost_pages,
        )
        self._update_calls[call] = None
        try:
            return await call.run()
        finally:
            del self._update_calls[call]

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """Which of these chunks are there, and how long: one request per node."""
        return await FindCall(self._router, self._clock, keys, self._deadline_after(timeout_ns)).run()

    async def contains(
        self,
        chunks: Sequence[ChunkId],
        places: Sequence[int],
        chains: Sequence[ChainId],
        *,
        timeout_ns: int = 0,
    ) -> ChunkPresence:
        """Which of these chunks are there, and how long they are: one request per node. `places`: of each chunk the index of its
        chain in `chains`."""
        deadline = self._deadline_after(timeout_ns)
        return await PresenceCall(self._router, self._clock, chunks, places, chains, deadline).run()

    async def lease(self, pages: PageSet, lease_ms: int, *, timeout_ns: int = 0) -> LeasedPresence:
        """`contains`, asked of the heads, who keep the pages that are there from eviction for so long: one request per node."""
        deadline = self._deadline_after(timeout_ns)
        call = LeaseCall(self._router, self._clock, pages, deadline, lease_ms, self._lease_ids)
        await call.run()
        return call.outcome()

    async def release(self, leases: Sequence[LeasedAt], *, timeout_ns: int = 0) -> None:
        """End leases at once. One whose node does not hear of it ends by itself."""
        await release_leases(self._router, self._clock, leases, self._deadline_after(timeout_ns))

    async def pin(self, pages: PageSet, kind: PinKind, pin_ms: int, *, timeout_ns: int = 0) -> list[Code]:
        """Have pages evicted last (SOFT), not at all (HARD, within the pin budget), or like all others again (NONE). Per page OK,
        NOT_FOUND, NO_SPACE (the pin budget is used up), or why it is not known."""
        call = PinCall(self._router, self._clock, pages, self._deadline_after(timeout_ns), (kind, pin_ms))
        await call.run()
        return call.outcome()

    async def touch_pages(self, pages: PageSet, *, timeout_ns: int = 0) -> list[Code]:
        """Have pages count as just read. Per page OK, NOT_FOUND, or why it is not known."""
        call = PinCall(self._router, self._clock, pages, self._deadline_after(timeout_ns), None)
        await call.run()
        return call.outcome()

    async def page_usage(self, namespace_id: int = 0, *, timeout_ns: int = 0) -> UsageReport:
        """What one namespace takes, or all of them (0). Nodes that do not answer are left out."""
        return await gather_usage(self._router, self._clock, namespace_id, self._deadline_after(timeout_ns))

    async def report_lookups(self, namespace_id: int, found: LookupCounters, *, timeout_ns: int = 0) -> None:
        """Tell one node what lookups in a namespace found, so that `page_usage` has it. Raises FS3Error; what its code calls
        `Retry.MAYBE` may be counted, and is not to be told again."""
        first = int.from_bytes(self._client_id[:4], "little")
        await report_lookups(self._router, self._clock, namespace_id, found, first, self._deadline_after(timeout_ns))

    def read_page_events(self, namespace_id: int, chains: ListChains, cursors: dict[ChainId, Cursor]) -> PageEventReader:
        """A reader of the events of a namespace. `chains`: those of the namespace now. `cursors`: where to go on from."""
        return PageEventReader(self._router, self._clock, namespace_id, chains, cursors)

    async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """For each key, the first chunk of the same file from it on that is on its chain: one request per node."""
        return await FindCall(self._router, self._clock, keys, self._deadline_after(timeout_ns), following=True).run()

    async def list_chunks(
        self,
        chain: ChainId,
        target: TargetId,
        *,
        after: ChunkId | None = None,
        until: ChunkId | None = None,
        limit: int = 0,
        timeout_ns: int = 0,
    ) -> ChunkPage:
        """A page of what one target of a chain has, whatever its state: for administration. Raises FS3Error when it does not
        answer."""
        return await list_chunks(self._router, self._clock, chain, target, after, until, limit, self._deadline_after(timeout_ns))

    async def scrub(self, node: NodeId, *, begin: bool, timeout_ns: int = 0) -> list[ScrubStatus]:
        """How far the scrub of each target of a node is; `begin`: begin one where none is under way. Raises FS3Error."""
        left = self._deadline_after(timeout_ns) - self._clock.now()
        reply = await self._router.channel(node).start(STORAGE.Scrub, scrub_request_to_pb(begin), timeout_ns=left)
        return scrub_reply_from_pb(reply.message)

    async def resync(self, node: NodeId, target: TargetId, *, timeout_ns: int = 0) -> None:
        """Have a target leave its chain for a moment and come back through a resync. Raises FS3Error: BUSY when no other
        target of its chain serves, NO_SUCH_TARGET."""
        left = self._deadline_after(timeout_ns) - self._clock.now()
        await self._router.channel(node).start(STORAGE.Resync, resync_request_to_pb(target), timeout_ns=left)

    async def accept_loss(self, node: NodeId, target: TargetId, *, timeout_ns: int = 0) -> None:
        """Have a target serve with what it has, because no target of its chain is complete. Raises FS3Error: BUSY when one
        serves or the target did not serve last."""
        left = self._deadline_after(timeout_ns) - self._clock.now()
        await self._router.channel(node).start(STORAGE.AcceptLoss, accept_loss_request_to_pb(target), timeout_ns=left)

    async def space(self, *, timeout_ns: int = 0) -> list[TargetSpace]:
        """Room and use of every target that answers; nodes that do not are left out."""
        deadline = self._deadline_after(timeout_ns)
        calls: list[asyncio.Future[Reply]] = []
        for node in self._router.routing.nodes.values():
            if node.role is Role.STORAGE and node.alive:
                try:
                    left = min(read_attempt_ns, deadline - self._clock.now())
                    calls.append(self._router.channel(node.id).start(STORAGE.GetSpace, space_request_to_pb(), timeout_ns=left))
                except FS3Error:
                    continue
        found: list[TargetSpace] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, Reply):
                found += space_reply_from_pb(answer.message)
            elif not isinstance(answer, FS3Error):
                raise answer
        return found

    def with_routing(self, routing: RoutingSource) -> StorageClient:
        """Another client on the same channels that follows other routing: tools look at one replica after another with it."""
        other = StorageClient(
            routing,
            self._connector,
            self._clock,
            self._client_id,
            verify=self._verify,
            host=self._host,
            timeout_ns=self._timeout_ns,
        )
        if self.capabilities is not None:
            other.use_capabilities(self.capabilities)
        return other

    async def close(self) -> None:
        """Take no more calls. The channels belong to the connector."""
        self._closed = True
        self._router.close()
        if self._direct_reads is not None:
            self._direct_reads.close()
        if self._short is not None:
            await self._short.close()

    def _deadline_after(self, timeout_ns: int) -> int:
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the storage client is closed")
        return self._clock.now() + (timeout_ns or self._timeout_ns)

    def _on_routing_changed(self, routing: Routing) -> None:
        if self._short is not None:
            self._short.on_routing_changed()
        for call in self._update_calls:
            call.on_routing_changed()
