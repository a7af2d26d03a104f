"""The one table from a request to the operation that answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from fs3.core.meta.context import OpContext
from fs3.core.meta.ops.administer import check_rows, inspect, repair_problem
from fs3.core.meta.ops.append import append
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.get_xattr import get_xattr
from fs3.core.meta.ops.hold import hold
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.list_xattr import list_xattr
from fs3.core.meta.ops.lock import get_lock, lock
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.mknod import mknod
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.remove_xattr import remove_xattr
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.set_xattr import set_xattr
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.stat import batch_stat, stat
from fs3.core.meta.ops.symlink import symlink
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.model.lock import GetLock, Lock
from fs3.model.requests import (
    Append,
    BatchStat,
    CheckRows,
    Close,
    GetXattr,
    Hold,
    InspectInodes,
    Link,
    List,
    ListXattr,
    Lookup,
    Mkdir,
    Mknod,
    Open,
    Put,
    Remove,
    RemoveXattr,
    Rename,
    Repair,
    Request,
    SetAttributes,
    SetXattr,
    Stat,
    Symlink,
    Sync,
    Truncate,
)

R = TypeVar("R")

Operation = Callable[[Any, OpContext, Any], Awaitable[Any]]
"""(transaction, context, request) -> the answer. A request that does not mutate is content with a read transaction."""

OPERATIONS: dict[type[Request[Any]], Operation] = {
    Lookup: lookup,
    Stat: stat,
    List: list_directory,
    Open: open_file,
    Put: put_file,
    Close: close_file,
    Sync: sync,
    Append: append,
    Hold: hold,
    Mkdir: mkdir,
    Remove: remove,
    Rename: rename,
    Symlink: symlink,
    Mknod: mknod,
    Link: link,
    SetAttributes: set_attributes,
    Truncate: truncate,
    SetXattr: set_xattr,
    GetXattr: get_xattr,
    ListXattr: list_xattr,
    RemoveXattr: remove_xattr,
    Lock: lock,
    GetLock: get_lock,
    BatchStat: batch_stat,
    CheckRows: check_rows,
    InspectInodes: inspect,
    Repair: repair_problem,
}
"""All but StatFs, which asks storage as well, and KeepAlive, which is about the client."""


def operation_of(request: Request[R]) -> Callable[[Any, OpContext, Request[R]], Awaitable[R]]:
    """The operation that answers a request."""
    return cast("Callable[[Any, OpContext, Request[R]], Awaitable[R]]", OPERATIONS[type(request)])
