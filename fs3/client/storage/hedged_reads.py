"""Reads that are late, asked of another replica as well; the first answer counts (`fs3.core.files.hedging` says when).

The caller's buffers belong to the first request for as long as it is under way, so the second one receives into memory of its
own. When its answer comes first, the first request is given up, from which moment the wire writes nothing more, and the bytes are
copied. Whatever is true of an answer is looked at afterwards as of any other: chain version, block lease, checksums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, NodeId
from fs3.base.status import Code
from fs3.base.units import NEVER
from fs3.client.storage.node_request import HedgeReply, NodeRequest
from fs3.core.files.hedging import HedgePolicy
from fs3.core.files.replica_selector import Candidates, ReplicaSelector
from fs3.ports.clock import Clock
from fs3.ports.rpc import BufferProvider, Channel, Reply
from fs3.runtime.alarm import Alarm
from fs3.runtime.bulk_work import BulkWork, bulk_work_of
from fs3.wire.methods import STORAGE
from fs3.wire.storage import is_settled


class Replicas(Protocol):
    """What hedging asks of the router."""

    choice: ReplicaSelector

    def candidates(self, chain: ChainId) -> Candidates:
        """The serving replicas of a chain."""
        ...

    def short_channel(self, node: NodeId) -> Channel:
        """The channel to a node for what is no bulk read. Raises FS3Error."""
        ...


class _Late:
    """A read under way that may be hedged."""

    __slots__ = ("begun_at", "count", "deadline", "due_at", "future", "into", "message", "scratch")

    def __init__(self, begun_at: int, due_at: int, count: int, message: Any, into: BufferProvider, deadline: int) -> None:
        self.begun_at = begun_at
        self.due_at = due_at
        """`NEVER`: it is not hedged (again)."""
        self.count = count
        self.message = message
        self.into = into
        self.deadline = deadline
        self.future: asyncio.Future[Reply] | None = None
        """What another node was asked."""
        self.scratch = memoryview(b"")

    def receive(self, message: Any, length: int) -> Sequence[memoryview]:
        """Memory for what the second node sends."""
        if length > self.count:
            raise error(Code.PROTOCOL, f"a read of {self.count} bytes was answered with {length}")
        self.scratch = memoryview(bytearray(length))
        return (self.scratch,) if length else ()


class ReadHedger:
    """The reads of one client that may be hedged, and that bulk bytes make way for. Belongs to its loop."""

    def __init__(self, replicas: Replicas, clock: Clock, policy: HedgePolicy) -> None:
        self._replicas = replicas
        self._clock = clock
        self._policy = policy
        self._open: dict[NodeRequest, _Late] = {}
        self._bulk: BulkWork | None = None
        self._alarm = Alarm(self._on_due)
        self.sent = 0
        """Second requests."""
        self.won = 0
        """Those whose answer came first."""

    def begin(self, request: NodeRequest, count: int, message: Any, into: BufferProvider, now: int, deadline: int) -> None:
        """A read of `count` bytes was sent, with `message`, `into` and `deadline`; it is under way until `end`. Times are of the
        clock."""
        if self._bulk is None:
            self._bulk = bulk_work_of(asyncio.get_running_loop())
        self._bulk.short_reads += 1
        after_ns = self._policy.after_ns(count)
        due_at = NEVER if after_ns is None else now + after_ns
        self._open[request] = _Late(now, due_at, count, message, into, deadline)
        if due_at < self._alarm.due_ns:
            self._alarm.set(due_at, now)

    def end(self, request: NodeRequest, *, is_answered: bool) -> None:
        """It is over; harmless for one that never began. `is_answered`: by either node, not given up."""
        late = self._open.pop(request, None)
        if late is None or self._bulk is None:
            return
        self._bulk.short_reads -= 1
        if is_answered:
            self._policy.on_answered(late.count, self._clock.now() - late.begun_at)
        if late.future is not None:
            late.future.cancel()

    def close(self) -> None:
        """Hedge nothing any more."""
        self._alarm.cancel()
        for late in self._open.values():
            if late.future is not None:
                late.future.cancel()
        if self._bulk is not None:
            self._bulk.short_reads -= len(self._open)
        self._open.clear()

    def _on_due(self) -> None:
        now, following = self._clock.now(), NEVER
        for request, late in list(self._open.items()):
            if late.due_at <= now:
                late.due_at = NEVER
                self._hedge(request, late, now)
            elif late.due_at < following:
                following = late.due_at
        if following < NEVER:
            self._alarm.set(following, now)

    def _hedge(self, request: NodeRequest, late: _Late, now: int) -> None:
        node = self._choose(request, now)
        if node is None or late.deadline <= now or not self._policy.may_hedge():
            return
        try:
            future = self._replicas.short_channel(node).start(STORAGE.Read, late.message, (), late.receive, late.deadline - now)
        except FS3Error:
            return
        self.sent += 1
        late.future = future
        self._replicas.choice.on_sent(node, late.count)
        future.add_done_callback(lambda done: self._on_done(request, late, node, done))

    def _choose(self, request: NodeRequest, now: int) -> NodeId | None:
        """Another node that serves all chains of a request and is not suspect itself."""
        chains = request.chain_ids()
        found = self._replicas.choice.pick(self._replicas.candidates(chains[0]), now, exclude=(request.node,))
        if found is None or self._replicas.choice.is_suspect(found, now):
            return None
        return found if all(found in self._replicas.candidates(chain).nodes for chain in chains[1:]) else None

    def _on_done(self, request: NodeRequest, late: _Late, node: NodeId, future: asyncio.Future[Reply]) -> None:
        self._replicas.choice.on_answered(node, late.count)
        if future.cancelled():
            return
        failure = future.exception()
        if failure is not None or self._open.get(request) is not late or request.future is None or request.future.done():
            return  # the first one is waited for still, or was answered
        with suppress(FS3Error):
            if is_settled((reply := future.result()).message):
                self._take(request, late, node, reply)

    def _take(self, request: NodeRequest, late: _Late, node: NodeId, reply: Reply) -> None:
        """The second answer is the first. Raises FS3Error when it makes no sense, and nothing has happened then."""
        targets = late.into(reply.message, len(late.scratch))
        request.give_way(HedgeReply(node, reply))
        self.won += 1
        for target, part in _cut(targets, late.scratch):
            target[:] = part


def _cut(targets: Sequence[memoryview], data: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    at = 0
    for target in targets:
        yield target, data[at : at + len(target)]
        at += len(target)
