"""What a client is told of the inodes whose attributes it remembers. See docs/protocols/attribute-leases.md."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from fs3.base.ids import InodeId
from fs3.model.requests import Request


class WatchNews(msgspec.Struct, frozen=True):
    """An answer to `Watch`."""

    watch: int
    """Names the watch."""
    serial: int
    """Of these news."""
    inodes: tuple[InodeId, ...] = ()
    """Have changed, or are not watched any more."""
    all: bool = False
    """Everything counts as changed: the watch has begun, or too much has changed."""
    lease_ns: int = 0
    """How long what is remembered holds, from when the question was sent."""


END_WATCH: Final = (1 << 64) - 1
"""As what was seen: the client remembers nothing any more, and ends its watch."""


class Watch(Request[WatchNews], frozen=True):
    """Which of the inodes that this client remembers have changed? Answered when some have, or a part of the lease is over."""

    mutates: ClassVar[bool] = False

    watch: int = 0
    """0 begins one."""
    seen: int = 0
    """The newest news that the client has acted on."""
