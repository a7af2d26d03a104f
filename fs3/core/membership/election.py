"""Which manager is the primary: one lease record in the shared store, and no wall clock.

    LeaseRecord   epoch      rises with every takeover
                  holder     who took it; None when it was given back
                  renewal    rises with every renewal

A candidate looks at the record again and again. It takes over only after its own monotonic clock has seen the same record for a
whole lease and what clocks may drift, and only by a transaction that finds that record unchanged. The primary stops acting
when its own lease has run out, counted from before it began the renewal that succeeded last. The candidate counts from
after it has seen that renewal, so it counts longer: when it takes over, the former primary has stopped.

A primary that has not noticed (it was stopped in the middle of a step) can do no harm either: each of its transactions checks
the record, and a lease it grants to a node counts from a sending that was before the takeover, from which on the next primary
presumes that every lease runs.

    phase       what it does
    WATCHING    looks at the record every `poll_ns`
    TAKING      its takeover is being stored
    LEADING     it is the primary until `until`, and renews every `renew_ns`

`Election` is pure: the shell reads and writes the record, and asks `may_act` before it does anything as the primary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from fs3.base.limits import clock_drift_ns, manager_lease_ns, manager_lease_poll_ns, manager_renew_ns
from fs3.base.units import NEVER


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """One management process."""

    name: str
    instance: bytes
    """Drawn at each start: the same name after a restart is another candidate."""
    endpoints: tuple[str, ...] = ()


class LeaseRecord(msgspec.Struct, frozen=True, array_like=True):
    """What is stored. Compared as a whole: any change is a sign of life."""

    epoch: int
    holder: Holder | None
    renewal: int


class ElectionTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The same for all managers of a cluster."""

    lease_ns: int = manager_lease_ns
    drift_ns: int = clock_drift_ns
    """What clocks may disagree by in one lease."""

    @property
    def renew_ns(self) -> int:
        """How often the primary renews its lease."""
        return self.lease_ns * manager_renew_ns // manager_lease_ns

    @property
    def poll_ns(self) -> int:
        """How often the others look at it."""
        return self.lease_ns * manager_lease_poll_ns // manager_lease_ns


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ElectionTick:
    """A deadline (`next_deadline`) has passed."""


@dataclass(frozen=True, slots=True)
class LeaseRead:
    """The record, as answer to `ReadLease`; None when there is none yet."""

    record: LeaseRecord | None


@dataclass(frozen=True, slots=True)
class LeaseWritten:
    """The record of `WriteLease` is durable."""


@dataclass(frozen=True, slots=True)
class LeaseConflict:
    """`WriteLease` found another record than it expected, and left it alone."""

    record: LeaseRecord | None


@dataclass(frozen=True, slots=True)
class LeaseIOFailed:
    """`ReadLease` or `WriteLease` failed; what was to be written may be stored or not."""

    problem: str


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """This manager listens somewhere else now; the record says so with the next renewal."""

    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resign:
    """This manager is about to stop: give the record back, so that no candidate has to wait for its end."""


@dataclass(frozen=True, slots=True)
class TermFailed:
    """This manager leads and cannot do what a primary does. The others may try; it tries again when they had the time to."""

    why: str


ElectionEvent = ElectionTick | LeaseRead | LeaseWritten | LeaseConflict | LeaseIOFailed | EndpointsChanged | Resign | TermFailed

# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadLease:
    """Read the record. The shell answers with `LeaseRead` or `LeaseIOFailed`."""


@dataclass(frozen=True, slots=True)
class WriteLease:
    """In one transaction: replace the record when it is `expected`. The shell answers with `LeaseWritten`, `LeaseConflict` or
    `LeaseIOFailed`."""

    expected: LeaseRecord | None
    record: LeaseRecord


