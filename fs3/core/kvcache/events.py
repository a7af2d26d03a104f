"""What happens to the pages of a namespace, for who keeps a picture of it: routers that send a request to where its prefix is.

The head of each chain records what is stored and removed there, in the order in which it happens, numbered from 1 within an
*epoch*. A listener goes on from where it was: (epoch, number). What can be told to it is bounded, and everything is in memory, so
it may have missed something: when it comes back after too long, when more happened than is kept, when another target has become
the head. It is told so, clearly and once, and where to go on from; the picture is then made anew by listing the namespace *after*
that, so that what happens meanwhile comes as events.

Nothing is recorded, and nothing kept of its keys, of a namespace without listeners.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from itertools import islice
from typing import NamedTuple, TypeAlias

from fs3.base.ids import ChunkId, page_namespace
from fs3.base.limits import page_events_max
from fs3.base.units import MIB, MINUTE

page_event_logs_max = 256
"""Namespaces whose events one target records, those that were asked for last."""
page_event_bytes_max = 16 * MIB
"""Of the events that one target keeps, keys included."""
page_event_log_idle_ns = 10 * MINUTE
"""Events of a namespace that no listener has asked for during so long are recorded no more."""


MakeEpoch: TypeAlias = "Callable[[], bytes]"
"""Makes a name that no log of a chain ever had."""


class PageChange(IntEnum):
    """What happened to a page. The numbers travel on the wire."""

    STORED = 1
    EVICTED = 2
    """To make room."""
    EXPIRED = 3
    """Its time (TTL) was over."""
    REMOVED = 4
    """A client removed it."""
    LOST = 5
    """Every copy of it was damaged or gone."""


class PageEvent(NamedTuple):
    """One event of one chain."""

    change: PageChange
    chunk: ChunkId
    length: int
    """Bytes as stored; 0 where it is not known any more."""
    key: bytes
    """The page's key; b"" where it is not known: of removals, and of a put that began before this head had a listener."""


class Cursor(NamedTuple):
    """How far a listener has got in the events of a chain."""

    epoch: bytes = b""
    """b"": it has none, and wants what comes from now on."""
    seq: int = 0
    """Of the last event it has had."""


class EventBatch(NamedTuple):
    """What a listener is told."""

    events: list[PageEvent]
    """In order; the first has the number after the cursor that was asked for, or after `since` when some were missed."""
    since: Cursor
    """Where they begin."""
    missed: bool
    """There may have been others before."""

    @property
    def next(self) -> Cursor:
        """Where to go on from."""
        return Cursor(self.since.epoch, self.since.seq + len(self.events))


class _Log:
    """The latest events of one namespace."""

    __slots__ = ("asked_ns", "epoch", "events", "seq")

    def __init__(self, epoch: bytes, now: int) -> None:
        self.epoch = epoch
        self.seq = 0
        """Of the newest event."""
        self.events: deque[PageEvent] = deque()
        self.asked_ns = now


_EVENT_BYTES = 64
"""Counted for an event beside its key."""


class EventLogs:
    """The events of one target, by namespace. Times are nanoseconds of its monotonic clock."""

    def __init__(
        self,
        logs_max: int = page_event_logs_max,
        events_max: int = page_events_max,
        bytes_max: int = page_event_bytes_max,
    ) -> None:
        self._logs_max = logs_max
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._logs: dict[int, _Log] = {}
        """By namespace, those asked for longest ago first."""
        self._order: deque[_Log] = deque()
        """Of every event that is kept its log, oldest first; of logs that were dropped too."""
        self._bytes = 0

    @property
    def is_idle(self) -> bool:
        """There are no listeners: nothing needs to be recorded."""
        return not self._logs

    @property
    def kept(self) -> int:
        """Events that are kept."""
        return len(self._order)

    def is_listened(self, namespace_id: int) -> bool:
        """Events of this namespace are recorded."""
        return namespace_id in self._logs

    def record(self, change: PageChange, chunk: ChunkId, length: int, key: bytes = b"") -> bool:
        """Something happened to a page. False when its namespace has no listeners."""
        log = self._logs.get(page_namespace(chunk))
        if log is None:
            return False
        log.seq += 1
        log.events.append(PageEvent(change, chunk, length, key))
        self._order.append(log)
        self._bytes += _EVENT_BYTES + len(key)
        while len(self._order) > self._events_max or self._bytes > self._bytes_max:
            self._forget_oldest()
        return True

    def read(self, namespace_id: int, cursor: Cursor, limit: int, now: int, make_epoch: MakeEpoch) -> EventBatch:
        """What a listener has not had yet, at most `limit` events. `make_epoch`: a name that no log of this chain ever had.

        A cursor without an epoch begins now. One that cannot be gone on from is answered `missed`, with a place to go on from:
        what is listed of the namespace after this answer, and the events from there on, are everything.
        """
        log = self._logs.pop(namespace_id, None)
        if log is None:
            while len(self._logs) >= self._logs_max:
                self._drop(next(iter(self._logs)))
            log = _Log(make_epoch(), now)
        log.asked_ns = now
        self._logs[namespace_id] = log
        if not cursor.epoch:
            return EventBatch([], Cursor(log.epoch, log.seq), missed=False)
        first = log.seq - len(log.events) + 1
        if cursor.epoch != log.epoch or not first - 1 <= cursor.seq <= log.seq:
            return EventBatch([], Cursor(log.epoch, log.seq), missed=True)
        begin = cursor.seq + 1 - first
        return EventBatch(list(islice(log.events, begin, begin + limit)), cursor, missed=False)

    def drop_idle(self, now: int) -> None:
        """Record no more of namespaces that no listener has asked for lately."""
        while self._logs:
            namespace_id, log = next(iter(self._logs.items()))
            if now - log.asked_ns < page_event_log_idle_ns:
                return
            self._drop(namespace_id)

    def clear(self) -> None:
        """Forget all: this target is not the head any more, or has just become it."""
        self._logs.clear()
        self._order.clear()
        self._bytes = 0

    def _drop(self, namespace_id: int) -> None:
        log = self._logs.pop(namespace_id)
        self._bytes -= sum(_EVENT_BYTES + len(event.key) for event in log.events)
        log.events.clear()
        self._order = deque(each for each in self._order if each is not log)

    def _forget_oldest(self) -> None:
        event = self._order.popleft().events.popleft()
        self._bytes -= _EVENT_BYTES + len(event.key)
