"""What becomes of an inode whose row is damaged: by what its entry, and its entries, still say of it."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import check_rows_per_page
from fs3.core.meta import keys, rows
from fs3.core.meta.allocation import adjust_counts
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import empty_root
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.lost_found import remove_entry
from fs3.core.txn import Txn
from fs3.model.check import Problem, RepairResult
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

ROOT_MODE = 0o755
"""Of a root directory that is made again."""
_RESTORED_MODE = 0o700
"""Of a directory whose own mode is lost: nobody but its owner gets in until somebody has looked."""
_RESTORED_CHANGE = 1 << 40
"""Above every `change` that it may have had, so that no one takes what is new for what he knew."""
_DIRECTORY = InodeType.DIRECTORY


async def repair_inode(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """A directory is made again around its entries, which are all there; the row of a symlink or special file was all there was
    of it. Of a file, only its row said where the bytes are: it stays, since a copy of the store may have it, and since without it
    the bytes are garbage.
    """
    number = _inode_of(problem.key)
    if number == ROOT_INODE:
        return await _make_directory_again(txn, ctx, empty_root(ctx, ROOT_MODE))
    dirent = await rows.find_dirent(txn, keys.dirent_key(InodeId(problem.parent), problem.name)) if problem.name else None
    if dirent is None or dirent.inode != number:
        return RepairResult(False, "what it was is said by an entry that names it, or by a copy of the store")
    if dirent.type is _DIRECTORY:
        now = ctx.wall_ns
        user = ctx.user
        parent = InodeId(problem.parent)
        again = Inode(
            number, _DIRECTORY, _RESTORED_MODE, user.uid, user.gid, 2, 0, now, now, now, now, _RESTORED_CHANGE, parent, NO_LAYOUT
        )
        return await _make_directory_again(txn, ctx, again)
    if dirent.type is not InodeType.FILE:
        txn.delete(problem.key)
        await adjust_counts(txn, ctx.tally, inodes=-1)
        await remove_entry(txn, ctx, InodeId(problem.parent), problem.name, dirent.type)
        if dirent.type is InodeType.SYMLINK:
            return RepairResult(True, "the symbolic link was removed: where it led is not known")
        return RepairResult(True, f"the {dirent.type.name.lower().replace('_', ' ')} was removed: what it was is not known")
    return RepairResult(False, "it says where the file's bytes are: restore the store from a copy, or live without the file")


async def _make_directory_again(txn: Txn, ctx: OpContext, empty: Inode) -> RepairResult:
    """Put a directory in the place of its damaged row, with the entries that it has."""
    entries = subdirectories = 0
    begin, end = keys.dirents_range(empty.id)
    while page := await txn.scan(begin, end, check_rows_per_page):
        for key, row in page:
            entries += 1
            try:
                subdirectories += rows.decode_dirent(key, row).type is _DIRECTORY
            except MetaError:
                continue  # a problem of its own
        begin = page[-1][0] + b"\0"
    rows.put_inode(txn, replace(empty, length=entries, nlink=2 + subdirectories, change=_RESTORED_CHANGE))
    what = f"the directory was made again around its {entries} entries, with mode {empty.mode:o} and user {ctx.user.uid}"
    return RepairResult(True, what)


def _inode_of(key: bytes) -> InodeId:
    return InodeId(int.from_bytes(key[keys.PREFIX_BYTES :], "big"))
