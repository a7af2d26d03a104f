"""The replica of one target on one chain: a machine that is told what happened and answers what to do.

    client → head → … → tail       Stage, then Forward, at each; the tail commits what it has staged
             head ← … ← tail       ForwardDone, then Commit and Reply, at each

What keeps it right, beside the admission table:

- A target forwards only what it has staged durably, so whatever a target has, all targets upstream have.
- "No successor" and "I am the last of the live chain" are different facts. A target that left the live chain commits nothing.
- Whatever is under way is sent again when the chain version changes, and only the answer to the latest sending counts. So an
  answer that counts was given to a sending under the chain version this target has now.
- A pending version is never taken back while it may be staged further down: a late duplicate would bring it to life again under
  a number that has been given to another update. It is sent again until it is committed, the chain changes, or the successor
  has said that it has no room for it (see `flying`).
- A tag is looked up where an update is numbered. Everybody else follows its predecessor.

The order in which serving targets stand in the chain never changes but by targets leaving it (and coming back at its end): what
a target has staged is then also staged at every target before it. The manager keeps that.
"""

from __future__ import annotations

from itertools import islice

from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.table import Action, ChainRole, LaneState
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import ChainChanged, DropDone, Event, FillRequested, ForwardDone, StageDone, StoreOpened, UpdateReceived
from fs3.core.craq.flight import NEVER, FlightPhase
from fs3.core.craq.flights import Flights, answer_all
from fs3.core.craq.lanes import Lane, QueuedUpdate
from fs3.core.craq.position import ChainPosition, position_in
from fs3.model.chain import Chain, LocalState
from fs3.model.chunk import UpdateResult


