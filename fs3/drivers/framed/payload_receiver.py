"""Memory for what a client of the framed wire sends: payloads and long headers are received as the pool gives room for them."""

from __future__ import annotations

from fs3.drivers.framed.connection import Connection
from fs3.drivers.framed.peer_clocks import PeerClocks
from fs3.drivers.framed.server_context import ServerContext
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.receive_pool import ReceiveBudget, Reception

_NO_ROOM, _SHARE_FULL = 1, 2  # why a connection is not read


class PayloadReceiver(Connection):
    """A connection that is read no further while there is no room for what it sends. A `RoomWaiter`."""

    def __init__(self, context: ServerContext, sock: StreamSocket) -> None:
        self._context = context
        # What is looked at for every request is kept here.
        self._now = context.clock.now
        self.limits = context.limits
        self.pool = context.pool
        self._clocks = PeerClocks(self, context.limits, self._now())
        self._reception: Reception | None = None
        self._destination: memoryview | None = None  # where it is received
        self._postponed: ReceiveBudget | None = None  # of a request for which the connection's own share has no room
        self.held_bytes = 0
        """Lengths of the payloads that arrive or are with their handlers."""
        super().__init__(context.loop, sock)

    def _reserve_header(self, length: int) -> None:
        self._begin(length, self.pool.headers)

    def _begin(self, length: int, budget: ReceiveBudget) -> None:
        """Receive `length` bytes into memory of the pool, as it is given."""
        if self.held_bytes and self.held_bytes + length > self.limits.receive_share_bytes_max:
            self._postponed = budget
            self._wait_for(length, _SHARE_FULL)
            return
        self.held_bytes += length
        reception = self._reception = self.pool.begin(length, budget)
        if reception.room():
            self._expect(length, [self._open(reception)], None if reception.is_whole else reception)
        else:
            self._wait_for(length, _NO_ROOM)
            self._wait_for_room(reception)

    def _open(self, reception: Reception) -> memoryview:
        self._destination = reception.view
        return self._destination

    def _on_no_room(self) -> None:
        assert self._reception is not None
        self.pause(_NO_ROOM)
        self._wait_for_room(self._reception)

    def _wait_for_room(self, reception: Reception) -> None:
        self._clocks.on_room_missing(self._now())
        reception.wait(self)

    def on_room_granted(self) -> None:
        """See `RoomWaiter.on_room_granted`."""
        self._clocks.on_room_granted(self._now())
        reception = self._reception
        assert reception is not None
        if self._targets is None:
            self._provide(self._open(reception), _NO_ROOM, None if reception.is_whole else reception)
        else:
            self.resume(_NO_ROOM)

    def _release_reception(self) -> None:
        reception, self._reception, self._destination = self._reception, None, None
        if reception is not None:
            self.on_released(reception.length)
            reception.release()

    def on_released(self, length: int) -> None:
        """So much of what is held was released."""
        self.held_bytes -= length
        budget = self._postponed
        if budget is not None and not self.is_closed:
            waiting = self._remaining
            if not self.held_bytes or self.held_bytes + waiting <= self.limits.receive_share_bytes_max:
                self._postponed = None
                self._begin(waiting, budget)
                self.resume(_SHARE_FULL)
