"""The lane of one chunk: its flight, and the updates that wait behind it in the order they came.

A lane exists while its chunk has a flight. Chunks are independent, so a target has as many flights as it has lanes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from fs3.base import limits
from fs3.base.status import Code
from fs3.core.craq.admission.facts import is_same_tag
from fs3.core.craq.admission.table import LaneState
from fs3.core.craq.effects import Effect, FillDone
from fs3.core.craq.flight import Flight, FlightPhase, answer_all
from fs3.model.chunk import Update, UpdateKind, UpdateResult

waiters_per_flight_max = 64
"""Senders of one and the same update that wait for its answer."""

flights_per_target_max = 1024

answers_per_target_max = 1 << 18
"""Answers EXISTS and NO_SPACE, one of each channel, that the head of a chain remembers; about 300 bytes of memory each. Beyond,
such updates of other channels are BUSY."""


@dataclass(frozen=True)
class ReplicaLimits:
    """Limits and times of one replica; see `fs3.base.limits`."""

    lane_waiting_max: int = 256
    """Updates waiting behind one chunk's flight."""
    flights_max: int = flights_per_target_max
    waiters_max: int = waiters_per_flight_max
    answers_max: int = answers_per_target_max
    answer_kept_ns: int = limits.channel_forget_ns // 2
    """How long a client's update may be sent again after it was answered, with a wide margin."""
    flight_deadline_ns: int = limits.flight_deadline_ns
    forward_timeout_min_ns: int = limits.forward_timeout_min_ns
    forward_timeout_max_ns: int = limits.forward_timeout_max_ns
    forward_backoff_min_ns: int = limits.forward_backoff_min_ns
    forward_backoff_max_ns: int = limits.forward_backoff_max_ns

    def timeout_ns(self, attempts: int) -> int:
        """How long the answer to a sending is waited for, after `attempts` earlier ones."""
        return min(self.forward_timeout_max_ns, self.forward_timeout_min_ns << min(attempts, 20))

    def backoff_ns(self, attempts: int) -> int:
        """How long to rest after `attempts` sendings, the last of which was refused."""
        return min(self.forward_backoff_max_ns, self.forward_backoff_min_ns << min(attempts - 1, 20))


DEFAULT_LIMITS = ReplicaLimits()


class QueuedUpdate(msgspec.Struct):
    """An update that has not been admitted yet, and the tokens of its sendings."""

    update: Update
    waiters: list[int]
    expires_ns: int


class Lane(msgspec.Struct):
    """One chunk's flight and queue."""

    flight: Flight
    queue: deque[QueuedUpdate] | None = None
    fill_version: int = 0
    """Chain version under which the successor is to be brought up to date with this chunk: a fill is under way, or comes next. 0:
    not asked for."""

    def find(self, update: Update) -> Flight | QueuedUpdate | None:
        """This very update, in flight or waiting.

        A client's update is known by its tag alone: it has no version yet. One without tag never equals another. What a
        predecessor sends is known by version and tag. A fill is no update: no sender asks for it.
        """
        if update.from_target:
            return next((entry for entry in self._all() if _is_same_forwarded(entry.update, update)), None)
        if update.tag.client:
            return next((entry for entry in self._all() if entry.update.tag == update.tag), None)
        return None

    def _all(self) -> Iterator[Flight | QueuedUpdate]:
        if not self.flight.is_fill:
            yield self.flight
        if self.queue:
            yield from self.queue

    def state(self, update: Update, waiting_max: int, waiters_max: int) -> LaneState:
        """What an update that arrives now meets."""
        if self.flight.phase is FlightPhase.HALTED:
            return LaneState.HALTED
        same = self.find(update)
        if same is not None:
            return LaneState.SAME if len(same.waiters) < waiters_max else LaneState.FULL
        return LaneState.FULL if self.queue and len(self.queue) >= waiting_max else LaneState.TAKEN

    def enqueue(self, entry: QueuedUpdate) -> None:
        """Put an update behind all others."""
        if self.queue is None:
            self.queue = deque()
        self.queue.append(entry)

    def describe(self) -> str:
        """Version, phase, sendings and how many wait, in a few characters."""
        flight = self.flight
        sent = f"#{flight.attempts}" if flight.attempts else ""
        waiting = f"+{len(self.queue)}" if self.queue else ""
        return f"{flight.update.chunk.hex()[-6:]}@{flight.update.version}:{flight.phase.name.lower()}{sent}{waiting}"

    def answer_queue(self, result: UpdateResult, out: list[Effect]) -> None:
        """Answer everything that waits; nothing waits any more."""
        for entry in self.take_queue():
            answer_all(entry.waiters, result, out)

    def take_queue(self) -> list[QueuedUpdate]:
        """Remove and return everything that waits."""
        entries = list(self.queue or ())
        self.queue = None
        return entries

    def end_fill(self, code: Code, message: str = "") -> FillDone:
        """The answer to the resync machine's `FillRequested` for this chunk; none is asked for any more."""
        flight = self.flight
        done = flight.is_fill and code is Code.OK
        removed = done and flight.update.kind is UpdateKind.REMOVE
        damaged = done and flight.update.kind is UpdateKind.FILL_BAD
        length = flight.length if done else 0
        version, self.fill_version = self.fill_version, 0
        return FillDone(flight.update.chunk, version, code, length, done and not removed, removed, message, damaged)

    @property
    def due_ns(self) -> int:
        """When something has to be done about the flight or about who waits longest."""
        due = self.flight.due_ns
        return min(due, self.queue[0].expires_ns) if self.queue else due


def _is_same_forwarded(one: Update, other: Update) -> bool:
    return one.version == other.version and is_same_tag(one.tag, other.tag)
