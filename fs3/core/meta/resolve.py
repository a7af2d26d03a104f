"""From a path to the inode or the directory entry it names.

The walk needs search permission on every directory it looks a name up in, the starting one included; naming an inode by its
id alone needs none, as with an open file descriptor. Every error names the whole path as the caller gave it.
"""

from __future__ import annotations

import msgspec

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import name_bytes_max, symlinks_followed_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.access import EXECUTE, check_inode_id, has_permission
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn
from fs3.model.inode import Dirent, Inode, InodeType
from fs3.model.namespace import PathRef

path_depth_max = 256

path_bytes_max = 4096

_DIRECTORY = InodeType.DIRECTORY
_SYMLINK = InodeType.SYMLINK


class PathTarget(msgspec.Struct, frozen=True):
    """Where a path leads: an entry of a directory, which may be missing, or an inode without looking at a last entry."""

    directory: Inode
    """The directory of the entry. Without a name: the inode itself, which with an empty path may be of any type."""
    name: str
    """Of the entry; empty when the path ends in the starting inode, the root, or "..": no entry to change."""
    key: bytes = b""
    """The key of the entry's row."""
    dirent: Dirent | None = None
    """What is there; None when nothing is, and without a name."""
    must_be_directory: bool = False
    """The path ends in a slash, or in "."."""
    path: str = ""
    """The path as the caller gave it."""

    def require_dirent(self) -> Dirent:
        """The entry. Raises NOT_FOUND when nothing is there, NOT_A_DIRECTORY when a trailing slash forbids what is."""
        if self.dirent is None:
            raise MetaError(Code.NOT_FOUND, "no such file or directory", self.path)
        if self.must_be_directory and self.dirent.type is not _DIRECTORY:
            raise MetaError(Code.NOT_A_DIRECTORY, "not a directory", self.path)
        return self.dirent


async def resolve_path(txn: ReadTxn, ctx: OpContext, ref: PathRef, *, follow: bool) -> PathTarget:
    """Walks a path up to its last entry, which need not exist.

    Symlinks on the way are followed, with `follow` also a last one, to wherever the chain of them ends. Raises NOT_FOUND,
    NOT_A_DIRECTORY, ACCESS, TOO_MANY_SYMLINKS, NAME_TOO_LONG, INVALID. When the starting inode is gone, a path below it is
    NOT_FOUND, as in a working directory that was removed, and the inode itself STALE.
    """
    path = ref.path
    if not path:
        return PathTarget(await resolve_start(txn, ref), "")
    todo, must_be_directory = split_path(path, path)
    current = await resolve_start(txn, ref)
    if current.type is not _DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, "the path does not start at a directory", path)
    followed = 0
    while todo:
        if not has_permission(ctx.user, current, EXECUTE):
            raise MetaError(Code.ACCESS, "permission denied to search a directory of the path", path)
        name = todo.pop()
        if name == "..":
            current = await _parent_of(txn, current, path)
            continue
        encoded = to_bytes(name)
        if len(encoded) > name_bytes_max:
            raise MetaError(Code.NAME_TOO_LONG, f"a name of the path is longer than {name_bytes_max} bytes", path)
        key = keys.dirent_key(current.id, encoded)
        dirent = await rows.find_dirent(txn, key)
        if dirent is None:
            if todo:
                raise MetaError(Code.NOT_FOUND, "a directory of the path does not exist", path)
            return PathTarget(current, name, key, None, must_be_directory, path)
        if dirent.type is _SYMLINK and (todo or follow):
            followed += 1
            if followed > symlinks_followed_max:
                raise MetaError(Code.TOO_MANY_SYMLINKS, f"more than {symlinks_followed_max} symbolic links", path)
            target = (await rows.get_inode(txn, dirent.inode)).link_target
            if target.startswith("/"):
                current = await _root(txn)
            further, slash = split_path(target, path)
            must_be_directory = must_be_directory or (slash and not todo)
            todo += further
        elif not todo:
            return PathTarget(current, name, key, dirent, must_be_directory, path)
        elif dirent.type is _DIRECTORY:
            current = await rows.get_inode(txn, dirent.inode)
        else:
            raise MetaError(Code.NOT_A_DIRECTORY, "a component of the path is not a directory", path)
    return PathTarget(current, "", must_be_directory=True, path=path)


