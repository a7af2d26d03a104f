"""The management service: requests in, the machine stepped, its effects carried out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fs3 import __version__
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import (
    Beaten,
    Effect,
    Event,
    Persist,
    Persisted,
    Publish,
    Refused,
    Registered,
    Reply,
    Tick,
)
from fs3.core.membership.manager import Manager, TargetStatus
from fs3.core.membership.state import FORMAT, ClusterRow, Namespace, State
from fs3.model.routing import Role
from fs3.ports.clock import Clock
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.services.mgmtd import requests
from fs3.services.mgmtd.requests import Schemas
from fs3.services.mgmtd.store import MgmtdStore
from fs3.services.mgmtd.watchers import Watchers
from fs3.wire.frames import PROTOCOL
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import enum_from_pb, routing_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb

log = logging.getLogger("fs3.mgmtd")

_CLUSTER_ID_BYTES = 16


class MgmtdService:
    """One manager. It is the primary for as long as it runs: its store is held by one process."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        config: MgmtdConfig,
        entropy: Callable[[int], bytes],
        *,
        schemas: Schemas | None = None,
        endpoints: Sequence[str] = (),
    ) -> None:
        """`entropy` draws the id of a new cluster. `schemas`: what SetConfig accepts for each role. The caller closes `kv`."""
        try:
            config.check()
        except ValueError as wrong:
            raise error(Code.CONFIG, f"configuration of the manager: {wrong}") from wrong
        self._store = MgmtdStore(kv)
        self._clock = clock
        self._config = config
        self._entropy = entropy
        self._schemas: Schemas = schemas or {}
        self._endpoints = tuple(endpoints)
        self._manager: Manager | None = None
        self._watchers = Watchers(clock.now())
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._calls: dict[int, Call] = {}
        self._last_token = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._stopped = False
        self._whole_update: pb.RoutingUpdate | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the cluster, or initialise it. FS3Error: another format, another cluster's data, rows that cannot be read."""
        state = await self._store.load()
        if state is None:
            state = await self._store.create(ClusterRow(FORMAT, self._entropy(_CLUSTER_ID_BYTES), self._config.cluster))
            log.info("initialised cluster %s (%s)", state.cluster.name, state.cluster.id.hex())
        self._check_cluster(state)
        self._manager = Manager(self._clock.now(), self._config, state)
        self._arm()

    async def stop(self) -> None:
        """End every stream and refuse what is waiting. What was answered is durable already."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._watchers.close()
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.fail(Code.SHUTTING_DOWN, "the management service is stopping")

    def announce(self, endpoints: Sequence[str]) -> None:
        """Where this service listens, for GetCluster; known once the listeners are open."""
        self._endpoints = tuple(endpoints)

    def bindings(self) -> Bindings:
        """One handler for every method of the service."""
        return {
            MGMTD.GetCluster: self._read(self._get_cluster),
            MGMTD.RegisterNode: self._event(requests.register_node),
            MGMTD.Heartbeat: self._event(requests.heartbeat),
            MGMTD.GetRouting: self._read(self._get_routing),
            MGMTD.WatchRouting: self._watch_routing,
            MGMTD.EnsureTable: self._event(requests.ensure_table),
            MGMTD.OpenNamespace: self._event(requests.open_namespace),
            MGMTD.SetConfig: self._event(requests.set_config(self._schemas)),
            MGMTD.GetConfig: self._read(self._get_config),
            MGMTD.GetStatus: self._read(self._get_status),
        }

    def _check_cluster(self, state: State) -> None:
        if state.cluster.name != self._config.cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), "
                f"configured is {self._config.cluster!r}",
            )

    # --- handlers ----------------------------------------------------------------------------------------------------

    def _event(self, convert: Callable[[int, Any], Event]) -> Handler:
        """A handler that makes an event of a request and answers when the machine does."""

        def handle(call: Call) -> None:
            if self._refuse_early(call):
                return
            self._last_token += 1
            token = self._last_token
            try:
                event = convert(token, call.request)
            except FS3Error as wrong:
                call.fail(wrong.code, str(wrong))
                return
            self._calls[token] = call
            self._step(event)

        return handle

    def _read(self, answer: Callable[[Manager, Any], Any]) -> Handler:
        """A handler that answers at once from what is durable."""

        def handle(call: Call) -> None:
            if self._refuse_early(call):
                return
            assert self._manager is not None
            try:
                reply = answer(self._manager, call.request)
            except FS3Error as wrong:
                call.fail(wrong.code, str(wrong))
                return
            call.reply(reply)

        return handle

    def _refuse_early(self, call: Call) -> bool:
        if self._manager is None or self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
            return True
        return False

    def _watch_routing(self, call: Call) -> None:
        if not self._refuse_early(call):
            assert self._manager is not None
            self._watchers.add(call, self._get_routing(self._manager, call.request))

    def _get_cluster(self, manager: Manager, request: pb.GetClusterRequest) -> pb.GetClusterReply:
        return pb.GetClusterReply(
            cluster_id=manager.cluster, software=__version__, protocol=PROTOCOL, primary=self._endpoints, is_primary=True
        )

    def _get_routing(self, manager: Manager, request: pb.GetRoutingRequest) -> pb.RoutingUpdate:
        ours = request.cluster_id in (b"", manager.cluster)
        delta = manager.since(request.known_version if ours else 0)
        return routing_to_pb(delta, manager.cluster) if delta.from_version else self._whole()

    def _whole(self) -> pb.RoutingUpdate:
        """The published routing info in full; made once per version, because every new client asks for it."""
        assert self._manager is not None
        routing = self._manager.published
        if self._whole_update is None or self._whole_update.version != routing.version:
            self._whole_update = routing_to_pb(routing.whole(), self._manager.cluster)
        return self._whole_update

    def _get_config(self, manager: Manager, request: pb.GetConfigRequest) -> pb.GetConfigReply:
        stored = manager.stored_config(enum_from_pb(Role, request.role, "GetConfigRequest.role"))
        return pb.GetConfigReply(version=stored.version, toml=stored.toml)

    def _get_status(self, manager: Manager, request: pb.GetStatusRequest) -> pb.GetStatusReply:
        now = self._clock.now()
        routing = manager.published
        return pb.GetStatusReply(
            cluster_id=manager.cluster,
            software=__version__,
            routing=self._whole(),
            targets=[_target_status(target) for target in manager.targets(now)],
            namespaces=[_namespace(namespace) for namespace in manager.namespaces()],
            lease_left_ms=[manager.lease_left_ns(now, node) // MILLISECOND for node in routing.nodes],
        )

    # --- the machine -------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> None:
        """Step the machine; carrying out an effect may bring the next event, which then waits for its turn."""
        self._inbox.append(event)
        if self._draining or self._stopped:
            return
        assert self._manager is not None
        self._draining = True
        try:
            while self._inbox:
                for effect in self._manager.step(self._clock.now(), self._inbox.popleft()):
                    self._carry_out(effect)
        finally:
            self._draining = False
        self._arm()

    def _carry_out(self, effect: Effect) -> None:
        assert self._manager is not None
        match effect:
            case Persist():
                self._store.save(effect.rows, self._saved)
            case Publish():
                self._watchers.publish(self._clock.now(), routing_to_pb(effect.delta, self._manager.cluster))
            case Reply():
                call = self._calls.pop(effect.token)
                if isinstance(effect.answer, Refused):
                    call.fail(effect.answer.code, effect.answer.message, self._manager.published.version)
                else:
                    call.reply(self._answer(call, effect.answer))

    def _saved(self, _: None, problem: BaseException | None) -> None:
        if problem is not None:
            log.error("the manager's state could not be stored: %s", problem)
        self._step(Persisted(str(problem) or type(problem).__name__ if problem is not None else ""))

    def _answer(self, call: Call, answer: Any) -> Any:
        assert self._manager is not None
        manager = self._manager
        match answer:
            case Registered():
                return pb.RegisterNodeReply(
                    node_id=answer.node,
                    cluster_id=manager.cluster,
                    lease_ms=self._config.lease_ns // MILLISECOND,
                    heartbeat_ms=self._config.heartbeat_ns // MILLISECOND,
                    routing=self._whole(),
                )
            case Beaten():
                return pb.HeartbeatReply(
                    seq=answer.seq,
                    lease_ms=answer.lease_ns // MILLISECOND,
                    routing_version=answer.routing_version,
                    config_version=answer.config_version,
                )
            case Namespace():
                return pb.OpenNamespaceReply(namespace=_namespace(answer), routing=self._whole())
        if call.method is MGMTD.EnsureTable:
            return pb.EnsureTableReply(table_id=answer, routing=self._whole())
        assert call.method is MGMTD.SetConfig, call.method
        return pb.SetConfigReply(version=answer)

    # --- duties ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer for the machine's next deadline."""
        assert self._manager is not None
        deadline = self._manager.next_deadline()
        if self._stopped or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0, deadline - self._clock.now()) / SECOND
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._stopped:
            return
        assert self._manager is not None
        version = self._manager.published.version
        empty = pb.RoutingUpdate(cluster_id=self._manager.cluster, version=version, from_version=version)
        self._watchers.keep_alive(self._clock.now(), empty)
        self._step(Tick())


def _namespace(namespace: Namespace) -> pb.Namespace:
    return pb.Namespace(
        id=namespace.id,
        name=namespace.name,
        page_bytes=namespace.page_bytes,
        replicas=namespace.replicas,
        table_id=namespace.table,
    )


def _target_status(target: TargetStatus) -> pb.TargetStatus:
    status = pb.TargetStatus(
        target_id=target.slot.target,
        node_id=target.slot.node,
        chain_id=target.chain,
        public_state=int(target.slot.state),  # type: ignore[arg-type]
        local_state=int(target.local or 0),  # type: ignore[arg-type]
        chain_version=target.chain_version,
    )
    if (report := target.report) is not None:
        status.used_bytes, status.free_bytes, status.chunks = report.used_bytes, report.free_bytes, report.chunks
        status.reason = report.reason
    return status
