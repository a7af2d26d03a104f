"""What administrators ask: pages of a check, facts about inodes, repairs.

These show and change the files of all users, so they are for root and for the owner of the root directory.
"""

from __future__ import annotations

from fs3.base.ids import ROOT_INODE
from fs3.base.limits import check_rows_per_page
from fs3.base.status import Code
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.pages import check_page, inspect_inodes
from fs3.core.meta.fsck.readable import find_readable_inode
from fs3.core.meta.fsck.repair import repair
from fs3.core.txn import ReadTxn, Txn
from fs3.model.check import CheckPage, Inspection, RepairResult
from fs3.model.requests import CheckRows, InspectInodes, Repair


async def check_rows(txn: ReadTxn, ctx: OpContext, request: CheckRows) -> CheckPage:
    """One page of a table. Raises INVALID when `begin` is not a key of the table."""
    await _require_administrator(txn, ctx)
    return await check_page(txn.tolerant(), request.table, request.begin, check_rows_per_page)


async def inspect(txn: ReadTxn, ctx: OpContext, request: InspectInodes) -> Inspection:
    """Facts about inodes; ids of which there is none are left out."""
    await _require_administrator(txn, ctx)
    return await inspect_inodes(txn.tolerant(), request.inodes, contents=request.contents)


async def repair_problem(txn: Txn, ctx: OpContext, request: Repair) -> RepairResult:
    """What came of a repair. Raises INVALID for a kind of problem that is none of the namespace's."""
    await _require_administrator(txn, ctx)
    return await repair(txn.tolerant(), ctx, request.problem)


async def _require_administrator(txn: ReadTxn, ctx: OpContext) -> None:
    """Raises PERMISSION. Where there is no root directory, only root is left."""
    if ctx.user.uid == 0:
        return
    root = await find_readable_inode(txn.tolerant(), ROOT_INODE)
    if root is None or root.uid != ctx.user.uid:
        raise MetaError(Code.PERMISSION, "only root and the owner of the root directory may administer the namespace")
