"""Inodes, layouts and callers to and from protobuf; requests and their answers are in the files beside this one, and the
table of them in `meta_verbs`.

What arrives is not trusted: every `*_from_pb` raises InvalidArgument naming the malformed field. What a well-formed request may
say (paths, names, lengths, layouts) is checked by the operations themselves, which name the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fs3.base.errors import error
from fs3.base.ids import CLIENT_ID_BYTES, INODE_IDS_END, ChainId, ClientId, InodeId, SessionId, TableId
from fs3.base.limits import open_contents_per_request_max
from fs3.base.status import Code
from fs3.model.inode import NO_LAYOUT, AppendTurn, Inode, InodeType, Layout, User
from fs3.model.requests import Caller
from fs3.wire.malformed import malformed
from fs3.wire.pb import common_pb2
from fs3.wire.pb import meta_pb2 as pb

groups_max = 1024
"""Supplementary groups of one caller."""

INODE_TYPES = {int(member): member for member in InodeType}


def inode_type(number: int) -> InodeType:
    """The type of a number on the wire; OTHER for one that a newer service knows. Raises FS3Error PROTOCOL where none is said."""
    if not number:
        raise error(Code.PROTOCOL, "an inode is of no type")
    return INODE_TYPES.get(number, InodeType.OTHER)


# --- inodes ----------------------------------------------------------------------------------------------------------
# A listing or a batch carries a thousand of these. Setting fields one by one costs 2.5 µs; keyword arguments cost 4.


def fill_inode(message: pb.Inode, inode: Inode) -> None:
    """Write an inode into an empty message. `dirent_serial` and `grants` stay at home: they are the service's business."""
    message.id = inode.id
    message.type = inode.type  # type: ignore[assignment]
    message.mode = inode.mode
    message.uid = inode.uid
    message.gid = inode.gid
    message.nlink = inode.nlink
    message.length = inode.length
    message.atime_ns = inode.atime_ns
    message.mtime_ns = inode.mtime_ns
    message.ctime_ns = inode.ctime_ns
    message.birth_ns = inode.birth_ns
    message.change = inode.change
    if inode.truncations:
        message.truncations = inode.truncations
    if inode.append is not None:
        message.append.serial = inode.append.serial
        message.append.session_id = inode.append.session
        message.append.renewals = inode.append.renewals
    if inode.content:
        message.content_id = inode.content
    if inode.inline:
        message.inline = True
    if inode.rdev:
        message.rdev = inode.rdev
    if inode.xattr_bytes:
        message.xattr_bytes = inode.xattr_bytes
    if inode.has_holes:
        message.has_holes = True
    if inode.parent:
        message.parent = inode.parent
    if inode.target:
        message.target = inode.target
    if inode.raw_target:
        message.raw_target = inode.raw_target
        message.target = inode.raw_target.decode(errors="replace")
    layout = inode.layout
    if layout.chunk_size or layout.table or layout.stripe:
        fill_layout(message.layout, layout)


def inode_from_pb(message: pb.Inode) -> Inode:
    """The inode of a message. Raises FS3Error PROTOCOL for one without a type."""
    layout = message.layout
    size = layout.chunk_size
    return Inode(
        message.id,  # type: ignore[arg-type]
        inode_type(message.type),
        message.mode,
        message.uid,
        message.gid,
        message.nlink,
        message.length,
        message.atime_ns,
        message.mtime_ns,
        message.ctime_ns,
        message.birth_ns,
        message.change,
        message.parent,  # type: ignore[arg-type]
        Layout(layout.table_id, size, layout.stripe, tuple(layout.chains[:])) if size else layout_from_pb(layout),  # type: ignore[arg-type]
        "" if message.raw_target else message.target,
        0,
        message.truncations,
        None,
        _append_turn(message.append) if message.HasField("append") else None,
        0,
        message.content_id,  # type: ignore[arg-type]
        message.inline,
        False,
        message.rdev,
        message.raw_target,
        message.xattr_bytes,
        has_holes=message.has_holes,
    )


def _append_turn(message: pb.AppendTurn) -> AppendTurn:
    return AppendTurn(message.serial, SessionId(message.session_id), message.renewals)


def fill_layout(message: pb.Layout, layout: Layout) -> None:
    """Write a layout into an empty message."""
    message.table_id = layout.table
    message.chunk_size = layout.chunk_size
    message.stripe = layout.stripe
    if layout.chains:
        message.chains.extend(layout.chains)


def layout_from_pb(message: pb.Layout) -> Layout:
    """The layout of a message."""
    if not message.ByteSize():
        return NO_LAYOUT
    chains = tuple(ChainId(chain) for chain in message.chains)
    return Layout(TableId(message.table_id), message.chunk_size, message.stripe, chains)


def requested_layout(message: Any) -> Layout | None:
    """The layout that is asked for; None where none is."""
    return layout_from_pb(message.layout) if message.HasField("layout") else None


def inode_bytes_max(inode: Inode) -> int:
    """No encoded inode is larger than this; for cutting replies without encoding them twice."""
    return 188 + 5 * len(inode.layout.chains) + 4 * len(inode.target) + 4 * len(inode.raw_target)


# --- who and where ---------------------------------------------------------------------------------------------------


def caller_to_pb(client: ClientId, user: User) -> common_pb2.Caller:
    """The caller of every request that one user sends by a client; `request_seq` and `repeated` are set per request. Raises
    InvalidArgument for what identifies no user, and for more than `groups_max` supplementary groups."""
    for name, number in (("uid", user.uid), ("gid", user.gid), *(("groups", group) for group in user.groups)):
        if not 0 <= number < 1 << 32:
            raise malformed(name, f"{number} is not from 0 to {(1 << 32) - 1}")
    if len(user.groups) > groups_max:
        raise malformed("groups", f"{len(user.groups)} groups, at most {groups_max} are allowed")
    return common_pb2.Caller(client_id=client, uid=user.uid, gid=user.gid, groups=user.groups)


def caller_from_pb(message: common_pb2.Caller) -> Caller:
    """The caller of a request."""
    client = message.client_id
    if len(client) != CLIENT_ID_BYTES:
        raise malformed("caller.client_id", f"{len(client)} bytes, {CLIENT_ID_BYTES} are needed")
    groups = message.groups
    if groups:
        if len(groups) > groups_max:
            raise malformed("caller.groups", f"{len(groups)} groups, at most {groups_max} are allowed")
        user = User(message.uid, message.gid, tuple(groups[:]))
    else:
        user = User(message.uid, message.gid)
    contents = open_contents_from_pb("caller.open_contents", message.open_contents) if message.open_contents else ()
    return Caller(ClientId(client), user, message.request_seq, message.repeated, contents)


def open_contents_from_pb(field: str, contents: Sequence[int]) -> tuple[InodeId, ...]:
    """What a client has open for reading."""
    if len(contents) > open_contents_per_request_max:
        raise malformed(field, f"{len(contents)} contents, at most {open_contents_per_request_max} are allowed")
    if not all(0 < content < INODE_IDS_END for content in contents):
        raise malformed(field, f"a content id is from 1 to {INODE_IDS_END - 1}")
    return tuple(contents)  # type: ignore[arg-type]


def mark_repeated(message: Any) -> None:
    """Says in a request's message that it is sent once more, while an earlier sending may still arrive."""
    message.caller.repeated = True
