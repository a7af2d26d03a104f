"""The storage service: the targets of one node, and the methods of storage.proto over them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.connect import Connector
from fs3.client.member import Member
from fs3.client.mgmtd import MgmtdClient
from fs3.model.chain import Chain, LocalState
from fs3.model.chunk import UpdateResult
from fs3.model.routing import Role, Routing
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call, Channel, Handler
from fs3.runtime.config import parse_config
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.disks import Disks
from fs3.services.storage.queries import Queries
from fs3.services.storage.read_path import ReadPath
from fs3.services.storage.target import TargetShell
from fs3.services.storage.updates import Payloads, UpdateJob
from fs3.wire.methods import STORAGE
from fs3.wire.pb import mgmtd_pb2
from fs3.wire.storage import parse_update

log = logging.getLogger("fs3.storage")

StoreFactory = Callable[[TargetId], Awaitable[ChunkStore]]
"""Opens the store of a target, or makes an empty one. Raises FS3Error when it cannot be used."""

NO_LEASE_NEEDED = 1 << 62


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
        self._store_factory = store_factory
        self._clock = clock
        self._mgmtd = mgmtd
        self._connector = connector
        self._config = config
        self._incarnation = disks.count_boot()
        self._shells: dict[TargetId, TargetShell] = {}
        self._by_chain: dict[int, TargetShell] = {}
        self._chains: dict[TargetId, Chain] = {}
        """Chain of every target that routing assigns to this node."""
        self._failed: dict[TargetId, str] = {}
        """Targets of this node that could not be opened, and why."""
        self._making: dict[TargetId, asyncio.Task[None]] = {}
        self._channels: dict[NodeId, Channel] = {}
        self._payloads = Payloads()
        self._member = Member(
            mgmtd,
            clock,
            name=disks.name,
            role=Role.STORAGE,
            incarnation=self._incarnation,
            reports=self._reports,
            configured=self._configured,
        )
        self._reads = ReadPath(self._by_chain.get, clock, self._lease_until, self._routing_version)
        self._queries = Queries(
            self._shells, self._by_chain, clock, self._lease_until, self._routing_version, self._buffered_bytes
        )
        self._jobs = 0
        self._idle: asyncio.Event | None = None
        """Set when the last update request has been answered; there while somebody waits for that."""
        self._accepting = False
        self._stopped = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, endpoints: Sequence[str], host: str) -> None:
        """Open the targets, register, serve, send heartbeats.

        `endpoints`: where others reach this node. `host`: identity of this host. Raises FS3Error when the manager refuses the
        node (WRONG_CLUSTER, OLD_INCARNATION) or cannot be reached; a target that cannot be opened is reported, not raised.
        """
        await asyncio.gather(*(self._open_store(target) for target in self._disks.targets()))
        self._failed.update(self._disks.lost())
        await self._member.register(self._disks.cluster, endpoints, host, os.getpid(), sorted(self._shells))
        self._disks.join(self._mgmtd.cluster)
        self._chains = self._own_chains(self._mgmtd.routing)
        for target, shell in self._shells.items():
            shell.open(self._chains.get(target))
        self._accepting = True
        self._mgmtd.on_change(self._routing_changed)
        self._routing_changed(self._mgmtd.routing)
        self._member.start()

    async def stop(self) -> None:
        """Take no more calls, let updates under way finish for the configured time, make everything durable, hand over."""
        if self._stopped:
            return
        self._stopped = True
        self._accepting = False
        if self._jobs:
            self._idle = asyncio.Event()
            try:
                async with asyncio.timeout(self._config.stop_grace_ms * MILLISECOND / SECOND):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("storage node %s stops with %d update requests under way", self._disks.name, self._jobs)
        for making in self._making.values():
            making.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._reads.cold.stop()
        closed = await asyncio.gather(*(shell.close() for shell in self._shells.values()), return_exceptions=True)
        for shell, problem in zip(self._shells.values(), closed, strict=True):
            if isinstance(problem, BaseException):
                log.error("target %d did not close well: %s", shell.target, problem)
        await self._member.stop()

    def bindings(self) -> Bindings:
        """The handlers of every method of storage.proto."""
        return {
            STORAGE.Read: self._when_serving(self._reads.read),
            STORAGE.Update: self._when_serving(self._update),
            STORAGE.Find: self._when_serving(self._queries.find),
            STORAGE.ListChunks: self._when_serving(self._queries.list_chunks),
            STORAGE.GetSpace: self._when_serving(self._queries.get_space),
        }

    # --- what others may look at -------------------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """The id the manager gave; 0 before the registration."""
        return self._member.node

    @property
    def targets(self) -> dict[TargetId, TargetShell]:
        """The targets that are open."""
        return self._shells

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
            if self._accepting and not self._member.superseded:
                handler(call)
            else:
                code = Code.SHUTTING_DOWN if self._stopped or self._member.superseded else Code.NOT_SERVING
                state = "stops" if code is Code.SHUTTING_DOWN else "is starting"
                call.fail(code, f"storage node {self._disks.name} {state}", self._routing_version())

        return guarded

    def _update(self, call: Call) -> None:
        try:
            updates = parse_update(call.request, call.payload)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._routing_version())
            return
        job = UpdateJob(call, updates, self._payloads, self._routing_version, self._job_done)
        self._jobs += 1
        job.hold()
        refusal = None
        if self._config.read_only and updates and not updates[0].from_target:
            refusal = UpdateResult(Code.PERMISSION, message=f"storage node {self._disks.name} is read-only")
        elif self._config.enforce_lease and not self.may_serve(self._clock.now()):
            refusal = UpdateResult(Code.LEASE, message=f"storage node {self._disks.name} may have lost its lease")
        for index, update in enumerate(updates):
            if refusal is not None:
                job.answer(index, refusal)
                continue
            shell = self._by_chain.get(update.chain)
            if shell is None:
                message = f"storage node {self._disks.name} has no target of chain {update.chain}"
                job.answer(index, UpdateResult(Code.NO_SUCH_TARGET, message=message))
            else:
                shell.submit(update, job, index)
        job.drop()

    def _job_done(self) -> None:
        self._jobs -= 1
        if not self._jobs and self._idle is not None:
            self._idle.set()

    # --- targets and routing -----------------------------------------------------------------------------------------

    async def _open_store(self, target: TargetId) -> None:
        """Open a target's store and make its shell; a failure is remembered and reported, the other targets go on."""
        try:
            store = await self._store_factory(target)
        except (FS3Error, OSError) as failure:
            log.error("target %d cannot be opened: %s", target, failure)
            self._failed[target] = str(failure)
            return
        self._failed.pop(target, None)
        self._shells[target] = TargetShell(
            target, store, self._clock, self._payloads, self._peer, self._member.poke, incarnation=self._incarnation
        )

    def _own_chains(self, routing: Routing) -> dict[TargetId, Chain]:
        node = self.node
        return {slot.target: chain for chain in routing.chains.values() for slot in chain.slots if slot.node == node}

    def _routing_changed(self, routing: Routing) -> None:
        if not self._accepting:
            return
        self._channels.clear()
        chains = self._chains = self._own_chains(routing)
        changed = False
        for target, shell in self._shells.items():
            chain = chains.get(target)
            changed = changed or (chain is not None and (shell.chain is None or chain.version > shell.chain.version))
            shell.chain_changed(chain)
        for target, chain in chains.items():
            if target in self._shells or target in self._failed or target in self._making:
                continue
            if chain.version == 1:
                # A newborn chain: nothing was ever acknowledged by it, since this target has to acknowledge everything.
                making = asyncio.get_running_loop().create_task(self._make(target))
                self._making[target] = making
            else:
                self._failed[target] = f"storage node {self._disks.name} has no data of target {target}"
                changed = True
        self._map_chains()
        if changed:
            self._member.poke()

    async def _make(self, target: TargetId) -> None:
        """A target of a newborn chain."""
        try:
            await self._open_store(target)
            shell = self._shells.get(target)
            if shell is not None:
                shell.open(self._chains.get(target))
                self._map_chains()
        finally:
            del self._making[target]
        self._member.poke()

    def _map_chains(self) -> None:
        self._by_chain.clear()
        self._by_chain.update({shell.chain.id: shell for shell in self._shells.values() if shell.chain is not None})

    def _peer(self, node: NodeId) -> Channel:
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
        reports = []
        for target, shell in sorted(self._shells.items()):
            space = shell.store.space()
            state: Any = int(shell.local_state())
            reports.append(
                mgmtd_pb2.TargetReport(
                    target_id=target,
                    state=state,
                    chain_version=shell.chain.version if shell.chain is not None else 0,
                    used_bytes=space.used,
                    free_bytes=space.free,
                    chunks=space.chunks,
                    reason=shell.damage,
                )
            )
        for target, reason in sorted(self._failed.items()):
            chain = self._chains.get(target)
            offline: Any = int(LocalState.OFFLINE)
            version = chain.version if chain is not None else 0
            reports.append(mgmtd_pb2.TargetReport(target_id=target, state=offline, chain_version=version, reason=reason))
        return reports

    def _configured(self, version: int, toml: str) -> None:
        try:
            self._config = parse_config(StorageConfig, toml, f"configuration {version} of the storage role")
        except FS3Error as wrong:
            log.error("%s; the one before stays in force", wrong)

    def _lease_until(self) -> int:
        return self._member.lease.until if self._config.enforce_lease else NO_LEASE_NEEDED

    def _buffered_bytes(self) -> int:
        return self._payloads.bytes + self._reads.cold.bytes

    def _routing_version(self) -> int:
        return self._mgmtd.routing.version
