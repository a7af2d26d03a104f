"""What a replica wants done. The shell carries effects out in the order they are returned.

Order of durability: a `Forward` and a `Commit` of a version are only returned after the `StageDone` event of that version, and an
`AnswerUpdate` with OK only after the `Commit` of it was returned. So an acknowledged update is durable on every live target.

Carried out before the next step: `Commit`, which the store's view must show by then. The rest may be gathered over many steps.

Answered, each exactly once, in a later step: `Stage` by `StageDone`, `Forward` by `ForwardDone`, `DropPending` by `DropDone`.
`FillDone` is itself the answer to `FillRequested`; the shell hands it to its resync machine as an event.

Buffers. The data of an update belongs to the sending that brought it; it may be freed once the `AnswerUpdate` to *that* token has
been returned and every `Forward` that was started with it has been answered or given up. Nothing returned later uses it.
"""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.model.chunk import Tag, Update, UpdateResult


class Stage(msgspec.Struct):
    """Make `update` durable as the pending version; answer with `StageDone`. At most one per chunk is under way."""

    update: Update
    """With its version and the chain version it is staged under."""


class Forward(msgspec.Struct):
    """Send `update` to the successor; answer with `ForwardDone`, also when it fails (its code then says why)."""

    target: TargetId
    update: Update
    """A FILL without data means: read the pending version back from the store (`read_cold(..., pending=True)`) and
    send all of it. Pending updates that a restart interrupted are forwarded so, under their own version and tag. It is the
    answer `ForwardDone(NOT_FOUND)` to this sending when the store has no pending version of that number (any more)."""
    attempt: int
    """Number of this sending, for `ForwardDone`; no two sendings of a target have the same. Also `update.serial`."""
    committed: bool = False
    """Of a resync, a FILL without data: read the *committed* version back and send all of it. `ForwardDone(NOT_FOUND)` when the
    store has another version by now, the code of the failure (CHECKSUM, DISK) when it cannot be read, which sends nothing.

    A FILL_BAD without data, of either version: what the disk gives (`read_damaged`), with the sums it should have, once the mark
    of the chunk is durable here. Of a committed version that is not marked bad any more: a FILL."""


class Commit(msgspec.Struct, gc=False):
    """The pending version becomes the committed one; immediate, never fails, needs no answer. Without `tag.client` no channel row
    is set; that is also so for a tagged update whose client has gone on to a newer one already, which the row must keep."""

    chunk: ChunkId
    version: int
    tag: Tag
    result: UpdateResult


class DropPending(msgspec.Struct, gc=False):
    """Forget the pending version, durably; answer with `DropDone` once it would not come back after a loss of power.

    Only for an update that no target can have acknowledged: the successor has refused it for want of space (see `flight`), or it
    was left behind by an earlier chain version and this target is being brought up to date."""

    chunk: ChunkId
    version: int = 0


class FillDone(msgspec.Struct, gc=False):
    """The answer to `FillRequested`. OK: under `chain_version` the successor has made durable what is committed here, or
    newer."""

    chunk: ChunkId
    chain_version: int
    code: Code
    """Else BUSY (no room for a flight), the successor's refusal, what reading the chunk back gave, or WRONG_CHAIN_VERSION."""
    length: int = 0
    """Bytes that were sent for it alone."""
    sent: bool = False
    """The chunk was sent for it alone; else an update that was under way has done it, or it was removed."""
    removed: bool = False
    """The successor's copy was removed."""
    message: str = ""
    is_damaged: bool = False
    """The successor has the chunk now, as damaged as it is here."""


class AnswerUpdate(msgspec.Struct, gc=False):
    """Answer the update that came with `token`."""

    token: int
    result: UpdateResult


Effect = Stage | Forward | Commit | DropPending | AnswerUpdate | FillDone
