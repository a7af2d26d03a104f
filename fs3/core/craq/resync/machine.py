"""Brings the successor up to date: the source's side of a resync, a machine of its own beside the replica.

    for each range of keys:  Compare → equal, or ListRows → the resync-choice table → Fill (through the replica's lanes)
    then the channel rows:   MergeChannels, page by page
    then, every second:      Finish, until the chain version changes

What makes it right:

- A plan belongs to one (chain version, successor's incarnation). With either of them another, everything begins anew; what was
  moved before is found equal by its digest, which is what makes a resync resumable.
- From the first step of a plan on, every update is acknowledged only once the successor has it, under this chain version. So it
  is enough to compare each chunk once, at any time after that, and fills need no order among them.
- What is pending in this store may have been acknowledged already, when the source was restarted and has lost the commit. So done
  also waits for what was pending when its range was looked at: it is on its way to the successor as an update.
- A fill goes through the chunk's lane of the replica: it never overtakes an update nor is overtaken by one.
- A chunk that is bad here is filled once a replica has repaired it. If none that serves can (`CopyLost`), it is compared once
  more, now as bad, and sent as damaged as it is: all other chunks of the chain must not wait for it to become redundant.
- Channel rows change with updates that the successor gets too; of a row that is handed over and one that an update has set there,
  the higher seq stays. So they need no order either.
- `Finish` is said only when all that was answered OK, and the successor believes it only under the same chain version and
  incarnation (`Replica.finish_resync`).

It works only while this target serves and its successor syncs. A second syncing target further down gets the fills too, since
they travel like updates; it is compared by its own predecessor once that one serves.

Bounded: `queries_max` requests of bounded size, `fills_max` fills of together `bytes_max`, and a queue of some pages of keys.
"""

from __future__ import annotations

from dataclasses import replace

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.base.units import NEVER, SECOND
from fs3.core.craq.effects import FillDone
from fs3.core.craq.position import ChainPosition
from fs3.core.craq.resync.choice import Choice, choice_for
from fs3.core.craq.resync.plan import DEFAULT_LIMITS, DifferingRange, FillRetry, Plan, RequestSubject, ResyncLimits
from fs3.core.craq.resync.rows import (
    RangeDigest,
    RangeState,
    RemoteRow,
    StoreView,
    digest_rows,
    key_after,
    key_before,
)
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    CopyLost,
    Fill,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    Pace,
    PositionChanged,
    Progress,
    ResyncEffect,
    ResyncEvent,
    ResyncPeer,
    ResyncPhase,
)
from fs3.model.chunk import ChunkMeta


