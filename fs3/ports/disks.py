"""What a storage service needs to know of its disks, whatever they are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from fs3.base.ids import TargetId
from fs3.model.cluster import DiskSpace
from fs3.model.generation import Generation
from fs3.ports.chunk_store import ChunkStore

StoreFactory = Callable[[TargetId], Awaitable[ChunkStore]]
"""Opens the store of a target the disks have a place for. Raises FS3Error when it cannot be used, StoreDamaged when it is not
what was written."""


class TargetNote(msgspec.Struct, frozen=True):
    """What is written down beside a target's store."""

    whole: bool = True
    """The store has everything the target ever acknowledged, as long as the target keeps serving. An empty store in the place of
    a lost one has not, until the chain has filled it."""
    scrub_after: bytes = b""
    """The chunk a scrub under way has reached; b"" when none is."""
    scrub_passes: int = 0
    """Scrubs that went through the whole store."""
    generations: tuple[Generation, ...] = ()
    """See `fs3.core.membership.generations`: the one the store had, then those begun since, the newest last. Empty: not known."""


class Disks(Protocol):
    """What a storage service needs to know of its disks; `DataDirectories` is the one of production."""

    name: str
    """Of the node."""
    cluster: bytes
    """Id of the cluster the data belongs to; b"" before the node has joined one."""

    @property
    def directory(self) -> str:
        """Which locked directory this is, as its host numbers them: a copy of it is another one."""
        ...

    def next_incarnation(self) -> int:
        """Count one more start: the node's incarnation. 0 when the directories are new and nothing is known: then the manager
        says which one this is, and `store_incarnation` keeps it. Durably, unless there is no room: then the manager tells the
        next start from this one."""
        ...

    def store_incarnation(self, incarnation: int) -> None:
        """Remember the incarnation the manager gave, durably unless there is no room. Before anything is served."""
        ...

    def join(self, cluster: bytes) -> None:
        """Remember the cluster, durably. WRONG_CLUSTER when the data belongs to another one."""
        ...

    def targets(self) -> list[TargetId]:
        """Targets whose data is here and may be opened."""
        ...

    def lost_targets(self) -> dict[TargetId, str]:
        """Targets that were made here and whose data is gone for good, with what to tell people. `make` one anew: not whole."""
        ...

    def failed_targets(self) -> dict[TargetId, str]:
        """Targets whose data cannot be used and may come back: their disk does not work, or it is not theirs. With why."""
        ...

    def make(self, target: TargetId, *, whole: bool) -> None:
        """A place for a target that has none, durably: a store opened there is empty. DISK when no disk takes it."""
        ...

    def read_note(self, target: TargetId) -> TargetNote:
        """What is written down about a target that is here."""
        ...

    def write_note(self, target: TargetId, note: TargetNote) -> None:
        """Write it down, durably. NO_SPACE when there is no room, DISK when it fails otherwise; the note is what it was then."""
        ...

    async def read_recency(self, target: TargetId) -> bytes:
        """What `write_recency` wrote last, or anything after a loss of power; b"" when there is nothing. DISK."""
        ...

    async def write_recency(self, target: TargetId, content: bytes) -> None:
        """Keep in which order the pages of a target go, instead of what was kept before; not durably, since it is only a help.
        NO_SPACE, DISK."""
        ...

    def quarantine(self, target: TargetId) -> str:
        """Move the data of a target, whose store is closed, out of the way; nothing is deleted. Returns where it is now. The
        target is `lost` then. DISK when it cannot be moved."""
        ...

    async def discard(self, target: TargetId) -> None:
        """Delete the data of a target, whose store is closed, and forget that it was ever made here. DISK when it cannot be done;
        it may be tried again."""
        ...

    def draw_token(self) -> bytes:
        """Random bytes for a generation: no other start of these disks, or of a copy of them, draws the same."""
        ...

    def measure_space(self) -> list[DiskSpace]:
        """How much room there is on each disk that works, and which targets are there."""
        ...

    def leave_unused(self, paths: Sequence[str]) -> bool:
        """Make no target on these disks from now on, by the paths of `measure_space`, unless there is no other. Whether that is
        news."""
        ...
