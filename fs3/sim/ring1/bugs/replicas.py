"""Mistakes in the replica: when it forwards, commits, answers and forgets."""

from __future__ import annotations

from fs3.base.ids import ClientId
from fs3.base.status import Code
from fs3.core.craq.effects import AnswerUpdate, DropPending, Effect
from fs3.core.craq.events import DropDone, ForwardDone, UpdateReceived
from fs3.core.craq.flight import Flight, FlightPhase
from fs3.core.craq.flights import Flights
from fs3.core.craq.lanes import Lane, QueuedUpdate
from fs3.core.craq.replica import Replica
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, UpdateResult


def _reply_ok(flight: Flight) -> UpdateResult:
    return UpdateResult(Code.OK, flight.update.version, flight.length, flight.checksum)


class CommitsBeforeAck(Flights):
    """Commits what it has staged without waiting for the successor."""

    def _forward_or_commit(self, now: int, lane: Lane, out: list[Effect]) -> None:
        if not self.position.is_last:
            self._forward(now, lane, out)
            self.send_window.release(lane.flight.serial)
        self._commit(now, lane, out)


class AnswersEarly(Flights):
    """Answers when it has staged, not when everybody has."""

    def _forward(self, now: int, lane: Lane, out: list[Effect]) -> None:
        super()._forward(now, lane, out)
        out += [AnswerUpdate(token, _reply_ok(lane.flight)) for token in lane.flight.waiters]
        lane.flight.waiters.clear()


class TakesItselfForTail(Flights):
    """No successor, therefore the last: a target that left the live chain commits what it has."""

    def leave_chain(self, out: list[Effect]) -> None:
        for lane in list(self.lanes.values()):
            if lane.flight.phase in (FlightPhase.FORWARDING, FlightPhase.RESTING) and not lane.flight.is_fill:
                self._commit(0, lane, out)
        super().leave_chain(out)


class SettlesByItself(Flights):
    """After a restart every serving target commits its pending versions, not only the tail."""

    def begin(self, now: int, lane: Lane, out: list[Effect]) -> None:
        if lane.flight.phase is FlightPhase.RESTING and not lane.flight.waiters and not lane.flight.is_fill:
            self.lanes[lane.flight.update.chunk] = lane
            self._commit(now, lane, out)
        else:
            super().begin(now, lane, out)


class ForgetsWhenLeaving(Flights):
    """What was pending when the target left the live chain is never looked at again."""

    def leave_chain(self, out: list[Effect]) -> None:
        super().leave_chain(out)
        self.orphans.clear()


class IgnoresChange(Flights):
    """What was sent under an older chain version is left to its timeout."""

    def resend_all(self, now: int, out: list[Effect]) -> None:
        pass


class TakesBack(Flights):
    """When nobody waits for an update any more, its pending version is dropped and its number given to another."""

    def _expire_lane(self, now: int, lane: Lane, out: list[Effect]) -> None:
        waited = bool(lane.flight.waiters)
        super()._expire_lane(now, lane, out)
        if waited and not lane.flight.waiters and not lane.queue:
            self.send_window.release(lane.flight.serial)
            out.append(DropPending(lane.flight.update.chunk, lane.flight.update.version))
            del self.lanes[lane.flight.update.chunk]

    def on_drop_done(self, now: int, event: DropDone, out: list[Effect]) -> None:
        if event.chunk in self.lanes and self.lanes[event.chunk].flight.phase is FlightPhase.DROPPING:
            super().on_drop_done(now, event, out)


class AnyAckCounts(Flights):
    """An answer to any sending of this chunk and version is taken for the answer to the last one."""

    def _is_awaited(self, flight: Flight, event: ForwardDone) -> bool:
        return flight.phase in (FlightPhase.FORWARDING, FlightPhase.RESTING) and flight.update.version == event.version


class ComparesNothing(Flights):
    """What the successor staged is not compared with what is here."""

    def _compare(self, flight: Flight, result: UpdateResult) -> str:
        return ""


class ReadsBeforeOpened(Replica):
    """Reads are served before the store's pending versions were looked at."""

    @property
    def readable_chain(self) -> Chain | None:
        return self.chain


class _Deaf(dict[tuple[ClientId, int], ChannelRow]):
    def __setitem__(self, key: tuple[ClientId, int], value: ChannelRow) -> None:
        pass


class WaitsTwice(Flights):
    """A retry of an update under way waits behind it like any other, and is not looked up again when its turn comes."""

    def on_update_received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        self.admitter.step_rows = _Deaf()
        lane = self.lanes.get(event.update.chunk)
        if lane is not None and not event.update.from_target and self.position.serves:
            lane.enqueue(QueuedUpdate(event.update, [event.token], now + self.limits.flight_deadline_ns))
            self._arm(lane.due_ns)
        else:
            super().on_update_received(now, event, out)
