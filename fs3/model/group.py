"""Groups that have a name. What users have, and permissions are judged by, is the gid."""

from __future__ import annotations

import msgspec


class Group(msgspec.Struct, frozen=True, array_like=True):
    """A name for a gid. A row of the manager's store: new fields go at the end with a default."""

    name: str
    gid: int


class PutGroup(msgspec.Struct, frozen=True):
    """A group is added, or gets another gid. Answered with the `Group`."""

    name: str
    must_be_new: bool
    gid: int


class RemoveGroup(msgspec.Struct, frozen=True):
    """A group is forgotten. Answered with the `Group`."""

    name: str
    also_used: bool = False
    """Also when users have its gid: they keep it, as one without a name."""


class ListGroups(msgspec.Struct, frozen=True):
    """Groups by name, a page at a time. Answered with `GroupPage`."""

    after: str = ""
    limit: int = 0
    """0: as many as the manager likes."""


class GroupPage(msgspec.Struct, frozen=True):
    """Some of the groups."""

    groups: tuple[Group, ...]
    has_more: bool = False