class Resync:
    """One target as the source of resyncs: at most one at a time, of its successor. Not thread-safe; nothing in it waits."""

    def __init__(self, target_id: TargetId, view: StoreView, limits: ResyncLimits = DEFAULT_LIMITS) -> None:
        self.target_id = target_id
        self.view = view
        self.limits = limits
        self._fills_max = limits.fills_max
        self._bytes_max = limits.bytes_max
        self._rate = limits.bytes_per_second
        self._position = ChainPosition()
        self._plan: Plan | None = None
        self._asked: dict[int, RequestSubject] = {}
        """Requests under way."""
        self._request = 0
        self._filling: dict[ChunkId, int] = {}
        """Fills under way and about how many bytes each has; they outlive a plan."""
        self._filling_bytes = 0
        self._paid_until = 0
        """The bytes sent so far use up the rate until then."""
        self._due_ns = NEVER

    # --- the shell's side --------------------------------------------------------------------------------------------

    def step(self, now_ns: int, event: ResyncEvent) -> list[ResyncEffect]:
        """What follows from an event; see `resync.steps` for which effect is answered by which event."""
        out: list[ResyncEffect] = []
        if isinstance(event, FillDone):
            self._on_fill_done(now_ns, event)
        elif isinstance(event, CopyLost):
            self._on_copy_lost(event)
        elif isinstance(event, PositionChanged):
            self._on_position_changed(event)
        elif isinstance(event, Pace):
            self._fills_max = min(event.fills_max, self.limits.fills_max)
            self._bytes_max = min(event.bytes_max, self.limits.bytes_max)
            self._rate = event.bytes_per_second
        elif isinstance(event, CompareAnswer | ListRowsAnswer | MergeAnswer | FinishAnswer):
            self._on_answer(now_ns, event)
        if self._plan is not None:
            self._advance(now_ns, self._plan, out)
        return out

    def next_deadline(self) -> int | None:
        """When a Tick is due, at the latest; None while there is nothing to wait for."""
        return self._due_ns if self._plan is not None and self._due_ns < NEVER else None

    @property
    def phase(self) -> ResyncPhase:
        """How far the present resync is."""
        plan = self._plan
        if plan is None:
            return ResyncPhase.IDLE
        if not self._chunks_done(plan):
            return ResyncPhase.CHUNKS
        return ResyncPhase.FINISHING if plan.channels_done else ResyncPhase.CHANNELS

    @property
    def progress(self) -> Progress:
        """The present resync in figures."""
        plan = self._plan
        if plan is None:
            return Progress()
        why = next((later.why for later in plan.retries.values()), plan.why)
        return Progress(
            phase=self.phase,
            target=plan.peer.target,
            chunks_done=plan.settled,
            chunks_total=max(plan.total, plan.settled),
            fills=plan.fills,
            removals=plan.removals,
            bytes_moved=plan.bytes_moved,
            channels=plan.channels,
            blocked=len(plan.retries),
            reason=why,
            damaged=plan.damaged_fills,
        )

    def describe(self) -> str:
        """One line: with whom, phase, what is under way."""
        plan = self._plan
        if plan is None:
            return "idle"
        work = f"asked {len(self._asked)} ranges {len(plan.differing)} todo {len(plan.todo)} filling {len(self._filling)}"
        later = f" later {len(plan.retries)}" if plan.retries else ""
        return f"→{plan.peer.target} v{plan.peer.chain_version} {self.phase.name.lower()} {work}{later}"

    # --- events ------------------------------------------------------------------------------------------------------

    def _on_position_changed(self, event: PositionChanged) -> None:
        at = event.position
        if (at.chain, at.version, at.role) == (self._position.chain, self._position.version, self._position.role):
            return
        self._position = at
        # Everything, also when the successor stays the same: it may have been out in a version that this target has not heard of,
        # and has missed what was acknowledged then.
        self._filling.clear()
        self._filling_bytes = 0
        self._asked.clear()
        self._plan = None
        if at.serves and at.successor_syncs:
            self._plan = Plan(ResyncPeer(at.chain, at.version, self.target_id, at.successor), event.chunks)

    def _on_answer(self, now: int, event: CompareAnswer | ListRowsAnswer | MergeAnswer | FinishAnswer) -> None:
        plan = self._plan
        if plan is None or event.request not in self._asked:
            return
        asked = self._asked.pop(event.request)
        if self._is_restarted(plan, event.incarnation) or event.code in (Code.OLD_INCARNATION, Code.MISSING_UPDATE):
            self._restart(now, plan, event.incarnation, event.code)
            return
        if event.code is not Code.OK:
            self._on_failure(now, plan, asked, event.code)
            return
        plan.failures = 0
        plan.why = ""
        if isinstance(event, CompareAnswer):
            assert isinstance(asked, tuple)
            self._on_compare_answer(plan, asked, event)
        elif isinstance(event, ListRowsAnswer):
            assert isinstance(asked, DifferingRange)
            self._on_list_rows_answer(plan, asked, event)
        elif isinstance(event, MergeAnswer):
            plan.channels += len(plan.merge)
            plan.channel_after = plan.merge[-1][0]
            plan.merge = ()

    def _is_restarted(self, plan: Plan, incarnation: int) -> bool:
        """The successor was restarted since it first answered; notes who it is when that was now."""
        if incarnation and not plan.peer.incarnation:
            plan.peer = replace(plan.peer, incarnation=incarnation)
        return incarnation not in (0, plan.peer.incarnation)

    def _restart(self, now: int, plan: Plan, incarnation: int, code: Code) -> None:
        """Begin anew with this incarnation: what the successor said before counts for nothing, nor do answers under way."""
        self._asked.clear()
        peer = replace(plan.peer, incarnation=incarnation)
        self._plan = Plan(
            peer,
            plan.total,
            damaged=plan.damaged,  # what serving targets have said of themselves
            rest_until=now + self.limits.retry_min_ns,
            why=f"begun anew: {code.name}",
        )

    def _on_failure(self, now: int, plan: Plan, asked: RequestSubject, code: Code) -> None:
        plan.failures += 1
        plan.rest_until = now + self.limits.retry_ns(plan.failures)
        plan.why = f"target {plan.peer.target} answers {code.name}"
        if isinstance(asked, tuple):
            plan.compares.append(asked)
        elif asked is not None:
            plan.differing.appendleft(asked)

    def _on_compare_answer(self, plan: Plan, ranges: tuple[RangeDigest, ...], event: CompareAnswer) -> None:
        assert len(ranges) == len(event.states), f"{len(event.states)} answers about {len(ranges)} ranges"
        for wanted, state in zip(ranges, event.states, strict=True):
            if state is RangeState.EQUAL:
                plan.settled += wanted.count
            else:
                plan.differing.append(DifferingRange(wanted.begin, wanted.end, wanted.count, state is RangeState.EMPTY))

    def _on_list_rows_answer(self, plan: Plan, asked: DifferingRange, event: ListRowsAnswer) -> None:
        end = asked.end
        if event.more:
            end = key_after(event.rows[-1].chunk)
            plan.differing.appendleft(DifferingRange(end, asked.end, 0, False))
        self._decide(plan, asked.begin, end, {row.chunk: row for row in event.rows})

    def _decide(self, plan: Plan, begin: bytes, end: bytes, theirs: dict[ChunkId, RemoteRow]) -> None:
        """Row by row by the table: what of a range is to be filled."""
        mine = dict(self._rows(begin, end))
        for chunk in sorted(mine.keys() | theirs.keys()):
            is_bad = chunk in self.view.bad_chunks
            if choice_for(mine.get(chunk), theirs.get(chunk), is_bad=is_bad) is Choice.SKIP:
                plan.settled += chunk in mine
            else:
                plan.todo.append(chunk)

    def _rows(self, begin: bytes, end: bytes) -> list[tuple[ChunkId, ChunkMeta]]:
        """All rows of this store in a range. It had `range_chunks` when its digest was made."""
        until = ChunkId(end) if end else None
        page = self.limits.range_chunks
        rows = self.view.list(key_before(begin), page, until)
        while len(rows) and not len(rows) % page:
            more = self.view.list(rows[-1][0], page, until)
            if not more:
                break
            rows = rows + more
        return rows

    def _on_fill_done(self, now: int, event: FillDone) -> None:
        plan = self._plan
        if plan is None or event.chain_version != plan.peer.chain_version or event.chunk not in self._filling:
            return
        self._filling_bytes -= self._filling.pop(event.chunk)
        if event.code is Code.OK:
            plan.retries.pop(event.chunk, None)
            plan.settled += not event.removed
            plan.removals += event.removed
            plan.fills += event.sent
            plan.bytes_moved += event.length
            plan.damaged_fills += event.is_damaged
            return
        later = plan.retries.setdefault(event.chunk, FillRetry(0, 0, ""))
        later.failures += 1
        later.due_ns = now + self.limits.retry_ns(later.failures)
        later.why = f"chunk {event.chunk.hex()}: {event.message or event.code.name}"

    def _on_copy_lost(self, event: CopyLost) -> None:
        """What waits for the bytes of this chunk waits in vain. What the successor has of it is asked once more: the choice may
        be another one now that the chunk is known to be bad."""
        plan = self._plan
        if plan is None or event.chunk not in self.view.bad_chunks:
            return
        plan.damaged[event.chunk] = event.version
        if event.chunk not in self._filling and plan.retries.pop(event.chunk, None) is not None:
            plan.differing.append(DifferingRange(event.chunk, key_after(event.chunk), 1, False))

    # --- what is next ------------------------------------------------------------------------------------------------

    def _advance(self, now: int, plan: Plan, out: list[ResyncEffect]) -> None:
        """Whatever the plan allows now: fills, questions, then channel rows, then `Finish`."""
        self._due_ns = NEVER
        if not self._fills_max and not plan.channels_done:
            return
        self._fill(now, plan, out)
        if now < plan.rest_until:
            self._wake(plan.rest_until)
            return
        self._ask(plan, out)
        self._fill(now, plan, out)
        if not self._chunks_done(plan) or self._asked:
            return
        if not plan.channels_done:
            self._merge(plan, out)
        if plan.channels_done and not self._asked:
            # Equal rows are not enough: an update that is pending here may have been acknowledged before this target restarted.
            if not self._has_settled(plan):
                plan.finish_at = now + self.limits.retry_min_ns
            elif now >= plan.finish_at:
                plan.finish_at = now + self.limits.finish_ns
                out.append(Finish(self._track_request(None), plan.peer))
            self._wake(plan.finish_at)

    def _chunks_done(self, plan: Plan) -> bool:
        open_work = plan.compares or plan.differing or plan.todo or plan.retries or self._filling
        return plan.scanned and not open_work and not any(asked is not None for asked in self._asked.values())

    def _ask(self, plan: Plan, out: list[ResyncEffect]) -> None:
        """Look into ranges that differ first: so what is known and not dealt with yet stays small."""
        limits = self.limits
        while len(self._asked) < limits.queries_max and len(plan.todo) < limits.list_max:
            if plan.differing:
                wanted = plan.differing.popleft()
                if wanted.is_empty:
                    self._decide(plan, wanted.begin, wanted.end, {})
                else:
                    out.append(ListRows(self._track_request(wanted), plan.peer, wanted.begin, wanted.end, limits.list_max))
            elif plan.compares:
                self._compare(plan, plan.compares.popleft(), out)
            elif not plan.scanned:
                self._compare(plan, tuple(self._digests(plan)), out)
            else:
                return

    def _compare(self, plan: Plan, ranges: tuple[RangeDigest, ...], out: list[ResyncEffect]) -> None:
        out.append(Compare(self._track_request(ranges), plan.peer, ranges))

    def _digests(self, plan: Plan) -> list[RangeDigest]:
        """The next ranges. They leave no gaps, so what only the successor has is found too."""
        page = self.limits.range_chunks
        ranges: list[RangeDigest] = []
        while len(ranges) < self.limits.ranges_max and not plan.scanned:
            begin = plan.cursor
            rows = self.view.list(key_before(begin), page)
            end = key_after(rows[-1][0]) if len(rows) == page else b""
            ranges.append(digest_rows(begin, end, rows))
            self._note_pending(plan, rows)
            plan.cursor = end
            plan.scanned = not end
        return ranges

    def _note_pending(self, plan: Plan, rows: list[tuple[ChunkId, ChunkMeta]]) -> None:
        plan.unsettled.update((chunk, meta.pending) for chunk, meta in rows if meta.pending)

    def _has_settled(self, plan: Plan) -> bool:
        """Nothing is pending any more of what was: with a syncing successor, only its answer makes it committed."""
        for chunk, version in list(plan.unsettled.items()):
            meta = self.view.get(chunk)
            if meta is None or meta.pending != version:
                del plan.unsettled[chunk]
        return not plan.unsettled

    def _fill(self, now: int, plan: Plan, out: list[ResyncEffect]) -> None:
        """Begin fills while there is room, those that failed before first."""
        for chunk, later in plan.retries.items():
            if chunk in self._filling:
                continue
            if later.due_ns > now:
                self._wake(later.due_ns)
            elif not self._begin_fill(now, chunk, out):
                return
        while plan.todo and plan.todo[0] not in self._filling and len(plan.retries) < self.limits.fills_max:
            if not self._begin_fill(now, plan.todo[0], out):
                return
            plan.todo.popleft()

    def _begin_fill(self, now: int, chunk: ChunkId, out: list[ResyncEffect]) -> bool:
        """False: not now."""
        meta = self.view.get(chunk)
        length = meta.length if meta is not None else 0
        filling = self._filling
        if len(filling) >= self._fills_max or (filling and self._filling_bytes + length > self._bytes_max):
            return False
        if self._rate:
            if self._paid_until > now + self.limits.burst_ns:
                self._wake(self._paid_until - self.limits.burst_ns)
                return False
            self._paid_until = max(self._paid_until, now) + length * SECOND // self._rate
        filling[chunk] = length
        self._filling_bytes += length
        damaged = self._plan.damaged.get(chunk, 0) if self._plan is not None else 0
        out.append(Fill(chunk, self._position.version, damaged))
        return True

    def _merge(self, plan: Plan, out: list[ResyncEffect]) -> None:
        if not plan.merge:
            plan.merge = tuple(self.view.list_channels(plan.channel_after, self.limits.channels_max))
        if plan.merge:
            out.append(MergeChannels(self._track_request(None), plan.peer, plan.merge))
        else:
            plan.channels_done = True

    def _track_request(self, asked: RequestSubject) -> int:
        self._request += 1
        self._asked[self._request] = asked
        return self._request

    def _wake(self, due: int) -> None:
        if due < self._due_ns:
            self._due_ns = due
