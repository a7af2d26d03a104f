"""The updates under way at one target: admitted, staged here, forwarded, acknowledged, committed; or given up, or dropped.

`Replica` owns the flights of its target and tells them what happens; what keeps both right is written there. Flights know the
target's position in its chain, not the chain. They call nothing but the store's view: what is to be done goes out as effects.
"""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.base.units import NEVER
from fs3.core.craq.admission.admitter import Admitter
from fs3.core.craq.admission.answers import AnswerTable
from fs3.core.craq.admission.table import UNTAGGED, Action, AdmissionRow, LaneState
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, FillDone, Forward, Stage
from fs3.core.craq.events import DropDone, FillRequested, ForwardDone, StageDone, UpdateReceived
from fs3.core.craq.flight import Flight, FlightPhase, answer_all, make_fill_flight, make_resumed_flight
from fs3.core.craq.lanes import Lane, QueuedUpdate, ReplicaLimits
from fs3.core.craq.position import ChainPosition, ChainRole
from fs3.core.craq.send_window import SendWindow
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import FILLS, ChannelRow, ChunkMeta, Update, UpdateKind, UpdateResult


class Flights:
    """The lanes of one target, and what waits in them. Every event handler appends what it wants to `out`."""

    def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits) -> None:
        """`incarnation`: see `Replica`; serials begin with it."""
        self.target_id = target_id
        self.limits = limits
        self.view = view
        self.position = ChainPosition()
        self.lanes: dict[ChunkId, Lane] = {}
        self.orphans: dict[ChunkId, None] = {}
        """Chunks with a pending version and no flight: found when the store was opened, or left behind with the live chain."""
        self.send_window = SendWindow(incarnation)
        self.admitter = Admitter(target_id, view, AnswerTable(limits.answers_max, limits.answer_kept_ns))
        self._due_ns = NEVER

    # --- updates arrive ----------------------------------------------------------------------------------------------

    def on_update_received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        """A client's or the predecessor's update: the admission table says what becomes of it."""
        update = event.update
        lane = self.lanes.get(update.chunk)
        if lane is None:
            meta = self.view.get(update.chunk)
            state = LaneState.FREE if len(self.lanes) < self.limits.flights_max else LaneState.FULL
            row = self.admitter.admit(update, state, meta)
            if event.refusal and row.action is Action.ADMIT:
                self._refuse_for_room(now, event, out)
                return
            flight = self._apply_row(now, row, update, [event.token], meta, out)
            if flight is not None:
                self.begin(now, Lane(flight), out)
            return
        row = self.admitter.admit(update, lane.state(update, self.limits.lane_waiting_max, self.limits.waiters_max), None)
        if event.refusal and row.action is Action.WAIT:
            self._refuse_for_room(now, event, out)
        elif row.action is Action.WAIT:
            expires = now + self.limits.flight_deadline_ns
            lane.enqueue(QueuedUpdate(update, [event.token], expires))
            self._arm(expires)
        elif row.action is Action.ATTACH:
            same = lane.find(update)
            assert same is not None
            if isinstance(same, QueuedUpdate):
                same.update = update  # the newer sending: the older would be late when its turn comes
            elif not same.waiters:
                same.expires_ns = now + self.limits.flight_deadline_ns
            same.waiters.append(event.token)
            self._arm(lane.due_ns)
        else:
            self._apply_row(now, row, update, [event.token], None, out)

    def _refuse_for_room(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        """The head's shell has no room for it. Remembered: a copy that comes once there is room is told the same."""
        refusal = UpdateResult(Code.NO_SPACE, message=event.refusal)
        if event.update.tag.client:
            refusal = self.admitter.remember_answer(now, event.update, refusal)
        out.append(AnswerUpdate(event.token, refusal))

    def _apply_row(
        self, now: int, row: AdmissionRow, update: Update, waiters: list[int], meta: ChunkMeta | None, out: list[Effect]
    ) -> Flight | None:
        """Answer the waiters, or return the flight that begins."""
        action = row.action
        expires = now + self.limits.flight_deadline_ns
        if action is Action.ADMIT:
            version = meta.committed + 1 if meta is not None else 1
            return Flight(msgspec.structs.replace(update, version=version), FlightPhase.STAGING, waiters, expires)
        if action is Action.STAGE or action is Action.REPLACE_PENDING:
            return Flight(update, FlightPhase.STAGING, waiters, expires)
        if action is Action.ALREADY_PENDING:
            assert meta is not None
            return make_resumed_flight(update, meta, waiters, expires)
        answer_all(waiters, self.admitter.answer(now, row, update, meta), out)
        return None

    # --- staged and forwarded ----------------------------------------------------------------------------------------

    def begin(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """The lane's flight begins."""
        flight = lane.flight
        self.lanes[flight.update.chunk] = lane
        if self.orphans:
            self.orphans.pop(flight.update.chunk, None)
        if flight.phase is FlightPhase.STAGING:
            out.append(Stage(flight.update))
        else:
            self._forward_or_commit(now, lane, out)

    def on_stage_done(self, now: int, event: StageDone, out: list[Effect]) -> None:
        """The flight is durable here, or the store has nothing of it. AssertionError when no flight is being staged."""
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is FlightPhase.STAGING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        assert flight.update.version == event.version, f"target {self.target_id}: {event} for version {flight.update.version}"
        if event.code is not Code.OK or flight.abandoned:
            refusal = UpdateResult(event.code, message=event.message) if event.code is not Code.OK else self._not_serving()
            if event.code is Code.NO_SPACE:
                refusal = self._refuse_copies(now, lane, refusal)
            answer_all(flight.waiters, refusal, out)
            self._give_up(now, lane, out)
            return
        flight.length = event.length
        flight.checksum = event.checksum
        self._forward_or_commit(now, lane, out)

    def _forward_or_commit(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """What a flight does once it is durable here."""
        if self.position.is_last:
            self._commit(now, lane, out)
        else:
            self._forward(now, lane, out)

    def _forward(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """Send it to the successor: as it came, while its bytes are in memory. A successor that syncs takes that when it has the
        version before under this chain version; when it says that it has not, it is sent the whole chunk."""
        flight = lane.flight
        at = self.position
        serial, floor = self.send_window.add(instead_of=flight.serial)
        flight.serial = serial
        flight.phase = FlightPhase.FORWARDING
        flight.retry_ns = now + self.limits.timeout_ns(flight.attempts)
        flight.attempts += 1
        self._arm(flight.due_ns)
        sending = flight.make_sending(at.version, self.target_id, serial, floor)
        out.append(Forward(at.successor, sending, serial, committed=flight.is_fill and sending.kind in FILLS))

    # --- acknowledged and committed ----------------------------------------------------------------------------------

    def on_forward_done(self, now: int, event: ForwardDone, out: list[Effect]) -> None:
        """The successor's answer. It counts only for the latest sending of the chunk's flight."""
        lane = self.lanes.get(event.chunk)
        if lane is None or not self._is_awaited(lane.flight, event):
            return  # to an earlier sending; what it says was said under another chain version, or is about to be said again
        flight = lane.flight
        self.send_window.release(flight.serial)
        flight.serial = 0
        result = event.result
        if result.code is Code.STALE_UPDATE:
            self.send_window.skip_ahead()
        if flight.is_fill:
            self._on_fill_acked(now, lane, result, out)
        elif result.code is Code.OK:
            disagreement = self._compare(flight, result)
            if disagreement:
                self._halt(lane, disagreement, out)
            else:
                self._commit(now, lane, out)
        elif result.code is Code.REPLICAS_DISAGREE:
            self._halt(lane, result.message, out)
        elif result.code is Code.MISSING_UPDATE and self.position.successor_syncs and not flight.needs_whole:
            # It has not the version before under this chain version. Once only: whole, it needs no version before.
            flight.needs_whole = True
            self._forward(now, lane, out)
        elif result.code is Code.NO_SPACE and not self.position.successor_syncs:
            # The one case in which a pending version is taken back: the successor has nothing of it (see `flight`).
            self._drop(lane, result, out)
        else:
            flight.phase = FlightPhase.RESTING
            flight.retry_ns = now + self.limits.backoff_ns(flight.attempts)
            flight.refusal = result.code
            self._arm(flight.due_ns)

    def _is_awaited(self, flight: Flight, event: ForwardDone) -> bool:
        """The answer is to the sending the flight waits for."""
        return flight.phase is FlightPhase.FORWARDING and flight.serial == event.attempt

    def _compare(self, flight: Flight, result: UpdateResult) -> str:
        """How the successor's chunk differs from this one's; "" when it does not."""
        difference = flight.describe_difference(result)
        if not difference:
            return ""
        return f"chunk {flight.update.chunk.hex()}: target {self.target_id} and target {self.position.successor}: {difference}"

    def _commit(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """The flight has got through: commit, answer its waiters, begin what waits behind it."""
        flight = lane.flight
        update = flight.update
        chunk = update.chunk
        result = UpdateResult(Code.OK, update.version, flight.length, flight.checksum)
        tag = self.admitter.choose_row_tag(update.tag)
        if tag.client:
            self.admitter.step_rows[tag.client, tag.channel] = ChannelRow(tag.seq, chunk, result)
        out.append(Commit(chunk, update.version, tag, result))
        answer_all(flight.waiters, result, out)
        if lane.fill_version:
            out.append(lane.end_fill(Code.OK))  # the successor has just acknowledged something newer
        if not lane.queue:
            del self.lanes[chunk]
            return
        # What the view will show once the effects of this step are carried out; it does not yet.
        meta = None
        if update.kind is not UpdateKind.REMOVE:
            meta = ChunkMeta(update.version, 0, update.chain_version, flight.length, flight.checksum)
        self._begin_next(now, chunk, lane, meta, out)

    def _halt(self, lane: Lane, message: str, out: list[Effect]) -> None:
        """The replicas have different bytes: no client may see this version before the chain has changed."""
        flight = lane.flight
        flight.phase = FlightPhase.HALTED
        flight.retry_ns = NEVER
        flight.has_data = False
        result = UpdateResult(Code.REPLICAS_DISAGREE, message=message)
        answer_all(flight.waiters, result, out)
        if lane.fill_version:
            out.append(lane.end_fill(result.code, message))
        lane.answer_queue(result, out)

    # --- other ends --------------------------------------------------------------------------------------------------

    def _drop(self, lane: Lane, result: UpdateResult, out: list[Effect]) -> None:
        """The successor has no room for it, and so has nothing of it: take it back."""
        flight = lane.flight
        flight.phase = FlightPhase.DROPPING
        flight.retry_ns = NEVER
        flight.has_data = False
        flight.refusal = result.code
        flight.why = result.message
        out.append(DropPending(flight.update.chunk, flight.update.version))

    def on_drop_done(self, now: int, event: DropDone, out: list[Effect]) -> None:
        """The pending version is gone, durably: its waiters may be told. AssertionError when no flight is being dropped."""
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is FlightPhase.DROPPING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        refusal = self._not_serving() if flight.abandoned else UpdateResult(flight.refusal, message=flight.why)
        if not flight.abandoned:
            refusal = self._refuse_copies(now, lane, refusal)
        answer_all(flight.waiters, refusal, out)
        self._give_up(now, lane, out)

    def _refuse_copies(self, now: int, lane: Lane, refusal: UpdateResult) -> UpdateResult:
        """Nothing of the flight is left here, and its number may be given to another update: no copy of its last sending may be
        taken. If something waits, that has a higher serial, and copies of earlier sendings are late anyway. What a client is told
        at the head is remembered. The answer to the waiters."""
        flight = lane.flight
        if self.position.role is ChainRole.HEAD:
            told = flight.waiters and flight.update.tag.client
            return self.admitter.remember_answer(now, flight.update, refusal) if told else refusal
        if not lane.queue:
            self.admitter.duplicates.expire_latest(flight.update.chunk)
        return refusal

    def _give_up(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """A flight ends without commit. Whatever is pending in the store stays there."""
        chunk = lane.flight.update.chunk
        meta = self.view.get(chunk)
        if meta is not None and meta.pending:
            self.orphans[chunk] = None
        self._begin_next(now, chunk, lane, meta, out)
        if self.orphans:
            self.resume_orphans(now, out)

    def _begin_next(self, now: int, chunk: ChunkId, lane: Lane, meta: ChunkMeta | None, out: list[Effect]) -> None:
        """The flight is over: begin the first of those that wait and can begin. `meta` is what the chunk is by now."""
        del self.lanes[chunk]
        if lane.fill_version:
            lane.flight = make_fill_flight(chunk, self.position.chain, self.position.version, meta)
            self.begin(now, lane, out)
            return
        while lane.queue:
            entry = lane.queue.popleft()
            row = self.admitter.admit(entry.update, LaneState.FREE, meta)
            flight = self._apply_row(now, row, entry.update, entry.waiters, meta, out)
            if flight is not None:
                lane.flight = flight
                self.begin(now, lane, out)
                return

    def _not_serving(self) -> UpdateResult:
        return UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain")

    # --- the chain changes -------------------------------------------------------------------------------------------

    def set_position(self, position: ChainPosition) -> None:
        """The target's place in its chain from now on. What is under way is told by what the replica calls next."""
        self.position = position
        self.admitter.set_position(position)

    def leave_chain(self, out: list[Effect]) -> None:
        """Nothing under way here decides anything any more. What is staged stays staged."""
        for chunk, lane in list(self.lanes.items()):
            lane.answer_queue(self._not_serving(), out)
            if lane.fill_version:
                out.append(lane.end_fill(Code.WRONG_CHAIN_VERSION))
            flight = lane.flight
            if flight.phase is FlightPhase.STAGING or flight.phase is FlightPhase.DROPPING:
                flight.abandoned = True  # answered once the store has done with it
                continue
            answer_all(flight.waiters, self._not_serving(), out)
            if not flight.is_fill:
                self.orphans[chunk] = None
            del self.lanes[chunk]
        self.send_window.clear()

    def resend_all(self, now: int, out: list[Effect]) -> None:
        """Serving under a new chain version: what waits for a successor is sent to the present one, or committed."""
        message = f"target {self.target_id}: the chain version is {self.position.version} now"
        for chunk, lane in list(self.lanes.items()):
            lane.answer_queue(UpdateResult(Code.WRONG_CHAIN_VERSION, message=message), out)
            if lane.fill_version:
                out.append(lane.end_fill(Code.WRONG_CHAIN_VERSION))
            flight = lane.flight
            flight.abandoned = False
            # An answer to a sending under the old version must not count any more: the successor may be another one.
            self.send_window.release(flight.serial)
            flight.serial = 0
            if flight.is_fill:
                del self.lanes[chunk]
            elif flight.phase is not FlightPhase.STAGING and flight.phase is not FlightPhase.DROPPING:
                flight.attempts = 0
                flight.needs_whole = False
                self._forward_or_commit(now, lane, out)

    def resume_orphans(self, now: int, out: list[Effect]) -> None:
        """Pending versions without a flight go on, at a target that serves or syncs. A restarted tail may commit them: every
        target upstream has them.

        A target that syncs goes on with what it has staged under this very chain version. What is pending from an earlier one may
        never have been acknowledged, and no predecessor will send it again: it is dropped, and until that is durable the target
        answers no question of a resync (`Replica.check_resync_fence`), so it cannot come to serve with it.
        """
        at = self.position
        if at.role is ChainRole.OUT:
            return
        for chunk in [chunk for chunk in self.orphans if chunk not in self.lanes]:
            del self.orphans[chunk]
            meta = self.view.get(chunk)
            if meta is None or not meta.pending:
                continue
            template = Update(chunk, UpdateKind.FILL, at.chain, at.version, 0, 0, 0, UNTAGGED)
            lane = Lane(make_resumed_flight(template, meta, [], NEVER))
            if at.serves or meta.chain_version == at.version:
                self.begin(now, lane, out)
            else:
                self._drop_leftover(lane, out)

    def _drop_leftover(self, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        flight.phase = FlightPhase.DROPPING
        flight.abandoned = True
        self.lanes[flight.update.chunk] = lane
        out.append(DropPending(flight.update.chunk, flight.update.version))

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When `on_tick` is due, at the latest; None while nothing is under way."""
        return self._due_ns if self.lanes and self._due_ns < NEVER else None

    def on_tick(self, now: int, out: list[Effect]) -> None:
        """Look through all lanes: rare, since flights end long before their deadline unless something is wrong."""
        if now < self._due_ns:
            return
        self._due_ns = NEVER
        for lane in list(self.lanes.values()):
            if lane.due_ns <= now:
                self._expire_lane(now, lane, out)
            self._arm(lane.due_ns)

    def _expire_lane(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """Give up waiting in a lane, not the flight: its pending version may be staged further down."""
        flight = lane.flight
        who = f"target {self.target_id}: chunk {flight.update.chunk.hex()}"
        while lane.queue and lane.queue[0].expires_ns <= now:
            busy = UpdateResult(Code.BUSY, message=f"{who}: the update before is not done")
            answer_all(lane.queue.popleft().waiters, busy, out)
        if flight.phase is FlightPhase.STAGING or flight.phase is FlightPhase.DROPPING:
            return
        if flight.waiters and flight.expires_ns <= now:
            said = f", which says {flight.refusal.name}" if flight.refusal else ""
            message = f"{who}: waits for target {self.position.successor}{said}"
            answer_all(flight.waiters, UpdateResult(Code.DEADLINE, message=message), out)
            flight.has_data = False
        if flight.retry_ns <= now:
            self._forward(now, lane, out)

    def _arm(self, due: int) -> None:
        if due < self._due_ns:
            self._due_ns = due

    # --- fills of a resync -------------------------------------------------------------------------------------------

    def on_fill_requested(self, now: int, event: FillRequested, out: list[Effect]) -> None:
        """The chunk's lane comes first: what is under way in it brings the successor up to date by itself, if it gets through."""
        at = self.position
        chunk = event.chunk
        lane = self.lanes.get(chunk)
        if event.chain_version != at.version or not at.serves or not at.successor_syncs:
            out.append(FillDone(chunk, event.chain_version, Code.WRONG_CHAIN_VERSION))
        elif lane is not None:
            assert not lane.fill_version, f"target {self.target_id}: a second fill of chunk {chunk.hex()}"
            lane.fill_version = at.version
            if lane.flight.phase is FlightPhase.HALTED:
                out.append(lane.end_fill(Code.REPLICAS_DISAGREE))
        elif len(self.lanes) >= self.limits.flights_max:
            out.append(FillDone(chunk, at.version, Code.BUSY))
        else:
            fill = make_fill_flight(chunk, at.chain, at.version, self.view.get(chunk), event.damaged_version)
            lane = Lane(fill, fill_version=at.version)
            self.begin(now, lane, out)

    def _on_fill_acked(self, now: int, lane: Lane, result: UpdateResult, out: list[Effect]) -> None:
        """The successor has it, or not: then the resync machine will ask again."""
        flight = lane.flight
        message = self._compare(flight, result) if result.code is Code.OK else result.message
        code = Code.REPLICAS_DISAGREE if result.code is Code.OK and message else result.code
        out.append(lane.end_fill(code, message))
        chunk = flight.update.chunk
        self._begin_next(now, chunk, lane, self.view.get(chunk), out)
