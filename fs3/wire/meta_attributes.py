"""Attributes of files and directories, and of the file system, as requests and answers to and from protobuf."""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.namespace import FileSystemSpace
from fs3.model.requests import BatchStat, SetAttributes, Stat, StatFs
from fs3.wire.malformed import check_count
from fs3.wire.meta import fill_inode, fill_layout, inode_bytes_max, inode_from_pb, requested_layout
from fs3.wire.meta_modes import mode_from_pb
from fs3.wire.meta_paths import fill_path, fill_texts, path_from_pb, texts_from_pb
from fs3.wire.pb import meta_pb2 as pb

_OPTIONAL = ("mode", "uid", "gid", "atime_ns", "mtime_ns")


def fill_stat(message: pb.StatRequest, request: Stat) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.follow = request.follow


def stat_from_pb(message: pb.StatRequest) -> Stat:
    """The request of a message."""
    return Stat(path_from_pb(message.path), message.follow)


def fill_inode_reply(message: pb.InodeReply, inode: Inode, _room: int) -> None:
    """Write an answer into an empty message."""
    fill_inode(message.inode, inode)


def inode_reply_from_pb(message: pb.InodeReply) -> Inode:
    """The answer of a message."""
    return inode_from_pb(message.inode)


def fill_batch_stat(message: pb.BatchStatRequest, request: BatchStat) -> None:
    """Write a request into an empty message."""
    message.parent = request.parent
    fill_texts(message, "paths", request.paths)
    message.follow = request.follow


def batch_stat_from_pb(message: pb.BatchStatRequest) -> BatchStat:
    """The request of a message."""
    check_count("paths", len(message.paths))
    return BatchStat(InodeId(message.parent), texts_from_pb(message, "paths"), message.follow)


def fill_stats(message: pb.BatchStatReply, answers: list[Inode | Code], room: int) -> None:
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


def stats_from_pb(message: pb.BatchStatReply) -> list[Inode | Code]:
    """The answer of a message."""
    inodes = iter(message.inodes)
    return [Code.from_wire(number) if number else inode_from_pb(next(inodes)) for number in message.codes]


def fill_setattr(message: pb.SetAttrRequest, request: SetAttributes) -> None:
    """Write a request into an empty message."""
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


def setattr_from_pb(message: pb.SetAttrRequest) -> SetAttributes:
    """The request of a message."""
    given = {field: getattr(message, field) for field in _OPTIONAL if message.HasField(field)}
    mode_from_pb(given.get("mode", 0))
    return SetAttributes(
        path_from_pb(message.path), message.follow, layout=requested_layout(message), accessed=message.accessed, **given
    )


def fill_statfs(message: pb.StatFsRequest, request: StatFs) -> None:
    """A request that says nothing but who sends it."""


def statfs_from_pb(message: pb.StatFsRequest) -> StatFs:
    """The request of a message."""
    return StatFs()


def fill_space(message: pb.StatFsReply, space: FileSystemSpace, _room: int) -> None:
    """Write an answer into an empty message."""
    message.total_bytes = space.total_bytes
    message.free_bytes = space.free_bytes
    message.inodes = space.inodes
    message.garbage = space.garbage


def space_from_pb(message: pb.StatFsReply) -> FileSystemSpace:
    """The answer of a message."""
    return FileSystemSpace(message.total_bytes, message.free_bytes, message.inodes, message.garbage)
