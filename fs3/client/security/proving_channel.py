"""A channel to a storage node that shows with each request what the connection was not shown yet.

A request whose connection was shown everything it needs goes straight through. One for which the client has no capability is sent
once there is one. Whether a node still has what it was shown is not known for certain: it may have started anew, or keys have
changed. Then it refuses with NO_CAPABILITY, everything is shown again, and the request is repeated by its caller as after any
refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

from fs3.base.errors import FS3Error, error
from fs3.base.limits import call_timeout_ns, capabilities_per_request_max
from fs3.base.status import Code
from fs3.client.security.capabilities import Capabilities, Held
from fs3.model.method import Method
from fs3.ports.clock import Clock
from fs3.ports.rpc import BufferProvider, Channel, OnReply, Part, Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage_needs import NEEDS, NO_NEED, OF_SERVICES, Need

shown_max = 1 << 16
"""Capabilities that a channel remembers to have shown; beyond, all are shown again. A node keeps as many."""

_REPEATED = frozenset((STORAGE.Read, STORAGE.Update, STORAGE.Find, STORAGE.Contains, STORAGE.Lease, STORAGE.Pin))
"""Whose callers tell the router of every refusal (`ReplicaRouter.on_failure`); of the others the channel finds out itself."""
_NEEDS = {method: need for method, need in NEEDS.items() if need is not NO_NEED and need is not OF_SERVICES}


class Shown:
    """What one connection was shown."""

    __slots__ = ("_capabilities", "_connection", "_shown")

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._connection = 0
        self._shown: set[Held] = set()

    def attach(self, message: Any, keys: Iterable[int], right: int, connection: int, now: int) -> list[int]:
        """Put what the connection has not seen into a request. `connection`: its number, 0: not known, everything is shown.
        Returns the keys of which there is no capability; then the request is not to be sent."""
        capabilities = self._capabilities
        if not capabilities.is_needed:
            return []
        if connection != self._connection or not connection or len(self._shown) > shown_max:
            self._shown.clear()
            self._connection = connection
        missing: list[int] = []
        fresh: list[Held] = []
        for key in keys:
            held = capabilities.find(key, right)
            if held is None:
                missing.append(key)
                continue
            if capabilities.is_due(held, now):
                capabilities.renew_soon(key, right, held)
            if held not in self._shown:
                fresh.append(held)
        if fresh and not missing:
            if len(fresh) > capabilities_per_request_max:
                raise error(Code.TOO_LARGE, f"a request about {len(fresh)} files; the limit is {capabilities_per_request_max}")
            message.capabilities.extend([held.message for held in fresh])
            self._shown.update(fresh)
        return missing

    def forget(self) -> None:
        """The node has refused: everything is shown again."""
        self._shown.clear()


class _LateRequest(NamedTuple):
    """A request that waits for capabilities."""

    method: Method
    request: Any
    parts: Sequence[Part]
    into: BufferProvider | None
    deadline: int


class _LateCall(asyncio.Future[Reply]):
    """A call that is sent once its capabilities are there. Giving it up gives up what is under way, at once: its buffers must not
    be written to afterwards."""

    attempt: asyncio.Future[Any]

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`."""
        if not super().cancel(msg):
            return False
        self.attempt.cancel(msg)
        return True


class ProvingChannel:
    """`fs3.ports.rpc.Channel` to a storage node, for a client that holds capabilities."""

    def __init__(self, channel: Channel, capabilities: Capabilities, clock: Clock) -> None:
        self._channel = channel
        self._capabilities = capabilities
        self._now = clock.now
        self._shown = Shown(capabilities)

    def start(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> asyncio.Future[Reply]:
        """As `Channel.start`. What it needs and cannot have fails it: ACCESS, NOT_FOUND."""
        need = _NEEDS.get(method)
        if need is None:
            return self._channel.start(method, request, parts, into, timeout_ns)
        now = self._now()
        missing = self._attach(need, request, now)
        if not missing:
            return self._send(method, request, parts, into, timeout_ns)
        answer = _LateCall(loop=asyncio.get_running_loop())
        sending = _LateRequest(method, request, parts, into, now + (timeout_ns or call_timeout_ns))
        fetching = asyncio.get_running_loop().create_task(self._capabilities.fetch(missing, need.right))
        answer.attempt = fetching
        fetching.add_done_callback(lambda done: self._on_fetched(answer, sending, need, done))
        return answer

    def _attach(self, need: Need, request: Any, now: int) -> list[int]:
        return self._shown.attach(request, need.keys(request), need.right, self._channel.connections, now)

    def _send(
        self, method: Method, request: Any, parts: Sequence[Part], into: BufferProvider | None, timeout_ns: int
    ) -> asyncio.Future[Reply]:
        future = self._channel.start(method, request, parts, into, timeout_ns)
        if method not in _REPEATED:
            future.add_done_callback(self._look)
        return future

    def _look(self, done: asyncio.Future[Reply]) -> None:
        if not done.cancelled() and isinstance(failure := done.exception(), FS3Error):
            self.on_failure(failure)

    def _on_fetched(self, answer: _LateCall, sending: _LateRequest, need: Need, done: asyncio.Future[None]) -> None:
        if answer.done():
            if not done.cancelled():
                done.exception()
            return
        if done.cancelled():
            answer.cancel()
            return
        failure = done.exception()
        now = self._now()
        if failure is None and now >= sending.deadline:
            failure = error(Code.DEADLINE, "no capability was had in time")
        if failure is None:
            try:
                if self._attach(need, sending.request, now):
                    raise error(Code.BUSY, "a capability ended before it could be shown")
                method, request, parts, into, deadline = sending
                answer.attempt = self._send(method, request, parts, into, deadline - now)
            except FS3Error as problem:
                failure = problem
            else:
                answer.attempt.add_done_callback(lambda sent: _settle(answer, sent))
        if failure is not None:
            answer.set_exception(failure)

    def on_failure(self, failure: FS3Error) -> None:
        """A request was refused as a whole: what the node has forgotten is shown again, renewed."""
        if failure.code is Code.NO_CAPABILITY:
            self._shown.forget()
            self._capabilities.doubt()

    async def call(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> Reply:
        """`start`, awaited."""
        return await self.start(method, request, parts, into, timeout_ns)

    def submit(self, method: Method, request: Any, finished: OnReply, timeout_ns: int = 0) -> bool:
        """As `Channel.submit`, of requests that need no capability; others are not sent."""
        return method not in _NEEDS and self._channel.submit(method, request, finished, timeout_ns)

    def stream(self, method: Method, request: Any) -> AsyncIterator[Any]:
        """As `Channel.stream`: storage nodes have no streams."""
        return self._channel.stream(method, request)

    @property
    def activity(self) -> int:
        """As `Channel.activity`."""
        return self._channel.activity

    @property
    def connections(self) -> int:
        """As `Channel.connections`."""
        return self._channel.connections

    async def close(self) -> None:
        """As `Channel.close`."""
        await self._channel.close()


def _settle(answer: _LateCall, sent: asyncio.Future[Reply]) -> None:
    if answer.done():
        if not sent.cancelled():
            sent.exception()
    elif sent.cancelled():
        answer.cancel()
    elif (failure := sent.exception()) is not None:
        answer.set_exception(failure)
    else:
        answer.set_result(sent.result())
