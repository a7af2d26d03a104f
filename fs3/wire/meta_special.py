"""The creation of special files to and from protobuf."""

from __future__ import annotations

from fs3.model.requests import Mknod
from fs3.wire.meta import inode_type
from fs3.wire.meta_paths import fill_path, mode_from_pb, path_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_mknod(message: pb.MknodRequest, request: Mknod) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.type = request.type  # type: ignore[assignment]
    message.mode = request.mode & ~request.umask
    message.mode_masked = request.mode & request.umask
    message.rdev = request.rdev


def mknod_from_pb(message: pb.MknodRequest) -> Mknod:
    """The request of a message."""
    mode = mode_from_pb(message.mode | message.mode_masked)
    return Mknod(path_from_pb(message.path), inode_type(message.type), mode, message.rdev, message.mode_masked)