async def resolve_inode(txn: ReadTxn, ctx: OpContext, ref: PathRef, *, follow: bool) -> Inode:
    """The inode a path names, which exists; with a trailing slash it is a directory. Errors as of `resolve_path`."""
    return await load_inode(txn, await resolve_path(txn, ctx, ref, follow=follow or ref.path.endswith(("/", "/."))))


async def load_inode(txn: ReadTxn, place: PathTarget) -> Inode:
    """The inode at a place. Raises NOT_FOUND and NOT_A_DIRECTORY as `PathTarget.require_dirent`."""
    return await rows.get_inode(txn, place.require_dirent().inode) if place.name else place.directory


async def resolve_directory(txn: ReadTxn, ctx: OpContext, ref: PathRef) -> Inode:
    """The directory a path names, symlinks followed. Raises NOT_A_DIRECTORY for anything else."""
    inode = await resolve_inode(txn, ctx, ref, follow=True)
    if inode.type is not _DIRECTORY:
        raise MetaError(Code.NOT_A_DIRECTORY, "not a directory", ref.path)
    return inode


async def resolve_entry(txn: ReadTxn, ctx: OpContext, ref: PathRef, refusal: Code = Code.INVALID) -> PathTarget:
    """`resolve_path` for operations that change an entry: the last one is not followed, and a path without one is refused."""
    return require_entry(await resolve_path(txn, ctx, ref, follow=False), refusal)


def require_entry(place: PathTarget, refusal: Code = Code.INVALID) -> PathTarget:
    """The place, whose path must end in a name: `refusal` otherwise."""
    if place.name:
        if not _ends_in_dot(place.path):
            return place
        place.require_dirent()
    raise MetaError(refusal, "the path does not end in a name", place.path)


async def resolve_start(txn: ReadTxn, ref: PathRef) -> Inode:
    """The inode a path starts at. When it is gone, the caller remembered it from before it was removed: raises STALE, but for a
    path below it NOT_FOUND, since nothing is in a directory that was removed."""
    start = check_inode_id(ref.parent or ROOT_INODE, ref.path)
    inode = await rows.find_inode(txn, start)
    if inode is None:
        if start == ROOT_INODE:
            return await _root(txn)
        code = Code.NOT_FOUND if ref.path else Code.STALE
        raise MetaError(code, f"inode {start} is gone", ref.path)
    return inode


def check_text(text: str, path: str) -> None:
    """Raises INVALID for what stands for no bytes or contains NUL, NAME_TOO_LONG beyond `path_bytes_max`."""
    if "\0" in text:
        raise MetaError(Code.INVALID, "a path cannot contain NUL", path)
    size = len(text)
    if not text.isascii():
        try:
            size = len(to_bytes(text))
        except UnicodeEncodeError:
            raise MetaError(Code.INVALID, "a path has a surrogate that stands for no byte", path) from None
    if size > path_bytes_max:
        raise MetaError(Code.NAME_TOO_LONG, f"a path is longer than {path_bytes_max} bytes", path[:name_bytes_max])


def split_path(text: str, path: str) -> tuple[list[str], bool]:
    """Takes a path apart, after `check_text`: (components in reverse order, whether the last one must be a directory)."""
    check_text(text, path)
    parts = text.split("/")
    slash = parts[-1] in ("", ".")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part and part != "."]
    if len(parts) > path_depth_max:
        raise MetaError(Code.NAME_TOO_LONG, f"a path has more than {path_depth_max} components", path)
    parts.reverse()
    return parts, slash


def _ends_in_dot(path: str) -> bool:
    # Such a path names an entry of a directory, but no operation may change an entry under that name.
    path = path.rstrip("/")
    return path == "." or path.endswith("/.")


async def _root(txn: ReadTxn) -> Inode:
    return await rows.get_inode(txn, ROOT_INODE)


async def _parent_of(txn: ReadTxn, directory: Inode, path: str) -> Inode:
    if directory.parent == directory.id:
        return directory
    # The directories above a removed tree go one by one, and one in it may still be where a client's path starts.
    parent = await rows.find_inode(txn, InodeId(directory.parent))
    if parent is None:
        raise MetaError(Code.NOT_FOUND, "the directory above was removed", path)
    return parent
