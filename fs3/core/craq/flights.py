"""The life of a flight: staged here, forwarded, acknowledged, committed; or given up, or dropped, or a fill of the successor.

The half of `Replica` that is about updates under way. The other half, `replica`, is about what arrives: updates, chain versions,
time. What keeps both right is written there.

Three ends of a flight that is not committed:

- The store refuses to stage it: nothing is left of it, and its waiters are told why.
- The successor answers NO_SPACE. It has nothing pending for this version then, whatever was sent before: had an earlier sending
  been staged there, it would have gone on with that; and whatever copy of a sending is still under way to it, it drops as late
  (`DuplicateFilter.refuse`). Nobody further down can have what the successor has not. So the pending version is dropped here,
  durably, before NO_SPACE goes upstream, where the same follows; the head tells the client, for whom nothing has happened. The
  number is free again. A *syncing* successor without room is no reason to refuse anything: it reports itself OFFLINE and the
  chain goes on without it.
- This target leaves the live chain: nothing here decides anything any more, and what is pending stays pending, until it serves
  again (all were lost and it restarts the chain) or comes back to be brought up to date (`_settle`).
"""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.admitter import Admitter
from fs3.core.craq.admission.table import UNTAGGED, Action, AdmissionRow, ChainRole, LaneState
from fs3.core.craq.completeness import Completeness
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, FillDone, Forward, Stage
from fs3.core.craq.events import DropDone, FillRequested, ForwardDone, StageDone
from fs3.core.craq.flight import NEVER, Flight, FlightPhase, make_fill_flight, make_resumed_flight
from fs3.core.craq.lanes import DEFAULT_LIMITS, Lane, ReplicaLimits
from fs3.core.craq.position import ChainPosition
from fs3.core.craq.send_window import SendWindow
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult


