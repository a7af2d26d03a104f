"""Names that a repair takes away and gives."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import check_rows_per_page
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import make_directory, with_entry_change
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.readable import find_readable_inode
from fs3.core.meta.resolve import resolve_path
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.model.namespace import PathRef

LOST_FOUND = "lost+found"
"""The directory, in the root, where a repair puts what has lost its name."""

_DIRECTORY = InodeType.DIRECTORY


async def remove_entry(txn: Txn, ctx: OpContext, parent: InodeId, name: bytes, kind: InodeType) -> None:
    """Removes an entry, whatever it names, from a directory that may not be one."""
    txn.delete(keys.dirent_key(parent, name))
    directory = await find_readable_inode(txn, parent)
    if directory is None or directory.type is not _DIRECTORY:
        return
    leaves = -1 if kind is _DIRECTORY and directory.nlink > 2 else 0
    rows.put_inode(txn, with_entry_change(ctx, directory, entries=-1 if directory.length else 0, subdirectories=leaves))


async def find_names(txn: ReadTxn, parent: InodeId, inode: InodeId) -> list[bytes]:
    """The names an inode has in a directory."""
    found = []
    begin, end = keys.dirents_range(parent)
    while page := await txn.scan(begin, end, check_rows_per_page):
        for key, row in page:
            try:
                if rows.decode_dirent(key, row).inode == inode:
                    found.append(key[keys.NAME_AT :])
            except MetaError:
                continue
        begin = page[-1][0] + b"\0"
    return found


async def reconnect(txn: Txn, ctx: OpContext, inode: Inode) -> str:
    """Gives an inode a name in /lost+found, and stores both; the name."""
    place = await resolve_path(txn, ctx, PathRef(ROOT_INODE, LOST_FOUND), follow=False)
    if place.dirent is None:
        directory = await make_directory(txn, ctx, place, 0o700, NO_LAYOUT)
    else:
        directory = await rows.get_inode(txn, place.dirent.inode)
    if directory.type is not _DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, f"/{LOST_FOUND} is not a directory; give it another name")
    if directory.id == inode.id or inode.id == ROOT_INODE:
        raise MetaError(Code.INVALID, f"inode {inode.id} cannot be put into /{LOST_FOUND}")
    name = f"#{inode.id}"
    number = 0
    while await txn.get(keys.dirent_key(directory.id, name.encode())) is not None:
        number += 1
        name = f"#{inode.id}-{number}"
    is_directory = inode.type is _DIRECTORY
    attached = replace(inode, parent=directory.id if is_directory else InodeId(0))
    rows.put_inode(txn, attached)
    rows.put_dirent(txn, keys.dirent_key(directory.id, name.encode()), attached)
    rows.put_inode(txn, with_entry_change(ctx, directory, entries=1, subdirectories=1 if is_directory else 0))
    return name
