"""Sends the bytes of updates to the successor ahead of them: while a target writes them, its successor does, and that one's.

After the *data push* of the Google File System (Ghemawat et al., SOSP 2003): how bytes travel is apart from the order of updates.
Only the bytes go ahead. The update itself is forwarded once it is durable here, as ever, and names its push instead of bringing
the bytes; so what a target has staged, every target before it has. A push that fails costs nothing but itself: the update brings
its bytes then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, TargetId
from fs3.base.limits import flight_deadline_ns
from fs3.base.units import SECOND
from fs3.model.chain import Chain, PublicState, Slot
from fs3.ports.rpc import Reply
from fs3.runtime.tracing import OpenSpan, within
from fs3.services.storage.forwarding.queue import ForwardedBytes
from fs3.services.storage.node_context import NodeContext
from fs3.wire.methods import STORAGE
from fs3.wire.storage_push import Push, push_request_to_pb

push_pause_ns = 1 * SECOND
"""After a push that failed none is tried for so long."""

_NUMBER_BITS = 40
"""Of a push's number, below those of the incarnation."""


class PushSender:
    """The pushes of one target to its present successor."""

    def __init__(self, source: TargetId, incarnation: int, context: NodeContext) -> None:
        """`incarnation`: see `Replica`; numbers begin with it, so that none is used twice."""
        self._source = source
        self._last = incarnation << _NUMBER_BITS
        self._context = context
        self._chain: Chain | None = None
        self._successor: Slot | None = None
        self._under_way: dict[asyncio.Future[Reply], tuple[int, ForwardedBytes]] = {}
        self._usable: set[int] = set()
        """Numbers of pushes that have not failed, and that no update has named."""
        self._assigned: dict[tuple[ChunkId, int], int] = {}
        """(chunk, version) -> the push that has the bytes of the update which makes it."""
        self._paused_until = 0

    def on_chain_changed(self, chain: Chain | None, successor: Slot | None) -> None:
        """Another chain version: what was pushed under the one before is not named any more."""
        self._chain = chain
        self._successor = successor if successor is not None and successor.state is PublicState.SERVING else None
        self._usable.clear()
        self._assigned.clear()
        self._paused_until = 0
        for future in list(self._under_way):
            future.cancel()

    def is_ready(self, length: int) -> bool:
        """So many bytes may be pushed now: there is a successor that serves, and they are worth it."""
        if self._successor is None or not 0 < self._context.config.push_bytes_min <= length:
            return False
        return self._context.clock.now() >= self._paused_until

    def push(
        self, data: memoryview, checksums: Sequence[int], reserve: int, lent: ForwardedBytes, span: OpenSpan | None = None
    ) -> int:
        """Send what will be all of a chunk, when this `is_ready`. The number of the push; 0: it is not sent. `lent` is given back
        in any case. `span`: what it is a part of, if that is traced."""
        chain, successor = self._chain, self._successor
        assert chain is not None
        assert successor is not None
        number = self._last = self._last + 1
        request = push_request_to_pb(Push(chain.id, chain.version, self._source, number, checksums, reserve))
        try:
            channel = self._context.channel_to(successor.node)
            if span is None:
                future = channel.start(STORAGE.Push, request, (data,), None, flight_deadline_ns)
            else:
                with within(span):
                    future = channel.start(STORAGE.Push, request, (data,), None, flight_deadline_ns)
        except FS3Error:
            lent.give_back()
            return 0
        self._usable.add(number)
        self._under_way[future] = (number, lent)
        future.add_done_callback(self._on_answer)
        return number

    def assign(self, chunk: ChunkId, version: int, number: int) -> None:
        """The update that makes this version has the bytes of that push."""
        self._assigned[chunk, version] = number

    def take(self, chunk: ChunkId, version: int) -> int:
        """The push that the update which makes this version may name, once; 0: none."""
        number = self._assigned.pop((chunk, version), 0)
        if number not in self._usable:
            return 0
        self._usable.remove(number)
        return number

    def _on_answer(self, future: asyncio.Future[Reply]) -> None:
        number, lent = self._under_way.pop(future)
        lent.give_back()
        if not future.cancelled() and future.exception() is not None:
            self._usable.discard(number)
            self._paused_until = self._context.clock.now() + push_pause_ns
