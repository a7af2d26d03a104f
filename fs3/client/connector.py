"""Which wire reaches a node: the best transport both sides have, and the next one when that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from fs3.base.errors import FS3Error, error
from fs3.base.limits import connections_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.model.method import Method
from fs3.ports.rpc import BlockingChannel, BlockingTransport, BufferProvider, Channel, OnReply, Part, Reply, Transport
from fs3.runtime.tasks import TaskSet

log = logging.getLogger("fs3.client")

transport_retry_ns = 30 * SECOND
"""How long a transport that failed its first transfer is left alone."""

_BROKEN = (Code.UNAVAILABLE, Code.DISCONNECTED)


class Connector:
    """Owns the channels of one process or client. Belongs to one event loop."""

    def __init__(self, transports: Sequence[Transport], host: str) -> None:
        """`transports`: most preferred first. `host`: identity of this host (`fs3.drivers.os.host.host_identity`), "" unknown."""
        self._transports = tuple(transports)
        self._host = host
        self._channels: dict[tuple[str, bool], Channel] = {}
        """One per endpoint, and one more for its short reads (True); oldest first."""
        self._resolved: dict[tuple[tuple[str, ...], str, bool], Channel] = {}
        """What `channel` (False) and `short_channel` (True) have answered."""
        self._closing = TaskSet()
        self._closed = False

    def channel(self, endpoints: Sequence[str], host: str = "") -> Channel:
        """A channel to the node that listens at `endpoints` on the host of identity `host`. No I/O yet; cached.

        The `local` transport is a candidate only when both hosts are known and equal. FS3Error (UNAVAILABLE) when no transport
        is common, InvalidArgument for an endpoint that its transport cannot parse.
        """
        asked = (tuple(endpoints), host, False)
        found = self._resolved.get(asked)
        if found is None:
            ways = [(endpoint, self._open(transport, endpoint)) for transport, endpoint in self._usable(endpoints, host)]
            found = self._resolved[asked] = ways[0][1] if len(ways) == 1 else _FallbackChannel(ways)
        return found

    def short_channel(self, endpoints: Sequence[str], host: str = "") -> Channel:
        """As `channel`, over a connection of its own by the best transport: for requests that are not to wait behind the bulk
        bytes of the other one. Where that fails, the other one carries them."""
        asked = (tuple(endpoints), host, True)
        found = self._resolved.get(asked)
        if found is None:
            usable = self._usable(endpoints, host)
            ways = [(endpoint, self._open(transport, endpoint)) for transport, endpoint in usable]
            transport, endpoint = usable[0]
            own = f"{endpoint} for short reads", self._open(transport, endpoint, is_short=True)
            found = self._resolved[asked] = _FallbackChannel([own, *ways])
        return found

    def _usable(self, endpoints: Sequence[str], host: str) -> list[tuple[Transport, str]]:
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the connector is closed")
        usable = self._candidates(endpoints, host)
        if not usable:
            speaks = ", ".join(transport.scheme for transport in self._transports) or "nothing"
            offered = ", ".join(endpoints) or "no endpoint"
            raise error(Code.UNAVAILABLE, f"no common transport: the node offers {offered}, this side speaks {speaks}")
        return usable

    def connect_blocking(self, endpoints: Sequence[str], host: str, timeout_ns: int) -> BlockingChannel | None:
        """A new connection to a node by the transport that `channel` prefers, for callers that block; the caller's to close. None
        when that has none. Raises OSError when no server listens. May be called from any thread."""
        usable = self._candidates(endpoints, host)
        if not usable:
            return None
        transport, endpoint = usable[0]
        return transport.connect_blocking(endpoint, timeout_ns) if isinstance(transport, BlockingTransport) else None

    async def close(self) -> None:
        """Disconnect from every node; calls under way fail."""
        self._closed = True
        channels = list(self._channels.values())
        self._channels.clear()
        self._resolved.clear()
        await asyncio.gather(*(channel.close() for channel in channels), self._closing.join())

    def _candidates(self, endpoints: Sequence[str], host: str) -> list[tuple[Transport, str]]:
        same_host = bool(host) and host == self._host
        return [
            (transport, endpoint)
            for transport in self._transports
            if transport.scheme != "local" or same_host
            for endpoint in endpoints
            if endpoint.partition("://")[0] == transport.scheme
        ]

    def _open(self, transport: Transport, endpoint: str, *, is_short: bool = False) -> Channel:
        found = self._channels.get((endpoint, is_short))
        if found is None:
            if len(self._channels) >= connections_max:
                self._evict_oldest()
            found = self._channels[endpoint, is_short] = transport.connect(endpoint)
        return found

    def _evict_oldest(self) -> None:
        """Nodes that restarted on other ports leave channels behind, and a process may live long."""
        self._closing.start(self._channels.pop(next(iter(self._channels))).close())
        self._resolved.clear()


class _FallbackCall(asyncio.Future[Reply]):
    """A call that may have to be sent again on another way. Giving it up gives up the sending under way, at once: its buffers
    must not be written to afterwards."""

    attempt: asyncio.Future[Reply]

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`."""
        if not super().cancel(msg):
            return False
        self.attempt.cancel(msg)
        return True


class _Sending(NamedTuple):
    """What has to be sent again when a way breaks. Nothing refers to it, nor to its buffers, once the call has ended."""

    method: Method
    request: Any
    parts: Sequence[Part]
    into: BufferProvider | None
    deadline: float
    """On the loop's clock; 0: none."""


