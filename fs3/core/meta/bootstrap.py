"""The first rows of a namespace."""

from __future__ import annotations

from fs3.base.ids import ROOT_INODE
from fs3.core.meta import rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import NO_LAYOUT
from fs3.core.txn import Txn
from fs3.model.inode import Inode, InodeType


async def ensure_root(txn: Txn, ctx: OpContext, *, mode: int = 0o755) -> Inode:
    """The root directory; created, with the counters, for the user of `ctx` when the store has none yet."""
    root = await rows.find_inode(txn, ROOT_INODE)
    if root is not None:
        return root
    now = ctx.wall_ns
    user = ctx.user
    root = Inode(ROOT_INODE, InodeType.DIRECTORY, mode, user.uid, user.gid, 2, 0, now, now, now, now, 1, ROOT_INODE, NO_LAYOUT)
    rows.put_inode(txn, root)
    rows.put_counters(txn, rows.Counters(ROOT_INODE + 1, 1, 0))
    return root
