"""Mistakes in a resync, at the source and at the target."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from fs3.base.checksum import digest_of
from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.status import Code
from fs3.base.units import NEVER
from fs3.core.craq.effects import Effect, FillDone, Forward
from fs3.core.craq.events import FillRequested
from fs3.core.craq.flight import make_fill_flight
from fs3.core.craq.flights import Flights
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.plan import Plan
from fs3.core.craq.resync.rows import RangeDigest, RemoteRow
from fs3.core.craq.resync.steps import CopyLost, Finish, PositionChanged, ResyncEffect
from fs3.model.chunk import ChunkMeta, Update, UpdateKind
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.resync_host import ResyncEnvironment, ResyncHost


class _Versions(SimChunks):
    """Shows of each chunk its version only."""

    def __init__(self, chunks: SimChunks) -> None:
        super().__init__()
        self._chunks = chunks

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        rows = self._chunks.list(after, limit, until)
        return [(chunk, msgspec.structs.replace(meta, length=0, checksum=0)) for chunk, meta in rows]


class ByVersion(ResyncHost):
    """Copies of a chunk that have the same version are taken for the same."""

    def __init__(self, host: ResyncEnvironment, machine: Resync) -> None:
        super().__init__(host, machine)
        self.rows = _Versions(host.chunks)

        class VersionOnlyResync(Resync):
            def _rows(self, begin: bytes, end: bytes) -> list[tuple[ChunkId, ChunkMeta]]:
                rows = super()._rows(begin, end)
                return [(chunk, msgspec.structs.replace(meta, length=0, checksum=0)) for chunk, meta in rows]

            def _digests(self, plan: Plan) -> list[RangeDigest]:
                real, self.view = self.view, _Versions(host.chunks)
                try:
                    return super()._digests(plan)
                finally:
                    self.view = real

        self.machine = VersionOnlyResync(host.target, host.chunks, machine.limits)


class _NothingPending(SimChunks):
    """Shows nothing of what is pending."""

    def __init__(self, chunks: SimChunks) -> None:
        super().__init__()
        self._chunks = chunks

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        rows = self._chunks.list(after, limit, until)
        return [(chunk, msgspec.structs.replace(meta, pending=0)) for chunk, meta in rows if meta.committed]


class HidesPending(ResyncHost):
    """What is pending at the successor is not compared."""

    def __init__(self, host: ResyncEnvironment, machine: Resync) -> None:
        super().__init__(host, machine)
        self.rows = _NothingPending(host.chunks)


class KeepsLeftovers(Flights):
    """What an earlier chain version left pending is kept while the target syncs, and committed when it serves."""

    def resume_orphans(self, now: int, out: list[Effect]) -> None:
        if self.position.serves:
            super().resume_orphans(now, out)


class OverlooksLeftovers(Replica):
    """What an earlier chain version left pending is no reason not to be complete."""

    def finish_resync(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        orphans, self.flights.orphans = self.flights.orphans, {}
        code = super().finish_resync(chain, chain_version, source, incarnation)
        self.flights.orphans = orphans
        return code


class CommitsLeftovers(Flights):
    """What an earlier chain version left pending is committed as soon as the target syncs."""

    def resume_orphans(self, now: int, out: list[Effect]) -> None:
        at = self.position
        self.position = replace(at, serves=at.serves or at.successor == 0)
        super().resume_orphans(now, out)
        self.position = at


class AnswersTooEarly(Replica):
    """Questions of a resync are answered while the store still stages what an earlier chain version left behind."""

    def _has_leftovers(self) -> bool:
        return False


class RowsStay(Resync):
    """Channel rows are not handed over."""

    def _merge(self, plan: Plan, out: list[ResyncEffect]) -> None:
        plan.channels_done = True


class FinishedAtOnce(Resync):
    """The successor is told that it has everything before it was looked at under this chain version."""

    def _on_position_changed(self, event: PositionChanged) -> None:
        before = self._plan
        super()._on_position_changed(event)
        if self._plan is not None and self._plan is not before:
            self._plan.scanned = self._plan.channels_done = True


class PlanSurvives(Resync):
    """A plan goes on under the next chain version: what was found out under the last one counts."""

    def _on_position_changed(self, event: PositionChanged) -> None:
        before = self._plan
        filling = dict.fromkeys(self._filling)
        super()._on_position_changed(event)
        plan = self._plan
        if before is None or plan is None or plan is before or before.peer.target != plan.peer.target:
            return
        before.peer = replace(plan.peer, incarnation=before.peer.incarnation)
        before.todo.extend(filling)
        self._plan = before


class AnyFillCounts(Resync):
    """A fill counts as done whatever the successor said."""

    def _on_fill_done(self, now: int, event: FillDone) -> None:
        event.code = Code.OK
        super()._on_fill_done(now, event)


class FinishesOnce(Resync):
    """The successor is told once that it has everything, and never again."""

    def _advance(self, now: int, plan: Plan, out: list[ResyncEffect]) -> None:
        super()._advance(now, plan, out)
        if any(isinstance(effect, Finish) for effect in out):
            plan.finish_at = NEVER


class SkipsRemoved(Resync):
    """What only the successor has is left alone."""

    def _decide(self, plan: Plan, begin: bytes, end: bytes, theirs: dict[ChunkId, RemoteRow]) -> None:
        mine = dict(self._rows(begin, end))
        super()._decide(plan, begin, end, {chunk: row for chunk, row in theirs.items() if chunk in mine})


class ForgetsOwnPending(Resync):
    """Done is said while the source has updates pending that it may have acknowledged before it was restarted."""

    def _note_pending(self, plan: Plan, rows: list[tuple[ChunkId, ChunkMeta]]) -> None:
        pass


class ForgetsIncarnation(Resync):
    """The plan goes on when the successor was restarted."""

    def _is_restarted(self, plan: Plan, incarnation: int) -> bool:
        return False


class WaitsForLost(Resync):
    """The resync waits for bytes that no target has."""

    def _on_copy_lost(self, event: CopyLost) -> None:
        pass


class SkipsDamaged(Resync):
    """A chunk of which no target has the bytes counts as filled."""

    def _on_copy_lost(self, event: CopyLost) -> None:
        super()._on_copy_lost(event)
        if self._plan is not None and self._plan.differing and self._plan.differing[-1].begin == event.chunk:
            self._plan.differing.pop()


class DamagedIsWhole(SimChunks):
    """A damaged chunk that is brought is stored like a whole one: its bytes are what they should be."""

    def stage(self, update: Update) -> tuple[Code, int, int]:
        if update.kind is not UpdateKind.FILL_BAD:
            return super().stage(update)
        code, length, _ = super().stage(msgspec.structs.replace(update, kind=UpdateKind.FILL, checksums=()))
        return code, length, digest_of(update.checksums)


class FillsBesideLanes(Flights):
    """A fill is sent at once, whatever is under way for its chunk."""

    def on_fill_requested(self, now: int, event: FillRequested, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        at = self.position
        if lane is None or event.chain_version != at.version or not at.successor_syncs:
            super().on_fill_requested(now, event, out)
            return
        update = make_fill_flight(event.chunk, at.chain, at.version, self.view.get(event.chunk)).update
        serial, floor = self.send_window.add(instead_of=0)
        self.send_window.release(serial)
        update = msgspec.structs.replace(update, from_target=self.target_id, serial=serial, floor=floor)
        out.append(Forward(at.successor, update, serial, committed=update.kind is UpdateKind.FILL))
        out.append(FillDone(event.chunk, event.chain_version, Code.OK))
