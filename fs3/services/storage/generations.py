"""The generations of a node's targets: written down before the node registers, settled by what the manager remembers.

The rules are those of `fs3.core.membership.generations`; here is what is written where, and what becomes of a target then. One
for which nothing could be written, because its disk is full, goes on in the generation it has: read-only, so that a copy of its
directory stays as good as the directory itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.membership.generations import Lineage, begin, begin_beside, compare
from fs3.model.cluster import RegistrationAck
from fs3.model.generation import Generation, TargetClaim, TargetGeneration
from fs3.ports.disks import Disks, TargetNote

log = logging.getLogger("fs3.storage")

BEHIND = "its directory is an old copy, or does not say how far it is: what it lacks is taken over from the chain"
AHEAD = (
    "its directory has been started since the manager's store was copied: that store is old. Nothing is touched; "
    "`fs3 admin accept-loss` lets the chain go on with what is here"
)


class GenerationRegistry(Protocol):
    """Who remembers generations; a `Member` of the cluster."""

    async def confirm(self, claims: Sequence[TargetClaim]) -> RegistrationAck:
        """Tell the manager what has been written down; what it remembers then is in the answer. Raises FS3Error."""
        ...


class TargetGenerations:
    """What is written down for each target, and what the manager is known to remember of it."""

    def __init__(self, disks: Disks, registry: GenerationRegistry) -> None:
        self.unwritten: dict[TargetId, str] = {}
        """Targets whose disk had no room for a generation of this start, and what to tell people."""
        self._disks = disks
        self._registry = registry
        self._remembered: dict[TargetId, Generation] = {}

    def learn(self, remembered: Iterable[TargetGeneration]) -> None:
        """The answer to a registration."""
        self._remembered.update((each.target, each.generation) for each in remembered)

    def newest(self, target: TargetId) -> Generation | None:
        """What the directory of a target has; None when it has none, or is not there."""
        try:
            written = self._disks.read_note(target).generations
        except KeyError:
            return None
        return written[-1] if written else None

    def begin(self, target: TargetId) -> TargetClaim:
        """A target starts: what to tell the manager. DISK when its directory cannot be written."""
        note = self._disks.read_note(target)
        if not note.generations:
            return TargetClaim(target)
        written = begin(note.generations, self._disks.draw_token())
        try:
            self._disks.write_note(target, replace(note, generations=written))
        except FS3Error as failure:
            if failure.code is not Code.NO_SPACE:
                raise
            if target not in self.unwritten:
                log.error("target %d is read-only until its disk has room: %s", target, failure)
            self.unwritten[target] = f"its disk is full: read-only until there is room ({failure.strerror or failure})"
            return TargetClaim(target, note.generations)
        if self.unwritten.pop(target, None):
            log.info("the disk of target %d has room again", target)
        return TargetClaim(target, written)

    async def confirm(self, claim: TargetClaim) -> None:
        """A target starts after its node has registered: have the manager know. Raises FS3Error."""
        ack = await self._registry.confirm([claim])
        self.learn(ack.generations)

    async def write_late(self, target: TargetId) -> bool:
        """Try again to write a generation down that found no room. True when the target may be written to."""
        try:
            claim = self.begin(target)
            if target in self.unwritten:
                return False
            await self.confirm(claim)
            self.settle(target)
        except FS3Error as failure:
            log.warning("target %d stays read-only: %s", target, failure)
            self.unwritten.setdefault(target, str(failure))
            return False
        return True

    def settle(self, target: TargetId) -> Lineage:
        """The manager has answered: how the directory and what it remembers belong together, and have it written down."""
        note = self._disks.read_note(target)
        remembered = self._remembered.get(target)
        lineage = compare(note.generations, remembered)
        if lineage is Lineage.AHEAD:
            return lineage
        if lineage is Lineage.CURRENT and note.generations:
            after = replace(note, generations=note.generations[-1:])
            self._remembered[target] = note.generations[-1]
        else:
            token = note.generations[-1].token if note.generations else self._disks.draw_token()
            whole = note.whole and lineage is Lineage.CURRENT
            after = replace(note, whole=whole, generations=(begin_beside(remembered, token),))
        self._write(target, after)
        return lineage

    def begin_empty(self, target: TargetId) -> None:
        """An empty store takes the place of a target's. NO_SPACE or DISK when that cannot be written down."""
        note = self._disks.read_note(target)
        generation = begin_beside(self._remembered.get(target), self._disks.draw_token())
        self._disks.write_note(target, replace(note, generations=(generation,)))

    def accept(self, target: TargetId) -> None:
        """A person says that what is here shall count as complete. NO_SPACE or DISK when that cannot be written down."""
        note = self._disks.read_note(target)
        self._disks.write_note(target, replace(note, whole=True))

    def _write(self, target: TargetId, note: TargetNote) -> None:
        """What is there says the same, at greater length: when there is no room it stays."""
        try:
            self._disks.write_note(target, note)
        except FS3Error as failure:
            if failure.code is not Code.NO_SPACE:
                raise
