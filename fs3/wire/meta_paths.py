"""Paths and modes of requests to and from protobuf."""

from __future__ import annotations

from fs3.base.ids import ROOT_INODE
from fs3.model.inode import MODE_BITS
from fs3.model.namespace import PathRef
from fs3.wire.malformed import malformed
from fs3.wire.pb import meta_pb2 as pb


def fill_path(message: pb.PathRef, path: PathRef) -> None:
    """Write where a path starts and what it is into an empty message."""
    if path.parent != ROOT_INODE:
        message.parent = path.parent
    message.path = path.path


def path_from_pb(message: pb.PathRef) -> PathRef:
    """The path of a message."""
    return PathRef(message.parent or ROOT_INODE, message.path)  # type: ignore[arg-type]


def mode_from_pb(mode: int) -> int:
    """Permission bits. Raises InvalidArgument for more than those."""
    if mode > MODE_BITS:
        raise malformed("mode", f"{mode:#o} has more than the permission bits {MODE_BITS:#o}")
    return mode
