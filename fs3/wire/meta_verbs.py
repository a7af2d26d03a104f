"""Requests to the metadata service and their answers, to and from protobuf, and the one table of verbs both sides read.

What arrives is not trusted: every conversion from protobuf raises InvalidArgument naming the malformed field. A reply must not
outgrow its frame, so what fills an answer in is told how many bytes there is room for; only listings and batches of stats may be
too long, and are cut. Many requests in one message are in `fs3.wire.meta_batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from fs3.base.errors import InvalidArgument, error
from fs3.base.ids import InodeId, SessionId
from fs3.base.limits import batch_items_max, frame_header_bytes_max, name_bytes_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.model.capabilities import GetCapabilities
from fs3.model.inode import Dirent, Inode, Layout
from fs3.model.lock import GetLock, Lock
from fs3.model.method import Method
from fs3.model.namespace import FileSystemSpace, OpenResult, RemoveKind, RenameMode
from fs3.model.requests import (
    Append,
    AppendStep,
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
from fs3.wire.malformed import malformed
from fs3.wire.meta import fill_inode, fill_layout, inode_bytes_max, inode_from_pb, inode_type, layout_from_pb
from fs3.wire.meta_capabilities import (
    capabilities_from_pb,
    fill_capabilities,
    fill_get_capabilities,
    get_capabilities_from_pb,
)
from fs3.wire.meta_listing import fill_listing, listing_from_pb
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
from fs3.wire.meta_paths import fill_path, fill_text, fill_texts, mode_from_pb, path_from_pb, text_from_pb, texts_from_pb
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
from fs3.wire.pb import meta_pb2 as pb

REPLY_BYTES_MAX = frame_header_bytes_max - 64 * 1024
"""A reply is cut before it outgrows its frame; one result fits into the difference."""

# --- requests --------------------------------------------------------------------------------------------------------


def _content_id(message: Any) -> InodeId:
    if not message.content_id:
        raise malformed("content_id", "is missing")
    return InodeId(message.content_id)


def _request_layout(message: Any) -> Layout | None:
    return layout_from_pb(message.layout) if message.HasField("layout") else None


def _fill_on_path(message: Any, request: Any) -> None:
    fill_path(message.path, request.path)


def _lookup(message: pb.LookupRequest) -> Lookup:
    return Lookup(path_from_pb(message.path))


def _fill_stat(message: pb.StatRequest, request: Stat) -> None:
    fill_path(message.path, request.path)
    message.follow = request.follow


def _stat(message: pb.StatRequest) -> Stat:
    return Stat(path_from_pb(message.path), message.follow)


def _fill_list(message: pb.ListRequest, request: List) -> None:
    fill_path(message.path, request.path)
    fill_text(message, "after", request.after)
    message.limit = request.limit
    message.with_inodes = request.with_inodes
    message.raw_names = request.raw_names


def _list(message: pb.ListRequest) -> List:
    after = text_from_pb(message, "after")
    if len(to_bytes(after)) > name_bytes_max:
        raise malformed("after", f"longer than a name can be, {name_bytes_max} bytes")
    return List(path_from_pb(message.path), after, message.limit, message.with_inodes, message.raw_names)


def _fill_open(message: pb.OpenRequest, request: Open) -> None:
    fill_path(message.path, request.path)
    message.write = request.write
    message.create = request.create
    message.exclusive = request.exclusive
    message.truncate = request.truncate
    message.unnamed = request.unnamed
    _fill_mode(message, request)
    message.append = request.append
    message.want_data = request.want_data
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)
    _fill_parents_mode(message, request)


def _open(message: pb.OpenRequest) -> Open:
    return Open(
        path_from_pb(message.path),
        message.write,
        message.create,
        message.exclusive,
        message.truncate,
        message.unnamed,
        _mode_of_new(message),
        _request_layout(message),
        message.append,
        message.want_data,
        _parents_mode(message),
        umask=message.mode_masked | message.parents_mode_masked,
    )


def _fill_put(message: pb.PutRequest, request: Put) -> None:
    fill_path(message.path, request.path)
    message.data = request.data
    _fill_mode(message, request)
    message.exclusive = request.exclusive
    message.change = request.change
    _fill_parents_mode(message, request)
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def _put(message: pb.PutRequest) -> Put:
    return Put(
        path_from_pb(message.path),
        message.data,
        _mode_of_new(message),
        _request_layout(message),
        message.exclusive,
        _parents_mode(message),
        message.change,
        umask=message.mode_masked | message.parents_mode_masked,
    )


# Services that know nothing of default ACLs go by the modes alone, so the umask is off them when they travel.


def _fill_mode(message: Any, request: Open | Put | Mkdir) -> None:
    message.mode = request.mode & ~request.umask
    message.mode_masked = request.mode & request.umask


def _fill_parents_mode(message: Any, request: Open | Put | Close | Mkdir | Rename) -> None:
    if request.parents_mode is not None:
        message.parents_mode = request.parents_mode & ~request.umask
        message.parents_mode_masked = request.parents_mode & request.umask


def _mode_of_new(message: Any) -> int:
    return mode_from_pb(message.mode | message.mode_masked)


def _parents_mode(message: Any) -> int | None:
    return mode_from_pb(message.parents_mode | message.parents_mode_masked) if message.HasField("parents_mode") else None


def _fill_close(message: pb.CloseRequest, request: Close) -> None:
    _fill_sync(message, request)
    if request.publish is not None:
        fill_path(message.publish, request.publish)
    message.exclusive = request.exclusive
    message.discard = request.discard
    _fill_parents_mode(message, request)


def _close(message: pb.CloseRequest) -> Close:
    return Close(
        _content_id(message),
        SessionId(message.session_id),
        message.length if message.has_length else None,
        message.modified,
        path_from_pb(message.publish) if message.publish.path else None,
        message.exclusive,
        message.discard,
        message.truncations if message.HasField("truncations") else None,
        _parents_mode(message),
        message.keep_mtime,
        message.parents_mode_masked,
        _written_ago(message),
        message.leaves_holes,
    )


def _fill_sync(message: Any, request: Close | Sync) -> None:
    message.content_id = request.content
    message.session_id = request.session
    if request.length is not None:
        message.length = request.length
        message.has_length = True
    message.modified = request.modified
    if request.keep_mtime:
        message.keep_mtime = True
    if request.written_ago_ns is not None:
        message.written_ago_ns = request.written_ago_ns
    if request.leaves_holes:
        message.leaves_holes = True
    if request.truncations is not None:
        message.truncations = request.truncations


def _sync(message: pb.SyncRequest) -> Sync:
    length = message.length if message.has_length else None
    truncations = message.truncations if message.HasField("truncations") else None
    session = SessionId(message.session_id)
    told = message.keep_mtime, _written_ago(message), message.leaves_holes
    return Sync(_content_id(message), session, length, message.modified, truncations, *told)


def _written_ago(message: pb.CloseRequest | pb.SyncRequest) -> int | None:
    return message.written_ago_ns if message.HasField("written_ago_ns") else None


def _fill_append(message: pb.AppendRequest, request: Append) -> None:
    message.content_id = request.content
    message.session_id = request.session
    message.step = request.step  # type: ignore[assignment]
    message.serial = request.serial
    message.renewals = request.renewals
    message.length = request.length
    message.data = request.data
    message.unnamed = request.unnamed


def _append(message: pb.AppendRequest) -> Append:
    try:
        step = AppendStep(message.step)
    except ValueError:
        raise malformed("step", f"{message.step} is not a step of an append") from None
    session = SessionId(message.session_id)
    turn = message.serial, message.renewals, message.length
    return Append(_content_id(message), session, step, *turn, message.data, message.unnamed)


def _fill_mkdir(message: pb.MkdirRequest, request: Mkdir) -> None:
    fill_path(message.path, request.path)
    _fill_mode(message, request)
    message.parents = request.parents
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)
    _fill_parents_mode(message, request)


def _mkdir(message: pb.MkdirRequest) -> Mkdir:
    return Mkdir(
        path_from_pb(message.path),
        _mode_of_new(message),
        message.parents,
        _request_layout(message),
        _parents_mode(message),
        umask=message.mode_masked | message.parents_mode_masked,
    )


def _fill_remove(message: pb.RemoveRequest, request: Remove) -> None:
    fill_path(message.path, request.path)
    message.kind = request.kind  # type: ignore[assignment]


def _remove(message: pb.RemoveRequest) -> Remove:
    try:
        return Remove(path_from_pb(message.path), RemoveKind(message.kind))
    except ValueError:
        raise malformed("kind", f"{message.kind} is not a kind of removal") from None


def _fill_rename(message: pb.RenameRequest, request: Rename) -> None:
    fill_path(message.source, request.source)
    fill_path(message.target, request.target)
    message.mode = request.mode  # type: ignore[assignment]
    _fill_parents_mode(message, request)


def _rename(message: pb.RenameRequest) -> Rename:
    try:
        mode = RenameMode(message.mode)
    except ValueError:
        raise malformed("mode", f"{message.mode} is not a mode of renaming") from None
    mode_of_parents = _parents_mode(message)
    return Rename(
        path_from_pb(message.source), path_from_pb(message.target), mode, mode_of_parents, umask=message.parents_mode_masked
    )


def _fill_symlink(message: pb.SymlinkRequest, request: Symlink) -> None:
    fill_path(message.path, request.path)
    fill_text(message, "target", request.target)


def _symlink(message: pb.SymlinkRequest) -> Symlink:
    return Symlink(path_from_pb(message.path), text_from_pb(message, "target"))


def _fill_link(message: pb.LinkRequest, request: Link) -> None:
    fill_path(message.source, request.source)
    fill_path(message.target, request.target)
    message.session_id = request.session


def _link(message: pb.LinkRequest) -> Link:
    return Link(path_from_pb(message.source), path_from_pb(message.target), SessionId(message.session_id))


_OPTIONAL = ("mode", "uid", "gid", "atime_ns", "mtime_ns")


def _fill_setattr(message: pb.SetAttrRequest, request: SetAttributes) -> None:
    fill_path(message.path, request.path)
    message.follow = request.follow
    message.accessed = request.accessed
    for field in _OPTIONAL:
        value = getattr(request, field)
        if value is not None:
            setattr(message, field, value)
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def _setattr(message: pb.SetAttrRequest) -> SetAttributes:
    given = {field: getattr(message, field) for field in _OPTIONAL if message.HasField(field)}
    mode_from_pb(given.get("mode", 0))
    return SetAttributes(
        path_from_pb(message.path), message.follow, layout=_request_layout(message), accessed=message.accessed, **given
    )


def _fill_truncate(message: pb.TruncateRequest, request: Truncate) -> None:
    message.content_id = request.content
    message.length = request.length


def _truncate(message: pb.TruncateRequest) -> Truncate:
    return Truncate(_content_id(message), message.length)


def _fill_batch_stat(message: pb.BatchStatRequest, request: BatchStat) -> None:
    message.parent = request.parent
    fill_texts(message, "paths", request.paths)
    message.follow = request.follow


def _batch_stat(message: pb.BatchStatRequest) -> BatchStat:
    check_count("paths", len(message.paths))
    return BatchStat(InodeId(message.parent), texts_from_pb(message, "paths"), message.follow)


def _fill_bare(message: Any, request: Any) -> None:
    """A request that says nothing but who sends it."""


def _statfs(message: pb.StatFsRequest) -> StatFs:
    return StatFs()


def check_count(field: str, count: int) -> None:
    """Raises FS3Error TOO_LARGE when a request has more elements than one may have."""
    if count > batch_items_max:
        raise error(Code.TOO_LARGE, f"{field}: {count} in one request, at most {batch_items_max} are allowed")


# --- answers ---------------------------------------------------------------------------------------------------------


def _fill_inode_reply(message: pb.InodeReply, inode: Inode, _room: int) -> None:
    fill_inode(message.inode, inode)


def _inode_reply(message: pb.InodeReply) -> Inode:
    return inode_from_pb(message.inode)


def _fill_opened(message: pb.OpenReply, opened: OpenResult, _room: int) -> None:
    fill_inode(message.inode, opened.inode)
    message.session_id = opened.session
    if opened.data is not None:
        message.data = opened.data
    if opened.capability:
        message.capability = opened.capability


def _opened(message: pb.OpenReply) -> OpenResult:
    data = message.data if message.HasField("data") else None
    return OpenResult(inode_from_pb(message.inode), SessionId(message.session_id), data, message.capability)


def _fill_removed(message: pb.RemoveReply, inode: InodeId, _room: int) -> None:
    message.inode_id = inode


def _removed(message: pb.RemoveReply) -> InodeId:
    return InodeId(message.inode_id)


def _fill_dirent(message: pb.LookupReply, dirent: Dirent, _room: int) -> None:
    message.inode_id = dirent.inode
    message.type = dirent.type  # type: ignore[assignment]


def _dirent(message: pb.LookupReply) -> Dirent:
    return Dirent(InodeId(message.inode_id), inode_type(message.type))


def _fill_stats(message: pb.BatchStatReply, answers: list[Inode | Code], room: int) -> None:
    """One code per path that is answered, and the inodes of those that are OK; the paths behind them are asked for anew."""
    codes: list[int] = []
    add = message.inodes.add
    room -= 5 * len(answers)
    for answer in answers:
        if isinstance(answer, Code):
            codes.append(answer)
            continue
        room -= inode_bytes_max(answer)
        if room < 0:
            break
        fill_inode(add(), answer)
        codes.append(0)
    message.codes.extend(codes)


def _stats(message: pb.BatchStatReply) -> list[Inode | Code]:
    inodes = iter(message.inodes)
    return [Code.from_wire(number) if number else inode_from_pb(next(inodes)) for number in message.codes]


def _fill_space(message: pb.StatFsReply, space: FileSystemSpace, _room: int) -> None:
    message.total_bytes = space.total_bytes
    message.free_bytes = space.free_bytes
    message.inodes = space.inodes
    message.garbage = space.garbage


def _space(message: pb.StatFsReply) -> FileSystemSpace:
    return FileSystemSpace(message.total_bytes, message.free_bytes, message.inodes, message.garbage)


# --- the table -------------------------------------------------------------------------------------------------------

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


_INODE = AnswerCodec("inode", _fill_inode_reply, _inode_reply)
_OPENED = AnswerCodec("open", _fill_opened, _opened)
_VERBS: tuple[Verb[Any, Any], ...] = (
    Verb(Lookup, META.Lookup, "lookup", _fill_on_path, _lookup, AnswerCodec("lookup", _fill_dirent, _dirent)),
    Verb(Stat, META.Stat, "stat", _fill_stat, _stat, _INODE),
    Verb(List, META.List, "list", _fill_list, _list, AnswerCodec("list", fill_listing, listing_from_pb)),
    Verb(Open, META.Open, "open", _fill_open, _open, _OPENED),
    Verb(Put, META.Put, "put", _fill_put, _put, _INODE),
    Verb(Close, META.Close, "close", _fill_close, _close, _INODE),
    Verb(Sync, META.Sync, "sync", _fill_sync, _sync, _INODE),
    Verb(Append, META.Append, "", _fill_append, _append, _INODE),
    Verb(Mkdir, META.Mkdir, "mkdir", _fill_mkdir, _mkdir, _INODE),
    Verb(Remove, META.Remove, "remove", _fill_remove, _remove, AnswerCodec("remove", _fill_removed, _removed)),
    Verb(Rename, META.Rename, "rename", _fill_rename, _rename, _INODE),
    Verb(Symlink, META.Symlink, "symlink", _fill_symlink, _symlink, _INODE),
    Verb(Mknod, META.Mknod, "", fill_mknod, mknod_from_pb, _INODE),
    Verb(Link, META.Link, "link", _fill_link, _link, _INODE),
    Verb(SetAttributes, META.SetAttr, "setattr", _fill_setattr, _setattr, _INODE),
    Verb(Truncate, META.Truncate, "truncate", _fill_truncate, _truncate, _INODE),
    Verb(SetXattr, META.SetXattr, "", fill_set_xattr, set_xattr_from_pb, _INODE),
    Verb(GetXattr, META.GetXattr, "", fill_get_xattr, get_xattr_from_pb, AnswerCodec("", fill_value, value_from_pb)),
    Verb(
        ListXattr, META.ListXattr, "", fill_list_xattr, list_xattr_from_pb, AnswerCodec("", fill_xattr_names, xattr_names_from_pb)
    ),
    Verb(RemoveXattr, META.RemoveXattr, "", fill_remove_xattr, remove_xattr_from_pb, _INODE),
    Verb(Lock, META.Lock, "", fill_lock, lock_from_pb, AnswerCodec("", fill_lock_answer, lock_answer_from_pb)),
    Verb(GetLock, META.GetLock, "", fill_get_lock, get_lock_from_pb, AnswerCodec("", fill_found_lock, found_lock_from_pb)),
    Verb(BatchStat, META.BatchStat, "", _fill_batch_stat, _batch_stat, AnswerCodec("", _fill_stats, _stats)),
    Verb(StatFs, META.StatFs, "", _fill_bare, _statfs, AnswerCodec("", _fill_space, _space)),
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
