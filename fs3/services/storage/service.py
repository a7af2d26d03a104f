"""The storage service: the targets of one node, and the methods of storage.proto over them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from msgspec.structs import replace

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import ActivitySource, Member
from fs3.client.security.keys import ServiceKeys
from fs3.core.kvcache.leases import Leases
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.core.security.capability import TRUSTED
from fs3.core.security.state import SecurityState
from fs3.model.cluster import LeaveRequest, RoleConfig
from fs3.model.domain import NOWHERE, Domain
from fs3.model.machine import MachineProof
from fs3.model.method import Method
from fs3.model.routing import Role, Routing
from fs3.model.target_report import TargetReport, UpkeepProgress
from fs3.ports.clock import Clock
from fs3.ports.disks import Disks, StoreFactory
from fs3.ports.host_files import HostFiles
from fs3.ports.rpc import Bindings, Call, Channel, Handler
from fs3.runtime.config import parse_config
from fs3.services.storage.block_locator import BlockLocator
from fs3.services.storage.cache.event_feed import EventFeed
from fs3.services.storage.cache.keepers import CacheKeepers
from fs3.services.storage.cache.page_questions import PageQuestions
from fs3.services.storage.cache.usage import UsageQueries
from fs3.services.storage.capability_guard import CapabilityGuard
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.namespaces import NamespaceTable
from fs3.services.storage.peer_guard import PeerGuard
from fs3.services.storage.push_handler import PushHandler
from fs3.services.storage.queries import Queries
from fs3.services.storage.reads import ReadHandler
from fs3.services.storage.resync.scheduler import ResyncScheduler
from fs3.services.storage.resync.sink import ResyncSink
from fs3.services.storage.tag_guard import TagGuard
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_keeper import TargetKeeper
from fs3.services.storage.target_map import TargetMap
from fs3.services.storage.updates import UpdateHandler
from fs3.services.storage.upkeep.duties import Duties
from fs3.wire.methods import STORAGE
from fs3.wire.storage_needs import NEEDS
from fs3.wire.storage_upkeep import accept_loss_reply_to_pb

log = logging.getLogger("fs3.storage")

handover_wait_ns = 1 * SECOND
"""How long a storage node that stops waits for the routing info to show it, once the manager has been told."""

NO_LEASE_NEEDED = 1 << 62
"""A lease that does not run out, where leases are not enforced."""


@dataclass(frozen=True)
class HeldResources:
    """What a node holds for calls under way; all 0 when there are none."""

    jobs: int
    """Update calls that are not answered."""
    payload_bytes: int
    """Of update payloads, in the buffers they arrived in."""
    lent_bytes: int
    """Of those, in buffers that forwards use."""
    parked_bytes: int
    """Of those, in buffers with updates that wait for their chunk."""
    cold_reads: int
    """Read requests that wait until memory is free for what they ask of the disks."""
    cold_bytes: int
    """Asked of the disks by reads, and not sent yet."""
    waiters: int
    """Updates that a target has not answered."""
    read_back_bytes: int
    """Read from the stores to be forwarded."""


class StorageService:
    """One storage node: the `NodeContext` of its parts. `bindings` may be served before `start`: until then every call is
    answered NOT_SERVING."""

    def __init__(
        self,
        disks: Disks,
        store_factory: StoreFactory,
        clock: Clock,
        mgmtd: MgmtdClient,
        connector: Connector,
        config: StorageConfig,
        proof: MachineProof | None = None,
        domain: Domain = NOWHERE,
        keys: ServiceKeys | None = None,
        activity: ActivitySource | None = None,
        security: SecurityState | None = None,
        files: HostFiles | None = None,
    ) -> None:
        """`mgmtd` is started and stays the caller's, as does `connector`, over which updates are forwarded to other nodes.

        `proof`, `keys`, `activity`: see `Member`. `domain`: where the node stands. `security`: what capabilities are checked by,
        of connections that need some; None: what `keys` know. `files`: what is shared with clients of this host; None: nothing
        is."""
        if security is None:
            security = keys.state if keys is not None else SecurityState()
        self.clock = clock
        self.config = config
        """In force."""
        self._disks = disks
        self._mgmtd = mgmtd
        self._connector = connector
        self._channels: dict[NodeId, Channel] = {}
        self._foreground = ForegroundLoad(clock)
        self._member = Member(
            mgmtd, clock, disks, name=disks.name, role=Role.STORAGE, owner=self, configured=self, proof=proof, domain=domain,
            keys=keys,
            activity=activity,
        )  # fmt: skip
        self.namespaces = NamespaceTable(mgmtd, clock)
        """See `NodeContext`."""
        self.cache_statistics = CacheStatistics()
        """See `NodeContext`."""
        self.page_leases = Leases()
        """See `NodeContext`."""
        targets = self._target_map = TargetMap()
        self._scheduler = ResyncScheduler(self, self._foreground)
        self._duties = Duties(targets, disks, self, self._foreground)
        self._caches = CacheKeepers(targets, disks, self, self._foreground, mgmtd)
        listeners = (self._caches, self._duties)
        self._keeper = TargetKeeper(disks, store_factory, self, self._scheduler, targets, listeners, self._member)
        self._reads = ReadHandler(targets, self)
        self._updates = UpdateHandler(targets, self, self._foreground, disks.name)
        self._pushes = PushHandler(targets, self._updates.payloads)
        self._queries = Queries(targets, self)
        self._page_questions = PageQuestions(targets, self._caches.by_target, self)
        self.last_reports: tuple[TargetReport, ...] = ()
        """What the manager was told of the targets last."""
        self.locator = BlockLocator(targets, self, files, disks, security)
        """What tells clients of this host where blocks are, to be looked at."""
        self._event_feed = EventFeed(targets, self._caches.by_target, self)
        self.guard = CapabilityGuard(security, clock)
        """What checks capabilities, to be looked at."""
        self.tag_guard = TagGuard()
        """What knows whose clients are, to be looked at."""
        self._usage = UsageQueries(targets, self._caches.by_target, self)
        self._sink = ResyncSink(targets.by_chain, disks, self)
        self._handed_over = asyncio.Event()
        """Routing says that this node has left, and who goes on."""
        self._accepting = False
        self._stopping = False
        self._stopped = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, endpoints: Sequence[str], host: str) -> None:
        """Open the targets, register, serve, send heartbeats.

        `endpoints`: where others reach this node. `host`: identity of this host. Raises FS3Error when the manager refuses the
        node (WRONG_CLUSTER, OLD_INCARNATION) or cannot be reached; a target that cannot be opened is reported, not raised.
        """
        keeper = self._keeper
        await keeper.open_stores()
        claims = await keeper.begin_generations()
        ack = await self._member.register(self._disks.cluster, endpoints, host, os.getpid(), claims)
        self._disks.join(self._mgmtd.cluster)
        await keeper.begin(self.node, self._member.incarnation, ack, self._mgmtd.routing)
        self._accepting = True
        self._mgmtd.on_change(self._on_routing_changed)
        self._on_routing_changed(self._mgmtd.routing)
        self.namespaces.start()
        self._member.start()

    async def stop(self, *, hand_over: bool = True) -> None:
        """Hand over and stop: take no more calls of clients, have the manager let the chains go on without this node, wait until
        they do and what is under way has been answered (both for the configured time at most), make everything durable.

        Without `hand_over` the chains stay as they are: for stopping all nodes of a cluster at once."""
        if self._stopping:
            return
        self._stopping = True
        for shell in self.targets.values():
            shell.prepare_stop()
        self._event_feed.stop()
        # From here on there is no lease, so no read is served. Predecessors are still answered: what they wait for counts until
        # the chain version changes, which is what this node waits for too.
        await self._member.stop(hand_over=hand_over)
        try:
            async with asyncio.timeout(self.config.stop_grace_ms * MILLISECOND / SECOND):
                if self._accepting and hand_over:
                    await self._wait_handed_over()
                await self._updates.wait_answered()
        except TimeoutError:
            log.warning("storage node %s stops with %d update requests under way", self._disks.name, self._updates.jobs)
        self._accepting = False
        self._stopped = True
        self._scheduler.close()
        await self.namespaces.stop()
        await self._caches.stop()
        await self._duties.stop()
        await self._reads.cold.stop()
        await self._sink.stop()
        await self._keeper.close()
        self.locator.stop()

    async def abort(self) -> None:
        """End as if the process had been killed: nothing more is answered, and the manager is told nothing. For tests."""
        self._stopping = self._stopped = True
        self._accepting = False
        self._scheduler.close()
        await self.namespaces.stop()
        await self._caches.stop(is_clean=False)
        await self._duties.stop()
        await self._member.stop(hand_over=False)
        await self._keeper.abort()
        self.locator.stop()

    async def _wait_handed_over(self) -> None:
        """Until the routing info shows this node gone: it comes together with the chains that go on without it. The manager has
        stored both before it answers, so there is not much to wait for; and nothing when it could not be told."""
        try:
            async with asyncio.timeout(handover_wait_ns / SECOND):
                if not self._is_gone(self._mgmtd.routing):
                    await self._mgmtd.refresh(self._mgmtd.routing.version)
                if not self._is_gone(self._mgmtd.routing):
                    await self._handed_over.wait()
        except TimeoutError:
            log.info("routing does not show yet that storage node %s has left", self._disks.name)

    def _is_gone(self, routing: Routing) -> bool:
        node = routing.nodes.get(self.node)
        return node is None or not node.alive

    def bindings(self) -> Bindings:
        """The handlers of every method of storage.proto."""
        peers = PeerGuard(self._target_map, self._mgmtd)
        serving: dict[Method, Handler] = {
            STORAGE.Read: self._read,
            STORAGE.Find: self._queries.find,
            STORAGE.Contains: self._queries.contains,
            STORAGE.ListChunks: peers.resyncs(self._list_chunks),
            STORAGE.GetSpace: self._queries.get_space,
            STORAGE.CompareRanges: peers.resyncs(self._sink.compare),
            STORAGE.MergeChannels: peers.resyncs(self._sink.merge),
            STORAGE.FinishResync: peers.resyncs(self._sink.finish),
            STORAGE.Scrub: self._duties.scrub,
            STORAGE.ReportBad: self._duties.report_bad,
            STORAGE.Resync: self._duties.resync,
            STORAGE.AcceptLoss: self._accept_loss,
            STORAGE.Lease: self._page_questions.lease,
            STORAGE.Release: self._page_questions.release,
            STORAGE.Pin: self._page_questions.pin,
            STORAGE.TouchPages: self._page_questions.touch,
            STORAGE.CacheUsage: self._usage.read,
            STORAGE.ReportLookups: self._usage.count_reported,
            STORAGE.CacheEvents: self._event_feed.read,
            STORAGE.LocateBlocks: self.locator.locate,
            STORAGE.ShareTouches: peers.sends(self._caches.share_touches),
        }
        guard = self.guard.guard
        bindings: dict[Method, Handler] = {method: self._when_serving(method, handler) for method, handler in serving.items()}
        bindings[STORAGE.Update] = guard(STORAGE.Update, self.tag_guard.updates(peers.updates(self._update)))
        bindings[STORAGE.Push] = guard(STORAGE.Push, peers.sends(self._push))
        return bindings

    # --- what others may look at -------------------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """The id the manager gave; 0 before the registration."""
        return self._member.node

    @property
    def targets(self) -> Mapping[TargetId, TargetShell]:
        """The targets that are open."""
        return self._target_map.by_id

    @property
    def keeper(self) -> TargetKeeper:
        """What opens the targets, to be asked why one is not open."""
        return self._keeper

    @property
    def duties(self) -> Duties:
        """What goes on in the background, to be looked at."""
        return self._duties

    @property
    def reads(self) -> ReadHandler:
        """What serves reads, to be looked at."""
        return self._reads

    @property
    def caches(self) -> CacheKeepers:
        """What keeps KVCache pages within their limits, to be looked at."""
        return self._caches

    @property
    def member(self) -> Member:
        """The node's lease, to be looked at."""
        return self._member

    def held(self) -> HeldResources:
        """What is held for calls under way."""
        payloads = self._updates.payloads
        cold = self._reads.cold
        return HeldResources(
            jobs=self._updates.jobs,
            payload_bytes=payloads.bytes,
            lent_bytes=payloads.lent_bytes,
            parked_bytes=payloads.parked_bytes,
            cold_reads=cold.waiting_count,
            cold_bytes=cold.bytes,
            waiters=sum(shell.waiter_count for shell in self.targets.values()),
            read_back_bytes=sum(shell.read_back_bytes for shell in self.targets.values()),
        )

    def may_serve(self, now: int) -> bool:
        """The lease of this node is running at `now`, whether or not that is enforced."""
        return self._member.lease.may_serve(now)

    # --- methods -----------------------------------------------------------------------------------------------------

    def _when_serving(self, method: Method, handler: Handler) -> Handler:
        admits, need = self.guard.admits, NEEDS[method]

        def guarded(call: Call) -> None:
            if self._accepting and not self._stopping and not self._member.is_superseded:
                if call.auth.rights & TRUSTED or admits(call, need):
                    handler(call)
            else:
                self._refuse(call)

        return guarded

    def _refuse(self, call: Call) -> None:
        leaving = self._stopping or self._member.is_superseded
        code = Code.SHUTTING_DOWN if leaving else Code.NOT_SERVING
        call.fail(code, f"storage node {self._disks.name} {'stops' if leaving else 'is starting'}", self.routing_version)

    def _read(self, call: Call) -> None:
        self._foreground.touch()
        self._reads.read(call)

    def _list_chunks(self, call: Call) -> None:
        if call.request.HasField("fence"):
            self._sink.list_rows(call)
        else:
            self._queries.list_chunks(call)

    def _accept_loss(self, call: Call) -> None:
        refusal = self._keeper.accept_loss(TargetId(call.request.target_id))
        if refusal:
            call.fail(Code.BUSY, refusal)
        else:
            call.reply(accept_loss_reply_to_pb())

    def _update(self, call: Call) -> None:
        forwarded = bool(call.request.from_target)
        if not self._accepting or self._member.is_superseded or (self._stopping and not forwarded):
            self._refuse(call)
            return
        self._updates.update(call)

    def _push(self, call: Call) -> None:
        if not self._accepting or self._member.is_superseded:
            self._refuse(call)
            return
        self._foreground.touch()
        self._pushes.push(call)

    # --- targets and routing -----------------------------------------------------------------------------------------

    def _on_routing_changed(self, routing: Routing) -> None:
        if not self._accepting:
            return
        if self._is_gone(routing):
            self._handed_over.set()
        self._channels.clear()
        self._keeper.on_routing_changed(routing)
        self._duties.on_chains_changed()
        self.namespaces.on_routing_changed(routing)

    # --- what the parts ask (`NodeContext`) --------------------------------------------------------------------------

    @property
    def routing_version(self) -> int:
        """See `NodeContext`."""
        return self._mgmtd.routing.version

    @property
    def buffered_bytes(self) -> int:
        """See `NodeContext`."""
        return self._updates.payloads.bytes + self._reads.cold.bytes

    def lease_until(self, target: TargetId) -> int:
        """See `NodeContext`."""
        if not self.config.enforce_lease and not self._stopping:
            return NO_LEASE_NEEDED
        member = self._member
        return member.lease.until if target in member.leased_targets else 0

    def on_target_changed(self) -> None:
        """See `NodeContext`."""
        self._member.heartbeat_now()
        self._reads.cold.recheck()

    def channel_to(self, node: NodeId) -> Channel:
        """See `NodeContext`."""
        found = self._channels.get(node)
        if found is None:
            known = self._mgmtd.routing.nodes.get(node)
            if known is None:
                raise error(Code.UNAVAILABLE, f"node {node} is not in the routing info")
            found = self._channels[node] = self._connector.channel(known.endpoints, known.host)
        return found

    # --- the manager's view ------------------------------------------------------------------------------------------

    def target_reports(self) -> list[TargetReport]:
        """See `MemberOwner`."""
        reports = [self._complete_report(report) for report in self._keeper.make_reports()]
        self.last_reports = tuple(reports)
        return reports

    def _complete_report(self, report: TargetReport) -> TargetReport:
        """The report with what others than the store know of a target that is open."""
        shell = self.targets.get(report.target)
        if shell is None:
            return report
        return replace(
            report,
            reason=report.reason or self._duties.repair_reason(shell.target),
            upkeep=self._duties.add_figures(shell, self._resync_progress(shell)),
            unreachable=shell.unreachable_successor or None,
        )

    def _resync_progress(self, shell: TargetShell) -> UpkeepProgress:
        # Of the last resync as long as there is no other, so that one that was over quickly is seen too.
        under_way = shell.source.progress
        progress = under_way if under_way.target else shell.source.last_progress
        if not progress.target:
            return UpkeepProgress()
        return UpkeepProgress(
            resync_target_id=under_way.target,
            resync_done_chunks=progress.chunks_done,
            resync_total_chunks=progress.chunks_total,
            resync_bytes=progress.bytes_moved,
            resync_bytes_per_second=self._scheduler.measure_rate(shell.source),
        )

    def on_lease_changed(self) -> None:
        """See `MemberOwner`."""
        for shell in self.targets.values():
            shell.gate.on_lease_changed()

    def on_births_stored(self, targets: Set[TargetId]) -> None:
        """See `MemberOwner`."""
        self._keeper.on_births_stored(targets)

    def on_heard(self, routing_version: int) -> None:
        """See `MemberOwner`."""
        self._keeper.on_heard(routing_version)

    def on_retired(self, targets: Sequence[TargetId]) -> None:
        """See `MemberOwner`."""
        self._keeper.on_retired(targets)

    def on_drained_disks(self, paths: Sequence[str]) -> None:
        """See `MemberOwner`."""
        if self._disks.leave_unused(paths):
            self.on_target_changed()  # the manager waits for that

    def on_leave_requests(self, requests: Sequence[LeaveRequest]) -> None:
        """See `MemberOwner`."""
        for request in requests:
            shell = self.targets.get(request.target)
            if shell is not None:
                shell.on_leave_request(request.chain_version, is_replaced=request.is_replaced)

    def on_config(self, config: RoleConfig) -> str:
        """See `ConfiguredService`. One that cannot be read is logged, and the one before stays in force."""
        try:
            self.config = parse_config(StorageConfig, config.toml, f"configuration {config.version} of the storage role")
        except FS3Error as wrong:
            log.error("%s; the one before stays in force", wrong)
            return str(wrong)
        self.on_lease_changed()  # it may not be enforced any more, or again
        self.locator.look_again()
        self._duties.on_config_changed()
        self._caches.on_config_changed()
        return ""
