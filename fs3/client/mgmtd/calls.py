"""Asking the primary manager: one request, until an address has answered it or there is no more time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from fs3.base.errors import FS3Error, error
from fs3.base.limits import call_timeout_ns, manager_read_ns, manager_write_ns, reconnect_backoff_min_ns
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.base.version import Release
from fs3.client.connector import Connector
from fs3.client.mgmtd.selector import JitteredBackoff, PrimarySelector
from fs3.model.cluster import GetRouting, RegistrationAck, RoutingUpdate
from fs3.model.method import Method
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.wire.mgmtd import routing_from_pb
from fs3.wire.mgmtd_verbs import VERBS, set_known_routing

GONE = (Code.UNAVAILABLE, Code.SHUTTING_DOWN, Code.NOT_PRIMARY)
"""Answers after which another address is tried and nothing has happened."""
LOST = (Code.DISCONNECTED, Code.DEADLINE)
"""The same, but something may have happened."""


PrepareMessage: TypeAlias = Callable[[Channel, Any], Awaitable[Any]]
"""The message to send on a channel, made of the request. Raises FS3Error."""


class ManagerCalls:
    """What the groups of calls of a `MgmtdClient` have in common."""

    def __init__(
        self,
        connector: Connector,
        addresses: Sequence[str],
        clock: Clock,
        *,
        expected_cluster: bytes,
        connect_timeout_ns: int,
        release: Release,
    ) -> None:
        """See `MgmtdClient`."""
        self.release = release
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
        self._closed = False

    # --- what the client says ------------------------------------------------------------------------------------------

    async def _take(self, update: RoutingUpdate) -> None:
        """Take in the routing info that came with an answer."""
        raise NotImplementedError

    def _on_channel_failed(self, channel: Channel) -> None:
        """A channel failed: the next request looks for the primary anew."""
        raise NotImplementedError

    # --- calls ---------------------------------------------------------------------------------------------------------

    async def ask(self, request: Any) -> Any:
        """The answer to a request of `VERBS`, for groups of methods in files of their own. Raises FS3Error."""
        return await self._ask(request)

    async def ask_message(self, method: Method, message: Any) -> Any:
        """The reply to a message that changes nothing, likewise. Raises FS3Error."""
        return await self._call(method, message, attempt_ns=manager_read_ns)

    async def _ask(
        self,
        request: Any,
        timeout_ns: int = call_timeout_ns,
        attempt_ns: int = manager_write_ns,
        prepare: PrepareMessage | None = None,
    ) -> Any:
        """The answer to one of the requests of `VERBS`. The routing info that comes with it is applied before it is returned."""
        verb = VERBS[type(request)]
        asked = verb.to_pb(request)
        if verb.has_routing:
            set_known_routing(asked, self._request())
        message = await self._call(verb.method, asked, timeout_ns, attempt_ns, prepare)
        answer = verb.answer_from_pb(message)
        if isinstance(answer, RegistrationAck):
            self._selector.check_cluster(answer.cluster)
        if verb.has_routing:
            await self._take(routing_from_pb(message.routing))
        return answer

    async def _call(
        self,
        method: Method,
        request: Any,
        timeout_ns: int = call_timeout_ns,
        attempt_ns: int = manager_write_ns,
        prepare: PrepareMessage | None = None,
    ) -> Any:
        """The reply message to one request, from the first address that answers, until the timeout. Raises the last failure.
        `prepare`: what the message is made by anew for each sending; STALE is then no failure, but a reason to do so."""
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
                message = request if prepare is None else await prepare(channel, request)
                reply = await channel.call(method, message, timeout_ns=min(remaining, attempt_ns))
                return reply.message
            except FS3Error as failure:
                last = failure
                again = failure.code in GONE or (failure.code in LOST and method.repeatable)
                if channel is not None and (again or failure.code in LOST):
                    self._on_channel_failed(channel)
                again = again or failure.code is Code.BUSY or (failure.code is Code.STALE and prepare is not None)
                remaining = deadline - self._clock.now()
                if self._closed or remaining <= reconnect_backoff_min_ns or not again:
                    raise
                # No address answers: the search has used its own time for trying, the caller need not wait for a second round.
                if channel is None and remaining < self._connect_timeout_ns:
                    raise
            await backoff.pause(remaining)

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
            if self._closed or remaining <= 0 or failure.code not in (*GONE, *LOST, Code.BUSY):
                raise failure
            await backoff.pause(remaining)

    def _request(self) -> GetRouting:
        """For the routing info that is newer than what is known here."""
        return GetRouting(self._routing.version, self._selector.cluster, in_parts=True)
