"""The queue from one target to its successor: what is forwarded in one turn of the loop leaves in as few frames as possible."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from fs3.base.errors import FS3Error, error
from fs3.base.ids import TargetId
from fs3.base.limits import flight_deadline_ns, update_bytes_per_request_max, updates_per_request_max
from fs3.base.status import Code
from fs3.core.craq.events import ForwardDone
from fs3.model.chain import Slot
from fs3.model.chunk import Update, UpdateResult
from fs3.ports.rpc import Channel, Part, Reply
from fs3.runtime.tracing import within_all
from fs3.services.storage.forwarding.successor_monitor import SuccessorMonitor
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.update_trace import span_of
from fs3.wire.methods import STORAGE
from fs3.wire.storage import update_reply_from_pb, update_request_to_pb

forward_requests_max = 32
"""Requests one target has under way to its successor; further updates wait and then leave together."""


class ForwardAnswers(Protocol):
    """Where the answers of the successor go."""

    def on_forward_done(self, done: ForwardDone) -> None:
        """A `Forward` of the machine has its answer; for each there is exactly one."""
        ...

    def on_forwards_done(self, dones: Sequence[ForwardDone]) -> None:
        """The same of several, which the successor has answered together. Not called within a call of the target's."""
        ...


class ForwardedBytes(Protocol):
    """Memory that a forward uses: a part of a request's buffer, or what was read back from the store."""

    def give_back(self) -> None:
        """The successor has answered, or is not waited for any more."""
        ...


class _QueuedForward:
    __slots__ = ("attempt", "lent", "parts", "update")

    def __init__(self, update: Update, attempt: int, parts: Sequence[Part], lent: ForwardedBytes | None) -> None:
        self.update = update
        self.attempt = attempt
        self.parts = parts
        self.lent = lent


class ForwardQueue:
    """Forwards of one target to one successor. Each is answered with exactly one `ForwardDone`, whatever happens."""

    def __init__(
        self,
        source: TargetId,
        successor: Slot,
        context: NodeContext,
        answers: ForwardAnswers,
        monitor: SuccessorMonitor,
    ) -> None:
        """`monitor` is told of every request to the successor."""
        self.target = successor.target
        self._node = successor.node
        self._source = source
        self._context = context
        self._answers = answers
        self._monitor = monitor
        self._waiting: deque[_QueuedForward] = deque()
        self._under_way: dict[asyncio.Future[Reply], list[_QueuedForward]] = {}
        self._has_traced = False
        """What waits may have updates of operations that are traced."""

    @property
    def unanswered_bytes(self) -> int | None:
        """Bytes of updates that were sent and not answered; None when none was."""
        if not self._under_way:
            return None
        return sum(item.update.length for items in self._under_way.values() for item in items)

    def put(self, update: Update, attempt: int, parts: Sequence[Part] = (), lent: ForwardedBytes | None = None) -> None:
        """Queue an update for the next `flush`. `parts` are its bytes; `lent` is given back once they are not needed any more."""
        self._waiting.append(_QueuedForward(update, attempt, parts, lent))
        if update.trace is not None:
            self._has_traced = True

    def flush(self) -> None:
        """Send what waits, as far as requests may be under way; the rest follows when one is answered."""
        while self._waiting and len(self._under_way) < forward_requests_max:
            items: list[_QueuedForward] = []
            size = 0
            while self._waiting and len(items) < updates_per_request_max:
                length = self._waiting[0].update.length
                if items and size + length > update_bytes_per_request_max:
                    break
                items.append(self._waiting.popleft())
                size += length
            self._send(items)

    def close(self) -> None:
        """The successor is another one now: give up what is under way and what waits."""
        for future in list(self._under_way):
            future.cancel()
        waiting, self._waiting = self._waiting, deque()
        if waiting:
            self._refuse(list(waiting), error(Code.DISCONNECTED, f"target {self.target} is not the successor any more"))

    def _send(self, items: list[_QueuedForward]) -> None:
        request = update_request_to_pb([item.update for item in items], self._source)
        parts = [part for item in items for part in item.parts]
        self._monitor.on_request_sent()
        try:
            channel = self._context.channel_to(self._node)
            if self._has_traced:
                future = self._start_traced(channel, request, parts, items)
            else:
                future = channel.start(STORAGE.Update, request, parts, None, flight_deadline_ns)
        except FS3Error as failure:
            self._refuse(items, failure)
            return
        self._under_way[future] = items
        future.add_done_callback(self._on_answer)

    def _start_traced(
        self, channel: Channel, request: Any, parts: Sequence[Part], items: Sequence[_QueuedForward]
    ) -> asyncio.Future[Reply]:
        """As a part of the traces that updates among these are of."""
        self._has_traced = any(item.update.trace is not None for item in self._waiting)
        spans = list(dict.fromkeys(span for item in items if (span := span_of(item.update)) is not None))
        with within_all(spans) if spans else nullcontext():
            return channel.start(STORAGE.Update, request, parts, None, flight_deadline_ns)

    def _on_answer(self, future: asyncio.Future[Reply]) -> None:
        items = self._under_way.pop(future)
        if future.cancelled():
            self._refuse(items, error(Code.DISCONNECTED, f"the update to target {self.target} was given up"))
        else:
            try:
                results = update_reply_from_pb(future.result().message, len(items))
            except FS3Error as failure:
                self._refuse(items, failure)
            else:
                self._answers.on_forwards_done([self._finish(item, result) for item, result in zip(items, results, strict=True)])
        if self._waiting:
            self.flush()

    def _refuse(self, items: Sequence[_QueuedForward], failure: FS3Error) -> None:
        result = UpdateResult(failure.code, message=f"successor target {self.target}: {failure.strerror}")
        for item in items:
            self._answers.on_forward_done(self._finish(item, result))

    def _finish(self, item: _QueuedForward, result: UpdateResult) -> ForwardDone:
        if item.lent is not None:
            item.lent.give_back()
        return ForwardDone(item.update.chunk, item.update.version, item.attempt, result)
