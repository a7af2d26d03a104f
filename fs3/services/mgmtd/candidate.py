"""The shell of the election: reads the lease record, writes it, and says when this manager is the primary and when no longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from fs3.base.units import SECOND
from fs3.core.membership.election import (
    Election,
    ElectionEffect,
    ElectionEvent,
    ElectionPhase,
    ElectionTick,
    ElectionTimes,
    EndpointsChanged,
    Holder,
    Lead,
    LeaseConflict,
    LeaseIOFailed,
    LeaseRead,
    LeaseRecord,
    LeaseWritten,
    ReadLease,
    Resign,
    StepDown,
    TermFailed,
    WriteLease,
)
from fs3.model.security import SecurityRow
from fs3.ports.clock import Clock
from fs3.runtime.alarm import Alarm
from fs3.services.mgmtd.store import LeaseView, MgmtdStore

log = logging.getLogger("fs3.mgmtd")


class CandidateOwner(Protocol):
    """The manager that the candidate belongs to."""

    def on_elected(self, lease_record: LeaseRecord) -> None:
        """This manager is the primary, under this record."""
        ...

    def on_step_down(self, why: str) -> None:
        """This manager is not the primary any more."""
        ...

    def on_security_read(self, row: SecurityRow | None) -> None:
        """What is stored of the cluster's security was read, together with the lease record."""
        ...

    def on_managers_changed(self) -> None:
        """`Candidate.managers` has changed."""
        ...


