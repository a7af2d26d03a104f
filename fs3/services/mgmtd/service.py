"""The management service: requests in, the machine stepped, its effects carried out.

Several managers may share one store. One is the primary and has a `Manager`; the others answer NOT_PRIMARY, and `GetCluster`,
which names the primary. A manager that becomes the primary loads what is stored. A request that was not answered when the primary
steps down may have been stored or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.limits import status_message_bytes_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.base.version import THIS_RELEASE, Release, explain_conflict
from fs3.core.membership.claims import claim_by
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.election import ElectionTimes, Holder, LeaseRecord
from fs3.core.membership.events import (
    Answer,
    Effect,
    Event,
    ManagerRequest,
    ManagerTick,
    Persist,
    Persisted,
    Publish,
    Rejection,
    Respond,
)
from fs3.core.membership.manager import Manager
from fs3.core.membership.namespaces import TERM_ENTROPY_BYTES
from fs3.core.membership.security import bundle_of, revocations_of
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.core.security.capability import READ, TRUSTED, WRITE, Subject, SubjectKind
from fs3.core.security.issue import holder_for, issue
from fs3.core.security.login import Entropy, ring_of
from fs3.core.security.state import SecurityState
from fs3.model.activity import ToldActivity
from fs3.model.cluster import (
    ANY_TENANT,
    ClearNamespace,
    ClusterInfo,
    ClusterStatus,
    DeleteNamespace,
    DiskSpace,
    GetRouting,
    Heartbeat,
    ManagerInfo,
    OpenNamespace,
    RegisterNode,
    SetConfig,
    SetNamespace,
)
from fs3.model.event import ClusterEvent
from fs3.model.machine import JoinCluster, MakeToken
from fs3.model.moves import MoveOverview
from fs3.model.principal import AuthContext, PrincipalKind, Right
from fs3.model.routing import Delta
from fs3.model.security import AddUserToken, KeyBundle, NodeKey, SecurityPhase, SecurityRow
from fs3.model.settings import SetSettings
from fs3.ports.clock import Clock
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call, Handler
from fs3.runtime.alarm import Alarm
from fs3.runtime.audit import Audit, NoAudit
from fs3.services.mgmtd.candidate import Candidate
from fs3.services.mgmtd.event_log import EventLog
from fs3.services.mgmtd.logins import Logins
from fs3.services.mgmtd.publisher import RoutingPublisher
from fs3.services.mgmtd.schemas import Schemas, check_config
from fs3.services.mgmtd.store import MgmtdStore
from fs3.services.mgmtd.watchers import Watchers
from fs3.wire.frames import PROTOCOL_VERSION
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import EncodedRouting
from fs3.wire.mgmtd_capabilities import capabilities_reply_to_pb, namespace_capabilities_from_pb
from fs3.wire.mgmtd_events import events_to_pb, list_events_from_pb
from fs3.wire.mgmtd_machines import machines_to_pb, settings_history_to_pb
from fs3.wire.mgmtd_queries import (
    cluster_info_to_pb,
    get_cluster_from_pb,
    get_config_from_pb,
    get_routing_from_pb,
    list_namespace_changes_from_pb,
    list_namespaces_from_pb,
    namespace_changes_to_pb,
    namespace_page_to_pb,
    role_config_to_pb,
    status_to_pb,
)
from fs3.wire.mgmtd_security import list_users_from_pb, security_status_to_pb, user_page_to_pb
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.mgmtd_verbs import VERBS, known_routing_of
from fs3.wire.routing_parts import EncodedStatus, split_routing, split_status

log = logging.getLogger("fs3.mgmtd")

OnGivenUp = Callable[[BaseException], None]
"""Called once, with the reason."""

manager_terms_failed_max = 5
"""A manager that is elected so often in a row and can never begin its term ends."""

_CLUSTER_ID_BYTES = 16
_INSTANCE_BYTES = 8
_NO_TENANT = "\0"
"""Of a connection that has proved nothing: no namespace has it."""


SpaceMeter = Callable[[], Sequence[DiskSpace]]
"""Says how much room the disks of a process have."""


StoreDescriber = Callable[[], str]
"""Says where the rows of a process are and how the engine there is, for people."""


_UNTOLD = (MGMTD.Heartbeat, MGMTD.EnsureTable, MGMTD.OpenNamespace, MGMTD.ListMoves)
"""Verbs of the machine that the audit log does not tell of."""


def _is_proved(call: Call, registration: RegisterNode) -> bool:
    """The connection has proved that it is the node."""
    principal = call.auth.principal
    return principal is not None and principal.kind is PrincipalKind.SERVICE and principal.name == registration.name


def _about(request: Any) -> str:
    """Whom or what a request names, for the audit log; "" when it names nothing. Requests have secrets in other fields."""
    names = (getattr(request, field, "") for field in ("name", "user", "machine", "id"))
    return " ".join(str(name) for name in names if name)


def describe_nothing() -> str:
    """The `StoreDescriber` of a process of which there is nothing to say."""
    return ""


def measure_nothing() -> Sequence[DiskSpace]:
    """The `SpaceMeter` of a process without disks."""
    return ()


def tenant_of(auth: AuthContext) -> str | None:
    """Whose namespaces a connection may use."""
    if auth.rights & TRUSTED:
        return ANY_TENANT
    return auth.principal.tenant if auth.principal is not None else _NO_TENANT


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
        with as this manager.
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
        self._schemas: Schemas = schemas or {}
        self._expected_cluster = expected_cluster
        self._cluster = b""
        """Known once there is one in the store."""
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
        self._measure_space = measure_space
        self._describe_store = describe_store
        self._release = release
        self._audit: Audit = audit or NoAudit()
        self._node_key = node_key
        self._logins = Logins(clock, entropy, self._audit)
        self.security = SecurityState()
        """What connections to this process must prove, and capabilities of namespaces are sealed with."""
        self._security_version = 0
        """Of the bundle in `security`, while this is the primary."""
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
        self._skews: dict[NodeId, int] = {}
        """How far the clocks of the nodes are ahead of this one, in milliseconds."""
        self._activities: dict[NodeId, ToldActivity] = {}
        """What the newest heartbeats of the nodes say of what they do."""
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._calls: dict[int, tuple[Call, MgmtdVerb]] = {}
        """What the machine has not answered yet, by token."""
        self._last_token = 0
        self._alarm = Alarm(self._on_alarm)
        self._stopped = False

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
            try:
                await self._term_start
            except BaseException:
                self._candidate.give_up()
                raise

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
    def manager(self) -> Manager | None:
        """The machine, to be asked and not to be stepped; there while this is the primary."""
        return self._manager

    @property
    def epoch(self) -> int:
        """Of its term; 0 while it stands by."""
        return self._lease_record.epoch if self._lease_record is not None else 0

    @property
    def is_primary(self) -> bool:
        """It leads, and may act."""
        return self._manager is not None and self._candidate.may_act()

    def bindings(self) -> Bindings:
        """One handler for every method of the service."""
        return {verb.method: self._make_handler(verb) for verb in VERBS.values()} | {
            MGMTD.GetCluster: self._get_cluster,
            MGMTD.GetRouting: self._get_routing,
            MGMTD.ReadRouting: self._read_routing,
            MGMTD.WatchRouting: self._watch_routing,
            MGMTD.GetConfig: self._get_config,
            MGMTD.GetStatus: self._get_status,
            MGMTD.ReadStatus: self._read_status,
            MGMTD.ListNamespaces: self._list_namespaces,
            MGMTD.ListNamespaceChanges: self._list_namespace_changes,
            MGMTD.GetNamespaceCapabilities: self._get_namespace_capabilities,
            MGMTD.ListMachines: self._list_machines,
            MGMTD.GetSettings: self._get_settings,
            MGMTD.ListEvents: self._list_events,
            MGMTD.BeginLogin: self._begin_login,
            MGMTD.Login: self._login,
            MGMTD.ListUsers: self._list_users,
            MGMTD.GetSecurity: self._get_security,
        }

    def _check_cluster(self, state: State) -> None:
        if self._expected_cluster and state.cluster.id != self._expected_cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), "
                f"this machine has joined {self._expected_cluster.hex()}",
            )
        if not self._expected_cluster and state.cluster.name != self._config.cluster:
            raise error(
                Code.WRONG_CLUSTER,
                f"the store holds cluster {state.cluster.name!r} ({state.cluster.id.hex()}), "
                f"configured is {self._config.cluster!r}",
            )

        self._cluster = state.cluster.id

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
        if state is None and self._expected_cluster:
            raise error(Code.WRONG_CLUSTER, f"the store is empty, this machine has joined {self._expected_cluster.hex()}")
        if state is None:
            cluster = ClusterRow(FORMAT, self._entropy(_CLUSTER_ID_BYTES), self._config.cluster)
            state = await self._store.create(cluster, lease_record)
            log.info("initialised cluster %s (%s)", state.cluster.name, state.cluster.id.hex())
        self._check_cluster(state)
        events = await self._store.load_events() if self._events is not None else []
        if self._stopped or not self._candidate.may_act():
            return
        self._lease_record = lease_record
        self._terms_failed = 0
        self._primary_since = self._clock.now()
        self._manager = Manager(self._primary_since, self._config, state, self._entropy(TERM_ENTROPY_BYTES), self._release)
        if self._events is not None:
            self._events.begin_term(lease_record, self._manager.published, events)
        self._security_version = 0
        if self._node_key is not None:
            self._manager.security.put_node_key(self._node_key)
        self._step(ManagerTick())

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
        calls = list(self._calls.values())
        self._calls.clear()
        for call, _ in calls:
            call.fail(code, why)

    def on_security_read(self, row: SecurityRow | None) -> None:
        """See `CandidateOwner`. A manager that stands by goes by what is stored. Its time is the bound, which is ahead: no ticket
        that is over counts."""
        if row is not None and row.version and self._manager is None:
            now = self._clock.now()
            self.security.time.learn(row.bound_ms, now, now)
            self._update_security(bundle_of(row))

    def _update_security(self, bundle: KeyBundle) -> None:
        is_on = bundle.phase is SecurityPhase.ON
        self.security.update(is_on=is_on, ring=ring_of(self._cluster, bundle), revoked=revocations_of(bundle))

    def _follow_security(self, manager: Manager) -> None:
        """The primary goes by what it has stored."""
        security = manager.security
        if not security.version:
            return
        now = self._clock.now()
        self.security.time.learn(security.now_ms(now), now, now)
        if security.version != self._security_version:
            self._security_version = security.version
            self._update_security(security.bundle())

    def on_managers_changed(self) -> None:
        """See `CandidateOwner`. Every client that watches is told."""
        self._publisher.forget()
        if self._manager is not None:
            self._publish_empty(self._manager)

    def _publish_empty(self, manager: Manager) -> None:
        empty = Delta.empty(manager.published.version)
        self._watchers.publish(self._clock.now(), self._publisher.encode(empty, manager.cluster))

    # --- handlers ----------------------------------------------------------------------------------------------------

    def _make_handler(self, verb: MgmtdVerb) -> Handler:
        """A handler that posts the request to the machine, and answers when that does."""

        def handle(call: Call) -> None:
            if self._refuse_unless_primary(call):
                return
            assert self._manager is not None
            try:
                body = claim_by(call.auth, verb.from_pb(call.request), self._manager.published)
                if isinstance(body, SetConfig):
                    check_config(self._schemas, body)
                elif isinstance(body, JoinCluster | MakeToken | SetSettings | AddUserToken):
                    body = msgspec.structs.replace(body, at_ms=self._clock.wall() // MILLISECOND)
                elif isinstance(body, OpenNamespace | SetNamespace | ClearNamespace | DeleteNamespace):
                    body = msgspec.structs.replace(body, tenant=tenant_of(call.auth))
                elif isinstance(body, RegisterNode):
                    body = msgspec.structs.replace(body, is_proved=_is_proved(call, body))
            except FS3Error as wrong:
                call.fail(wrong.code, str(wrong))
                return
            if isinstance(body, Heartbeat):
                self._note_node(body)
            self._last_token += 1
            self._calls[self._last_token] = (call, verb)
            self._step(ManagerRequest(self._last_token, body))

        return handle

    def _note_node(self, heartbeat: Heartbeat) -> None:
        manager = self._manager
        if manager is None or heartbeat.node not in manager.published.nodes:
            return
        if heartbeat.wall_ms:
            self._skews[heartbeat.node] = heartbeat.wall_ms - self._clock.wall() // MILLISECOND
        if heartbeat.activity is not None:
            self._activities[heartbeat.node] = ToldActivity(self._clock.now(), heartbeat.activity)
            if len(self._activities) > len(manager.published.nodes):
                self._activities = {node: told for node, told in self._activities.items() if node in manager.published.nodes}

    def list_managers(self) -> tuple[ManagerInfo, ...]:
        """Every manager, as this one knows them. May be called from any thread."""
        return self._publisher.managers()

    def list_activities(self) -> dict[NodeId, ToldActivity]:
        """What nodes have said of what they do, since this process began. May be called from any thread."""
        return dict(self._activities)

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
                msgspec.structs.replace(node, clock_skew_ms=self._skews.get(node.node.id)) for node in manager.node_statuses(now)
            ),
            targets=tuple(manager.target_statuses(now)) if with_targets else (),
            namespaces=manager.namespaces.count,
            managers=self._publisher.managers(),
            epoch=self.epoch,
            primary_for_ns=now - self._primary_since,
            store=self._describe_store(),
            is_secured=self.security.is_on,
        )

    def _refuse_unless_primary(self, call: Call) -> bool:
        if self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
        elif not self.is_primary:
            call.fail(Code.NOT_PRIMARY, f"{self._name} is not the primary manager; {self._candidate.describe_primary()}")
        else:
            return False
        return True

    def _get_cluster(self, call: Call) -> None:
        """Answered by every manager, as far as it knows."""
        if self._stopped:
            call.fail(Code.SHUTTING_DOWN, "the management service is not running")
            return
        try:
            asking = get_cluster_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        # One that is too new finds that out by the answer; one that is too old may not know how to.
        if asking.level < self._release.oldest_level:
            call.fail(Code.PROTOCOL, f"the process that asks runs {explain_conflict(asking, self._release)}")
            return
        record = self._candidate.record
        holder = record.holder if record is not None else None
        # As it is now: until the store has answered, this manager may win or lose an election.
        info = ClusterInfo(
            cluster=b"",
            software=self._release.software,
            protocol=PROTOCOL_VERSION,
            is_primary=self.is_primary,
            primary=self._endpoints if self.is_primary else holder.endpoints if holder is not None else (),
            managers=self._publisher.managers(),
            epoch=record.epoch if record is not None else 0,
            is_secured=self.security.is_on,
            has_logins=self.security.ring.newest != 0,
            disks=tuple(self._measure_space()) if call.auth.rights & ~Right.ANYONE else (),
            release=self._release,
            wall_ms=self._clock.wall() // MILLISECOND,
        )

        def known(cluster: bytes | None, problem: BaseException | None) -> None:
            self._cluster = cluster or b""
            if self._cluster:
                call.reply(cluster_info_to_pb(msgspec.structs.replace(info, cluster=self._cluster)))
            else:
                call.fail(Code.NOT_PRIMARY, str(problem) if problem is not None else "no manager has initialised the cluster yet")

        if self._cluster:
            known(self._cluster, None)
        else:
            self._store.find_cluster(known)

    def _get_routing(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            call.reply(self._routing_message(get_routing_from_pb(call.request)))

    def _read_routing(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            for part in self._routing_parts(get_routing_from_pb(call.request)):
                if not call.send(part):
                    call.fail(Code.BUSY, "the client does not take the routing info")
                    return
            call.reply(None)

    def _watch_routing(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            request = get_routing_from_pb(call.request)
            first = self._routing_parts(request) if request.in_parts else [self._routing_message(request)]
            self._watchers.add(call, first, in_parts=request.in_parts)

    def _routing_message(self, request: GetRouting) -> EncodedRouting:
        assert self._manager is not None
        return self._publisher.encode_message(self._routing_for(request), self._manager.published)

    def _routing_parts(self, request: GetRouting) -> list[EncodedRouting]:
        assert self._manager is not None
        update = self._routing_for(request)
        return split_routing(update) if update.from_version else self._publisher.split_full(self._manager.published)

    def _routing_for(self, request: GetRouting) -> EncodedRouting:
        """What leads a client to the published routing info: a delta when there is one, else the whole."""
        manager = self._manager
        assert manager is not None
        delta = manager.since(request.known_version if request.cluster in (b"", manager.cluster) else 0)
        if delta.from_version:
            return self._publisher.encode(delta, manager.cluster)
        return self._publisher.encode_full(manager.published)

    def _get_config(self, call: Call) -> None:
        if self._refuse_unless_primary(call):
            return
        assert self._manager is not None
        try:
            request = get_config_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        call.reply(role_config_to_pb(self._manager.role_config(request.role)))

    def _list_namespaces(self, call: Call) -> None:
        if self._refuse_unless_primary(call):
            return
        assert self._manager is not None
        try:
            wanted = list_namespaces_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        wanted = msgspec.structs.replace(wanted, tenant=tenant_of(call.auth))
        call.reply(namespace_page_to_pb(self._manager.namespaces.list(wanted)))

    def _get_namespace_capabilities(self, call: Call) -> None:
        """A namespace is one tenant's, and each of its users may read and write its pages."""
        if self._refuse_unless_primary(call):
            return
        assert self._manager is not None
        try:
            wanted = namespace_capabilities_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        holder, tenant = holder_for(call.auth), tenant_of(call.auth)
        if not holder:
            call.fail(Code.UNSUPPORTED, "this caller needs no capabilities")
            return
        now, find = self._clock.now(), self._manager.namespaces.find_by_id
        answers = [
            issue(self.security, now, holder, Subject(SubjectKind.NAMESPACE, number), READ | WRITE)
            if find(number, tenant) is not None
            else Code.NO_NAMESPACE
            for number in wanted
        ]
        call.reply(capabilities_reply_to_pb(answers))

    def _list_namespace_changes(self, call: Call) -> None:
        if tenant_of(call.auth) is not ANY_TENANT:
            call.fail(Code.PERMISSION, "changes of the list of namespaces are for services")
        elif not self._refuse_unless_primary(call):
            assert self._manager is not None
            since = list_namespace_changes_from_pb(call.request)
            call.reply(namespace_changes_to_pb(self._manager.namespaces.list_changes(since)))

    def _list_machines(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            call.reply(machines_to_pb(self._manager.machines.list()))

    def _get_settings(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            call.reply(settings_history_to_pb(self._manager.settings.history()))

    def _begin_login(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            self._logins.begin(call, self._manager)

    def _login(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            self._logins.login(call, self._manager)

    def _list_users(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            call.reply(user_page_to_pb(self._manager.security.list_users(list_users_from_pb(call.request))))

    def _get_security(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            assert self._manager is not None
            call.reply(security_status_to_pb(self._manager.security.status(self._clock.now())))

    def _list_events(self, call: Call) -> None:
        if not self._refuse_unless_primary(call):
            after, limit = list_events_from_pb(call.request)
            call.reply(events_to_pb(self.list_events(after, limit)))

    def _get_status(self, call: Call) -> None:
        if self._refuse_unless_primary(call):
            return
        status = self._encode_status()
        if (size := status.ByteSize()) > status_message_bytes_max:
            call.fail(
                Code.TOO_LARGE,
                f"the status has {size} bytes, too many for one message; ReadStatus has it in parts",
            )
        else:
            call.reply(status)

    def _read_status(self, call: Call) -> None:
        if self._refuse_unless_primary(call):
            return
        for part in split_status(self._encode_status()):
            if not call.send(part):
                call.fail(Code.BUSY, "the client does not take the status")
                return
        call.reply(None)

    def _encode_status(self) -> EncodedStatus:
        status = self.describe_status()
        assert status is not None
        return status_to_pb(status, self._publisher.encode_full(status.routing))

    # --- the machine -------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> None:
        """Step the machine; carrying out an effect may bring the next event, which then waits for its turn."""
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
            self._follow_security(self._manager)
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
                call, verb = self._calls.pop(effect.token)
                self._note_audit(call, verb, effect.answer)
                if isinstance(effect.answer, Rejection):
                    call.fail(effect.answer.code, effect.answer.message, manager.published.version)
                else:
                    if isinstance(effect.answer, MoveOverview) and verb.method is MGMTD.PlanMoves:
                        for note in effect.answer.notes:
                            log.warning("moves: %s", note)
                    routing = self._routing_message(known_routing_of(call.request)) if verb.has_routing else None
                    call.reply(verb.answer_to_pb(effect.answer, routing))

    def _note_audit(self, call: Call, verb: MgmtdVerb, answer: Answer | Rejection) -> None:
        """Changes of the cluster are told, with whom they are about, and what was refused to nodes."""
        result = answer.code.name if isinstance(answer, Rejection) else "ok"
        if verb.method in _UNTOLD or (verb.method is MGMTD.RegisterNode and result in ("ok", Code.BUSY.name)):
            return
        who = call.auth.principal.name if call.auth.principal is not None else ""
        about = _about(call.request)
        self._audit.record(verb.method.name, who=who, source=call.peer, result=result, **({"about": about} if about else {}))

    def _on_saved(self, manager: Manager, _: None, problem: BaseException | None) -> None:
        if manager is not self._manager:
            return  # it has stepped down meanwhile, and the next primary has loaded what was stored
        if isinstance(problem, FS3Error) and problem.code is Code.NOT_PRIMARY:
            self.on_step_down(str(problem))
            return
        if problem is not None:
            log.error("the manager's state could not be stored: %s", problem)
        self._step(Persisted(str(problem) or type(problem).__name__ if problem is not None else ""))

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
        self._step(ManagerTick())
