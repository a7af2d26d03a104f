"""The replica of one target on one chain: a machine that is told what happened and answers what to do.

    client → head → … → tail       Stage, then Forward, at each; the tail commits what it has staged
             head ← … ← tail       ForwardDone, then Commit and AnswerUpdate, at each

How a shell runs it (`services/storage/target.py`, `sim/ring1/target_host.py`):

1. Make one per target and start of its process, with an `incarnation` higher than any before, and a view of its store.
2. Tell it the chain (`ChainChanged`), then, once, what a crash left pending (`StoreOpened`). Until both it takes no place in its
   chain: it refuses updates and `readable_chain` is None. Nor does a new target before `BirthStored`, except to sync. Tell it
   every newer chain; older ones are ignored. Each of the three may give it another place: tell its resync (`PositionChanged`).
3. Call `step(now_ns, event)` for one event at a time, with a clock that never goes back, and carry the effects out in their
   order. `Commit` must show in the view before the next step; the rest may be gathered over many steps. Nothing in a step waits.
4. Answer each `Stage`, `Forward` and `DropPending` with exactly one event of a later step, also when it failed. `StageDone` with
   OK and `DropDone` only once they would survive a loss of power.
5. Send the answer of each `AnswerUpdate` to the sender of that token. Buffers: see `effects`.
6. Step a `Tick` when `next_deadline` has passed; ask for it after every batch of steps.
7. Reads and resync questions do not go through `step`: ask `reads.gate` with `readable_chain`, `check_resync_fence` and
   `finish_resync`, between two steps.
8. Tell the manager `local_state` after every `ChainChanged`, `StoreOpened` and `finish_resync`; nothing while it is None.
9. An AssertionError from `step` means that this shell broke a rule above, or that the machine is wrong: stop the target, and tell
   the manager that it is OFFLINE.

What keeps it right, beside the admission table:

- A target forwards only what it has staged durably, so whatever a target has, all targets upstream have.
- "No successor" and "I am the last of the live chain" are different facts. A target that left the live chain commits nothing.
- Whatever is under way is sent again when the chain version changes, and only the answer to the latest sending counts. So an
  answer that counts was given to a sending under the chain version this target has now.
- A pending version is never taken back while it may be staged further down: a late duplicate would bring it to life again under
  a number that has been given to another update. It is sent again until it is committed, the chain changes, or the successor
  has said that it has no room for it (see `flight`).
- A tag is looked up where an update is numbered, at the head. Every other target follows its predecessor.

The order in which serving targets stand in the chain never changes but by targets leaving it (and coming back at its end): what
a target has staged is then also staged at every target before it. The manager keeps that.
"""

from __future__ import annotations

from itertools import islice

from fs3.base.ids import ChainId, TargetId
from fs3.base.status import Code
from fs3.core.craq.completeness import Completeness
from fs3.core.craq.effects import Effect
from fs3.core.craq.events import (
    BirthStored,
    ChainChanged,
    DropDone,
    Event,
    FillRequested,
    ForwardDone,
    StageDone,
    StoreOpened,
    UpdateReceived,
)
from fs3.core.craq.flights import Flights
from fs3.core.craq.lanes import DEFAULT_LIMITS, ReplicaLimits
from fs3.core.craq.position import ChainPosition, ChainRole, position_in
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain, LocalState


