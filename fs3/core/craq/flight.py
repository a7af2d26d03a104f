"""One update in progress on one target: from being staged until it is committed here.

Three ends of a flight that is not committed:

- The store refuses to stage it: nothing is left of it, and its waiters are told why.
- The successor answers NO_SPACE. It has nothing pending for this version then, whatever was sent before: had an earlier sending
  been staged there, it would have gone on with that; and whatever copy of a sending is still under way to it, it drops as late
  (`DuplicateFilter.expire_latest`). No target further down can have what the successor has not. So the pending version is
  dropped here, durably, before NO_SPACE goes upstream, where the same follows; the head tells the client, for whom nothing has
  happened. The number is free again. A *syncing* successor without room is no reason to refuse anything: it reports itself
  OFFLINE and the chain goes on without it.
- This target leaves the live chain: nothing here decides anything any more, and what is pending stays pending, until it serves
  again (all were lost and it restarts the chain) or comes back to be brought up to date (`Flights.resume_orphans`).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.status import Code
from fs3.base.units import NEVER
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.effects import AnswerUpdate, Effect
from fs3.model.chunk import ChunkMeta, Update, UpdateKind, UpdateResult


class FlightPhase(IntEnum):
    """Where a flight is."""

    STAGING = 1
    """The store is making it durable."""
    FORWARDING = 2
    """It was sent to the successor under `serial`."""
    RESTING = 3
    """The successor refused it; it will be sent again at `retry_ns`."""
    HALTED = 4
    """The successor staged other bytes than this target. Left as evidence until the chain changes."""
    DROPPING = 5
    """The successor has no room for it: the store is forgetting it."""


class Flight(msgspec.Struct):
    """The state of an update in progress.

    `retry_ns` is the one deadline of a sending: an answer moves it, its passing starts the next attempt under a new serial, and
    answers to earlier serials are ignored. So a refusal and a timeout never start two attempts.
    """

    update: Update
    """As it was staged, with its version."""
    phase: FlightPhase
    waiters: list[int]
    """Tokens of the client's or predecessor's sendings of this very update; all get one answer."""
    expires_ns: int
    """When the waiters are answered DEADLINE. The flight goes on without them."""
    retry_ns: int = NEVER
    serial: int = 0
    """Of the sending that is waited for; 0 when none is."""
    attempts: int = 0
    """Sendings under the present chain version."""
    length: int = 0
    checksum: int = 0
    """Of the chunk once this update is committed."""
    has_data: bool = True
    """`update.data` may be sent. Not after a restart, nor once the waiters, whose buffers it is in, have been answered."""
    needs_whole: bool = False
    """The successor wants all of the chunk: it has not got the version before."""
    is_fill: bool = False
    """Nothing is staged here: the successor is sent what is committed. Has no waiters, and ends with a `FillDone`."""
    abandoned: bool = False
    """This target left the live chain while the store was staging or forgetting it."""
    refusal: Code = Code.OK
    """How the successor refused it last."""
    why: str = ""
    """Its message, when it ends the flight."""

    @property
    def due_ns(self) -> int:
        """When something has to be done about it. While the store works on it nothing can be."""
        if self.phase is FlightPhase.STAGING or self.phase is FlightPhase.DROPPING:
            return NEVER
        return min(self.retry_ns, self.expires_ns) if self.waiters else self.retry_ns

    def make_sending(self, chain_version: int, source: TargetId, serial: int, floor: int) -> Update:
        """What the successor is sent: the update as it came, while its bytes are in memory and the successor can take them; else
        a FILL without data, which the shell reads back from the store."""
        update = self.update
        if update.kind is not UpdateKind.REMOVE and (self.needs_whole or not self.has_data):
            kind = UpdateKind.FILL_BAD if update.kind is UpdateKind.FILL_BAD else UpdateKind.FILL
            update = msgspec.structs.replace(update, kind=kind, offset=0, length=self.length, checksums=(), reserve=0, data=None)
        return msgspec.structs.replace(update, chain_version=chain_version, from_target=source, serial=serial, floor=floor)

    def describe_difference(self, result: UpdateResult) -> str:
        """How what a successor staged differs from what is here; "" when it does not. Nothing is left to compare of a removal."""
        version = self.update.version
        if result.version == version:
            if self.update.kind is UpdateKind.REMOVE:
                return ""
            if result.checksum == self.checksum and result.length == self.length:
                return ""
        return (
            f"version {version}, {self.length} bytes, {self.checksum:08x} and "
            f"version {result.version}, {result.length} bytes, {result.checksum:08x}"
        )


def make_resumed_flight(template: Update, meta: ChunkMeta, waiters: list[int], expires_ns: int) -> Flight:
    """The flight of a pending version that is in the store only. `template` names chunk and chain; the rest is stored with it."""
    kind = meta.pending_kind if meta.pending_kind in (UpdateKind.REMOVE, UpdateKind.FILL_BAD) else UpdateKind.FILL
    update = Update(
        chunk=template.chunk,
        kind=kind,
        chain=template.chain,
        chain_version=template.chain_version,
        version=meta.pending,
        offset=0,
        length=meta.pending_length,
        tag=meta.pending_tag or UNTAGGED,
    )
    return Flight(
        update,
        FlightPhase.RESTING,
        waiters,
        expires_ns,
        length=meta.pending_length,
        checksum=meta.pending_checksum,
        has_data=False,
    )


def make_fill_flight(
    chunk: ChunkId, chain: ChainId, chain_version: int, meta: ChunkMeta | None, damaged_version: int = 0
) -> Flight:
    """The flight that brings the successor's copy of a chunk up to date with what is committed here; a removal when nothing is.

    A removal needs no version: whatever the successor has of the chunk goes. `damaged_version`: see `FillRequested`.
    """
    kind, version, length, checksum = UpdateKind.REMOVE, 1, 0, 0
    if meta is not None and meta.committed:
        kind = UpdateKind.FILL_BAD if meta.committed == damaged_version else UpdateKind.FILL
        version, length, checksum = meta.committed, meta.length, meta.checksum
    update = Update(chunk, kind, chain, chain_version, version, 0, length, UNTAGGED)
    return Flight(update, FlightPhase.RESTING, [], NEVER, length=length, checksum=checksum, has_data=False, is_fill=True)


def answer_all(waiters: list[int], result: UpdateResult, out: list[Effect]) -> None:
    """All tokens get the same answer, once: `waiters` is empty afterwards."""
    out += [AnswerUpdate(token, result) for token in waiters]
    waiters.clear()
