"""Extended attributes: names, who may see and change which, and their rows. See xattr(7).

| namespace | whose | who may |
|---|---|---|
| `user.` | files and directories | read and set them as their content; in a sticky directory only its owner sets its own |
| `trusted.` | all | root; others do not see that they are there |
| `security.` | all | all read them, root sets them |
| `system.posix_acl_access`, `_default` | all but symlinks; directories | all read them, the owner sets them |

ACLs and `security.capability` are a part of the inode (`fs3.core.meta.grants`), all others a row each, under the inode's id: they
stay with it whatever names and content it has. `Inode.xattr_bytes` counts names and values of all; where it is 0 no row is looked
for.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.limits import name_bytes_max, request_bytes_max
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.core.meta import acl, keys, rows
from fs3.core.meta.access import READ, STICKY, WRITE, has_permission
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import (
    ACCESS_ACL,
    CAPABILITY,
    DEFAULT_ACL,
    GRANT_FIELDS,
    attribute_bytes,
    get_grant,
    grants_bytes,
    with_access_acl,
    with_grant,
)
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode, InodeType, User

xattr_value_bytes_max = 64 * KIB
xattrs_max = 255
"""Rows of one inode: the names of all its attributes are a list as long as the kernel takes, 64 KiB."""
xattr_bytes_max = 128 * KIB
"""Names and values of one inode together."""
acl_entries_max = 256
"""Of one ACL. It is a part of its inode's row, and read with it."""
capability_bytes_max = 64
"""A part of the inode's row as well; the kernel's have 24 bytes."""

assert xattrs_max * (name_bytes_max + 1) + sum(len(name) + 1 for name in GRANT_FIELDS) <= 64 * KIB
assert xattr_value_bytes_max + name_bytes_max < xattr_bytes_max < request_bytes_max

USER = b"user."
TRUSTED = b"trusted."
SECURITY = b"security."
_ACLS = (ACCESS_ACL, DEFAULT_ACL)
_SIMPLE_TYPES = (InodeType.FILE, InodeType.DIRECTORY)
"""Of what attributes of users are: others' permissions are not about their content."""


def check_name(name: bytes, path: str) -> None:
    """Raises ATTRIBUTE_NAME_TOO_LONG, INVALID for what cannot be a name, UNSUPPORTED for one of an unknown namespace."""
    if len(name) > name_bytes_max:
        what = f"the name of an extended attribute has {len(name)} bytes, at most {name_bytes_max} are allowed"
        raise MetaError(Code.ATTRIBUTE_NAME_TOO_LONG, what, path)
    if not name or b"\0" in name or name in (USER, TRUSTED, SECURITY):
        raise MetaError(Code.INVALID, f"{name!r} is not the name of an extended attribute", path)
    if name not in _ACLS and not name.startswith((USER, TRUSTED, SECURITY)):
        raise MetaError(Code.UNSUPPORTED, f"extended attribute {name!r} is in no namespace that is kept", path)


def check_value(name: bytes, value: bytes, path: str) -> None:
    """Raises ATTRIBUTE_TOO_LARGE; INVALID for what is not an ACL, NO_SPACE for too large a one."""
    if len(value) > xattr_value_bytes_max:
        what = f"an extended attribute of {len(value)} bytes, at most {xattr_value_bytes_max} are allowed"
        raise MetaError(Code.ATTRIBUTE_TOO_LARGE, what, path)
    if name == CAPABILITY and not 0 < len(value) <= capability_bytes_max:
        what = f"{len(value)} bytes are not a capability: it has from 1 to {capability_bytes_max}"
        raise MetaError(Code.INVALID, what, path)
    if name in _ACLS:
        try:
            entries = len(acl.parse(value))
        except ValueError as why:
            raise MetaError(Code.INVALID, f"this is not an ACL: {why}", path) from None
        if entries > acl_entries_max:
            raise MetaError(Code.NO_SPACE, f"an ACL of {entries} entries, at most {acl_entries_max} are allowed", path)


def is_acl(name: bytes) -> bool:
    """The attribute of this name is an ACL."""
    return name in _ACLS


def is_visible(user: User, name: bytes) -> bool:
    """`user` may know that an attribute of this name is there."""
    return user.uid == 0 or not name.startswith(TRUSTED)


def require_read(user: User, inode: Inode, name: bytes, path: str) -> None:
    """Raises NO_ATTRIBUTE where the user must not see it or the inode cannot have it, ACCESS."""
    if not is_visible(user, name) or (name.startswith(USER) and inode.type not in _SIMPLE_TYPES):
        raise no_attribute(name, path)
    if name.startswith(USER) and not has_permission(user, inode, READ):
        raise MetaError(Code.ACCESS, "permission denied to read extended attributes", path)


