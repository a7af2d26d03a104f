"""What the planted bugs of ACLs and extended attributes exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fs3.core.meta import acl, entries, length, xattrs
from fs3.core.meta.acl import Acl, AclTag
from fs3.core.meta.operations import Operation, operation_of
from fs3.core.meta.ops import close as close_op
from fs3.core.txn import Txn
from fs3.model.inode import Grants, Inode, User
from fs3.model.requests import RemoveXattr, Request, SetXattr
from fs3.services.meta import change_executor
from fs3.sim.ring2.service_bug import ServiceBug


def permit_beyond_the_mask(rules: Acl, uid: int, gids: Collection[int], owning_gid: int, want: int) -> bool:
    """What an entry of a user says counts without the mask."""
    for tag, permissions, subject in rules:
        if tag is AclTag.USER and subject == uid:
            return permissions & want == want
    return _real_permission(rules, uid, gids, owning_gid, want)


_real_permission = acl.is_permitted


def permit_others(rules: Acl, uid: int, gids: Collection[int], owning_gid: int, want: int) -> bool:
    """Groups by their ids are looked for in nothing but the primary group."""
    return _real_permission(rules, uid, list(gids)[:1], owning_gid, want)


def inherit_nothing(directory: Inode, mode: int, umask: int, *, is_directory: bool) -> tuple[int, Grants | None]:
    """A default ACL is not looked at."""
    return mode & ~umask, None


def keep_privileges(user: User, inode: Inode) -> Inode:
    """A file lends what it lent, whatever it has become."""
    return inode


async def keep_rows(txn: Txn, inode: Inode) -> None:
    """Attributes stay when their inode goes."""


def operate_again(request: Request[Any]) -> Operation:
    """Requests about attributes that are repeated are carried out again."""
    operation: Operation = operation_of(request)
    return operation.__wrapped__ if isinstance(request, (SetXattr, RemoveXattr)) else operation  # type: ignore[attr-defined]


XATTR_BUGS: dict[str, ServiceBug] = {
    "masks_nothing": ServiceBug(
        "the mask of an ACL does not limit the users that it names",
        [(acl, "is_permitted", permit_beyond_the_mask)],
        scene="users_share_a_directory",
    ),
    "asks_one_group": ServiceBug(
        "an ACL is asked about the first group of a user only",
        [(acl, "is_permitted", permit_others)],
        scene="users_share_a_directory",
    ),
    "inherits_nothing": ServiceBug(
        "a default ACL is not inherited",
        [(entries, "inherit_grants", inherit_nothing)],
        scene="users_share_a_directory",
    ),
    "keeps_capability": ServiceBug(
        "a file that is written keeps its capability",
        [(length, "without_privileges", keep_privileges)],
        scene="a_file_with_attributes_is_changed",
    ),
    "replaces_beside_capability": ServiceBug(
        "a file that is replaced as a whole keeps its capability",
        [(close_op, "without_privileges", keep_privileges)],
        scene="a_file_with_attributes_is_changed",
    ),
    "keeps_attributes": ServiceBug(
        "extended attributes stay in the store when their file is reclaimed",
        [(xattrs, "delete_all", keep_rows)],
        scene="a_file_with_attributes_is_changed",
    ),
    "sets_again": ServiceBug(
        "a request to set an attribute is carried out again when it is repeated",
        [(change_executor, "operation_of", operate_again)],
        scene="clients_create_attributes",
    ),
}
