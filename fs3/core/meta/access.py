"""Who may do what: POSIX permission bits and ACLs, the sticky bit, owner's and root's rights."""

from __future__ import annotations

from typing import Final

from fs3.base.ids import INODE_IDS_END, InodeId
from fs3.base.status import Code
from fs3.core.meta import acl
from fs3.core.meta.errors import MetaError
from fs3.model.inode import MODE_BITS, SPECIAL_FILES, Inode, User

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1
"""Of a directory: to look names up in it."""

SET_UID: Final = 0o4000
SET_GID: Final = 0o2000
STICKY: Final = 0o1000
GROUP_EXECUTE: Final = 0o010


def has_permission(user: User, inode: Inode, want: int) -> bool:
    """`user` has all the bits of `want`. Exactly one class of bits applies: an owner without a bit is not helped by "others".
    Where there is an ACL it says what all but the owner may do."""
    uid = user.uid
    if uid == 0:
        return True
    mode = inode.mode
    if uid == inode.uid:
        mode >>= 6
    elif inode.grants is not None and inode.grants.access_acl:
        return acl.is_permitted(acl.parse(inode.grants.access_acl), uid, (user.gid, *user.groups), inode.gid, want)
    elif is_in_group(user, inode.gid):
        mode >>= 3
    return mode & want == want


def is_in_group(user: User, gid: int) -> bool:
    """`gid` is the user's primary or one of the supplementary groups."""
    return gid == user.gid or gid in user.groups


def require(user: User, inode: Inode, want: int, path: str) -> None:
    """Raises ACCESS unless the user has all the bits of `want`."""
    if not has_permission(user, inode, want):
        raise MetaError(Code.ACCESS, "permission denied", path)


def require_change(user: User, directory: Inode, path: str = "") -> None:
    """Raises unless the user may add and remove entries of a directory."""
    if not has_permission(user, directory, WRITE | EXECUTE):
        raise MetaError(Code.ACCESS, "permission denied to change the directory", path)
    if directory.nlink == 0:
        raise MetaError(Code.NOT_FOUND, "the directory was removed", path)


def require_unlink(user: User, directory: Inode, inode_uid: int, path: str) -> None:
    """Raises unless the user may take away an entry whose inode has this owner: `require_change`, and in a sticky directory
    only the owner of the entry, of the directory, and root."""
    require_change(user, directory, path)
    if directory.mode & STICKY and user.uid not in (0, inode_uid, directory.uid):
        raise MetaError(Code.PERMISSION, "the directory is sticky and the entry belongs to somebody else", path)


def require_owner(user: User, inode: Inode, path: str) -> None:
    """Raises PERMISSION for all users but the owner and root."""
    if user.uid not in (0, inode.uid):
        raise MetaError(Code.PERMISSION, "only the owner may do this", path)


def require_bytes(inode: Inode, path: str) -> None:
    """Raises UNSUPPORTED for a special file."""
    if inode.type in SPECIAL_FILES:
        what = inode.type.name.lower().replace("_", " ")
        raise MetaError(Code.UNSUPPORTED, f"is a {what}, which has no bytes: programs open it where it is mounted", path)


def mode_of_new(user: User, directory: Inode, mode: int, *, is_directory: bool) -> tuple[int, int]:
    """(mode, gid) of what `user` creates in a directory.

    Under a set-group-id directory the group is inherited, and so is the bit by directories; a file may have the bit only when
    its creator is in the group, else it would hand out a group that its creator does not have.
    """
    mode &= MODE_BITS
    if not directory.mode & SET_GID:
        return mode, user.gid
    gid = directory.gid
    if is_directory:
        return mode | SET_GID, gid
    if mode & SET_GID and mode & GROUP_EXECUTE and user.uid and not is_in_group(user, gid):
        mode &= ~SET_GID
    return mode, gid


def without_set_ids(mode: int) -> int:
    """The mode of a file after its content or owner was changed: it no longer lends its owner's identity."""
    mode &= ~SET_UID
    if mode & GROUP_EXECUTE:  # without it the bit never lent anything
        mode &= ~SET_GID
    return mode


def check_inode_id(inode: int, path: str = "") -> InodeId:
    """An inode id as it came from outside. Raises STALE for a number that no inode ever has."""
    if 0 < inode < INODE_IDS_END:
        return InodeId(inode)
    raise MetaError(Code.STALE, f"there is no inode {inode}", path)
