"""The one table of verbs of the metadata service that both sides read: which request, which method, which conversions.

What arrives is not trusted: every conversion from protobuf raises InvalidArgument naming the malformed field. A reply must not
outgrow its frame, so what fills an answer in is told how many bytes there is room for; only listings and batches of stats may be
too long, and are cut. The conversions are in the files beside this one, by what they are about; many requests in one message
are in `fs3.wire.meta_batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from fs3.base.errors import InvalidArgument
from fs3.base.limits import frame_header_bytes_max
from fs3.base.status import Code
from fs3.model.capabilities import GetCapabilities
from fs3.model.lock import GetLock, Lock
from fs3.model.method import Method
from fs3.model.requests import (
    Append,
    BatchStat,
    CheckRows,
    Close,
    GetXattr,
    Hold,
    InspectInodes,
    KeepAlive,
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
    StatFs,
    Symlink,
    Sync,
    Truncate,
)
from fs3.model.watch import Watch
from fs3.wire.check import (
    check_rows_from_pb,
    fill_check_rows,
    fill_inspect_inodes,
    fill_inspection,
    fill_page,
    fill_repair,
    fill_repair_result,
    inspect_inodes_from_pb,
    inspection_from_pb,
    page_from_pb,
    repair_from_pb,
    repair_result_from_pb,
)
from fs3.wire.meta_attributes import (
    batch_stat_from_pb,
    fill_batch_stat,
    fill_inode_reply,
    fill_setattr,
    fill_space,
    fill_stat,
    fill_statfs,
    fill_stats,
    inode_reply_from_pb,
    setattr_from_pb,
    space_from_pb,
    stat_from_pb,
    statfs_from_pb,
    stats_from_pb,
)
from fs3.wire.meta_capabilities import (
    capabilities_from_pb,
    fill_capabilities,
    fill_get_capabilities,
    get_capabilities_from_pb,
)
from fs3.wire.meta_files import (
    append_from_pb,
    close_from_pb,
    fill_append,
    fill_close,
    fill_open,
    fill_opened,
    fill_put,
    fill_sync,
    fill_truncate,
    open_from_pb,
    opened_from_pb,
    put_from_pb,
    sync_from_pb,
    truncate_from_pb,
)
from fs3.wire.meta_listing import fill_list, fill_listing, list_from_pb, listing_from_pb
from fs3.wire.meta_locks import (
    fill_found_lock,
    fill_get_lock,
    fill_lock,
    fill_lock_answer,
    found_lock_from_pb,
    get_lock_from_pb,
    lock_answer_from_pb,
    lock_from_pb,
)
from fs3.wire.meta_names import (
    dirent_from_pb,
    fill_dirent,
    fill_link,
    fill_lookup,
    fill_mkdir,
    fill_remove,
    fill_removed,
    fill_rename,
    fill_symlink,
    link_from_pb,
    lookup_from_pb,
    mkdir_from_pb,
    remove_from_pb,
    removed_from_pb,
    rename_from_pb,
    symlink_from_pb,
)
from fs3.wire.meta_readers import fill_hold, fill_keep_alive, fill_unnamed, hold_from_pb, keep_alive_from_pb, unnamed_from_pb
from fs3.wire.meta_special import fill_mknod, mknod_from_pb
from fs3.wire.meta_watch import fill_news, fill_watch, news_from_pb, watch_from_pb
from fs3.wire.meta_xattrs import (
    fill_get_xattr,
    fill_list_xattr,
    fill_remove_xattr,
    fill_set_xattr,
    fill_value,
    fill_xattr_names,
    get_xattr_from_pb,
    list_xattr_from_pb,
    remove_xattr_from_pb,
    set_xattr_from_pb,
    value_from_pb,
    xattr_names_from_pb,
)
from fs3.wire.methods import META
from fs3.wire.pb import common_pb2

REPLY_BYTES_MAX = frame_header_bytes_max - 64 * 1024
"""A reply is cut before it outgrows its frame; one result fits into the difference."""

Q = TypeVar("Q", bound=Request[Any])
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class AnswerCodec(Generic[A]):
    """One kind of answer."""

    field: str
    """Of BatchResult; empty when it is of a request that travels alone only."""
    fill: Callable[[Any, A, int], None]
    """Write an answer into an empty message, as far as so many bytes reach."""
    from_pb: Callable[[Any], A]


@dataclass(frozen=True, slots=True)
class Verb(Generic[Q, A]):
    """One kind of request: its method, its places in a batch, and its conversions. The one table both sides read."""

    record: type[Q]
    method: Method
    item: str
    """Field of BatchItem; empty for a request that travels alone only."""
    fill: Callable[[Any, Q], None]
    """Write a request into an empty message. What protobuf cannot carry is a ValueError or a TypeError."""
    request_from_pb: Callable[[Any], Q]
    answer: AnswerCodec[A]

    def fill_request(self, message: Any, request: Q, seq: int) -> None:
        """Write a request and its number into an empty message. Raises InvalidArgument for what protobuf cannot carry."""
        try:
            self.fill(message, request)
        except (ValueError, TypeError) as why:
            # A surrogate in a path, a negative length: protobuf says what it cannot carry.
            what = f"{self.item or self.method.name}: {why}"
            raise InvalidArgument(Code.INVALID, what, request.error_path or None) from why
        if seq:
            message.caller.request_seq = seq

    def request_to_pb(self, request: Q, caller: common_pb2.Caller, seq: int) -> Any:
        """The message of a request. `seq`: its number, 0 when it changes nothing."""
        message = self.method.request()
        message.caller.CopyFrom(caller)
        self.fill_request(message, request, seq)
        return message

    def reply_to_pb(self, answer: A) -> Any:
        """The message of an answer; a longer one than a frame takes is cut."""
        message = self.method.reply()
        self.answer.fill(message, answer, REPLY_BYTES_MAX)
        return message


_INODE = AnswerCodec("inode", fill_inode_reply, inode_reply_from_pb)
_OPENED = AnswerCodec("open", fill_opened, opened_from_pb)
_VERBS: tuple[Verb[Any, Any], ...] = (
    Verb(Lookup, META.Lookup, "lookup", fill_lookup, lookup_from_pb, AnswerCodec("lookup", fill_dirent, dirent_from_pb)),
    Verb(Stat, META.Stat, "stat", fill_stat, stat_from_pb, _INODE),
    Verb(List, META.List, "list", fill_list, list_from_pb, AnswerCodec("list", fill_listing, listing_from_pb)),
    Verb(Open, META.Open, "open", fill_open, open_from_pb, _OPENED),
    Verb(Put, META.Put, "put", fill_put, put_from_pb, _INODE),
    Verb(Close, META.Close, "close", fill_close, close_from_pb, _INODE),
    Verb(Sync, META.Sync, "sync", fill_sync, sync_from_pb, _INODE),
    Verb(Append, META.Append, "", fill_append, append_from_pb, _INODE),
    Verb(Mkdir, META.Mkdir, "mkdir", fill_mkdir, mkdir_from_pb, _INODE),
    Verb(Remove, META.Remove, "remove", fill_remove, remove_from_pb, AnswerCodec("remove", fill_removed, removed_from_pb)),
    Verb(Rename, META.Rename, "rename", fill_rename, rename_from_pb, _INODE),
    Verb(Symlink, META.Symlink, "symlink", fill_symlink, symlink_from_pb, _INODE),
    Verb(Mknod, META.Mknod, "", fill_mknod, mknod_from_pb, _INODE),
    Verb(Link, META.Link, "link", fill_link, link_from_pb, _INODE),
    Verb(SetAttributes, META.SetAttr, "setattr", fill_setattr, setattr_from_pb, _INODE),
    Verb(Truncate, META.Truncate, "truncate", fill_truncate, truncate_from_pb, _INODE),
    Verb(SetXattr, META.SetXattr, "", fill_set_xattr, set_xattr_from_pb, _INODE),
    Verb(GetXattr, META.GetXattr, "", fill_get_xattr, get_xattr_from_pb, AnswerCodec("", fill_value, value_from_pb)),
    Verb(
        ListXattr, META.ListXattr, "", fill_list_xattr, list_xattr_from_pb, AnswerCodec("", fill_xattr_names, xattr_names_from_pb)
    ),
    Verb(RemoveXattr, META.RemoveXattr, "", fill_remove_xattr, remove_xattr_from_pb, _INODE),
    Verb(Lock, META.Lock, "", fill_lock, lock_from_pb, AnswerCodec("", fill_lock_answer, lock_answer_from_pb)),
    Verb(GetLock, META.GetLock, "", fill_get_lock, get_lock_from_pb, AnswerCodec("", fill_found_lock, found_lock_from_pb)),
    Verb(BatchStat, META.BatchStat, "", fill_batch_stat, batch_stat_from_pb, AnswerCodec("", fill_stats, stats_from_pb)),
    Verb(StatFs, META.StatFs, "", fill_statfs, statfs_from_pb, AnswerCodec("", fill_space, space_from_pb)),
    Verb(KeepAlive, META.KeepAlive, "", fill_keep_alive, keep_alive_from_pb, AnswerCodec("", fill_unnamed, unnamed_from_pb)),
    Verb(Hold, META.Hold, "hold", fill_hold, hold_from_pb, _OPENED),
    Verb(Watch, META.Watch, "", fill_watch, watch_from_pb, AnswerCodec("", fill_news, news_from_pb)),
    Verb(
        GetCapabilities,
        META.GetCapabilities,
        "",
        fill_get_capabilities,
        get_capabilities_from_pb,
        AnswerCodec("", fill_capabilities, capabilities_from_pb),
    ),
    Verb(CheckRows, META.CheckPage, "", fill_check_rows, check_rows_from_pb, AnswerCodec("", fill_page, page_from_pb)),
    Verb(
        InspectInodes,
        META.Inspect,
        "",
        fill_inspect_inodes,
        inspect_inodes_from_pb,
        AnswerCodec("", fill_inspection, inspection_from_pb),
    ),
    Verb(Repair, META.Repair, "", fill_repair, repair_from_pb, AnswerCodec("", fill_repair_result, repair_result_from_pb)),
)
VERBS: dict[type[Request[Any]], Verb[Any, Any]] = {verb.record: verb for verb in _VERBS}
"""Request record -> its verb. Batch alone stands beside it: it carries others."""

assert {verb.method for verb in _VERBS} == set(META.methods) - {META.Batch}, "a method has no verb"


def verb_of(request: Request[A]) -> Verb[Request[A], A]:
    """The verb of a request."""
    return cast("Verb[Request[A], A]", VERBS[type(request)])
