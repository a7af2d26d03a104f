"""The management service: requests in, the machine stepped, its effects carried out.

Several of them may share one store. One is the primary and has a `Manager`; the others answer NOT_PRIMARY, and `GetCluster`,
which names the primary. Whoever becomes primary loads what is stored. What was not answered when it steps down may have
been stored or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fs3 import __version__
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.election import ElectionTimes, Holder, LeaseRecord
from fs3.core.membership.events import (
    Effect,
    Event,
    ManagerTick,
    Persist,
    Persisted,
    Publish,
    Rejection,
    Respond,
)
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.model.routing import Delta, Role
from fs3.ports.clock import Clock
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.services.mgmtd import replies, requests
from fs3.services.mgmtd.candidate import Candidate
from fs3.services.mgmtd.requests import Schemas
from fs3.services.mgmtd.store import MgmtdStore
from fs3.services.mgmtd.watchers import Watchers
from fs3.wire.frames import PROTOCOL_VERSION
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import enum_from_pb, routing_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb

log = logging.getLogger("fs3.mgmtd")

_CLUSTER_ID_BYTES = 16
_INSTANCE_BYTES = 8


class MgmtdService:
    """One manager."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        config: MgmtdConfig,
        entropy: Callable[[int], bytes],
        *,
        name: str = "mgmtd",
        schemas: Schemas | None = None,
        endpoints: Sequence[str] = (),
        sole: bool = False,
    ) -> None:
        """`entropy` draws the id of a new cluster, and tells starts of this process apart. `name`: unique among the managers.

        `schemas`: what SetConfig accepts for each role. `sole`: the caller makes sure that no other process has the store, so
        a lease that a killed process has left in it need not be waited for. The caller closes `kv`.
        """
        try:
            config.check()
        except ValueError as wrong:
            raise error(Code.CONFIG, f"configuration of the manager: {wrong}") from wrong
        self._store = MgmtdStore(kv)
        self._clock = clock
        self._config = config
        self._entropy = entropy
        self._schemas: Schemas = schemas or {}
        self._cluster = b""
        """Known once there is one in the store."""
        self._candidate = Candidate(
            self._store,
            clock,
            Holder(name, entropy(_INSTANCE_BYTES), tuple(endpoints)),
            ElectionTimes(lease_ns=config.manager_lease_ns, drift_ns=config.drift_ns),
            sole=sole,
            lead=self._on_elected,
            step_down=self._on_step_down,
            managers_changed=self._on_managers_changed,
        )
        self._endpoints = tuple(endpoints)
        self._name = name
        self._manager: Manager | None = None
        """There while this is the primary."""
        self._lease_record: LeaseRecord | None = None
        """The lease record under which it is."""
        self._primary_since = 0
        self._term_start: asyncio.Task[None] | None = None
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
        """Load or initialise the cluster and be its primary, or stand by for another that is.

        FS3Error: another format, another cluster's data, rows that cannot be read.
        """
        state = await self._store.load()
        if state is not None:
            self._check_cluster(state)
        await self._candidate.start()
        if self._term_start is not None:
            await self._term_start

    async def stop(self) -> None:
        """End every stream, refuse what is waiting, give the lease back. What was answered is durable already."""
        self._stopped = True
        self._end_term(Code.SHUTTING_DOWN, "the management service is stopping")
        if self._term_start is not None:
            self._term_start.cancel()
            await asyncio.gather(self._term_start, return_exceptions=True)
        await self._candidate.stop(self._config.manager_lease_ns)

    def announce(self, endpoints: Sequence[str]) -> None:
        """Where this service listens; known once the listeners are open. The other managers and all clients are told."""
        self._endpoints = tuple(endpoints)
        self._candidate.set_endpoints(endpoints)

    @property
    def is_primary(self) -> bool:
        """It leads, and may act."""
        return self._manager is not None and self._candidate.may_act()

    def bindings(self) -> Bindings:
        """One handler for every method of the service."""
        return {
            MGMTD.GetCluster: self._get_cluster,
            MGMTD.RegisterNode: self._event_handler(requests.register_node),
            MGMTD.Heartbeat: self._event_handler(requests.heartbeat),
            MGMTD.GetRouting: self._read_handler(self._get_routing),
            MGMTD.WatchRouting: self._watch_routing,
            MGMTD.EnsureTable: self._event_handler(requests.ensure_table),
            MGMTD.OpenNamespace: self._event_handler(requests.open_namespace),
            MGMTD.SetConfig: self._event_handler(requests.set_config(self._schemas)),
            MGMTD.GetConfig: self._read_handler(self._get_config),
            MGMTD.GetStatus: self._read_handler(self._get_status),
        }

    def _check_cluster(self, state: State) -> None:
        if state.cluster.name != self._config.cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), "
                f"configured is {self._config.cluster!r}",
            )

        self._cluster = state.cluster.id

    # --- the office --------------------------------------------------------------------------------------------------

    def _on_elected(self, lease_record: LeaseRecord) -> None:
        if self._term_start is not None:
            self._term_start.cancel()
        self._term_start = asyncio.get_running_loop().create_task(self._begin_term(lease_record))
        self._term_start.add_done_callback(self._on_term_begun)

    async def _begin_term(self, lease_record: LeaseRecord) -> None:
        """Load what the former primary has left, and go on with it."""
        state = await self._store.load()
        if state is None:
            cluster = ClusterRow(FORMAT, self._entropy(_CLUSTER_ID_BYTES), self._config.cluster)
            state = await self._store.create(cluster, lease_record)
            log.info("initialised cluster %s (%s)", state.cluster.name, state.cluster.id.hex())
        self._check_cluster(state)
        if self._stopped or not self._candidate.may_act():
            return
        self._lease_record = lease_record
        self._primary_since = self._clock.now()
        self._manager = Manager(self._primary_since, self._config, state)
        self._arm()

    def _on_term_begun(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            # Nobody is served by a primary that cannot read what is stored. The others take over when its lease has run out.
            log.error("%s cannot be the primary manager: %s", self._name, failure)
            self._candidate.give_up()

    def _on_step_down(self, why: str) -> None:
        if self._term_start is not None:
            self._term_start.cancel()
        # Whether what is waiting was stored, nobody can say now.
        self._end_term(Code.DISCONNECTED, f"{self._name} is not the primary manager any more: {why}")

    def _end_term(self, code: Code, why: str) -> None:
        self._manager = self._lease_record = self._whole_update = None
        self._inbox.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watchers.close(Code.NOT_PRIMARY if code is Code.DISCONNECTED else code, why)
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.fail(code, why)

    def _on_managers_changed(self) -> None:
        self._whole_update = None
        if self._manager is not None:
            self._watchers.publish(self._clock.now(), self._update(Delta.empty(self._manager.published.version)))

    def _update(self, delta: Delta) -> pb.RoutingUpdate:
        update = routing_to_pb(delta, self._cluster)
        update.managers.extend(replies.managers(self._candidate))
        return update

    # --- handlers ----------------------------------------------------------------------------------------------------

    def _event_handler(self, convert: Callable[[int, Any], Event]) -> Handler:
        """A handler that makes an event of a request and answers when the machine does."""

        def handle(call: Call) -> None:
            if self._refuse_unless_primary(call):
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

    def _read_handler(self, answer: Callable[[Manager, Any], Any]) -> Handler:
        """A handler that answers at once from what is durable."""

        def handle(call: Call) -> None:
            if self._refuse_unless_primary(call):
                return
            assert self._manager is not None
            try:
                reply = answer(self._manager, call.request)
            except FS3Error as wrong:
                call.fail(wrong.code, str(wrong))
                return
            call.reply(reply)

        return handle

    def _refuse_unless_primary(self, call: Call) -> bool:
        if self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
        elif not self.is_primary:
            call.fail(Code.NOT_PRIMARY, f"{self._name} is not the primary manager; {self._candidate.describe_primary()}")
        else:
            return False
        return True

    def _watch_routing(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            self._watchers.add(call, self._get_routing(self._manager, call.request))

    def _get_cluster(self, call: Call) -> None:
        """Answered by every manager, as far as it knows."""
        if self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
            return
        record = self._candidate.record
        holder = record.holder if record is not None else None
        reply = pb.GetClusterReply(
            software=__version__,
            protocol=PROTOCOL_VERSION,
            primary=self._endpoints if self.is_primary else holder.endpoints if holder is not None else (),
            is_primary=self.is_primary,
            managers=replies.managers(self._candidate),
            epoch=record.epoch if record is not None else 0,
        )

        def known(cluster: bytes | None, problem: BaseException | None) -> None:
            self._cluster = cluster or b""
            if self._cluster:
                reply.cluster_id = self._cluster
                call.reply(reply)
            else:
                call.fail(Code.NOT_PRIMARY, str(problem) if problem is not None else "no manager has initialised the cluster yet")

        if self._cluster:
            known(self._cluster, None)
        else:
            self._store.find_cluster(known)

    def _get_routing(self, manager: Manager, request: pb.GetRoutingRequest) -> pb.RoutingUpdate:
        ours = request.cluster_id in (b"", manager.cluster)
        delta = manager.since(request.known_version if ours else 0)
        return self._update(delta) if delta.from_version else self._whole()

    def _whole(self) -> pb.RoutingUpdate:
        """The published routing info in full; made once per version, because every new client asks for it."""
        assert self._manager is not None
        routing = self._manager.published
        if self._whole_update is None or self._whole_update.version != routing.version:
            self._whole_update = self._update(routing.to_full_delta())
        return self._whole_update

    def _get_config(self, manager: Manager, request: pb.GetConfigRequest) -> pb.GetConfigReply:
        stored = manager.role_config(enum_from_pb(Role, request.role, "GetConfigRequest.role"))
        return pb.GetConfigReply(version=stored.version, toml=stored.toml)

    def _get_status(self, manager: Manager, request: pb.GetStatusRequest) -> pb.GetStatusReply:
        now = self._clock.now()
        reply = replies.status(manager, now, self._whole())
        reply.managers.extend(replies.managers(self._candidate))
        reply.epoch = self._lease_record.epoch if self._lease_record is not None else 0
        reply.primary_for_ms = (now - self._primary_since) // MILLISECOND
        return reply

    # --- the machine -------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> None:
        """Step the machine; carrying out an effect may bring the next event, which then waits for its turn."""
        self._inbox.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            # An effect may end the office.
            while self._inbox and self._manager is not None:
                for effect in self._manager.step(self._clock.now(), self._inbox.popleft()):
                    self._carry_out(effect)
        finally:
            self._draining = False
        self._arm()

    def _carry_out(self, effect: Effect) -> None:
        manager, office = self._manager, self._lease_record
        if manager is None or office is None:
            return
        match effect:
            case Persist():
                self._store.save(effect.rows, office, partial(self._on_saved, manager))
            case Publish():
                self._watchers.publish(self._clock.now(), self._update(effect.delta))
            case Respond():
                call = self._calls.pop(effect.token)
                if isinstance(effect.answer, Rejection):
                    call.fail(effect.answer.code, effect.answer.message, manager.published.version)
                else:
                    call.reply(replies.answer(call.method, effect.answer, self._config, manager.cluster, self._whole))

    def _on_saved(self, manager: Manager, _: None, problem: BaseException | None) -> None:
        if manager is not self._manager:
            return  # it has stepped down meanwhile, and whoever is the primary now has loaded what was stored
        if isinstance(problem, FS3Error) and problem.code is Code.NOT_PRIMARY:
            self._on_step_down(str(problem))
            return
        if problem is not None:
            log.error("the manager's state could not be stored: %s", problem)
        self._step(Persisted(str(problem) or type(problem).__name__ if problem is not None else ""))

    # --- duties ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer for the machine's next deadline."""
        if self._manager is None:
            return
        deadline = self._manager.next_deadline()
        if self._timer is not None and self._timer_at <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0, deadline - self._clock.now()) / SECOND
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._manager is None:
            return
        if not self._candidate.may_act():
            # It decides nothing. Either the lease is renewed in a moment, or it steps down.
            self._timer_at = self._clock.now() + self._config.heartbeat_ns
            self._timer = asyncio.get_running_loop().call_later(self._config.heartbeat_ns / SECOND, self._tick)
            return
        empty = partial(self._update, Delta.empty(self._manager.published.version))
        self._watchers.keep_alive(self._clock.now(), empty)
        self._step(ManagerTick())
