"""Stat: attributes and layout of what a path names, one or many."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import INODE_IDS_END, InodeId
from fs3.base.limits import batch_items_max, name_bytes_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.access import EXECUTE, require
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.resolve import check_text, resolve_directory, resolve_inode
from fs3.core.txn import ReadTxn
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import BatchStat, Stat


async def stat(txn: ReadTxn, ctx: OpContext, request: Stat) -> Inode:
    """The inode a path names; `follow` a symlink in the last component or not."""
    return await resolve_inode(txn, ctx, request.path, follow=request.follow)


async def batch_stat(txn: ReadTxn, ctx: OpContext, request: BatchStat) -> list[Inode | Code]:
    """Stat of many paths below one directory: see `stat_paths`, of whose errors only the codes are answered."""
    found = await stat_paths(txn, ctx, request.parent, request.paths, request.follow)
    return [answer.code if isinstance(answer, MetaError) else answer for answer in found]


async def stat_paths(
    txn: ReadTxn, ctx: OpContext, parent: InodeId, paths: Sequence[str], follow: bool
) -> list[Inode | MetaError]:
    """Stat of many paths below one directory (0: the root), in their order; a path that cannot be answered has its error.

    Directories are resolved once per call, so a thousand files of one directory cost a thousand entries and inodes.
    Raises TOO_LARGE for more than `batch_items_max` paths.
    """
    if len(paths) > batch_items_max:
        raise MetaError(Code.TOO_LARGE, f"{len(paths)} paths in one request; the limit is {batch_items_max}")
    directories: dict[str, InodeId | MetaError] = {}
    answers: list[Inode | MetaError] = []
    for path in paths:
        try:
            answers.append(await _stat_one(txn, ctx, parent, path, follow, directories))
        except MetaError as error:
            answers.append(error)
    return answers


async def _stat_one(
    txn: ReadTxn, ctx: OpContext, parent: InodeId, path: str, follow: bool, directories: dict[str, InodeId | MetaError]
) -> Inode:
    cut = path.rfind("/") + 1
    name = path[cut:]
    if name in ("", ".", ".."):
        return await resolve_inode(txn, ctx, PathRef(parent, path), follow=follow)
    check_text(path, path)
    above = path[:cut]
    directory = directories.get(above)
    if directory is None:
        directory = directories[above] = await _searchable(txn, ctx, PathRef(parent, above))
    if isinstance(directory, MetaError):
        raise MetaError(directory.code, directory.message, path)
    encoded = to_bytes(name)
    if len(encoded) > name_bytes_max:
        raise MetaError(Code.NAME_TOO_LONG, f"a name of the path is longer than {name_bytes_max} bytes", path)
    dirent = await rows.find_dirent(txn, keys.dirent_key(directory, encoded))
    if dirent is None:
        raise MetaError(Code.NOT_FOUND, "no such file or directory", path)
    if follow and dirent.type is InodeType.SYMLINK:
        return await resolve_inode(txn, ctx, PathRef(parent, path), follow=follow)
    return await rows.get_inode(txn, dirent.inode)


async def _searchable(txn: ReadTxn, ctx: OpContext, ref: PathRef) -> InodeId | MetaError:
    """The directory at `ref`, below which a name is looked for; or why none can be."""
    try:
        directory = await resolve_directory(txn, ctx, ref)
        require(ctx.user, directory, EXECUTE, ref.path)
    except MetaError as error:
        if error.code is Code.STALE and ref.parent < INODE_IDS_END:
            return MetaError(Code.NOT_FOUND, error.message, error.path)
        return error
    return directory.id
