"""Single reads of callers that block: asked for and verified on their own thread, without the event loop.

To hand a read to the loop and to be woken again costs a blocking caller more than the read itself. So a lone one asks the
storage node over a connection of its own. That is for what nearly always happens and nothing else: the first choice among the
replicas answers at once, with all bytes, and their checksums are right. Whatever else comes to pass, the answer is "not done",
and the read begins anew on the loop, where everything that can happen to a read is dealt with; its buffer has not been promised
to anybody by then. The node answers as it does any read, under the same gate.

Many threads at once are better served by the loop, which sends what they want together: one is here at a time.
"""

from __future__ import annotations

import threading

from fs3.base.ids import NodeId
from fs3.base.limits import liveness_idle_ticks_max, liveness_tick_ns, small_read_bytes
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.storage.read_single import is_intact
from fs3.client.storage.reads import ReadCounters
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.read_plan import ReadIO
from fs3.ports.clock import Clock
from fs3.ports.rpc import BlockingChannel
from fs3.wire.methods import STORAGE
from fs3.wire.storage import single_read_reply_from_pb, single_read_request_to_pb

direct_read_ns = liveness_idle_ticks_max * liveness_tick_ns
"""A node that has not answered by then is asked by the loop, which has the patience and knows the other replicas."""

direct_pause_ns = 1 * SECOND
"""After a connection that failed, the loop alone is asked for so long."""


class DirectReads:
    """The direct reads of one client; may be called from any thread but that of its loop."""

    def __init__(self, router: ReplicaRouter, connector: Connector, clock: Clock, counters: ReadCounters) -> None:
        self._router = router
        self._connector = connector
        self._clock = clock
        self._counters = counters
        self._turn = threading.Lock()
        """Held by the thread that reads, and by the one that closes."""
        self._channels: dict[NodeId, tuple[tuple[str, ...], BlockingChannel | None]] = {}
        """With the endpoints of the node; None: no transport reaches it so."""
        self._paused_until = 0
        self._is_closed = False

    def read(self, io: ReadIO) -> bool:
        """Fill the buffer of a read whose range is all there. False: not done, and nothing is known."""
        buffer = io.buffer
        if type(buffer) is not memoryview or len(buffer) >= small_read_bytes or not self._turn.acquire(blocking=False):
            return False
        try:
            return not self._is_closed and self._read(io, buffer)
        finally:
            self._turn.release()
            if self._is_closed:
                self._disconnect()

    def _read(self, io: ReadIO, buffer: memoryview) -> bool:
        router = self._router
        now = self._clock.now()
        replicas = router.known_candidates(io.chain)
        if replicas is None or now < self._paused_until:
            return False
        node = router.choice.pick(replicas, now)
        if node is None or router.choice.is_suspect(node, now):
            return False
        wanted = len(buffer)
        request = single_read_request_to_pb(io.chunk, io.chain, replicas.version, io.offset, wanted, True)
        try:
            channel = self._channel(node)
            if channel is None:
                return False
            message, got = channel.call(STORAGE.Read, request, buffer)
            answer = single_read_reply_from_pb(message)
        except (OSError, ValueError):
            # A refusal of the whole request, or a connection that broke (of a node that was restarted, perhaps).
            self._paused_until = self._clock.now() + direct_pause_ns
            return False
        if answer.code != Code.OK or not answer.length == got == wanted or not is_intact(buffer, io.offset, answer):
            return False
        self._counters.direct += 1
        return True

    def _channel(self, node: NodeId) -> BlockingChannel | None:
        known = self._router.routing.nodes.get(node)
        if known is None:
            return None
        endpoints, channel = self._channels.get(node, ((), None))
        if endpoints == known.endpoints and (channel is None or not channel.is_closed):
            return channel
        if channel is not None:
            channel.close()
        channel = self._connector.connect_blocking(known.endpoints, known.host, direct_read_ns)
        self._channels[node] = (known.endpoints, channel)
        return channel

    def close(self) -> None:
        """Take no more reads; one that waits for its answer is broken off, and is not done."""
        self._is_closed = True
        for _, channel in list(self._channels.values()):
            if channel is not None:
                channel.abort()
        self._disconnect()

    def _disconnect(self) -> None:
        """Unless a thread reads: then that does it."""
        if self._turn.acquire(blocking=False):
            try:
                channels, self._channels = self._channels, {}
                for _, channel in channels.values():
                    if channel is not None:
                        channel.close()
            finally:
                self._turn.release()
