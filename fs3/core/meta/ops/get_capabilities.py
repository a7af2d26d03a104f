"""GetCapabilities: what a user may do with contents that are named by their ids, as opening their files would say."""

from __future__ import annotations

from fs3.base.ids import INODE_IDS_END, InodeId
from fs3.base.status import Code
from fs3.core.meta import sessions
from fs3.core.meta.access import READ as MODE_READ
from fs3.core.meta.access import WRITE as MODE_WRITE
from fs3.core.meta.access import has_permission
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.context import OpContext
from fs3.core.security.capability import READ, WRITE
from fs3.core.txn import ReadTxn
from fs3.model.capabilities import GetCapabilities
from fs3.model.inode import Inode, User


def rights_of_opened(user: User, inode: Inode, *, write: bool) -> int:
    """What a user may do with the bytes of a file that was opened. A writer reads too, where it could open the file for that."""
    if not write:
        return READ
    return READ | WRITE if user.uid == inode.uid or has_permission(user, inode, MODE_READ) else WRITE


async def find_rights(txn: ReadTxn, ctx: OpContext, request: GetCapabilities) -> list[int | Code]:
    """Per content the rights that are granted, those that are wanted at least, or why not. A client that has a write session open
    on a content may write to it, whatever the mode of the file is by now; an owner may read it."""
    return [await _find_right(txn, ctx, wanted.content, wanted.rights) for wanted in request.wanted]


async def _find_right(txn: ReadTxn, ctx: OpContext, content: InodeId, wanted: int) -> int | Code:
    if not 0 < content < INODE_IDS_END:
        return Code.NOT_FOUND
    inode = await find_by_content(txn, content)
    if inode is None:
        return Code.NOT_FOUND
    user = ctx.user
    may_read = user.uid == inode.uid or has_permission(user, inode, MODE_READ)
    if wanted & READ and not may_read:
        return Code.ACCESS
    if wanted & WRITE and not has_permission(user, inode, MODE_WRITE) and not await sessions.is_open_by_client(txn, ctx, content):
        return Code.ACCESS
    return rights_of_opened(user, inode, write=bool(wanted & WRITE))
