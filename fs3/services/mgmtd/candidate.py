"""The shell of the election: looks at the lease record, writes it, and says when this manager leads and when no longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

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
    WriteLease,
)
from fs3.ports.clock import Clock
from fs3.services.mgmtd.store import LeaseView, MgmtdStore

log = logging.getLogger("fs3.mgmtd")


class Candidate:
    """This manager's part in the election, on a running loop."""

    def __init__(
        self,
        store: MgmtdStore,
        clock: Clock,
        me: Holder,
        times: ElectionTimes,
        *,
        sole: bool,
        lead: Callable[[LeaseRecord], None],
        step_down: Callable[[str], None],
        managers_changed: Callable[[], None],
    ) -> None:
        """`lead` is called with the record under which this manager is the primary; `step_down` with the reason."""
        self.managers: tuple[Holder, ...] = ()
        """Every manager that has ever joined, as far as is known."""
        self._store = store
        self._clock = clock
        self._me = me
        self._times = times
        self._sole = sole
        self._lead = lead
        self._step_down = step_down
        self._managers_changed = managers_changed
        self._election = Election(clock.now(), me, times, sole=sole)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._first_round: asyncio.Future[None] | None = None
        self._resignation: asyncio.Future[None] | None = None
        self._trouble = ""
        self._stuck_timer: asyncio.TimerHandle | None = None
        """Runs out when a write is not answered."""

    @property
    def record(self) -> LeaseRecord | None:
        """The lease record as it was seen last."""
        return self._election.record

    def may_act(self) -> bool:
        """This manager is the primary, and its lease is running."""
        return self._election.may_act(self._clock.now())

    def describe_primary(self) -> str:
        """For people."""
        holder = self.record.holder if self.record is not None else None
        if holder is None:
            return "nobody is at the moment"
        return f"{holder.name} was when it looked last, at {', '.join(holder.endpoints) or 'no endpoint yet'}"

    async def start(self) -> None:
        """Begin. Returns once it leads, or somebody else does."""
        self._first_round = asyncio.get_running_loop().create_future()
        self._step(ElectionTick())
        await self._first_round

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Others reach this manager here; everybody is told."""
        self._me = Holder(self._me.name, self._me.instance, tuple(endpoints))
        self._join()
        self._step(EndpointsChanged(tuple(endpoints)))

    async def stop(self, patience_ns: int) -> None:
        """Give the lease back when this manager has it, so that nobody waits for its end; then do nothing more."""
        if not self._stopped:
            self._resignation = asyncio.get_running_loop().create_future()
            self._step(Resign())
            await asyncio.wait((self._resignation,), timeout=patience_ns / SECOND)
        self.give_up()

    def give_up(self) -> None:
        """Be no candidate any more, without giving anything back."""
        self._stopped = True
        for timer in (self._timer, self._stuck_timer):
            if timer is not None:
                timer.cancel()

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
                self._stuck_timer = asyncio.get_running_loop().call_later(self._times.lease_ns / SECOND, self._say_stuck)
                self._store.swap_lease(effect.expected, effect.record, self._on_lease_written)
            case Lead():
                assert self._election.record is not None
                log.info("%s is the primary manager, in epoch %d", self._me.name, effect.epoch)
                self._lead(self._election.record)
            case StepDown():
                # To stop is what it was told to; everything else, somebody should know.
                level = logging.INFO if self._resignation is not None else logging.WARNING
                log.log(level, "%s is not the primary manager any more: %s", self._me.name, effect.why)
                self._step_down(effect.why)

    def _on_lease_read(self, view: LeaseView | None, problem: BaseException | None) -> None:
        if view is None:
            self._step(self._failed(problem))
            return
        self._note_view(view)
        self._step(LeaseRead(view.record))

    def _say_stuck(self) -> None:
        log.error(
            "%s cannot write the lease record of the managers: the store does not answer. Its disk hangs, or a process that was "
            "stopped in the middle of a commit has its lock: continue or kill that",
            self._me.name,
        )

    def _on_lease_written(self, view: LeaseView | None, problem: BaseException | None) -> None:
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None
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
        if view.managers != self.managers:
            self.managers = view.managers
            self._managers_changed()

    def _join(self) -> None:
        """Into the list, once and for all; tried again until it is stored."""
        if self._stopped:
            return
        loop = asyncio.get_running_loop()

        def joined(_: None, problem: BaseException | None) -> None:
            if problem is not None:
                log.error("%s cannot be put into the list of managers: %s", self._me.name, problem)
                loop.call_later(self._times.lease_ns / SECOND, self._join)
            else:
                self._store.read_lease(self._on_joined)

        self._store.join(self._me, joined)

    def _on_joined(self, view: LeaseView | None, problem: BaseException | None) -> None:
        if view is not None and not self._stopped:
            self._note_view(view)

    def _arm(self) -> None:
        """One timer for the machine's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._election.next_deadline()
        if deadline is not None and not self._stopped:
            delay = max(0, deadline - self._clock.now()) / SECOND
            self._timer = asyncio.get_running_loop().call_later(delay, self._step, ElectionTick())
