"""Bulk reads of a client, held back until there is room for what they bring (`fs3.core.files.read_grants`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fs3.base.errors import error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.files.read_grants import BulkRead, ReadGrants
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply

Begin = Callable[[], asyncio.Future[Reply]]
"""Sends a request. Raises FS3Error."""
SendWithin = Callable[[int], asyncio.Future[Reply]]
"""Sends a request that may take so many nanoseconds. Raises FS3Error."""


class _GatedRead:
    """One bulk read: its place in the grants, and how it is sent."""

    __slots__ = ("begin", "begun_at", "bytes", "call", "node")

    def __init__(self, node: NodeId, count: int, begin: Begin) -> None:
        self.node = node
        self.bytes = count
        self.begin = begin
        self.begun_at = 0
        """When it was sent."""
        self.call: _WaitingCall | None = None


class _WaitingCall(asyncio.Future[Reply]):
    """A read whose turn has not come. Giving it up gives up what was sent, at once: its buffers are not written to afterwards."""

    def __init__(self, gate: ReadGate, read: _GatedRead) -> None:
        super().__init__()
        self._gate = gate
        self._read = read
        self._sent: asyncio.Future[Reply] | None = None
        self.timer: asyncio.TimerHandle | None = None
        """Ends the wait."""

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`."""
        if not super().cancel(msg):
            return False
        if self._sent is not None:
            self._sent.cancel(msg)
        else:
            self._leave()
        return True

    def on_granted(self) -> None:
        """Its turn has come."""
        self._stop_timer()
        try:
            self._sent = self._gate.send(self._read)
        except Exception as failure:  # whatever it was: it keeps nothing from the others
            self.set_exception(failure)
            self._gate.end(self._read)
        else:
            self._sent.add_done_callback(self._settle)

    def on_expired(self) -> None:
        """Its deadline has come first."""
        self.set_exception(error(Code.DEADLINE, f"a read of {self._read.bytes} bytes waited for others until its deadline"))
        self._leave()

    def _settle(self, sent: asyncio.Future[Reply]) -> None:
        self._gate.on_done(self._read, sent)
        if self.done():
            if not sent.cancelled():
                sent.exception()
        elif sent.cancelled():
            self.cancel()
        elif (failure := sent.exception()) is not None:
            self.set_exception(failure)
        else:
            self.set_result(sent.result())

    def _leave(self) -> None:
        self._stop_timer()
        self._gate.end(self._read)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class ReadGate:
    """The grants of one client, on its loop."""

    def __init__(self, grants: ReadGrants, clock: Clock) -> None:
        self._grants = grants
        self.owing = grants.owing
        """Nodes whose bulk bytes are on their way, or asked for."""
        self._clock = clock
        self._by_future: dict[asyncio.Future[Reply], _GatedRead] = {}
        self._due: deque[BulkRead] = deque()
        """Those whose turn has come, and which were not sent yet."""
        self._is_beginning = False

    def start(self, node: NodeId, count: int, begin: Begin, left_ns: int) -> asyncio.Future[Reply]:
        """`begin()` for a read of `count` bytes, at once or when its turn has come; DEADLINE when that takes longer than
        `left_ns`. Raises what `begin` does when it is called at once."""
        read = _GatedRead(node, count, begin)
        future: asyncio.Future[Reply]
        if self._grants.ask(read):
            try:
                future = self.send(read)
            except BaseException:
                self.end(read)
                raise
            future.add_done_callback(lambda done: self.on_done(read, done))
        else:
            future = read.call = _WaitingCall(self, read)
            read.call.timer = asyncio.get_running_loop().call_later(left_ns / SECOND, read.call.on_expired)
        self._by_future[future] = read
        future.add_done_callback(self._by_future.pop)
        return future

    def on_short_read(self) -> None:
        """A read that is no bulk read is asked of a node on this host, beside what is owed."""
        self._grants.on_short_read(self._clock.now())

    def set_aside(self, future: asyncio.Future[Reply] | None) -> None:
        """The node of this read says nothing: it keeps nothing from the others. Harmless for what is no bulk read."""
        read = None if future is None else self._by_future.get(future)
        if read is not None:
            self._begin(self._grants.set_aside(read))

    def send(self, read: _GatedRead) -> asyncio.Future[Reply]:
        """Its turn has come. Raises what its `begin` does."""
        read.begun_at = self._clock.now()
        return read.begin()

    def on_done(self, read: _GatedRead, sent: asyncio.Future[Reply]) -> None:
        """What was sent is over, however it ended."""
        if not sent.cancelled() and sent.exception() is None:
            self._grants.on_answered(read, read.begun_at, self._clock.now())
        self.end(read)

    def end(self, read: _GatedRead) -> None:
        """A read is over."""
        self._begin(self._grants.end(read))

    def _begin(self, granted: Iterable[BulkRead]) -> None:
        self._due += granted
        if self._is_beginning:  # one that cannot be sent makes room for the next: not one call within the other
            return
        self._is_beginning = True
        try:
            while self._due:
                read = self._due.popleft()
                assert isinstance(read, _GatedRead)
                assert read.call is not None
                read.call.on_granted()
        finally:
            self._is_beginning = False
