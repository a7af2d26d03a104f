"""The finding, making, moving and removing of names, to and from protobuf."""

from __future__ import annotations

from fs3.base.ids import InodeId, SessionId
from fs3.model.inode import Dirent
from fs3.model.namespace import RemoveKind, RenameMode
from fs3.model.requests import Link, Lookup, Mkdir, Remove, Rename, Symlink
from fs3.wire.malformed import malformed
from fs3.wire.meta import fill_layout, inode_type, requested_layout
from fs3.wire.meta_modes import fill_mode, fill_parents_mode, mode_of_new, parents_mode_from_pb
from fs3.wire.meta_paths import fill_path, fill_text, path_from_pb, text_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_lookup(message: pb.LookupRequest, request: Lookup) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)


def lookup_from_pb(message: pb.LookupRequest) -> Lookup:
    """The request of a message."""
    return Lookup(path_from_pb(message.path))


def fill_dirent(message: pb.LookupReply, dirent: Dirent, _room: int) -> None:
    """Write an answer into an empty message."""
    message.inode_id = dirent.inode
    message.type = dirent.type  # type: ignore[assignment]


def dirent_from_pb(message: pb.LookupReply) -> Dirent:
    """The answer of a message."""
    return Dirent(InodeId(message.inode_id), inode_type(message.type))


def fill_mkdir(message: pb.MkdirRequest, request: Mkdir) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    fill_mode(message, request)
    message.parents = request.parents
    if request.layout is not None:
        message.layout.SetInParent()
        fill_layout(message.layout, request.layout)
    fill_parents_mode(message, request)


def mkdir_from_pb(message: pb.MkdirRequest) -> Mkdir:
    """The request of a message."""
    return Mkdir(
        path_from_pb(message.path),
        mode_of_new(message),
        message.parents,
        requested_layout(message),
        parents_mode_from_pb(message),
        umask=message.mode_masked | message.parents_mode_masked,
    )


def fill_remove(message: pb.RemoveRequest, request: Remove) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    message.kind = request.kind  # type: ignore[assignment]


def remove_from_pb(message: pb.RemoveRequest) -> Remove:
    """The request of a message."""
    try:
        return Remove(path_from_pb(message.path), RemoveKind(message.kind))
    except ValueError:
        raise malformed("kind", f"{message.kind} is not a kind of removal") from None


def fill_removed(message: pb.RemoveReply, inode: InodeId, _room: int) -> None:
    """Write an answer into an empty message."""
    message.inode_id = inode


def removed_from_pb(message: pb.RemoveReply) -> InodeId:
    """The answer of a message."""
    return InodeId(message.inode_id)


def fill_rename(message: pb.RenameRequest, request: Rename) -> None:
    """Write a request into an empty message."""
    fill_path(message.source, request.source)
    fill_path(message.target, request.target)
    message.mode = request.mode  # type: ignore[assignment]
    fill_parents_mode(message, request)


def rename_from_pb(message: pb.RenameRequest) -> Rename:
    """The request of a message."""
    try:
        mode = RenameMode(message.mode)
    except ValueError:
        raise malformed("mode", f"{message.mode} is not a mode of renaming") from None
    mode_of_parents = parents_mode_from_pb(message)
    return Rename(
        path_from_pb(message.source), path_from_pb(message.target), mode, mode_of_parents, umask=message.parents_mode_masked
    )


def fill_symlink(message: pb.SymlinkRequest, request: Symlink) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    fill_text(message, "target", request.target)


def symlink_from_pb(message: pb.SymlinkRequest) -> Symlink:
    """The request of a message."""
    return Symlink(path_from_pb(message.path), text_from_pb(message, "target"))


def fill_link(message: pb.LinkRequest, request: Link) -> None:
    """Write a request into an empty message."""
    fill_path(message.source, request.source)
    fill_path(message.target, request.target)
    message.session_id = request.session


def link_from_pb(message: pb.LinkRequest) -> Link:
    """The request of a message."""
    return Link(path_from_pb(message.source), path_from_pb(message.target), SessionId(message.session_id))