class Flights:
    """State of a replica, and what happens to its flights."""

    def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits = DEFAULT_LIMITS) -> None:
        """`incarnation` rises with every replica that is made for this target, also over restarts and exchanges of its disk:
        successors drop what has lower serials than they have heard, and a resync begins anew when it changes."""
        self.target_id = target_id
        self.incarnation = incarnation
        self.limits = limits
        self.view = view
        self.chain: Chain | None = None
        self.position = ChainPosition()
        self.is_open = False
        self.lanes: dict[ChunkId, Lane] = {}
        self.orphans: dict[ChunkId, None] = {}
        """Chunks with a pending version and no flight: found when the store was opened, or left behind with the live chain."""
        self.send_window = SendWindow(incarnation)
        self.admitter = Admitter(target_id, view)
        self.completeness = Completeness(target_id, incarnation)
        self._due_ns = NEVER

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
        answer_all(waiters, self.admitter.answer(row, update, meta), out)
        return None

    # --- forward -----------------------------------------------------------------------------------------------------

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

    def _on_stage_done(self, now: int, event: StageDone, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is FlightPhase.STAGING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        assert flight.update.version == event.version, f"target {self.target_id}: {event} for version {flight.update.version}"
        if event.code is not Code.OK or flight.abandoned:
            refusal = UpdateResult(event.code, message=event.message) if event.code is not Code.OK else self._not_serving()
            if event.code is Code.NO_SPACE:
                self._refuse_copies(lane)
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
        update = flight.update
        at = self.position
        serial, floor = self.send_window.add(instead_of=flight.serial)
        flight.serial = serial
        flight.phase = FlightPhase.FORWARDING
        flight.retry_ns = now + self.limits.timeout_ns(flight.attempts)
        flight.attempts += 1
        self._arm(flight.due_ns)
        if update.kind is not UpdateKind.REMOVE and (flight.needs_whole or not flight.has_data):
            whole = flight.length
            update = msgspec.structs.replace(
                update, kind=UpdateKind.FILL, offset=0, length=whole, checksums=(), reserve=0, data=None
            )
        sending = msgspec.structs.replace(
            update, chain_version=at.version, from_target=self.target_id, serial=serial, floor=floor
        )
        out.append(Forward(at.successor, sending, serial, committed=flight.is_fill and update.kind is UpdateKind.FILL))

    # --- back --------------------------------------------------------------------------------------------------------

    def _on_forward_done(self, now: int, event: ForwardDone, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        if lane is None or not self._is_awaited(lane.flight, event):
            return  # the answer to a sending that nobody waits for any more
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
            flight.needs_whole = True
            self._forward(now, lane, out)
        elif result.code is Code.NO_SPACE and not self.position.successor_syncs:
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
        flight = lane.flight
        update = flight.update
        chunk = update.chunk
        result = UpdateResult(Code.OK, update.version, flight.length, flight.checksum)
        tag = self._row_tag(update.tag)
        if tag.client:
            self.admitter.step_rows[tag.client, tag.channel] = ChannelRow(tag.seq, chunk, result)
        out.append(Commit(chunk, update.version, tag, result))
        answer_all(flight.waiters, result, out)
        if lane.fill_version:
            self._end_fill(lane, Code.OK, out)  # the successor has just acknowledged something newer
        if not lane.queue:
            del self.lanes[chunk]
            return
        meta = None
        if update.kind is not UpdateKind.REMOVE:
            meta = ChunkMeta(update.version, 0, update.chain_version, flight.length, flight.checksum)
        self._begin_next(now, chunk, lane, meta, out)

    def _row_tag(self, tag: Tag) -> Tag:
        """The tag to set the channel row with: none when the client has gone on to a newer update, which the row must keep."""
        if tag.client:
            row = self.admitter.find_channel_row(tag)
            if row is not None and row.seq > tag.seq:
                return UNTAGGED
        return tag

    def _halt(self, lane: Lane, message: str, out: list[Effect]) -> None:
        """The replicas have different bytes: nobody may see this version before the chain has changed."""
        flight = lane.flight
        flight.phase = FlightPhase.HALTED
        flight.retry_ns = NEVER
        flight.has_data = False
        result = UpdateResult(Code.REPLICAS_DISAGREE, message=message)
        answer_all(flight.waiters, result, out)
        if lane.fill_version:
            self._end_fill(lane, result.code, out, message)
        for entry in lane.take_queue():
            answer_all(entry.waiters, result, out)

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

    def _on_drop_done(self, now: int, event: DropDone, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is FlightPhase.DROPPING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        refusal = self._not_serving() if flight.abandoned else UpdateResult(flight.refusal, message=flight.why)
        if not flight.abandoned:
            self._refuse_copies(lane)
        answer_all(flight.waiters, refusal, out)
        self._give_up(now, lane, out)

    def _refuse_copies(self, lane: Lane) -> None:
        """Nothing of the flight is left here, and its number may be given to another update: no copy of its last sending may be
        taken. If something waits, that has a higher serial, and copies of earlier sendings are late anyway."""
        if not lane.queue:
            self.admitter.duplicates.expire_latest(lane.flight.update.chunk)

    def _give_up(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """A flight ends without commit. Whatever is pending in the store stays there."""
        chunk = lane.flight.update.chunk
        meta = self.view.get(chunk)
        if meta is not None and meta.pending:
            self.orphans[chunk] = None
        self._begin_next(now, chunk, lane, meta, out)
        if self.orphans:
            self._resume_orphans(now, out)

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

    def _resume_orphans(self, now: int, out: list[Effect]) -> None:
        """Pending versions without a flight go on, in whoever serves or syncs. A restarted tail may commit them: everybody
        upstream has them.

        A target that syncs goes on with what it has staged under this very chain version. What is pending from an earlier one may
        never have been acknowledged, and nobody will ask for it any more: it is dropped, and until that is durable the target
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

    def _not_serving(self) -> UpdateResult:
        return UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain")

    def _arm(self, due: int) -> None:
        if due < self._due_ns:
            self._due_ns = due

    # --- fills of a resync -------------------------------------------------------------------------------------------

    def _on_fill_requested(self, now: int, event: FillRequested, out: list[Effect]) -> None:
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
                self._end_fill(lane, Code.REPLICAS_DISAGREE, out)
        elif len(self.lanes) >= self.limits.flights_max:
            out.append(FillDone(chunk, at.version, Code.BUSY))
        else:
            lane = Lane(make_fill_flight(chunk, at.chain, at.version, self.view.get(chunk)), fill_version=at.version)
            self.begin(now, lane, out)

    def _on_fill_acked(self, now: int, lane: Lane, result: UpdateResult, out: list[Effect]) -> None:
        """The successor has it, or not: whoever asked will ask again."""
        flight = lane.flight
        message = self._compare(flight, result) if result.code is Code.OK else result.message
        code = Code.REPLICAS_DISAGREE if result.code is Code.OK and message else result.code
        self._end_fill(lane, code, out, message)
        chunk = flight.update.chunk
        self._begin_next(now, chunk, lane, self.view.get(chunk), out)

    def _end_fill(self, lane: Lane, code: Code, out: list[Effect], message: str = "") -> None:
        flight = lane.flight
        done = flight.is_fill and code is Code.OK
        removed = done and flight.update.kind is UpdateKind.REMOVE
        length = flight.length if done else 0
        out.append(FillDone(flight.update.chunk, lane.fill_version, code, length, done and not removed, removed, message))
        lane.fill_version = 0


def answer_all(waiters: list[int], result: UpdateResult, out: list[Effect]) -> None:
    """Everybody who asked gets the same answer, once."""
    out += [AnswerUpdate(token, result) for token in waiters]
    waiters.clear()
