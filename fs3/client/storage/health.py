"""Nodes that say nothing: noticed within a quarter of a second, asked last while others serve, and probed beside the calls.

A call is taken elsewhere when nothing at all has arrived from its node for a while and another replica serves. What counts is the
node, not the call: a node that sends other answers is busy, and asking a second one for the same bytes would make two busy nodes.
"""

from __future__ import annotations

import asyncio

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId
from fs3.base.limits import probe_backoff_max_ns, probe_backoff_min_ns, probe_timeout_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.storage.node_request import ReplicaHealth
from fs3.ports.rpc import Channel, Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage import probe_request_to_pb

UNRESPONSIVE = (Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE, Code.SHUTTING_DOWN)
"""What a client's call to a node ends with that is not there, does not answer, or is about to go."""


def start_probe(channel: Channel) -> asyncio.Future[Reply]:
    """Ask a storage node something that it answers at once, whatever its disks do. Raises FS3Error as `Channel.start` does."""
    return channel.start(STORAGE.Find, probe_request_to_pb(), timeout_ns=probe_timeout_ns)


class HealthProber:
    """Asks suspected nodes now and then whether they are back: no read has to find out, nor to wait for a connection."""

    def __init__(self, health: ReplicaHealth) -> None:
        self._health = health
        self._timers: dict[NodeId, asyncio.TimerHandle] = {}
        self._calls: dict[NodeId, asyncio.Future[Reply]] = {}

    def suspect(self, node: NodeId) -> None:
        """A node did not answer; harmless when it is being probed already."""
        if node not in self._timers and node not in self._calls:
            self._schedule(node, probe_backoff_min_ns)

    def close(self) -> None:
        """Probe no node any more."""
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
            channel = self._health.probe_channel(node)
            if channel is None:
                return
            call = start_probe(channel)
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
            self._health.on_recovered(node)
