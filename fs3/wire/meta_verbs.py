"""Requests to the metadata service and their answers, to and from protobuf, and the one table of verbs both sides read.

What arrives is not trusted: every conversion from protobuf raises InvalidArgument naming the malformed field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ROOT_INODE, InodeId, SessionId
from fs3.base.limits import name_bytes_max
from fs3.base.status import Code
from fs3.model.inode import Dirent, Inode, InodeType, Layout
from fs3.model.method import Method
from fs3.model.namespace import Entry, Listing, OpenResult, PathRef, RemoveKind, RenameMode
from fs3.model.requests import (
    Close,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Remove,
    Rename,
    Request,
    SetAttributes,
    Stat,
    Symlink,
    Sync,
    Truncate,
)
from fs3.wire.meta import INODE_TYPES, fill_inode, fill_layout, inode_from_pb, layout_from_pb, malformed
from fs3.wire.methods import META
from fs3.wire.pb import meta_pb2 as pb

MODE_MAX = 0o7777

# --- requests --------------------------------------------------------------------------------------------------------


def _fill_path(message: pb.PathRef, path: PathRef) -> None:
    if path.parent != ROOT_INODE:
        message.parent = path.parent
    message.path = path.path


def _path(message: pb.PathRef) -> PathRef:
    return PathRef(message.parent or ROOT_INODE, message.path)  # type: ignore[arg-type]


def _mode(mode: int) -> int:
    if mode > MODE_MAX:
        raise malformed("mode", f"{mode:#o} has more than the permission bits {MODE_MAX:#o}")
    return mode


def _inode_id(message: Any) -> InodeId:
    if not message.inode_id:
        raise malformed("inode_id", "is missing")
    return InodeId(message.inode_id)


def _request_layout(message: Any) -> Layout | None:
    return layout_from_pb(message.layout) if message.HasField("layout") else None


def _fill_on_path(message: Any, request: Any) -> None:
    _fill_path(message.path, request.path)


def _lookup(message: pb.LookupRequest) -> Lookup:
    return Lookup(_path(message.path))


def _fill_stat(message: pb.StatRequest, request: Stat) -> None:
    _fill_path(message.path, request.path)
    message.follow = request.follow


def _stat(message: pb.StatRequest) -> Stat:
    return Stat(_path(message.path), message.follow)


def _fill_list(message: pb.ListRequest, request: List) -> None:
    _fill_path(message.path, request.path)
    message.after = request.after
    message.limit = request.limit
    message.with_inodes = request.with_inodes


def _list(message: pb.ListRequest) -> List:
    if len(message.after.encode()) > name_bytes_max:
        raise malformed("after", f"longer than a name can be, {name_bytes_max} bytes")
    return List(_path(message.path), message.after, message.limit, message.with_inodes)


def _fill_open(message: pb.OpenRequest, request: Open) -> None:
    _fill_path(message.path, request.path)
    message.write = request.write
    message.create = request.create
    message.exclusive = request.exclusive
    message.truncate = request.truncate
    message.unnamed = request.unnamed
    message.mode = request.mode
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def _open(message: pb.OpenRequest) -> Open:
    return Open(
        _path(message.path),
        message.write,
        message.create,
        message.exclusive,
        message.truncate,
        message.unnamed,
        _mode(message.mode),
        _request_layout(message),
    )


def _fill_close(message: pb.CloseRequest, request: Close) -> None:
    _fill_sync(message, request)
    if request.publish is not None:
        _fill_path(message.publish, request.publish)
    message.exclusive = request.exclusive
    message.discard = request.discard


def _close(message: pb.CloseRequest) -> Close:
    return Close(
        _inode_id(message),
        SessionId(message.session_id),
        message.length if message.has_length else None,
        message.modified,
        _path(message.publish) if message.publish.path else None,
        message.exclusive,
        message.discard,
        message.truncations if message.HasField("truncations") else None,
    )


def _fill_sync(message: Any, request: Close | Sync) -> None:
    message.inode_id = request.inode
    message.session_id = request.session
    if request.length is not None:
        message.length = request.length
        message.has_length = True
    message.modified = request.modified
    if request.truncations is not None:
        message.truncations = request.truncations


def _sync(message: pb.SyncRequest) -> Sync:
    length = message.length if message.has_length else None
    truncations = message.truncations if message.HasField("truncations") else None
    return Sync(_inode_id(message), SessionId(message.session_id), length, message.modified, truncations)


def _fill_mkdir(message: pb.MkdirRequest, request: Mkdir) -> None:
    _fill_path(message.path, request.path)
    message.mode = request.mode
    message.parents = request.parents
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def _mkdir(message: pb.MkdirRequest) -> Mkdir:
    return Mkdir(_path(message.path), _mode(message.mode), message.parents, _request_layout(message))


def _fill_remove(message: pb.RemoveRequest, request: Remove) -> None:
    _fill_path(message.path, request.path)
    message.kind = request.kind  # type: ignore[assignment]


def _remove(message: pb.RemoveRequest) -> Remove:
    try:
        return Remove(_path(message.path), RemoveKind(message.kind))
    except ValueError:
        raise malformed("kind", f"{message.kind} is not a kind of removal") from None


def _fill_rename(message: pb.RenameRequest, request: Rename) -> None:
    _fill_path(message.source, request.source)
    _fill_path(message.target, request.target)
    message.mode = request.mode  # type: ignore[assignment]


def _rename(message: pb.RenameRequest) -> Rename:
    try:
        return Rename(_path(message.source), _path(message.target), RenameMode(message.mode))
    except ValueError:
        raise malformed("mode", f"{message.mode} is not a mode of renaming") from None


def _fill_symlink(message: pb.SymlinkRequest, request: Symlink) -> None:
    _fill_path(message.path, request.path)
    message.target = request.target


def _symlink(message: pb.SymlinkRequest) -> Symlink:
    return Symlink(_path(message.path), message.target)


def _fill_link(message: pb.LinkRequest, request: Link) -> None:
    _fill_path(message.source, request.source)
    _fill_path(message.target, request.target)


def _link(message: pb.LinkRequest) -> Link:
    return Link(_path(message.source), _path(message.target))


_OPTIONAL = ("mode", "uid", "gid", "atime_ns", "mtime_ns")


def _fill_setattr(message: pb.SetAttrRequest, request: SetAttributes) -> None:
    _fill_path(message.path, request.path)
    message.follow = request.follow
    for field in _OPTIONAL:
        value = getattr(request, field)
        if value is not None:
            setattr(message, field, value)
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def _setattr(message: pb.SetAttrRequest) -> SetAttributes:
    given = {field: getattr(message, field) for field in _OPTIONAL if message.HasField(field)}
    _mode(given.get("mode", 0))
    return SetAttributes(_path(message.path), message.follow, layout=_request_layout(message), **given)


def _fill_truncate(message: pb.TruncateRequest, request: Truncate) -> None:
    message.inode_id = request.inode
    message.length = request.length


def _truncate(message: pb.TruncateRequest) -> Truncate:
    return Truncate(_inode_id(message), message.length)


# --- answers ---------------------------------------------------------------------------------------------------------


def _fill_inode_reply(message: pb.InodeReply, inode: Inode) -> None:
    fill_inode(message.inode, inode)


def _inode_reply(message: pb.InodeReply) -> Inode:
    return inode_from_pb(message.inode)


def _fill_opened(message: pb.OpenReply, opened: OpenResult) -> None:
    fill_inode(message.inode, opened.inode)
    message.session_id = opened.session


def _opened(message: pb.OpenReply) -> OpenResult:
    return OpenResult(inode_from_pb(message.inode), SessionId(message.session_id))


def _fill_removed(message: pb.RemoveReply, inode: InodeId) -> None:
    message.inode_id = inode


def _removed(message: pb.RemoveReply) -> InodeId:
    return InodeId(message.inode_id)


def _fill_dirent(message: pb.LookupReply, dirent: Dirent) -> None:
    message.inode_id = dirent.inode
    message.type = dirent.type  # type: ignore[assignment]


def _dirent(message: pb.LookupReply) -> Dirent:
    return Dirent(InodeId(message.inode_id), _type(message.type))


def _fill_listing(message: pb.ListReply, listing: Listing) -> None:
    add = message.entries.add
    for entry in listing.entries:
        row = add()
        row.name = entry.name
        row.inode_id = entry.inode_id
        row.type = entry.type  # type: ignore[assignment]
        if entry.inode is not None:
            fill_inode(row.inode, entry.inode)
    message.more = listing.more


def _listing(message: pb.ListReply) -> Listing:
    entries = [
        Entry(
            row.name,
            InodeId(row.inode_id),
            _type(row.type),
            inode_from_pb(row.inode) if row.HasField("inode") else None,
        )
        for row in message.entries
    ]
    return Listing(entries, message.more)


def _type(number: int) -> InodeType:
    kind = INODE_TYPES.get(number)
    if kind is None:
        raise error(Code.PROTOCOL, f"type {number} of an inode is not known to this software")
    return kind


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verb:
    """One kind of request: its method, its places in a batch, and its conversions. The one table both sides read."""

    record: type[Request]
    method: Method
    item: str
    """Field of BatchItem."""
    reply: str
    """Field of BatchResult."""
    fill_request: Callable[[Any, Any], None]
    request_from: Callable[[Any], Request]
    fill_reply: Callable[[Any, Any], None]
    reply_from: Callable[[Any], Any]


_INODE = ("inode", _fill_inode_reply, _inode_reply)
_ROWS: Sequence[tuple[type[Request], Method, str, Any, Any, tuple[str, Any, Any]]] = (
    (Lookup, META.Lookup, "lookup", _fill_on_path, _lookup, ("lookup", _fill_dirent, _dirent)),
    (Stat, META.Stat, "stat", _fill_stat, _stat, _INODE),
    (List, META.List, "list", _fill_list, _list, ("list", _fill_listing, _listing)),
    (Open, META.Open, "open", _fill_open, _open, ("open", _fill_opened, _opened)),
    (Close, META.Close, "close", _fill_close, _close, _INODE),
    (Sync, META.Sync, "sync", _fill_sync, _sync, _INODE),
    (Mkdir, META.Mkdir, "mkdir", _fill_mkdir, _mkdir, _INODE),
    (Remove, META.Remove, "remove", _fill_remove, _remove, ("remove", _fill_removed, _removed)),
    (Rename, META.Rename, "rename", _fill_rename, _rename, _INODE),
    (Symlink, META.Symlink, "symlink", _fill_symlink, _symlink, _INODE),
    (Link, META.Link, "link", _fill_link, _link, _INODE),
    (SetAttributes, META.SetAttr, "setattr", _fill_setattr, _setattr, _INODE),
    (Truncate, META.Truncate, "truncate", _fill_truncate, _truncate, _INODE),
)
VERBS: dict[type[Request], Verb] = {
    record: Verb(record, method, item, reply[0], fill, parse, reply[1], reply[2])
    for record, method, item, fill, parse, reply in _ROWS
}
"""Request record -> its verb. StatFs, BatchStat and Batch are not requests of one path and stand beside it."""
VERB_OF_ITEM: dict[str, Verb] = {verb.item: verb for verb in VERBS.values()}
"""Field of a BatchItem -> its verb."""

assert set(VERB_OF_ITEM) == {field.name for field in pb.BatchItem.DESCRIPTOR.fields}, "an item of a batch has no verb"


def outcome_from_pb(verb: Verb, result: pb.BatchResult, error_path: str) -> Any:
    """The answer in one result of a batch, or the FS3Error it is."""
    if result.code:
        return error(Code.from_wire(result.code), result.message, error_path or None)
    reply = result.WhichOneof("reply")
    if reply != verb.reply:
        return error(Code.PROTOCOL, f"the answer to {verb.item} is {reply!r}, not {verb.reply!r}", error_path or None)
    try:
        return verb.reply_from(getattr(result, reply))
    except FS3Error as problem:
        return problem
