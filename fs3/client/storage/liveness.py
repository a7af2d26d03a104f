"""Nodes that say nothing: noticed within a quarter of a second, asked last while others serve, and probed beside the calls.

A call is taken elsewhere when nothing at all has arrived from its node for a while and another replica serves. What counts is the
node, not the call: a node that sends other answers is busy, and asking a second one for the same bytes would make two busy nodes.
Time is counted in ticks of this client's own loop, so that a client that stood still itself blames nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.limits import (
    liveness_idle_ticks_max,
    liveness_tick_ns,
    probe_backoff_max_ns,
    probe_backoff_min_ns,
    probe_timeout_ns,
)
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.storage.node_request import NodeRequest
from fs3.ports.rpc import Channel, Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

UNRESPONSIVE = (Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE, Code.SHUTTING_DOWN)
"""What a call to a node ends with that is not there, or does not answer."""


class LivenessMonitor:
    """The reads and finds of one client that are under way. One timer for all of them, armed while there are any."""

    def __init__(self, has_alternative: Callable[[NodeRequest], bool], on_unresponsive: Callable[[NodeId], None]) -> None:
        """`has_alternative`: something of the frame can be asked elsewhere. `silent`: a node was found to say nothing."""
        self._has_alternative = has_alternative
        self._on_unresponsive = on_unresponsive
        self._requests: dict[NodeRequest, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, frame: NodeRequest, channel: Channel) -> None:
        """A frame was sent."""
        frame.channel = channel
        frame.activity = channel.activity
        self._requests[frame] = None
        if self._timer is None:
            self._arm()

    def end(self, frame: NodeRequest) -> None:
        """It is not waited for any more."""
        self._requests.pop(frame, None)

    def close(self) -> None:
        """Watch no longer."""
        self._requests.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(liveness_tick_ns / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for frame in list(self._requests):
            assert frame.channel is not None
            heard = frame.channel.activity
            if heard != frame.activity:
                frame.activity = heard
                frame.idle_ticks = 0
                continue
            frame.idle_ticks += 1
            if frame.idle_ticks >= liveness_idle_ticks_max and self._has_alternative(frame):
                self._on_unresponsive(frame.node)
                quiet_ms = frame.idle_ticks * liveness_tick_ns // MILLISECOND
                frame.abort(error(Code.DEADLINE, f"node {frame.node} has said nothing for {quiet_ms} ms"))
        if self._requests:
            self._arm()


class HealthProber:
    """Asks suspected nodes now and then whether they are back: nobody's read has to find out, nor to wait for a connection."""

    def __init__(self, channel: Callable[[NodeId], Channel | None], on_recovered: Callable[[NodeId], None]) -> None:
        """`channel`: how to reach a node, None when it is not worth it (it has left, or the manager knows that it is dead).
        `back`: a node answered."""
        self._channel = channel
        self._on_recovered = on_recovered
        self._timers: dict[NodeId, asyncio.TimerHandle] = {}
        self._calls: dict[NodeId, asyncio.Future[Reply]] = {}

    def suspect(self, node: NodeId) -> None:
        """A node did not answer; harmless when it is being probed already."""
        if node not in self._timers and node not in self._calls:
            self._schedule(node, probe_backoff_min_ns)

    def close(self) -> None:
        """Ask nobody any more."""
        timers, self._timers = self._timers, {}
        calls, self._calls = self._calls, {}
        for timer in timers.values():
            timer.cancel()
        for call in calls.values():
            call.cancel()

    def _schedule(self, node: NodeId, wait_ns: int) -> None:
        loop = asyncio.get_running_loop()
        self._timers[node] = loop.call_later(wait_ns / SECOND, self._probe, node, wait_ns)

    def _probe(self, node: NodeId, waited_ns: int) -> None:
        self._timers.pop(node, None)
        following_ns = min(2 * waited_ns, probe_backoff_max_ns)
        try:
            channel = self._channel(node)
            if channel is None:
                return
            call = channel.start(STORAGE.Find, pb.FindRequest(), timeout_ns=probe_timeout_ns)
        except FS3Error:
            self._schedule(node, following_ns)
            return
        self._calls[node] = call
        call.add_done_callback(lambda done: self._on_probe_done(node, done, following_ns))

    def _on_probe_done(self, node: NodeId, call: asyncio.Future[Reply], following_ns: int) -> None:
        if self._calls.get(node) is not call:
            if not call.cancelled():
                call.exception()
            return
        del self._calls[node]
        failure = None if call.cancelled() else call.exception()
        if isinstance(failure, FS3Error) and failure.code in UNRESPONSIVE:
            self._schedule(node, following_ns)
        elif not call.cancelled():
            self._on_recovered(node)
