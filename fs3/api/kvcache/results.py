"""What calls of a KVCache say: a status per key, and what a lookup or a listing found."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from fs3.api.kvcache.leases import BlockingLease, PageLease
from fs3.base.status import Code


class Status(Enum):
    """What became of one key."""

    OK = "ok"
    """Stored and durable on every replica; or read and verified."""
    EXISTS = "exists"
    """Put: another put had stored the page already. Counts as success."""
    MISS = "miss"
    """Get: there is no such page."""
    OTHER_LENGTH = "other length"
    """Get: the page is there, but it is longer than the buffer, or shorter and no lengths were asked for; or the range ends
    behind it."""
    CORRUPT = "corrupt"
    """Get: every replica says that its copy is damaged. The page is removed then; another put stores it."""
    NO_SPACE = "no space"
    """Put: the cluster is full."""
    TIMEOUT = "timeout"
    """Not known in time; a put may still take effect."""
    ERROR = "error"
    """The storage nodes could not be asked, or not all replicas of a page whose other copies are damaged."""

    @property
    def ok(self) -> bool:
        """The page is there, and after a get its bytes are in the buffer."""
        return self in (Status.OK, Status.EXISTS)


class LookupResult(NamedTuple):
    """Which keys have pages."""

    hits: int
    """Length of the longest prefix of the keys that is there."""
    bitmap: list[bool]
    """Per key: its page is there."""
    statuses: list[Status]
    """Per key: OK, MISS, or why it is not known whether it is there (TIMEOUT, ERROR)."""
    lengths: list[int]
    """Per key: bytes of its page; 0 where it is not there or that is not known."""
    lease: PageLease | BlockingLease | None = None
    """Of a lookup that asked for one."""


class ListedPage(NamedTuple):
    """A page that a listing found."""

    key: bytes
    length: int
    """Bytes of the page."""


class PageList(NamedTuple):
    """A part of the pages of a namespace."""

    pages: list[ListedPage]
    """In no order that means anything."""
    after: bytes | None
    """To go on with; None: that was all."""
    skipped: int
    """Chunks in between that are no pages of this format, or damaged on every replica."""


_STATUS = {
    Code.OK: Status.OK,
    Code.EXISTS: Status.EXISTS,
    Code.NOT_FOUND: Status.MISS,
    Code.NO_SPACE: Status.NO_SPACE,
    Code.DEADLINE: Status.TIMEOUT,
}


def status_of(code: Code) -> Status:
    """What a caller is told of an outcome at the storage nodes."""
    return _STATUS.get(code, Status.ERROR)
