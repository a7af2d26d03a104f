"""Where a machine stands: what may fail together with it."""

from __future__ import annotations

import msgspec


class Domain(msgspec.Struct, frozen=True, array_like=True):
    """The failure domains of a node, as its operator names them. "" where nothing is said: then it shares none with any other."""

    zone: str = ""
    """A room, a power supply, a data centre."""
    rack: str = ""
    """Within the zone."""

    def __str__(self) -> str:
        return "/".join(part for part in (self.zone, self.rack) if part)


NOWHERE = Domain()
"""Nothing is said."""


def shared_levels(one: Domain, other: Domain) -> int:
    """How much two different nodes share: 0 nothing, 1 the zone, 2 the rack as well."""
    if not (one.zone or one.rack) or one.zone != other.zone:
        return 0
    if one.rack and one.rack == other.rack:
        return 2
    return 1 if one.zone else 0
