"""The life of a flight: staged here, forwarded, acknowledged, committed; or given up, or dropped, or a fill of the successor.

The half of `Replica` that is about updates under way. The other half, `replica`, is about what arrives: updates, chain versions,
time. What keeps both right is written there.

Three ends of a flight that is not committed:

- The store refuses to stage it: nothing is left of it, and its askers are told why.
- The successor answers NO_SPACE. It has nothing pending for this version then, whatever was sent before: had an earlier sending
  been staged there, it would have gone on with that; and whatever copy of a sending is still under way to it, it drops as late
  (`Heard.refuse`). Nobody further down can have what the successor has not. So the pending version is dropped here, durably,
  before NO_SPACE goes upstream, where the same follows; the head tells the client, for whom nothing has happened. The number is
  free again. A *syncing* successor without room is no reason to refuse anything: it reports itself OFFLINE and the chain goes on
  without it.
- This target leaves the live chain: nothing here decides anything any more, and what is pending stays pending, until it serves
  again (all were lost and it restarts the chain) or comes back to be brought up to date (`_settle`).
"""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission import UNTAGGED, Action, LaneState, Place, Row
from fs3.core.craq.completeness import Completeness
from fs3.core.craq.effects import Commit, DropPending, Effect, Filled, Forward, Reply, Stage
from fs3.core.craq.events import Acked, Dropped, FillAsked, Staged
from fs3.core.craq.flight import NEVER, Flight, Phase, fill_of, resumed
from fs3.core.craq.judge import Judge
from fs3.core.craq.lanes import DEFAULT_LIMITS, Lane, ReplicaLimits
from fs3.core.craq.sendings import Sendings
from fs3.core.craq.standing import Standing
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult


