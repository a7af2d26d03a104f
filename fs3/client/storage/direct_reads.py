"""Single reads of callers that block: asked for and verified on their own thread, without the event loop.

See `fs3.client.direct_channels`. It is for what nearly always happens: the first choice among the replicas answers at once, with
all bytes, and their checksums are right. Else the answer is "not done", and the read begins anew on the loop; its buffer has not
been promised to any reader by then. The node answers as it does any read, under the same gate.
"""

from __future__ import annotations

from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId
from fs3.base.limits import liveness_idle_ticks_max, liveness_tick_ns, small_read_bytes
from fs3.base.status import Code
from fs3.client.connector import Connector
from fs3.client.direct_channels import DirectChannels, NodeChannels
from fs3.client.security.capabilities import Capabilities
from fs3.client.security.proving_channel import shown_max
from fs3.client.storage.read_single import is_intact
from fs3.client.storage.reads import ReadCounters
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.read_plan import ReadIO
from fs3.core.security.capability import READ, subject_keys
from fs3.ports.clock import Clock
from fs3.ports.rpc import BlockingChannel
from fs3.wire.methods import STORAGE
from fs3.wire.storage import single_read_reply_from_pb, single_read_request_to_pb

direct_read_ns = liveness_idle_ticks_max * liveness_tick_ns
"""A node that has not answered by then is asked by the loop, which has the patience and knows the other replicas."""


class DirectReads:
    """The direct reads of one client; may be called from any thread but that of its loop."""

    def __init__(self, router: ReplicaRouter, connector: Connector, clock: Clock, counters: ReadCounters) -> None:
        self._router = router
        self._now = clock.now
        self._counters = counters
        self._channels = DirectChannels(connector, clock, direct_read_ns)

    def read(self, io: ReadIO) -> bool:
        """Fill the buffer of a read whose range is all there. False: not done, and nothing is known."""
        buffer = io.buffer
        if type(buffer) is not memoryview or len(buffer) >= small_read_bytes:
            return False
        now = self._now()
        channels = self._channels.take(now)
        if channels is None:
            return False
        try:
            return self._read(io, buffer, now, channels)
        finally:
            self._channels.give(channels)

    def _read(self, io: ReadIO, buffer: memoryview, now: int, channels: NodeChannels) -> bool:
        router = self._router
        replicas = router.known_candidates(io.chain)
        if replicas is None:
            return False
        node = router.choice.pick(replicas, now)
        if node is None or router.choice.is_suspect(node, now):
            return False
        known = router.routing.nodes.get(node)
        if known is None:
            return False
        wanted = len(buffer)
        request = single_read_request_to_pb(io.chunk, io.chain, replicas.version, io.offset, wanted, True)
        try:
            channel = channels.channel(known)
            if channel is None:
                return False
            if router.capabilities is not None and not _show(router.capabilities, channels, node, channel, request, now):
                return False
            message, got = channel.call(STORAGE.Read, request, buffer)
            answer = single_read_reply_from_pb(message)
        except (OSError, ValueError) as failure:
            if isinstance(failure, FS3Error) and failure.code is Code.NO_CAPABILITY and router.capabilities is not None:
                channels.shown.pop(node, None)
                router.capabilities.doubt()
                return False
            # A refusal of the whole request, or a connection that broke.
            self._channels.pause()
            return False
        if answer.code != Code.OK or not answer.length == got == wanted or not is_intact(buffer, io.offset, answer):
            return False
        self._counters.direct += 1
        return True

    def close(self) -> None:
        """Take no more reads; one that waits for its answer is broken off, and is not done."""
        self._channels.close()


def _show(
    capabilities: Capabilities, channels: NodeChannels, node: NodeId, channel: BlockingChannel, request: Any, now: int
) -> bool:
    """Put the capability for a read into its request, unless the connection has seen it. False: there is none, or it is to be
    renewed, which is the loop's work."""
    if not capabilities.is_needed:
        return True
    (key,) = subject_keys(request.chunks)
    held = capabilities.find(key, READ)
    if held is None or capabilities.is_due(held, now):
        return False
    known, seen = channels.shown.get(node, (None, set()))
    if known is not channel:
        seen = set()
        channels.shown[node] = channel, seen
    if held not in seen:
        if len(seen) >= shown_max:
            seen.clear()
        request.capabilities.append(held.message)
        seen.add(held)
    return True
