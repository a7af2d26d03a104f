"""Since when a client of the framed wire has not moved: what tells one that has stopped, or is too slow, from one that works."""

from __future__ import annotations

from typing import Protocol

from fs3.base.limits import receive_step_bytes
from fs3.base.units import SECOND
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.rpc.receive_pool import Reception


class WatchedConnection(Protocol):
    """How far a connection is. See `FrameSender` and `Connection` for each."""

    frames: int
    received_bytes: int

    @property
    def is_mid_frame(self) -> bool:
        """Part of a frame has arrived and the rest is owed by the peer."""
        ...

    @property
    def is_blocked(self) -> bool:
        """The socket takes nothing now."""
        ...

    @property
    def sent_bytes(self) -> int:
        """What has left."""
        ...

    @property
    def queued_bytes(self) -> int:
        """What has not left yet."""
        ...

    @property
    def queued_memory_bytes(self) -> int:
        """The same without files."""
        ...

    @property
    def unread_bytes(self) -> int:
        """What waits in the socket."""
        ...


class PeerClocks:
    """Of one connection. `note` is called by every sweep, before the clocks are asked.

    A frame has two clocks: since its last byte, which finds a client that has stopped, and since its beginning, which finds one
    that sends a byte now and then for ever.
    """

    def __init__(self, connection: WatchedConnection, bounds: ServerLimits, now: int) -> None:
        self._connection = connection
        self._bounds = bounds
        self._last_frames = self._last_received_bytes = self._last_sent_bytes = 0
        self._frame_since = self._received_since = self._sent_since = now
        self.idle_since = now
        """When something arrived last."""
        self._rate_since = self._rate_bytes = 0  # since when, and since which byte, it has sent too slowly
        self._taken_since, self._taken_bytes = now, 0  # since when, and since which byte, it has taken too little
        self._room_missing_since = 0

    def note(self, now: int) -> None:
        """What has moved since the last sweep."""
        connection = self._connection
        if not connection.is_mid_frame or connection.frames != self._last_frames:
            self._last_frames = connection.frames
            self._frame_since = self._received_since = self._rate_since = now
            self._rate_bytes = connection.received_bytes
        if connection.received_bytes != self._last_received_bytes:
            self._last_received_bytes = connection.received_bytes
            self._received_since = self.idle_since = now
        if not connection.queued_bytes or connection.sent_bytes != self._last_sent_bytes:
            self._last_sent_bytes = connection.sent_bytes
            self._sent_since = now

    def explain_stall(self, now: int, expected: int) -> str:
        """What it owes for too long, of a frame of `expected` bytes or of what is queued for it; "" when it owes nothing."""
        bounds = self._bounds
        if now - self._received_since >= bounds.receive_stall_ns:
            return f"it stopped in the middle of a frame, {bounds.receive_stall_ns / SECOND:.3g} s ago"
        if now - self._frame_since >= bounds.receive_stall_ns + expected * SECOND // bounds.receive_rate_min:
            return f"it sends a frame of {expected} bytes slower than {bounds.receive_rate_min} bytes per second"
        if now - self._sent_since >= bounds.send_stall_ns:
            return f"it has taken none of {self._connection.queued_bytes} bytes for {bounds.send_stall_ns / SECOND:.3g} s"
        return ""

    def sends_too_slowly(self, now: int, reception: Reception) -> bool:
        """It has sent too slowly for too long, and others wait for the memory."""
        connection = self._connection
        took = now - self._rate_since
        if (connection.received_bytes - self._rate_bytes) * SECOND >= took * self._bounds.receive_rate_min:
            self._rate_since, self._rate_bytes = now, connection.received_bytes
            return False
        if took < self._bounds.patience_ns or not reception.is_contended:
            return False
        if connection.unread_bytes >= receive_step_bytes:  # it is this process that is slow
            self._rate_since, self._rate_bytes = now, connection.received_bytes
            return False
        return True

    def takes_too_little(self, now: int) -> bool:
        """It has taken its replies too slowly for too long."""
        connection = self._connection
        took = now - self._taken_since
        fast = (connection.sent_bytes - self._taken_bytes) * SECOND >= took * self._bounds.reply_rate_min
        if fast or not connection.is_blocked or not connection.queued_memory_bytes:
            self._taken_since, self._taken_bytes = now, connection.sent_bytes
            return False
        return took >= self._bounds.patience_ns

    def on_room_missing(self, now: int) -> None:
        """From now on it is this process that takes nothing: there is no memory."""
        self._room_missing_since = now

    def on_room_granted(self, now: int) -> None:
        """There is memory again; the time without does not count against the client."""
        self._rate_since += now - self._room_missing_since

    def on_process_paused(self, gap_ns: int) -> None:
        """See `ServerConnection.on_process_paused`."""
        self._frame_since += gap_ns
        self._received_since += gap_ns
        self._rate_since += gap_ns
        self._taken_since += gap_ns
        self._sent_since += gap_ns
