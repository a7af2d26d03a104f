"""POSIX access control lists: what they look like, what they permit, and how they go with permission bits. See acl(5).

An ACL has the permissions of the owner, the owning group and others, which are also the permission bits of a mode, and beyond
those of users and groups by their ids. With any of these it has a mask: the most that all but the owner and others may have.
Where there is a mask, it is what the group bits of the mode say, so a program that looks at the mode alone sees no less than
anyone has.

`parse` and `pack` know the form of the attributes `system.posix_acl_access` and `system.posix_acl_default`, version 2: a header
of 4 bytes, then tag (2), permissions (2) and id (4) of each entry, little-endian, in the order of tags and ids.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

NO_ID: Final = 0xFFFF_FFFF
"""Of entries that are not of a user or group by its id."""


class AclTag(IntEnum):
    """Whom an entry is about. Numbers as in the attribute."""

    OWNER = 0x01
    USER = 0x02
    OWNING_GROUP = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHERS = 0x20


class AclEntry(NamedTuple):
    """One entry."""

    tag: AclTag
    permissions: int
    """4 read, 2 write, 1 execute or search."""
    id: int = NO_ID
    """USER, GROUP: whose."""


Acl = tuple[AclEntry, ...]
"""In the order of tags, and of ids."""

_VERSION = 2
_NAMED = (AclTag.USER, AclTag.GROUP)
_header = Struct("<I")
_entry = Struct("<HHI")
_TAGS = {int(tag): tag for tag in AclTag}


@lru_cache(maxsize=1024)
def parse(value: bytes) -> Acl:
    """The ACL of an attribute; an empty one says that there is none. Raises ValueError, which says what is wrong with it."""
    if not value:
        return ()
    if len(value) < _header.size or (len(value) - _header.size) % _entry.size:
        raise ValueError(f"an ACL cannot have {len(value)} bytes")
    (version,) = _header.unpack_from(value)
    if version != _VERSION:
        raise ValueError(f"version {version} of ACLs is not known, only {_VERSION} is")
    entries = []
    for number, permissions, subject in _entry.iter_unpack(memoryview(value)[_header.size :]):
        tag = _TAGS.get(number)
        if tag is None:
            raise ValueError(f"an entry has the tag {number:#x}, which there is not")
        entries.append(AclEntry(tag, permissions, subject if tag in _NAMED else NO_ID))
    _check(entries)
    return tuple(sorted(entries, key=lambda entry: (entry.tag, entry.id)))


def pack(acl: Acl) -> bytes:
    """The attribute of an ACL; empty for none."""
    return _header.pack(_VERSION) + b"".join([_entry.pack(*entry) for entry in acl]) if acl else b""


def _check(entries: list[AclEntry]) -> None:
    if not entries:
        return
    tags = [entry.tag for entry in entries]
    if tags != sorted(tags):
        raise ValueError("the entries are not in the order owner, users, owning group, groups, mask, others")
    for tag in (AclTag.OWNER, AclTag.OWNING_GROUP, AclTag.OTHERS):
        if tags.count(tag) != 1:
            raise ValueError(f"there are {tags.count(tag)} entries of the {_name(tag)}, not one")
    needs_mask = any(tag in _NAMED for tag in tags)
    if not needs_mask <= tags.count(AclTag.MASK) <= 1:
        raise ValueError(f"there are {tags.count(AclTag.MASK)} masks")
    for entry in entries:
        if not 0 <= entry.permissions <= 7:
            raise ValueError(f"an entry has the permissions {entry.permissions:#o}")
        if entry.tag in _NAMED and entry.id == NO_ID:
            raise ValueError(f"an entry of a {_name(entry.tag)} has no id")
    if len({(entry.tag, entry.id) for entry in entries}) < len(entries):
        raise ValueError("two entries are of the same user or group")


def _name(tag: AclTag) -> str:
    return tag.name.lower().replace("_", " ")


def is_permitted(acl: Acl, uid: int, gids: Collection[int], owning_gid: int, want: int) -> bool:
    """A user in these groups, who is neither root nor the owner, has all bits of `want`.

    An entry of the user decides; else those of the user's groups, of which one has to have all bits; else that of others. The
    mask limits the first two.
    """
    mask = 7
    named: int | None = None
    is_in_group = is_granted = False
    others = 0
    for tag, permissions, subject in acl:
        if tag is AclTag.USER:
            if subject == uid:
                named = permissions
        elif tag is AclTag.MASK:
            mask = permissions
        elif tag is AclTag.OTHERS:
            others = permissions
        elif tag is not AclTag.OWNER and (owning_gid if tag is AclTag.OWNING_GROUP else subject) in gids:
            is_in_group = True
            is_granted = is_granted or permissions & want == want
    if named is not None:
        return named & mask & want == want
    if is_in_group:
        return is_granted and mask & want == want
    return others & want == want


def permission_bits(acl: Acl) -> int:
    """The nine permission bits that an ACL stands for."""
    bits = group = 0
    mask: int | None = None
    for tag, permissions, _ in acl:
        match tag:
            case AclTag.OWNER:
                bits |= permissions << 6
            case AclTag.OWNING_GROUP:
                group = permissions
            case AclTag.MASK:
                mask = permissions
            case AclTag.OTHERS:
                bits |= permissions
    return bits | (group if mask is None else mask) << 3


def is_minimal(acl: Acl) -> bool:
    """It says nothing that permission bits do not say."""
    return all(tag in (AclTag.OWNER, AclTag.OWNING_GROUP, AclTag.OTHERS) for tag, _, _ in acl)


def with_permission_bits(acl: Acl, bits: int) -> Acl:
    """An ACL after chmod: the owner, others, and the mask, or without one the owning group, get what the bits say."""
    group = AclTag.MASK if any(entry.tag is AclTag.MASK for entry in acl) else AclTag.OWNING_GROUP
    given = {AclTag.OWNER: bits >> 6 & 7, group: bits >> 3 & 7, AclTag.OTHERS: bits & 7}
    return tuple([entry._replace(permissions=given.get(entry.tag, entry.permissions)) for entry in acl])


def inherit(default: Acl, bits: int) -> Acl:
    """What is created with these permission bits, in a directory with a default ACL, gets it, but no permission that the bits do
    not give."""
    return with_permission_bits(default, permission_bits(default) & bits)