class Flying:
    """State of a replica, and what happens to its flights."""

    def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits = DEFAULT_LIMITS) -> None:
        """`incarnation` rises with every replica that is made for this target, also over restarts and exchanges of its disk:
        successors drop what has lower serials than they have heard, and a resync begins anew when it changes."""
        self.target_id = target_id
        self.incarnation = incarnation
        self.limits = limits
        self.view = view
        self.chain: Chain | None = None
        self.standing = Standing()
        self.opened = False
        self.lanes: dict[ChunkId, Lane] = {}
        self.orphans: dict[ChunkId, None] = {}
        """Chunks with a pending version and no flight: found when the store was opened, or left behind with the live chain."""
        self.sendings = Sendings(incarnation)
        self.judge = Judge(target_id, view)
        self.completeness = Completeness(target_id, incarnation)
        self._due_ns = NEVER

    def _act(
        self, now: int, row: Row, update: Update, askers: list[int], meta: ChunkMeta | None, out: list[Effect]
    ) -> Flight | None:
        """Answer the askers, or return the flight that begins."""
        action = row.action
        expires = now + self.limits.flight_deadline_ns
        if action is Action.ADMIT:
            version = meta.committed + 1 if meta is not None else 1
            return Flight(msgspec.structs.replace(update, version=version), Phase.STAGING, askers, expires)
        if action is Action.STAGE or action is Action.REPLACE_PENDING:
            return Flight(update, Phase.STAGING, askers, expires)
        if action is Action.ALREADY_PENDING:
            assert meta is not None
            return resumed(update, meta, askers, expires)
        answer_all(askers, self.judge.answer(row, update, meta), out)
        return None

    # --- forward -----------------------------------------------------------------------------------------------------

    def _take_off(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """The lane's flight begins."""
        flight = lane.flight
        self.lanes[flight.update.chunk] = lane
        if self.orphans:
            self.orphans.pop(flight.update.chunk, None)
        if flight.phase is Phase.STAGING:
            out.append(Stage(flight.update))
        else:
            self._staged_here(now, lane, out)

    def _staged(self, now: int, event: Staged, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is Phase.STAGING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        assert flight.update.version == event.version, f"target {self.target_id}: {event} for version {flight.update.version}"
        if event.code is not Code.OK or flight.abandoned:
            refusal = UpdateResult(event.code, message=event.message) if event.code is not Code.OK else self._gone()
            if event.code is Code.NO_SPACE:
                self._refuse_copies(lane)
            answer_all(flight.askers, refusal, out)
            self._give_up(now, lane, out)
            return
        flight.length = event.length
        flight.checksum = event.checksum
        self._staged_here(now, lane, out)

    def _staged_here(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """What a flight does once it is durable here."""
        if self.standing.is_last:
            self._commit(now, lane, out)
        else:
            self._forward(now, lane, out)

    def _forward(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """Send it to the successor: as it came, while its bytes are in memory. A successor that syncs takes that when it has the
        version before under this chain version; when it says that it has not, it is sent the whole chunk."""
        flight = lane.flight
        update = flight.update
        at = self.standing
        serial, floor = self.sendings.send(instead_of=flight.serial)
        flight.serial = serial
        flight.phase = Phase.FORWARDING
        flight.retry_ns = now + self.limits.timeout_ns(flight.attempts)
        flight.attempts += 1
        self._arm(flight.due_ns)
        if update.kind is not UpdateKind.REMOVE and (flight.whole or not flight.has_data):
            whole = flight.length
            update = msgspec.structs.replace(
                update, kind=UpdateKind.FILL, offset=0, length=whole, checksums=(), reserve=0, data=None
            )
        sending = msgspec.structs.replace(
            update, chain_version=at.version, from_target=self.target_id, serial=serial, floor=floor
        )
        out.append(Forward(at.successor, sending, serial, committed=flight.is_fill and update.kind is UpdateKind.FILL))

    # --- back --------------------------------------------------------------------------------------------------------

    def _acked(self, now: int, event: Acked, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        if lane is None or not self._counts(lane.flight, event):
            return  # the answer to a sending that nobody waits for any more
        flight = lane.flight
        self.sendings.over(flight.serial)
        flight.serial = 0
        result = event.result
        if result.code is Code.STALE_UPDATE:
            self.sendings.leap()
        if flight.is_fill:
            self._fill_acked(now, lane, result, out)
        elif result.code is Code.OK:
            disagreement = self._compare(flight, result)
            if disagreement:
                self._halt(lane, disagreement, out)
            else:
                self._commit(now, lane, out)
        elif result.code is Code.REPLICAS_DISAGREE:
            self._halt(lane, result.message, out)
        elif result.code is Code.MISSING_UPDATE and self.standing.successor_syncs and not flight.whole:
            flight.whole = True
            self._forward(now, lane, out)
        elif result.code is Code.NO_SPACE and not self.standing.successor_syncs:
            self._drop(lane, result, out)
        else:
            flight.phase = Phase.RESTING
            flight.retry_ns = now + self.limits.backoff_ns(flight.attempts)
            flight.refusal = result.code
            self._arm(flight.due_ns)

    def _counts(self, flight: Flight, event: Acked) -> bool:
        """The answer is to the sending the flight waits for."""
        return flight.phase is Phase.FORWARDING and flight.serial == event.attempt

    def _compare(self, flight: Flight, result: UpdateResult) -> str:
        """How the successor's chunk differs from this one's; "" when it does not."""
        difference = flight.difference(result)
        if not difference:
            return ""
        return f"chunk {flight.update.chunk.hex()}: target {self.target_id} and target {self.standing.successor}: {difference}"

    def _commit(self, now: int, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        update = flight.update
        chunk = update.chunk
        result = UpdateResult(Code.OK, update.version, flight.length, flight.checksum)
        tag = self._row_tag(update.tag)
        if tag.client:
            self.judge.just[tag.client, tag.channel] = ChannelRow(tag.seq, chunk, result)
        out.append(Commit(chunk, update.version, tag, result))
        answer_all(flight.askers, result, out)
        if lane.fill_version:
            self._end_fill(lane, Code.OK, out)  # the successor has just acknowledged something newer
        if not lane.waiting:
            del self.lanes[chunk]
            return
        meta = None
        if update.kind is not UpdateKind.REMOVE:
            meta = ChunkMeta(update.version, 0, update.chain_version, flight.length, flight.checksum)
        self._next(now, chunk, lane, meta, out)

    def _row_tag(self, tag: Tag) -> Tag:
        """The tag to set the channel row with: none when the client has gone on to a newer update, which the row must keep."""
        if tag.client:
            row = self.judge.channel(tag)
            if row is not None and row.seq > tag.seq:
                return UNTAGGED
        return tag

    def _halt(self, lane: Lane, message: str, out: list[Effect]) -> None:
        """The replicas have different bytes: nobody may see this version before the chain has changed."""
        flight = lane.flight
        flight.phase = Phase.HALTED
        flight.retry_ns = NEVER
        flight.has_data = False
        result = UpdateResult(Code.REPLICAS_DISAGREE, message=message)
        answer_all(flight.askers, result, out)
        if lane.fill_version:
            self._end_fill(lane, result.code, out, message)
        for entry in lane.take_waiting():
            answer_all(entry.askers, result, out)

    # --- other ends --------------------------------------------------------------------------------------------------

    def _drop(self, lane: Lane, result: UpdateResult, out: list[Effect]) -> None:
        """The successor has no room for it, and so has nothing of it: take it back."""
        flight = lane.flight
        flight.phase = Phase.DROPPING
        flight.retry_ns = NEVER
        flight.has_data = False
        flight.refusal = result.code
        flight.why = result.message
        out.append(DropPending(flight.update.chunk, flight.update.version))

    def _dropped(self, now: int, event: Dropped, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        assert lane is not None, f"target {self.target_id}: {event} without a flight"
        flight = lane.flight
        assert flight.phase is Phase.DROPPING, f"target {self.target_id}: {event} in phase {flight.phase.name}"
        refusal = self._gone() if flight.abandoned else UpdateResult(flight.refusal, message=flight.why)
        if not flight.abandoned:
            self._refuse_copies(lane)
        answer_all(flight.askers, refusal, out)
        self._give_up(now, lane, out)

    def _refuse_copies(self, lane: Lane) -> None:
        """Nothing of the flight is left here, and its number may be given to another update: no copy of its last sending may be
        taken. If something waits, that has a higher serial, and copies of earlier sendings are late anyway."""
        if not lane.waiting:
            self.judge.heard.refuse(lane.flight.update.chunk)

    def _give_up(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """A flight ends without commit. Whatever is pending in the store stays there."""
        chunk = lane.flight.update.chunk
        meta = self.view.get(chunk)
        if meta is not None and meta.pending:
            self.orphans[chunk] = None
        self._next(now, chunk, lane, meta, out)
        if self.orphans:
            self._settle(now, out)

    def _next(self, now: int, chunk: ChunkId, lane: Lane, meta: ChunkMeta | None, out: list[Effect]) -> None:
        """The flight is over: begin the first of those that wait and can begin. `meta` is what the chunk is by now."""
        del self.lanes[chunk]
        if lane.fill_version:
            lane.flight = fill_of(chunk, self.standing.chain, self.standing.version, meta)
            self._take_off(now, lane, out)
            return
        while lane.waiting:
            entry = lane.waiting.popleft()
            row = self.judge.row(entry.update, LaneState.FREE, meta)
            flight = self._act(now, row, entry.update, entry.askers, meta, out)
            if flight is not None:
                lane.flight = flight
                self._take_off(now, lane, out)
                return

    def _settle(self, now: int, out: list[Effect]) -> None:
        """Pending versions without a flight go on, in whoever serves or syncs. A restarted tail may commit them: everybody
        upstream has them.

        A target that syncs goes on with what it has staged under this very chain version. What is pending from an earlier one may
        never have been acknowledged, and nobody will ask for it any more: it is dropped, and until that is durable the target
        answers no question of a resync (`Replica.resync_fence`), so it cannot come to serve with it.
        """
        at = self.standing
        if at.place is Place.OUT:
            return
        for chunk in [chunk for chunk in self.orphans if chunk not in self.lanes]:
            del self.orphans[chunk]
            meta = self.view.get(chunk)
            if meta is None or not meta.pending:
                continue
            template = Update(chunk, UpdateKind.FILL, at.chain, at.version, 0, 0, 0, UNTAGGED)
            lane = Lane(resumed(template, meta, [], NEVER))
            if at.serves or meta.chain_version == at.version:
                self._take_off(now, lane, out)
            else:
                self._drop_leftover(lane, out)

    def _drop_leftover(self, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        flight.phase = Phase.DROPPING
        flight.abandoned = True
        self.lanes[flight.update.chunk] = lane
        out.append(DropPending(flight.update.chunk, flight.update.version))

    def _gone(self) -> UpdateResult:
        return UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain")

    def _arm(self, due: int) -> None:
        if due < self._due_ns:
            self._due_ns = due

    # --- fills of a resync -------------------------------------------------------------------------------------------

    def _fill_asked(self, now: int, event: FillAsked, out: list[Effect]) -> None:
        """The chunk's lane comes first: what is under way in it brings the successor up to date by itself, if it gets through."""
        at = self.standing
        chunk = event.chunk
        lane = self.lanes.get(chunk)
        if event.chain_version != at.version or not at.serves or not at.successor_syncs:
            out.append(Filled(chunk, event.chain_version, Code.WRONG_CHAIN_VERSION))
        elif lane is not None:
            assert not lane.fill_version, f"target {self.target_id}: a second fill of chunk {chunk.hex()}"
            lane.fill_version = at.version
            if lane.flight.phase is Phase.HALTED:
                self._end_fill(lane, Code.REPLICAS_DISAGREE, out)
        elif len(self.lanes) >= self.limits.flights_max:
            out.append(Filled(chunk, at.version, Code.BUSY))
        else:
            lane = Lane(fill_of(chunk, at.chain, at.version, self.view.get(chunk)), fill_version=at.version)
            self._take_off(now, lane, out)

    def _fill_acked(self, now: int, lane: Lane, result: UpdateResult, out: list[Effect]) -> None:
        """The successor has it, or not: whoever asked will ask again."""
        flight = lane.flight
        message = self._compare(flight, result) if result.code is Code.OK else result.message
        code = Code.REPLICAS_DISAGREE if result.code is Code.OK and message else result.code
        self._end_fill(lane, code, out, message)
        chunk = flight.update.chunk
        self._next(now, chunk, lane, self.view.get(chunk), out)

    def _end_fill(self, lane: Lane, code: Code, out: list[Effect], message: str = "") -> None:
        flight = lane.flight
        done = flight.is_fill and code is Code.OK
        removed = done and flight.update.kind is UpdateKind.REMOVE
        length = flight.length if done else 0
        out.append(Filled(flight.update.chunk, lane.fill_version, code, length, done and not removed, removed, message))
        lane.fill_version = 0


def answer_all(askers: list[int], result: UpdateResult, out: list[Effect]) -> None:
    """Everybody who asked gets the same answer, once."""
    out += [Reply(token, result) for token in askers]
    askers.clear()
