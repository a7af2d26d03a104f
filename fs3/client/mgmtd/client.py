"""Talking to the management service: find it, log in, keep routing info fresh.

Routing info is pushed: one watch stream per client carries deltas. A caller that learns from a data reply that newer routing
exists calls `refresh`, and all callers that do so at one time share one pull. When the manager goes away, its addresses are tried
in turn, with growing pauses; the snapshot at hand stays usable meanwhile.

How one request is sent, and sent again, is in `calls`; the calls themselves are in a file per group (`*_calls`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TableId
from fs3.base.limits import connect_timeout_ns, manager_read_ns, watch_keepalive_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.base.version import THIS_RELEASE, Release
from fs3.client.connector import Connector
from fs3.client.mgmtd.admin_calls import AdminCalls
from fs3.client.mgmtd.calls import GONE, LOST
from fs3.client.mgmtd.namespace_calls import NamespaceCalls
from fs3.client.mgmtd.proved_calls import ProvedCalls
from fs3.client.mgmtd.selector import JitteredBackoff
from fs3.client.security.session import LoginSession
from fs3.model.cluster import EnsureTable, Heartbeat, HeartbeatAck, RoutingUpdate
from fs3.model.routing import Routing
from fs3.model.security import BeginLogin, Challenge, Login
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.runtime.tasks import start_background
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import routing_from_pb
from fs3.wire.mgmtd_queries import cluster_info_from_pb, get_cluster_to_pb, get_routing_to_pb
from fs3.wire.mgmtd_security import begin_login_to_pb, challenge_from_pb, grant_from_pb, login_to_pb
from fs3.wire.routing_parts import RoutingParts

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


class MgmtdClient(NamespaceCalls, AdminCalls, ProvedCalls):
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
        super().__init__(
            connector, addresses, clock, expected_cluster=expected_cluster, connect_timeout_ns=connect_timeout_ns, release=release
        )
        self.session = session
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

    def _on_channel_failed(self, channel: Channel) -> None:
        """A channel failed: the next request looks for the primary anew, and so does the watch."""
        if self._selector.mark_failed(channel) and self._streaming is not None:
            self._streaming.cancel()

    # --- staying fresh -----------------------------------------------------------------------------------------------

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
                    if problem.code in GONE or problem.code in LOST:
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
