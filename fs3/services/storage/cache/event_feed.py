"""What happened to pages, told to those who ask; who has had everything waits for the next event.

A question names the chains whose head this node is believed to be. It is answered when one of them has something to tell or
refuses, or when the time it wants to wait is over; further ones than `page_event_waiters_max` are answered at once, and come back
later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TargetId
from fs3.base.limits import page_event_reply_bytes_max, page_events_per_reply_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.position import ChainRole
from fs3.core.kvcache.events import Cursor, EventBatch
from fs3.ports.rpc import Call
from fs3.services.storage.cache.head_records import HeadRecords
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_pages import ChainAnswer, EventsQuestion, events_reply_to_pb, events_request_from_pb

page_event_waiters_max = 1024
"""Questions for events that wait at one storage node; a further one is answered at once."""
EVENT_BYTES = 64
"""Of an answer, for an event without its key; more than it takes."""


class _Waiter:
    """One question that waits."""

    def __init__(self, feed: EventFeed, call: Call, question: EventsQuestion, records: list[HeadRecords]) -> None:
        self._feed = feed
        self._call = call
        self._question = question
        self._records = records
        self._scheduled = False
        self._is_over = False
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._timer = loop.call_later(question.wait_ms * MILLISECOND / SECOND, self._end)
        for each in records:
            each.add_waiter(self._on_change)

    def _on_change(self) -> None:
        """Answered in the next turn, with all that happens in this one."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end)

    def on_cancelled(self) -> None:
        """The listener has gone."""
        self._leave()

    def _end(self) -> None:
        if not self._is_over:
            self._leave()
            self._feed.answer(self._call, self._question)

    def _leave(self) -> None:
        self._is_over = True
        self._timer.cancel()
        for each in self._records:
            each.remove_waiter(self._on_change)
        self._feed.remove(self)

    def stop(self) -> None:
        """The node stops."""
        self._end()


class EventFeed:
    """The handler of CacheEvents."""

    def __init__(self, targets: TargetMap, keepers: Mapping[TargetId, CacheKeeper], context: NodeContext) -> None:
        """`keepers`: of the targets that are open."""
        self._by_chain = targets.by_chain
        self._keepers = keepers
        self._context = context
        self._clock = context.clock
        self._waiters: dict[_Waiter, None] = {}

    @property
    def waiting(self) -> int:
        """Questions that wait."""
        return len(self._waiters)

    def read(self, call: Call) -> None:
        """The handler of CacheEvents."""
        try:
            question = events_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        answers = self._collect(question)
        can_wait = question.wait_ms and answers and len(self._waiters) < page_event_waiters_max
        if not can_wait or any(_has_news(answer, question.cursors[chain]) for chain, answer in answers.items()):
            self._reply(call, answers)
            return
        records = [self._keepers[self._by_chain[chain].target].records for chain in answers]
        waiter = _Waiter(self, call, question, records)
        self._waiters[waiter] = None
        call.add_cancel_callback(waiter.on_cancelled)

    def answer(self, call: Call, question: EventsQuestion) -> None:
        """With what there is now."""
        self._reply(call, self._collect(question))

    def remove(self, waiter: _Waiter) -> None:
        """It waits no more."""
        self._waiters.pop(waiter, None)

    def stop(self) -> None:
        """Answer everything that waits."""
        for waiter in list(self._waiters):
            waiter.stop()

    def _collect(self, question: EventsQuestion) -> dict[ChainId, ChainAnswer]:
        answers: dict[ChainId, ChainAnswer] = {}
        count, room = page_events_per_reply_max, page_event_reply_bytes_max
        for chain, cursor in question.cursors.items():
            shell = self._by_chain.get(chain)
            nothing = EventBatch([], cursor, missed=False)
            if shell is None or shell.target not in self._keepers:
                answers[chain] = ChainAnswer(Code.NO_SUCH_TARGET, nothing)
            elif shell.replica.position.role is not ChainRole.HEAD or self._clock.now() >= shell.lease_until():
                answers[chain] = ChainAnswer(Code.NOT_HEAD, nothing)
            else:
                batch = self._keepers[shell.target].records.read(question.namespace_id, cursor, count)
                fits = 0
                for event in batch.events:
                    room -= EVENT_BYTES + len(event.key)
                    if room < 0:
                        break
                    fits += 1
                count -= fits
                answers[chain] = ChainAnswer(Code.OK, batch._replace(events=batch.events[:fits]))
        return answers

    def _reply(self, call: Call, answers: dict[ChainId, ChainAnswer]) -> None:
        call.reply(events_reply_to_pb(list(answers.values()), routing_version=self._context.routing_version))


def _has_news(answer: ChainAnswer, cursor: Cursor) -> bool:
    """A listener wants to know it at once."""
    batch = answer.batch
    return answer.code is not Code.OK or bool(batch.events) or batch.missed or batch.since != cursor
