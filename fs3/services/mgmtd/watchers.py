"""The watch streams on the routing info: each gets the current state at once, then each change as it is published."""

from __future__ import annotations

import logging

from fs3.base.limits import watch_keepalive_ns
from fs3.base.status import Code
from fs3.ports.rpc import Call
from fs3.wire.mgmtd import EncodedRouting

log = logging.getLogger("fs3.mgmtd")

watchers_max = 8192


class Watchers:
    """The open watch streams of one manager. A client that does not keep up is refused with BUSY rather than waited for: it opens
    another stream, and says which version it has."""

    def __init__(self, now: int) -> None:
        self._calls: dict[int, Call] = {}
        self._last = 0
        self._said_at = now

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, first: EncodedRouting) -> None:
        """Begin a stream with its first update. BUSY when there are too many."""
        if len(self._calls) >= watchers_max:
            call.fail(Code.BUSY, f"{watchers_max} streams watch the routing info, the most there can be")
            return
        self._last += 1
        number = self._last
        self._calls[number] = call
        call.add_cancel_callback(lambda: self._forget(number))
        self._send(number, call, first)

    def publish(self, now: int, update: EncodedRouting) -> None:
        """Send one update on every stream."""
        self._said_at = now
        for number, call in list(self._calls.items()):
            self._send(number, call, update)

    def is_idle(self, now: int) -> bool:
        """Nothing was published for so long that clients may soon take the streams for broken: an empty update is due."""
        return now - self._said_at >= watch_keepalive_ns

    def close(self, code: Code, why: str) -> None:
        """End every stream."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.fail(code, why)

    def _forget(self, number: int) -> None:
        """The client has gone. A call counts on its connection until the server ends it too, even when the client gave it up."""
        call = self._calls.pop(number, None)
        if call is not None:
            call.fail(Code.CANCELLED, "nobody watches any more")

    def _send(self, number: int, call: Call, update: EncodedRouting) -> None:
        if not call.send(update) and self._calls.pop(number, None) is not None:
            log.info("the watch of %s does not keep up and is ended", call.peer)
            call.fail(Code.BUSY, "this watch does not keep up")
