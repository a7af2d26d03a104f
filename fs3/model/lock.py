"""Locks on files: who holds which bytes, who waits, and what the metadata service is asked about them."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final

import msgspec

from fs3.base.ids import ClientId, InodeId
from fs3.model.requests import Request

LOCK_END: Final = 1 << 63
"""Bytes: where a lock ends that goes on to the end of the file, however far that moves. No lock ends behind it."""


class LockKind(IntEnum):
    """Locks of different kinds do not know of each other. Numbers as on the wire and in rows."""

    FLOCK = 1
    """flock(2): of a whole file."""
    RANGE = 2
    """fcntl(2): of a range of bytes, read (shared) or write (exclusive)."""


class LockStep(IntEnum):
    """What is to be done about a lock. Numbers as on the wire."""

    TRY = 1
    """Acquire it, or LOCKED while another owner holds what conflicts."""
    WAIT = 2
    """Acquire it when its turn has come. LOCKED: not yet, ask again with the same `wait`."""
    UNLOCK = 3
    """Give up what the owner holds of the range."""
    WITHDRAW = 4
    """The wait is over, or its outcome is not known: no request of it counts any more, and what one was granted is given back."""
    RELEASE_OWNER = 5
    """Give up all that the owner holds of the file, and waits for, of both kinds."""
    RELEASE_CLIENT = 6
    """Give up all that the client holds and waits for, of all files."""


class LockOwner(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who holds a lock. An owner's own locks never conflict with each other: a new one replaces what it overlaps."""

    client: ClientId
    number: int
    """Given by the client."""
    by_handle: bool
    """The number is that of an open handle; else one that the caller of the client chose, for a process of its own."""


class HeldLock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A lock."""

    kind: LockKind
    owner: LockOwner
    start: int
    """First byte."""
    end: int
    """First byte behind it."""
    exclusive: bool
    epoch: int
    """Of the client's locks when it was acquired. It is void when the client has another one, or none."""


class LockWait(HeldLock, frozen=True, array_like=True, gc=False):
    """A lock that an owner waits for."""

    wait: int
    """Number of the request it began with: the client's name for it."""


class FoundLock(HeldLock, frozen=True, array_like=True, gc=False):
    """A lock that is in the way of who asks."""

    process: int = 0
    """Of its owner, as processes are numbered where it is asked for; 0: it is none of these, or did not say."""


class LockProcess(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which process an owner of locks is."""

    owner: LockOwner
    process: int
    pid_space: int
    """Where it has this number: in which pid namespace of which running machine."""


class InodeLocks(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All locks of one file."""

    held: tuple[HeldLock, ...] = ()
    """By owner, kind and start; those of one owner and kind neither overlap nor, with the same mode, touch."""
    waiting: tuple[LockWait, ...] = ()
    """In the order they came."""
    processes: tuple[LockProcess, ...] = ()
    """Of owners that hold locks and have said which process they are."""


class WaitPlace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an owner of a client waits."""

    number: int
    by_handle: bool
    inode: InodeId
    wait: int


class ClientLocks(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of all locks of one client."""

    epoch: int
    """Never used again, and larger than any before: when it ends, so do all locks of the client at once."""
    locks: int = 0
    """Locks it holds, of all files."""
    waits: tuple[WaitPlace, ...] = ()


class LockAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What came of a request about a lock."""

    epoch: int
    """Of the client's locks; 0: it has none."""
    granted: bool = True
    """False: the owner has a place in the queue, and not yet the lock."""
    before: tuple[HeldLock, ...] = ()
    """What the owner held of the range before: to give the lock back."""


class Lock(Request[LockAnswer], frozen=True):
    """Acquire a lock, or give some up. See `fs3.core.meta.ops.lock`."""

    inode: InodeId
    """RELEASE_CLIENT: 0."""
    step: LockStep
    kind: LockKind = LockKind.FLOCK
    owner: int = 0
    by_handle: bool = False
    exclusive: bool = False
    start: int = 0
    end: int = LOCK_END
    epoch: int = 0
    """Of the locks that the client believes to hold: LOCKS_LOST when they have ended. 0: it holds none, or does not ask."""
    wait: int = 0
    """WAIT, TRY, WITHDRAW: number of the first request of this wait."""
    asked: int = 0
    """WITHDRAW: number of its last request."""
    passing: tuple[tuple[ClientId, int], ...] = ()
    """WAIT: waits that are dropped because they do not ask although it is their turn, by client and `wait`. Not on the wire: the
    service's own knowledge."""
    process: int = 0
    """TRY, WAIT: the owner is this process; 0: it does not say."""
    pid_space: int = 0
    """As in `LockProcess`."""

    @property
    def may_use_reserve(self) -> bool:  # type: ignore[override]
        """A lock that is given up takes less room."""
        return self.step not in (LockStep.TRY, LockStep.WAIT)


class GetLock(Request[FoundLock | None], frozen=True):
    """A lock that conflicts with this one and is another owner's; None: it could be acquired."""

    mutates: ClassVar[bool] = False
    inode: InodeId
    kind: LockKind = LockKind.FLOCK
    owner: int = 0
    by_handle: bool = False
    exclusive: bool = False
    start: int = 0
    end: int = LOCK_END
    epoch: int = 0
    """As in Lock."""
    pid_space: int = 0
    """Of the process that asks, as in `LockProcess`: processes of others are not told. 0: none is."""
