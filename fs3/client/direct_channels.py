"""Connections for callers that block: what is asked on their own thread, without the event loop.

To hand a request to the loop and to be woken again costs a blocking caller more than a small request itself. So a lone one asks
the node over a connection of its own. That is for what nearly always happens and nothing else. Whatever else comes to pass, the
answer is "not done", and the caller begins anew on the loop, where everything that can happen to a request is dealt with.

Many threads at once are better served by the loop, which sends what they want together. So one has the turn at a time, and
callers do not ask for one while the loop serves others of their kind.
"""

from __future__ import annotations

import threading

from fs3.base.ids import NodeId
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.model.routing import Node
from fs3.ports.clock import Clock
from fs3.ports.rpc import BlockingChannel

direct_pause_ns = 1 * SECOND
"""After a connection that failed, the loop alone is asked for so long."""


class DirectChannels:
    """The connections of one client to nodes of one role; may be used from any thread but that of its loop."""

    def __init__(self, connector: Connector, clock: Clock, timeout_ns: int) -> None:
        """`timeout_ns`: how long a call may take."""
        self._connector = connector
        self._clock = clock
        self._timeout_ns = timeout_ns
        self._turn = threading.Lock()
        """Held by the thread that calls, and by the one that closes."""
        self._channels: dict[NodeId, tuple[tuple[str, ...], BlockingChannel | None]] = {}
        """With the endpoints of the node; None: no transport reaches it so."""
        self._paused_until = 0
        self._is_closed = False

    def begin(self, now: int) -> bool:
        """Take the turn, which `end` gives back. False: another thread has it, a connection has just failed, or it is closed."""
        if now < self._paused_until or not self._turn.acquire(blocking=False):
            return False
        if self._is_closed:
            self.end()
            return False
        return True

    def end(self) -> None:
        """Give the turn back."""
        self._turn.release()
        if self._is_closed:
            self._disconnect()

    def channel(self, node: Node) -> BlockingChannel | None:
        """The connection to a node, for the thread that has the turn; None where no transport reaches it so. Raises OSError when
        no server listens."""
        endpoints, channel = self._channels.get(node.id, ((), None))
        if endpoints == node.endpoints and (channel is None or not channel.is_closed):
            return channel
        if channel is not None:
            channel.close()
        channel = self._connector.connect_blocking(node.endpoints, node.host, self._timeout_ns)
        self._channels[node.id] = (node.endpoints, channel)
        return channel

    def pause(self) -> None:
        """A connection has failed, of a node that was restarted, perhaps: leave it to the loop for a while."""
        self._paused_until = self._clock.now() + direct_pause_ns

    def close(self) -> None:
        """Give no more turns; a call that waits for its answer is broken off."""
        self._is_closed = True
        for _, channel in list(self._channels.values()):
            if channel is not None:
                channel.abort()
        self._disconnect()

    def _disconnect(self) -> None:
        """Unless a thread has the turn: then that does it."""
        if self._turn.acquire(blocking=False):
            try:
                channels, self._channels = self._channels, {}
                for _, channel in channels.values():
                    if channel is not None:
                        channel.close()
            finally:
                self._turn.release()
