"""Mistakes in the admission of updates: tags, fences, late duplicates."""

from __future__ import annotations

from fs3.base.ids import ChunkId, TargetId
from fs3.core.craq.admission import Fence, Place, Step
from fs3.core.craq.judge import Judge
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.replica import Replica
from fs3.core.craq.sendings import Heard
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind


class ForgetsTags(Judge):
    """No duplicate suppression: the channel rows are not looked at."""

    def channel(self, tag: Tag) -> ChannelRow | None:
        return None


class FencesNothing(Judge):
    """The chain version of an update is not compared."""

    def fence(self, update: Update) -> Fence:
        return Fence.EQUAL


class NeverLate(Heard):
    """A forwarded update that arrives after everything is over is taken for a new one."""

    def is_late(self, update: Update) -> bool:
        return False


class OnlyFloor(Heard):
    """Late is only what the floor covers, which waits for all chunks."""

    def is_late(self, update: Update) -> bool:
        self._latest.clear()
        self._order.clear()
        return super().is_late(update)


def judged_by(judge: type[Judge], heard: type[Heard] = Heard) -> type[Replica]:
    class Judged(Replica):
        def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits) -> None:
            super().__init__(target_id, view, incarnation=incarnation, limits=limits)
            self.judge = judge(target_id, view)
            self.judge.heard = heard()

    return Judged


class SameAgain(Heard):
    """A copy of the very sending that was refused for want of room is not late."""

    def refuse(self, chunk: ChunkId) -> None:
        pass


class FillsAreNeverLate(Heard):
    """A fill that arrives late is taken for a new one."""

    def is_late(self, update: Update) -> bool:
        late = super().is_late(update)
        return late and update.kind is not UpdateKind.FILL


class FillsGoBack(Judge):
    """A fill replaces whatever is there, also what is newer."""

    def step(self, update: Update, meta: ChunkMeta | None) -> Step:
        found = super().step(update, meta)
        goes_back = found is Step.PAST and update.kind is UpdateKind.FILL and self.standing.place is Place.SYNCING
        return Step.NEXT if goes_back else found