class Replica(Flights):
    """One target's replication. Not thread-safe; nothing in it waits.

    The effects of a step are carried out before the next step, at least as far as the store's view shows them: `Commit`.
    """

    # --- the shell's side --------------------------------------------------------------------------------------------

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        """What follows from an event. Raises AssertionError when the shell breaks the rules of events.py."""
        out: list[Effect] = []
        self.admitter.step_rows.clear()
        if isinstance(event, UpdateReceived):
            self._on_update_received(now_ns, event, out)
        elif isinstance(event, StageDone):
            self._on_stage_done(now_ns, event, out)
        elif isinstance(event, ForwardDone):
            self._on_forward_done(now_ns, event, out)
        elif isinstance(event, ChainChanged):
            self._on_chain_changed(now_ns, event.chain, out)
        elif isinstance(event, StoreOpened):
            self._on_store_opened(now_ns, event, out)
        elif isinstance(event, FillRequested):
            self._on_fill_requested(now_ns, event, out)
        elif isinstance(event, DropDone):
            self._on_drop_done(now_ns, event, out)
        else:
            self._on_tick(now_ns, out)
        return out

    def next_deadline(self) -> int | None:
        """When a Tick is due, at the latest; None while nothing is under way."""
        return self._due_ns if self.lanes and self._due_ns < NEVER else None

    @property
    def readable_chain(self) -> Chain | None:
        """The chain under which reads may be served. None before the store's pending versions were looked at: a restarted tail
        may have lost the commit of a version that clients have read already."""
        return self.chain if self.is_open and self.completeness.may_take_role(self.chain) else None

    @property
    def local_state(self) -> LocalState | None:
        """What the manager is to be told of this target, if nothing is wrong with its disk: UPTODATE or ONLINE, under the chain
        version of `chain`. None before `Opened`: nothing is known yet, and nothing is to be said."""
        return self.completeness.local_state(self.position, self.chain) if self.is_open else None

    def check_resync_fence(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        """Whether a request of a resync may be answered: OK only for the present predecessor under the present chain version,
        while this target syncs, and for this incarnation (0: the source does not know it yet). Answered to `Compare`, `ListRows`
        and `MergeChannels`, each checked when it arrives, `MergeChannels` again once its rows are durable. Else NOT_SERVING,
        WRONG_CHAIN_VERSION or OLD_INCARNATION, or BUSY as long as the store is not done with what an earlier chain version left
        behind; the answer carries `incarnation` in any case."""
        code = self.completeness.check_fence(self.position, chain, chain_version, source, incarnation)
        return Code.BUSY if code is Code.OK and self._has_leftovers() else code

    def finish_resync(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        """The predecessor says `Finish`: the same fence. MISSING_UPDATE when something is pending here that is not of this chain
        version: then the source has overlooked it, and begins anew.

        When the answer is OK, `local_state` is UPTODATE until the chain version changes: tell the manager at once. The shell of a
        store that was not whole writes down that it is, durably, before it tells anybody."""
        code = self.check_resync_fence(chain, chain_version, source, incarnation or -1)
        if code is not Code.OK:
            return code
        for chunk in self.orphans:
            meta = self.view.get(chunk)
            if meta is not None and meta.pending and meta.chain_version != chain_version:
                return Code.MISSING_UPDATE
        self.completeness.finish(self.position)
        return Code.OK

    def _has_leftovers(self) -> bool:
        """The store is still staging something of an earlier chain version, which will look pending once it is done."""
        return any(lane.flight.abandoned for lane in self.lanes.values())

    def check(self) -> None:
        """Cheap invariants, after every batch; `invariants.check` has them all."""
        who = f"target {self.target_id}"
        assert len(self.send_window) <= len(self.lanes), f"{who} waits for more answers than it has flights"
        assert self.position.successor or not self.send_window, f"{who} waits for answers, but nobody is behind it"
        assert self.position.role is not ChainRole.OUT or not self.position.is_last, f"{who} is out and yet the last"

    def describe(self) -> str:
        """One line: neighbours, place, chain version, flights."""
        at = self.position
        neighbours = f"{at.predecessor or '·'}→{self.target_id}→{at.successor or '·'}"
        state = at.role.name.lower() if self.is_open else "closed"
        orphans = f" orphans {len(self.orphans)}" if self.orphans else ""
        flights = " ".join(lane.describe() for lane in islice(self.lanes.values(), 8))
        return f"{neighbours} {state} v{at.version} flights {len(self.lanes)}{orphans} {flights}".rstrip()

    # --- updates arrive ----------------------------------------------------------------------------------------------

    def _on_update_received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        update = event.update
        lane = self.lanes.get(update.chunk)
        if lane is None:
            meta = self.view.get(update.chunk)
            state = LaneState.FREE if len(self.lanes) < self.limits.flights_max else LaneState.FULL
            row = self.admitter.admit(update, state, meta)
            flight = self._apply_row(now, row, update, [event.token], meta, out)
            if flight is not None:
                self.begin(now, Lane(flight), out)
            return
        row = self.admitter.admit(update, lane.state(update, self.limits.lane_waiting_max, self.limits.waiters_max), None)
        if row.action is Action.WAIT:
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

    # --- time --------------------------------------------------------------------------------------------------------

    def _on_tick(self, now: int, out: list[Effect]) -> None:
        """Look through all lanes: rare, since flights end long before their deadline unless something is wrong."""
        if now < self._due_ns:
            return
        self._due_ns = NEVER
        for lane in list(self.lanes.values()):
            if lane.due_ns <= now:
                self._expire_lane(now, lane, out)
            self._arm(lane.due_ns)

    def _expire_lane(self, now: int, lane: Lane, out: list[Effect]) -> None:
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

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _on_store_opened(self, now: int, event: StoreOpened, out: list[Effect]) -> None:
        assert not self.is_open, f"target {self.target_id}: Opened came twice"
        self.is_open = True
        self.completeness.whole = event.whole
        self.orphans.update(dict.fromkeys(event.pending))
        self._update_position()
        self._resume_orphans(now, out)

    def _on_chain_changed(self, now: int, chain: Chain | None, out: list[Effect]) -> None:
        if chain is not None and chain.id == self.position.chain and chain.version <= self.position.version:
            return  # routing may come in any order
        self.chain = chain
        self._update_position()
        if self.position.serves:
            self._resend_all(now, out)
            self._resume_orphans(now, out)
        else:
            # Also who syncs: it is sent everything again, and it may have missed a version in which it was out.
            self._leave_chain(out)
            self._resume_orphans(now, out)

    def _update_position(self) -> None:
        """Find place and neighbours in the chain. Before the store is open this target is OUT, whatever the chain says."""
        before = ChainPosition(self.position.chain, self.position.version)
        takes_part = self.is_open and self.completeness.may_take_role(self.chain)
        self.position = before if self.chain is None else position_in(self.chain, self.target_id, takes_part=takes_part)
        self.admitter.set_position(self.position)

    def _leave_chain(self, out: list[Effect]) -> None:
        """Nothing under way here decides anything any more. What is staged stays staged."""
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_queue():
                answer_all(entry.waiters, self._not_serving(), out)
            if lane.fill_version:
                self._end_fill(lane, Code.WRONG_CHAIN_VERSION, out)
            flight = lane.flight
            if flight.phase is FlightPhase.STAGING or flight.phase is FlightPhase.DROPPING:
                flight.abandoned = True  # answered once the store has done with it
                continue
            answer_all(flight.waiters, self._not_serving(), out)
            if not flight.is_fill:
                self.orphans[chunk] = None
            del self.lanes[chunk]
        self.send_window.clear()

    def _resend_all(self, now: int, out: list[Effect]) -> None:
        """Serving under a new chain version: what waits for a successor is sent to the present one, or committed."""
        message = f"target {self.target_id}: the chain version is {self.position.version} now"
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_queue():
                answer_all(entry.waiters, UpdateResult(Code.WRONG_CHAIN_VERSION, message=message), out)
            if lane.fill_version:
                self._end_fill(lane, Code.WRONG_CHAIN_VERSION, out)
            flight = lane.flight
            flight.abandoned = False
            self.send_window.release(flight.serial)
            flight.serial = 0
            if flight.is_fill:
                del self.lanes[chunk]
            elif flight.phase is not FlightPhase.STAGING and flight.phase is not FlightPhase.DROPPING:
                flight.attempts = 0
                flight.needs_whole = False
                self._forward_or_commit(now, lane, out)
