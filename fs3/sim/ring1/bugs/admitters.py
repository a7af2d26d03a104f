"""Mistakes in the admission of updates: tags, fences, late duplicates."""

from __future__ import annotations

from fs3.base.ids import ChunkId, TargetId
from fs3.core.craq.admission.admitter import Admitter
from fs3.core.craq.admission.table import UNTAGGED, FenceCheck, Step
from fs3.core.craq.flights import Flights
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.position import ChainRole
from fs3.core.craq.send_window import DuplicateFilter
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind


class ForgetsTags(Admitter):
    """No duplicate suppression: the channel rows are not looked at."""

    def find_channel_row(self, tag: Tag) -> ChannelRow | None:
        return None


class ForgetsAnswers(Admitter):
    """What a client was told of an update that changed nothing is not remembered."""

    def find_last_answer(self, tag: Tag) -> ChannelRow | None:
        return self.find_channel_row(tag)


class FencesNothing(Admitter):
    """The chain version of an update is not compared."""

    def check_fence(self, update: Update) -> FenceCheck:
        return FenceCheck.EQUAL


class RowGoesBack(Admitter):
    """The channel row is set to whatever was committed last, also when that is older."""

    def choose_row_tag(self, tag: Tag) -> Tag:
        return tag


class RowOfView(Admitter):
    """The channel row is compared with the store's, which does not show yet what the same step committed before."""

    def choose_row_tag(self, tag: Tag) -> Tag:
        row = self.view.get_channel(tag.client, tag.channel)
        return UNTAGGED if row is not None and row.seq > tag.seq else tag


class NeverLate(DuplicateFilter):
    """A forwarded update that arrives after everything is over is taken for a new one."""

    def is_late(self, update: Update) -> bool:
        return False


class OnlyFloor(DuplicateFilter):
    """Late is only what the floor covers, which waits for all chunks."""

    def is_late(self, update: Update) -> bool:
        self._latest.clear()
        self._order.clear()
        return super().is_late(update)


def with_admitter(admitter: type[Admitter], duplicates: type[DuplicateFilter] = DuplicateFilter) -> type[Flights]:
    class MistakenAdmission(Flights):
        def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits) -> None:
            super().__init__(target_id, view, incarnation=incarnation, limits=limits)
            self.admitter = admitter(target_id, view, self.admitter.answers)
            self.admitter.duplicates = duplicates()

    return MistakenAdmission


class SameAgain(DuplicateFilter):
    """A copy of the very sending that was refused for want of room is not late."""

    def expire_latest(self, chunk: ChunkId) -> None:
        pass


class FillsAreNeverLate(DuplicateFilter):
    """A fill that arrives late is taken for a new one."""

    def is_late(self, update: Update) -> bool:
        late = super().is_late(update)
        return late and update.kind is not UpdateKind.FILL


class FillsGoBack(Admitter):
    """A fill replaces whatever is there, also what is newer."""

    def compare_version(self, update: Update, meta: ChunkMeta | None) -> Step:
        found = super().compare_version(update, meta)
        goes_back = found is Step.PAST and update.kind is UpdateKind.FILL and self.position.role is ChainRole.SYNCING
        return Step.NEXT if goes_back else found
