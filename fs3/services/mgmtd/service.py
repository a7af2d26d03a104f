"""The management service: requests in, the machine stepped, its effects carried out.

Several managers may share one store. One is the primary and has a `Manager`; the others answer NOT_PRIMARY, and `GetCluster`,
which names the primary. A manager that becomes the primary loads what is stored. A request that was not answered when the primary
steps down may have been stored or not.

What steps the machine is in `machine_requests`, what only asks it in a file of handlers per group (`*_handlers`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.version import THIS_RELEASE, Release
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.election import ElectionTimes, Holder, LeaseRecord
from fs3.core.membership.events import Effect, Event, ManagerTick, Persist, Persisted, Publish, Respond
from fs3.core.membership.manager import Manager
from fs3.core.membership.namespaces import TERM_ENTROPY_BYTES
from fs3.core.membership.state import FORMAT, ClusterRow
from fs3.core.security.login import Entropy
from fs3.core.security.state import SecurityState
from fs3.model.activity import ToldActivity
from fs3.model.cluster import ClusterStatus, ManagerInfo
from fs3.model.event import ClusterEvent
from fs3.model.method import Method
from fs3.model.routing import Delta
from fs3.model.security import NodeKey, SecurityRow
from fs3.ports.clock import Clock
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.ports.security import CertificateIssuer
from fs3.runtime.alarm import Alarm
from fs3.runtime.audit import Audit, NoAudit
from fs3.services.mgmtd.admin_handlers import AdminHandlers
from fs3.services.mgmtd.candidate import Candidate
from fs3.services.mgmtd.cluster_handler import ClusterHandler, SpaceMeter, measure_nothing
from fs3.services.mgmtd.cluster_identity import ClusterIdentity
from fs3.services.mgmtd.event_log import EventLog
from fs3.services.mgmtd.logins import Logins
from fs3.services.mgmtd.machine_requests import MachineRequests
from fs3.services.mgmtd.namespace_handlers import NamespaceHandlers
from fs3.services.mgmtd.node_notes import NodeNotes
from fs3.services.mgmtd.proved_requests import ProvedRequests
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.services.mgmtd.routing_handlers import RoutingHandlers
from fs3.services.mgmtd.schemas import Schemas
from fs3.services.mgmtd.security_follower import SecurityFollower
from fs3.services.mgmtd.security_handlers import SecurityHandlers
from fs3.services.mgmtd.store import MgmtdStore
from fs3.services.mgmtd.watchers import Watchers
from fs3.wire.methods import MGMTD

log = logging.getLogger("fs3.mgmtd")

OnGivenUp = Callable[[BaseException], None]
"""Called once, with the reason."""

manager_terms_failed_max = 5
"""A manager that is elected so often in a row and can never begin its term ends."""

_CLUSTER_ID_BYTES = 16
_INSTANCE_BYTES = 8

StoreDescriber = Callable[[], str]
"""Says where the rows of a process are and how the engine there is, for people."""


def describe_nothing() -> str:
    """The `StoreDescriber` of a process of which there is nothing to say."""
    return ""


class MgmtdService:
    """One manager. `bindings` may be served before `start`, `announce` is called when they are, and `stop` ends it for good."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        config: MgmtdConfig,
        entropy: Entropy,
        *,
        name: str = "mgmtd",
        schemas: Schemas | None = None,
        endpoints: Sequence[str] = (),
        expected_cluster: bytes = b"",
        sole: bool = False,
        on_given_up: OnGivenUp | None = None,
        measure_space: SpaceMeter = measure_nothing,
        describe_store: StoreDescriber = describe_nothing,
        keeps_events: bool = False,
        release: Release = THIS_RELEASE,
        audit: Audit | None = None,
        node_key: NodeKey | None = None,
        security: SecurityState | None = None,
        issuer: CertificateIssuer | None = None,
    ) -> None:
        """`entropy` draws the id of a new cluster, and tells starts of this process and its terms apart. `name`: unique among the
        managers.

        `schemas`: what SetConfig accepts for each role. `expected_cluster`: id of the cluster that the store must hold; b"": any,
        of the configured name, and a store that is empty gets one. `sole`: the caller makes sure that no other process has the
        store, so a lease that a killed process has left in it need not be waited for. The caller closes `kv`. `on_given_up` is
        called once, when this manager will never be of use: what is stored is of another cluster or format, or it was elected
        `manager_terms_failed_max` times in a row and could not read it. The caller then ends the process, with that reason.
        `measure_space`: how much room its disks have. `describe_store`: where the rows are and how that is, for people.
        `keeps_events`: what happens is told to ListEvents, and kept in the store.
        `release`: what this manager runs. `audit`: where logins and changes are told. `node_key`: what its operator proves itself
        with as this manager. `security`: what the process knows of the cluster's security, kept up to date by this service where
        the cluster has any; None: a state of its own. `issuer`: makes certificates of machines, where the cluster has an
        authority.
        """
        try:
            config.check()
        except ValueError as wrong:
            raise error(Code.CONFIG, f"configuration of the manager: {wrong}") from wrong
        self._store = MgmtdStore(kv)
        self._events = EventLog(self._store, clock) if keeps_events else None
        self._clock = clock
        self._config = config
        self._entropy = entropy
        self._identity = ClusterIdentity(self._store, config.cluster, expected_cluster)
        self._candidate = Candidate(
            self._store,
            clock,
            Holder(name, entropy(_INSTANCE_BYTES), tuple(endpoints)),
            ElectionTimes(lease_ns=config.manager_lease_ns, drift_ns=config.drift_ns),
            self,
            sole=sole,
        )
        self._publisher = RoutingPublisher(self._candidate)
        self._endpoints = tuple(endpoints)
        self._name = name
        self._describe_store = describe_store
        self._release = release
        self._node_key = node_key
        self.security = security or SecurityState()
        """What connections to this process must prove, and capabilities of namespaces are sealed with."""
        self._follower = SecurityFollower(self.security, clock)
        self._manager: Manager | None = None
        """There while this is the primary."""
        self._lease_record: LeaseRecord | None = None
        """The lease record under which it is."""
        self._primary_since = 0
        self._term_start: asyncio.Task[None] | None = None
        self._terms_failed = 0
        """In a row."""
        self._on_given_up = on_given_up
        self._watchers = Watchers(clock.now())
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._alarm = Alarm(self._on_alarm)
        self._stopped = False
        audit = audit or NoAudit()
        self._notes = NodeNotes(clock)
        routing = RoutingHandlers(self, self._publisher, self._watchers)
        self._cluster = ClusterHandler(
            self,
            self._identity,
            self._candidate,
            self._publisher,
            self.security,
            clock,
            measure_space=measure_space,
            release=release,
        )
        logins = Logins(clock, entropy, audit)
        self._requests = MachineRequests(self, routing, self._notes, schemas or {}, clock, audit, logins, release)
        self._proved = ProvedRequests(self, self._requests, logins, audit, issuer)
        self._queries = (
            routing,
            NamespaceHandlers(self, self.security, clock),
            AdminHandlers(self, self._publisher, self.describe_status, self.list_events),
            SecurityHandlers(self, logins, clock),
            self._proved,
        )
        """Handlers that do not step the machine, by group."""

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load or initialise the cluster and be its primary, or stand by for another that is.

        FS3Error: another format, another cluster's data, rows that cannot be read.
        """
        state = await self._store.load()
        if state is not None:
            self._identity.check(state)
        await self._candidate.start()
        if self._term_start is not None:
            try:
                await self._term_start
            except BaseException:
                self._candidate.give_up()
                raise

    async def stop(self) -> None:
        """End every stream, refuse what is waiting, give the lease back. What was answered is durable already."""
        self._stopped = True
        await self._proved.stop()
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
    def manager(self) -> Manager | None:
        """The machine, to be asked and not to be stepped; there while this is the primary."""
        return self._manager

    @property
    def epoch(self) -> int:
        """Of its term; 0 while it stands by."""
        return self._lease_record.epoch if self._lease_record is not None else 0

    @property
    def endpoints(self) -> tuple[str, ...]:
        """See `announce`."""
        return self._endpoints

    @property
    def is_stopped(self) -> bool:
        """It has ended."""
        return self._stopped

    @property
    def is_primary(self) -> bool:
        """It leads, and may act."""
        return self._manager is not None and self._candidate.may_act()

    def bindings(self) -> Bindings:
        """One handler for every method of the service."""
        bindings: dict[Method, Handler] = {MGMTD.GetCluster: self._cluster.get_cluster, **self._requests.bindings()}
        for group in self._queries:
            bindings |= group.bindings()
        return bindings

    # --- the term ----------------------------------------------------------------------------------------------------

    def on_elected(self, lease_record: LeaseRecord) -> None:
        """See `CandidateOwner`. A term begins: what is stored is loaded, then requests are taken."""
        if self._term_start is not None:
            self._term_start.cancel()
        self._term_start = asyncio.get_running_loop().create_task(self._begin_term(lease_record))
        self._term_start.add_done_callback(self._on_term_begun)

    async def _begin_term(self, lease_record: LeaseRecord) -> None:
        """Load what the former primary has left, and go on with it."""
        state = await self._store.load()
        if state is None and self._identity.expected:
            raise error(Code.WRONG_CLUSTER, f"the store is empty, this machine has joined {self._identity.expected.hex()}")
        if state is None:
            cluster = ClusterRow(FORMAT, self._entropy(_CLUSTER_ID_BYTES), self._config.cluster)
            state = await self._store.create(cluster, lease_record)
            log.info("initialised cluster %s (%s)", state.cluster.name, state.cluster.id.hex())
        self._identity.check(state)
        events = await self._store.load_events() if self._events is not None else []
        if self._stopped or not self._candidate.may_act():
            return
        self._lease_record = lease_record
        self._terms_failed = 0
        self._primary_since = self._clock.now()
        self._manager = Manager(self._primary_since, self._config, state, self._entropy(TERM_ENTROPY_BYTES), self._release)
        if self._events is not None:
            self._events.begin_term(lease_record, self._manager.published, events)
        self._follower.begin_term()
        if self._node_key is not None:
            self._manager.security.put_node_key(self._node_key)
        self.step(ManagerTick())

    def _on_term_begun(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (failure := task.exception()) is None:
            return
        # A primary that cannot read what is stored serves no client. Another one takes over when its lease has run out.
        log.error("%s cannot be the primary manager: %s", self._name, failure)
        if not (isinstance(failure, FS3Error) and failure.code is Code.NOT_PRIMARY):
            self._terms_failed += 1
        if not self._is_hopeless(failure):
            self._candidate.fail_term(f"it cannot begin its term: {failure}")
            return
        self._candidate.give_up()
        if self._on_given_up is not None:
            self._on_given_up(failure)

    def _is_hopeless(self, failure: BaseException) -> bool:
        if isinstance(failure, FS3Error) and failure.code in (Code.WRONG_CLUSTER, Code.UNSUPPORTED):
            return True
        return self._terms_failed >= manager_terms_failed_max and self._on_given_up is not None

    def on_step_down(self, why: str) -> None:
        """See `CandidateOwner`. The term ends."""
        if self._term_start is not None:
            self._term_start.cancel()
        # What is waiting may have been stored or not: DISCONNECTED says exactly that.
        self._end_term(Code.DISCONNECTED, f"{self._name} is not the primary manager any more: {why}")

    def _end_term(self, code: Code, why: str) -> None:
        self._manager = self._lease_record = None
        if self._events is not None:
            self._events.end_term()
        self._publisher.forget()
        self._inbox.clear()
        self._alarm.cancel()
        self._watchers.close(Code.NOT_PRIMARY if code is Code.DISCONNECTED else code, why)
        self._requests.end(code, why)

    def on_security_read(self, row: SecurityRow | None) -> None:
        """See `CandidateOwner`. A manager that stands by goes by what is stored."""
        if row is None or self._manager is not None:
            return

        def follow(cluster: bytes, problem: BaseException | None) -> None:
            if cluster and problem is None and self._manager is None:
                self._follower.on_read(row, cluster)

        # One that began with an empty store does not know yet which cluster another manager has made in it since.
        self._identity.find(follow)

    def on_managers_changed(self) -> None:
        """See `CandidateOwner`. Every client that watches is told."""
        self._publisher.forget()
        if self._manager is not None:
            self._publish_empty(self._manager)

    def _publish_empty(self, manager: Manager) -> None:
        empty = Delta.empty(manager.published.version)
        self._watchers.publish(self._clock.now(), self._publisher.encode(empty, manager.cluster))

    # --- what it knows -------------------------------------------------------------------------------------------------

    def list_managers(self) -> tuple[ManagerInfo, ...]:
        """Every manager, as this one knows them. May be called from any thread."""
        return self._publisher.managers()

    def list_activities(self) -> dict[NodeId, ToldActivity]:
        """What nodes have said of what they do, since this process began. May be called from any thread."""
        return self._notes.list_activities()

    def list_events(self, after: int, limit: int) -> list[ClusterEvent]:
        """See `EventLog.newest`; none where events are not kept. May be called from any thread."""
        return self._events.newest(after, limit) if self._events is not None else []

    def describe_status(self, *, with_targets: bool = True) -> ClusterStatus | None:
        """What the primary knows of its cluster; None when this manager stands by. May be called from any thread.
        `with_targets`: else it has none, and is made in a moment however large the cluster is."""
        manager, now = self._manager, self._clock.now()
        if manager is None:
            return None
        return ClusterStatus(
            software=self._release.software,
            routing=manager.published,
            nodes=tuple(
                msgspec.structs.replace(
                    node,
                    clock_skew_ms=self._notes.find_skew_ms(node.node.id),
                    certificate_left_ms=self._notes.find_certificate_left_ms(node.node.id),
                )
                for node in manager.node_statuses(now)
            ),
            targets=tuple(manager.target_statuses(now)) if with_targets else (),
            namespaces=manager.namespaces.count,
            managers=self._publisher.managers(),
            epoch=self.epoch,
            primary_for_ns=now - self._primary_since,
            store=self._describe_store(),
            is_secured=self.security.is_on,
        )

    def admit(self, call: Call) -> Manager | None:
        """See `Primary`."""
        if self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
        elif not self.is_primary:
            call.fail(Code.NOT_PRIMARY, f"{self._name} is not the primary manager; {self._candidate.describe_primary()}")
        else:
            return self._manager
        return None

    # --- the machine -------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        """See `Primary`. Carrying out an effect may bring the next event, which then waits for its turn."""
        self._inbox.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            # An effect may end the term.
            while self._inbox and self._manager is not None:
                for effect in self._manager.step(self._clock.now(), self._inbox.popleft()):
                    self._carry_out(effect)
        finally:
            self._draining = False
        if self._manager is not None:
            self._follower.follow(self._manager.security, self._identity.id)
        self._arm()

    def _carry_out(self, effect: Effect) -> None:
        manager, lease_record = self._manager, self._lease_record
        if manager is None or lease_record is None:
            return
        match effect:
            case Persist():
                self._store.save(effect.rows, lease_record, partial(self._on_saved, manager))
            case Publish():
                self._watchers.publish(self._clock.now(), self._publisher.encode(effect.delta, manager.cluster))
                if self._events is not None:
                    self._events.on_published(effect.delta)
            case Respond():
                self._requests.answer(effect, manager)

    def _on_saved(self, manager: Manager, _: None, problem: BaseException | None) -> None:
        if manager is not self._manager:
            return  # it has stepped down meanwhile, and the next primary has loaded what was stored
        if isinstance(problem, FS3Error) and problem.code is Code.NOT_PRIMARY:
            self.on_step_down(str(problem))
            return
        if problem is not None:
            log.error("the manager's state could not be stored: %s", problem)
        self.step(Persisted(str(problem) or type(problem).__name__ if problem is not None else ""))

    def _arm(self) -> None:
        if self._manager is not None:
            self._alarm.set(self._manager.next_deadline(), self._clock.now())

    def _on_alarm(self) -> None:
        manager = self._manager
        if manager is None:
            return
        now = self._clock.now()
        if not self._candidate.may_act():
            # It decides nothing. Either the lease is renewed in a moment, or it steps down.
            self._alarm.set(now + self._config.heartbeat_ns, now)
            return
        if self._watchers.is_idle(now):
            self._publish_empty(manager)
        self.step(ManagerTick())
