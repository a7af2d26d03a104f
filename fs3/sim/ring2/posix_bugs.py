"""Planted bugs of the rules of POSIX for names, users and times, and what they exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from fs3.api.file import File
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.core.meta import access, entries, garbage, resolve, rows
from fs3.core.meta import length as lengths
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.length import with_truncated_length, with_written_length
from fs3.core.meta.operations import Operation, operation_of
from fs3.core.meta.ops import list as list_op
from fs3.core.meta.ops import remove as remove_op
from fs3.core.meta.ops import rename as rename_op
from fs3.core.meta.ops import sync as sync_op
from fs3.core.meta.ops import truncate as truncate_op
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import SPECIAL_FILES, Inode, User
from fs3.model.namespace import PathRef
from fs3.model.requests import Mknod, Request
from fs3.services.meta import change_executor
from fs3.sim.planting import Patch


def _require_change_only(user: User, directory: Inode, inode_uid: int, path: str) -> None:
    access.require_change(user, directory, path)


async def _is_always_empty(txn: Txn, directory: Inode) -> bool:
    return True


def _is_primary_group(user: User, gid: int) -> bool:
    return gid == user.gid


def _inherit_no_group(user: User, directory: Inode, mode: int, *, is_directory: bool) -> tuple[int, int]:
    return mode, user.gid


def _same_client(client: MetaClient, user: User) -> MetaClient:
    return client


def _operate_again(request: Request[Any]) -> Operation:
    operation: Operation = operation_of(request)
    return operation.__wrapped__ if isinstance(request, Mknod) else operation  # type: ignore[attr-defined]


async def _unlink_and_keep(txn: Txn, ctx: OpContext, inode: Inode) -> Inode:
    if inode.type not in SPECIAL_FILES or inode.nlink > 1:
        return await _real_unlink(txn, ctx, inode)
    after = entries.with_nlink(ctx, inode, 0)
    rows.put_inode(txn, after)
    return after


_real_unlink = garbage.unlink


def _decode_with_marks(name: bytes) -> str:
    return name.decode(errors="replace")


def _encode_with_marks(text: str) -> bytes:
    return text.encode(errors="replace")


def _stamp_always(
    ctx: OpContext, inode: Inode, length: int | None, modified: bool, truncations: int | None = None, **_: Any
) -> Inode:
    return with_written_length(ctx, inode, length, modified, truncations)


def _write_on(file: File, start: int = 0, end: int = 0) -> None:
    was_set = file.mtime_is_set
    _real_begin_write(file, start, end)
    file.mtime_is_set = was_set


_real_begin_write = File.begin_write


def _written_at_an_unknown_time(file: File, now: int) -> None:
    return None


def _is_ever_set(ctx: OpContext, inode: Inode, written_ago_ns: int | None) -> bool:
    return inode.mtime_set_ns > 0


def _truncate_in_silence(ctx: OpContext, inode: Inode, length: int) -> Inode:
    return replace(with_truncated_length(ctx, inode, length), mtime_ns=inode.mtime_ns)


async def _start_stale(txn: ReadTxn, ref: PathRef) -> Inode:
    try:
        return await _real_start(txn, ref)
    except MetaError as refusal:
        raise MetaError(Code.STALE, refusal.message, refusal.path) from None


_real_start = resolve.resolve_start

_TREE = "users_change_a_tree"
_TIMES = "times_are_set_while_a_file_is_written"
_TIMES_OF_OTHERS = "others_set_times_while_a_file_is_written"

POSIX_BUGS: dict[str, tuple[str, Sequence[Patch], str]] = {
    "forgets_sticky": (
        "entries of a sticky directory are removed and renamed by all who may write it",
        [(module, "require_unlink", _require_change_only) for module in (remove_op, rename_op)],
        _TREE,
    ),
    "removes_full": ("a directory with entries is removed as if it had none", [(remove_op, "is_empty", _is_always_empty)], _TREE),
    "replaces_full": (
        "a directory is renamed over one that has entries",
        [(rename_op, "is_empty", _is_always_empty)],
        _TREE,
    ),
    "one_group": ("supplementary groups count for nothing", [(access, "is_in_group", _is_primary_group)], _TREE),
    "group_not_inherited": (
        "what is created in a set-group-id directory gets the group of its creator",
        [(entries, "mode_of_new", _inherit_no_group)],
        _TREE,
    ),
    "one_user": ("all requests of a client are those of the user who connected", [(MetaClient, "as_user", _same_client)], _TREE),
    "makes_again": (
        "a request to make a special file is carried out again when it is repeated",
        [(change_executor, "operation_of", _operate_again)],
        _TREE,
    ),
    "keeps_special": (
        "the inode of a special file stays when its last name is removed",
        [(garbage, "unlink", _unlink_and_keep)],
        _TREE,
    ),
    "mangles_names": ("names that are not UTF-8 are listed with marks", [(list_op, "to_text", _decode_with_marks)], _TREE),
    "mangles_cursors": (
        "a listing goes on behind a name with marks where the name is not UTF-8",
        [(list_op, "to_bytes", _encode_with_marks)],
        _TREE,
    ),
    "mtime_of_close": (
        "a close and a sync set the mtime, although it was set after the last write",
        [(sync_op, "with_written_length", _stamp_always)],
        _TIMES,
    ),
    "mtime_before_write": ("an mtime that was set before the last write stays", [(File, "begin_write", _write_on)], _TIMES),
    "mtime_of_others_lost": (
        "a writer does not say when it wrote last, so an mtime that another client has set since then is replaced",
        [(File, "written_ago", _written_at_an_unknown_time)],
        _TIMES_OF_OTHERS,
    ),
    "mtime_of_others_kept": (
        "an mtime that another client has set once stays, whatever is written afterwards",
        [(lengths, "_is_set_since", _is_ever_set)],
        _TIMES_OF_OTHERS,
    ),
    "truncates_in_silence": (
        "a truncation does not show in the mtime",
        [(truncate_op, "with_truncated_length", _truncate_in_silence)],
        _TIMES,
    ),
    "stale_below": (
        "a name in a directory that was removed is stale instead of not found",
        [(resolve, "resolve_start", _start_stale)],
        "a_working_directory_is_removed",
    ),
}
"""Name -> what it is, what is exchanged, and the scene that goes wrong."""