class _FallbackChannel:
    """Several ways to one node. The best one is used until its first transfer breaks; then the next one, for a while.

    A way that has carried an answer is trusted: its calls go straight through. When a trusted one breaks it must prove itself
    again, so a node that is merely restarting costs one failed call, as with a single transport.
    """

    def __init__(self, ways: list[tuple[str, Channel]]) -> None:
        self._ways = ways
        self._skipped_until = [0.0] * len(ways)
        self._trusted = -1
        self._trusted_call: asyncio.Future[Reply] | None = None
        """The call whose failure would tell that the trusted way has broken; one under way is enough."""
        self._warned: set[int] = set()

    def start(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> asyncio.Future[Reply]:
        """As `Channel.start`; while no way is trusted, a call that broke is sent again on the next way if that is harmless."""
        way = self._choose()
        future = self._ways[way][1].start(method, request, parts, into, timeout_ns)
        if way == self._trusted:
            if self._trusted_call is None or self._trusted_call.done():
                self._trusted_call = future
                future.add_done_callback(self._on_trusted_call_done)
            return future
        loop = asyncio.get_running_loop()
        answer = _FallbackCall(loop=loop)
        deadline = loop.time() + timeout_ns / SECOND if timeout_ns else 0.0
        self._follow(answer, _Sending(method, request, parts, into, deadline), future, way)
        return answer

    def submit(self, method: Method, request: Any, finished: OnReply, timeout_ns: int = 0) -> bool:
        """As `Channel.submit`, on a way that is trusted."""
        return self._trusted >= 0 and self._ways[self._trusted][1].submit(method, request, finished, timeout_ns)

    def _follow(self, answer: _FallbackCall, sending: _Sending, attempt: asyncio.Future[Reply], way: int) -> None:
        answer.attempt = attempt
        attempt.add_done_callback(lambda done: self._settle(answer, sending, done, way))

    def _settle(self, answer: _FallbackCall, sending: _Sending, tried: asyncio.Future[Reply], way: int) -> None:
        if answer.done():
            if not tried.cancelled():
                tried.exception()
            return
        if tried.cancelled():
            answer.cancel()
            return
        failure = tried.exception()
        if failure is None:
            self._trusted = way
            answer.set_result(tried.result())
            return
        if not self._is_broken(failure):
            if isinstance(failure, FS3Error) and failure.code not in (Code.DEADLINE, Code.CANCELLED, Code.PROTOCOL):
                self._trusted = way
            answer.set_exception(failure)
            return
        following = self._fail_over(way, failure)
        left_ns = int((sending.deadline - asyncio.get_running_loop().time()) * SECOND) if sending.deadline else 0
        harmless = sending.method.repeatable or (isinstance(failure, FS3Error) and failure.code is Code.UNAVAILABLE)
        if following is None or not harmless or (sending.deadline and left_ns <= 0):
            answer.set_exception(failure)
            return
        channel = self._ways[following][1]
        try:
            again = channel.start(sending.method, sending.request, sending.parts, sending.into, left_ns)
        except FS3Error as problem:
            answer.set_exception(problem)
            return
        self._follow(answer, sending, again, following)

    @property
    def activity(self) -> int:
        """As `Channel.activity`, on any way."""
        return sum(channel.activity for _, channel in self._ways)

    @property
    def connections(self) -> int:
        """As `Channel.connections`, on any way."""
        return sum(channel.connections for _, channel in self._ways)

    async def call(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> Reply:
        """`start`, awaited."""
        return await self.start(method, request, parts, into, timeout_ns)

    async def stream(self, method: Method, request: Any) -> AsyncIterator[Any]:
        """As `Channel.stream`; a way that breaks before the first message is left for the next one."""
        way = self._choose()
        while True:
            begun = False
            messages = self._ways[way][1].stream(method, request)
            try:
                async for message in messages:
                    begun = True
                    self._trusted = way
                    yield message
                return
            except FS3Error as failure:
                if begun and self._is_broken(failure) and self._trusted == way:
                    self._trusted = -1
                following = None if begun or not self._is_broken(failure) else self._fail_over(way, failure)
                if following is None:
                    raise
                way = following
            finally:
                if (close := getattr(messages, "aclose", None)) is not None:
                    await close()

    async def close(self) -> None:
        """Close every way."""
        await asyncio.gather(*(channel.close() for _, channel in self._ways))

    def _choose(self) -> int:
        """The best way that is not left alone for a while; the last one never is."""
        if self._trusted == 0:
            return 0
        now = asyncio.get_running_loop().time()
        for way, until in enumerate(self._skipped_until):
            if until <= now:
                return way
        return len(self._ways) - 1

    def _is_broken(self, failure: BaseException) -> bool:
        return isinstance(failure, FS3Error) and failure.code in _BROKEN

    def _fail_over(self, way: int, failure: BaseException) -> int | None:
        """Leave a way for a while. The next way to try, None when it was the last."""
        if self._trusted == way:
            self._trusted = -1
        if way + 1 == len(self._ways):
            return None
        self._skipped_until[way] = asyncio.get_running_loop().time() + transport_retry_ns / SECOND
        if way not in self._warned:
            self._warned.add(way)
            log.warning("%s does not work (%s); using %s", self._ways[way][0], failure, self._ways[way + 1][0])
        return way + 1

    def _on_trusted_call_done(self, done: asyncio.Future[Reply]) -> None:
        if self._trusted_call is done:
            self._trusted_call = None  # it knows its caller's buffers
        if not done.cancelled() and (failure := done.exception()) is not None and self._is_broken(failure):
            self._trusted = -1
