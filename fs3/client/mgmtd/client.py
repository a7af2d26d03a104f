"""Talking to the management service: find it, keep routing info fresh, ask it things.

Routing info is pushed: one watch stream per client carries deltas. A caller that learns from a data reply that newer routing
exists calls `refresh`, and all callers that do so at one time share one pull. When the manager goes away, its addresses are tried
in turn, with growing pauses; the snapshot at hand stays usable meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TableId
from fs3.base.limits import (
    call_timeout_ns,
    connect_timeout_ns,
    manager_read_ns,
    manager_write_ns,
    reconnect_backoff_min_ns,
    watch_keepalive_ns,
)
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.base.version import THIS_RELEASE, Release
from fs3.client.connector import Connector
from fs3.client.mgmtd.selector import JitteredBackoff, PrimarySelector
from fs3.client.security.session import LoginSession
from fs3.model.cluster import (
    NO_SETTINGS,
    CacheNamespace,
    ClearNamespace,
    ClusterStatus,
    DeleteNamespace,
    EnsureTable,
    GetConfig,
    GetRouting,
    Heartbeat,
    HeartbeatAck,
    ListNamespaces,
    NamespaceChanges,
    NamespacePage,
    NamespaceSettings,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    RoleConfig,
    RoutingUpdate,
    SetConfig,
    SetNamespace,
)
from fs3.model.event import ClusterEvent
from fs3.model.machine import (
    JoinAck,
    JoinCluster,
    JoinToken,
    MachineList,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
)
from fs3.model.method import Method
from fs3.model.moves import ListMoves, MoveOverview, PlanMoves, SetMoves
from fs3.model.routing import Role, Routing
from fs3.model.security import BeginLogin, Challenge, Login
from fs3.model.settings import SetSettings, SettingsHistory, SettingValue
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.runtime.tasks import start_background
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import routing_from_pb
from fs3.wire.mgmtd_capabilities import capabilities_reply_from_pb, namespace_capabilities_to_pb
from fs3.wire.mgmtd_events import events_from_pb, list_events_to_pb
from fs3.wire.mgmtd_machines import get_settings_to_pb, list_machines_to_pb, machines_from_pb, settings_history_from_pb
from fs3.wire.mgmtd_queries import (
    cluster_info_from_pb,
    get_cluster_to_pb,
    get_config_to_pb,
    get_routing_to_pb,
    get_status_to_pb,
    list_namespace_changes_to_pb,
    list_namespaces_to_pb,
    namespace_changes_from_pb,
    namespace_page_from_pb,
    role_config_from_pb,
    status_from_pb,
)
from fs3.wire.mgmtd_security import begin_login_to_pb, challenge_from_pb, grant_from_pb, login_to_pb
from fs3.wire.mgmtd_verbs import VERBS, set_known_routing
from fs3.wire.routing_parts import EncodedStatus, RoutingParts

log = logging.getLogger("fs3.client")

refresh_wait_ns = 1 * SECOND
"""How long a caller that needs newer routing waits for one pull."""

routing_poll_ns = 1 * SECOND
"""Between pulls while the manager's streams cannot be used."""

login_attempt_ns = 8 * SECOND
"""An answer to a login that is refused may be kept back for some seconds."""

NO_TOKEN = (
    "the cluster asks who calls: give a token with FS3_TOKEN, token_file or token; its admin makes one with `fs3 user token NAME`"
)

_GONE = (Code.UNAVAILABLE, Code.SHUTTING_DOWN, Code.NOT_PRIMARY)
"""Answers after which another address is tried and nothing has happened."""
_LOST = (Code.DISCONNECTED, Code.DEADLINE)
"""The same, but something may have happened."""