class Candidate:
    """This manager's part in the election, on a running loop."""

    def __init__(
        self,
        store: MgmtdStore,
        clock: Clock,
        me: Holder,
        times: ElectionTimes,
        owner: CandidateOwner,
        *,
        sole: bool,
    ) -> None:
        """`sole`: no other process has the store, so a lease found there need not be waited for."""
        self.managers: tuple[Holder, ...] = ()
        """Every manager that has ever joined, as far as is known."""
        self._store = store
        self._clock = clock
        self._me = me
        self._times = times
        self._owner = owner
        self._election = Election(clock.now(), me, times, sole=sole)
        self._alarm = Alarm(lambda: self._step(ElectionTick()))
        self._stopped = False
        self._first_round: asyncio.Future[None] | None = None
        self._resignation: asyncio.Future[None] | None = None
        self._trouble = ""
        self._stuck = Alarm(self._say_stuck)
        """Fires when a write is not answered."""
        self._rejoin = Alarm(self._join)

    @property
    def record(self) -> LeaseRecord | None:
        """The lease record as it was seen last."""
        return self._election.record

    def may_act(self) -> bool:
        """This manager is the primary, and its lease is running."""
        return self._election.may_act(self._clock.now())

    def describe_primary(self) -> str:
        """Which manager is the primary, in words for an error message."""
        holder = self.record.holder if self.record is not None else None
        if holder is None:
            return "nobody is at the moment"
        return f"{holder.name} was when it looked last, at {', '.join(holder.endpoints) or 'no endpoint yet'}"

    async def start(self) -> None:
        """Begin. Returns once this manager is the primary, or has seen the lease record, or could not read it."""
        self._first_round = asyncio.get_running_loop().create_future()
        self._step(ElectionTick())
        await self._first_round

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Other managers and clients reach this manager here; they are told through the store and the routing updates."""
        self._me = Holder(self._me.name, self._me.instance, tuple(endpoints))
        self._join()
        self._step(EndpointsChanged(tuple(endpoints)))

    async def stop(self, patience_ns: int) -> None:
        """Give the lease back when this manager has it, so that the next one need not wait for its end; then do nothing more.

        `patience_ns`: how long the store may take for that.
        """
        if not self._stopped:
            self._resignation = asyncio.get_running_loop().create_future()
            self._step(Resign())
            await asyncio.wait((self._resignation,), timeout=patience_ns / SECOND)
        self.give_up()

    def fail_term(self, why: str) -> None:
        """This manager leads and cannot do what a primary does: it steps down, and stays a candidate."""
        self._step(TermFailed(why))

    def give_up(self) -> None:
        """Be no candidate any more, without giving anything back."""
        self._stopped = True
        for alarm in (self._alarm, self._stuck, self._rejoin):
            alarm.cancel()

    # --- the machine -------------------------------------------------------------------------------------------------

    def _step(self, event: ElectionEvent) -> None:
        if self._stopped:
            return
        for effect in self._election.step(self._clock.now(), event):
            self._carry_out(effect)
        if self._first_round is not None and not self._first_round.done() and self._is_settled(event):
            self._first_round.set_result(None)
        if self._resignation is not None and not self._resignation.done() and self._election.has_resigned:
            self._resignation.set_result(None)
        self._arm()

    def _is_settled(self, event: ElectionEvent) -> bool:
        if isinstance(event, LeaseIOFailed):
            return True
        return self._election.phase is ElectionPhase.LEADING or (
            isinstance(event, LeaseRead) and self._election.phase is ElectionPhase.WATCHING
        )

    def _carry_out(self, effect: ElectionEffect) -> None:
        match effect:
            case ReadLease():
                # On a later turn: an embedded store answers before this returns, and the machine takes one event at a time.
                asyncio.get_running_loop().call_soon(self._store.read_lease, self._on_lease_read)
            case WriteLease():
                now = self._clock.now()
                self._stuck.reset(now + self._times.lease_ns, now)
                self._store.swap_lease(effect.expected, effect.record, self._on_lease_written)
            case Lead():
                assert self._election.record is not None
                log.info("%s is the primary manager, in epoch %d", self._me.name, effect.epoch)
                self._owner.on_elected(self._election.record)
            case StepDown():
                # A manager that was told to stop does what it was told; of everything else the operator should know.
                level = logging.INFO if self._resignation is not None else logging.WARNING
                log.log(level, "%s is not the primary manager any more: %s", self._me.name, effect.why)
                self._owner.on_step_down(effect.why)

    def _on_lease_read(self, view: LeaseView | None, problem: BaseException | None) -> None:
        if view is None:
            self._step(self._failed(problem))
            return
        self._note_view(view)
        self._step(LeaseRead(view.record))

    def _say_stuck(self) -> None:
        log.error(
            "%s cannot write the lease record of the managers: the store does not answer. Its disk hangs, or a process that "
            "cannot be ended from here has its lock",
            self._me.name,
        )

    def _on_lease_written(self, view: LeaseView | None, problem: BaseException | None) -> None:
        self._stuck.cancel()
        if view is None:
            self._step(self._failed(problem))
            return
        self._note_view(view)
        self._step(LeaseWritten() if view.is_swapped else LeaseConflict(view.record))

    def _failed(self, problem: BaseException | None) -> LeaseIOFailed:
        text = str(problem)
        if text != self._trouble and not self._stopped:
            log.error("the lease record of the managers cannot be used: %s", text)
        self._trouble = text
        return LeaseIOFailed(text)

    def _note_view(self, view: LeaseView) -> None:
        self._trouble = ""
        self._owner.on_security_read(view.security)
        if view.managers != self.managers:
            self.managers = view.managers
            self._owner.on_managers_changed()

    def _join(self) -> None:
        """Into the list, once and for all; tried again until it is stored."""
        if self._stopped:
            return

        def joined(_: None, problem: BaseException | None) -> None:
            if problem is not None:
                log.error("%s cannot be put into the list of managers: %s", self._me.name, problem)
                if not self._stopped:
                    now = self._clock.now()
                    self._rejoin.reset(now + self._times.lease_ns, now)
            else:
                self._store.read_lease(self._on_joined)

        self._store.join(self._me, joined)

    def _on_joined(self, view: LeaseView | None, problem: BaseException | None) -> None:
        if view is not None and not self._stopped:
            self._note_view(view)

    def _arm(self) -> None:
        # Reset, not set: stepped before its deadline, the machine would read the lease record more often than it needs.
        self._alarm.reset(None if self._stopped else self._election.next_deadline(), self._clock.now())
