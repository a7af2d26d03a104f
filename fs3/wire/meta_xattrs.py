"""Requests about extended attributes and their answers, to and from protobuf. Names are bytes; what they may be, the operations
say."""

from __future__ import annotations

from typing import Any

from fs3.model.requests import GetXattr, ListXattr, RemoveXattr, SetXattr, XattrMode
from fs3.wire.malformed import malformed
from fs3.wire.meta_paths import fill_path, path_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_set_xattr(message: pb.SetXattrRequest, request: SetXattr) -> None:
    """Write a request into an empty message."""
    _fill_named(message, request)
    message.value = request.value
    message.mode = request.mode  # type: ignore[assignment]


def set_xattr_from_pb(message: pb.SetXattrRequest) -> SetXattr:
    """The request of a message."""
    try:
        mode = XattrMode(message.mode)
    except ValueError:
        raise malformed("mode", f"{message.mode} is not a way to set an extended attribute") from None
    return SetXattr(path_from_pb(message.path), message.name, message.value, mode, message.follow)


def fill_get_xattr(message: pb.GetXattrRequest, request: GetXattr) -> None:
    """Write a request into an empty message."""
    _fill_named(message, request)


def get_xattr_from_pb(message: pb.GetXattrRequest) -> GetXattr:
    """The request of a message."""
    return GetXattr(path_from_pb(message.path), message.name, message.follow)


def fill_list_xattr(message: pb.ListXattrRequest, request: ListXattr) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.follow = request.follow


def list_xattr_from_pb(message: pb.ListXattrRequest) -> ListXattr:
    """The request of a message."""
    return ListXattr(path_from_pb(message.path), message.follow)


def fill_remove_xattr(message: pb.RemoveXattrRequest, request: RemoveXattr) -> None:
    """Write a request into an empty message."""
    _fill_named(message, request)


def remove_xattr_from_pb(message: pb.RemoveXattrRequest) -> RemoveXattr:
    """The request of a message."""
    return RemoveXattr(path_from_pb(message.path), message.name, message.follow)


def _fill_named(message: Any, request: SetXattr | GetXattr | RemoveXattr) -> None:
    fill_path(message.path, request.path)
    message.follow = request.follow
    message.name = request.name


# --- answers: of a value and of the names of one inode, which are limited to what a reply has room for ---------------


def fill_value(message: pb.GetXattrReply, value: bytes, _room: int) -> None:
    """Write an answer into an empty message."""
    message.value = value


def value_from_pb(message: pb.GetXattrReply) -> bytes:
    """The value of a message."""
    return message.value


def fill_xattr_names(message: pb.ListXattrReply, names: list[bytes], _room: int) -> None:
    """Write an answer into an empty message."""
    message.names.extend(names)


def xattr_names_from_pb(message: pb.ListXattrReply) -> list[bytes]:
    """The names of a message."""
    return message.names[:]
