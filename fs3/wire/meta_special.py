"""The creation of special files to and from protobuf."""

from __future__ import annotations

from fs3.model.requests import Mknod
from fs3.wire.meta import inode_type
from fs3.wire.meta_modes import fill_mode, mode_of_new
from fs3.wire.meta_paths import fill_path, path_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_mknod(message: pb.MknodRequest, request: Mknod) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.type = request.type  # type: ignore[assignment]
    fill_mode(message, request)
    message.rdev = request.rdev


def mknod_from_pb(message: pb.MknodRequest) -> Mknod:
    """The request of a message."""
    mode = mode_of_new(message)
    return Mknod(path_from_pb(message.path), inode_type(message.type), mode, message.rdev, message.mode_masked)
