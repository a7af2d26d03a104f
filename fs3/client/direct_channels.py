"""Connections for callers that block: what is asked on their own thread, without the event loop.

To hand a request to the loop and to be woken again costs a blocking caller more than a small request itself. So it asks the node
over a connection of its own. That is for what nearly always happens and nothing else. Whatever else comes to pass, the answer is
"not done", and the caller begins anew on the loop, where everything that can happen to a request is dealt with.

Each thread that is here at the same time has its own connections, and none waits for another one. Servers bound how many
connections they have, so the threads are few; those beyond are served by the loop, over the one connection it has.
"""

from __future__ import annotations

import threading

from fs3.base.ids import NodeId
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.security.capabilities import Held
from fs3.model.routing import Node
from fs3.ports.clock import Clock
from fs3.ports.rpc import BlockingChannel

direct_pause_ns = 1 * SECOND
"""After a connection that failed, the loop alone is asked for so long."""

direct_threads_max = 16
"""Threads of one client that ask nodes of one role themselves at the same time."""


class NodeChannels:
    """Connections to nodes, at most one to each, for one thread at a time."""

    def __init__(self, connector: Connector, timeout_ns: int) -> None:
        """`timeout_ns`: how long a call may take."""
        self._connector = connector
        self._timeout_ns = timeout_ns
        self._channels: dict[NodeId, tuple[tuple[str, ...], BlockingChannel | None]] = {}
        """With the endpoints of the node; None: no transport reaches it so."""
        self.shown: dict[NodeId, tuple[BlockingChannel, set[Held]]] = {}
        """What the connections to storage nodes were shown."""

    def channel(self, node: Node) -> BlockingChannel | None:
        """The connection to a node; None where no transport reaches it so. Raises OSError when no server listens."""
        endpoints, channel = self._channels.get(node.id, ((), None))
        if endpoints == node.endpoints and (channel is None or not channel.is_closed):
            return channel
        if channel is not None:
            channel.close()
        channel = self._connector.connect_blocking(node.endpoints, node.host, self._timeout_ns)
        self._channels[node.id] = (node.endpoints, channel)
        return channel

    def abort(self) -> None:
        """From any thread: break off the call that waits for its answer."""
        for _, channel in list(self._channels.values()):
            if channel is not None:
                channel.abort()

    def close(self) -> None:
        """Disconnect from all; `channel` connects again."""
        for _, channel in self._channels.values():
            if channel is not None:
                channel.close()
        self._channels.clear()
        self.shown.clear()


class DirectChannels:
    """The connections of one client to nodes of one role; may be used from any thread but that of its loop."""

    def __init__(self, connector: Connector, clock: Clock, timeout_ns: int) -> None:
        """`timeout_ns`: how long a call may take."""
        self._connector = connector
        self._clock = clock
        self._timeout_ns = timeout_ns
        self._growing = threading.Lock()
        self._all: list[NodeChannels] = []
        self._idle: list[NodeChannels] = []
        """Those that no thread has. What is taken out is its taker's alone; the last that was used is the first to be taken."""
        self._paused_until = 0
        self._is_closed = False

    def take(self, now: int) -> NodeChannels | None:
        """Connections for the thread that calls, which it has to `give` back. None: too many threads have some, a connection has
        just failed, or it is closed."""
        if now < self._paused_until or self._is_closed:
            return None
        try:
            return self._idle.pop()
        except IndexError:
            return self._grow()

    def give(self, channels: NodeChannels) -> None:
        """What `take` returned; no call is under way."""
        self._idle.append(channels)
        if self._is_closed:
            self._disconnect_idle()

    def pause(self) -> None:
        """A connection has failed, of a node that was restarted, perhaps: leave it to the loop for a while. The idle ones are
        closed, since each of them would fail in the same way, one after the other."""
        self._paused_until = self._clock.now() + direct_pause_ns
        self._disconnect_idle()

    def close(self) -> None:
        """Give no more connections; calls that wait for their answers are broken off."""
        self._is_closed = True
        for channels in list(self._all):
            channels.abort()
        self._disconnect_idle()

    def _grow(self) -> NodeChannels | None:
        with self._growing:
            if self._is_closed or len(self._all) >= direct_threads_max:
                return None
            channels = NodeChannels(self._connector, self._timeout_ns)
            self._all.append(channels)
            return channels

    def _disconnect_idle(self) -> None:
        """Those that threads have are closed when they are given back, or go on."""
        taken: list[NodeChannels] = []
        while self._idle:
            try:
                taken.append(self._idle.pop())
            except IndexError:  # another thread was faster
                break
        for channels in taken:
            channels.close()
        self._idle += taken
