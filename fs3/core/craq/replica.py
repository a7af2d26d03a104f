"""The replica of one target on one chain: a machine that is told what happened and answers what to do.

    client → head → … → tail       Stage, then Forward, at each; the tail commits what it has staged
             head ← … ← tail       Acked, then Commit and Reply, at each

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
from fs3.core.craq.admission import Action, LaneState, Place
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import Acked, ChainChanged, Dropped, Event, FillAsked, Opened, Staged, UpdateReceived
from fs3.core.craq.flight import NEVER, Phase
from fs3.core.craq.flying import Flying, answer_all
from fs3.core.craq.lanes import Lane, Waiting
from fs3.core.craq.standing import Standing, standing_in
from fs3.model.chain import Chain, LocalState
from fs3.model.chunk import UpdateResult


class Replica(Flying):
    """One target's replication. Not thread-safe; nothing in it waits.

    The effects of a step are carried out before the next step, at least as far as the store's view shows them: `Commit`.
    """

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
        elif isinstance(event, FillAsked):
            self._fill_asked(now_ns, event, out)
        elif isinstance(event, Dropped):
            self._dropped(now_ns, event, out)
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
        return self.chain if self.opened and self.completeness.may_stand(self.chain) else None

    @property
    def local_state(self) -> LocalState | None:
        """What the manager is to be told of this target, if nothing is wrong with its disk: UPTODATE or ONLINE, under the chain
        version of `chain`. None before `Opened`: nothing is known yet, and nothing is to be said."""
        return self.completeness.local_state(self.standing, self.chain) if self.opened else None

    def resync_fence(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        """Whether a request of a resync may be answered: OK only for the present predecessor under the present chain version,
        while this target syncs, and for this incarnation (0: the source does not know it yet). Answered to `Compare`, `ListRows`
        and `MergeChannels`, each checked when it arrives, `MergeChannels` again once its rows are durable. Else NOT_SERVING,
        WRONG_CHAIN_VERSION or OLD_INCARNATION, or BUSY as long as the store is not done with what an earlier chain version left
        behind; the answer carries `incarnation` in any case."""
        code = self.completeness.fence(self.standing, chain, chain_version, source, incarnation)
        return Code.BUSY if code is Code.OK and self._has_leftovers() else code

    def finish_resync(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        """The predecessor says `Finish`: the same fence. MISSING_UPDATE when something is pending here that is not of this chain
        version: then the source has overlooked it, and begins anew.

        When the answer is OK, `local_state` is UPTODATE until the chain version changes: tell the manager at once. The shell of a
        store that was not whole writes down that it is, durably, before it tells anybody."""
        code = self.resync_fence(chain, chain_version, source, incarnation or -1)
        if code is not Code.OK:
            return code
        for chunk in self.orphans:
            meta = self.view.get(chunk)
            if meta is not None and meta.pending and meta.chain_version != chain_version:
                return Code.MISSING_UPDATE
        self.completeness.finish(self.standing)
        return Code.OK

    def _has_leftovers(self) -> bool:
        """The store is still staging something of an earlier chain version, which will look pending once it is done."""
        return any(lane.flight.abandoned for lane in self.lanes.values())

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

    # --- time --------------------------------------------------------------------------------------------------------

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
            busy = UpdateResult(Code.BUSY, message=f"{who}: the update before is not done")
            answer_all(lane.waiting.popleft().askers, busy, out)
        if flight.phase is Phase.STAGING or flight.phase is Phase.DROPPING:
            return
        if flight.askers and flight.expires_ns <= now:
            said = f", which says {flight.refusal.name}" if flight.refusal else ""
            message = f"{who}: waits for target {self.standing.successor}{said}"
            answer_all(flight.askers, UpdateResult(Code.DEADLINE, message=message), out)
            flight.has_data = False
        if flight.retry_ns <= now:
            self._forward(now, lane, out)

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _opened(self, now: int, event: Opened, out: list[Effect]) -> None:
        assert not self.opened, f"target {self.target_id}: Opened came twice"
        self.opened = True
        self.completeness.whole = event.whole
        self.orphans.update(dict.fromkeys(event.pending))
        self._take_place()
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
            self._settle(now, out)

    def _take_place(self) -> None:
        """Find place and neighbours in the chain. Before the store is open this target is OUT, whatever the chain says."""
        before = Standing(self.standing.chain, self.standing.version)
        takes_part = self.opened and self.completeness.may_stand(self.chain)
        self.standing = before if self.chain is None else standing_in(self.chain, self.target_id, takes_part=takes_part)
        self.judge.stand(self.standing)

    def _leave(self, out: list[Effect]) -> None:
        """Nothing under way here decides anything any more. What is staged stays staged."""
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_waiting():
                answer_all(entry.askers, self._gone(), out)
            if lane.fill_version:
                self._end_fill(lane, Code.WRONG_CHAIN_VERSION, out)
            flight = lane.flight
            if flight.phase is Phase.STAGING or flight.phase is Phase.DROPPING:
                flight.abandoned = True  # answered once the store has done with it
                continue
            answer_all(flight.askers, self._gone(), out)
            if not flight.is_fill:
                self.orphans[chunk] = None
            del self.lanes[chunk]
        self.sendings.clear()

    def _send_again(self, now: int, out: list[Effect]) -> None:
        """Serving under a new chain version: what waits for a successor is sent to the present one, or committed."""
        message = f"target {self.target_id}: the chain version is {self.standing.version} now"
        for chunk, lane in list(self.lanes.items()):
            for entry in lane.take_waiting():
                answer_all(entry.askers, UpdateResult(Code.WRONG_CHAIN_VERSION, message=message), out)
            if lane.fill_version:
                self._end_fill(lane, Code.WRONG_CHAIN_VERSION, out)
            flight = lane.flight
            flight.abandoned = False
            self.sendings.over(flight.serial)
            flight.serial = 0
            if flight.is_fill:
                del self.lanes[chunk]
            elif flight.phase is not Phase.STAGING and flight.phase is not Phase.DROPPING:
                flight.attempts = 0
                flight.whole = False
                self._staged_here(now, lane, out)
