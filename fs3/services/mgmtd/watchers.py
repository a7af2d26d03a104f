"""The watch streams on the routing info: each gets the current state at once, then each change as it is published."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fs3.base.limits import watch_keepalive_ns
from fs3.base.status import Code
from fs3.ports.rpc import Call
from fs3.wire.mgmtd import EncodedRouting
from fs3.wire.routing_parts import split_routing

log = logging.getLogger("fs3.mgmtd")

watchers_max = 8192


class Watchers:
    """The open watch streams of one manager. A client that does not keep up is refused with BUSY rather than waited for: it opens
    another stream, and says which version it has."""

    def __init__(self, now: int) -> None:
        self._calls: dict[int, Call] = {}
        self._whole: set[int] = set()
        """Those of clients that take no parts."""
        self._last = 0
        self._said_at = now

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, first: Sequence[EncodedRouting], *, in_parts: bool) -> None:
        """Begin a stream with its first update, which is in these parts. BUSY when there are too many. `in_parts`: the client
        takes later ones in parts, too."""
        if len(self._calls) >= watchers_max:
            call.fail(Code.BUSY, f"{watchers_max} streams watch the routing info, the most there can be")
            return
        self._last += 1
        number = self._last
        self._calls[number] = call
        if not in_parts:
            self._whole.add(number)
        call.add_cancel_callback(lambda: self._forget(number))
        self._send(number, call, first)

    def publish(self, now: int, update: EncodedRouting) -> None:
        """Send one update on every stream."""
        self._said_at = now
        parts = split_routing(update)
        for number, call in list(self._calls.items()):
            self._send(number, call, parts if len(parts) == 1 or number not in self._whole else (update,))

    def is_idle(self, now: int) -> bool:
        """Nothing was published for so long that clients may soon take the streams for broken: an empty update is due."""
        return now - self._said_at >= watch_keepalive_ns

    def close(self, code: Code, why: str) -> None:
        """End every stream."""
        calls = list(self._calls.values())
        self._calls.clear()
        self._whole.clear()
        for call in calls:
            call.fail(code, why)

    def _forget(self, number: int) -> None:
        """The client has gone. A call counts on its connection until the server ends it too, even when the client gave it up."""
        call = self._calls.pop(number, None)
        self._whole.discard(number)
        if call is not None:
            call.fail(Code.CANCELLED, "nobody watches any more")

    def _send(self, number: int, call: Call, parts: Sequence[EncodedRouting]) -> None:
        if not all(call.send(part) for part in parts) and self._calls.pop(number, None) is not None:
            self._whole.discard(number)
            log.info("the watch of %s does not keep up and is ended", call.peer)
            call.fail(Code.BUSY, "this watch does not keep up")
