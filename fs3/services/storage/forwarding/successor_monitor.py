"""Whether the successor is there at all: noticed by the target that waits for it, and told to the manager.

What counts is silence, not slowness. Anything that arrives from the successor's node is a sign of life, whoever had asked for
it; and a node that is only slow (its disk stands still, say) still answers the small question it is asked after half of the time.
Time is counted in looks of this process' own loop, so that one that stood still itself blames nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import probe_timeout_ns, slow_ns_per_byte, successor_check_ns, successor_unresponsive_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.ports.rpc import Channel, Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

_NO_ANSWER = (Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE)
"""What a question ends with that was not answered."""


class SuccessorMonitor:
    """The successor of one target under one chain version. One timer, only while something is waited for."""

    def __init__(
        self,
        target: TargetId,
        node: NodeId,
        channel: Callable[[NodeId], Channel],
        unanswered_bytes: Callable[[], int | None],
        on_changed: Callable[[], None],
    ) -> None:
        """`channel` reaches a node or raises FS3Error. `unanswered_bytes`: of what was sent to the successor and not answered;
        None when nothing is. `changed`: `is_silent` is another one."""
        self.target = target
        self.is_unresponsive = False
        """Nothing has been heard of it for longer than it should ever take."""
        self._node = node
        self._channel = channel
        self._unanswered_bytes = unanswered_bytes
        self._on_changed = on_changed
        self._timer: asyncio.TimerHandle | None = None
        self._activity = 0
        self._idle_ticks = 0
        """Looks in a row at which there was nothing."""
        self._probe: asyncio.Future[Reply] | None = None

    def on_request_sent(self) -> None:
        """Something was sent to the successor, or could not be sent."""
        if self._timer is None:
            self._idle_ticks = 0
            self._activity = self._read_activity()
            self._arm()

    def close(self) -> None:
        """The target has no such successor any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(successor_check_ns / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        heard = self._read_activity()
        owed = self._unanswered_bytes()
        if heard != self._activity:
            self._activity = heard
            self._on_activity()
            if owed is None:
                return
        else:
            self._idle_ticks += 1
            patience = successor_unresponsive_ns + slow_ns_per_byte * (owed or 0)
            quiet_ns = self._idle_ticks * successor_check_ns
            if 2 * quiet_ns >= patience and self._probe is None:
                self._send_probe()
            if quiet_ns >= patience and not self.is_unresponsive:
                self.is_unresponsive = True
                self._on_changed()
        self._arm()

    def _on_activity(self) -> None:
        self._idle_ticks = 0
        if self.is_unresponsive:
            self.is_unresponsive = False
            self._on_changed()

    def _read_activity(self) -> int:
        try:
            return self._channel(self._node).activity
        except FS3Error:
            return self._activity

    def _send_probe(self) -> None:
        """Something that any storage node answers at once, whatever its disks do."""
        try:
            probe = self._channel(self._node).start(STORAGE.Find, pb.FindRequest(), timeout_ns=probe_timeout_ns)
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
            self._on_activity()
