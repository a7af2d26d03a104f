"""Mistakes in a resync, at the source and at the target."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.effects import Effect, Filled, Forward
from fs3.core.craq.events import FillAsked
from fs3.core.craq.flight import NEVER, fill_of
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync import Resync
from fs3.core.craq.resync_plan import Plan
from fs3.core.craq.resync_rows import RangeDigest, RemoteRow
from fs3.core.craq.resync_steps import Finish, Placed, ResyncEffect
from fs3.model.chunk import ChunkMeta, UpdateKind
from fs3.sim.chunk_view import SimChunks
from fs3.sim.resync_host import ResyncHost
from fs3.sim.target_host import TargetHost


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

    def __init__(self, host: TargetHost) -> None:
        super().__init__(host)
        self.rows = _Versions(host.chunks)
        source = self.machine

        class Mistaken(Resync):
            def _rows(self, begin: bytes, end: bytes) -> list[tuple[ChunkId, ChunkMeta]]:
                rows = super()._rows(begin, end)
                return [(chunk, msgspec.structs.replace(meta, length=0, checksum=0)) for chunk, meta in rows]

            def _digests(self, plan: Plan) -> list[RangeDigest]:
                real, self.view = self.view, _Versions(host.chunks)
                try:
                    return super()._digests(plan)
                finally:
                    self.view = real

        self.machine = Mistaken(host.target, host.chunks, source.limits)


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

    def __init__(self, host: TargetHost) -> None:
        super().__init__(host)
        self.rows = _NothingPending(host.chunks)


class KeepsLeftovers(Replica):
    """What an earlier chain version left pending is kept while the target syncs, and committed when it serves."""

    def _settle(self, now: int, out: list[Effect]) -> None:
        if self.standing.serves:
            super()._settle(now, out)

    def finish_resync(self, chain: ChainId, chain_version: int, source: TargetId, incarnation: int) -> Code:
        orphans, self.orphans = self.orphans, {}
        code = super().finish_resync(chain, chain_version, source, incarnation)
        self.orphans = orphans
        return code


class CommitsLeftovers(Replica):
    """What an earlier chain version left pending is committed as soon as the target syncs."""

    def _settle(self, now: int, out: list[Effect]) -> None:
        at = self.standing
        self.standing = replace(at, serves=at.serves or at.successor == 0)
        super()._settle(now, out)
        self.standing = at


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

    def _placed(self, event: Placed) -> None:
        before = self._plan
        super()._placed(event)
        if self._plan is not None and self._plan is not before:
            self._plan.scanned = self._plan.channels_done = True


class PlanSurvives(Resync):
    """A plan goes on under the next chain version: what was found out under the last one counts."""

    def _placed(self, event: Placed) -> None:
        before = self._plan
        filling = dict.fromkeys(self._filling)
        super()._placed(event)
        plan = self._plan
        if before is None or plan is None or plan is before or before.peer.target != plan.peer.target:
            return
        before.peer = replace(plan.peer, incarnation=before.peer.incarnation)
        before.todo.extend(filling)
        self._plan = before


class AnyFillCounts(Resync):
    """A fill counts as done whatever the successor said."""

    def _filled(self, now: int, event: Filled) -> None:
        event.code = Code.OK
        super()._filled(now, event)


class FinishesOnce(Resync):
    """The successor is told once that it has everything, and never again."""

    def _go_on(self, now: int, plan: Plan, out: list[ResyncEffect]) -> None:
        super()._go_on(now, plan, out)
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

    def _is_another(self, plan: Plan, incarnation: int) -> bool:
        return False


class FillsBesideLanes(Replica):
    """A fill is sent at once, whatever is under way for its chunk."""

    def _fill_asked(self, now: int, event: FillAsked, out: list[Effect]) -> None:
        lane = self.lanes.get(event.chunk)
        at = self.standing
        if lane is None or event.chain_version != at.version or not at.successor_syncs:
            super()._fill_asked(now, event, out)
            return
        update = fill_of(event.chunk, at.chain, at.version, self.view.get(event.chunk)).update
        serial, floor = self.sendings.send(instead_of=0)
        self.sendings.over(serial)
        update = msgspec.structs.replace(update, from_target=self.target_id, serial=serial, floor=floor)
        out.append(Forward(at.successor, update, serial, committed=update.kind is UpdateKind.FILL))
        out.append(Filled(event.chunk, event.chain_version, Code.OK))