@dataclass(frozen=True, slots=True)
class Lead:
    """Be the primary, under this epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class StepDown:
    """Be the primary no longer."""

    why: str


ElectionEffect = ReadLease | WriteLease | Lead | StepDown


class ElectionPhase(Enum):
    """See the module."""

    WATCHING = "watching"
    TAKING = "taking"
    LEADING = "leading"


class Election:
    """One manager's part in the election.

    The shell's part of the contract: it posts one answer to every `ReadLease` and `WriteLease`, of which at most one is under
    way; it posts an `ElectionTick` when `next_deadline()` has come; and it asks `may_act` before everything it does as the
    primary, also while a renewal is under way.
    """

    def __init__(self, now: int, me: Holder, times: ElectionTimes, *, sole: bool = False) -> None:
        """`sole`: no other process can use the store, so the holder of a record found there is dead, and none needs renewing."""
        self.phase = ElectionPhase.WATCHING
        self.record: LeaseRecord | None = None
        """As it was seen, or written, last."""
        self._me = me
        self._times = times
        self._sole = sole
        self._unchanged_since = now
        """Since when the record is known to be what it is."""
        self._until = now
        """May act until then, while LEADING."""
        self._next_at = now
        """When to look or renew."""
        self._busy = False
        self._began_at = now
        """When the write under way was begun."""
        self._writing: LeaseRecord | None = None
        self._resigning = False

    def may_act(self, now: int) -> bool:
        """It is the primary, and its lease is running."""
        return self.phase is ElectionPhase.LEADING and now < self._until

    def next_deadline(self) -> int | None:
        """When to step with `ElectionTick`; None while there is nothing to wait for but an answer, and once it has resigned."""
        if self.phase is ElectionPhase.LEADING:
            return self._until if self._busy else min(self._until, self._next_at)
        return None if self._busy or self._resigning else self._next_at

    def step(self, now: int, event: ElectionEvent) -> list[ElectionEffect]:
        """Take one event in. Returns the effects in the order to carry them out. `now`: this manager's monotonic clock."""
        effects: list[ElectionEffect] = []
        # A renewal that is stored late still counts from its beginning, and nothing was done meanwhile.
        if self.phase is ElectionPhase.LEADING and now >= self._until and not isinstance(event, LeaseWritten):
            effects += self._watch(now, "its lease could not be renewed in time")
        match event:
            case ElectionTick():
                pass
            case LeaseRead():
                self._busy = False
                self._next_at = now + self._times.poll_ns
                effects += self._consider(now, event.record)
            case LeaseWritten():
                effects += self._on_written(now)
            case LeaseConflict():
                effects += self._on_conflict(now, event.record)
            case LeaseIOFailed():
                effects += self._on_failed(now)
            case EndpointsChanged():
                self._me = msgspec.structs.replace(self._me, endpoints=event.endpoints)
                self._next_at = now
            case TermFailed():
                if self.phase is ElectionPhase.LEADING:
                    effects += self._watch(now, event.why)
                    self._next_at = now + 2 * self._times.lease_ns + self._times.drift_ns
            case Resign():
                self._resigning = True
                if self.phase is ElectionPhase.LEADING:
                    # Before the record is given back: from then on, another may act at any time.
                    effects += self._watch(now, "it stops")
        return effects + self._proceed(now)

    def _proceed(self, now: int) -> list[ElectionEffect]:
        """Begin what is due, when nothing is under way."""
        if self._busy:
            return []
        record = self.record
        if self._resigning:
            if record is not None and record.holder is not None and record.holder.instance == self._me.instance:
                return [self._write(now, LeaseRecord(record.epoch, None, record.renewal + 1))]
        elif now < self._next_at:
            pass
        elif self.phase is ElectionPhase.LEADING:
            assert record is not None
            return [self._write(now, LeaseRecord(record.epoch, self._me, record.renewal + 1))]
        elif self.phase is ElectionPhase.WATCHING:
            self._busy = True
            return [ReadLease()]
        return []

    def _consider(self, now: int, record: LeaseRecord | None) -> list[ElectionEffect]:
        """Take over when the holder cannot be acting any more."""
        if self.phase is not ElectionPhase.WATCHING or self._resigning:
            return []
        if record is None or record != self.record:
            self.record, self._unchanged_since = record, now
        over = (
            record is None
            or record.holder is None
            # A record of this very process: it renews only while LEADING, and now it is WATCHING.
            or record.holder.instance == self._me.instance
            or self._sole
            or now - self._unchanged_since >= self._times.lease_ns + self._times.drift_ns
        )
        if not over:
            return []
        self.phase = ElectionPhase.TAKING
        return [self._write(now, LeaseRecord(record.epoch + 1 if record else 1, self._me, 0))]

    def _write(self, now: int, record: LeaseRecord) -> WriteLease:
        self._busy = True
        self._began_at = now
        self._writing = record
        return WriteLease(self.record, record)

    def _on_written(self, now: int) -> list[ElectionEffect]:
        self._busy = False
        self.record, self._writing, self._unchanged_since = self._writing, None, now
        assert self.record is not None
        if self.phase is ElectionPhase.WATCHING or self._resigning:
            self.phase = ElectionPhase.WATCHING
            return []  # it stepped down meanwhile
        until = NEVER if self._sole else self._began_at + self._times.lease_ns
        if now >= until:
            return self._watch(now, "its lease could not be stored in time")
        self._until = until
        # A renewal that tells of new endpoints may have become due meanwhile.
        rested = NEVER if self._sole else self._began_at + self._times.renew_ns
        self._next_at = now if self.record.holder != self._me else rested
        if self.phase is ElectionPhase.TAKING:
            self.phase = ElectionPhase.LEADING
            return [Lead(self.record.epoch)]
        return []

    def _on_conflict(self, now: int, record: LeaseRecord | None) -> list[ElectionEffect]:
        self._busy = False
        ours = self.record
        self.record, self._writing, self._unchanged_since = record, None, now
        if self.phase is ElectionPhase.LEADING and record is not None and ours is not None:
            mine = record.holder is not None and record.holder.instance == self._me.instance and record.epoch == ours.epoch
            if mine:
                return []  # a renewal that seemed to fail was stored after all
        who = record.holder.name if record is not None and record.holder is not None else "nobody"
        return self._watch(now, f"{who} has taken over, in epoch {record.epoch if record else 0}")

    @property
    def has_resigned(self) -> bool:
        """Nothing of this manager is left in the record, or under way to it."""
        record = self.record
        ours = record is not None and record.holder is not None and record.holder.instance == self._me.instance
        return self._resigning and not self._busy and not ours

    def _on_failed(self, now: int) -> list[ElectionEffect]:
        self._busy = False
        self._writing = None
        self._next_at = now + self._times.poll_ns
        if self._resigning:
            self.record = None  # tried once; the others will wait for the lease
        return self._watch(now, "") if self.phase is ElectionPhase.TAKING else []

    def _watch(self, now: int, why: str) -> list[ElectionEffect]:
        """Watch, until it can take over again."""
        led = self.phase is ElectionPhase.LEADING
        self.phase = ElectionPhase.WATCHING
        self._next_at = min(self._next_at, now + self._times.poll_ns)
        return [StepDown(why)] if led else []