def require_write(user: User, inode: Inode, name: bytes, path: str, value: bytes = b"") -> None:
    """Raises PERMISSION, ACCESS; UNSUPPORTED for an ACL of a symlink. `value`: what it is to be, if anything."""
    if name in _ACLS:
        if inode.type is InodeType.SYMLINK:
            raise MetaError(Code.UNSUPPORTED, "a symbolic link has no ACL", path)
        if name == DEFAULT_ACL and inode.type is not InodeType.DIRECTORY and acl.parse(value):
            raise MetaError(Code.ACCESS, "only a directory has a default ACL", path)
        if user.uid not in (0, inode.uid):
            raise MetaError(Code.PERMISSION, "only the owner sets an ACL", path)
    elif not name.startswith(USER):
        if user.uid:
            raise MetaError(Code.PERMISSION, f"only root sets {name.decode(errors='replace')!r}", path)
    elif inode.type not in _SIMPLE_TYPES:
        raise MetaError(Code.PERMISSION, "only files and directories have extended attributes of users", path)
    elif inode.type is InodeType.DIRECTORY and inode.mode & STICKY and user.uid not in (0, inode.uid):
        raise MetaError(Code.PERMISSION, "the directory is sticky, and another user's", path)
    elif not has_permission(user, inode, WRITE):
        raise MetaError(Code.ACCESS, "permission denied to change extended attributes", path)


async def find_value(txn: ReadTxn, inode: Inode, name: bytes) -> bytes | None:
    """The value of an attribute; None when the inode has none of that name."""
    if not inode.xattr_bytes:
        return None
    if name in GRANT_FIELDS:
        return get_grant(inode, name) or None
    key = keys.xattr_key(inode.id, name)
    row = await txn.get(key)
    return None if row is None else rows.decode_data(key, row)


async def list_names(txn: ReadTxn, inode: Inode) -> list[bytes]:
    """Of all attributes, in the order of their bytes."""
    if not inode.xattr_bytes:
        return []
    found = [keys.name_of_xattr(key) for key, _ in await txn.scan(*keys.xattrs_range(inode.id), xattrs_max)]
    return sorted(found + [name for name in GRANT_FIELDS if get_grant(inode, name)])


async def with_value(txn: Txn, user: User, inode: Inode, name: bytes, value: bytes, before: bytes | None, path: str) -> Inode:
    """An inode whose attribute has another value, which is stored; the caller stores the inode. `before`: the value it had.

    Raises NO_SPACE beyond the limits of an inode.
    """
    if name == ACCESS_ACL:
        after = with_access_acl(user, inode, acl.parse(value))
    elif name == DEFAULT_ACL:
        after = with_grant(inode, name, acl.pack(acl.parse(value)))
    elif name == CAPABILITY:
        after = with_grant(inode, name, value)
    else:
        if before is None and len(await list_names(txn, inode)) >= xattrs_max:
            raise MetaError(Code.NO_SPACE, f"one inode has at most {xattrs_max} extended attributes", path)
        lost = 0 if before is None else attribute_bytes(name, before)
        after = replace(inode, xattr_bytes=inode.xattr_bytes + attribute_bytes(name, value) - lost)
        txn.put(keys.xattr_key(inode.id, name), rows.encode(value))
    if after.xattr_bytes > max(xattr_bytes_max, inode.xattr_bytes):
        what = f"extended attributes of {after.xattr_bytes} bytes, one inode has at most {xattr_bytes_max}"
        raise MetaError(Code.NO_SPACE, what, path)
    return after


def without_value(txn: Txn, inode: Inode, name: bytes, before: bytes) -> Inode:
    """An inode without an attribute, whose row is removed; the caller stores the inode. `before`: the value it had."""
    if name in GRANT_FIELDS:
        return with_grant(inode, name, b"")
    txn.delete(keys.xattr_key(inode.id, name))
    return replace(inode, xattr_bytes=inode.xattr_bytes - attribute_bytes(name, before))


def rows_at_most(inode: Inode) -> int:
    """An inode has no more rows of attributes: for doing no more at once than is good for other requests."""
    return min(xattrs_max, (inode.xattr_bytes - grants_bytes(inode.grants)) // len(USER))


async def delete_all(txn: Txn, inode: Inode) -> None:
    """Removes the rows of an inode that is removed as well."""
    if inode.xattr_bytes == grants_bytes(inode.grants):
        return
    for key, _ in await txn.scan(*keys.xattrs_range(inode.id), xattrs_max):
        txn.delete(key)


def no_attribute(name: bytes, path: str) -> MetaError:
    """There is no attribute of this name."""
    return MetaError(Code.NO_ATTRIBUTE, f"there is no extended attribute {name.decode(errors='replace')!r}", path)
