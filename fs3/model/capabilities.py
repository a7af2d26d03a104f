"""The request by which clients get capabilities of contents (`fs3.core.security.capability`), and have them renewed."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.model.requests import Request


class WantedCapability(NamedTuple):
    """One that is asked for."""

    content: InodeId
    rights: int
    """`READ`, `WRITE` or both."""
    held: bytes = b""
    """What the client has of the kind, which may have expired: it is renewed without looking at permissions, as a file that is
    open stays open. b"": it has none."""


class GetCapabilities(Request[list["bytes | Code"]], frozen=True):
    """Per content a capability, or why there is none: NOT_FOUND, ACCESS, BUSY when none can be sealed at the moment."""

    mutates: ClassVar[bool] = False
    wanted: tuple[WantedCapability, ...]
    """At most `capabilities_per_request_max`."""
