"""The storage service: the targets of one node, and the methods of storage.proto over them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.model.routing import Role, Routing
from fs3.ports.clock import Clock
from fs3.ports.disks import Disks
from fs3.ports.rpc import Bindings, Call, Channel, Handler
from fs3.runtime.config import parse_config
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.forwarding.payloads import Payloads, UpdateJob
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.queries import Queries
from fs3.services.storage.reads import ReadHandler
from fs3.services.storage.resync.sink import ResyncSink
from fs3.services.storage.resync.source import ResyncScheduler
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import StoreFactory, TargetMap
from fs3.services.storage.upkeep.duties import Duties
from fs3.wire.methods import STORAGE
from fs3.wire.pb import mgmtd_pb2
from fs3.wire.storage import update_request_from_pb

log = logging.getLogger("fs3.storage")

handover_wait_ns = 1 * SECOND
"""How long a storage node that stops waits for the routing info to show it, once the manager has been told."""

NO_LEASE_NEEDED = 1 << 62
"""A lease that does not run out, where leases are not enforced."""


class StorageService:
    """One storage node. `bindings` may be served before `start`: until then every call is answered NOT_SERVING."""

    def __init__(
        self,
        disks: Disks,
        store_factory: StoreFactory,
        clock: Clock,
        mgmtd: MgmtdClient,
        connector: Connector,
        config: StorageConfig,
    ) -> None:
        """`mgmtd` is started and stays the caller's, as does `connector`, over which updates are forwarded to other nodes."""
        self._disks = disks
        self._clock = clock
        self._mgmtd = mgmtd
        self._connector = connector
        self._config = config
        self._channels: dict[NodeId, Channel] = {}
        self._payloads = Payloads()
        self._foreground = ForegroundLoad(clock)
        self._member = Member(
            mgmtd,
            clock,
            name=disks.name,
            role=Role.STORAGE,
            incarnation=disks.next_incarnation(),
            reports=self._reports,
            configured=self._on_config,
            leave=self._on_leave_requests,
            keep=disks.store_incarnation,
        )
        self._scheduler = ResyncScheduler(clock, self._foreground, lambda: self._config)
        around = NodeContext(clock, self._payloads, self._channel_to, self._lease_until, self._scheduler, self._on_target_changed)
        by_chain: dict[int, TargetShell] = {}
        self._duties = Duties(by_chain, disks, clock, self._channel_to, self._foreground, lambda: self._config)
        self._target_map = TargetMap(
            disks, store_factory, around, by_chain, self._duties.on_target_opened, self._duties.on_target_closing
        )
        self._reads = ReadHandler(by_chain.get, clock, self._routing_version)
        self._queries = Queries(self._target_map.shells, by_chain, clock, self._routing_version, self._buffered_bytes)
        self._sink = ResyncSink(by_chain.get, disks, self._member.heartbeat_now)
        self._jobs = 0
        self._all_answered: asyncio.Event | None = None
        """Set when the last update request has been answered; there while somebody waits for that."""
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
        holdings = self._target_map
        await holdings.open_stores()
        reply = await self._member.register(self._disks.cluster, endpoints, host, os.getpid(), holdings.list_open())
        self._disks.join(self._mgmtd.cluster)
        born = [TargetId(target) for target in reply.born_targets]
        holdings.begin(self.node, self._member.incarnation, born, self._mgmtd.routing)
        self._accepting = True
        self._mgmtd.on_change(self._on_routing_changed)
        self._on_routing_changed(self._mgmtd.routing)
        self._member.start()

    async def stop(self, *, hand_over: bool = True) -> None:
        """Hand over and stop: take no more calls of clients, have the manager let the chains go on without this node, wait until
        they do and what is under way has been answered (both for the configured time at most), make everything durable.

        Without `hand_over` the chains stay as they are: for stopping all nodes of a cluster at once."""
        if self._stopping:
            return
        self._stopping = True
        for shell in self._target_map.shells.values():
            shell.prepare_stop()
        # From here on there is no lease, so no read is served. Predecessors are still answered: what they wait for counts until
        # the chain version changes, which is what this node waits for too.
        await self._member.stop(hand_over=hand_over)
        try:
            async with asyncio.timeout(self._config.stop_grace_ms * MILLISECOND / SECOND):
                if self._accepting and hand_over:
                    await self._wait_handed_over()
                if self._jobs:
                    self._all_answered = asyncio.Event()
                    await self._all_answered.wait()
        except TimeoutError:
            log.warning("storage node %s stops with %d update requests under way", self._disks.name, self._jobs)
        self._accepting = False
        self._stopped = True
        self._scheduler.close()
        await self._duties.stop()
        await self._reads.cold.stop()
        await self._sink.stop()
        await self._target_map.close()

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
        return {
            STORAGE.Read: self._when_serving(self._read),
            STORAGE.Update: self._update,
            STORAGE.Find: self._when_serving(self._queries.find),
            STORAGE.ListChunks: self._when_serving(self._list_chunks),
            STORAGE.GetSpace: self._when_serving(self._queries.get_space),
            STORAGE.CompareRanges: self._when_serving(self._sink.compare),
            STORAGE.MergeChannels: self._when_serving(self._sink.merge),
            STORAGE.FinishResync: self._when_serving(self._sink.finish),
            STORAGE.Scrub: self._when_serving(self._duties.scrub),
            STORAGE.ReportBad: self._when_serving(self._duties.report_bad),
            STORAGE.Resync: self._when_serving(self._duties.resync),
        }

    # --- what others may look at -------------------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """The id the manager gave; 0 before the registration."""
        return self._member.node

    @property
    def targets(self) -> dict[TargetId, TargetShell]:
        """The targets that are open."""
        return self._target_map.shells

    @property
    def payload_bytes(self) -> int:
        """Bytes of update payloads that are being stored or forwarded."""
        return self._payloads.bytes

    def may_serve(self, now: int) -> bool:
        """The lease of this node is running at `now`, whether or not that is enforced."""
        return self._member.lease.may_serve(now)

    # --- methods -----------------------------------------------------------------------------------------------------

    def _when_serving(self, handler: Handler) -> Handler:
        def guarded(call: Call) -> None:
            if self._accepting and not self._stopping and not self._member.is_superseded:
                handler(call)
            else:
                self._refuse(call)

        return guarded

    def _refuse(self, call: Call) -> None:
        leaving = self._stopping or self._member.is_superseded
        code = Code.SHUTTING_DOWN if leaving else Code.NOT_SERVING
        call.fail(code, f"storage node {self._disks.name} {'stops' if leaving else 'is starting'}", self._routing_version())

    def _read(self, call: Call) -> None:
        self._foreground.touch()
        self._reads.read(call)

    def _list_chunks(self, call: Call) -> None:
        if call.request.HasField("fence"):
            self._sink.list_rows(call)
        else:
            self._queries.list_chunks(call)

    def _update(self, call: Call) -> None:
        forwarded = bool(call.request.from_target)
        if not self._accepting or self._member.is_superseded or (self._stopping and not forwarded):
            self._refuse(call)
            return
        try:
            updates = update_request_from_pb(call.request, call.payload)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._routing_version())
            return
        job = UpdateJob(call, updates, self._payloads, self._routing_version, self._on_job_done)
        self._jobs += 1
        job.hold()
        if not forwarded or (updates and updates[0].kind is not UpdateKind.FILL):
            self._foreground.touch()
        refusal = None if forwarded else self._refuse_client()
        for index, update in enumerate(updates):
            if refusal is not None:
                job.answer(index, refusal)
                continue
            shell = self._target_map.by_chain.get(update.chain)
            if shell is None:
                message = f"storage node {self._disks.name} has no target of chain {update.chain}"
                job.answer(index, UpdateResult(Code.NO_SUCH_TARGET, message=message))
            elif not forwarded and self._clock.now() >= shell.lease_until():
                job.answer(index, UpdateResult(Code.LEASE, message=f"target {shell.target} may have lost its lease"))
            else:
                shell.submit(update, job, index)
        job.drop()

    def _refuse_client(self) -> UpdateResult | None:
        """Why no update of a client is taken now.

        Updates of a predecessor are fenced by the chain version alone: it waits for this node's answer under a version in which
        this node takes part, and whoever goes on without this node does so under another one, in which the answer counts for
        nothing. For the same reason a head may answer its client after its lease has run out: everybody behind it has the update
        under the present version, and whoever goes on comes from among them. A head that is alone asks for its lease once more
        when it answers (`TargetShell`).
        """
        if self._config.read_only:
            return UpdateResult(Code.PERMISSION, message=f"storage node {self._disks.name} is read-only")
        return None

    def _on_job_done(self) -> None:
        self._jobs -= 1
        if not self._jobs and self._all_answered is not None:
            self._all_answered.set()

    # --- targets and routing -----------------------------------------------------------------------------------------

    def _on_routing_changed(self, routing: Routing) -> None:
        if not self._accepting:
            return
        if self._is_gone(routing):
            self._handed_over.set()
        self._channels.clear()
        self._target_map.on_routing_changed(routing)
        self._duties.on_chains_changed()

    def _on_target_changed(self) -> None:
        """A target has another place in its chain, or does not work any more."""
        self._member.heartbeat_now()
        self._reads.cold.recheck()

    def _channel_to(self, node: NodeId) -> Channel:
        """The channel to another storage node. Raises FS3Error UNAVAILABLE for one the routing info does not name."""
        found = self._channels.get(node)
        if found is None:
            known = self._mgmtd.routing.nodes.get(node)
            if known is None:
                raise error(Code.UNAVAILABLE, f"node {node} is not in the routing info")
            found = self._channels[node] = self._connector.channel(known.endpoints, known.host)
        return found

    # --- the manager's view ------------------------------------------------------------------------------------------

    def _reports(self) -> list[mgmtd_pb2.TargetReport]:
        return self._target_map.make_reports(self._add_figures)

    def _add_figures(self, shell: TargetShell, report: mgmtd_pb2.TargetReport) -> None:
        # Of the last resync as long as there is no other, so that one that was over quickly is seen too.
        under_way = shell.source.progress
        progress = under_way if under_way.target else shell.source.last_progress
        if progress.target:
            report.resync_target_id = under_way.target
            report.resync_done_chunks = progress.chunks_done
            report.resync_total_chunks = progress.chunks_total
            report.resync_bytes = progress.bytes_moved
            report.resync_bytes_per_second = self._scheduler.measure_rate(shell.source)
        report.unreachable_target_id = shell.unreachable_successor
        self._duties.add_figures(shell, report)

    def _on_leave_requests(self, asked: Sequence[mgmtd_pb2.Leave]) -> None:
        for each in asked:
            shell = self._target_map.shells.get(TargetId(each.target_id))
            if shell is not None:
                shell.on_leave_request(each.chain_version)

    def _on_config(self, version: int, toml: str) -> None:
        try:
            self._config = parse_config(StorageConfig, toml, f"configuration {version} of the storage role")
        except FS3Error as wrong:
            log.error("%s; the one before stays in force", wrong)
            return
        self._duties.on_config_changed()

    def _lease_until(self, target: TargetId) -> int:
        if not self._config.enforce_lease and not self._stopping:
            return NO_LEASE_NEEDED
        member = self._member
        return member.lease.until if target in member.leased_targets else 0

    def _buffered_bytes(self) -> int:
        return self._payloads.bytes + self._reads.cold.bytes

    def _routing_version(self) -> int:
        return self._mgmtd.routing.version