class Replica:
    """One target's replication: its place in the chain, how complete it is, and its flights. Not thread-safe."""

    def __init__(
        self,
        target_id: TargetId,
        view: ChunkView,
        *,
        incarnation: int,
        limits: ReplicaLimits = DEFAULT_LIMITS,
        flights: type[Flights] = Flights,
    ) -> None:
        """`incarnation` rises with every replica that is made for this target, also over restarts and exchanges of its disk:
        successors drop what has lower serials than they have heard, and a resync begins anew when it changes. `flights` is for
        simulations that plant a mistake there."""
        self.target_id = target_id
        self.incarnation = incarnation
        self.view = view
        self.chain: Chain | None = None
        """The newest it was told of."""
        self.is_open = False
        self.flights = flights(target_id, view, incarnation=incarnation, limits=limits)
        self.completeness = Completeness(target_id, incarnation)

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        """What follows from an event. Raises AssertionError when the shell breaks the rules of events.py."""
        out: list[Effect] = []
        flights = self.flights
        flights.admitter.step_rows.clear()
        kind = type(event)
        if kind is UpdateReceived:
            flights.on_update_received(now_ns, event, out)  # type: ignore[arg-type]
        elif kind is StageDone:
            flights.on_stage_done(now_ns, event, out)  # type: ignore[arg-type]
        elif kind is ForwardDone:
            flights.on_forward_done(now_ns, event, out)  # type: ignore[arg-type]
        elif isinstance(event, ChainChanged):
            self._on_chain_changed(now_ns, event.chain, out)
        elif isinstance(event, StoreOpened):
            self._on_store_opened(now_ns, event, out)
        elif isinstance(event, BirthStored):
            self._on_birth_stored(now_ns, out)
        elif isinstance(event, FillRequested):
            flights.on_fill_requested(now_ns, event, out)
        elif isinstance(event, DropDone):
            flights.on_drop_done(now_ns, event, out)
        else:
            flights.on_tick(now_ns, out)
        return out

    def next_deadline(self) -> int | None:
        """When a Tick is due, at the latest; None while nothing is under way."""
        return self.flights.next_deadline()

    # --- what others ask between steps -------------------------------------------------------------------------------

    @property
    def position(self) -> ChainPosition:
        """The place this target takes in its chain."""
        return self.flights.position

    @property
    def readable_chain(self) -> Chain | None:
        """The chain under which reads may be served. None before the store's pending versions were looked at: a restarted tail
        may have lost the commit of a version that clients have read already."""
        return self.chain if self.is_open and self.completeness.may_take_role(self.chain) else None

    @property
    def local_state(self) -> LocalState | None:
        """What the manager is to be told of this target, if nothing is wrong with its disk: UPTODATE or ONLINE, under the chain
        version of `chain`. None before `StoreOpened`: nothing is known yet, and nothing is to be said."""
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
        store that was not whole writes down that it is, durably, before it tells the manager or the source."""
        code = self.check_resync_fence(chain, chain_version, source, incarnation or -1)
        if code is not Code.OK:
            return code
        for chunk in self.flights.orphans:
            meta = self.view.get(chunk)
            if meta is not None and meta.pending and meta.chain_version != chain_version:
                return Code.MISSING_UPDATE
        self.completeness.finish(self.position)
        return Code.OK

    def _has_leftovers(self) -> bool:
        """The store is still staging something of an earlier chain version, which will look pending once it is done."""
        return any(lane.flight.abandoned for lane in self.flights.lanes.values())

    def check(self) -> None:
        """Cheap invariants, after every batch; `invariants.check` has them all."""
        who = f"target {self.target_id}"
        at, flights = self.position, self.flights
        assert len(flights.send_window) <= len(flights.lanes), f"{who} waits for more answers than it has flights"
        assert at.successor or not flights.send_window, f"{who} waits for answers, but nobody is behind it"
        assert at.role is not ChainRole.OUT or not at.is_last, f"{who} is out and yet the last"

    def describe(self) -> str:
        """One line: neighbours, place, chain version, flights."""
        at, flights = self.position, self.flights
        neighbours = f"{at.predecessor or '·'}→{self.target_id}→{at.successor or '·'}"
        state = at.role.name.lower() if self.is_open else "closed"
        orphans = f" orphans {len(flights.orphans)}" if flights.orphans else ""
        lanes = " ".join(lane.describe() for lane in islice(flights.lanes.values(), 8))
        return f"{neighbours} {state} v{at.version} flights {len(flights.lanes)}{orphans} {lanes}".rstrip()

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _on_store_opened(self, now: int, event: StoreOpened, out: list[Effect]) -> None:
        assert not self.is_open, f"target {self.target_id}: Opened came twice"
        self.is_open = True
        self.completeness.whole = event.whole
        self.completeness.is_born = event.is_born
        self.flights.orphans.update(dict.fromkeys(event.pending))
        self._update_position()
        self.flights.resume_orphans(now, out)

    def _on_birth_stored(self, now: int, out: list[Effect]) -> None:
        assert self.is_open, f"target {self.target_id}: BirthStored came before StoreOpened"
        if self.completeness.is_born:
            return
        self.completeness.is_born = True
        self._update_position()
        # What was under way when it lost its place was left behind, and goes on like what a restart finds pending.
        self.flights.resume_orphans(now, out)

    def _on_chain_changed(self, now: int, chain: Chain | None, out: list[Effect]) -> None:
        at = self.position
        if chain is not None and chain.id == at.chain and chain.version <= at.version:
            return  # routing may come in any order
        self.chain = chain
        self._update_position()
        if self.position.serves:
            self.flights.resend_all(now, out)
        else:
            # Also a target that syncs: it is sent everything again, and it may have missed a version in which it was out.
            self.flights.leave_chain(out)
        self.flights.resume_orphans(now, out)

    def _update_position(self) -> None:
        """Find place and neighbours in the chain. Before the store is open this target is OUT, whatever the chain says."""
        at = ChainPosition(self.position.chain, self.position.version)
        if self.chain is not None:
            takes_part = self.is_open and self.completeness.may_take_role(self.chain)
            at = position_in(self.chain, self.target_id, takes_part=takes_part)
        self.flights.set_position(at)
