"""What happens to a replica. Each event is a value; `Replica.step(now, event)` returns the effects it has."""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.model.chain import Chain
from fs3.model.chunk import Update, UpdateResult


class UpdateReceived(msgspec.Struct):
    """A client or the predecessor asks for an update. `token` comes back in one `AnswerUpdate`."""

    update: Update
    token: int
    refusal: str = ""
    """Why the shell of the head has no room for an update that would begin or wait: it is answered NO_SPACE, once and for all its
    copies. One that is under way or over is answered as ever."""


class StageDone(msgspec.Struct, gc=False):
    """The store finished a `Stage` effect: durable as the pending version when the code is OK, without any trace otherwise."""

    chunk: ChunkId
    version: int
    code: Code
    length: int
    checksum: int
    message: str = ""


class ForwardDone(msgspec.Struct, gc=False):
    """The successor answered a `Forward` effect. `attempt` is the effect's, so that a late answer to an old sending is known."""

    chunk: ChunkId
    version: int
    attempt: int
    result: UpdateResult


class ChainChanged(msgspec.Struct):
    """Newer routing: this target's chain, or None when it is in none any more."""

    chain: Chain | None


class StoreOpened(msgspec.Struct, gc=False):
    """The store was opened and has these pending chunks; comes once, after the first ChainChanged. Until then this target takes
    no place in its chain: it accepts no updates and must serve no reads (`Replica.readable_chain`)."""

    pending: tuple[ChunkId, ...]
    whole: bool = True
    """False: the store was made anew for a target that had one before, and has not been brought up to date since. Such a target
    takes no place in its chain but SYNCING, whatever the chain says: it would show holes where there are chunks."""
    is_born: bool = True
    """False: the manager may not have stored that this target was ever complete; then `BirthStored` comes later. Until then it
    takes no place in its chain but SYNCING either: were its disk exchanged now, the manager would take the empty one for that of
    a new target, and what this one had acknowledged would be missing from a target that serves."""


class BirthStored(msgspec.Struct, gc=False):
    """The manager has stored that this target has been complete: an empty disk in its place is a loss from now on. Known from the
    answer to a heartbeat that reported the target UPTODATE and was granted a lease. May come again."""


class DropDone(msgspec.Struct, gc=False):
    """The store finished a `DropPending` effect: the pending version is gone, also after a loss of power."""

    chunk: ChunkId
    version: int


class FillRequested(msgspec.Struct, gc=False):
    """Bring the successor's copy of one chunk up to date with the committed one here; from the resync machine (`resync.Fill`).

    Answered with exactly one `FillDone` effect, at the latest in the step of the next `ChainChanged` to a newer version. Never
    two at a time for one chunk and chain version. A chunk that does not exist here is removed there."""

    chunk: ChunkId
    chain_version: int
    """Of the resync. When it is not this replica's any more, the answer is WRONG_CHAIN_VERSION."""
    damaged_version: int = 0
    """No target that serves has the bytes of this version: if it is the committed one still, it is sent as damaged. 0: none."""


class Tick(msgspec.Struct, gc=False):
    """A deadline the machine asked for (`next_deadline`) has passed."""


Event = UpdateReceived | StageDone | ForwardDone | ChainChanged | StoreOpened | BirthStored | DropDone | FillRequested | Tick
