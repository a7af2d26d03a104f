"""The log of what happened, kept in the managers' store: bounded, and for people only. Nothing waits for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from fs3.base.units import MILLISECOND
from fs3.core.health.events import Happening, happenings_of
from fs3.core.membership.election import LeaseRecord
from fs3.model.event import PRIMARY, ClusterEvent
from fs3.model.routing import Delta, Routing
from fs3.ports.clock import Clock
from fs3.services.mgmtd.store import MgmtdStore

log = logging.getLogger("fs3.mgmtd")

events_max = 4096
"""Events that are kept; then the oldest goes."""
events_per_answer_max = 1000


class EventLog:
    """Of one manager, while it is the primary."""

    def __init__(self, store: MgmtdStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._events: deque[ClusterEvent] = deque(maxlen=events_max)
        self._lease_record: LeaseRecord | None = None
        self._routing = Routing()
        self._failed = False

    def begin_term(self, lease_record: LeaseRecord, routing: Routing, events: Iterable[ClusterEvent]) -> None:
        """This manager leads; `events` are those of the store, `routing` what it begins with."""
        self._lease_record = lease_record
        self._routing = routing
        self._events = deque(events, maxlen=events_max)
        name = lease_record.holder.name if lease_record.holder is not None else "a manager"
        self._add([Happening(PRIMARY, "notice", f"{name} is the primary manager, in epoch {lease_record.epoch}")])

    def end_term(self) -> None:
        """It leads no more."""
        self._lease_record = None

    def on_published(self, delta: Delta) -> None:
        """Routing info was stored and is given out."""
        found = happenings_of(self._routing, delta)
        self._routing = self._routing.apply(delta, self._routing.cluster)
        self._add(found)

    def newest(self, after: int, limit: int) -> list[ClusterEvent]:
        """The newest so many behind `after`, oldest first. 0: as many as there are, within bounds. May be called from any
        thread."""
        limit = min(limit or events_per_answer_max, events_per_answer_max)
        return [event for event in list(self._events) if event.seq > after][-limit:]

    def _add(self, found: list[Happening]) -> None:
        if not found or self._lease_record is None:
            return
        last = self._events[-1].seq if self._events else 0
        wall_ms = self._clock.wall() // MILLISECOND
        made = [ClusterEvent(last + index, wall_ms, *each) for index, each in enumerate(found, 1)]
        for event in made:
            log.info("event %d, %s: %s", event.seq, event.code, event.text)
        self._events.extend(made)
        self._store.save_events(made, self._events[0].seq, self._lease_record, self._on_saved)

    def _on_saved(self, _: None, problem: BaseException | None) -> None:
        """An event that could not be stored is told while this manager leads, and then forgotten."""
        if problem is not None and not self._failed:
            log.warning("events could not be stored: %s", problem)
        self._failed = problem is not None
