"""Whether the successor is there at all: noticed by the target that waits for it, and told to the manager.

What counts is that nothing arrives, not that it is slow. Anything that arrives from the successor's node is a sign of life,
whichever target had asked for it; and a node that is only slow (its disk stands still, say) still answers the small question it
is asked after half of the time. Time is counted in ticks of this process's own loop (`fs3.runtime.liveness`).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import slow_ns_per_byte, successor_check_ns, successor_unresponsive_ns
from fs3.base.status import Code
from fs3.client.storage.health import start_probe
from fs3.ports.rpc import Channel, Reply
from fs3.runtime.liveness import LivenessMonitor

_NO_ANSWER = (Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE)
"""What a probe ends with that was not answered. A client (`fs3.client.storage.health.UNRESPONSIVE`) counts SHUTTING_DOWN too: it
does well to ask elsewhere. But a successor that says so is there, and takes its own leave from the manager."""


class SuccessorOwner(Protocol):
    """What sends to a successor. `Forwarder` is the one of production."""

    def channel_to(self, node: NodeId) -> Channel:
        """The channel to a node. Raises FS3Error when no wire reaches it."""
        ...

    def unanswered_bytes(self) -> int | None:
        """Bytes of what was sent to the successor and not answered; None when nothing is."""
        ...

    def on_reachability_changed(self) -> None:
        """`SuccessorMonitor.is_unresponsive` is another one."""
        ...


class SuccessorMonitor:
    """The successor of one target under one chain version, watched while something is waited for (`Watched`)."""

    def __init__(self, target: TargetId, node: NodeId, owner: SuccessorOwner) -> None:
        self.target = target
        self.is_unresponsive = False
        """Nothing has arrived from it for longer than it should ever take."""
        self._node = node
        self._owner = owner
        self._monitor = LivenessMonitor[SuccessorMonitor](successor_check_ns)
        self._probe: asyncio.Future[Reply] | None = None
        self.last_activity = 0
        self.idle_ticks = 0

    def on_request_sent(self) -> None:
        """Something was sent to the successor, or could not be sent."""
        if self not in self._monitor:
            self._monitor.begin(self)

    def close(self) -> None:
        """The target has no such successor any more."""
        self._monitor.close()
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    @property
    def activity(self) -> int:
        """Of the channel to its node; what it was, while no wire reaches the node."""
        try:
            return self._owner.channel_to(self._node).activity
        except FS3Error:
            return self.last_activity

    def on_active(self) -> None:
        """It is there; watched on only while it owes an answer."""
        owes = self._owner.unanswered_bytes() is not None
        self._on_answer()
        if not owes:
            self._monitor.end(self)

    def on_idle(self) -> None:
        """Probed after half of the time that what it owes may take, unresponsive after all of it. Watched on either way."""
        patience_ns = successor_unresponsive_ns + slow_ns_per_byte * (self._owner.unanswered_bytes() or 0)
        idle_ns = self.idle_ticks * successor_check_ns
        if 2 * idle_ns >= patience_ns and self._probe is None:
            self._send_probe()
        if idle_ns >= patience_ns and not self.is_unresponsive:
            self.is_unresponsive = True
            self._owner.on_reachability_changed()

    def _on_answer(self) -> None:
        self.idle_ticks = 0
        if self.is_unresponsive:
            self.is_unresponsive = False
            self._owner.on_reachability_changed()

    def _send_probe(self) -> None:
        try:
            probe = start_probe(self._owner.channel_to(self._node))
        except FS3Error:
            return
        self._probe = probe
        probe.add_done_callback(self._on_probe_answer)

    def _on_probe_answer(self, probe: asyncio.Future[Reply]) -> None:
        failure = None if probe.cancelled() else probe.exception()
        if probe is not self._probe:
            return
        self._probe = None
        if not (isinstance(failure, FS3Error) and failure.code in _NO_ANSWER):
            self._on_answer()
