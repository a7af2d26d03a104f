"""The replica of one target on one chain: a machine that is told what happened and answers what to do.

    client → head → … → tail       Stage, then Forward, at each; the tail commits what it has staged
             head ← … ← tail       Acked, then Commit and Reply, at each

What keeps it right, beside the admission table:

- A target forwards only what it has staged durably, so whatever a target has, all targets upstream have.
- "No successor" and "I am the last of the live chain" are different facts. A target that left the live chain commits nothing.
- Whatever is under way is sent again when the chain version changes, and only the answer to the latest sending counts. So an
  answer that counts was given under the chain version this target has now.
- A pending version is never taken back: it may be staged further down, and a late duplicate would bring it to life again under
  a number that has been given to another update. It is sent again until it is committed or the chain changes.
- A tag is looked up where an update is numbered. Everybody else follows its predecessor.

The order in which serving targets stand in the chain never changes but by targets leaving it (and coming back at its end): what
a target has staged is then also staged at every target that ever was before it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from fs3.base import limits
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission import (
    UNTAGGED,
    Action,
    Fence,
    Form,
    LaneState,
    Place,
    Row,
    Seen,
    Sender,
    Shortcut,
    Step,
    client_step,
    forwarded_step,
    malformed,
    pack,
    row_for,
    seen_of,
    shortcut_of,
)
from fs3.core.craq.effects import Commit, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, ChainChanged, Event, Opened, Staged, UpdateReceived
from fs3.core.craq.flight import NEVER, Flight, Phase, resumed
from fs3.core.craq.lanes import Lane, Waiting
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain, PublicState
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult

SERIAL_BITS = 40
"""Serials of one incarnation; the incarnation is above them, so serials rise over restarts. 2**23 restarts fit."""


@dataclass(frozen=True)
class ReplicaLimits:
    """Limits and times of one replica; see `fs3.base.limits`."""

    lane_waiting_max: int = limits.lane_waiting_max
    flights_max: int = limits.flights_per_target_max
    askers_max: int = limits.askers_per_flight_max
    flight_deadline_ns: int = limits.flight_deadline_ns
    forward_timeout_min_ns: int = limits.forward_timeout_min_ns
    forward_timeout_max_ns: int = limits.forward_timeout_max_ns
    forward_backoff_min_ns: int = limits.forward_backoff_min_ns
    forward_backoff_max_ns: int = limits.forward_backoff_max_ns


DEFAULT_LIMITS = ReplicaLimits()
_SERVING = (Place.HEAD, Place.BODY)


class Replica:
    """One target's replication. Not thread-safe; nothing in it waits.

    The effects of a step are to be carried out before the next step, at least as far as the store's view shows them: `Commit`.
    """

    def __init__(
        self, target_id: TargetId, view: ChunkView, *, incarnation: int = 1, limits: ReplicaLimits = DEFAULT_LIMITS
    ) -> None:
        """`incarnation` rises with every replica that is made for this target, also over restarts."""
        self.target_id = target_id
        self.limits = limits
        self.view = view
        self.chain: Chain | None = None
        self.opened = False
        self.lanes: dict[ChunkId, Lane] = {}
        self.orphans: dict[ChunkId, None] = {}
        """Chunks with a pending version and no flight: found when the store was opened, or left behind with the live chain."""
        self.place = Place.OUT
        self.predecessor = TargetId(0)
        self.successor = TargetId(0)
        self.successor_syncs = False
        self.is_last = False
        """Of the live chain: what is staged here is staged everywhere."""
        self._chain_id = ChainId(0)
        self._version = 0
        self._serial = (incarnation << SERIAL_BITS) + 1
        self._waited_for: set[int] = set()
        self._sent: deque[int] = deque()
        self._heard_floor = 0
        self._due_ns = NEVER
        self._just: dict[tuple[ClientId, int], ChannelRow] = {}

    # --- the shell's side --------------------------------------------------------------------------------------------

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        """What follows from an event. Raises AssertionError when the shell breaks the rules of events.py."""
        out: list[Effect] = []
        if isinstance(event, UpdateReceived):
            self._received(now_ns, event, out)
        elif isinstance(event, Staged):
            self._staged(now_ns, event, out)
        elif isinstance(event, Acked):
            self._acked(now_ns, event, out)
        elif isinstance(event, ChainChanged):
            self._chain_changed(now_ns, event.chain, out)
        elif isinstance(event, Opened):
            assert not self.opened, "Opened came twice"
            self.opened = True
            self.orphans.update(dict.fromkeys(event.pending))
            self._take_place()
            if self.place in _SERVING:
                self._settle(now_ns, out)
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
        assert len(self._waited_for) <= len(self.lanes), f"{self.target_id}: waits for more answers than it has flights"
        assert self.place is not Place.OUT or not self._waited_for, f"{self.target_id}: waits for answers outside the live chain"
        assert not (self.is_last and self._waited_for), f"{self.target_id}: waits for answers, but nobody is behind it"
        assert not (self.is_last and self.successor), f"{self.target_id}: is last and has a successor"

    def describe(self) -> str:
        """One line: place, chain version, neighbours, flights."""
        flights = [
            f"{chunk.hex()[-6:]}@{lane.flight.update.version}:{lane.flight.phase.name.lower()}"
            + (f"#{lane.flight.attempts}" if lane.flight.attempts else "")
            + (f"+{len(lane.waiting)}" if lane.waiting else "")
            for chunk, lane in self.lanes.items()
        ]
        neighbours = f"{self.predecessor or '·'}→{self.target_id}→{self.successor or '·'}"
        state = self.place.name.lower() if self.opened else "closed"
        orphans = f" orphans {len(self.orphans)}" if self.orphans else ""
        return f"{neighbours} {state} v{self._version} flights {len(flights)}{orphans} {' '.join(flights[:8])}".rstrip()

    # --- updates -----------------------------------------------------------------------------------------------------

    def _received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        update = event.update
        lane = self.lanes.get(update.chunk)
        if lane is None:
            meta = self.view.get(update.chunk)
            state = LaneState.FREE if len(self.lanes) < self.limits.flights_max else LaneState.FULL
        else:
            meta = None
            state = lane.state(update, self.limits.lane_waiting_max, self.limits.askers_max)
        row = self._judge(update, state, meta)
        if row.action is Action.WAIT:
            assert lane is not None
            expires = now + self.limits.flight_deadline_ns
            lane.wait(Waiting(update, [event.token], expires))
            self._arm(expires)
        elif row.action is Action.ATTACH:
            assert lane is not None
            askers = lane.askers_of(update)
            assert askers is not None
            if not askers:
                lane.flight.expires_ns = now + self.limits.flight_deadline_ns
                self._arm(lane.flight.due_ns)
            askers.append(event.token)
        else:
            flight = self._act(now, row, update, [event.token], meta, out)
            if flight is not None:
                self._take_off(now, update.chunk, flight, out)

    def _judge(self, update: Update, state: LaneState, meta: ChunkMeta | None) -> Row:
        """The admission row of an update. `meta` counts only for a free lane."""
        fence = Fence.EQUAL if update.chain_version == self._version and update.chain == self._chain_id else Fence.OTHER
        seen = Seen.FRESH
        step = Step.NEXT
        shortcut = Shortcut.NONE
        sender = self._sender(update, fence)
        if sender is Sender.CLIENT:
            if update.tag.client:
                seen = seen_of(update, self._channel(update.tag))
            if state is LaneState.FREE:
                step = client_step(meta)
                shortcut = shortcut_of(update, meta)
        elif state is LaneState.FREE:
            row = self._channel(update.tag) if meta is None and update.tag.client else None
            step = forwarded_step(update, meta, row, self.place is Place.SYNCING)
        form = Form.BAD if malformed(update) else Form.GOOD
        return row_for(pack(form, self.place, fence, sender, seen, state, step, shortcut))

    def _sender(self, update: Update, fence: Fence) -> Sender:
        """Who sent it; notes how far the predecessor has gone on."""
        if not update.from_target:
            return Sender.CLIENT
        if update.from_target != self.predecessor:
            return Sender.STRANGER
        if fence is Fence.EQUAL:
            if update.serial < self._heard_floor:
                return Sender.LATE
            self._heard_floor = max(self._heard_floor, update.floor)
        return Sender.PREDECESSOR

    def _channel(self, tag: Tag) -> ChannelRow | None:
        """The channel row of a tag, with what a Commit of this very step sets and the view does not show yet."""
        if self._just:
            row = self._just.get((tag.client, tag.channel))
            if row is not None:
                return row
        return self.view.channel(tag.client, tag.channel)

    def _act(
        self, now: int, row: Row, update: Update, askers: list[int], meta: ChunkMeta | None, out: list[Effect]
    ) -> Flight | None:
        """Answer the askers, or return the flight that begins."""
        action = row.action
        if action is Action.ADMIT:
            version = meta.committed + 1 if meta is not None else 1
            update = msgspec.structs.replace(update, version=version)
            return Flight(update, Phase.STAGING, askers, now + self.limits.flight_deadline_ns)
        if action is Action.STAGE or action is Action.REPLACE_PENDING:
            return Flight(update, Phase.STAGING, askers, now + self.limits.flight_deadline_ns)
        if action is Action.ALREADY_PENDING:
            assert meta is not None
            flight = resumed(update, meta)
            flight.askers = askers
            flight.expires_ns = now + self.limits.flight_deadline_ns
            return flight
        if action is Action.REPEAT:
            remembered = self._channel(update.tag)
            assert remembered is not None
            result = remembered.result
        elif action is Action.ALREADY_COMMITTED:
            result = (
                UpdateResult(Code.OK, update.version, meta.length, meta.checksum)
                if meta
                else UpdateResult(Code.OK, update.version)
            )
        elif action is Action.EXISTS:
            assert meta is not None
            result = UpdateResult(Code.EXISTS, meta.committed, meta.length, meta.checksum)
        elif action is Action.NOTHING:
            result = UpdateResult(Code.OK)
        else:
            result = UpdateResult(row.code, message=self._refusal(row, update))
        self._answer(askers, result, out)
        return None

    def _refusal(self, row: Row, update: Update) -> str:
        who = f"target {self.target_id}"
        if row.code is Code.INVALID:
            return f"{who}: chunk {update.chunk.hex()}: {malformed(update) or row.why}"
        if row.code is Code.WRONG_CHAIN_VERSION:
            asked = f"chain {update.chain} version {update.chain_version}"
            return f"{who}: {asked} was asked for, it has chain {self._chain_id} version {self._version}"
        return f"{who}: {row.why}"

    def _take_off(self, now: int, chunk: ChunkId, flight: Flight, out: list[Effect]) -> None:
        """A flight begins in a free lane."""
        lane = self.lanes[chunk] = Lane(flight)
        if self.orphans:
            self.orphans.pop(chunk, None)
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
        if event.code is not Code.OK:
            self._answer(flight.askers, UpdateResult(event.code, message=event.message), out)
            self._drop(now, event.chunk, lane, out)
        elif flight.abandoned:
            self._answer(
                flight.askers, UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain"), out
            )
            self._drop(now, event.chunk, lane, out)
        else:
            flight.length = event.length
            flight.checksum = event.checksum
            self._staged_here(now, lane, out)

    def _staged_here(self, now: int, lane: Lane, out: list[Effect]) -> None:
        """What a flight does once it is durable here."""
        if self.is_last:
            self._commit(now, lane, out)
        else:
            self._forward(now, lane, out)

    def _forward(self, now: int, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        update = flight.update
        self._waited_for.discard(flight.serial)
        flight.serial = serial = self._serial
        self._serial += 1
        self._waited_for.add(serial)
        self._sent.append(serial)
        while self._sent[0] not in self._waited_for:
            self._sent.popleft()
        timeout = min(self.limits.forward_timeout_max_ns, self.limits.forward_timeout_min_ns << min(flight.attempts, 20))
        flight.attempts += 1
        flight.phase = Phase.FORWARDING
        flight.retry_ns = now + timeout
        self._arm(flight.due_ns)
        if update.kind is not UpdateKind.REMOVE and (self.successor_syncs or not flight.has_data):
            update = msgspec.structs.replace(
                update, kind=UpdateKind.FILL, offset=0, length=flight.length, checksums=(), reserve=0, data=None
            )
        sending = msgspec.structs.replace(
            update, chain_version=self._version, from_target=self.target_id, serial=serial, floor=self._sent[0]
        )
        out.append(Forward(self.successor, sending, serial))

    def _acked(self, now: int, event: Acked, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        if lane is None or not self._counts(lane.flight, event):
            return  # the answer to a sending that nobody waits for any more
        flight = lane.flight
        self._waited_for.discard(flight.serial)
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
            backoff = min(self.limits.forward_backoff_max_ns, self.limits.forward_backoff_min_ns << min(flight.attempts - 1, 20))
            flight.phase = Phase.RESTING
            flight.retry_ns = now + backoff
            flight.refusal = result.code
            if result.code is Code.NO_SPACE:
                # Said at once, though the pending version stays and may still be committed when there is room again.
                self._answer(flight.askers, UpdateResult(result.code, message=result.message), out)
                flight.has_data = False
            self._arm(flight.due_ns)

    def _counts(self, flight: Flight, event: Acked) -> bool:
        """The answer is to the sending the flight waits for."""
        return flight.phase is Phase.FORWARDING and flight.serial == event.attempt

    def _compare(self, flight: Flight, result: UpdateResult) -> str:
        """How the successor's chunk differs from this one's; "" when it does not."""
        update = flight.update
        if result.version != update.version:
            return f"chunk {update.chunk.hex()}: target {self.successor} answers version {result.version} for {update.version}"
        if update.kind is not UpdateKind.REMOVE and (result.checksum != flight.checksum or result.length != flight.length):
            return (
                f"chunk {update.chunk.hex()} version {update.version}: target {self.target_id} has {flight.length} bytes with "
                f"{flight.checksum:08x}, target {self.successor} {result.length} bytes with {result.checksum:08x}"
            )
        return ""

    def _commit(self, now: int, lane: Lane, out: list[Effect]) -> None:
        flight = lane.flight
        update = flight.update
        removed = update.kind is UpdateKind.REMOVE
        result = UpdateResult(Code.OK, update.version, flight.length, flight.checksum)
        tag = self._row_tag(update.tag)
        out.append(Commit(update.chunk, update.version, tag, result))
        self._answer(flight.askers, result, out)
        if lane.waiting:
            meta = None if removed else ChunkMeta(update.version, 0, update.chain_version, flight.length, flight.checksum)
            if tag.client:
                self._just[tag.client, tag.channel] = ChannelRow(tag.seq, update.chunk, result)
            self._next(now, update.chunk, lane, meta, out)
            self._just.clear()
        else:
            del self.lanes[update.chunk]

    def _row_tag(self, tag: Tag) -> Tag:
        """The tag to set the channel row with: none when the client has gone on to a newer update, which the row must keep."""
        if tag.client:
            row = self.view.channel(tag.client, tag.channel)
            if row is not None and row.seq > tag.seq:
                return UNTAGGED
        return tag

    def _drop(self, now: int, chunk: ChunkId, lane: Lane, out: list[Effect]) -> None:
        """A flight ends without commit. Whatever is pending in the store stays there."""
        meta = self.view.get(chunk)
        if meta is not None and meta.pending:
            self.orphans[chunk] = None
        self._next(now, chunk, lane, meta, out)
        if self.orphans and self.place in _SERVING:
            self._settle(now, out)

    def _next(self, now: int, chunk: ChunkId, lane: Lane, meta: ChunkMeta | None, out: list[Effect]) -> None:
        """The flight is over: begin the first of those that wait and can begin. `meta` is what the chunk is by now."""
        waiting = lane.waiting
        while waiting:
            entry = waiting.popleft()
            update = entry.update
            row = self._judge(update, LaneState.FREE, meta)
            flight = self._act(now, row, update, entry.askers, meta, out)
            if flight is not None:
                lane.flight = flight
                if flight.phase is Phase.STAGING:
                    out.append(Stage(flight.update))
                else:
                    self._staged_here(now, lane, out)
                return
        del self.lanes[chunk]

    def _halt(self, lane: Lane, message: str, out: list[Effect]) -> None:
        """The replicas have different bytes: nobody may see this version until the chain has changed."""
        flight = lane.flight
        flight.phase = Phase.HALTED
        flight.retry_ns = NEVER
        flight.has_data = False
        result = UpdateResult(Code.REPLICAS_DISAGREE, message=message)
        self._answer(flight.askers, result, out)
        for entry in lane.take_waiting():
            self._answer(entry.askers, result, out)

    def _answer(self, askers: list[int], result: UpdateResult, out: list[Effect]) -> None:
        out += [Reply(token, result) for token in askers]
        askers.clear()

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
        while lane.waiting and lane.waiting[0].expires_ns <= now:
            entry = lane.waiting.popleft()
            message = f"target {self.target_id}: chunk {entry.update.chunk.hex()}: the update before it is not done yet"
            self._answer(entry.askers, UpdateResult(Code.BUSY, message=message), out)
        flight = lane.flight
        if flight.phase is Phase.STAGING:
            return
        if flight.askers and flight.expires_ns <= now:
            said = f", which says {flight.refusal.name}" if flight.refusal else ""
            message = f"target {self.target_id}: chunk {flight.update.chunk.hex()}: waits for target {self.successor}{said}"
            self._answer(flight.askers, UpdateResult(Code.DEADLINE, message=message), out)
            flight.has_data = False
        if flight.retry_ns <= now:
            self._forward(now, lane, out)

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _chain_changed(self, now: int, chain: Chain | None, out: list[Effect]) -> None:
        if chain is not None and chain.id == self._chain_id and chain.version <= self._version:
            return  # routing may come in any order
        self.chain = chain
        if chain is not None:
            self._chain_id = chain.id
            self._version = chain.version
        self._take_place()
        if self.place not in _SERVING:
            # Who syncs is sent everything again; and it may have missed a version in which it was out.
            self._leave(out)
        else:
            self._send_again(now, out)
            self._settle(now, out)

    def _take_place(self) -> None:
        """Find place and neighbours in the chain."""
        chain = self.chain
        slot = chain.slot(self.target_id) if chain is not None and self.opened else None
        predecessor = successor = None
        self.place = Place.OUT
        if chain is not None and slot is not None and chain.is_live(self.target_id):
            predecessor = chain.predecessor(self.target_id)
            successor = chain.successor(self.target_id)
            if slot.state is PublicState.SYNCING:
                self.place = Place.SYNCING
            else:
                self.place = Place.HEAD if predecessor is None else Place.BODY
        before = predecessor.target if predecessor else TargetId(0)
        if before != self.predecessor:
            self._heard_floor = 0
        self.predecessor = before
        self.successor = successor.target if successor else TargetId(0)
        self.successor_syncs = successor is not None and successor.state is PublicState.SYNCING
        self.is_last = self.place is not Place.OUT and successor is None

    def _leave(self, out: list[Effect]) -> None:
        """Out of the live chain: nothing under way here decides anything any more. What is staged stays staged."""
        gone = UpdateResult(Code.NOT_SERVING, message=f"target {self.target_id} left the live chain")
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_waiting():
                self._answer(entry.askers, gone, out)
            if lane.flight.phase is Phase.STAGING:
                lane.flight.abandoned = True  # answered once the store has let go of the data
            else:
                self._answer(lane.flight.askers, gone, out)
                self.orphans[chunk] = None
                del self.lanes[chunk]
        self._waited_for.clear()

    def _send_again(self, now: int, out: list[Effect]) -> None:
        """Still serving, under a new chain version: what waits for a successor is sent to the present one, or committed."""
        for lane in list(self.lanes.values()):
            for entry in lane.take_waiting():
                message = f"target {self.target_id}: the chain version is {self._version} now"
                self._answer(entry.askers, UpdateResult(Code.WRONG_CHAIN_VERSION, message=message), out)
            flight = lane.flight
            flight.abandoned = False
            if flight.phase is not Phase.STAGING:
                self._waited_for.discard(flight.serial)
                flight.serial = 0
                flight.attempts = 0
                self._staged_here(now, lane, out)

    def _settle(self, now: int, out: list[Effect]) -> None:
        """Serving: pending versions without a flight go on. A restarted tail may commit them, all upstream have them too."""
        for chunk in [chunk for chunk in self.orphans if chunk not in self.lanes]:
            del self.orphans[chunk]
            meta = self.view.get(chunk)
            if meta is not None and meta.pending:
                template = Update(chunk, UpdateKind.FILL, self._chain_id, self._version, 0, 0, 0, UNTAGGED)
                self._take_off(now, chunk, resumed(template, meta), out)
