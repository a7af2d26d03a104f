"""ACLs and capabilities in inodes, and what becomes of them: `Inode.grants`.

Mode and access ACL never contradict each other: the permission bits are what `fs3.core.meta.acl` says the ACL stands for, and an
ACL that says no more than them is not kept.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fs3.core.meta import acl
from fs3.core.meta.access import SET_GID, is_in_group, without_set_ids
from fs3.model.inode import Grants, Inode, User

ACCESS_ACL: Final = b"system.posix_acl_access"
DEFAULT_ACL: Final = b"system.posix_acl_default"
CAPABILITY: Final = b"security.capability"

GRANT_FIELDS: Final = {ACCESS_ACL: "access_acl", DEFAULT_ACL: "default_acl", CAPABILITY: "capability"}
"""Attribute -> where `Grants` has its value."""

PERMISSION_BITS: Final = 0o777
NO_GRANTS: Final = Grants()


def attribute_bytes(name: bytes, value: bytes) -> int:
    """What an attribute counts in `Inode.xattr_bytes`."""
    return len(name) + len(value)


def get_grant(inode: Inode, name: bytes) -> bytes:
    """The value of one of these attributes; b"" when the inode has none."""
    return b"" if inode.grants is None else getattr(inode.grants, GRANT_FIELDS[name])


def with_grant(inode: Inode, name: bytes, value: bytes) -> Inode:
    """An inode with another value of one of these attributes, b"" for none. The mode is left as it is."""
    before = get_grant(inode, name)
    if before == value:
        return inode
    grants = replace(inode.grants or NO_GRANTS, **{GRANT_FIELDS[name]: value})
    size = inode.xattr_bytes
    for sign, given in ((-1, before), (1, value)):
        size += sign * attribute_bytes(name, given) if given else 0
    return replace(inode, xattr_bytes=size, grants=None if grants == NO_GRANTS else grants)


def grants_bytes(grants: Grants | None) -> int:
    """What they count in `Inode.xattr_bytes`."""
    if grants is None:
        return 0
    values = [(name, getattr(grants, field)) for name, field in GRANT_FIELDS.items()]
    return sum(attribute_bytes(name, value) for name, value in values if value)


def with_mode(inode: Inode, mode: int) -> Inode:
    """An inode after chmod: its ACL follows."""
    after = replace(inode, mode=mode)
    rules = acl.parse(get_grant(inode, ACCESS_ACL))
    return with_grant(after, ACCESS_ACL, acl.pack(acl.with_permission_bits(rules, mode))) if rules else after


def with_access_acl(user: User, inode: Inode, rules: acl.Acl) -> Inode:
    """An inode whose access ACL `user` has set: the mode says the same. A user outside the group does not keep its bit."""
    if not rules:
        return with_grant(inode, ACCESS_ACL, b"")
    mode = inode.mode & ~PERMISSION_BITS | acl.permission_bits(rules)
    if user.uid and not is_in_group(user, inode.gid):
        mode &= ~SET_GID
    return with_grant(replace(inode, mode=mode), ACCESS_ACL, b"" if acl.is_minimal(rules) else acl.pack(rules))


def with_access_of(inode: Inode, other: Inode) -> Inode:
    """An inode that takes the place of another one, whose mode and access ACL stay."""
    return with_grant(replace(inode, mode=other.mode), ACCESS_ACL, get_grant(other, ACCESS_ACL))


def inherit_grants(directory: Inode, mode: int, umask: int, *, is_directory: bool) -> tuple[int, Grants | None]:
    """(mode, grants) of what is created in a directory: by its default ACL, or else with the umask taken off."""
    default = get_grant(directory, DEFAULT_ACL)
    if not default:
        return mode & ~umask, None
    rules = acl.inherit(acl.parse(default), mode)
    mode = mode & ~PERMISSION_BITS | acl.permission_bits(rules)
    grants = Grants(b"" if acl.is_minimal(rules) else acl.pack(rules), default if is_directory else b"")
    return mode, None if grants == NO_GRANTS else grants


def without_privileges(user: User, inode: Inode) -> Inode:
    """A file after `user` changed its content: it no longer lends its owner's identity, unless that was root, and never has the
    capability that it was given for what it contained."""
    after = inode
    if user.uid:
        mode = without_set_ids(inode.mode)
        if mode != inode.mode:
            after = replace(inode, mode=mode)
    return after if inode.grants is None else with_grant(after, CAPABILITY, b"")
