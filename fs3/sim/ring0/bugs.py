"""Planted bugs of the chunk store on files: what it does with a disk, done wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fs3.drivers.chunks import index
from fs3.drivers.chunks.barrier import Barrier
from fs3.drivers.chunks.channel_table import ChannelEntry, ChannelTable
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.reclaimer import BlockReclaimer, Retired
from fs3.drivers.chunks.write_path import WritePath
from fs3.model.chunk import ChannelKey
from fs3.runtime.durable_files import sync_directory
from fs3.sim.planting import Patch


@dataclass(frozen=True)
class StoreBug:
    """One planted bug."""

    what: str
    patches: Sequence[Patch]
    seeds: int
    """Within so many seeds it must be found."""
    arranged: str = ""
    """Seeds find them all."""


def _sync_no_names(self: BlockFiles) -> None:
    """The index commits rows that refer to a file whose name may be lost."""


def _sync_names_only(self: Barrier, files: BlockFiles) -> None:
    files.sync_names()


def _sync_index_only(directory: Path) -> None:
    """The directory says that it had an index before the index is sure to be there."""
    if directory.name == "index":
        sync_directory(directory)


def _take_outcome_and_changes(self: WritePath, barrier: Barrier) -> None:
    """What was changed while the barrier was under way counts as written by it."""
    _real_take_outcome(self, barrier)
    self._changes.changed_rows = {}


_real_take_outcome = WritePath._take_outcome


def _mark_channels_durable(self: ChannelTable, taken: dict[ChannelKey, ChannelEntry | None]) -> None:
    """So does a channel row that has changed again."""
    for key in taken:
        self._unsynced.pop(key, None)


def _reclaim_all_retired(self: BlockReclaimer, retired: list[Retired], now: int) -> None:
    """Blocks that were retired while the barrier was under way are freed with those it has taken along."""
    _real_reclaim(self, retired + self.take_retired(), now)


_real_reclaim = BlockReclaimer.reclaim


def _guard_nothing(self: BlockReclaimer, place: int) -> bool:
    """Appends go behind the committed bytes, whatever the index still refers to there."""
    return False


BUGS: dict[str, StoreBug] = {
    "names_unsynced": StoreBug(
        "a row refers to a new block file before the directory is synced", [(BlockFiles, "sync_names", _sync_no_names)], 3
    ),
    "data_unsynced": StoreBug("a row refers to data that were not synced", [(Barrier, "_sync", _sync_names_only)], 3),
    "marker_before_index": StoreBug(
        "a new directory says that it has an index before the index's name is synced",
        [(index, "sync_directory", _sync_index_only)],
        10,
    ),
    "forgets_what_changed_meanwhile": StoreBug(
        "a barrier forgets a row that was changed while it was under way",
        [(WritePath, "_take_outcome", _take_outcome_and_changes)],
        3,
    ),
    "forgets_channel_meanwhile": StoreBug(
        "a barrier forgets a channel row that was changed again while it was under way",
        [(ChannelTable, "mark_durable", _mark_channels_durable)],
        3,
    ),
    "frees_what_came_later": StoreBug(
        "a barrier frees blocks that were retired after it had begun", [(BlockReclaimer, "reclaim", _reclaim_all_retired)], 20
    ),
    "appends_over_pending": StoreBug(
        "an append goes over the bytes of a pending version that was dropped",
        [(BlockReclaimer, "is_guarded", _guard_nothing)],
        20,
    ),
}