class MgmtdClient:
    """The cluster as one process sees it. A `RoutingSource`. Belongs to one event loop.

    The connector is the caller's: `close` ends the watch and leaves its channels alone.
    """

    def __init__(
        self,
        connector: Connector,
        addresses: Sequence[str],
        clock: Clock,
        *,
        expected_cluster: bytes = b"",
        connect_timeout_ns: int = connect_timeout_ns,
        release: Release = THIS_RELEASE,
        session: LoginSession | None = None,
    ) -> None:
        """`addresses`: endpoints of the cluster's mgmtds. `expected_cluster`: the id it must have, b"" for any. `release`: of
        this process. `session`: what it logs in by; the connector's transports show its tickets. None: it does not."""
        self.release = release
        self.session = session
        self._clock = clock
        self._connect_timeout_ns = connect_timeout_ns
        self._prng = Prng(clock.now())
        self._selector = PrimarySelector(
            connector,
            addresses,
            clock,
            self._prng,
            expected_cluster=expected_cluster,
            connect_timeout_ns=connect_timeout_ns,
            release=release,
        )
        self._routing = Routing()
        self._callbacks: list[Callable[[Routing], None]] = []
        self._pulling: asyncio.Task[None] | None = None
        self._next_snapshot: asyncio.Future[None] | None = None
        """Done with the next newer snapshot; there while a caller waits for one."""
        self._watching: asyncio.Task[None] | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._stream_is_alive = False
        """The stream has carried something."""
        self._stale_store_logged = False
        """It was said that the manager's routing is older than ours."""
        self._closed = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the cluster, get the first routing info, begin to watch.

        Unreachable, within the connect timeout, when no address answers as the manager of the expected cluster; its message
        names every address and what was wrong with it.
        """
        await self._selector.search()
        await self.log_in()
        await self._pull()
        if self._watching is None:
            self._watching = start_background(self._watch())

    async def log_in(self) -> None:
        """Have the session log in, and renew that from then on. NOT_AUTHENTICATED when the cluster asks who calls and there is
        nothing to say; what the login fails with."""
        await self._selector.search()
        if self.session is not None:
            await self.session.start(self)
        if self.is_secured and (self.session is None or not self.session.ticket):
            raise error(Code.NOT_AUTHENTICATED, NO_TOKEN)

    async def close(self) -> None:
        """End the watch. Waiters get what there is."""
        self._closed = True
        if self.session is not None:
            await self.session.close()
        tasks = [task for task in (self._watching, self._streaming, self._pulling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._selector.close(), return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- logins ------------------------------------------------------------------------------------------------------

    @property
    def is_secured(self) -> bool:
        """See `LoginPort`."""
        return self._selector.is_secured

    @property
    def has_logins(self) -> bool:
        """See `LoginPort`."""
        return self._selector.has_logins

    async def ask_logins(self) -> None:
        """See `LoginPort`."""
        message = await self._call(MGMTD.GetCluster, get_cluster_to_pb(self.release), attempt_ns=manager_read_ns)
        self._selector.note_security(cluster_info_from_pb(message))

    async def begin_login(self, request: BeginLogin) -> Challenge:
        """See `LoginPort`."""
        return challenge_from_pb(await self._call(MGMTD.BeginLogin, begin_login_to_pb(request), attempt_ns=manager_read_ns))

    async def login(self, request: Login) -> bytes:
        """See `LoginPort`."""
        return grant_from_pb(await self._call(MGMTD.Login, login_to_pb(request), attempt_ns=login_attempt_ns))

    # --- routing -----------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> bytes:
        """Id of the cluster; b"" before it is known."""
        return self._selector.cluster

    @property
    def routing(self) -> Routing:
        """The newest snapshot; never blocks."""
        return self._routing

    async def refresh(self, newer_than: int) -> Routing:
        """See `RoutingSource.refresh`."""
        for _ in range(2):
            if self._routing.version > newer_than or self._closed:
                break
            # One that was under way may have been answered before the caller learned what it knows: then one more.
            joined = self._pulling is not None
            pulling = self._begin_pull()
            if self._next_snapshot is None:
                self._next_snapshot = asyncio.get_running_loop().create_future()
            await asyncio.wait(
                (pulling, self._next_snapshot), timeout=refresh_wait_ns / SECOND, return_when=asyncio.FIRST_COMPLETED
            )
            if not joined:
                break
        return self._routing

    def on_change(self, callback: Callable[[Routing], None]) -> None:
        """Call back with every newer snapshot."""
        self._callbacks.append(callback)

    async def wait_routing(self, condition: Callable[[Routing], bool], timeout_ns: int) -> Routing:
        """The first snapshot that satisfies a condition. DeadlineExceeded when there is none in time."""
        found: asyncio.Future[Routing] = asyncio.get_running_loop().create_future()

        def look(routing: Routing) -> None:
            if not found.done() and condition(routing):
                found.set_result(routing)

        look(self._routing)
        self._callbacks.append(look)
        try:
            async with asyncio.timeout(timeout_ns / SECOND):
                return await found
        except TimeoutError:
            raise error(Code.DEADLINE, f"routing version {self._routing.version} is not what was waited for") from None
        finally:
            self._callbacks.remove(look)

    # --- calls -------------------------------------------------------------------------------------------------------

    async def register(self, request: RegisterNode) -> RegistrationAck:
        """Announce this process. The routing info in the answer is applied. WRONG_CLUSTER, OLD_INCARNATION: do not go on."""
        ack: RegistrationAck = await self._ask(request)
        return ack

    async def heartbeat(self, request: Heartbeat, timeout_ns: int = SECOND, *, attempt_ns: int = manager_read_ns) -> HeartbeatAck:
        """Report; the lease it grants (`lease_ns`, 0: none, apply newer routing first) counts from before this call.

        A primary that does not answer within `attempt_ns` is left for the next one.
        """
        ack: HeartbeatAck = await self._ask(request, timeout_ns, attempt_ns)
        return ack

    async def ensure_table(self, replicas: int) -> TableId:
        """The chain table with so many replicas (0: the cluster's default), which `routing` shows on return."""
        table: TableId = await self._ask(EnsureTable(replicas))
        return table

    async def open_namespace(
        self, name: str, page_bytes: int, replicas: int = 0, settings: NamespaceSettings = NO_SETTINGS
    ) -> CacheNamespace:
        """A KVCache namespace, made with these settings when absent; `routing` shows its table on return. NAMESPACE_DIFFERS."""
        namespace: CacheNamespace = await self._ask(OpenNamespace(name, page_bytes, replicas, settings))
        return namespace

    async def get_namespace_capabilities(self, namespaces: Sequence[int]) -> list[bytes | Code]:
        """Capabilities of namespaces, by their ids; of each NO_NAMESPACE when it is not for this user, or BUSY."""
        request = namespace_capabilities_to_pb(namespaces)
        reply = await self._call(MGMTD.GetNamespaceCapabilities, request, call_timeout_ns, manager_read_ns)
        return capabilities_reply_from_pb(reply, len(namespaces))

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        """A page of the namespaces whose names begin with `prefix` and come after `after`, by name."""
        return await self._list_namespaces(ListNamespaces(prefix, after), call_timeout_ns)

    async def list_namespace_changes(self, since: int) -> NamespaceChanges:
        """What has changed since the list of namespaces had a version."""
        request = list_namespace_changes_to_pb(since)
        return namespace_changes_from_pb(await self._call(MGMTD.ListNamespaceChanges, request, call_timeout_ns, manager_read_ns))

    async def find_namespace(self, name: str, timeout_ns: int = call_timeout_ns) -> CacheNamespace | None:
        """The namespace with this name, None when there is none."""
        page = await self._list_namespaces(ListNamespaces(prefix=name, limit=1), timeout_ns)
        return next((namespace for namespace in page.namespaces if namespace.name == name), None)

    async def set_namespace(self, name: str, settings: NamespaceSettings) -> CacheNamespace:
        """Change the settings of a namespace that are named. NO_NAMESPACE; INVALID for what it cannot have."""
        namespace: CacheNamespace = await self._ask(SetNamespace(name, settings))
        return namespace

    async def clear_namespace(self, name: str, namespace_id: int, timeout_ns: int = call_timeout_ns) -> CacheNamespace:
        """Give the namespace that has this id another one, under which it has no pages; `routing` tells of it on return.
        NO_NAMESPACE."""
        known = self._routing.namespace_deletions
        namespace: CacheNamespace = await self._ask(ClearNamespace(name, namespace_id), timeout_ns)
        await self._wait_deletion(known)
        return namespace

    async def delete_namespace(self, name: str, made_as: int) -> None:
        """Forget the namespace that was made with this id; `routing` tells of it on return. Nothing happens to one that is gone
        already. NO_NAMESPACE for an id that was never given out."""
        known = self._routing.namespace_deletions
        await self._ask(DeleteNamespace(name, made_as))
        await self._wait_deletion(known)

    async def _wait_deletion(self, known: int) -> None:
        """What uses this client is to hear of a deletion before the one who asked for it goes on. The watch has brought it,
        nearly always."""
        if self._routing.namespace_deletions == known:
            await self.refresh(self._routing.version)

    async def _list_namespaces(self, wanted: ListNamespaces, timeout_ns: int) -> NamespacePage:
        request = list_namespaces_to_pb(wanted)
        return namespace_page_from_pb(await self._call(MGMTD.ListNamespaces, request, timeout_ns, manager_read_ns))

    async def plan_moves(self, plan: PlanMoves) -> MoveOverview:
        """Do something about where targets are. Raises FS3Error: UNKNOWN_NODE, NO_SPACE and BUSY with the numbers, INVALID."""
        answer: MoveOverview = await self._ask(plan)
        return answer

    async def set_moves(self, settings: SetMoves) -> MoveOverview:
        """Change how targets move. Raises FS3Error INVALID."""
        answer: MoveOverview = await self._ask(settings)
        return answer

    async def list_moves(self) -> MoveOverview:
        """What moves, and how far it is."""
        answer: MoveOverview = await self._ask(ListMoves())
        return answer

    async def set_config(self, role: Role, toml: str, expected_version: int = 0) -> int:
        """Distribute a configuration; its version. CONFIG naming the key that is wrong; STALE when another is there already."""
        version: int = await self._ask(SetConfig(role, toml, expected_version))
        return version

    async def get_config(self, role: Role) -> RoleConfig:
        """The distributed configuration of a role; version 0 when there is none."""
        return role_config_from_pb(await self._call(MGMTD.GetConfig, get_config_to_pb(GetConfig(role))), role)

    async def list_machines(self) -> MachineList:
        """The machines that have joined the cluster, and the tokens."""
        return machines_from_pb(await self._call(MGMTD.ListMachines, list_machines_to_pb(), attempt_ns=manager_read_ns))

    async def join(self, token: str, machine: str, key: bytes) -> JoinAck:
        """Have a machine join the cluster. NOT_ADMITTED, EXISTS, WRONG_CLUSTER: why not."""
        ack: JoinAck = await self._ask(JoinCluster(token, machine, key))
        return ack

    async def make_token(self, proof: MachineProof, token: JoinToken, lifetime_ms: int) -> JoinToken:
        """Have a token remembered. NOT_ADMITTED when the machine that asks is none of the cluster."""
        made: JoinToken = await self._ask(MakeToken(proof, token.id, token.digest, token.uses_max, lifetime_ms))
        return made

    async def revoke_token(self, proof: MachineProof, number: str) -> JoinToken:
        """No machine joins with a token any more. NOT_FOUND."""
        revoked: JoinToken = await self._ask(RevokeToken(proof, number))
        return revoked

    async def remove_machine(self, proof: MachineProof, machine: str, *, comes_back: bool = False) -> None:
        """A machine belongs to the cluster no more. NOT_FOUND; BUSY while one of its nodes is alive, or holds targets and the
        machine is not to join again (`comes_back`)."""
        await self._ask(RemoveMachine(proof, machine, comes_back))

    async def settings(self) -> SettingsHistory:
        """The settings, and what they were before."""
        return settings_history_from_pb(await self._call(MGMTD.GetSettings, get_settings_to_pb(), attempt_ns=manager_read_ns))

    async def set_settings(self, changes: dict[str, SettingValue | None], expected_version: int = 0, author: str = "") -> int:
        """Change settings, all or none; their version then. CONFIG naming the key that is wrong; STALE when another change came
        first."""
        version: int = await self._ask(SetSettings(changes, expected_version, author))
        return version

    async def status(self) -> ClusterStatus:
        """Everything `fs3 status` shows."""
        try:
            return status_from_pb(await self._call(MGMTD.GetStatus, get_status_to_pb(), attempt_ns=manager_read_ns))
        except FS3Error as failure:
            if failure.code is not Code.TOO_LARGE:
                raise
        status = EncodedStatus()
        for part in await self._read(MGMTD.ReadStatus, get_status_to_pb()):
            status.MergeFrom(part)
        return status_from_pb(status)

    async def _read(self, method: Method, request: Any) -> list[Any]:
        """The parts of one answer that is larger than a message, from the first primary that sends them all, until the timeout.
        Raises the last failure."""
        deadline = self._clock.now() + call_timeout_ns
        backoff = JitteredBackoff(self._prng)
        while True:
            channel = None
            try:
                async with asyncio.timeout(manager_write_ns / SECOND):
                    channel = self._selector.channel or await self._selector.search()
                    return [part async for part in channel.stream(method, request)]
            except FS3Error as problem:
                failure = problem
            except TimeoutError:
                failure = error(Code.DEADLINE, f"{method!r} was not answered in time")
            if channel is not None and failure.code is not Code.BUSY:
                self._on_channel_failed(channel)
            remaining = deadline - self._clock.now()
            if self._closed or remaining <= 0 or failure.code not in (*_GONE, *_LOST, Code.BUSY):
                raise failure
            await backoff.pause(remaining)

    async def list_events(self, after: int = 0, limit: int = 0) -> list[ClusterEvent]:
        """What happened, oldest first: the newest `limit` events (0: as many as the manager likes) behind number `after`."""
        return events_from_pb(await self._call(MGMTD.ListEvents, list_events_to_pb(after, limit), attempt_ns=manager_read_ns))

    async def ask(self, request: Any) -> Any:
        """The answer to a request of `VERBS`, for groups of methods in files of their own. Raises FS3Error."""
        return await self._ask(request)

    async def ask_message(self, method: Method, message: Any) -> Any:
        """The reply to a message that changes nothing, likewise. Raises FS3Error."""
        return await self._call(method, message, attempt_ns=manager_read_ns)

    async def _ask(self, request: Any, timeout_ns: int = call_timeout_ns, attempt_ns: int = manager_write_ns) -> Any:
        """The answer to one of the requests of `VERBS`. The routing info that comes with it is applied before it is returned."""
        verb = VERBS[type(request)]
        asked = verb.to_pb(request)
        if verb.has_routing:
            set_known_routing(asked, self._request())
        message = await self._call(verb.method, asked, timeout_ns, attempt_ns)
        answer = verb.answer_from_pb(message)
        if isinstance(answer, RegistrationAck):
            self._selector.check_cluster(answer.cluster)
        if verb.has_routing:
            await self._take(routing_from_pb(message.routing))
        return answer

    async def _call(
        self, method: Method, request: Any, timeout_ns: int = call_timeout_ns, attempt_ns: int = manager_write_ns
    ) -> Any:
        """The reply message to one request, from the first address that answers, until the timeout. Raises the last failure."""
        deadline = self._clock.now() + timeout_ns
        backoff = JitteredBackoff(self._prng)
        last: FS3Error | None = None
        while True:
            if self._closed:
                raise error(Code.SHUTTING_DOWN, "the client is closed")
            remaining = deadline - self._clock.now()
            if last is not None and remaining <= 0:
                raise last  # and not that there was no time for one more try
            channel = None
            try:
                channel = self._selector.channel or await self._selector.search(remaining)
                reply = await channel.call(method, request, timeout_ns=min(remaining, attempt_ns))
                return reply.message
            except FS3Error as failure:
                last = failure
                again = failure.code in _GONE or (failure.code in _LOST and method.repeatable)
                if channel is not None and (again or failure.code in _LOST):
                    self._on_channel_failed(channel)
                remaining = deadline - self._clock.now()
                if self._closed or remaining <= reconnect_backoff_min_ns or not (again or failure.code is Code.BUSY):
                    raise
                # No address answers: the search has used its own time for trying, the caller need not wait for a second round.
                if channel is None and remaining < self._connect_timeout_ns:
                    raise
            await backoff.pause(remaining)

    def _on_channel_failed(self, channel: Channel) -> None:
        """A channel failed: the next request looks for the primary anew, and so does the watch."""
        if self._selector.mark_failed(channel) and self._streaming is not None:
            self._streaming.cancel()

    # --- staying fresh -----------------------------------------------------------------------------------------------

    def _request(self) -> GetRouting:
        return GetRouting(self._routing.version, self._selector.cluster, in_parts=True)

    async def _take(self, update: RoutingUpdate) -> None:
        """Take in what came with an answer; when it leaves a gap, read what is larger than a message."""
        try:
            self._apply(update)
        except ValueError:
            whole = RoutingParts()
            for part in await self._read(MGMTD.ReadRouting, get_routing_to_pb(self._request())):
                if (complete := whole.add(part)) is not None:
                    self._apply(routing_from_pb(complete))

    def _apply(self, update: RoutingUpdate) -> None:
        """Take an update in. Raises FS3Error WRONG_CLUSTER for one of another cluster, ValueError for one that leaves a gap."""
        self._selector.check_cluster(update.cluster)
        self._selector.learn(update.managers)
        routing = self._routing.apply(update.delta, update.cluster)
        if routing is self._routing:
            return
        self._routing = routing
        if self._next_snapshot is not None:
            if not self._next_snapshot.done():
                self._next_snapshot.set_result(None)
            self._next_snapshot = None
        for callback in list(self._callbacks):
            try:
                callback(routing)
            except Exception:
                log.exception("a callback failed on routing version %d", routing.version)

    async def _pull(self) -> None:
        request = self._request()
        message = await self._call(MGMTD.GetRouting, get_routing_to_pb(request), self._connect_timeout_ns, manager_read_ns)
        update = routing_from_pb(message)
        await self._take(update)
        if update.delta.version < request.known_version and not self._stale_store_logged:
            self._stale_store_logged = True
            log.error(
                "the manager's routing version is %d, this process has %d already and keeps it: the manager's store is older "
                "than the cluster, perhaps an old copy",
                update.delta.version,
                request.known_version,
            )

    def _begin_pull(self) -> asyncio.Task[None]:
        """The pull that all callers of this moment share."""
        if self._pulling is None:
            self._pulling = start_background(self._pull())
            self._pulling.add_done_callback(self._on_pull_done)
        return self._pulling

    def _on_pull_done(self, task: asyncio.Task[None]) -> None:
        self._pulling = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("routing could not be refreshed: %s", failure)

    async def _watch(self) -> None:
        """Keep a watch stream open for as long as the client lives."""
        backoff = JitteredBackoff(self._prng)
        lost = False
        while not self._closed:
            self._stream_is_alive = False
            try:
                channel = self._selector.channel or await self._selector.search()
                if lost:
                    log.info("the management service answers again")
                    lost = False
                self._streaming = start_background(self._stream(channel))
                await asyncio.wait((self._streaming,))
                problem = None if self._streaming.cancelled() else self._streaming.exception()
                self._streaming = None
                if isinstance(problem, FS3Error):
                    if problem.code is Code.UNSUPPORTED:
                        await self._poll()
                    if problem.code in _GONE or problem.code in _LOST:
                        self._on_channel_failed(channel)
                    elif problem.code not in (Code.BUSY, Code.UNSUPPORTED):
                        log.warning("the watch on routing was refused: %s", problem)
                    log.debug("the watch on routing ended: %s", problem)
                elif problem is not None:
                    log.warning("the watch on routing broke: %s", problem, exc_info=problem)
            except FS3Error as failure:
                if not lost:
                    log.warning("%s; using routing version %d meanwhile", failure, self._routing.version)
                    lost = True
            except Exception:
                log.exception("the watch on routing failed; it is begun again")
            if self._stream_is_alive:
                backoff.reset()
            await backoff.pause()

    async def _stream(self, channel: Channel) -> None:
        """One watch stream, until it ends, breaks or falls silent."""
        loop = asyncio.get_running_loop()
        silence = 3 * watch_keepalive_ns / SECOND
        is_abandoned = False
        parts = RoutingParts()
        updates: AsyncIterator[Any] = channel.stream(MGMTD.WatchRouting, get_routing_to_pb(self._request()))
        try:
            async with asyncio.timeout(silence) as limit:
                async for part in updates:
                    limit.reschedule(loop.time() + silence)
                    self._stream_is_alive = True
                    if (update := parts.add(part)) is not None:
                        self._apply(routing_from_pb(update))
        except FS3Error:
            raise
        except TimeoutError:
            raise error(Code.DISCONNECTED, "the watch stream fell silent") from None
        except ValueError as gap:
            log.debug("%s; asking again", gap)
        except GeneratorExit:  # the loop is gone, and this with it
            is_abandoned = True
            raise
        finally:
            if not is_abandoned and (close := getattr(updates, "aclose", None)) is not None:
                await close()

    async def _poll(self) -> None:
        """Pull now and then, over a wire or a server that has no streams; until a pull fails."""
        while not self._closed:
            await asyncio.sleep(routing_poll_ns / SECOND)
            pulling = self._begin_pull()
            await asyncio.wait((pulling,))
            if not pulling.cancelled():
                pulling.result()
