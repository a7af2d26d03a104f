"""The bytes of files, apart from their inodes: a file that is published over another one gives the inode that is there new bytes.

A content has an id, drawn like an inode's and never used again: its chunks, the sessions that write it and its appends are named
by that. A new inode has the content of its own id. To replace what a file has, the contents of two inodes change places in one
transaction: the file's name, links, owner and mode stay where they are, and the other inode, which has no name, is left with the
old content and waits with it for its writers to end and to be reclaimed. So each content is some inode's at every moment, with
the layout, the length and the counts that order what is done to it. See docs/protocols/replace.md.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.core.meta import keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.garbage import queue_unless_open
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode

CONTENT_FIELDS: Final = (
    "length", "mtime_ns", "layout", "truncations", "trim", "append", "appends", "inline", "moving", "mtime_set_ns", "has_holes",
)  # fmt: skip
"""What is said of a file's bytes in its inode, beside their id, and goes where they go. All else is the inode's own."""


async def find_by_content(txn: ReadTxn, content: InodeId) -> Inode | None:
    """The inode that has a content; None when it was reclaimed, or never was."""
    found = await rows.find_inode(txn, content)
    if found is not None and found.content_id == content:
        return found
    owner = await rows.find_content_owner(txn, content)
    if owner is None:
        return None
    return _checked(await rows.get_inode(txn, owner), content)


async def get_by_content(txn: ReadTxn, content: InodeId) -> Inode:
    """The inode that has the content of a session: there is one as long as the session is."""
    found = await find_by_content(txn, content)
    if found is None:
        rows.raise_malformed(keys.content_key(content), "no inode has the content, but a session is open on it")
    return found


async def replace_content(txn: Txn, ctx: OpContext, file: Inode, fresh: Inode) -> Inode:
    """`file` after it got the content of `fresh`, an inode without a name. That one has the old content from now on, and is
    reclaimed when the last session on it has ended."""
    change = max(file.change, fresh.change) + 1
    after = _with_content(ctx, file, fresh, change)
    left = _with_content(ctx, fresh, file, change)
    for inode in (after, left):
        rows.put_inode(txn, inode)
        rows.put_content_owner(txn, inode)
        if inode.trim is not None:
            txn.put(keys.trim_key(inode.id), rows.encode(inode.trim))
        else:
            txn.delete(keys.trim_key(inode.id))
    await queue_unless_open(txn, ctx, left)
    return after


def _with_content(ctx: OpContext, inode: Inode, source: Inode, change: int) -> Inode:
    fields = {name: getattr(source, name) for name in CONTENT_FIELDS}
    return replace(inode, ctime_ns=ctx.wall_ns, change=change, content=source.content_id, **fields)


def _checked(inode: Inode, content: InodeId) -> Inode:
    if inode.content_id != content:
        rows.raise_malformed(keys.content_key(content), f"it names inode {inode.id}, which has content {inode.content_id}")
    return inode
