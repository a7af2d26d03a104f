"""Adding entries to directories and taking them away.

Every change of a directory rewrites the directory's inode row: its mtime, its number of entries and subdirectories, and the
serial that rotates new files over chains all live there. One row more per create is the simplest thing that is right.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.names import is_utf8, to_bytes
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.access import mode_of_new
from fs3.core.meta.allocation import allocate_ids
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.grants import grants_bytes, inherit_grants
from fs3.core.meta.resolve import PathTarget
from fs3.core.txn import Txn
from fs3.model.inode import NO_LAYOUT, Inode, InodeType, Layout


def with_entry_change(ctx: OpContext, directory: Inode, *, entries: int = 0, subdirectories: int = 0, created: int = 0) -> Inode:
    """A directory after entries came or went."""
    return replace(
        directory,
        length=directory.length + entries,
        nlink=directory.nlink + subdirectories,
        mtime_ns=ctx.wall_ns,
        ctime_ns=ctx.wall_ns,
        change=directory.change + 1,
        dirent_serial=directory.dirent_serial + created,
    )


def with_nlink(ctx: OpContext, inode: Inode, nlink: int) -> Inode:
    """An inode after its number of names or its place changed."""
    return replace(inode, nlink=nlink, ctime_ns=ctx.wall_ns, change=inode.change + 1)


def new_inode(
    ctx: OpContext,
    inode: int,
    kind: InodeType,
    mode: int,
    directory: Inode,
    layout: Layout,
    *,
    umask: int = 0,
    nlink: int = 1,
    target: str = "",
) -> Inode:
    """A fresh inode, owned by the user of `ctx`, by the rules of the directory it is made for. `umask`: as in `Open`."""
    is_directory = kind is InodeType.DIRECTORY
    mode, gid = mode_of_new(ctx.user, directory, mode, is_directory=is_directory)
    grants = None
    if kind is not InodeType.SYMLINK:
        mode, grants = inherit_grants(directory, mode, umask, is_directory=is_directory)
    now = ctx.wall_ns
    parent = directory.id if is_directory else InodeId(0)
    uid = ctx.user.uid
    raw = to_bytes(target)
    made = Inode(
        InodeId(inode), kind, mode, uid, gid, nlink, len(raw), now, now, now, now, 1, parent, layout, target,
        xattr_bytes=grants_bytes(grants), grants=grants,
    )  # fmt: skip
    return made if is_utf8(target) else replace(made, target="", raw_target=raw)


def empty_root(ctx: OpContext, mode: int) -> Inode:
    """The root directory of an empty namespace, of the user of `ctx`. It is its own parent."""
    now, user = ctx.wall_ns, ctx.user
    return Inode(ROOT_INODE, InodeType.DIRECTORY, mode, user.uid, user.gid, 2, 0, now, now, now, now, 1, ROOT_INODE, NO_LAYOUT)


async def make_directory(txn: Txn, ctx: OpContext, place: PathTarget, mode: int, layout: Layout, *, umask: int = 0) -> Inode:
    """Creates a directory at a place where nothing is. The caller has checked that it may. `umask`: as in `Open`."""
    directory = place.directory
    number = await allocate_ids(txn, ctx, inodes=1)
    inode = new_inode(ctx, number, InodeType.DIRECTORY, mode, directory, layout, umask=umask, nlink=2)
    rows.put_inode(txn, inode)
    rows.put_dirent(txn, place.key, inode)
    rows.put_inode(txn, with_entry_change(ctx, directory, entries=1, subdirectories=1))
    return inode


def add_entry(txn: Txn, ctx: OpContext, place: PathTarget, inode: Inode, *, created: int = 0) -> None:
    """Gives a file or symlink a name at a place where nothing is, and stores both. The caller has checked that it may."""
    rows.put_inode(txn, inode)
    rows.put_dirent(txn, place.key, inode)
    rows.put_inode(txn, with_entry_change(ctx, place.directory, entries=1, created=created))


def require_absent(place: PathTarget) -> None:
    """Raises EXISTS when something is at a place; NOT_FOUND for a path with a trailing slash, which only mkdir may create."""
    if place.dirent is not None:
        raise MetaError(Code.EXISTS, "the name is taken", place.path)
    if place.must_be_directory:
        raise MetaError(Code.NOT_FOUND, "no such directory", place.path)


def is_entry_name(name: bytes) -> bool:
    """An entry may have this name, as far as the characters go."""
    return bool(name) and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


async def is_empty(txn: Txn, directory: Inode) -> bool:
    """A directory has no entries. Its `length` says so; the rows are asked as well before a directory is deleted."""
    return directory.length == 0 and not await txn.scan(*keys.dirents_range(directory.id), 1)
