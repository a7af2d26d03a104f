"""The opening and closing of files, and what changes their bytes, to and from protobuf."""

from __future__ import annotations

from typing import Any

from fs3.base.ids import InodeId, SessionId
from fs3.model.namespace import OpenResult
from fs3.model.requests import Append, AppendStep, Close, Open, Put, Sync, Truncate
from fs3.wire.malformed import malformed
from fs3.wire.meta import fill_inode, fill_layout, inode_from_pb, requested_layout
from fs3.wire.meta_modes import fill_mode, fill_parents_mode, mode_of_new, parents_mode_from_pb
from fs3.wire.meta_paths import fill_path, path_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_open(message: pb.OpenRequest, request: Open) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.write = request.write
    message.create = request.create
    message.exclusive = request.exclusive
    message.truncate = request.truncate
    message.unnamed = request.unnamed
    fill_mode(message, request)
    message.append = request.append
    message.want_data = request.want_data
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)
    fill_parents_mode(message, request)


def open_from_pb(message: pb.OpenRequest) -> Open:
    """The request of a message."""
    return Open(
        path_from_pb(message.path),
        message.write,
        message.create,
        message.exclusive,
        message.truncate,
        message.unnamed,
        mode_of_new(message),
        requested_layout(message),
        message.append,
        message.want_data,
        parents_mode_from_pb(message),
        umask=message.mode_masked | message.parents_mode_masked,
    )


def fill_opened(message: pb.OpenReply, opened: OpenResult, _room: int) -> None:
    """Write an answer into an empty message."""
    fill_inode(message.inode, opened.inode)
    message.session_id = opened.session
    if opened.data is not None:
        message.data = opened.data
    if opened.capability:
        message.capability = opened.capability


def opened_from_pb(message: pb.OpenReply) -> OpenResult:
    """The answer of a message."""
    data = message.data if message.HasField("data") else None
    return OpenResult(inode_from_pb(message.inode), SessionId(message.session_id), data, message.capability)


def fill_put(message: pb.PutRequest, request: Put) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.data = request.data
    fill_mode(message, request)
    message.exclusive = request.exclusive
    message.change = request.change
    fill_parents_mode(message, request)
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)


def put_from_pb(message: pb.PutRequest) -> Put:
    """The request of a message."""
    return Put(
        path_from_pb(message.path),
        message.data,
        mode_of_new(message),
        requested_layout(message),
        message.exclusive,
        parents_mode_from_pb(message),
        message.change,
        umask=message.mode_masked | message.parents_mode_masked,
    )


def fill_close(message: pb.CloseRequest, request: Close) -> None:
    """Write a request into an empty message."""
    fill_sync(message, request)
    if request.publish is not None:
        fill_path(message.publish, request.publish)
    message.exclusive = request.exclusive
    message.discard = request.discard
    fill_parents_mode(message, request)


def close_from_pb(message: pb.CloseRequest) -> Close:
    """The request of a message."""
    return Close(
        _content_id(message),
        SessionId(message.session_id),
        message.length if message.has_length else None,
        message.modified,
        path_from_pb(message.publish) if message.publish.path else None,
        message.exclusive,
        message.discard,
        message.truncations if message.HasField("truncations") else None,
        parents_mode_from_pb(message),
        message.keep_mtime,
        message.parents_mode_masked,
        _written_ago(message),
        message.leaves_holes,
    )


def fill_sync(message: Any, request: Close | Sync) -> None:
    """Write a request into an empty message."""
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


def sync_from_pb(message: pb.SyncRequest) -> Sync:
    """The request of a message."""
    length = message.length if message.has_length else None
    truncations = message.truncations if message.HasField("truncations") else None
    session = SessionId(message.session_id)
    told = message.keep_mtime, _written_ago(message), message.leaves_holes
    return Sync(_content_id(message), session, length, message.modified, truncations, *told)


def fill_append(message: pb.AppendRequest, request: Append) -> None:
    """Write a request into an empty message."""
    message.content_id = request.content
    message.session_id = request.session
    message.step = request.step  # type: ignore[assignment]
    message.serial = request.serial
    message.renewals = request.renewals
    message.length = request.length
    message.data = request.data
    message.unnamed = request.unnamed


def append_from_pb(message: pb.AppendRequest) -> Append:
    """The request of a message."""
    try:
        step = AppendStep(message.step)
    except ValueError:
        raise malformed("step", f"{message.step} is not a step of an append") from None
    session = SessionId(message.session_id)
    turn = message.serial, message.renewals, message.length
    return Append(_content_id(message), session, step, *turn, message.data, message.unnamed)


def fill_truncate(message: pb.TruncateRequest, request: Truncate) -> None:
    """Write a request into an empty message."""
    message.content_id = request.content
    message.length = request.length


def truncate_from_pb(message: pb.TruncateRequest) -> Truncate:
    """The request of a message."""
    return Truncate(_content_id(message), message.length)


def _written_ago(message: pb.CloseRequest | pb.SyncRequest) -> int | None:
    return message.written_ago_ns if message.HasField("written_ago_ns") else None


def _content_id(message: Any) -> InodeId:
    if not message.content_id:
        raise malformed("content_id", "is missing")
    return InodeId(message.content_id)
