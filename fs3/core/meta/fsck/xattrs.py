"""Extended attributes of a namespace that is checked: rows and what inodes say of them, modes and ACLs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.limits import check_rows_per_page
from fs3.core.meta import acl, keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import with_nlink
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.readable import Found, check_readable, find_readable_inode
from fs3.core.meta.grants import ACCESS_ACL, DEFAULT_ACL, PERMISSION_BITS, attribute_bytes, get_grant, grants_bytes, with_grant
from fs3.core.txn import ReadTxn, Txn
from fs3.model.check import CheckPage, Problem, ProblemKind, RepairResult
from fs3.model.inode import Inode

_GONE = RepairResult(False, "it is no longer so")
_GROUP_BITS = 0o070


async def check_xattrs(txn: ReadTxn, page: CheckPage, found: Found) -> None:
    """Rows of a page. What an inode says of its rows is checked with the inode, unless it says that there are none."""
    check_readable(page, found, rows.decode_data)
    current = InodeId(0)
    is_there = True
    for key, _ in found:
        inode_id = keys.inode_of_xattr(key)
        if inode_id != current:
            current = inode_id
            is_there = await txn.get(keys.inode_key(inode_id)) is not None
            inode = await find_readable_inode(txn, inode_id)
            if inode is not None and not inode.xattr_bytes and inode.grants is None:
                page.problems += await _find_miscount(txn, inode)
        if not is_there:
            page.problems.append(Problem(ProblemKind.XATTR_OF_NOTHING, inode_id, key=key))


async def find_xattr_problems(txn: ReadTxn, inode: Inode) -> list[Problem]:
    """What is wrong with an inode that has attributes."""
    return [*await _find_miscount(txn, inode), *_find_acl_problems(inode)]


async def _find_miscount(txn: ReadTxn, inode: Inode) -> Sequence[Problem]:
    size = await _count_bytes(txn, inode)
    if size is None or size == inode.xattr_bytes:
        return ()
    kind = ProblemKind.XATTRS_MISCOUNTED
    return (Problem(kind, inode.id, change=inode.change, found=inode.xattr_bytes, expected=size),)


async def _count_bytes(txn: ReadTxn, inode: Inode) -> int | None:
    """Names and values; None where a row cannot be read, which is a problem of its own."""
    size = grants_bytes(inode.grants)
    begin, end = keys.xattrs_range(inode.id)
    while page := await txn.scan(begin, end, check_rows_per_page):
        for key, row in page:
            try:
                size += attribute_bytes(keys.name_of_xattr(key), rows.decode_data(key, row))
            except MetaError:
                return None
        begin = page[-1][0] + b"\0"
    return size


def _find_acl_problems(inode: Inode) -> Sequence[Problem]:
    expected = _mode_of_acls(inode)
    if expected == inode.mode:
        return ()
    kind = ProblemKind.MODE_DIFFERS_FROM_ACL
    return (Problem(kind, inode.id, change=inode.change, found=inode.mode, expected=expected),)


def _mode_of_acls(inode: Inode) -> int:
    """The mode that goes with an inode's access ACL; -1 when one of its ACLs cannot be read."""
    try:
        rules = acl.parse(get_grant(inode, ACCESS_ACL))
        acl.parse(get_grant(inode, DEFAULT_ACL))
    except ValueError:
        return -1
    return inode.mode & ~PERMISSION_BITS | acl.permission_bits(rules) if rules else inode.mode


# --- repairs ---------------------------------------------------------------------------------------------------------


async def repair_miscount(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """The rows are what there is; the inode says so."""
    inode = await _unchanged(txn, problem)
    size = None if inode is None else await _count_bytes(txn, inode)
    if inode is None or size is None or size == inode.xattr_bytes:
        return _GONE
    rows.put_inode(txn, replace(with_nlink(ctx, inode, inode.nlink), xattr_bytes=size))
    return RepairResult(True, f"it says {size} now")


async def repair_row(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """A row without an inode is deleted."""
    is_xattr = problem.key.startswith(keys.XATTR)
    if not is_xattr or await txn.get(problem.key) is None:
        return _GONE
    if await txn.get(keys.inode_key(keys.inode_of_xattr(problem.key))) is not None:
        return _GONE
    txn.delete(problem.key)
    return RepairResult(True, "the row was deleted")


async def repair_mode(txn: Txn, ctx: OpContext, problem: Problem) -> RepairResult:
    """The ACL is what the owner set, so the mode follows it. Without one that can be read no group keeps anything: what each had
    is not known."""
    inode = await _unchanged(txn, problem)
    expected = None if inode is None else _mode_of_acls(inode)
    if inode is None or expected is None or expected == inode.mode:
        return _GONE
    after = with_nlink(ctx, inode, inode.nlink)
    if expected >= 0:
        rows.put_inode(txn, replace(after, mode=expected))
        return RepairResult(True, f"its mode is {expected:o} now")
    for name in (ACCESS_ACL, DEFAULT_ACL):
        after = with_grant(after, name, b"")
    after = replace(after, mode=after.mode & ~_GROUP_BITS)
    rows.put_inode(txn, after)
    return RepairResult(True, f"it has no ACL now, and mode {after.mode:o}")


async def _unchanged(txn: ReadTxn, problem: Problem) -> Inode | None:
    inode = await find_readable_inode(txn, InodeId(problem.inode))
    return inode if inode is not None and inode.change == problem.change else None
