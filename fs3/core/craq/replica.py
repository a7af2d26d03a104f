"""The replica of one target on one chain: a machine that is told what happened and answers what to do.

    client → head → … → tail       Stage, then Forward, at each; the tail commits what it has staged
             head ← … ← tail       Acked, then Commit and Reply, at each

What keeps it right, beside the admission table:

- A target forwards only what it has staged durably, so whatever a target has, all targets upstream have.
- "No successor" and "I am the last of the live chain" are different facts. A target that left the live chain commits nothing.
- Whatever is under way is sent again when the chain version changes, and only the answer to the latest sending counts. So an
  answer that counts was given to a sending under the chain version this target has now.
- A pending version is never taken back: it may be staged further down, and a late duplicate would bring it to life again under
  a number that has been given to another update. It is sent again until it is committed or the chain changes.
- A tag is looked up where an update is numbered. Everybody else follows its predecessor.

The order in which serving targets stand in the chain never changes but by targets leaving it (and coming back at its end): what
a target has staged is then also staged at every target before it. The manager keeps that.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission import UNTAGGED, Action, LaneState, Place, Row
from fs3.core.craq.effects import Commit, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, ChainChanged, Event, Opened, Staged, UpdateReceived
from fs3.core.craq.flight import NEVER, Flight, Phase, resumed
from fs3.core.craq.judge import Judge
from fs3.core.craq.lanes import DEFAULT_LIMITS, Lane, ReplicaLimits, Waiting
from fs3.core.craq.sendings import Sendings
from fs3.core.craq.standing import Standing, standing_in
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult


class Replica:
    """One target's replication. Not thread-safe; nothing in it waits.

    The effects of a step are carried out before the next step, at least as far as the store's view shows them: `Commit`.
    """

    def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits = DEFAULT_LIMITS) -> None:
        """`incarnation` rises with every replica that is made for this target, also over restarts: successors drop what has
        lower serials than they have heard."""
        self.target_id = target_id
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
        self._due_ns = NEVER

    # --- the shell's side --------------------------------------------------------------------------------------------

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        """What follows from an event. Raises AssertionError when the shell breaks the rules of events.py."""
        out: list[Effect] = []
        self.judge.just.clear()
        if isinstance(event, UpdateReceived):
            self._received(now_ns, event, out)
        elif isinstance(event, Staged):
            self._staged(now_ns, event, out)
        elif isinstance(event, Acked):
            self._acked(now_ns, event, out)
        elif isinstance(event, ChainChanged):
            self._chain_changed(now_ns, event.chain, out)
        elif isinstance(event, Opened):
            self._opened(now_ns, event, out)
        else:
            self._tick(now_ns, out)
        return out

    def next_deadline(self) -> int | None:
        """When a Tick is due, at the latest; None while nothing is under way."""
        return self._due_ns if self.lanes and self._due_ns < NEVER else None

    @property
    def readable_chain(self) -> Chain | None:
        """The chain under which reads may be served. None before the store's pending versions were looked at: a restarted tail
        may have lost the commit of a version that clients have read already."""
        return self.chain if self.opened else None

    def check(self) -> None:
        """Cheap invariants, after every batch; `invariants.check` has them all."""
        who = f"target {self.target_id}"
        assert len(self.sendings) <= len(self.lanes), f"{who} waits for more answers than it has flights"
        assert self.standing.successor or not self.sendings, f"{who} waits for answers, but nobody is behind it"
        assert self.standing.place is not Place.OUT or not self.standing.is_last, f"{who} is out and yet the last"

    def describe(self) -> str:
        """One line: neighbours, place, chain version, flights."""
        at = self.standing
        neighbours = f"{at.predecessor or '·'}→{self.target_id}→{at.successor or '·'}"
        state = at.place.name.lower() if self.opened else "closed"
        orphans = f" orphans {len(self.orphans)}" if self.orphans else ""
        flights = " ".join(lane.describe() for lane in islice(self.lanes.values(), 8))
        return f"{neighbours} {state} v{at.version} flights {len(self.lanes)}{orphans} {flights}".rstrip()

    # --- updates arrive ----------------------------------------------------------------------------------------------

    def _received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        update = event.update
        lane = self.lanes.get(update.chunk)
        if lane is None:
            meta = self.view.get(update.chunk)
            state = LaneState.FREE if len(self.lanes) < self.limits.flights_max else LaneState.FULL
            row = self.judge.row(update, state, meta)
            flight = self._act(now, row, update, [event.token], meta, out)
            if flight is not None:
                self._take_off(now, Lane(flight), out)
            return
        row = self.judge.row(update, lane.state(update, self.limits.lane_waiting_max, self.limits.askers_max), None)
        if row.action is Action.WAIT:
            expires = now + self.limits.flight_deadline_ns
            lane.wait(Waiting(update, [event.token], expires))
            self._arm(expires)
        elif row.action is Action.ATTACH:
            same = lane.find(update)
            assert same is not None
            if isinstance(same, Waiting):
                same.update = update  # the newer sending: the older would be late when its turn comes
            elif not same.askers:
                same.expires_ns = now + self.limits.flight_deadline_ns
            same.askers.append(event.token)
            self._arm(lane.due_ns)
        else:
            self._act(now, row, update, [event.token], None, out)

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
        _answer(askers, self.judge.answer(row, update, meta), out)
        return None

    # --- a flight ----------------------------------------------------------------------------------------------------

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
            _answer(flight.askers, refusal, out)
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
        flight = lane.flight
        update = flight.update
        at = self.standing
        serial, floor = self.sendings.send(instead_of=flight.serial)
        flight.serial = serial
        flight.phase = Phase.FORWARDING
        flight.retry_ns = now + self.limits.timeout_ns(flight.attempts)
        flight.attempts += 1
        self._arm(flight.due_ns)
        if update.kind is not UpdateKind.REMOVE and (at.successor_syncs or not flight.has_data):
            whole = flight.length
            update = msgspec.structs.replace(
                update, kind=UpdateKind.FILL, offset=0, length=whole, checksums=(), reserve=0, data=None
            )
        sending = msgspec.structs.replace(
            update, chain_version=at.version, from_target=self.target_id, serial=serial, floor=floor
        )
        out.append(Forward(at.successor, sending, serial))

    def _acked(self, now: int, event: Acked, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        if lane is None or not self._counts(lane.flight, event):
            return  # the answer to a sending that nobody waits for any more
        flight = lane.flight
        self.sendings.over(flight.serial)
        flight.serial = 0
        result = event.result
        if result.code is Code.OK:
            disagreement = self._compare(flight, result)
            if disagreement:
                self._halt(lane, disagreement, out)
            else:
                self._commit(now, lane, out)
        elif result.code is Code.REPLICAS_DISAGREE:
            self._halt(lane, result.message, out)
        else:
            flight.phase = Phase.RESTING
            flight.retry_ns = now + self.limits.backoff_ns(flight.attempts)
            flight.refusal = result.code
            if result.code is Code.STALE_UPDATE:
                self.sendings.leap()
            if result.code is Code.NO_SPACE:
                # Said at once, though the pending version stays and will be committed when there is room again.
                _answer(flight.askers, UpdateResult(result.code, message=result.message), out)
                flight.has_data = False
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
        _answer(flight.askers, result, out)
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

    def _give_up(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """A flight ends without commit. Whatever is pending in the store stays there."""
        chunk = lane.flight.update.chunk
        meta = self.view.get(chunk)
        if meta is not None and meta.pending:
            self.orphans[chunk] = None
        self._next(now, chunk, lane, meta, out)
        if self.orphans and self.standing.serves:
            self._settle(now, out)

    def _next(self, now: int, chunk: ChunkId, lane: Lane, meta: ChunkMeta | None, out: list[Effect]) -> None:
        """The flight is over: begin the first of those that wait and can begin. `meta` is what the chunk is by now."""
        del self.lanes[chunk]
        while lane.waiting:
            entry = lane.waiting.popleft()
            row = self.judge.row(entry.update, LaneState.FREE, meta)
            flight = self._act(now, row, entry.update, entry.askers, meta, out)
            if flight is not None:
                lane.flight = flight
                self._take_off(now, lane, out)
                return

    def _halt(self, lane: Lane, message: str, out: list[Effect]) -> None:
        """The replicas have different bytes: nobody may see this version before the chain has changed."""
        flight = lane.flight
        flight.phase = Phase.HALTED
        flight.retry_ns = NEVER
        flight.has_data = False
        result = UpdateResult(Code.REPLICAS_DISAGREE, message=message)
        _answer(flight.askers, result, out)
        for entry in lane.take_waiting():
            _answer(entry.askers, result, out)

    # --- time --------------------------------------------------------------------------------------------------------

    def _arm(self, due: int) -> None:
        if due < self._due_ns:
            self._due_ns = due

    def _tick(self, now: int, out: list[Effect]) -> None:
        """Look through all lanes: rare, since flights end long before their deadline unless something is wrong."""
        if now < self._due_ns:
            return
        self._due_ns = NEVER
        for lane in list(self.lanes.values()):
            if lane.due_ns <= now:
                self._overdue(now, lane, out)
            self._arm(lane.due_ns)

    def _overdue(self, now: int, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        who = f"target {self.target_id}: chunk {flight.update.chunk.hex()}"
        while lane.waiting and lane.waiting[0].expires_ns <= now:
            _answer(lane.waiting.popleft().askers, UpdateResult(Code.BUSY, message=f"{who}: the update before is not done"), out)
        if flight.phase is Phase.STAGING:
            return
        if flight.askers and flight.expires_ns <= now:
            said = f", which says {flight.refusal.name}" if flight.refusal else ""
            message = f"{who}: waits for target {self.standing.successor}{said}"
            _answer(flight.askers, UpdateResult(Code.DEADLINE, message=message), out)
            flight.has_data = False
        if flight.retry_ns <= now:
            self._forward(now, lane, out)

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _opened(self, now: int, event: Opened, out: list[Effect]) -> None:
        assert not self.opened, f"target {self.target_id}: Opened came twice"
        self.opened = True
        self.orphans.update(dict.fromkeys(event.pending))
        self._take_place()
        if self.standing.serves:
            self._settle(now, out)

    def _chain_changed(self, now: int, chain: Chain | None, out: list[Effect]) -> None:
        if chain is not None and chain.id == self.standing.chain and chain.version <= self.standing.version:
            return  # routing may come in any order
        self.chain = chain
        self._take_place()
        if self.standing.serves:
            self._send_again(now, out)
            self._settle(now, out)
        else:
            # Also who syncs: it is sent everything again, and it may have missed a version in which it was out.
            self._leave(out)

    def _take_place(self) -> None:
        """Find place and neighbours in the chain. Before the store is open this target is OUT, whatever the chain says."""
        before = Standing(self.standing.chain, self.standing.version)
        self.standing = before if self.chain is None else standing_in(self.chain, self.target_id, takes_part=self.opened)
        self.judge.stand(self.standing)

    def _gone(self) -> UpdateResult:
        return UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain")

    def _leave(self, out: list[Effect]) -> None:
        """Nothing under way here decides anything any more. What is staged stays staged."""
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_waiting():
                _answer(entry.askers, self._gone(), out)
            if lane.flight.phase is Phase.STAGING:
                lane.flight.abandoned = True  # answered once the store has let go of the data
            else:
                _answer(lane.flight.askers, self._gone(), out)
                self.orphans[chunk] = None
                del self.lanes[chunk]
        self.sendings.clear()

    def _send_again(self, now: int, out: list[Effect]) -> None:
        """Serving under a new chain version: what waits for a successor is sent to the present one, or committed."""
        message = f"target {self.target_id}: the chain version is {self.standing.version} now"
        for lane in list(self.lanes.values()):
            for entry in lane.take_waiting():
                _answer(entry.askers, UpdateResult(Code.WRONG_CHAIN_VERSION, message=message), out)
            flight = lane.flight
            flight.abandoned = False
            if flight.phase is not Phase.STAGING:
                self.sendings.over(flight.serial)
                flight.serial = 0
                flight.attempts = 0
                self._staged_here(now, lane, out)

    def _settle(self, now: int, out: list[Effect]) -> None:
        """Serving: pending versions without a flight go on. A restarted tail may commit them: everybody upstream has them."""
        for chunk in [chunk for chunk in self.orphans if chunk not in self.lanes]:
            del self.orphans[chunk]
            meta = self.view.get(chunk)
            if meta is not None and meta.pending:
                template = Update(chunk, UpdateKind.FILL, self.standing.chain, self.standing.version, 0, 0, 0, UNTAGGED)
                self._take_off(now, Lane(resumed(template, meta, [], NEVER)), out)


def _answer(askers: list[int], result: UpdateResult, out: list[Effect]) -> None:
    """Everybody who asked gets the same answer, once."""
    out += [Reply(token, result) for token in askers]
    askers.clear()
