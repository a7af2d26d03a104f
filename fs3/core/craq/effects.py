"""What a replica wants done. The shell carries effects out in the order they are returned.

Order of durability: a `Forward` and a `Commit` of a version are only returned after the `Staged` event of that version, and a
`Reply` with OK only after the `Commit` of it was returned. So an acknowledged update is durable on every live target.
"""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import ChunkId, TargetId
from fs3.model.chunk import Tag, Update, UpdateResult


@dataclass(slots=True)
class Stage:
    """Make `update` durable as the pending version; answer with `Staged`. At most one per chunk is under way."""

    update: Update
    """With its version and the chain version it is staged under."""


@dataclass(slots=True)
class Forward:
    """Send `update` to the successor; answer with `Acked`, also when it fails (its code then says why)."""

    target: TargetId
    update: Update
    """A FILL without data means: read the pending version back from the store (`read_cold(..., pending=True)`) and
    send all of it. Pending updates that a restart interrupted are forwarded so, under their own version and tag."""
    attempt: int


@dataclass(slots=True)
class Commit:
    """The pending version becomes the committed one; immediate, never fails, needs no answer."""

    chunk: ChunkId
    version: int
    tag: Tag
    result: UpdateResult


@dataclass(slots=True)
class DropPending:
    """Forget the pending version: it was refused downstream for good and was never acknowledged."""

    chunk: ChunkId


@dataclass(slots=True)
class Reply:
    """Answer the update that came with `token`."""

    token: int
    result: UpdateResult


Effect = Stage | Forward | Commit | DropPending | Reply
