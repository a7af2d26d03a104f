"""Memory for what a client of the framed wire sends: payloads and long headers are received as the pool gives room for them."""

from __future__ import annotations

from fs3.drivers.framed.connection import Connection
from fs3.drivers.framed.peer_clocks import PeerClocks
from fs3.drivers.framed.server_context import ServerContext
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.receive_pool import ReceiveBudget, Reception
from fs3.model.principal import AuthContext
from fs3.model.share import UNLIMITED, ByteShare, Limit

_NO_ROOM, _SHARE_FULL = 1, 2  # why a connection is not read
_UNSHARED = ByteShare(Limit.REQUEST_BYTES, UNLIMITED)  # of connections that nothing is counted for


class PayloadReceiver(Connection):
    """A connection that is read no further while there is no room for what it sends: a `RoomWaiter`, and a `ShareWaiter`."""

    auth: AuthContext

    def __init__(self, context: ServerContext, sock: StreamSocket) -> None:
        self._context = context
        # What is looked at for every request is kept here.
        self._now = context.clock.now
        self.limits = context.limits
        self.pool = context.pool
        self._clocks = PeerClocks(self, context.limits, self._now())
        self._reception: Reception | None = None
        self._destination: memoryview | None = None  # where it is received
        self._postponed: ReceiveBudget | None = None  # of a request for which a share has no room
        self._held_share = _UNSHARED  # of the principal whose the connection was when it began to hold something
        self._waits_for_share = False
        self.held_bytes = 0
        """Lengths of the payloads that arrive or are with their handlers."""
        super().__init__(context.loop, sock)

    def _reserve_header(self, length: int) -> None:
        self._begin(length, self.pool.headers)

    def _begin(self, length: int, budget: ReceiveBudget) -> None:
        """Receive `length` bytes into memory of the pool, as it is given."""
        if not self._fits_own(length):
            self._postpone(length, budget)
            return
        share = self._share()
        if not share.has_room(length):
            self._postpone(length, budget)
            self._waits_for_share = True
            share.wait(length, self)
            return
        self.hold(length, share)
        reception = self._reception = self.pool.begin(length, budget)
        if reception.room():
            self._expect(length, [self._open(reception)], None if reception.is_whole else reception)
        else:
            self._wait_for(length, _NO_ROOM)
            self._wait_for_room(reception)

    def _postpone(self, length: int, budget: ReceiveBudget) -> None:
        self._postponed = budget
        self._wait_for(length, _SHARE_FULL)

    def _fits_own(self, length: int) -> bool:
        return not self.held_bytes or self.held_bytes + length <= self.limits.receive_share_bytes_max

    def _share(self) -> ByteShare:
        """What is held is counted with it, until nothing is: a connection may become another principal's meanwhile."""
        if not self.held_bytes:
            found = self.auth.share
            self._held_share = _UNSHARED if found is None else found.requests
        return self._held_share

    def fits(self, length: int) -> bool:
        """So much more may be held."""
        return self._fits_own(length) and self._share().has_room(length)

    def hold(self, length: int, share: ByteShare | None = None) -> None:
        """So much more is held, for which there is room."""
        (share or self._share()).change(length)
        self.held_bytes += length

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
        self._held_share.change(-length)
        if self._postponed is not None and not self._waits_for_share and self._fits_own(self._remaining):
            self._go_on()

    def on_share_room(self) -> None:
        """See `ShareWaiter.on_share_room`."""
        self._waits_for_share = False
        self._go_on()

    def _go_on(self) -> None:
        """Receive what was postponed, or wait on."""
        budget, self._postponed = self._postponed, None
        if budget is None or self.is_closed:
            return
        self._begin(self._remaining, budget)
        if self._postponed is None:
            self.resume(_SHARE_FULL)

    def _stop_waiting(self) -> None:
        """It is closed."""
        self._postponed = None
        if self._waits_for_share:
            self._waits_for_share = False
            self._held_share.cancel(self)
