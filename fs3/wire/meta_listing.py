"""Requests for pages of directories to and from protobuf, and the pages: in columns, because a thousand sub-messages cost ten
times as much."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from fs3.base.errors import error
from fs3.base.ids import InodeId
from fs3.base.limits import name_bytes_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout
from fs3.model.namespace import Entry, Listing
from fs3.model.requests import List
from fs3.wire.malformed import malformed
from fs3.wire.meta import INODE_TYPES, fill_inode, fill_layout, inode_bytes_max, inode_from_pb, inode_type, layout_from_pb
from fs3.wire.meta_paths import fill_path, fill_text, fill_texts, path_from_pb, text_from_pb, texts_from_pb
from fs3.wire.pb import meta_pb2 as pb

_IN_COLUMNS = frozenset(
    (
        *("id", "type", "mode", "uid", "gid", "nlink", "length", "change", "layout", "truncations"),
        *("atime_ns", "mtime_ns", "ctime_ns", "birth_ns"),
    )
)
_AT_HOME = frozenset(("dirent_serial", "trim", "appends", "grants"))
"""Bookkeeping of the service, which `fill_inode` does not send either."""
_OTHERS = [field for field in msgspec.structs.fields(Inode) if field.name not in _IN_COLUMNS | _AT_HOME]
"""What no column says. An inode with anything unusual there is sent whole; a field that is added is one of these by itself."""
_others_of = attrgetter(*(field.name for field in _OTHERS))
_USUAL = tuple(0 if field.default is msgspec.NODEFAULT else field.default for field in _OTHERS)
_ENTRY_BYTES_MAX = 24
_COLUMNS_BYTES_MAX = 152
"""Of one inode; as `inode_bytes_max`, but for its layout."""


def fill_list(message: pb.ListRequest, request: List) -> None:
    """Write a request into an empty message."""
    fill_path(message.path, request.path)
    fill_text(message, "after", request.after)
    message.limit = request.limit
    message.with_inodes = request.with_inodes
    message.raw_names = request.raw_names


def list_from_pb(message: pb.ListRequest) -> List:
    """The request of a message."""
    after = text_from_pb(message, "after")
    if len(to_bytes(after)) > name_bytes_max:
        raise malformed("after", f"longer than a name can be, {name_bytes_max} bytes")
    return List(path_from_pb(message.path), after, message.limit, message.with_inodes, message.raw_names)


def fill_listing(message: pb.ListReply, listing: Listing, room: int) -> None:
    """The listing, or its beginning as far as `room` bytes reach; at least one entry, so that a reader gets on."""
    entries = listing.entries
    wholes = [_whole_of(entry.inode) for entry in entries]
    if _bytes_max(entries, wholes) > room:
        entries = entries[: _count_fitting(entries, wholes, room)]
    message.more = listing.more or len(entries) < len(listing.entries)
    fill_texts(message, "names", [entry.name for entry in entries], "")
    message.inode_ids.extend([entry.inode_id for entry in entries])
    message.types.extend([entry.type for entry in entries])  # type: ignore[misc]
    inodes = [entry.inode for entry in entries if entry.inode is not None]
    if inodes:
        assert len(inodes) == len(entries), "a listing has the inodes of all its entries, or of none"
        _fill_columns(message.inodes, inodes, wholes)


def listing_from_pb(message: pb.ListReply) -> Listing:
    """The listing of a message. Raises FS3Error PROTOCOL for columns that contradict each other."""
    names, ids, types = texts_from_pb(message, "names"), message.inode_ids[:], message.types[:]
    if not len(names) == len(ids) == len(types):
        raise error(Code.PROTOCOL, f"{len(names)} names, {len(ids)} inodes and {len(types)} types in one listing")
    try:
        kinds = [INODE_TYPES[number] for number in types]
    except KeyError:
        kinds = [inode_type(number) for number in types]
    if not message.HasField("inodes"):
        entries = [Entry(name, InodeId(id), kind) for name, id, kind in zip(names, ids, kinds, strict=True)]
    else:
        inodes = _inodes(message.inodes, ids, kinds)
        rows = zip(names, ids, kinds, inodes, strict=True)
        entries = [Entry(name, InodeId(id), kind, inode) for name, id, kind, inode in rows]
    return Listing(entries, message.more)


def _whole_of(inode: Inode | None) -> Inode | None:
    """The inode, when it has what no column says."""
    return inode if inode is not None and _others_of(inode) != _USUAL else None


def _bytes_max(entries: list[Entry], wholes: list[Inode | None]) -> int:
    """No message of these entries is larger. Layouts count once, as they are sent. `wholes`: the inodes of the first entries that
    are sent whole."""
    inodes = [entry.inode for entry in entries if entry.inode is not None]
    layouts = {inode.layout for inode in inodes}
    return (
        _ENTRY_BYTES_MAX * len(entries)
        + 4 * sum([len(entry.name) for entry in entries])
        + _COLUMNS_BYTES_MAX * len(inodes)
        + sum([_layout_bytes_max(layout) for layout in layouts])
        + sum([inode_bytes_max(inode) for inode in wholes[: len(entries)] if inode is not None])
    )


def _count_fitting(entries: list[Entry], wholes: list[Inode | None], room: int) -> int:
    """How many entries from the first on fit into so many bytes, at least one."""
    at_least, too_many = 1, len(entries)
    while too_many - at_least > 1:
        middle = (at_least + too_many) // 2
        if _bytes_max(entries[:middle], wholes) <= room:
            at_least = middle
        else:
            too_many = middle
    return at_least


def _layout_bytes_max(layout: Layout) -> int:
    return 32 + 5 * len(layout.chains)


def _fill_columns(message: pb.InodeColumns, inodes: list[Inode], wholes: list[Inode | None]) -> None:
    message.modes.extend([inode.mode for inode in inodes])
    message.uids.extend([inode.uid for inode in inodes])
    message.gids.extend([inode.gid for inode in inodes])
    message.nlinks.extend([inode.nlink for inode in inodes])
    message.lengths.extend([inode.length for inode in inodes])
    message.atimes_ns.extend([inode.atime_ns for inode in inodes])
    message.mtimes_ns.extend([inode.mtime_ns for inode in inodes])
    message.ctimes_ns.extend([inode.ctime_ns for inode in inodes])
    message.births_ns.extend([inode.birth_ns for inode in inodes])
    message.changes.extend([inode.change for inode in inodes])
    message.truncations.extend([inode.truncations for inode in inodes])
    places: dict[Layout, int] = {}
    message.layouts.extend([places.setdefault(inode.layout, len(places)) for inode in inodes])
    for layout in places:
        fill_layout(message.distinct_layouts.add(), layout)
    for index, whole in enumerate(wholes[: len(inodes)]):
        if whole is not None:
            message.whole_at.append(index)
            fill_inode(message.whole.add(), whole)


def _inodes(message: pb.InodeColumns, ids: list[int], kinds: list[InodeType]) -> list[Inode]:
    layouts = [layout_from_pb(layout) for layout in message.distinct_layouts]
    columns: list[Any] = [
        ids,
        kinds,
        message.modes[:],
        message.uids[:],
        message.gids[:],
        message.nlinks[:],
        message.lengths[:],
        message.atimes_ns[:],
        message.mtimes_ns[:],
        message.ctimes_ns[:],
        message.births_ns[:],
        message.changes[:],
        message.layouts[:],
        message.truncations[:],
    ]
    whole_at = message.whole_at[:]
    count = len(ids)
    if any(len(column) != count for column in columns) or len(whole_at) != len(message.whole):
        raise error(Code.PROTOCOL, f"columns of inodes are not {count} elements each")
    if any(index >= count for index in whole_at) or any(place >= len(layouts) for place in set(columns[-2])):
        raise error(Code.PROTOCOL, "a listing refers to what is not in it")
    inodes = [
        Inode(
            id,
            kind,
            mode,
            uid,
            gid,
            nlink,
            length,
            atime,
            mtime,
            ctime,
            birth,
            change,
            _NO_PARENT,
            layouts[place],
            "",
            0,
            truncations,
        )
        for id, kind, mode, uid, gid, nlink, length, atime, mtime, ctime, birth, change, place, truncations in zip(
            *columns, strict=True
        )
    ]
    for index, whole in zip(whole_at, message.whole, strict=True):
        inodes[index] = inode_from_pb(whole)
    return inodes


_NO_PARENT = InodeId(0)

assert len(_OTHERS) > 1, "attrgetter gives tuples"
